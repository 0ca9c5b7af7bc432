"""The lines of a file: the header, what each number means, and whatever else was written down, sorted and checked."""

from __future__ import annotations

import json
import os
import platform
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loopscope.recording.blocks import Placed, Source
from loopscope.recording.layout import META, MOST_META, ZMETA


@dataclass
class Story:
    """What the lines of a file say, and what is wrong with it so far."""

    header: dict[str, Any]
    names: dict[int, dict[str, Any]]
    lines: list[dict[str, Any]]
    threads: dict[int, str]
    losses: list[str]

    @classmethod
    def of(cls, texts: Iterator[bytes], losses: list[str]) -> Story:
        """Sort lines by what they are; `texts` are stretches of whole lines."""
        story = cls({}, {}, [], {}, losses)
        bad = sum(not story.add(text) for stretch in texts for text in stretch.split(b"\n") if text)
        if bad:
            losses.append(f"{bad:,} lines of names or facts cannot be read")
        if not story.header:
            losses.append("the header is missing: nothing is known of the process")
        for line in story.lines:
            if line["k"] == "stop":
                losses.append(f"recording stopped early: {line.get('why')}; what came after is not in the file")
        return story

    def add(self, text: bytes) -> bool:
        """Take one line; False if it is none."""
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return False
        if not isinstance(line, dict) or not isinstance(line.get("k"), str):
            return False
        number = line.get("id")
        if number is not None:
            if type(number) is not int or not 0 < number < 1 << 31:
                return False
            self.names[number] = line
        elif line["k"] == "header":
            self.header = {key: value for key, value in line.items() if key != "k"}
        else:
            self.lines.append(line)
            if line["k"] == "lane" and isinstance(line.get("lane"), int):
                self.threads[line["lane"]] = str(line.get("thread"))
        return True

    def stamp(self, key: str) -> int | None:
        """Return a time of the header, in ns."""
        return _stamp(self.header.get(key))

    def closed(self) -> int | None:
        """Return the clock at which the recording was closed."""
        ends = [_stamp(line.get("clock")) for line in self.lines if line["k"] == "end"]
        return ends[-1] if ends else None

    def now(self) -> int | None:
        """Return what the writer's clock shows at this moment, by the pair of times in the header."""
        clock, wall = self.stamp("clock_ns"), self.stamp("wall_ns")
        return None if clock is None or wall is None else clock + time.time_ns() - wall

    def writer_is_alive(self) -> bool:
        """Guess, where there are no locks: a process of that number exists on this host."""
        pid = self.header.get("pid")
        if self.header.get("host") not in (None, platform.node()) or type(pid) is not int or pid <= 0:
            return False
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        except (OSError, OverflowError):
            return False
        return True

    def thread(self, lane: int) -> str:
        """Return the name of a lane's thread."""
        return self.threads.get(lane, f"thread {lane}")


def _stamp(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def plain(source: Source, blocks: list[Placed]) -> Iterator[bytes]:
    """Yield the lines of a live file's blocks; zeros stand behind them, and a last line without its end is dropped."""
    for place in blocks:
        if place.block.kind == META:
            text = source.read(place.offset, place.size).partition(b"\0")[0]
            yield text[: text.rfind(b"\n") + 1]


def unpacked(source: Source, blocks: list[Placed], losses: list[str]) -> Iterator[bytes]:
    """Yield the lines of a compacted file's blocks, and note those that are damaged."""
    for place in blocks:
        if place.block.kind == ZMETA:
            text = inflate(source, place, MOST_META)
            if text is None:
                losses.append(f"block {place.block.number} fails its checksum: names and facts are missing")
            else:
                yield text


def inflate(source: Source, place: Placed, most: int) -> bytes | None:
    """Return what a block decodes to, None if it is damaged; never more than `most` bytes."""
    data = source.read(place.offset, place.block.length)
    if len(data) < place.block.length or zlib.crc32(data) != place.block.crc:
        return None
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, most + 1)
    except zlib.error:
        return None
    return raw if inflater.eof and len(raw) <= most else None
