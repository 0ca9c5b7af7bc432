"""What `save` writes is whole or not there, and what stands in its way is said before anything is worked out."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

import loopscope
from loopscope.errors import LoopscopeError
from loopscope.recordings import LoopRecording
from loopscope.render.report import SUFFIXES, Options, renderer
from loopscope.saving import ALL, format_of, written

SAMPLE = Path(__file__).parent / "fastai_recordings" / "raised.loop"


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopRecording:
    monkeypatch.chdir(tmp_path)
    Path("run.loop").write_bytes(SAMPLE.read_bytes())
    return loopscope.load("run.loop")


def left() -> list[str]:
    return sorted(one.name for one in Path().iterdir())


@pytest.mark.parametrize(
    ("name", "format"), [("a.txt", "text"), ("a.csv", "csv"), ("a.MD", "markdown"), ("a.json", "json")]
)
def test_the_suffix_is_the_format(name: str, format: str, recording: LoopRecording) -> None:
    """A file is written in the format that its name says; the same as `render` gives, in UTF-8."""
    recording.save(name)
    assert Path(name).read_bytes() == recording.render(format).encode()
    assert left() == sorted([name, "run.loop"])
    recording.save("b.out", format)
    assert Path("b.out").read_bytes() == Path(name).read_bytes()


def test_options_reach_the_file(recording: LoopRecording) -> None:
    """`depth`, `sort` and `top` are those of `render`."""
    recording.save("a.txt", depth=2, sort="total", top=1)
    expected = renderer("text").render(recording.report(), Options(depth=2, sort="total", top=1))
    assert Path("a.txt").read_text() == expected


def test_a_trace(recording: LoopRecording) -> None:
    """A trace holds one whole JSON object, with an event for every placed call, their ends behind their starts."""
    recording.save("trace.json", "trace")
    events = json.loads(Path("trace.json").read_text())["traceEvents"]
    spans = [one for one in events if one["ph"] == "X"]
    assert len(spans) >= recording.report().spans
    assert all(one["ts"] >= 0 and one["dur"] >= 0 for one in spans)
    assert any(one["args"].get("epoch") == 1 and one["args"].get("batch") == 4 for one in spans if "args" in one)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xml", r"the name a\.xml does not tell the format\. Known: \.txt \(text\), .*; or say it: --format \(form"),
        ("old.txt", r"old\.txt exists already\. Add --force \(force=True\) to overwrite it, or give another file\."),
        ("folder", r"folder is a folder\. Give a file, for example folder/report\.md\."),
        ("nope/a.txt", r"there is no folder nope\. Make it first: mkdir -p nope"),
        ("run.loop", r"run\.loop exists already\."),
    ],
)
def test_what_is_refused(name: str, message: str, recording: LoopRecording) -> None:
    """The error names what was given and what to do, and nothing is written."""
    Path("old.txt").write_text("mine")
    Path("folder").mkdir()
    with pytest.raises(LoopscopeError, match=message):
        recording.save(name)
    assert Path("old.txt").read_text() == "mine"
    assert left() == ["folder", "old.txt", "run.loop"]


def test_force_overwrites_all_but_the_recording(recording: LoopRecording) -> None:
    """`force` replaces a file in one step; the recording itself is never replaced, by whatever name."""
    Path("old.txt").write_text("mine")
    recording.save("old.txt", force=True)
    assert Path("old.txt").read_text() == recording.render()
    Path("link.txt").symlink_to("run.loop")
    before = Path("run.loop").read_bytes()
    for name in ("run.loop", "link.txt", "./run.loop"):
        with pytest.raises(LoopscopeError, match="is the recording itself"):
            recording.save(name, "text", force=True)
    assert Path("run.loop").read_bytes() == before


def test_a_link_stays_a_link(recording: LoopRecording) -> None:
    """A link's target is replaced, not the link."""
    Path("real.txt").write_text("mine")
    Path("link.txt").symlink_to("real.txt")
    recording.save("link.txt", force=True)
    assert Path("link.txt").is_symlink()
    assert Path("real.txt").read_text() == recording.render()


def test_a_wrong_recording_writes_nothing(recording: LoopRecording) -> None:
    """Where the recording cannot be read, no file appears, and the one that was there stays."""
    Path("run.loop").write_bytes(b"nothing")
    Path("old.txt").write_text("mine")
    for name, format in (("new.txt", None), ("old.txt", None), ("trace.json", "trace")):
        with pytest.raises(LoopscopeError, match="is no recording of loopscope"):
            recording.save(name, format, force=True)
    assert left() == ["old.txt", "run.loop"]
    assert Path("old.txt").read_text() == "mine"


def test_half_a_file_is_never_there() -> None:
    """What is written appears under its name when all of it is there, with the permissions of a new file."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    path = folder / f"loopscope-{os.getpid()}.txt"
    try:
        with pytest.raises(ZeroDivisionError), written(path, False) as out:
            out.write(bytes(1 // 0))
        assert not list(folder.glob(f"*loopscope-{os.getpid()}*"))
        with written(path, False) as out:
            out.write(b"whole")
            assert not path.exists()
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full() -> None:
    """What keeps a file from being written is said; `/dev` takes none."""
    with pytest.raises(LoopscopeError, match=r"cannot be written \(.*\)\. Give another file\."):
        loopscope.load(SAMPLE).save("/proc/a.txt")


def test_unknown_formats() -> None:
    """A suffix in whatever case is known; no other is."""
    assert format_of(Path("A.JSON"), "--format", SUFFIXES, ALL) == "json"
    with pytest.raises(LoopscopeError, match="does not tell the format"):
        format_of(Path("a"), "--format", SUFFIXES, ALL)
