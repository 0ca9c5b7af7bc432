"""The tape: rows of stamps in mapped memory that outlive the process, and lines that say what their numbers mean.

Constraints: nothing here raises into a training loop, a full disk included; a block is reserved before it is mapped (a
sparse mapping on a full disk ends the process with SIGBUS); a forked child never writes. Standard library only.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from loopscope.errors import BadValue
from loopscope.recording.disk import (
    amount,
    beside,
    is_at,
    may_replace,
    open_beside,
    publish,
    reserve,
    target,
    why,
    write_all,
)
from loopscope.recording.layout import (
    BLOCK_SIZE,
    CLOSED,
    LIVE,
    MAJOR,
    META,
    MINOR,
    MOST_LINE,
    PAGE,
    ROW,
    ROWS,
    BadPath,
    Block,
    Head,
    lock,
    unlock,
)

GRAIN = max(PAGE, mmap.ALLOCATIONGRANULARITY)
FIRST_ROWS, MOST_ROWS = 256 << 10, 8 << 20
"""Bytes of a lane's first block of rows, and of its largest; each is twice the one before."""
META_SIZE = 64 << 10
SPARED = 4 << 10
"""Bytes of a META block that only the last lines may use: why recording stopped must fit on a full disk."""
SCRATCH_ROWS = 1024

_tapes: weakref.WeakSet[Tape] = weakref.WeakSet()
_hooked = False


class Lane:
    """The rows of one thread, which alone writes them: `rows[at + 1] = clock(); rows[at] = code; lane.at = at + 3`.

    A row is three 64-bit integers: code, start, end (ns); `starts[at]` and `ends[at]` are `rows[at + 1]` and
    `rows[at + 2]`, a sum less. A lane whose tape stopped has private memory that wraps
    around, so that stamps go nowhere. Two threads of one identifier, one after the other, share a lane.
    """

    __slots__ = ("_size", "_tape", "at", "ends", "number", "rows", "starts")

    number: int
    rows: memoryview
    starts: memoryview
    ends: memoryview
    at: int

    def __init__(self, number: int, tape: Tape | None, rows: memoryview) -> None:
        self.number = number
        self.use(rows)
        self.at = 0
        self._tape = tape
        self._size = FIRST_ROWS

    def use(self, rows: memoryview) -> None:
        """Write into these rows from now on.

        Another thread may be on its way through a row: it reads `rows` last, and then all that it has read belongs
        together, or its code goes where nobody reads it.
        """
        self.rows = rows
        self.starts, self.ends = rows[1:], rows[2:]

    def begin(self, code: int, clock: Callable[[], int]) -> tuple[memoryview, int]:
        """Write a start stamp, where a call more does not matter; return the rows and where its own begins.

        Never raises.
        """
        rows, at = self.rows, self.at
        try:
            rows[at + 1] = clock()
            rows[at] = code
        except (IndexError, ValueError):  # full, or taken from a forked child
            self.more()
            rows, at = self.rows, self.at
            rows[at + 1] = clock()
            rows[at] = code
        self.at = at + 3
        return rows, at

    def more(self) -> None:
        """Provide rows from `at` on: call it when a store raised IndexError, then read `rows` and `at` again.

        Never raises. Memory that `rows` named before stays valid for whoever still holds it.
        """
        if self._tape is None:
            self.at = 0
        else:
            self._tape._extend(self)


