"""Rows as few bytes, and back: differences, sorted by code, their bytes in planes. zlib does the rest.

Constraints: exact for any 64-bit rows (arithmetic is modulo 2**64) but such as end 1 ns before they start; nothing here
depends on how rows are nested.
Measured on 65,536 rows like those of a real loop (8 events of 5-60 us with 1-4 handlers each, 12-15 % jitter), bytes
per row after zlib level 4: plain differences of the columns 3.50; start counted from the end of the row before where
that has ended 3.35; both sorted by code 3.12, which is this. All stamps in the order of time, also sorted, took 2.96,
but needs a proper nesting, a second coding where there is none, and a stack in every reader.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from loopscope.recording.layout import BLOCK_ROWS, DIFFERENCES

_PREFIX = struct.Struct("<qBBB")
MOST_RAW = _PREFIX.size + BLOCK_ROWS // 8 + 3 * 8 * BLOCK_ROWS
"""No block of rows decodes to more bytes than this."""

Array = Any
"""A numpy array: mypy does not follow numpy here."""


def encode(code: Array, start: Array, end: Array) -> tuple[int, bytes]:
    """Return the coding and the bytes of 1 to `BLOCK_ROWS` rows: `encode(*decode(coding, raw, 3)) == (coding, raw)`."""
    length = np.where(end == 0, 0, end - start + 1)
    before = _before(length)
    ahead = np.diff(start, prepend=start[:1])
    behind = (before != 0) & (ahead >= before - 1)  # it began when the row before had ended: count from that end
    ahead -= np.where(behind, before - 1, 0)
    order = _by_code(code)
    packed = [_planes(column) for column in (code, ahead[order], length[order])]
    widths, planes = zip(*packed, strict=True)
    flags = np.packbits(behind, bitorder="little").tobytes()
    return DIFFERENCES, b"".join([_PREFIX.pack(int(start[0]), *widths), flags, *planes])


def decode(coding: int, raw: bytes, count: int) -> tuple[Array, Array, Array]:
    """Return code, start and end of `count` rows. Raises ValueError for bytes that do not hold them."""
    if coding != DIFFERENCES:
        raise ValueError("a coding that this version does not know")
    if len(raw) < _PREFIX.size:
        raise ValueError("too short")
    base, *widths = _PREFIX.unpack_from(raw)
    at = _PREFIX.size + (count + 7) // 8
    if max(widths) > 8 or len(raw) != at + count * sum(widths):
        raise ValueError("of another length")
    behind = np.unpackbits(
        np.frombuffer(raw, np.uint8, at - _PREFIX.size, _PREFIX.size), count=count, bitorder="little"
    )
    columns = []
    for width in widths:
        columns.append(_column(raw, at, width, count))
        at += width * count
    code, ahead, length = columns
    order = _by_code(code)
    ahead[order], length[order] = ahead.copy(), length.copy()
    # the step to the next row is known without its start, so that all starts are one running sum
    ahead += np.where(behind, _before(length) - 1, 0)
    start = np.cumsum(ahead) + base
    return code, start, np.where(length == 0, 0, start + length - 1)


def _before(length: Array) -> Array:
    """Return the length of the row before each; the first has none, which reads like an open one."""
    return np.concatenate((np.zeros(1, np.int64), length[:-1]))


def _by_code(code: Array) -> Array:
    """Return the rows' numbers sorted by code, then by place: stamps of one kind stand together."""
    small = bool((code >= 0).all() and (code < 1 << 16).all())
    key = code if small else np.unique(code, return_inverse=True)[1]
    return np.argsort(key.astype(np.uint16), kind="stable")  # numpy sorts 16-bit numbers in linear time


def _planes(column: Array) -> tuple[int, bytes]:
    """Return how many bytes each value needs, and all lowest bytes, then all second bytes, and so on."""
    values = np.ascontiguousarray(column).view(np.uint64)
    width = (int(values.max()).bit_length() + 7) // 8
    return width, values.view(np.uint8).reshape(-1, 8).T[:width].tobytes()


def _column(raw: bytes, at: int, width: int, count: int) -> Array:
    values: Array = np.zeros((count, 8), np.uint8)
    values[:, :width] = np.frombuffer(raw, np.uint8, width * count, at).reshape(width, count).T
    return values.view(np.int64).reshape(count)
