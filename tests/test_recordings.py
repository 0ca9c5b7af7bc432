"""The recording that users hold: what it says, how it is shown, and that no damaged file makes it fall over."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shutil
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import loopscope
from loopscope.errors import LoopscopeError
from loopscope.placing import Placed, place
from loopscope.recording.blocks import Source
from loopscope.recording.layout import Head
from loopscope.recording.reader import read_source
from loopscope.recordings import LoopRecording
from loopscope.render import trace
from loopscope.render.report import FORMATS, Options, renderer
from loopscope.report import Report
from loopscope.spans import tracks
from loopscope.timing import reported
from tests.test_recording_fuzz import MUTATIONS, flip

FOLDER = Path(__file__).parent / "fastai_recordings"
FILES = {path.stem: path for path in FOLDER.glob("*.loop")}
MOST = 200 << 20
ENDED = {
    "closed": ["finished", "cancelled", "finished"],
    "raised": ["raised"],
    "killed": ["killed"],
}


def load(name: str) -> Report:
    return loopscope.load(FILES[name]).report()


# -- what the samples say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENDED)
def test_a_recording_whose_script_is_gone(name: str) -> None:
    """It still says how its runs ended, what each handler is and where it was written; all is placed and adds up."""
    report = load(name)
    assert [one.how for one in report.endings] == ENDED[name]
    assert (report.unexpected_count, report.losses) == (0, ())
    assert [track.sum for track in report.tracks] == [report.wall]
    lines = {line.name: line for _, line in report.tracks[0].root.walk() if line.kind == "handler"}
    mine = lines["Checks.after_pred"]
    assert mine.place.endswith("train.py:11")
    assert lines["Recorder.after_batch"].doc
    assert not Path(mine.place.rpartition(":")[0]).exists()


def test_what_was_open_when_it_was_killed() -> None:
    """The killed sample names the calls that were open, and where that was."""
    (ending,) = load("killed").endings
    assert [one.handler or one.event for one in ending.open] == ["after_batch", "Checks.after_batch"]
    assert (ending.at.epoch, ending.at.batch) == (1, 4)
    (ending,) = load("raised").endings
    assert (ending.exception, ending.at.handler, ending.at.epoch, ending.at.batch) == (
        "ValueError", "Checks.after_batch", 1, 4
    )  # fmt: skip


def test_a_recording_whose_loop_is_damaged(tmp_path: Path) -> None:
    """Where the line of the loop cannot be read, the events are there, unexpected, and the rows still add up."""
    data = FILES["killed"].read_bytes()
    at = data.index(b'{"k":"loop"')
    for damage in (b'{"k":"loop?', b"garbage____"):
        path = tmp_path / "run.loop"
        path.write_bytes(data[:at] + damage + data[at + len(damage) :])
        report = loopscope.load(path).report()
        check(report)
        assert [one.how for one in report.endings] == ["killed"]
        assert report.losses or report.unexpected_count
        assert "Checks.after_batch" in loopscope.load(path).render()


# -- the object --------------------------------------------------------------------------------------------------------


def test_it_is_shown_everywhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`print`, `render`, `show`, rich, a notebook and `save` show one report; `repr` says what to do."""
    recording = loopscope.load(FILES["raised"])
    text = recording.render()
    assert str(recording) == text.removesuffix("\n")
    recording.show()
    shown = capsys.readouterr().out
    first = text.splitlines()[0].partition(":")[2]
    assert first in " ".join(shown.split())
    console = Console(file=io.StringIO(), width=100)
    console.print(recording)
    assert "Where the time went" in console.file.getvalue()  # type: ignore[attr-defined]
    bundle = recording._repr_mimebundle_()
    assert bundle == {"text/markdown": recording.render("markdown"), "text/plain": str(recording)}
    assert bundle["text/markdown"].startswith("# ")
    recording.save(tmp_path / "run.md")
    assert (tmp_path / "run.md").read_text() == bundle["text/markdown"]
    assert repr(recording).endswith("raised.loop; print() shows its report>")
    assert recording.report() is recording.report()  # an unchanged file is read once