class Tape:
    """A recording being written: `tape = Tape.create("run.loop", facts())`, `tape.lane()`, `tape.close()`."""

    path: Path
    clock: Callable[[], int]
    lanes: dict[int, Lane]
    stopped: str

    def __init__(self, path: Path, fd: int, limit: int, clock: Callable[[], int], on_stop: Callable[[], None] | None):
        """Used by `create` alone."""
        self.path = path
        self.clock = clock
        self.lanes = {}
        self.stopped = ""
        self._fd = fd
        self._limit = limit
        self._on_stop = on_stop
        self._lock = threading.RLock()  # reentrant: a signal handler may come here from here
        self._closed = False
        self._size = GRAIN
        self._blocks = 0
        self._names = 0
        self._line_at = self._line_end = 0
        self._views: list[weakref.ref[memoryview]] = []

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        header: Mapping[str, object],
        *,
        force: bool = False,
        limit: int = 4 << 30,
        clock: Callable[[], int] = time.perf_counter_ns,
        on_stop: Callable[[], None] | None = None,
    ) -> Tape:
        """Start a recording: `Tape.create("run.loop", {"command": sys.orig_argv})`.

        `force` overwrites a file, but never one that is being written; the old file is whole until the new one is
        there. `limit` is the most bytes that the file may reserve, `clock` returns nanoseconds, and `on_stop` is called
        once if recording stops early. The header line also gets `format`, `pid`, `clock`, and `wall_ns` and `clock_ns`,
        read together.

        Raises `BadPath` (a folder, no such folder, a file that exists or cannot be written, a full disk) or
        `BusyRecording`.
        """
        if not hasattr(os, "pwrite") or sys.byteorder != "little":
            raise BadPath(f"loopscope cannot record on {sys.platform}: it needs a little-endian POSIX system.")
        least = GRAIN + META_SIZE + FIRST_ROWS
        if limit < least:
            raise BadValue(f"limit={limit} bytes is too small. Give at least {least}.")
        real = target(path)
        old = may_replace(path, real, force)  # asked again when the new file is there
        if old is not None:
            os.close(old)
        fd, temporary = open_beside(path, real)
        tape = cls(real, fd, limit, clock, on_stop)
        try:
            lock(fd)
            tape._begin(header)
            publish(temporary, path, real, force)
        except BaseException as error:
            os.close(fd)
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError):
                raise BadPath(f"{path} cannot be written ({why(error)}). Give a file elsewhere.") from None
            raise
        _watch_forks()
        _tapes.add(tape)
        return tape

    def lane(self) -> Lane:
        """Return the calling thread's lane, made at its first use; one that keeps nothing if there is no room."""
        ident = threading.get_ident()
        lane = self.lanes.get(ident)
        if lane is not None:
            return lane
        lane = Lane(0, None, _scratch())
        try:
            with self._lock:
                if self._writable():
                    number = len(self.lanes) + 1
                    lane = Lane(number, self, self._segment(number, FIRST_ROWS))
                    self._hold(lane)
                    self._write(
                        {
                            "k": "lane",
                            "lane": number,
                            "thread": _thread_name(ident),
                            "native": threading.get_native_id(),
                        }
                    )
                self.lanes[ident] = lane
        except Exception as error:
            lane = self.lanes[ident] = Lane(0, None, _scratch())
            self.stop(why(error))
        return lane

    def name(self, kind: str, /, **fields: object) -> int:
        """Write a line that gives a new number a meaning: `tape.name("event", name="before_fit")` -> 1.

        Return 0 if it could not be written: the tape stopped or is closed, or the line is longer than 4 MiB or no JSON.
        A row with the code 0 counts as not begun: write none.
        """
        with self._lock:
            number = self._names + 1
            if not self._say({"k": kind, "id": number, **fields}):
                return 0
            self._names = number
            return number

    def line(self, kind: str, /, **fields: object) -> None:
        """Write a line without a number: `tape.line("binding", learner=1, clock=clock())`. Nothing if it cannot be."""
        self._say({"k": kind, **fields})

    def stop(self, why: str) -> None:
        """Record no more; say `why` in the file and once on stderr. The file still has to be closed."""
        with self._lock:
            if self.stopped or self._closed:
                return
            self.stopped = why
            self._to_scratch()
            with suppress(Exception):
                self._write({"k": "stop", "why": why, "clock": self.clock()}, last=True)
        with suppress(Exception):
            sys.stderr.write(
                f"loopscope: recording of {self.path} stopped: {why}; "
                "training goes on, the file holds what came before\n"
            )
            sys.stderr.flush()
        if self._on_stop is not None:
            with suppress(Exception):
                self._on_stop()

    def close(self, **fields: object) -> None:
        """End the recording: write the line "end" with `fields`, compact the file in place, give the lock back.

        On a full disk the file stays as large as it is, and is whole all the same.
        """
        with self._lock:
            if self._closed or self._fd < 0:
                return
            self._closed = True
            self._to_scratch()
            now = self.clock()
            try:
                with suppress(Exception):
                    self._write({"k": "end", "clock": now, **fields}, last=True)
                with suppress(Exception):
                    write_all(self._fd, Head(MAJOR, MINOR, CLOSED, GRAIN).pack(), 0)
                    self._compact(now)
            finally:
                fd, self._fd = self._fd, -1
                unlock(fd)  # mappings that frames still hold have duplicates of the descriptor
                os.close(fd)

    def _compact(self, now: int) -> None:
        """Put the compacted file in this one's place, unless somebody moved or replaced this one."""
        from loopscope.recording.compact import compact

        if is_at(self._fd, self.path):
            compact(self._fd, beside(self.path, "compacting"), self.path, now)

    def _begin(self, header: Mapping[str, object]) -> None:
        reserve(self._fd, 0, GRAIN)
        write_all(self._fd, Head(MAJOR, MINOR, LIVE, GRAIN).pack(), 0)
        clocks = {"clock": "perf_counter_ns", "clock_ns": self.clock(), "wall_ns": time.time_ns()}
        line = {"k": "header", **header, "format": [MAJOR, MINOR], "pid": os.getpid(), **clocks}
        if not self._write(line):
            raise BadPath(f"the header of {self.path} is longer than {MOST_LINE} bytes. Shorten the command line.")

    def _writable(self) -> bool:
        return not (self.stopped or self._closed)

    def _say(self, line: dict[str, object]) -> bool:
        try:
            with self._lock:
                return self._writable() and self._write(line)
        except Exception as error:
            self.stop(why(error))
            return False

    def _write(self, line: dict[str, object], *, last: bool = False) -> bool:
        """Append a line; False if it is too long or no JSON. The caller holds the lock."""
        try:
            text = json.dumps(line, separators=(",", ":"), default=str).encode() + b"\n"
        except (TypeError, ValueError, RecursionError):
            return False
        if len(text) > MOST_LINE:
            return False
        if self._line_at + len(text) > self._line_end - (0 if last else SPARED):
            offset, length = self._block(META, 0, max(META_SIZE, BLOCK_SIZE + len(text) + SPARED))
            self._line_at, self._line_end = offset + BLOCK_SIZE, offset + BLOCK_SIZE + length
        write_all(self._fd, text, self._line_at)
        self._line_at += len(text)
        return True

    def _block(self, kind: int, lane: int, size: int) -> tuple[int, int]:
        """Reserve a block of at least `size` bytes; return its place and the bytes of payload in it."""
        span = -(-size // GRAIN) * GRAIN
        if self._size + span > self._limit:
            raise _Stop(f"size limit of {amount(self._limit)} reached")
        offset = self._size
        reserve(self._fd, offset, span)
        length = span - BLOCK_SIZE
        if kind == ROWS:
            length -= length % ROW  # whole rows, so that a store behind the last one raises IndexError
        write_all(self._fd, Block(kind, 0, lane, self._blocks, span, length, 0, 0).pack(), offset)
        self._size += span
        self._blocks += 1
        return offset, length

    def _segment(self, lane: int, size: int) -> memoryview:
        """Return the rows of a new block. They stay mapped as long as anyone holds them, by their references alone."""
        offset, length = self._block(ROWS, lane, size)
        mapped = mmap.mmap(self._fd, BLOCK_SIZE + length, mmap.MAP_SHARED, offset=offset)
        return memoryview(mapped)[BLOCK_SIZE:].cast("q")

    def _hold(self, lane: Lane) -> None:
        """Remember what leads to the memory of a lane's rows, weakly: a forked child takes it away."""
        self._views = [view for view in self._views if view() is not None]
        self._views += map(weakref.ref, (lane.rows, lane.starts, lane.ends))

    def _extend(self, lane: Lane) -> None:
        """Give a lane its next rows. Only the lane's own thread calls this."""
        try:
            with self._lock:
                if self._writable():
                    lane._size = min(2 * lane._size, MOST_ROWS)
                    lane.use(self._segment(lane.number, lane._size))
                    self._hold(lane)
                    lane.at = 0
                    return
        except Exception as error:
            self.stop(why(error))
        lane._tape = None
        lane.use(_scratch())
        lane.at = 0

    def _to_scratch(self) -> None:
        # `at` stays: its thread may have read the old rows already and read `at` next, which must not be 0 then.
        for lane in list(self.lanes.values()):
            lane._tape = None
            lane.use(_scratch())

    def _forked(self) -> None:
        """In a forked child: let go of the file, which is the parent's.

        Stores into rows that frames hold raise ValueError from now on.
        """
        self._lock = threading.RLock()  # another thread of the parent may hold it
        self.stopped = "forked child"
        self._to_scratch()
        views = [view for one in self._views if (view := one()) is not None]
        mapped = {id(view.obj): view.obj for view in views}
        for view in views:
            with suppress(BufferError, ValueError):
                view.release()
        for memory in mapped.values():
            with suppress(BufferError, ValueError):
                memory.close()  # type: ignore[attr-defined]  # its duplicate of the descriptor would keep the lock
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._closed = True


class _Stop(Exception):
    """Why recording cannot go on, in words."""


def _watch_forks() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for tape in list(_tapes):
        with suppress(Exception):
            tape._forked()


def _scratch() -> memoryview:
    return memoryview(bytearray(SCRATCH_ROWS * ROW)).cast("q")


def _thread_name(ident: int) -> str:
    # not current_thread(), which would register a thread that Python did not start
    names = [thread.name for thread in threading.enumerate() if thread.ident == ident]
    return names[0] if names else f"thread {ident}"
