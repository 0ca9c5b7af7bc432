"""The command line, in processes of its own, with a tiny framework that is registered like a third party's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import loopscope

SCRIPTS = Path(__file__).parent / "scripts"
SOURCE = Path(loopscope.__file__).parents[1]
PATH = os.pathsep.join([str(SOURCE), str(SCRIPTS / "site")])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATH, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}
RAN = "really training"

Ending = tuple[int, str, str]


def python(*arguments: str, cwd: Path = SCRIPTS) -> Ending:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=ENVIRONMENT
    )
    return done.returncode, done.stdout, done.stderr


def command(*arguments: str, cwd: Path = SCRIPTS) -> Ending:
    return python("-m", "loopscope", *arguments, cwd=cwd)


def show(*arguments: str, cwd: Path = SCRIPTS) -> Ending:
    return command("show", "--format", "text", *arguments, cwd=cwd)


def test_the_first_fit_is_shown_and_not_run() -> None:
    """The loop of that very call comes at the moment of the call; `finally` and exit handlers run, no batch does."""
    status, out, err = show("toy_train.py", "--lr", "3", "-v")
    lines = out.splitlines()
    assert lines[0] == "before ['--lr', '3', '-v']"
    assert lines[1].startswith("fit(epochs=3, lr=0.2)")
    assert lines[-2:] == ["finally", "exit handler"]
    assert any("Mine" in line for line in lines)
    assert RAN not in out
    assert err == f"{SCRIPTS / 'toy_train.py'}:17: stopped here, before fit ran.\n"
    assert status == 0


def test_a_module() -> None:
    """`-m` runs a module, with all that follows it, from the current folder."""
    status, out, err = show("-m", "toy_train", "-m", "x")
    assert (status, out.splitlines()[0]) == (0, "before ['-m', 'x']")
    assert "toy_train.py:17: stopped here" in err


def test_a_script_that_swallows_the_stop() -> None:
    """A script that catches the stop is ended for good at its next call, flushed; its own end is an end, too."""
    status, out, err = show("toy_swallow.py")
    assert out.startswith("fit(epochs=1)")
    assert out.endswith("caught StopAtFit 0\nand on")
    assert err.endswith("the program caught the stop at its first fit and came to fit_twice: ended here.\n")
    assert status == 0
    status, out, err = show("toy_swallow.py", "once")
    assert out.endswith("caught StopAtFit 0\nthe end\n")
    assert (status, "ended here" in err) == (0, False)


@pytest.mark.parametrize("when", ["at once", "late"])
def test_a_fit_in_another_thread(when: str) -> None:
    """A call in another thread is shown and ends the process; also one that comes after the main thread's end."""
    status, out, err = show("toy_thread.py", when)
    assert out.startswith("fit(epochs=2)")
    assert "never reached" not in out
    assert RAN not in out
    assert status == 0
    if when == "late":
        assert "Still running: trainer; a call made there is shown." in err


def test_idle_threads_do_not_keep_it(tmp_path: Path) -> None:
    """A pool of threads that python itself ends at exit does not make loopscope wait."""
    (tmp_path / "pool.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\nprint(ThreadPoolExecutor(1).submit(abs, -5).result())\n"
    )
    status, out, err = show("pool.py", cwd=tmp_path)
    assert (status, out) == (2, "5\n")
    assert "pool.py ended without a fit-like call." in err


def test_output_sent_elsewhere() -> None:
    """The map comes where stdout led at the start, whatever the script did to `sys.stdout` and its descriptor."""
    status, out, err = show("toy_redirect.py")
    assert out.startswith("before\nfit(epochs=4)")
    assert err.endswith("stopped here, before fit ran.\n")
    assert status == 0


def test_an_own_method() -> None:
    """A subclass's own fit is shown with its own arguments; a patched one too, which has begun then, as a note says."""
    status, out, err = show("toy_override.py")
    assert out.startswith("fit(rounds=2)")
    assert (status, RAN in out) == (0, False)
    status, out, err = show("toy_override.py", "patched")
    assert out.startswith("preparing\nfit(epochs=5)")
    assert "toy_override.py:13) had begun when it came to fit: its arguments are shown as they stood then" in out
    assert "toy_override.py:21: stopped here, before fit ran." in err
    assert (status, RAN in out) == (0, False)


