"""`loopscope diff`: its output, its exit status, and words instead of tracebacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

import loopscope
from loopscope.api import LoopMap
from loopscope.errors import BadValue, LoopscopeError
from loopscope.model import Loop
from tests.loops import fit
from tests.test_cli import command

RECORDINGS = Path(__file__).parent / "fastai_recordings"
EMPTY = Path(__file__).parent / "recordings" / "v1-closed.loop"
FASTAI = replace(fit(1), framework="fastai", run="fit", versions=MappingProxyType({"fastai": "2"}))


def save(path: Path, loop: Loop) -> None:
    path.write_text(LoopMap(loop).render("json"))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    save(tmp_path / "two.json", fit(2))
    save(tmp_path / "three.json", fit(3))
    save(tmp_path / "keras.json", replace(fit(2), framework="keras"))
    save(tmp_path / "fastai.json", FASTAI)
    save(tmp_path / "train.json", replace(FASTAI, run="train"))
    for name in "closed", "raised":
        (tmp_path / f"{name}.loop").write_bytes((RECORDINGS / f"{name}.loop").read_bytes())
    (tmp_path / "text.txt").write_text("import fastai\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "half.json").write_text((tmp_path / "two.json").read_text()[:4000])
    whole = json.loads((tmp_path / "two.json").read_text())
    del whole["loop"]["root"]
    (tmp_path / "less.json").write_text(json.dumps(whole))
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "broken.loop").write_bytes(b"no recording")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_no_differences(here: Path) -> None:
    """Exit status 0, as diff(1) has it; also where the same loop stands in two files."""
    (here / "copy.json").write_bytes((here / "two.json").read_bytes())
    for other in "two.json", "copy.json":
        status, out, err = command("diff", "two.json", other, cwd=here)
        assert (status, err) == (0, "")
        assert out.endswith("\nno differences\n")
    assert command("diff", "closed.loop", "closed.loop", cwd=here)[0] == 0


def test_differences(here: Path) -> None:
    """Exit status 1, and both files are named with what is in them."""
    status, out, err = command("diff", "two.json", "three.json", cwd=here)
    assert (status, err) == (1, "")
    assert out.splitlines()[:2] == [
        "A  two.json: learn.fit(2, cbs=[Mine]) [Learner, toy 1.2.3]",
        "B  three.json: learn.fit(3, cbs=[Mine]) [Learner, toy 1.2.3]",
    ]
    assert "~ scope epoch  in fit\n    repeats  2 → 3\n" in out


@pytest.mark.parametrize("format", ["text", "json", "markdown"])
def test_every_format(format: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """stdout gets what `render` gives."""
    status, out, err = command("diff", "-f", format, "two.json", "three.json", cwd=here)
    monkeypatch.chdir(here)
    assert (status, out, err) == (1, loopscope.diff("two.json", "three.json").render(format), "")


def test_two_recordings(here: Path) -> None:
    """Runs that only one of them has are told, and what differs in those that both have."""
    status, out, err = command("diff", "-f", "json", "closed.loop", "raised.loop", cwd=here)
    assert (status, err) == (1, "")
    changes = json.loads(out)["changes"]
    assert [(one["kind"], one["name"], one["field"]) for one in changes if one["what"] == "run"] == [
        ("removed", "learn.fit(1)", ""),
        ("removed", "learn.lr_find(num_it=5, show_plot=False)", ""),
        ("removed", "learn.fine_tune(1)", ""),
        ("changed", "learn.fit(2)", "ended"),
    ]


def test_a_loop_and_a_recording(here: Path) -> None:
    """Their loops are compared, and it is said that times are not."""
    status, out, _ = command("diff", "fastai.json", "raised.loop", cwd=here)
    assert status == 1
    assert "B is a recording, the other a loop: times are not compared\n" in out
    status, out, _ = command("diff", "raised.loop", "fastai.json", cwd=here)
    assert status == 1
    assert "A is a recording, the other a loop: times are not compared\n" in out


GIVE = "Give two loops saved as JSON (loopscope show -o a.json train.py) or two recordings (loopscope run train.py)."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tow.json", f"there is no file tow.json. Did you mean 'two.json'? {GIVE}"),
        ("nowhere/a.loop", f"there is no file nowhere/a.loop. {GIVE}"),
        ("folder", f"folder is a folder. {GIVE}"),
        ("text.txt", "text.txt is neither a loop nor a recording: this is no JSON ("),
        ("bytes", f"bytes is neither a loop nor a recording. {GIVE}"),
        (
            "other.json",
            "other.json is neither a loop nor a recording: expected schema 'loopscope/loop', version 1; got",
        ),
        ("list.json", "list.json is neither a loop nor a recording: expected schema"),
        ("half.json", "half.json is neither a loop nor a recording: this is no JSON ("),
        ("deep.json", "deep.json is neither a loop nor a recording: "),
        ("less.json", "less.json is neither a loop nor a recording: the loop in this JSON is not complete (KeyError"),
        ("broken.loop", "broken.loop "),
        ("keras.json", "A is a loop of toy, B one of keras: their events have different names. Give two loops"),
        (
            "closed.loop",
            "two.json is the loop of one fit, and closed.loop holds 2 of that kind (learn.fit(2), learn.fit",
        ),
    ],
)
def test_bad_input(given: str, message: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line: what was given, what is accepted, what to type."""
    monkeypatch.chdir(here)
    with pytest.raises(LoopscopeError) as error:
        loopscope.diff("two.json", given)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_trouble(here: Path) -> None:
    """Exit status 2, with that line on stderr."""
    status, out, err = command("diff", "two.json", "tow.json", cwd=here)
    assert (status, out, err) == (2, "", f"Error: there is no file tow.json. Did you mean 'two.json'? {GIVE}\n")


