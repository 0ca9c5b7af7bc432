"""`loopscope run`: the script runs as under python, whatever it does, and is recorded.

Most of these run real fastai trainings in processes that are forked from one that has imported fastai, which takes
three seconds; what depends on how a process begins is tried in fresh ones.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

import loopscope
from loopscope.report import Report
from tests.frameworks import need
from tests.test_cli import ENVIRONMENT, SCRIPTS, command, python

pytestmark = need("fastai")

TRAIN = str(SCRIPTS / "run_train.py")
LEFT = re.compile(r"^loopscope: (\w+) left (.*) at (.*) \((.*)\); the calls before it: loopscope report (.*)$", re.M)


@dataclass
class Run:
    """A process that was started as `loopscope ARGS` in `folder`; `stdout` and `stderr` are what it has written."""

    zygote: subprocess.Popen[str]
    pid: int
    folder: Path

    def wait(self) -> tuple[int, str, str]:
        return int(asked(self.zygote, wait=self.pid)), self.stdout, self.stderr

    def until(self, there: str) -> None:
        """Wait until it has written that."""
        end = time.monotonic() + 30
        while there not in self.stdout:
            assert time.monotonic() < end, self.stderr
            time.sleep(0.01)

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()


def asked(zygote: subprocess.Popen[str], **order: object) -> str:
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(json.dumps(order) + "\n")
    zygote.stdin.flush()
    return zygote.stdout.readline()


@dataclass
class Started:
    """`start("run", "train.py")` starts a process in `folder`; `start.run(...)` waits for it."""

    zygote: subprocess.Popen[str]
    folder: Path

    def __call__(self, *args: str, **more: str) -> Run:
        for name in "stdout", "stderr":
            (self.folder / name).write_text("")
        files = {"out": str(self.folder / "stdout"), "err": str(self.folder / "stderr")} | more
        env = ENVIRONMENT if "rank" not in more else {**ENVIRONMENT, "RANK": more["rank"]}
        pid = asked(self.zygote, args=args, cwd=str(self.folder), env=env, **files)
        return Run(self.zygote, int(pid), self.folder)

    def run(self, *args: str, **more: str) -> tuple[int, str, str]:
        return self("run", *args, **more).wait()

    def train(self, *orders: str) -> tuple[int, str, str]:
        """Record run_train.py in run.loop."""
        return self.run("--force", "-o", "run.loop", TRAIN, *orders)

    def report(self) -> Report:
        return loopscope.load(self.folder / "run.loop").report()


def zygotes() -> Generator[subprocess.Popen[str], None, None]:
    with subprocess.Popen(
        [sys.executable, SCRIPTS / "run_zygote.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        yield process
        process.kill()


zygote = pytest.fixture(scope="module")(zygotes)


@pytest.fixture
def start(zygote: subprocess.Popen[str], tmp_path: Path) -> Started:
    return Started(zygote, tmp_path)


# -- as under python ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_script_that_fails_runs_as_under_python(tmp_path: Path) -> None:
    """stdout, the traceback and the status are python's, byte for byte; one line behind them says where it was."""
    orders = "fit", "raise", "fit"
    running = [
        subprocess.Popen(
            [sys.executable, *front, TRAIN, *orders],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=ENVIRONMENT,
        )
        for front in ([], ["-m", "loopscope", "run", "-q", "-o", "run.loop"])
    ]
    expected, found = [(*one.communicate(timeout=60), one.returncode) for one in running]
    line = (
        "loopscope: ValueError left learn.fit(2) at Trouble.after_batch (event after_batch, epoch 1, batch 3); "
        "the calls before it: loopscope report run.loop\n"
    )
    assert "Exception occured in `Trouble` when calling event `after_batch`:\n\tno [more] of this" in expected[1]
    assert found == (expected[0], expected[1] + line, 1)
    report = loopscope.load(tmp_path / "run.loop").report()
    assert [one.how for one in report.endings] == ["finished", "raised"]
    assert report.header["command"][1:4] == ["-m", "loopscope", "run"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("orders", "status", "end"),
    [
        (("fit",), 0, "the end\n"),
        (("fit", "exit 3"), 3, ""),
        (("fit", "exit text"), 1, ""),
        (("leave",), 7, ""),
        (("raise",), 1, ""),
        (("interrupt",), -signal.SIGINT, ""),
        (("fit", "_exit 4"), 4, ""),
        (("fit", "kill"), -signal.SIGKILL, None),
        (("thread",), 0, "the end\n"),
        (("pool",), 0, "the end\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_how_a_script_ends(orders: tuple[str, ...], status: int, end: str | None, start: Started) -> None:
    """The exit status is the script's own, and so is its output; whatever the end, the recording is placed whole."""
    found, out, err = start.train(*orders)
    assert found == status
    if end is not None:
        assert out.startswith(f"begun {list(orders)}\n")
    if end:
        assert end in out
    report = start.report()
    assert (report.unexpected_count, report.losses) == (0, ())
    assert all(track.sum == report.wall for track in report.tracks)
    ended = {"leave": "raised", "raise": "raised", "interrupt": "interrupted"}.get(orders[0], "finished")
    assert [one.how for one in report.endings] == [ended]
    assert report.state == ("killed" if orders[-1] in ("_exit 4", "kill") else "closed")
    last = err.splitlines()[-1:]
    if "exit text" in orders:
        assert err.endswith("; the whole of it: loopscope report run.loop\na last word\n")
    elif ended == "finished":
        again = "loopscope: recorded in run.loop; the whole of it: loopscope report run.loop"
        assert last == ([] if report.state == "killed" else [again])
    else:
        assert LEFT.findall(err)[0][1:] == (
            "learn.fit(2)", "Trouble.after_batch", "event after_batch, epoch 1, batch 3", "run.loop"
        )  # fmt: skip
        assert LEFT.search(last[0])


def test_ctrl_c(start: Started) -> None:
    """Ctrl-C in the middle of training: python's traceback and status, behind a report that says where it struck."""
    running = start("run", "-o", "run.loop", TRAIN, "hang")
    running.until("hangs")
    os.kill(running.pid, signal.SIGINT)
    status, _, err = running.wait()
    assert status == -signal.SIGINT
    assert "learn.fit(2) interrupted by KeyboardInterrupt in Trouble.after_batch, epoch 1, batch 3, after" in err
    traceback = err[err.index("Traceback (most recent call last):") :]
    assert traceback.splitlines()[-2] == "KeyboardInterrupt"
    assert "loopscope/" not in traceback
    assert LEFT.search(traceback.splitlines()[-1])
    assert start.report().endings[0].cancels == {}


@pytest.mark.parametrize(
    "arguments",
    [("tells.py", "--lr", "3", "-o", "-q"), ("./tells.py",), (str(SCRIPTS / "tells.py"), "x"), ("-m", "tells", "-m")],
    ids=" ".join,
)
def test_a_script_sees_what_python_shows(arguments: tuple[str, ...]) -> None:
    """`__main__`, `__file__`, `sys.argv`, `sys.path` and stdin are those of plain python, `-m` included."""
    expected = python(*arguments)
    assert expected[0] == 0
    status, out, err = command("run", *arguments)
    assert (status, out) == expected[:2]
    assert err == expected[2] + (
        "loopscope: nothing was recorded: the program made no fit-like call. It imported no framework that loopscope "
        "knows (fastai, ignite, keras, lightning, pytorch_lightning, toyloop, transformers).\n"
    )


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [("3", 3, ""), ("'a last word'", 1, "a last word\n"), ("None", 0, ""), ("__import__('os')._exit(4)", 4, None)],
)
def test_a_script_that_leaves_without_training(code: str, status: int, words: str | None, tmp_path: Path) -> None:
    """Its status and words are its own; that nothing was recorded is said, and no file is left behind."""
    found, out, err = command("run", str(SCRIPTS / "leaves.py"), code, cwd=tmp_path)
    assert found == status
    if words is None:  # nobody can say or do anything behind that
        assert (out, err) == python(str(SCRIPTS / "leaves.py"), code, cwd=tmp_path)[1:]
        return
    assert out == "leaving\n"
    assert err.startswith("loopscope: nothing was recorded: the program made no fit-like call.")
    assert err.endswith(words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["raises.py", "own_hook.py"])
def test_a_script_that_fails_before_it_trains(script: str, tmp_path: Path) -> None:
    """Its traceback and its own excepthook look as under python; frameworks it did not import are not imported."""
    expected = python(str(SCRIPTS / script), cwd=tmp_path)
    status, out, err = command("run", str(SCRIPTS / script), cwd=tmp_path)
    said, _, rest = err.partition("\n")
    assert said.startswith("loopscope: nothing was recorded: the program made no fit-like call. It imported no frame")
    assert (status, out, rest) == expected
    assert list(tmp_path.iterdir()) == []


def test_it_stays_light(tmp_path: Path) -> None:
    """Neither a framework nor numpy is imported unless the script does that."""
    (tmp_path / "light.py").write_text(
        "import sys\nprint({'fastai', 'torch', 'numpy', 'toyloop'} & set(sys.modules))\n"
    )
    assert command("run", "light.py", cwd=tmp_path)[:2] == (0, "set()\n")


def test_options_behind_the_script(tmp_path: Path) -> None:
    """The long options are understood there, with a word about it; behind a `--` they are the script's."""
    (tmp_path / "args.py").write_text("import sys\nprint(sys.argv[1:])\n")
    status, out, err = command("run", "args.py", "--quiet", "-q", "--max-size=1M", "-o", cwd=tmp_path)
    assert (status, out) == (0, "['-q', '-o']\n")
    assert err.startswith("--quiet was read as loopscope's; put -- before the script's own arguments.\n--max-size was")
    assert command("run", "args.py", "--", "--quiet", cwd=tmp_path)[1] == "['--quiet']\n"
    assert command("run", "--", "args.py", "--quiet", cwd=tmp_path)[1] == "['--quiet']\n"


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "nope/run.loop"], "Error: there is no folder {here}/nope. Make it first: mkdir -p {here}/nope\n"),
        (["-o", "folder"], "Error: 'folder' is a folder. Give a file, for example folder/run.loop.\n"),
        (["-o", "link"], "Error: 'link' is a folder. Give a file, for example link/run.loop.\n"),
        (["-o", "old.loop"], "Error: old.loop exists already. Add --force (force=True) to overwrite it, or give "),
        (["-o", "/dev/null", "--force"], "Error: /dev/null is not a regular file. Give the name of a new file, for "),
        (["-o", ""], "Error: '.' is a folder. Give a file, for example ./run.loop.\n"),
        (["--max-size", "lots"], "'lots' is not a size. Type a number of bytes, or 500M, or 4G.\n"),
        (["--max-size", "-5"], "'-5' is not a size. Type a number of bytes, or 500M, or 4G.\n"),
        (["--max-size", "1k"], "'1k' is too small to record anything. Give at least 400K.\n"),
        (["--max-size"], "'ran.py' is not a size. Type a number of bytes, or 500M, or 4G.\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_before_the_script_runs(options: list[str], message: str, tmp_path: Path) -> None:
    """Each error names what was given, what is accepted and what to type next; the script has not run; status 2."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "old.loop").write_text("mine")
    (tmp_path / "ran.py").write_text("print('it ran')\n")
    status, out, err = command("run", *options, "ran.py", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert message.format(here=tmp_path) in err
    assert "Traceback" not in err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "link", "old.loop", "ran.py"]
    assert (tmp_path / "old.loop").read_text() == "mine"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (["rann.py"], "Error: there is no script rann.py. Did you mean ran.py?\n"),
        (["-m", "nope"], "Error: -m nope cannot be run: No module named nope. Give a script, or -m and a module.\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_script_that_is_not_there(target: list[str], message: str, tmp_path: Path) -> None:
    """The error alone is said, and no file is left behind."""
    (tmp_path / "ran.py").write_text("print('it ran')\n")
    assert command("run", *target, cwd=tmp_path) == (2, "", message)
    assert [one.name for one in tmp_path.iterdir()] == ["ran.py"]


def test_the_default_name(start: Started) -> None:
    """Without -o the file is SCRIPT.PID.loop in the folder where the command was given, wherever the script goes."""
    running = start("run", TRAIN, "elsewhere")
    status, _, err = running.wait()
    name = f"run_train.py.{running.pid}.loop"
    assert status == 0
    assert (start.folder / name).exists()
    assert err.splitlines()[1].startswith(f"{name}: closed, ")
    assert err.endswith(f"loopscope: recorded in {name}; the whole of it: loopscope report {name}\n")


def test_a_rank(start: Started) -> None:
    """Under torchrun, ranks from 1 on write to a file of their own, and the report says which rank it was."""
    status, _, err = start.run("-o", "run.loop", TRAIN, "fit", rank="1")
    assert (status, "rank 1" in " ".join(err.split())) == (0, True)  # a long path to the script wraps the line
    assert [one.name for one in start.folder.glob("*.loop")] == ["run.rank1.loop"]


def test_the_command_line_is_shown_as_one_types_it(start: Started) -> None:
    """The report's head has `loopscope run …`, quoted where the shell needs it, not where python is installed."""
    (start.folder / "two words.py").write_text(Path(TRAIN).read_text())
    _, _, err = start.run("-o", "my run.loop", "two words.py", "fit")
    lines = err.splitlines()
    assert lines[0] == ""  # a progress bar may stand there
    assert lines[1].startswith("'my run.loop': closed, ")
    assert lines[2].startswith("loopscope run -o 'my run.loop' 'two words.py' fit, host ")
    assert lines[-1] == "loopscope: recorded in 'my run.loop'; the whole of it: loopscope report 'my run.loop'"


def test_a_size_limit(start: Started) -> None:
    """At the limit recording stops with one warning, training goes on, and the report says what is missing."""
    status, out, err = start.run("--max-size", "400K", "-o", "run.loop", TRAIN, "long")
    assert (status, out.splitlines()[-1]) == (0, "the end")
    assert out.count("[0, ") == 1  # it trained to its end
    assert err.count("stopped: size limit of 400 KiB reached; training goes on, the file holds what came before\n") == 1
    report = start.report()
    assert report.losses == (
        "recording stopped early: size limit of 400 KiB reached; what came after is not in the file",
    )
    assert [one.how for one in report.endings] == ["detached"]
    assert (report.unexpected_count, report.tracks[0].sum) == (0, report.wall)
    assert "learn.fit(1) ran on when recording stopped, after " in err
    assert (start.folder / "run.loop").stat().st_size < 400 << 10


@pytest.mark.parametrize(("order", "left"), [("remove", None), ("replace", "mine")])
def test_a_script_that_takes_the_file_away(order: str, left: str | None, start: Started) -> None:
    """A recording that the script removes or replaces stays removed or replaced; that is said, and nothing is hurt."""
    for orders in ("fit", order, "fit"), (order,):
        status, out, err = start.train(*orders)
        assert (status, out.splitlines()[-1]) == (0, "the end")
        gone = "run.loop is gone: something moved, removed or replaced it while the program ran"
        assert (gone if "fit" in orders else "nothing was recorded: ") in err
        assert "Traceback" not in err
        file = start.folder / "run.loop"
        assert (file.read_text() if file.exists() else None) == left


def test_two_processes_and_one_file(start: Started, tmp_path: Path) -> None:
    """The second is told who writes to the file, even with --force; the first is not disturbed."""
    running = start("run", "-o", "run.loop", TRAIN, "hang")
    running.until("hangs")
    for force in [], ["--force"]:
        status, out, err = command("run", *force, "-o", "run.loop", str(SCRIPTS / "leaves.py"), "0", cwd=tmp_path)
        assert (status, out) == (2, "")
        assert err == (
            f"Error: run.loop is being written by pid {running.pid}. End that first, or give another file.\n"
        )
    report = start.report()
    assert (report.state, report.unexpected_count) == ("running", 0)
    os.kill(running.pid, signal.SIGINT)
    running.wait()
    assert start.report().endings[0].how == "interrupted"


# -- what a script may do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["close stderr", "no stderr", "close stdout"])
def test_a_script_that_closes_its_output(order: str, start: Started) -> None:
    """It ends as it would, nothing of the report gets into stdout, and the recording is whole."""
    status, out, err = start.train("fit", order)
    assert status == 0
    assert "closed, " not in out
    assert "Traceback" not in err
    assert (start.report().state, start.report().unexpected_count) == ("closed", 0)


def test_nobody_reads_stderr(start: Started) -> None:
    """Where stderr is a pipe that nobody reads, the script keeps its status and its recording."""
    fifo = start.folder / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    running = start("run", "-o", "run.loop", TRAIN, "hang", err=str(fifo))
    running.until("hangs")
    os.close(reader)
    os.kill(running.pid, signal.SIGINT)
    assert running.wait()[0] == -signal.SIGINT
    assert start.report().endings[0].how == "interrupted"
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    running = start("run", "--force", "-o", "run.loop", TRAIN, "fit", err=str(fifo))
    os.close(reader)
    assert running.wait()[0] == 0
    assert start.report().state == "closed"


def test_a_script_that_records_itself(start: Started) -> None:
    """`loopscope.record` inside of `loopscope run`: both files are whole, and say the same of that run."""
    status, out, _ = start.train("fit", "nested")
    assert (status, "0 unexpected inside\n" in out) == (0, True)
    outer, inner = start.report(), loopscope.load(start.folder / "inner.loop").report()
    assert [one.run for one in outer.endings] == ["learn.fit(2)", "learn.fit(1)"]
    assert [one.run for one in inner.endings] == ["learn.fit(1)"]
    for one in outer, inner:
        assert (one.state, one.unexpected_count, one.losses) == ("closed", 0, ())
        assert one.tracks[0].sum == one.wall

    def calls(report: Report) -> dict[str, int]:
        run = next(line for line in report.tracks[0].root.children if line.name == "learn.fit(1)")
        return {line.name: line.stats.count for _, line in run.walk() if line.kind == "handler"}

    assert calls(outer) == calls(inner)


def test_a_script_that_forks(start: Started) -> None:
    """A forked child trains unrecorded and silent, with its own status; the parent's recording is whole."""
    status, out, err = start.train("forked", "fit")
    assert (status, "child 5\n" in out) == (0, True)
    assert err.count("loopscope: ") == 1
    report = start.report()
    assert [one.run for one in report.endings] == ["learn.fit(2)", "learn.fit(2)"]
    assert (report.state, report.unexpected_count) == ("closed", 0)


def test_several_runs_of_several_learners(start: Started) -> None:
    """Each run has its line, by learner; a fit that lr_find ends by design is cancelled, and no calls are told."""
    status, _, err = start.train("several")
    assert status == 0
    report = start.report()
    assert [(one.learner, one.run.partition("(")[0], one.how) for one in report.endings] == [
        ("Learner 1", "learn.fit", "finished"),
        ("Learner 2", "learn.fit", "finished"),
        ("Learner 1", "learn.lr_find", "cancelled"),
        ("Learner 2", "learn.fine_tune", "finished"),
    ]
    assert report.unexpected_count == 0
    assert "cancelled by LRFinder.after_batch" in err
    assert " calls of " not in err


def test_a_framework_whose_adapter_cannot_record() -> None:
    """It runs unrecorded, which is said once; its own errors are python's."""
    status, out, err = command("run", "toy_train.py", "--lr", "3")
    assert (status, out) == python("toy_train.py", "--lr", "3")[:2]
    assert err == (
        "loopscope: toyloop_adapter can describe a loop, not record one: it runs unrecorded\n"
        "loopscope: nothing was recorded\n"
    )
    expected = python("toy_bad_call.py")
    status, out, err = command("run", "toy_bad_call.py")
    assert (status, out) == expected[:2]
    assert err.endswith(expected[2])
    assert command("run", "toy_children.py")[:2] == python("toy_children.py")[:2]
