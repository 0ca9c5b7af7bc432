"""What a recording asks of the disk: a new file that nobody else writes, room reserved in it, and words for errors."""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import time
import zlib
from contextlib import suppress
from pathlib import Path

from loopscope.recording.layout import BLOCK_SIZE, HEAD_SIZE, PAGE, BadPath, BusyRecording, Head, lock

FIRST_LINE = 64 << 10
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)

_serial = itertools.count()


def amount(number: int) -> str:
    """Return bytes in words: `amount(4 << 30)` -> `4 GiB`."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.4g} {name}"
    return f"{number} bytes"


def why(error: BaseException) -> str:
    """Return what went wrong, in words that can stand behind a colon: `disk full`."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error) or type(error).__name__
    if error.errno in FULL:
        return "disk full"
    if error.errno == errno.EFBIG:
        return "the system's limit on the size of a file is reached"
    return error.strerror or str(error)


def reserve(fd: int, offset: int, size: int) -> None:
    """Make these bytes of the file exist on the disk, as zeros; nothing stays reserved if that fails."""
    try:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(fd, offset, size)
                return
            except OSError as error:
                if error.errno not in NO_RESERVE:
                    raise
        for at in range(offset, offset + size, PAGE):
            write_all(fd, bytes(PAGE), at)
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, offset)
        raise


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write at a place of the file, all of it."""
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def beside(real: Path, what: str) -> Path:
    """Return a name in the same folder that is short whatever the file's own is."""
    return real.with_name(f".loopscope-{zlib.crc32(os.fsencode(real.name)):08x}-{what}")


def target(path: str | os.PathLike[str]) -> Path:
    """Return the file that `path` leads to, or say what is wrong with it."""
    try:
        given = os.fspath(path)
        real = Path(os.path.realpath(given))
        folder = real.is_dir()
    except OSError as error:
        raise BadPath(f"{path} cannot be written ({why(error)}). Give a file elsewhere.") from None
    except (TypeError, ValueError):
        raise BadPath(f"{path!r} is no path. Give the name of a file, for example run.loop.") from None
    if folder or not given or given.endswith(os.sep):
        what = "is a folder" if folder else "names no file"
        raise BadPath(f"{given!r} {what}. Give a file, for example {os.path.join(given, 'run.loop')}.")
    if not real.parent.is_dir():
        if os.path.lexists(real.parent):
            raise BadPath(f"{path} cannot be written: {real.parent} is not a folder. Give a file in a folder.")
        raise BadPath(f"there is no folder {real.parent}. Make it first: mkdir -p {real.parent}")
    return real


def open_beside(path: object, real: Path) -> tuple[int, Path]:
    """Make an empty file that nobody else makes, in the folder of `real`; return its descriptor and name."""
    temporary = beside(real, f"{os.getpid()}-{next(_serial)}")
    try:
        return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), temporary
    except OSError as error:
        raise BadPath(f"{path} cannot be written ({why(error)}). Give a file elsewhere.") from None


def may_replace(path: object, real: Path, force: bool) -> int | None:
    """Return a locked descriptor of the file that is there and may be overwritten, None if there is none."""
    try:
        kind = os.stat(real).st_mode
        if not stat.S_ISREG(kind):
            raise BadPath(f"{path} is not a regular file. Give the name of a new file, for example run.loop.")
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadPath(f"{path} exists and cannot be read ({why(error)}). Give another file.") from None
    try:
        if _held(fd):
            raise BusyRecording(f"{path} is being written by {_owner(fd)}. End that first, or give another file.")
        if not force:
            raise BadPath(f"{path} exists already. Add --force (force=True) to overwrite it, or give another file.")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _held(fd: int) -> bool:
    for _ in range(20):  # a reader holds the lock for the moment in which it asks for the writer's
        if lock(fd) is not False:
            return False
        time.sleep(0.01)
    return True


def _owner(fd: int) -> str:
    """`pid 123`, from the header of a recording that is being written."""
    with suppress(Exception):
        head = Head.unpack(os.pread(fd, HEAD_SIZE, 0))
        if head is not None:
            line, _, _ = os.pread(fd, FIRST_LINE, head.start + BLOCK_SIZE).partition(b"\n")
            return f"pid {int(json.loads(line)['pid'])}"
    return "another process"


def is_at(fd: int, path: Path) -> bool:
    """Whether this very file still has that name: it may have been moved or replaced."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def publish(temporary: Path, path: object, real: Path, force: bool) -> None:
    """Give the new file its name, unless another recording got there first."""
    for _ in range(100):
        old = may_replace(path, real, force)
        if old is None:
            try:
                os.link(temporary, real)
            except FileExistsError:
                continue
            except OSError:  # a file system without hard links
                os.rename(temporary, real)
                return
            os.unlink(temporary)
            return
        try:
            if is_at(old, real):
                os.replace(temporary, real)
                return
        finally:
            os.close(old)
    raise BadPath(f"{path} keeps changing. Give another file.")
