"""`loopscope check` and `loopscope explain`: what they print, on which stream, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loopscope.checks import TABLE
from tests.test_cli import RAN, SCRIPTS, command, python
from tests.test_recordings import FILES

FASTAI = pytest.mark.framework("fastai")
ORDER = "check_order.py"
LINES = (SCRIPTS / ORDER).read_text().splitlines()
TRAINED = "really trained"


def line(text: str) -> int:
    return next(number for number, one in enumerate(LINES, 1) if text in one)


@FASTAI
def test_findings() -> None:
    """What is found goes to stdout, with its reasons; the status is 1, and no batch runs."""
    status, out, err = command("check", ORDER, "scale", "quiet")
    assert out.startswith(
        f"warning  dead-order  Scale#5 ({ORDER}:{line('class Scale')})\n  Scale sets run_after, which"
    )
    assert out.endswith("\nlearn.fit(2): 1 warning\n")
    assert (status, err) == (1, "")
    assert TRAINED not in out


@FASTAI
def test_nothing_found() -> None:
    """What a comment ignores is not found, and the status is 0."""
    assert command("check", ORDER, "quiet") == (0, "learn.fit(2): nothing found\n", "")


@FASTAI
def test_select_and_ignore() -> None:
    """`--select` and `--ignore` take a rule each time, or several with commas; behind the script they are ours, too."""
    nothing = (0, "learn.fit(2): nothing found\n", "")
    assert (
        command("check", "--select", "shared-name,async-handler", "--select", "forced-sync", ORDER, "scale") == nothing
    )
    status, out, err = command("check", "--select=slow-handler,data-wait", ORDER, "scale")
    assert (status, out) == (2, "")
    assert err == (
        "Error: slow-handler, data-wait read a recording of the run, which learn.fit(2) does not hold. "
        "Check a recording: loopscope check run.loop\n"
    )
    status, out, err = command("check", ORDER, "scale", "--ignore=dead-order")
    assert (status, out) == nothing[:2]
    assert err == "--ignore was read as loopscope's; put -- before the script's own arguments.\n"


@FASTAI
def test_json_and_a_module() -> None:
    """`-f json` gives what docs/check-json.md describes, and `-m` checks a module."""
    status, out, err = command("check", "-f", "json", "-m", "check_order", "scale")
    found = json.loads(out)
    assert found["checked"] == "learn.fit(2)"
    (one,) = found["findings"]
    assert (one["rule"], one["severity"], one["callback"]) == ("dead-order", "warning", "Scale#5")
    assert one["place"] == f"{SCRIPTS / ORDER}:{line('class Scale')}"
    assert (status, err) == (1, "")


@FASTAI
def test_a_comment_that_names_no_rule() -> None:
    """It says where, and which rules there are: status 2. A map is shown all the same, and says so beside it."""
    status, out, err = command("check", ORDER, "wrong")
    said = f"{SCRIPTS / ORDER}:{line('class Wrong')}: the comment names no rule: 'dead-odrer'."
    assert (status, out) == (2, "")
    assert err.startswith(f"Error: {said}")
    assert f"Rules: {', '.join(TABLE)}." in err
    status, out, err = command("show", "-f", "text", ORDER, "wrong", "scale")
    assert status == 0
    assert out.startswith("learn.fit(2) [")
    assert "dead-order" not in out
    assert err.startswith(f"loopscope: the findings of loopscope check are not shown: {said}")


@FASTAI
def test_show_marks_what_is_found() -> None:
    """In the map of `show` a handler has the rule's name behind it, and the last line says what to type."""
    status, out, _ = command("show", "-f", "text", ORDER, "scale", "quiet")
    assert "after_backward: Scale (warning: dead-order)\n" in out
    assert "TrainEvalCallback, Quiet, Recorder" in out
    assert out.endswith("check: 1 warning; loopscope check says why, and what to type instead\n")
    assert status == 0


def test_a_script_of_another_framework() -> None:
    """Where no rule is about the framework nothing is found; what the script prints comes first, and nothing trains."""
    status, out, err = command("check", "toy_train.py", "--lr", "3")
    assert out.splitlines()[0] == "before ['--lr', '3']"
    assert "fit(epochs=3, lr=0.2): nothing found\n" in out
    assert (status, err) == (0, "")
    assert RAN not in out


def test_a_script_that_fails_before_its_fit() -> None:
    """It looks as under python, but the status is 2: 1 would say that something was found."""
    expected = python("raises.py")
    assert command("check", "raises.py") == (2, *expected[1:])


