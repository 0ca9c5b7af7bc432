"""A recording read into arrays, whatever state its file is in: closed, still running, killed, or damaged.

Constraints: reads, never maps (a mapping of a file that shrinks ends the process); never raises anything but a
LoopscopeError; memory in proportion to the file; a running file is read as it was at one moment.
"""

from __future__ import annotations

import difflib
import itertools
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopscope import __version__
from loopscope.errors import LoopscopeError
from loopscope.recording import checked, live
from loopscope.recording.blocks import Placed, Source, walk
from loopscope.recording.coding import MOST_RAW, Array, decode
from loopscope.recording.layout import (
    BLOCK_ROWS,
    CLOSED,
    COMPACTED,
    END,
    HEAD_SIZE,
    LIVE,
    MAGIC,
    MAJOR,
    ZROWS,
    BadRecording,
    Head,
    lock,
    unlock,
)
from loopscope.recording.lines import Story, inflate, plain, unpacked

FOREIGN = {
    b"PK": "a zip archive",
    b"\x89PNG": "a PNG image",
    b"\x1f\x8b": "a gzip archive",
    b"{": "JSON",
    b"[": "JSON",
    b"\x80": "a pickle",
    b"\x7fELF": "a program",
}
GIVE = "Give a recording, as `loopscope run` makes it."
DAY = 86_400 * 10**9


@dataclass(frozen=True)
class Rows:
    """The calls of one thread, in the order of their start: `rows.end - rows.start`, all in nanoseconds.

    The arrays are int64, of one length, and may be views. `end` is 0 where a call had not ended.
    """

    number: int
    thread: str
    code: Array
    start: Array
    end: Array

    def name(self) -> Array:
        """Return the number of each row's name, a key of `Recording.names`."""
        return self.code & 0xFFFFFFFF

    def outcome(self) -> Array:
        """Return 0, or the number of the exception class that the call ended with."""
        return self.code >> 32


@dataclass(frozen=True)
class Recording:
    """What a file holds: `read("run.loop").lanes[0].start`."""

    path: str
    version: tuple[int, int]
    state: str
    """`closed`, `running` or `killed`."""
    header: dict[str, Any]
    names: dict[int, dict[str, Any]]
    lines: tuple[dict[str, Any], ...]
    """All lines that are neither the header nor a name's, in order."""
    lanes: tuple[Rows, ...]
    losses: tuple[str, ...]
    """What is missing, in sentences; empty if nothing is."""
    begin: int
    """The clock when recording began, in ns."""
    end: int
    """The clock when it was closed; the last stamp if it was not."""
    now: int | None
    """The clock at the moment of reading, where the recording is still running."""
    size: int
    """Bytes of the file."""
    spans: int
    """Rows in all lanes."""


