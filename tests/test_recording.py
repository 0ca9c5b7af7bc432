"""What is written comes back: whatever ends the writer, while it writes, and from whatever file is given instead."""

from __future__ import annotations

import gc
import io
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopscope.recording
from loopscope.errors import BadValue, LoopscopeError
from loopscope.recording import (
    BadPath,
    BadRecording,
    BusyRecording,
    Lane,
    Recording,
    Tape,
    facts,
    live,
    read,
)
from loopscope.recording.blocks import Source
from loopscope.recording.coding import decode, encode
from loopscope.recording.layout import BLOCK_ROWS, CLOSED, COMPACTED, LIVE, PAGE, Head

RECORDINGS = Path(__file__).parent / "recordings"
ROOT = Path(__file__).parent.parent
SRC = str(ROOT / "src")


def begin(lane: Lane, clock: Callable[[], int], code: int) -> tuple[memoryview, int]:
    """What the recorder's hot path does at the start of a call."""
    rows = lane.rows
    at = lane.at
    try:
        rows[at + 1] = clock()
        rows[at] = code
    except IndexError:
        lane.more()
        rows = lane.rows
        at = lane.at
        rows[at + 1] = clock()
        rows[at] = code
    lane.at = at + 3
    return rows, at


def nest(tape: Tape, codes: list[int], times: int = 1) -> None:
    """Rows that lie in one another, `times` over."""
    lane = tape.lane()
    for _ in range(times):
        opened = [begin(lane, tape.clock, code) for code in codes]
        for rows, at in reversed(opened):
            rows[at + 2] = tape.clock()


def ticks(step: int = 10) -> Callable[[], int]:
    """A clock that shows 10, 20, 30, ..."""
    return itertools.count(step, step).__next__


def rows_of(recording: Recording) -> list[list[tuple[int, int, int]]]:
    """Every lane's rows as plain numbers."""
    return [
        list(zip(lane.code.tolist(), lane.start.tolist(), lane.end.tolist(), strict=True)) for lane in recording.lanes
    ]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def tape(tmp_path: Path) -> Iterator[Tape]:
    made = Tape.create(tmp_path / "run.loop", {"title": "tést"}, clock=ticks())
    yield made
    made.close()


def test_a_recording_comes_back(tmp_path: Path) -> None:
    """Rows, names, lines and the header come back as they were written, and the closed file is compacted."""
    tape = Tape.create(tmp_path / "run.loop", {"title": "tést"}, clock=ticks())
    event, handler, error = (
        tape.name("event", name="before"),
        tape.name("handler"),
        tape.name("exception", q="a\nb"),
    )
    tape.line("binding", learner=1, odd={"path": Path("x"), "surrogate": "\udcff"})
    nest(tape, [event, handler])
    rows, at = begin(tape.lane(), tape.clock, event)
    rows[at] = event | error << 32
    rows[at + 2] = tape.clock()
    begin(tape.lane(), tape.clock, handler)  # never ends
    tape.close(why="finished")
    tape.close(why="again")
    recording = read(tmp_path / "run.loop")

    assert (event, handler, error) == (1, 2, 3)
    assert rows_of(recording) == [[(1, 20, 50), (2, 30, 40), (1 | 3 << 32, 60, 70), (2, 80, 0)]]
    (lane,) = recording.lanes
    assert (lane.number, lane.thread) == (1, "MainThread")
    assert lane.name().tolist() == [1, 2, 1, 2]
    assert lane.outcome().tolist() == [0, 0, 3, 0]
    assert recording.names == {
        1: {"k": "event", "id": 1, "name": "before"},
        2: {"k": "handler", "id": 2},
        3: {"k": "exception", "id": 3, "q": "a\nb"},
    }
    assert recording.lines == (
        {"k": "binding", "learner": 1, "odd": {"path": "x", "surrogate": "\udcff"}},
        {"k": "lane", "lane": 1, "thread": "MainThread", "native": threading.get_native_id()},
        {"k": "end", "clock": 90, "why": "finished"},
    )
    header = dict(recording.header)
    assert abs(header.pop("wall_ns") - time.time_ns()) < 60e9
    assert header == {
        "title": "tést",
        "format": [1, 0],
        "pid": os.getpid(),
        "clock": "perf_counter_ns",
        "clock_ns": 10,
    }
    assert (recording.state, recording.version, recording.losses) == ("closed", (1, 0), ())
    assert (recording.begin, recording.end, recording.now, recording.spans) == (10, 90, None, 4)
    assert recording.size == os.path.getsize(tmp_path / "run.loop") < 1000
    assert left(tmp_path) == ["run.loop"]