@pytest.mark.parametrize("leaves", [[], ["0"], ["1"], ["'words'"]])
def test_a_script_without_a_fit(leaves: list[str]) -> None:
    """A script that comes to no fit, however it leaves, could not be checked: 2, and what was waited for."""
    status, out, err = command("check", "toy_no_fit.py", *leaves)
    assert (status, out) == (2, "prepared\n")
    assert "without a fit-like call. Waited for " in err


@pytest.mark.parametrize("option", ["--select", "--ignore"])
def test_an_unknown_rule(option: str) -> None:
    """A misspelt rule is said before the script runs, with the choices."""
    status, out, err = command("check", option, "dead-odrer", "raises.py")
    assert (status, out) == (2, "")
    assert err.startswith("Error: unknown rule 'dead-odrer'. Did you mean 'dead-order'? Accepted: dead-order, ")


def test_no_script(tmp_path: Path) -> None:
    """A script, or a recording, that does not exist is an error."""
    for name in ("nothing.py", "nothing.loop"):
        status, out, err = command("check", name, cwd=tmp_path)
        assert (status, out) == (2, "")
        assert "nothing" in err


@pytest.mark.parametrize("name", FILES)
def test_a_recording(name: str, tmp_path: Path) -> None:
    """Any file that is a recording is checked as one, whatever its name, and without its framework."""
    (tmp_path / "run").write_bytes(FILES[name].read_bytes())
    status, out, err = command("check", "run", cwd=tmp_path)
    assert status in (0, 1)
    assert out.splitlines()[-2].startswith("run")
    assert err == ""


def test_a_recording_that_is_none(tmp_path: Path) -> None:
    """A file with a recording's suffix that holds something else is an error."""
    (tmp_path / "run.loop").write_text("no recording")
    status, out, err = command("check", "run.loop", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith("Error: ")


def test_explain() -> None:
    """A rule's page; without a name the list of all; a name that is none gives the choices."""
    status, out, err = command("explain", "dead-order")
    assert (status, err) == (0, "")
    assert out.startswith("# dead-order\n\nrun_after or run_before is set")
    status, out, err = command("explain")
    assert (status, err) == (0, "")
    assert [name for name in TABLE if f"| [{name}]" not in out] == []
    status, out, err = command("explain", "dead")
    assert (status, out) == (2, "")
    assert err.startswith("Error: unknown rule 'dead'.")
    assert "Accepted: dead-order, " in err


@FASTAI
@pytest.mark.parametrize(("marks", "expected"), [(["scale"], 1), (["quiet"], 0)])
def test_a_script_that_leaves_with_a_status_of_its_own(tmp_path: Path, marks: list[str], expected: int) -> None:
    """Where it catches the stop at its fit and leaves with 3, the status is still that of what was found."""
    leaves = (
        f"import runpy, sys\nsys.argv[1:] = {marks!r}\n"
        f"try:\n    runpy.run_path({str(SCRIPTS / ORDER)!r}, run_name='__main__')\n"
        "except BaseException:\n    pass\nsys.exit(3)\n"
    )
    (tmp_path / "leaves.py").write_text(leaves)
    status, out, err = command("check", "leaves.py", cwd=tmp_path)
    assert (status, out.splitlines()[-1].partition(": ")[0], err) == (expected, "learn.fit(2)", "")


def test_what_to_type_is_what_was_typed() -> None:
    """Without a fit the error says how arguments are given to this command."""
    assert "after the script: loopscope check toy_no_fit.py ARGS." in command("check", "toy_no_fit.py")[2]
    assert "after the script: loopscope show toy_no_fit.py ARGS." in command("show", "toy_no_fit.py")[2]


@FASTAI
def test_a_saved_loop(tmp_path: Path) -> None:
    """What `show -o loop.json` wrote is checked by the rules that read the map alone, and not run."""
    saved = tmp_path / "loop.json"
    assert command("show", "-o", str(saved), ORDER, "quiet")[0] == 0
    status, out, err = command("check", "loop.json", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "loop.json: learn.fit(2): nothing found"
    assert "the callbacks' source: loopscope check train.py asks them, too)" in out.splitlines()[1]
    status, out, err = command("check", "--select", "slow-handler", "loop.json", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert "slow-handler reads a recording of the run, which loop.json does not hold" in err


@pytest.mark.parametrize("text", ["{}", "[", "\xff"])
def test_a_saved_loop_that_is_none(tmp_path: Path, text: str) -> None:
    """Other JSON is refused in one line, and not run as a script."""
    (tmp_path / "loop.json").write_bytes(text.encode("latin-1"))
    status, out, err = command("check", "loop.json", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith("Error: loop.json is no saved loop: ")
    assert "Traceback" not in err