def test_options_of_the_report() -> None:
    """`depth`, `sort` and `top` do in Python what they do on the command line; wrong ones are refused by name."""
    recording = loopscope.load(FILES["closed"])
    assert len(recording.render(depth=2).splitlines()) < len(recording.render().splitlines())
    assert recording.render(sort="total") != recording.render()
    assert "Slowest handlers" not in recording.render(top=0)
    for options, message in (
        ({"format": "yaml"}, "unknown format 'yaml'"),
        ({"sort": "size"}, "unknown order 'size'"),
        ({"depth": -1}, "depth -1 is less than 0. Give a number from 0, or leave it out."),
        ({"top": -1}, "top -1 is less than 0. Give a number from 0, or leave it out."),
        ({"depth": "x"}, "depth 'x' is no number. Give a number from 0, or leave it out."),
    ):
        with pytest.raises(LoopscopeError, match=re.escape(message)):
            recording.render(**options)  # type: ignore[arg-type]


def test_there_is_no_such_file(tmp_path: Path) -> None:
    """`load` says at once what is wrong, and an object whose file has gone says so when it is asked."""
    with pytest.raises(LoopscopeError, match="there is no file"):
        loopscope.load(tmp_path / "run.loop")
    shutil.copyfile(FILES["raised"], tmp_path / "run.loop")
    recording = loopscope.load(tmp_path / "run.loop")
    (tmp_path / "run.loop").unlink()
    with pytest.raises(LoopscopeError, match="there is no file"):
        recording.report()


def test_a_loaded_recording_is_not_recorded_again() -> None:
    """Entering what `load` gave is refused, and the error says what to type."""
    with pytest.raises(LoopscopeError, match=r"is recorded already\. For another recording: loopscope\.record\(learn"):
        loopscope.load(FILES["raised"]).__enter__()


@pytest.mark.framework("fastai")
def test_record_and_its_misuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording is made once: entered twice, or onto a file that is there, it is refused, and training goes on."""
    pytest.importorskip("fastai")
    from fastai.test_utils import synth_learner

    monkeypatch.chdir(tmp_path)
    learn = synth_learner()
    making = loopscope.record(learn, "run.loop")
    with making as recording, learn.no_bar(), learn.no_logging():
        with pytest.raises(LoopscopeError, match="is recorded already"):
            making.__enter__()
        with pytest.raises(LoopscopeError, match="is being written by pid"), loopscope.record(learn, "run.loop"):
            pass
        with loopscope.record(learn, "other.loop") as other:  # another file is another recording
            learn.fit(1)
        assert recording.report().state == "running"
        learn.fit(1)
    assert recording is making
    assert [one.how for one in recording.report().endings] == ["finished", "finished"]
    assert [one.how for one in other.report().endings] == ["finished"]
    assert {(one.state, one.unexpected_count) for one in (recording.report(), other.report())} == {("closed", 0)}
    assert str(recording).startswith("run.loop: closed, ")
    with pytest.raises(LoopscopeError, match="is recorded already"):
        recording.__enter__()
    with (
        pytest.raises(LoopscopeError, match=r"run\.loop exists already\. Add --force"),
        loopscope.record(learn, "run.loop"),
    ):
        pass
    with loopscope.record(learn, "run.loop", force=True), learn.no_bar(), learn.no_logging():
        learn.fit(1)
    for wrong in (5, "learn", None, type(learn)):
        with pytest.raises(LoopscopeError), loopscope.record(wrong, "wrong.loop"):
            pass
    assert not Path("wrong.loop").exists()


# -- damaged files -----------------------------------------------------------------------------------------------------


def mutated(number: int, samples: list[bytes]) -> bytes:
    """The file of that number, always the same."""
    moments = random.Random(number)
    data = bytearray(moments.choice(samples))
    moments.choice(MUTATIONS)(data, moments)
    if moments.random() < 0.2 and data:
        flip(data, moments)
    return bytes(data)


def placed(data: bytes) -> Placed | None:
    """The file, read and placed; None where it is refused."""
    try:
        return place(read_source(Source(io.BytesIO(data)), "x.loop"))
    except LoopscopeError:
        return None


def check(report: Report) -> None:
    """Each tree's rows sum to the wall time, each row to those below it, and the counts are those of what is listed."""
    for track in report.tracks:
        assert track.sum == report.wall == track.root.stats.total
        assert sum(one.total for one in track.categories) == report.wall
        for _, line in track.root.walk():
            assert line.stats.total == line.own + sum(child.stats.total for child in line.children)
            assert line.stats.count >= 0
            assert min(line.own, line.stats.total) >= 0, line
    assert min(report.wall, report.events, report.calls, report.spans, report.size) >= 0
    assert report.unexpected_count >= len(report.unexpected)
    assert bool(report.unexpected_count) == bool(report.unexpected)
    assert all(isinstance(loss, str) and loss for loss in report.losses)