def test_facts_say_where_a_recording_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header's facts are this process's, with its rank where there is one."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "many")
    said = facts()
    assert said["command"] == sys.orig_argv
    assert (said["cwd"], said["host"], said["rank"]) == (os.getcwd(), os.uname().nodename, 3)
    assert said["python"] == sys.version.split()[0].rstrip("+")
    assert "world_size" not in said
    assert json.loads(json.dumps(said)) == said


def test_a_lane_grows(tape: Tape, tmp_path: Path) -> None:
    """More rows than a segment holds: segments double up to 8 MiB, and the rows come back before and after closing."""
    code = tape.name("event")
    nest(tape, [code, code], 300_000)
    assert tape.lane().rows.nbytes > 6 << 20
    running = read(tape.path)
    tape.close()
    closed = read(tape.path)
    assert running.spans == closed.spans == 600_000
    assert rows_of(running) == rows_of(closed)
    outer, inner = (closed.lanes[0].end - closed.lanes[0].start).reshape(-1, 2).T
    assert set(inner.tolist()) <= {10, 20}  # a clock is read once more where a segment ends
    assert set((outer - inner).tolist()) <= {20, 30}


def test_threads_have_lanes_of_their_own(tape: Tape) -> None:
    """Each thread writes its own rows, and its name is known."""
    code = tape.name("event")
    nest(tape, [code])
    together = threading.Barrier(3)  # one after the other they might have one identifier, and so one lane

    def work() -> None:
        together.wait()
        nest(tape, [code], 20_000)
        together.wait()

    threads = [threading.Thread(target=work, name=f"worker {i}") for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tape.close()
    recording = read(tape.path)
    assert recording.losses == ()
    assert {lane.thread: len(lane.code) for lane in recording.lanes} == {
        "MainThread": 1, "worker 0": 20_000, "worker 1": 20_000, "worker 2": 20_000,
    }  # fmt: skip
    assert [lane.number for lane in recording.lanes] == [1, 2, 3, 4]


def test_a_thread_after_another(tape: Tape) -> None:
    """A thread that the system gave the identifier of an earlier one goes on in that one's lane."""
    for _ in range(2):
        thread = threading.Thread(target=nest, args=(tape, [tape.name("event")]))
        thread.start()
        thread.join()
    recording = read(tape.path)
    assert (recording.spans, recording.losses) == (2, ())
    assert len(recording.lanes) in (1, 2)


def test_a_thread_that_python_did_not_start(tape: Tape) -> None:
    """A foreign thread gets a lane and is not registered with Python by that."""
    import _thread

    done = threading.Event()
    before = threading.active_count()

    def work() -> None:
        nest(tape, [1])
        done.set()

    _thread.start_new_thread(work, ())
    assert done.wait(10)
    assert threading.active_count() == before
    assert read(tape.path).lanes[0].thread.startswith("thread ")


def test_long_lines_and_many(tape: Tape) -> None:
    """Lines may fill many blocks or be longer than one; one of 4 MiB is refused, and nothing is lost by it."""
    numbers = [tape.name("event", doc="x" * 1000) for _ in range(300)]
    long = tape.name("event", doc="é" * 200_000)
    assert tape.name("event", doc="x" * (4 << 20)) == 0
    assert tape.name("event", bad={(1, 2): 3}) == 0
    after = tape.name("event")
    assert (numbers, long, after) == (list(range(1, 301)), 301, 302)
    running = read(tape.path)
    tape.close()
    closed = read(tape.path)
    assert running.names == closed.names
    assert closed.names[301]["doc"] == "é" * 200_000
    assert closed.losses == running.losses == ()


def mapped(tape: Tape) -> int:
    """How many segments of the tape are still in memory."""
    views = [view() for view in tape._views]
    return len({id(view.obj) for view in views if view is not None})


def test_memory_stays_valid_for_whoever_holds_it(tape: Tape) -> None:
    """An open call's row lies in an old segment: its end is stamped there, then the mapping goes."""
    code = tape.name("event")
    lane = tape.lane()
    rows, at = begin(lane, tape.clock, code)
    nest(tape, [code], 100_000)
    assert mapped(tape) == 2
    rows[at + 2] = tape.clock()
    del rows
    gc.collect()
    assert mapped(tape) == 1
    tape.close()
    assert read(tape.path).lanes[0].end[0] == read(tape.path).end - 10


def test_late_rows_go_nowhere(tape: Tape) -> None:
    """After closing, calls that are still open and calls that start harm nothing and are not in the file."""
    code = tape.name("event")
    rows, at = begin(tape.lane(), tape.clock, code)
    lane = tape.lane()
    tape.close()
    rows[at + 2] = tape.clock()
    nest(tape, [code], 5000)
    assert tape.lane() is lane
    assert tape.name("event") == 0
    tape.line("binding")
    tape.stop("no longer of interest")
    assert tape.stopped == ""
    assert rows_of(read(tape.path)) == [[(1, 20, 0)]]


def test_ends_after_the_close_count_as_open(tape: Tape) -> None:
    """A stamp that another thread writes while the file is closed cannot reach beyond the end of the recording."""
    code = tape.name("event")
    rows, at = begin(tape.lane(), tape.clock, code)
    rows[at + 2] = 10_000
    nest(tape, [code])
    tape.close()
    assert rows_of(read(tape.path)) == [[(1, 20, 0), (1, 30, 40)]]


LONG = "x" * 300
PLACES = {
    "folder": ("folder", "'HERE/folder' is a folder. Give a file, for example HERE/folder/run.loop."),
    "link": ("link", "'HERE/link' is a folder. Give a file, for example HERE/link/run.loop."),
    "missing": ("no/run.loop", "there is no folder HERE/no. Make it first: mkdir -p HERE/no"),
    "below a file": (
        "file/run.loop",
        "HERE/file/run.loop cannot be written: HERE/file is not a folder. Give a file in a folder.",
    ),
    "slash": ("new/", "'HERE/new/' names no file. Give a file, for example HERE/new/run.loop."),
    "device": ("/dev/null", "/dev/null is not a regular file. Give the name of a new file, for example run.loop."),
    "nul": ("a\0b", "'HERE/a\\x00b' is no path. Give the name of a file, for example run.loop."),
    "long": (LONG, f"HERE/{LONG} cannot be written (File name too long). Give a file elsewhere."),
}


@pytest.mark.parametrize("place", PLACES)
def test_places_where_nothing_can_be_written(tmp_path: Path, place: str) -> None:
    """Each says what was given and what to type next; nothing is left behind."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").write_text("x")
    before = left(tmp_path)
    name, expected = PLACES[place]
    with pytest.raises(BadPath) as raised:
        Tape.create(os.path.join(tmp_path, name), {})
    assert str(raised.value) == expected.replace("HERE", str(tmp_path))
    assert left(tmp_path) == before
    with pytest.raises(BadPath, match=r"^'' is a folder"):
        Tape.create("", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    """A folder that may not be written to."""
    tmp_path.chmod(0o500)
    with pytest.raises(BadPath, match=r"run\.loop cannot be written \(Permission denied\)\. Give a file elsewhere\."):
        Tape.create(tmp_path / "run.loop", {})
    tmp_path.chmod(0o700)


def test_a_limit_below_the_least(tmp_path: Path) -> None:
    """A limit that not even the first rows fit into is refused at once."""
    with pytest.raises(BadValue, match=r"^limit=1000 bytes is too small\. Give at least \d+\.$"):
        Tape.create(tmp_path / "run.loop", {}, limit=1000)
    assert left(tmp_path) == []


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    """Without force the file stays; with force it is replaced, and a symbolic link to it stays a link."""
    path, link = tmp_path / "run.loop", tmp_path / "link.loop"
    path.write_text("precious")
    link.symlink_to("run.loop")
    with pytest.raises(BadPath) as raised:
        Tape.create(link, {})
    assert str(raised.value) == (
        f"{link} exists already. Add --force (force=True) to overwrite it, or give another file."
    )
    assert path.read_text() == "precious"
    tape = Tape.create(link, {}, force=True)
    assert tape.path == path.resolve()
    tape.close()
    assert link.is_symlink()
    assert read(link).state == "closed"
    assert left(tmp_path) == ["link.loop", "run.loop"]


def test_a_file_that_is_being_written(tape: Tape) -> None:
    """A second recording on the same path is refused, forced or not, and names the process that writes."""
    nest(tape, [tape.name("event")])
    for force in (False, True):
        with pytest.raises(BusyRecording) as raised:
            Tape.create(tape.path, {}, force=force)
        assert str(raised.value) == (
            f"{tape.path} is being written by pid {os.getpid()}. End that first, or give another file."
        )
    code = f"from loopscope.recording import Tape; Tape.create({str(tape.path)!r}, {{}}, force=True)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"BusyRecording: {tape.path} is being written by pid {os.getpid()}." in other.stderr
    assert read(tape.path).state == "running"
    tape.close()
    Tape.create(tape.path, {}, force=True).close()
    assert left(tape.path.parent) == ["run.loop"]


def test_two_that_start_at_once(tmp_path: Path) -> None:
    """Of many recordings that start on one path at the same moment, forced, exactly one begins."""
    barrier, made, refused = threading.Barrier(8), [], []

    def start() -> None:
        barrier.wait()
        try:
            made.append(Tape.create(tmp_path / "run.loop", {}, force=True))
        except BusyRecording as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    made[0].close()
    assert read(tmp_path / "run.loop").state == "closed"
    assert left(tmp_path) == ["run.loop"]


@pytest.mark.parametrize("fate", ["moved", "removed", "replaced"])
def test_a_file_that_somebody_takes_away(tape: Tape, fate: str, tmp_path: Path) -> None:
    """A file that was moved meanwhile stays whole under its new name; what stands in its place is not touched."""
    nest(tape, [tape.name("event")])
    tape.path.rename(tmp_path / "moved.loop")
    if fate == "replaced":
        tape.path.write_text("mine")
    if fate == "removed":
        (tmp_path / "moved.loop").unlink()
    tape.close()
    if fate != "removed":
        moved = read(tmp_path / "moved.loop")
        assert (moved.state, moved.spans, moved.losses, moved.end) == ("closed", 1, (), 40)
    assert left(tmp_path) == {"moved": ["moved.loop"], "removed": [], "replaced": ["moved.loop", "run.loop"]}[fate]


def test_stopping(tape: Tape, capfd: pytest.CaptureFixture[str]) -> None:
    """`stop` says why once, in the file and on stderr; what comes after is not recorded."""
    code = tape.name("event")
    nest(tape, [code])
    tape.stop("had enough")
    tape.stop("again")
    nest(tape, [code], 5000)
    assert (tape.name("event"), tape.stopped) == (0, "had enough")
    said = capfd.readouterr().err
    assert said == (
        f"loopscope: recording of {tape.path} stopped: had enough; training goes on, the file holds what came before\n"
    )
    tape.close()
    recording = read(tape.path)
    assert rows_of(recording) == [[(1, 20, 30)]]
    assert recording.losses == ("recording stopped early: had enough; what came after is not in the file",)
    assert recording.lines[1:] == (
        {"k": "stop", "why": "had enough", "clock": 40},
        {"k": "end", "clock": recording.end},
    )


def test_the_size_limit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """At the limit recording stops with one line, `on_stop` is called once, the loop goes on, the file says so."""
    calls = []

    def stopped() -> None:
        calls.append(tape.stopped)
        raise RuntimeError("a careless listener")

    tape = Tape.create(tmp_path / "run.loop", {}, limit=1 << 20, on_stop=stopped)
    code = tape.name("event")
    nest(tape, [code, code], 50_000)
    why = "size limit of 1 MiB reached"
    assert calls == [why]
    assert capfd.readouterr().err.count("\n") == 1
    assert os.path.getsize(tape.path) <= 1 << 20
    tape.close()
    recording = read(tape.path)
    assert 30_000 < recording.spans < (1 << 20) // 24
    assert recording.losses == (f"recording stopped early: {why}; what came after is not in the file",)
    assert (recording.lanes[0].end[:-1] > 0).all()


FULL_DISK = """
import os, sys
from loopscope.recording import Tape, read
path, limit = sys.argv[1], int(sys.argv[2])
if limit:
    import resource
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
tape = Tape.create(path, {})
code = tape.name("event")
for _ in range(200_000):
    lane = tape.lane(); rows, at = lane.rows, lane.at
    try:
        rows[at + 1] = tape.clock(); rows[at] = code
    except IndexError:
        lane.more(); rows, at = lane.rows, lane.at
        rows[at + 1] = tape.clock(); rows[at] = code
    lane.at = at + 3
    rows[at + 2] = tape.clock()
for _ in range(100):
    tape.name("event", doc="x" * 3000)
tape.close()
print(tape.stopped)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""


@contextmanager
def small_disk(folder: Path) -> Iterator[int]:
    """A tmpfs of 1 MiB, where that may be mounted; elsewhere a limit on the size of a file, which is returned."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        yield 1 << 20
        return
    try:
        yield 0
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def run_on_small_disk(path: Path, limit: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(limit)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("real", [True, False])
def test_a_full_disk(tmp_path: Path, real: bool) -> None:
    """On a full disk (a small tmpfs; a limit on the file's size) training goes on, one line says why."""
    with small_disk(tmp_path) if real else contextmanager(lambda: iter([1 << 20]))() as limit:
        done = run_on_small_disk(tmp_path / "run.loop", limit)
        why = "the system's limit on the size of a file is reached" if limit else "disk full"
        assert (done.returncode, done.stdout) == (0, f"{why}\n")
        assert done.stderr == (
            f"loopscope: recording of {tmp_path}/run.loop stopped: {why}; "
            "training goes on, the file holds what came before\n"
        )
        recording = read(tmp_path / "run.loop")
        assert recording.state == "closed"
        assert recording.spans > 10_000
        assert (recording.lanes[0].end > 0).all()
        assert recording.losses == (f"recording stopped early: {why}; what came after is not in the file",)
        assert left(tmp_path) == ["run.loop"]


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    """Nothing can be created: an error, no file left behind, and the old one kept although force was given."""
    (tmp_path / "run.loop").write_text("precious")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(BadPath) as raised:
            Tape.create(tmp_path / "run.loop", {}, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(raised.value) == (
        f"{tmp_path}/run.loop cannot be written (the system's limit on the size of a file is reached). "
        "Give a file elsewhere."
    )
    assert left(tmp_path) == ["run.loop"]
    assert (tmp_path / "run.loop").read_text() == "precious"


def test_a_file_system_that_cannot_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where posix_fallocate is refused or missing, zeros are written instead."""

    def refuse(fd: int, offset: int, size: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    tape = Tape.create(tmp_path / "run.loop", {})
    monkeypatch.delattr(os, "posix_fallocate")
    nest(tape, [tape.name("event")], 20_000)
    tape.close()
    assert (read(tape.path).spans, read(tape.path).losses) == (20_000, ())


def test_compaction_that_fails_leaves_the_live_file(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for the compacted file: the live one stays, marked closed, and reads the same."""
    nest(tape, [tape.name("event")], 20_000)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    tape.close(how="finished")
    recording = read(tape.path)
    assert (recording.state, recording.spans, recording.losses) == ("closed", 20_000, ())
    assert recording.lines[-1] == {"k": "end", "clock": recording.end, "how": "finished"}
    assert left(tape.path.parent) == ["run.loop"]
    assert Head.unpack(tape.path.read_bytes()[:32]).state == CLOSED


def test_a_fork_in_the_middle_of_a_call(tmp_path: Path) -> None:
    """A forked child writes nothing, prints nothing, and does not keep the lock; its parent's calls go on."""
    tape = Tape.create(tmp_path / "run.loop", {})
    code = tape.name("event")
    opened = [begin(tape.lane(), tape.clock, code)]
    nest(tape, [code], 15_000)  # `opened` is in an old segment now
    opened.append(begin(tape.lane(), tape.clock, code))
    done, go = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for rows, at in opened:
                with pytest.raises(ValueError, match="released memoryview"):
                    rows[at + 2] = tape.clock()
            nest(tape, [code], 50_000)
            assert tape.stopped == "forked child"
            assert tape.name("event") == 0
            thread = threading.Thread(target=nest, args=(tape, [code]))
            thread.start()
            thread.join()
            tape.stop("never mind")
            tape.close()
            assert not [fd for fd in os.listdir("/proc/self/fd") if "run.loop" in _points(f"/proc/self/fd/{fd}")]
            status = 0
            os.close(go)
            os.read(done, 1)  # until the parent has closed
        finally:
            os._exit(status)
    os.close(done)
    nest(tape, [code], 100)
    for rows, at in reversed(opened):
        rows[at + 2] = tape.clock()
    assert tape.stopped == ""
    assert read(tape.path).state == "running"
    tape.close()
    Tape.create(tape.path.with_name("other.loop"), {}).close()
    os.close(go)
    assert os.waitpid(child, 0)[1] == 0
    recording = read(tape.path)
    assert (recording.spans, recording.losses) == (15_102, ())
    assert (recording.lanes[0].end > 0).all()


def _points(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def test_a_lock_ends_with_its_process_although_a_child_lives(tmp_path: Path) -> None:
    """A recording whose process was killed counts as killed, even while a forked child of it is alive."""
    code = """
import os, sys, time
from loopscope.recording import Tape
tape = Tape.create(sys.argv[1], {})
rows = tape.lane().rows
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run.loop")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.wait()
        try:
            assert read(tmp_path / "run.loop").state == "killed"
        finally:
            os.kill(child, signal.SIGKILL)


def _square(number: int) -> int:
    return number * number


def test_multiprocessing_with_fork(tape: Tape, capfd: pytest.CaptureFixture[str]) -> None:
    """Worker processes that are forked while recording work as ever and leave the file alone."""
    code = tape.name("event")
    rows, at = begin(tape.lane(), tape.clock, code)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_square, range(20)) == [n * n for n in range(20)]
    rows[at + 2] = tape.clock()
    tape.close()
    assert (rows_of(read(tape.path)), read(tape.path).losses) == ([[(1, 20, 30)]], ())
    assert capfd.readouterr().err == ""


WRITER = """
import sys
from loopscope.recording import Tape
tape = Tape.create(sys.argv[1], {}, force=True)
codes = [tape.name("event", name=str(n)) for n in range(1000)]
clock = tape.clock
lane = tape.lane()
print("ready", flush=True)
def row(n):
    rows = lane.rows; at = lane.at
    try:
        rows[at + 1] = clock(); rows[at] = codes[n % 1000]
    except IndexError:
        lane.more(); rows = lane.rows; at = lane.at
        rows[at + 1] = clock(); rows[at] = codes[n % 1000]
    lane.at = at + 3
    return rows, at
n = 0
while True:  # one row around three others
    outer, place = row(n); n += 1
    for _ in range(3):
        rows, at = row(n); n += 1
        rows[at + 2] = clock()
    outer[place + 2] = clock()
"""


def check_prefix(recording: Recording, state: str) -> None:
    """The rows are the first that the writer wrote, without a gap; only the last and what encloses it may be open."""
    assert (recording.state, recording.losses) == (state, ())
    if not recording.lanes:
        return
    (lane,) = recording.lanes
    count = len(lane.code)
    assert np.array_equal(lane.name(), np.arange(count) % 1000 + 1)
    opened = np.flatnonzero(lane.end == 0)
    assert set(opened.tolist()) <= {count - 1, (count - 1) // 4 * 4}
    closed = lane.end > 0
    assert (lane.end[closed] >= lane.start[closed]).all()
    inner = np.flatnonzero((np.arange(count) % 4 != 0) & closed)
    outer_end = lane.end[inner // 4 * 4]
    assert ((outer_end == 0) | (outer_end >= lane.end[inner])).all()


def writing(path: Path) -> subprocess.Popen[bytes]:
    """A process that writes rows as fast as it can; -S, since it starts 200 times."""
    command = [sys.executable, "-S", "-c", WRITER, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": SRC})


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    """Killed with -9 at 200 random moments, every file reads and holds all rows up to the last stamp."""
    moments, counts = random.Random(3), []
    for _ in range(50):
        paths = [tmp_path / f"{n}.loop" for n in range(4)]
        started = [writing(path) for path in paths]
        for process, path in zip(started, paths, strict=True):
            with process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(moments.uniform(0.005, 0.06))
                process.kill()
            recording = read(path)
            check_prefix(recording, "killed")
            counts.append(recording.spans)
    assert len(counts) == 200
    assert max(counts) > 10_000


def test_reading_while_it_is_written(tmp_path: Path) -> None:
    """A reader sees the state of one moment: never a call that is open around later ones."""
    path = tmp_path / "run.loop"
    with writing(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        counts = []
        try:
            while len(counts) < 10 or counts[-1] < 400_000:
                recording = read(path)
                check_prefix(recording, "running")
                assert recording.now is not None
                assert recording.end <= recording.now < recording.end + 10**9
                counts.append(recording.spans)
        finally:
            process.kill()
    assert counts == sorted(counts)


class Moving(Source):
    """A file whose writer goes on at chosen reads: `steps[n]` runs before the n-th read of rows."""

    def __init__(self, file: io.RawIOBase, steps: dict[int, Callable[[], None]]) -> None:
        super().__init__(file)
        self.steps, self.reads = steps, 0

    def into(self, offset: int, target: memoryview) -> int:
        count = super().into(offset, target)
        self.steps.pop(self.reads, lambda: None)()
        self.reads += 1
        return count


def test_a_parent_that_ends_between_two_reads(tape: Tape) -> None:
    """A call that ended after its row was read, before the next began, is not taken for open around that next one."""
    from loopscope.recording.blocks import walk

    first, second = tape.name("event"), tape.name("event")
    rows, at = begin(tape.lane(), tape.clock, first)
    data = tape.path.read_bytes()
    found = walk(Source(io.BytesIO(data)), Head.unpack(data[:32])).blocks

    def goes_on() -> None:
        rows[at + 2] = tape.clock()
        nest(tape, [second])

    cases = {}
    for moment in (0, 1):  # after the rows were read; after the open row was read again
        with tape.path.open("rb", buffering=0) as file:
            cases[moment] = live.tables(Moving(file, {moment: goes_on}), found, running=True)[1].tolist()
        rows, at = begin(tape.lane(), tape.clock, first)
    assert cases[0] == [[1, 20, 0]]
    assert cases[1][0] == [1, 20, 30]
    assert cases[1][-1] == [1, 60, 0]


def test_more_open_rows_than_are_read_one_by_one(tape: Tape) -> None:
    """A loop that never ends its calls is read all the same."""
    for _ in range(5000):
        begin(tape.lane(), tape.clock, 1)
    tape.name("event")
    assert read(tape.path).spans == 5000
    assert read(tape.path).lanes[0].end.tolist() == [0] * 5000


def test_an_outcome_without_an_end_is_open(tape: Tape) -> None:
    """Killed between the outcome and the end of a call: the call counts as open, without an outcome."""
    tape.name("event")
    rows, at = begin(tape.lane(), tape.clock, 1)
    rows[at] = 1 | 1 << 32
    assert rows_of(read(tape.path)) == [[(1, 20, 0)]]


def test_no_locks(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks a recording is running while a process of its number lives on its host."""
    from loopscope.recording import lines, reader

    monkeypatch.setattr(reader, "lock", lambda *_, **__: None)
    assert read(tape.path).state == "running"
    monkeypatch.setattr(lines.os, "kill", lambda *_: (_ for _ in ()).throw(ProcessLookupError()))
    assert read(tape.path).state == "killed"


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_rows_are_coded_exactly(data: st.DataObject) -> None:
    """Whatever is in the rows, decoding gives it back."""
    whole = st.integers(-(2**63), 2**63 - 1)
    near = st.integers(1, 300)
    number = data.draw(st.sampled_from([whole, near]))
    count = data.draw(st.integers(1, 40))
    code, start, end = (
        np.array(data.draw(st.lists(number, min_size=count, max_size=count)), np.int64) for _ in range(3)
    )
    end[end == start - 1] = 0
    coding, raw = encode(code, start, end)
    for before, after in zip((code, start, end), decode(coding, raw, count), strict=True):
        assert before.tolist() == after.tolist()


@pytest.mark.parametrize("count", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1])
def test_blocks_of_every_size(tmp_path: Path, count: int) -> None:
    """Rows that fill a block exactly, and one less or more."""
    tape = Tape.create(tmp_path / "run.loop", {}, clock=ticks(1))
    nest(tape, [tape.name("event")], count)
    tape.close()
    recording = read(tape.path)
    assert (recording.spans, recording.losses) == (count, ())
    starts = recording.lanes[0].start
    assert set(np.diff(starts).tolist()) <= {2, 3}  # 3: the clock is read once more where a segment ends
    assert (recording.lanes[0].end == starts + 1).all()


BAD = {
    "empty": (b"", "FILE is empty. GIVE"),
    "short": (b"\x89LSC\r\n\x1a\n\1", "FILE ends within its first 32 bytes, nothing of it can be read. GIVE"),
    "text": (b"epoch,loss\n1,2\n", "FILE is no recording of loopscope. GIVE"),
    "zip": (b"PK\3\4" + bytes(50), "FILE is no recording of loopscope (it looks like a zip archive). GIVE"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "FILE is no recording of loopscope (it looks like a PNG image). GIVE"),
    "json": (b'{"a": 1}', "FILE is no recording of loopscope (it looks like JSON). GIVE"),
    "text mode": (
        b"\x89LSC\n\x1a\n" + bytes(50),
        "FILE was changed by a copy in text mode. Copy the original again, in binary mode.",
    ),
    "newer": (
        Head(2, 1, LIVE, PAGE).pack() + bytes(50),
        "FILE has format 2.1, and loopscope VERSION reads up to 1.x. "
        "Install a newer one: pip install --upgrade loopscope",
    ),
    "damaged head": (
        Head(1, 0, COMPACTED, 32).pack()[:-1] + b"\0\0",
        "FILE is damaged in its first 32 bytes. Give another copy of it.",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_are_no_recordings(tmp_path: Path, kind: str) -> None:
    """Each says what it looks like and what to give instead."""
    from loopscope import __version__

    data, expected = BAD[kind]
    path = tmp_path / "x.loop"
    path.write_bytes(data)
    with pytest.raises(BadRecording) as raised:
        read(path)
    give = "Give a recording, as `loopscope run` makes it."
    assert str(raised.value) == (
        expected.replace("FILE", str(path)).replace("GIVE", give).replace("VERSION", __version__)
    )


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a link to one, a misspelt name, a missing folder, a name that cannot be one."""
    (tmp_path / "run.loop").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    give = "Give a recording, as `loopscope run` makes it."
    for path, expected in {
        str(tmp_path): f"{tmp_path} is a folder. Give a recording in it, for example {tmp_path}/run.loop.",
        "link": "link is a folder. Give a recording in it, for example link/run.loop.",
        f"{tmp_path}/rum.loop": f"there is no file {tmp_path}/rum.loop. Did you mean '{tmp_path}/run.loop'? {give}",
        f"{tmp_path}/no/x": f"there is no file {tmp_path}/no/x. There is no folder {tmp_path}/no either. {give}",
        "dangling": f"there is no file dangling. It is a link to nowhere, which is not there. {give}",
        f"{tmp_path}/run.loop/x": f"'{tmp_path}/run.loop/x' cannot be read (Not a directory). {give}",
        "a\0b": f"'a\\x00b' cannot be read (embedded null byte). {give}",
    }.items():
        with pytest.raises(BadRecording) as raised:
            read(path)
        assert str(raised.value) == expected


def test_errors_carry_the_exit_status() -> None:
    """The command line ends with 2 for each of them."""
    assert {kind.exit_code for kind in (BadPath, BadRecording, BusyRecording)} == {2}
    assert all(issubclass(kind, LoopscopeError) for kind in (BadPath, BadRecording, BusyRecording))


def test_importing_the_writer_does_not_import_numpy() -> None:
    """A recorder that only writes does not pay for numpy until the file is closed."""
    shown = "print('numpy' in sys.modules)"
    code = f"import sys, loopscope.recording as r; r.Tape; {shown}; r.read; {shown}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue\n"


def test_a_misspelt_name() -> None:
    """A name that the package does not have is an attribute error, although some are found late."""
    with pytest.raises(AttributeError, match=r"^module 'loopscope.recording' has no attribute 'reed'$"):
        loopscope.recording.reed  # noqa: B018


SAMPLES = sorted(path.stem for path in RECORDINGS.glob("*.loop"))


def sample(name: str) -> dict[str, Any]:
    """What tools/sample_recordings.py said that the file holds."""
    content: dict[str, Any] = json.loads((RECORDINGS / f"{name}.json").read_text())
    return content


def test_there_are_samples() -> None:
    """Both layouts of each version are there."""
    assert SAMPLES == ["v1-closed", "v1-live"]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_version_stays_readable(name: str) -> None:
    """The committed sample files are read as they were when they were made, whole."""
    recording = read(RECORDINGS / f"{name}.loop")
    expected = sample(name)
    lanes = [{"number": lane.number, "thread": lane.thread} for lane in recording.lanes]
    for lane, rows in zip(lanes, rows_of(recording), strict=True):
        lane["rows"] = [list(row) for row in rows]
    assert {
        "version": list(recording.version),
        "state": recording.state,
        "header": recording.header,
        "names": list(recording.names.values()),
        "lines": list(recording.lines),
        "losses": list(recording.losses),
        "begin": recording.begin,
        "end": recording.end,
        "lanes": lanes,
    } == expected
    assert recording.spans == 122


def test_the_sample_tool_still_works(tmp_path: Path) -> None:
    """The tool that made the samples makes such files again; only what names the moment differs."""
    tool = ROOT / "tools" / "sample_recordings.py"
    subprocess.run([sys.executable, str(tool), str(tmp_path)], check=True, capture_output=True)
    assert left(tmp_path) == left(RECORDINGS)
    for name in SAMPLES:
        made = json.loads((tmp_path / f"{name}.json").read_text())
        assert [len(lane["rows"]) for lane in made["lanes"]] == [len(lane["rows"]) for lane in sample(name)["lanes"]]
        assert made["names"] == sample(name)["names"]


def example_reader() -> Callable[[Path], tuple[list[dict[str, Any]], dict[int, list[tuple[int, int, int]]]]]:
    """The reader in docs/format.md."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/format.md").read_text(), re.M | re.S)
    assert len(code.splitlines()) <= 60
    scope: dict[str, Any] = {}
    exec(compile(code, "docs/format.md", "exec"), scope)
    return scope["read"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_documented_format_is_the_format(name: str) -> None:
    """The reader on the page, which uses nothing of loopscope, reads the same from the samples."""
    lines, lanes = example_reader()(RECORDINGS / f"{name}.loop")
    recording = read(RECORDINGS / f"{name}.loop")
    assert list(lanes.values()) == rows_of(recording)
    assert lines[0] == {"k": "header", **recording.header}
    assert [line for line in lines[1:] if "id" in line] == list(recording.names.values())
    assert [line for line in lines[1:] if "id" not in line] == list(recording.lines)


def test_the_documented_coding_of_odd_rows(tmp_path: Path) -> None:
    """The page's reader decodes what no loop would give: open rows, negative and large numbers, many codes."""
    tape = Tape.create(tmp_path / "run.loop", {}, clock=lambda: 2**62)
    moments = random.Random(5)
    rows = tape.lane().rows
    for at in range(0, 900, 3):
        rows[at] = moments.choice([1, 2, 3 | 1 << 32, 70_000, -5, -(2**63)])
        rows[at + 1] = moments.randrange(2**61)
        rows[at + 2] = moments.choice([0, rows[at + 1], moments.randrange(2**61)])
    expected = [
        (code if end else code & 0xFFFFFFFF, start, end)
        for code, start, end in np.array(rows[:900]).reshape(-1, 3).tolist()
    ]
    tape.close()
    assert example_reader()(tape.path)[1] == {1: expected}
