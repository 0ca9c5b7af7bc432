"""Run the user's program as python would, recorded from its first fit-like call to its end."""

from __future__ import annotations

import os
import sys
import threading
import types
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loopscope.errors import LoopscopeError
from loopscope.fitcalls import FitCalls
from loopscope.program import Program, execute, raised_by_program
from loopscope.recordings import LoopRecording
from loopscope.script import waited_for
from loopscope.session import LIMIT, Session, tell, where


@dataclass(frozen=True, slots=True)
class Recorded:
    """How to record a program: `Recorded(None)` makes `train.py.1234.loop`; `quiet` leaves the summary out."""

    path: Path | None = None
    force: bool = False
    limit: int = LIMIT
    quiet: bool = False


def run_recorded(program: Program, how: Recorded) -> None:
    """Run `program` to its end with every learner recorded; what it raises comes out of here.

    Afterwards its summary is written to stderr, which keeps it apart from what the program prints; behind an exception
    that left a run, one line says where. A program that makes no run leaves no file behind.
    """
    name = Path(program.target).name
    path = how.path or Path(f"{name}.{os.getpid()}.loop")
    try:
        session = Session(None, path, force=how.force, limit=how.limit).start()
    except LoopscopeError as refused:
        raise refused.with_traceback(None) from None  # from here, and not from within the program
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
    """Wait as python does at its end: a thread of the program may still train.

    Before that python tells pools of threads to end, whose threads would wait for work for ever.
    """
    for end in reversed(getattr(threading, "_threading_atexits", [])):
        with suppress(Exception):
            end()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            with suppress(KeyboardInterrupt, RuntimeError):
                thread.join()


def _over(session: Session, error: BaseException | None, quiet: bool) -> None:
    """End the recording, and say what there is to say."""
    if session.forked:
        return
    assert session.recorder is not None
    left = session.left_by(error)
    runs, calls = session.runs, session.calls
    there = session.there
    session.stop()
    with suppress(Exception):
        sys.stdout.flush()
    if not runs and not session.recorder.tape.stopped:
        if there:
            with suppress(OSError):
                session.file.unlink()
        if isinstance(error, LoopscopeError) and not raised_by_program(error):
            return  # there is no such program, which is what is said
        why = "" if session.unrecorded else f": the program made no fit-like call. {_waited(calls)}"
        tell(f"loopscope: nothing was recorded{why}")
        return
    recording = LoopRecording(session.file, session)
    line = f"loopscope: recorded in {session.name}; the whole of it: loopscope report {session.name}"
    if not there:
        line = f"loopscope: {session.name} is gone: something moved, removed or replaced it while the program ran"
    elif not quiet:
        try:
            sys.stderr.write("\n")  # a progress bar that was left has not ended its line
            recording.brief(sys.stderr)
        except (Exception, SystemExit) as broken:  # rich's own for a broken pipe; must not hide how the program ended
            line = f"loopscope: recorded in {session.name}, which cannot be shown: {broken}"
    if left is not None and error is not None:
        line = where(left, session.name) if there else line
        if not isinstance(error, SystemExit):  # of which python shows no traceback
            _say_behind(error, line)
            return
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
