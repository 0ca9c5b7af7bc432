"""What writer and reader agree on: the fixed head of a file, the header of a block, kinds, limits and the lock.

Constraint: standard library only. docs/format.md says the same in words; both change together.
"""

from __future__ import annotations

import errno
import struct
import zlib
from typing import NamedTuple

from loopscope.errors import LoopscopeError

try:
    import fcntl
except ImportError:  # Windows: no lock, and no recording; reading works
    fcntl = None  # type: ignore[assignment]

MAGIC = b"\x89LSC\r\n\x1a\n"
"""As PNG's: the first byte is no text, and the line ends show a copy that was made in text mode."""
MAJOR, MINOR = 1, 0

LIVE, CLOSED, COMPACTED = 1, 2, 3
"""States of a file: being written (or its writer died), ended cleanly in the live layout, ended and compacted."""

META, ROWS, ZMETA, ZROWS, END = 1, 2, 3, 4, 5
"""Kinds of blocks."""

DIFFERENCES = 1
"""The coding of the rows in a ZROWS block."""

MARK = b"LSB\n"
PAGE = 4096
"""Live blocks begin at multiples of this."""
ROW = 24
"""Bytes of a row: code, start, end."""
BLOCK_ROWS = 65_536
"""Most rows in a ZROWS block."""
MOST_META = 16 << 20
"""Most bytes that a ZMETA block may decode to."""
MOST_LINE = 4 << 20
"""Most bytes in one line."""

_HEAD = struct.Struct("<8sHHIIQI")
_BLOCK = struct.Struct("<4sHHIIQQQII")
HEAD_SIZE = _HEAD.size
BLOCK_SIZE = _BLOCK.size


class BadRecording(LoopscopeError, ValueError):
    """A file that cannot be read as a recording at all: missing, empty, foreign, damaged at its head, too new."""


class BadPath(LoopscopeError, ValueError):
    """A place where no recording can be written."""


class BusyRecording(LoopscopeError):
    """The file is being written at this moment."""


class Head(NamedTuple):
    """The first 32 bytes of every file, whatever its version."""

    major: int
    minor: int
    state: int
    start: int

    def pack(self) -> bytes:
        """Return the bytes, checksum included: `Head(1, 0, LIVE, 4096).pack()`."""
        body = _HEAD.pack(MAGIC, self.major, self.minor, self.state, self.start, 0, 0)[:-4]
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> Head | None:
        """Return the head in these `HEAD_SIZE` bytes, which start with `MAGIC`; None if the checksum does not fit."""
        _, major, minor, state, start, _, check = _HEAD.unpack(data)
        return cls(major, minor, state, start) if zlib.crc32(data[:-4]) == check else None


class Block(NamedTuple):
    """The header of a block. The next block begins `span` bytes after this one's header does."""

    kind: int
    coding: int
    lane: int
    number: int
    span: int
    length: int
    """Bytes of payload, directly behind the header."""
    items: int
    """Rows of a ZROWS block, decoded bytes of a ZMETA block, rows of the whole file in END; 0 in live blocks."""
    crc: int
    """crc32 of the payload; 0 in live blocks, whose payload still changes."""

    def pack(self) -> bytes:
        """Return the 48 bytes, with the checksum of the header itself at their end."""
        body = _BLOCK.pack(MARK, *self, 0)[:-4]
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> Block | None:
        """Return the header in these `BLOCK_SIZE` bytes; None if they are none."""
        mark, *fields, check = _BLOCK.unpack(data)
        whole = mark == MARK and zlib.crc32(data[:-4]) == check
        return cls(*fields) if whole else None


def lock(fd: int, *, shared: bool = False) -> bool | None:
    """Take the lock of an open file without waiting: True taken, False another has it, None no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) else None
    return True


def unlock(fd: int) -> None:
    """Give the lock back, for every duplicate of `fd` too (each mapping holds one)."""
    if fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            return
