"""The recording's file: a tape that a running loop writes, and what a reader makes of it.

`Tape` writes with the standard library alone; `read` needs numpy, which is imported when it is first asked for. Neither
knows a framework, nor holds a live object: a file has numbers, strings and stamps. docs/format.md describes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopscope.recording.header import facts
from loopscope.recording.layout import BadPath, BadRecording, BusyRecording
from loopscope.recording.writer import Lane, Tape

if TYPE_CHECKING:
    from loopscope.recording.reader import Recording, Rows, read

__all__ = ["BadPath", "BadRecording", "BusyRecording", "Lane", "Recording", "Rows", "Tape", "facts", "read"]


def __getattr__(name: str) -> object:
    if name not in ("Recording", "Rows", "read"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from loopscope.recording import reader  # numpy comes with it: a recorder does not pay for that

    return getattr(reader, name)
