"""Write a report or a trace to a file, which is whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from loopscope.errors import LoopscopeError
from loopscope.render.report import FORMATS, SORTS, SUFFIXES, Options, renderer

if TYPE_CHECKING:
    from loopscope.report import Report

__all__ = ["ALL", "SORTS", "format_of", "save", "written"]

ALL = (*FORMATS, "trace")
"""The formats that a recording can be saved in."""


def save(
    source: Path, report: Callable[[], Report], path: Path, format: str | None, options: Options, force: bool
) -> None:
    """Write the report of the recording `source`, or its trace, to `path`.

    Raises `LoopscopeError` if `path` is taken, unless `force`, or if it cannot be written.
    """
    free(path, force)
    if path.exists() and source.exists() and path.samefile(source):
        raise LoopscopeError(f"{path} is the recording itself. Give another file, for example {path.stem}.md.")
    format = format or format_of(path, "--format (format=)", SUFFIXES, ALL)
    if format != "trace":
        text = renderer(format).render(report(), options)
        with written(path, force) as out:
            out.write(text.encode())
        return
    from loopscope.placing import place
    from loopscope.recording import read
    from loopscope.render import trace
    from loopscope.spans import tracks

    placed = place(read(source))
    with written(path, force) as out:
        trace.write(out, tracks(placed), begin=placed.begin)


def format_of(path: Path, or_say: str, suffixes: Mapping[str, str], formats: Iterable[str]) -> str:
    """Return the format that the suffix of `path` stands for; `or_say` tells how else to name one of `formats`.

    Raises `LoopscopeError` for another suffix.
    """
    if path.suffix.lower() not in suffixes:
        known = ", ".join(f"{suffix} ({format})" for suffix, format in suffixes.items())
        raise LoopscopeError(
            f"the name {path.name} does not tell the format. Known: {known}; "
            f"or say it: {or_say} with one of {', '.join(formats)}."
        )
    return suffixes[path.suffix.lower()]


def free(path: Path, force: bool) -> None:
    """Raise `LoopscopeError` if a file cannot have this name, or may not."""
    if path.is_dir():
        raise LoopscopeError(f"{path} is a folder. Give a file, for example {path / 'report.md'}.")
    if not path.parent.is_dir():
        raise LoopscopeError(f"there is no folder {path.parent}. Make it first: mkdir -p {path.parent}")
    if path.exists() and not force:
        raise LoopscopeError(f"{path} exists already. Add --force (force=True) to overwrite it, or give another file.")


@contextlib.contextmanager
def written(path: Path, force: bool) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its name when all is written; what was there stays until then."""
    free(path, force)
    real = Path(os.path.realpath(path))
    try:
        handle, name = tempfile.mkstemp(prefix=f".{real.name[:100]}.", dir=real.parent)
    except OSError as error:
        raise LoopscopeError(f"{path} cannot be written ({error.strerror}). Give another file.") from None
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, real)
    except OSError as error:
        os.unlink(name)
        raise LoopscopeError(f"{path} cannot be written ({error.strerror}). Give another file.") from None
    except BaseException:
        os.unlink(name)
        raise
