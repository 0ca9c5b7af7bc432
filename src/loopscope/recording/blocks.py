"""From the bytes of a file to its blocks, whatever the bytes are: what cannot be followed is named and skipped."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

from loopscope.recording.layout import BLOCK_SIZE, COMPACTED, END, MARK, META, PAGE, ROWS, ZMETA, ZROWS, Block, Head

KINDS = (META, ROWS, ZMETA, ZROWS, END)
PIECE = 1 << 20


class Source:
    """Bytes with places: `Source(open("run.loop", "rb", 0)).read(0, 32)`. Reads; never maps."""

    def __init__(self, file: io.RawIOBase | io.BytesIO) -> None:
        self.file = file
        self.size = 0
        self.measure()

    def measure(self) -> None:
        """Look how large the file is now: one that is being written grows."""
        self.size = self.file.seek(0, io.SEEK_END)

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on; fewer at the end."""
        length = max(0, min(length, self.size - offset))
        data = bytearray(length)
        return bytes(memoryview(data)[: self.into(offset, memoryview(data))])

    def into(self, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on and return how many bytes there were."""
        self.file.seek(offset)
        done = 0
        while done < len(target):
            count = self.file.readinto(target[done:])
            if not count:
                break
            done += count
        return done


class Placed(NamedTuple):
    """A block and where its payload lies."""

    offset: int
    size: int
    """Bytes of payload that are there: less than `block.length` if the file ends before."""
    block: Block


class Walk(NamedTuple):
    """The blocks of a file in order, and what is wrong with them in sentences."""

    blocks: list[Placed]
    losses: list[str]


def walk(source: Source, head: Head) -> Walk:
    """Follow the blocks: `walk(source, head).blocks`. A damaged header is stepped over to the next whole one."""
    found = Walk([], [])
    at, number = head.start, 0
    compacted = head.state == COMPACTED
    while at < source.size:
        block = _block(source, at)
        if block is None:
            place, block = _next(source, at + 1, number, 1 if compacted else PAGE)
            if block is None:
                if compacted or not _zeros(source, at):  # zeros: reserved, and its process was killed before it went on
                    found.losses.append(f"block {number} is damaged or cut off: it and what came after are lost")
                return found
            found.losses.append(f"block {number} has a damaged header: {place - at:,} bytes are lost")
            at, number = place, block.number
        if not _take(found, source, at, block, number):
            return found
        number = max(number, block.number + 1)
        at += block.span
    if compacted:
        found.losses.append(f"the file ends before its end mark: what came after block {number - 1} is lost")
    return found


def _take(found: Walk, source: Source, at: int, block: Block, number: int) -> bool:
    """Add a block that stands where block `number` is due; False if it is the last."""
    size = min(block.length, source.size - at - BLOCK_SIZE)
    if block.number < number or block.kind not in KINDS:
        found.losses.append(f"block {block.number} is out of place, or of an unknown kind, and was left out")
    else:
        if block.number > number:
            found.losses.append(f"{block.number - number:,} blocks before block {block.number} are missing")
        found.blocks.append(Placed(at + BLOCK_SIZE, size, block))
        if block.kind == END:
            return False
    if size < block.length:
        found.losses.append(f"the file ends in the middle of block {block.number}: what came after is lost")
        return False
    return True


def _block(source: Source, at: int) -> Block | None:
    data = source.read(at, BLOCK_SIZE)
    block = Block.unpack(data) if len(data) == BLOCK_SIZE else None
    return None if block is None or block.span < BLOCK_SIZE + block.length else block


def _next(source: Source, at: int, number: int, step: int) -> tuple[int, Block | None]:
    """Return where the next whole header stands and what it says, of a block that has not been seen."""
    for offset, piece in _pieces(source, at, len(MARK) - 1):
        place = piece.find(MARK)
        while place >= 0:
            block = _block(source, offset + place) if (offset + place) % step == 0 else None
            if block is not None and block.number >= number:
                return offset + place, block
            place = piece.find(MARK, place + 1)
    return 0, None


def _zeros(source: Source, at: int) -> bool:
    return not any(piece.strip(b"\0") for _, piece in _pieces(source, at, 0))


def _pieces(source: Source, at: int, overlap: int) -> Iterator[tuple[int, bytes]]:
    while at < source.size:
        yield at, source.read(at, PIECE + overlap)
        at += PIECE