def read(path: str | os.PathLike[str]) -> Recording:
    """Read a recording: `read("run.loop").spans`.

    Works on a file that is being written, and on one whose process was killed. What is missing stands in `losses`.
    Raises `BadRecording` if there is no such file, or it is no recording, or one of a newer major version.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return read_source(Source(file), os.fspath(path), file.fileno())
    except FileNotFoundError:
        raise BadRecording(f"there is no file {path}.{_near(path)} {GIVE}") from None
    except IsADirectoryError:
        raise BadRecording(f"{path} is a folder. Give a recording in it, for example {path}/run.loop.") from None
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, LoopscopeError):
            raise
        why = getattr(error, "strerror", None) or error
        raise BadRecording(f"{path!r} cannot be read ({why}). {GIVE}") from None


def read_source(source: Source, path: str, fd: int | None = None) -> Recording:
    """Read from any source of bytes; `fd` is the descriptor whose lock says whether a writer is alive."""
    head = _head(source, path)
    state = _state(head, fd)
    if state == "killed":  # the writer is gone, but it may have closed the file since the head was read
        head = _head(source, path)
        state = _state(head, None) if head.state != LIVE else state
    source.measure()
    found = walk(source, head)
    if head.state == COMPACTED:
        story = Story.of(unpacked(source, found.blocks, found.losses), found.losses)
        lanes = _compacted(source, found.blocks, story)
    else:
        tables = live.tables(source, found.blocks, running=state in ("running", "unknown"))
        if state != "closed":  # names of the rows just read may stand in a block that is new
            source.measure()
            found = walk(source, head)
        story = Story.of(plain(source, found.blocks), found.losses)
        lanes = _live(tables, story)
    if state == "unknown":
        state = "running" if story.writer_is_alive() else "killed"
    return _recording(path, head, state, story, lanes, source.size)


def _head(source: Source, path: str) -> Head:
    data = source.read(0, HEAD_SIZE)
    if not source.size:
        raise BadRecording(f"{path} is empty. {GIVE}")
    if data[:4] == MAGIC[:4] and data[:8] != MAGIC and len(data) >= 8:
        raise BadRecording(f"{path} was changed by a copy in text mode. Copy the original again, in binary mode.")
    if data[:8] != MAGIC[: len(data)]:
        kind = next((f" (it looks like {name})" for start, name in FOREIGN.items() if data.startswith(start)), "")
        raise BadRecording(f"{path} is no recording of loopscope{kind}. {GIVE}")
    if len(data) < HEAD_SIZE:
        raise BadRecording(f"{path} ends within its first {HEAD_SIZE} bytes, nothing of it can be read. {GIVE}")
    head = Head.unpack(data)
    if head is not None and head.major > MAJOR:
        raise BadRecording(
            f"{path} has format {head.major}.{head.minor}, and loopscope {__version__} reads up to {MAJOR}.x. "
            "Install a newer one: pip install --upgrade loopscope"
        )
    if head is None or head.state not in (LIVE, CLOSED, COMPACTED) or head.start < HEAD_SIZE:
        raise BadRecording(f"{path} is damaged in its first {HEAD_SIZE} bytes. Give another copy of it.")
    return head


def _state(head: Head, fd: int | None) -> str:
    if head.state != LIVE:
        return "closed"
    if fd is None:
        return "killed"
    free = lock(fd, shared=True)
    if free:
        unlock(fd)  # at once: somebody may be about to write to this path
    return {True: "killed", False: "running", None: "unknown"}[free]


def _compacted(source: Source, blocks: list[Placed], story: Story) -> list[Rows]:
    """Decode the blocks of each lane into one set of arrays."""
    wanted: dict[int, list[Placed]] = {}
    for place in blocks:
        if place.block.kind == ZROWS:
            wanted.setdefault(place.block.lane, []).append(place)
    lanes = [_decoded(source, number, places, story) for number, places in sorted(wanted.items())]
    total = sum(place.block.items for place in blocks if place.block.kind == END)
    if (missing := total - sum(len(rows.code) for rows in lanes)) > 0:
        story.losses.append(f"{missing:,} of {total:,} rows are missing in all")
    return lanes


def _decoded(source: Source, number: int, places: list[Placed], story: Story) -> Rows:
    most = sum(min(place.block.items, BLOCK_ROWS) for place in places)
    columns: list[Array] = [np.empty(most, np.int64) for _ in range(3)]
    at = 0
    for place in places:
        parts = _rows(source, place)
        if parts is None:
            what = f"{place.block.items:,} rows of thread {story.thread(number)} are missing"
            story.losses.append(f"block {place.block.number} fails its checksum: {what}")
            continue
        for column, part in zip(columns, parts, strict=True):
            column[at : at + len(part)] = part
        at += len(parts[0])
    return _lane(number, [column[:at] for column in columns], story)


def _rows(source: Source, place: Placed) -> tuple[Array, Array, Array] | None:
    raw = inflate(source, place, MOST_RAW) if 0 < place.block.items <= BLOCK_ROWS else None
    try:
        return None if raw is None else decode(place.block.coding, raw, place.block.items)
    except ValueError:
        return None


def _live(tables: dict[int, Array], story: Story) -> list[Rows]:
    closed = story.closed()
    lanes = []
    for number, table in sorted(tables.items()):
        then = table if closed is None else live.cut(table, closed)
        lanes.append(_lane(number, [then[:, column] for column in range(3)], story))
    return lanes


def _lane(number: int, columns: list[Array], story: Story) -> Rows:
    """Leave out what cannot be, and say so."""
    latest = story.closed()
    if latest is None:
        now = story.now()
        latest = None if now is None else now + DAY  # clocks of two hosts differ
    keep = checked.possible(columns, story.names, story.stamp("clock_ns") or 0, latest)
    thread = story.thread(number)
    if keep is not None:
        lost = int(len(keep) - keep.sum())
        columns = [column[keep] for column in columns]
        why = "an unknown name, or a time that cannot be"
        story.losses.append(f"{lost:,} rows of thread {thread} are damaged ({why}) and were left out")
    return Rows(number, thread, *columns)


def _recording(path: str, head: Head, state: str, story: Story, lanes: list[Rows], size: int) -> Recording:
    stamps = [int(column.max()) for rows in lanes if len(rows.start) for column in (rows.start, rows.end)]
    starts = [int(rows.start[0]) for rows in lanes if len(rows.start)]
    begin = story.stamp("clock_ns")
    if begin is None:
        begin = min(starts, default=0)
    closed = story.closed() if state == "closed" else None
    end = max(stamps, default=begin) if closed is None else closed
    now = story.now() if state == "running" else None
    return Recording(
        path=path,
        version=(head.major, head.minor),
        state=state,
        header=story.header,
        names=story.names,
        lines=tuple(story.lines),
        lanes=tuple(lanes),
        losses=tuple(story.losses),
        begin=begin,
        end=end,
        now=None if now is None else max(now, end),
        size=size,
        spans=sum(len(rows.start) for rows in lanes),
    )


def _near(path: object) -> str:
    """` Did you mean 'run.loop'?`, from the names in the folder of a file that is not there."""
    if os.path.islink(str(path)):
        return f" It is a link to {os.readlink(str(path))}, which is not there."
    folder, name = os.path.split(os.fspath(str(path)))
    try:
        with os.scandir(folder or ".") as entries:
            there = [entry.name for entry in itertools.islice(entries, 5000)]
    except OSError:
        return f" There is no folder {folder} either." if folder and not os.path.isdir(folder) else ""
    near = difflib.get_close_matches(name, there, n=1)
    return f" Did you mean {os.path.join(folder, near[0])!r}?" if near else ""