def check_formats(found: Placed, report: Report) -> None:
    """Every renderer takes it, and what it gives is well formed."""
    for format in FORMATS:
        text = renderer(format).render(report, Options())
        text.encode()
        if format == "json":
            json.loads(text)
    out = io.BytesIO()
    trace.write(out, tracks(found), begin=found.begin)
    json.loads(out.getvalue())


class Slow:
    """Measures single files: `with slow.one(number): ...`."""

    def __init__(self) -> None:
        self.most, self.number = 0.0, -1

    @contextlib.contextmanager
    def one(self, number: int) -> Iterator[None]:
        before = time.process_time()
        try:
            yield
        except Exception as error:
            error.add_note(f"in file {number}")
            raise
        took = time.process_time() - before
        if took > self.most:
            self.most, self.number = took, number


def small() -> list[bytes]:
    """The samples, the short ones more often: what can go wrong does not need many rows."""
    return [FILES[name].read_bytes() for name in ("closed", *["killed"] * 3, *["raised"] * 5)]


@pytest.mark.slow
def test_ten_thousand_damaged_recordings() -> None:
    """Each is refused with a clear error, or gives a report that adds up in every format; none takes long or much."""
    samples, outcomes, slow = small(), Counter[str](), Slow()
    for number in range(10_000):
        with slow.one(number):
            outcomes[outcome(mutated(number, samples), every_format=number % 100 == 0)] += 1
    assert sum(outcomes.values()) == 10_000
    assert min(outcomes.values()) > 100, outcomes
    assert set(outcomes) == {"refused", "lacks", "unexpected", "whole"}
    assert slow.most < 10, slow.number  # a hang, not a slow machine


def outcome(data: bytes, *, every_format: bool) -> str:
    found = placed(data)
    if found is None:
        return "refused"
    report = reported(found)
    check(report)
    if every_format:
        check_formats(found, report)
    return "lacks" if report.losses else "unexpected" if report.unexpected_count else "whole"


def test_memory_is_bounded() -> None:
    """No damaged file makes a report take more than 200 MB."""
    samples = small()
    tracemalloc.start()
    try:
        for number in range(0, 10_000, 200):
            outcome(mutated(number, samples), every_format=True)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def test_the_check_can_fail() -> None:
    """A nanosecond too much anywhere is seen."""
    from dataclasses import replace

    report = load("raised")
    check(report)
    with pytest.raises(AssertionError):
        check(replace(report, wall=report.wall + 1))
    with pytest.raises(AssertionError):
        check(replace(report, unexpected_count=1))


def newer(data: bytes) -> bytes:
    head = Head.unpack(data[:32])
    assert head is not None
    return head._replace(major=9, minor=0).pack() + data[32:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "x.loop is empty. Give a recording, as `loopscope run` makes it."),
        (lambda data: data[:20], "x.loop ends within its first 32 bytes, nothing of it can be read. Give a recording,"),
        (lambda data: b"PK\3\4" + data, "x.loop is no recording of loopscope (it looks like a zip archive). Give a "),
        (lambda data: b"GIF89a" + data, "x.loop is no recording of loopscope. Give a recording, as `loopscope run` "),
        (lambda data: data[:9] + b"?" + data[10:], "x.loop is damaged in its first 32 bytes. Give another copy of it."),
        (newer, "x.loop has format 9.0, and loopscope "),
        (lambda data: data.replace(b"\n", b"\r\n"), "x.loop was changed by a copy in text mode. Copy the original "),
    ],
    ids=["empty", "cut", "zip", "foreign", "bit", "newer", "text mode"],
)
def test_what_is_refused(damage: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file, what it looks like, and what to give instead."""
    monkeypatch.chdir(tmp_path)
    Path("x.loop").write_bytes(damage(FILES["raised"].read_bytes()))
    with pytest.raises(LoopscopeError) as error:
        LoopRecording("x.loop").report()
    assert str(error.value).startswith(message)
