"""Run the user's program as python would, recorded from the import of its framework to its end."""

from __future__ import annotations

import os
import sys
import threading
import types
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loopscope.fitcalls import FitCalls
from loopscope.program import Program, execute
from loopscope.recordings import LoopRecording
from loopscope.script import waited_for
from loopscope.session import LIMIT, Session, shown, tell, where


@dataclass(frozen=True, slots=True)
class Recorded:
    """How to record a program: `Recorded(None)` makes `train.py.1234.loop`; `quiet` leaves the report out."""

    path: Path | None = None
    force: bool = False
    limit: int = LIMIT
    quiet: bool = False


def run_recorded(program: Program, how: Recorded) -> None:
    """Run `program` to its end with every learner recorded; what it raises comes out of here.

    Afterwards the report is written to stderr, which keeps it apart from what the program prints; behind an exception
    that left a run, one line says where. A program that makes no run leaves no file behind.
    """
    name = Path(program.target).name
    path = how.path or Path(f"{name}.{os.getpid()}.loop")
    session = Session(None, path, force=how.force, limit=how.limit).start()
    error: BaseException | None = None
    try:
        execute(program)
    except BaseException as raised:
        error = raised
        raise
    finally:
        _join_threads()
        _over(session, error, how.quiet)


def _join_threads() -> None:
    """Wait as python does at its end: a thread of the program may still train."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            with suppress(KeyboardInterrupt, RuntimeError):
                thread.join()


def _over(session: Session, error: BaseException | None, quiet: bool) -> None:
    """End the recording, and say what there is to say."""
    if session.forked:
        return
    assert session.recorder is not None
    left = session.recorder.left
    runs, calls = session.runs, session.calls
    session.stop()
    with suppress(Exception):
        sys.stdout.flush()
    if not runs and not session.recorder.tape.stopped:
        with suppress(OSError):
            session.file.unlink()
        tell(f"loopscope: nothing was recorded: the program made no fit-like call. {_waited(calls)}")
        return
    recording = LoopRecording(session.file)
    line = f"loopscope: recorded in {shown(session.file)}; again: loopscope report {shown(session.file)}"
    if not quiet:
        try:
            recording.show(file=sys.stderr)
        except Exception as broken:  # must not hide how the program ended
            line = f"loopscope: recorded in {shown(session.file)}, which cannot be shown: {broken}"
    if left is not None and error is not None and left.key == id(error):
        _say_behind(error, where(left, session.file))
    else:
        tell(line)


def _waited(calls: FitCalls | None) -> str:
    return "" if calls is None else waited_for(calls)


def _say_behind(error: BaseException, line: str) -> None:
    """Have `line` written once python has shown `error`: there it is what one reads last."""
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], value: BaseException, trace: types.TracebackType | None) -> None:
        hook(kind, value, trace)
        if value is error:
            tell(line)

    sys.excepthook = excepthook