def test_a_recording_without_a_run_of_that_kind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the runs that there are."""
    monkeypatch.chdir(here)
    with pytest.raises(BadValue) as error:
        loopscope.diff("train.json", "raised.loop")
    assert str(error.value) == (
        "train.json is the loop of one train, and raised.loop holds none of that kind (learn.fit(2)). "
        "Give a loop of what was recorded, or two recordings."
    )


def test_a_recording_of_nothing() -> None:
    """A recording in which nothing was trained holds no loop; the error says how to get one."""
    with pytest.raises(LoopscopeError, match=r"v1-closed.loop holds no loop: nothing was trained .*: loopscope show"):
        loopscope.diff(EMPTY, EMPTY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two.json"], "Missing argument 'B'.\n"),
        ([], "Missing argument 'A'.\n"),
        (["two.json", "two.json", "two.json"], "Got unexpected extra argument (two.json)\n"),
        (["-f", "html", "two.json", "two.json"], "'html' is not one of 'text', 'json', 'markdown'.\n"),
    ],
)
def test_bad_usage(arguments: list[str], message: str, here: Path) -> None:
    """What does not fit the command is said with its usage, exit status 2."""
    status, out, err = command("diff", *arguments, cwd=here)
    assert (status, out) == (2, "")
    assert err.endswith(message)


def test_what_python_takes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, loops, maps and recordings, in any mixture; and the difference can be asked and shown."""
    monkeypatch.chdir(here)
    found = loopscope.diff("two.json", LoopMap(fit(3)))
    assert not found.empty
    assert found.b == "learn.fit(3, cbs=[Mine]) [Learner, toy 1.2.3]"
    assert str(found).endswith("1 loop fact changed, 1 scope changed")
    assert repr(found).endswith("1 loop fact changed, 1 scope changed; print() shows it>")
    assert set(found._repr_mimebundle_()) == {"text/plain", "text/markdown"}
    assert loopscope.diff(fit(2), here / "two.json").empty
    assert loopscope.diff(loopscope.load("closed.loop"), "closed.loop").empty


def test_what_python_does_not_take(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of a run beside a loop that is one already; objects that are no learner."""
    monkeypatch.chdir(here)
    with pytest.raises(BadValue, match=r"run, epochs say which loop a learner or trainer would run, and 'two"):
        loopscope.diff("two.json", "two.json", "fit", epochs=2)
    with pytest.raises(LoopscopeError, match="int"):
        loopscope.diff("two.json", 3)
    with pytest.raises(LoopscopeError, match="None"):
        loopscope.diff(None, "two.json")