def test_child_processes_are_left_alone() -> None:
    """A fit in a child process, forked or spawned, runs as ever, and the error at the end says that it is not seen."""
    status, out, err = show("toy_children.py")
    assert out.count(RAN) == 4
    assert [line for line in out.splitlines() if RAN not in line] == [
        "fork ['trained', 'trained']",
        "spawn ['trained', 'trained']",
    ]
    assert "Calls in processes that the script starts are not seen." in err
    assert status == 2


@pytest.mark.parametrize("script", ["raises.py", "own_hook.py", "broken.py", "toy_bad_call.py"])
def test_a_script_that_fails_before_its_fit(script: str, tmp_path: Path) -> None:
    """Its exception looks byte for byte as under python, and the status is python's."""
    (tmp_path / "broken.py").write_text("x = (1,\ny = 2\n")
    here = tmp_path if script == "broken.py" else SCRIPTS
    expected = python(script, cwd=here)
    assert expected[0] == 1
    assert command("show", script, cwd=here) == expected


def test_a_script_that_uses_loopscope_and_fails(tmp_path: Path) -> None:
    """An error of loopscope that the script itself brought about is the script's own: a traceback, and status 1."""
    (tmp_path / "asks.py").write_text("import loopscope\nloopscope.show(5)\n")
    expected = python("asks.py", cwd=tmp_path)
    assert "UnknownObject" in expected[2]
    assert command("show", "asks.py", cwd=tmp_path) == expected


@pytest.mark.skipif(os.name != "posix", reason="signals as exit status are POSIX")
def test_ctrl_c() -> None:
    """Ctrl-C while the script prepares looks as under python, and ends as there."""
    ends = []
    for front in [], ["-m", "loopscope", "show"]:
        process = subprocess.Popen(
            [sys.executable, *front, "sleeps.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=SCRIPTS,
            env=ENVIRONMENT,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"asleep\n"
            time.sleep(0.5)  # it has said so, and may not sleep yet
            process.send_signal(signal.SIGINT)
            ends.append((process.communicate(timeout=30)[1], process.returncode))
    assert ends[1] == ends[0]
    assert ends[0][1] == -signal.SIGINT


def test_a_script_without_a_fit() -> None:
    """The error names the script, what was waited for and what to type; the status is 2."""
    status, out, err = show("toy_no_fit.py")
    assert (status, out) == (2, "prepared\n")
    assert err == (
        "Error: toy_no_fit.py ended without a fit-like call. Waited for toyloop's Trainer.fit, Trainer.fit_twice.\n"
        "If the training needs arguments, give them after the script: loopscope show toy_no_fit.py ARGS. "
        "Calls in processes that the script starts are not seen.\n"
    )
    status, _, err = show("-m", "leaves", "0")
    assert status == 2
    assert "Error: -m leaves ended without a fit-like call. It imported no framework that loopscope knows (" in err


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("0", 2, "ended"),
        ("None", 2, "ended"),
        ("3", 3, "left with exit status 3"),
        ("'my text'", 1, "left with exit status 1"),
    ],
)
def test_a_script_that_leaves_before_its_fit(code: str, status: int, said: str) -> None:
    """It keeps its own exit status unless that is 0, and its own words on stderr, which come first."""
    found, _, err = show("toy_no_fit.py", code)
    assert found == status
    assert err.startswith("my text\n" if "text" in code else "Error: ")
    assert f"Error: toy_no_fit.py {said} without a fit-like call." in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["xyzzy.py"], f"Error: there is no script xyzzy.py (looked for {SCRIPTS}/xyzzy.py).\n"),
        (["toy_trian.py"], "Error: there is no script toy_trian.py. Did you mean toy_train.py?\n"),
        (
            ["folder"],
            f"Error: folder cannot be run: can't find '__main__' module in '{SCRIPTS}/folder'. Give a script, ",
        ),
        (["-m", "nope"], "Error: -m nope cannot be run: No module named nope. Give a script, or -m and a module.\n"),
        (["-o", "/nowhere/x.txt", "toy_train.py"], "Error: there is no folder /nowhere. Make it first: mkdir -p"),
        (["-o", "folder", "toy_train.py"], "Error: folder is a folder. Give -o a file, for example -o folder/loop.md."),
        (["-o", "tells.py", "toy_train.py"], "Error: tells.py exists already. Add --force to overwrite it, or give -o"),
        (
            ["--cbs", "Mine", "toy_train.py"],
            "Error: 'Mine' names no callback. Accepted: module:Name or path/to/file.py",
        ),
        (["--cbs", "nope.py:Mine", "toy_train.py"], "Error: there is no file nope.py (from --cbs nope.py:Mine).\n"),
        (["--format", "jsn", "toy_train.py"], "Error: Invalid value for '-f' / '--format': 'jsn' is not one of 'tree'"),
        (["toy_train.py", "--cbs"], "Error: Option '--cbs' requires an argument.\n"),
        ([], "Error: Missing argument 'SCRIPT.py [ARGS]...'.\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_before_the_script_runs(arguments: list[str], message: str) -> None:
    """Each error names what was given and what is accepted, on stderr, with status 2; the script has not run."""
    status, out, err = command("show", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_a_file(tmp_path: Path) -> None:
    """`-o FILE` writes there without what the script prints; its suffix is the format; it overwrites by force."""
    script = str(SCRIPTS / "toy_train.py")
    assert command("show", "-o", "loop.json", script, cwd=tmp_path)[:2] == (
        0,
        "before []\nfinally\nexit handler\n",
    )
    assert json.loads((tmp_path / "loop.json").read_text())
    status, out, err = command("show", "-o", "loop.json", script, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err == "Error: loop.json exists already. Add --force to overwrite it, or give -o another file.\n"
    assert command("show", "-f", "text", "--force", "-o", "loop.json", script, cwd=tmp_path)[0] == 0
    assert (tmp_path / "loop.json").read_text().startswith("fit(epochs=3, lr=0.2)")
    status, _, err = command("show", "-o", "loop.xyz", script, cwd=tmp_path)
    assert status == 2
    assert err.startswith("Error: the name loop.xyz does not tell the format. Known: .txt (text), ")


def test_a_file_in_a_folder_that_the_script_leaves(tmp_path: Path) -> None:
    """The file is where the command was given, though the script went elsewhere."""
    assert command("show", "-o", "loop.txt", str(SCRIPTS / "toy_redirect.py"), cwd=tmp_path)[0] == 0
    assert (tmp_path / "loop.txt").read_text().startswith("fit(epochs=4)")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """What keeps the file from being written is said, with status 2."""
    (tmp_path / "out").mkdir()
    (tmp_path / "train.py").write_text(
        "import os\nfrom toyloop.engine import Trainer\nos.rmdir('out')\nTrainer().fit(1)\n"
    )
    status, out, err = command("show", "-o", "out/loop.txt", "train.py", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.endswith("loop.txt cannot be written (No such file or directory). Give -o another file.\n")


def test_a_file_that_appears_meanwhile(tmp_path: Path) -> None:
    """A file that the script itself wrote is not overwritten either."""
    (tmp_path / "train.py").write_text(
        "from toyloop.engine import Trainer\nopen('loop.txt', 'w').write('mine')\nTrainer().fit(1)\n"
    )
    status, _, err = command("show", "-o", "loop.txt", "train.py", cwd=tmp_path)
    assert (status, (tmp_path / "loop.txt").read_text()) == (2, "mine")
    assert "loop.txt exists already." in err


@pytest.mark.parametrize(
    "spec",
    ["toy_hooks:Mine", "toy_hooks.py:Mine", "toy_hooks:mine", "__main__:Mine", "toy_train:Mine", "toy_train.py:Mine"],
)
def test_where_would_mine_land(spec: str) -> None:
    """`--cbs` adds a class or an instance, from a module, a file or the script itself, and marks it."""
    status, out, err = show("toy_train.py", "--cbs", spec, "--lr", "3")
    assert "before ['--lr', '3']" in out
    assert "* " in out
    assert err.startswith("--cbs was read as loopscope's; put -- before the script's own arguments.\n")
    assert (status, RAN in out) == (0, False)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("toy_hooks:Mien", "Error: --cbs toy_hooks:Mien: toy_hooks has no 'Mien'. Did you mean toy_hooks:Mine?\n"),
        ("toyhooks:Mine", "Error: --cbs toyhooks:Mine: there is no module 'toyhooks' where the script imports from"),
        ("sys:path", "is no Hook. Accepted: a Hook or a class of it.\n"),
        (
            "toy_override:Own",
            "Error: --cbs toy_override:Own: {scripts}/toy_override.py:22 trains while it is imported. Put",
        ),
    ],
)
def test_a_callback_that_cannot_be_had(spec: str, message: str) -> None:
    """What goes wrong with a callback is said at the call, which does not run either; the script ends in order."""
    status, out, err = show("--cbs", spec, "toy_train.py")
    assert message.format(scripts=SCRIPTS) in err
    assert out.endswith("finally\nexit handler\n")
    assert (status, RAN in out) == (2, False)


def test_an_error_is_not_made_good_by_the_script(tmp_path: Path) -> None:
    """Where the call could not be shown the status is 2, though the script then leaves with 0; its own error counts."""
    for code, status in ("0", 2), ("5", 5):
        (tmp_path / "train.py").write_text(
            f"from toyloop.engine import Trainer\ntry:\n    Trainer().fit(1)\nfinally:\n    raise SystemExit({code})\n"
        )
        assert show("--cbs", "sys:nothing", "train.py", cwd=tmp_path)[0] == status
        assert show("train.py", cwd=tmp_path)[0] == int(code)


def test_options_behind_the_script() -> None:
    """loopscope's long options are understood there, up to a `--`, and say so; short ones are the script's."""
    status, out, err = command(
        "show", "toy_train.py", "--format=text", "-f", "x", "--verbose", "--verbosity", "--force=1"
    )
    assert out.startswith("before ['-f', 'x', '--verbosity', '--force=1']\nfit(epochs=3, lr=0.2)")
    assert err.splitlines()[:2] == [
        "--format was read as loopscope's; put -- before the script's own arguments.",
        "--verbose was read as loopscope's; put -- before the script's own arguments.",
    ]
    for arguments in ["toy_train.py", "--", "--verbose", "--"], ["--", "toy_train.py", "--verbose", "--"]:
        status, out, err = show(*arguments)
        assert out.startswith("before ['--verbose', '--']\n")
        assert (status, "was read as" in err) == (0, False)


def test_a_fault_of_our_own() -> None:
    """An error inside loopscope is shown as that, with status 2, and the script cannot take it for one of its own."""
    status, out, err = show("toy_fault.py")
    assert (status, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(
        "Error: this is a fault of loopscope and not of the script. Please report it with the lines above.\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="SIGPIPE is POSIX")
def test_nowhere_to_print() -> None:
    """Where there is no stdout at all, nothing is printed and nothing fails."""
    line = f"{sys.executable} -m loopscope show toy_override.py >&-"
    done = subprocess.run(line, shell=True, stderr=subprocess.PIPE, check=False, cwd=SCRIPTS, env=ENVIRONMENT)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)


@pytest.mark.skipif(os.name != "posix", reason="SIGPIPE is POSIX")
def test_nobody_reads() -> None:
    """Where the reader of a pipe has left, loopscope leaves without a word, with the status of SIGPIPE."""
    read, write = os.pipe()
    os.close(read)
    for arguments in [], ["-f", "text"]:
        done = subprocess.run(
            [sys.executable, "-m", "loopscope", "show", *arguments, "toy_override.py"],
            stdout=write,
            stderr=subprocess.PIPE,
            check=False,
            cwd=SCRIPTS,
            env=ENVIRONMENT,
        )
        assert (done.returncode, done.stderr) == (141, b"")
    os.close(write)


def test_the_command_itself() -> None:
    """`--version`, `--help` and a misspelt command answer as a command should; `show --help` says what does happen."""
    assert command("--version") == (0, f"loopscope {loopscope.__version__}\n", "")
    status, out, _ = command("show", "--help")
    assert status == 0
    for said in "`finally`", "exit handlers", "files, downloads, network", "ended on the spot", "Exit status: 0 shown":
        assert said in " ".join(out.split())
    status, _, err = command("shwo")
    assert status == 2
    assert "No such command 'shwo'" in err


def test_colour_only_on_a_terminal() -> None:
    """What goes into a pipe has no escape sequences."""
    assert "\x1b" not in command("show", "toy_train.py")[1]


def test_the_demo_without_fastai() -> None:
    """Where fastai is missing, the demo says what to type."""
    code = "import sys; sys.modules['fastai'] = None; from loopscope.cli import main; sys.argv[1:] = ['demo']; main()"
    assert python("-c", code) == (
        2,
        "",
        'Error: the demo needs fastai, which is not installed. Type: pip install "loopscope[fastai]"\n',
    )
