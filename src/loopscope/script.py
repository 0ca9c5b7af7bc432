"""Run the user's program as python would, up to its first fit-like call.

Constraint: processes that the program starts are left alone; a fit in one of them is neither seen nor stopped.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import NoReturn

from loopscope import adapters
from loopscope.errors import LoopscopeError
from loopscope.fitcalls import Call, FitCalls
from loopscope.model import Loop
from loopscope.program import Program, execute

FIT_LIKE_GROUP = "loopscope.fit_like"
"""The entry-point group in which other packages name calls that run a loop: any name = `module:Class.method`."""


class NoFit(LoopscopeError):
    """The program is over and made no fit-like call; `exit_code` is 2, or the status with which the program left."""

    def __init__(self, message: str, exit_code: int = LoopscopeError.exit_code) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StopAtFit(SystemExit):
    """What ends the program at its first fit-like call: a SystemExit, so that `except Exception` lets it pass."""


def describe(call: Call, cbs: object = None) -> Loop:
    """Return the loop that `call` would run; `cbs` are added to it and marked as one's own."""
    with call.lifted():
        loop = adapters.find(call.obj).describe_call(call.obj, call.method, call.arguments, cbs)
    return replace(loop, notes=(*loop.notes, call.note)) if call.note else loop


@functools.cache
def _registered() -> tuple[EntryPoint, ...]:
    """Return what installed packages register; to ask for it reads the metadata of them all, 0.1 s for some hundred."""
    return tuple(entry_points(group=FIT_LIKE_GROUP))


def known_calls() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return root -> module -> `Class.method`: those of `adapters.FIT_LIKE`, then those that packages registered."""
    calls = {root: dict(modules) for root, modules in adapters.FIT_LIKE.items()}
    for point in _registered():
        modules = calls.setdefault(point.module.partition(".")[0], {})
        modules[point.module] = (*modules.get(point.module, ()), point.attr)
    return calls


def first_fit(program: Program, on_fit: Callable[[Call], int], command: str = "show") -> NoReturn:
    """Run `program` up to its first fit-like call: `on_fit(call)` is asked at once and returns the exit status.

    Nothing of the call has run then. Afterwards `StopAtFit` unwinds the program, so its `finally` blocks and exit
    handlers do run. A program that swallows it and comes to another such call, or that made the call in another thread
    than the main one, is ended on the spot with `os._exit`: neither can be unwound from there. `command` is what the
    user typed.
    Raises `StopAtFit`, `NoFit`, or what the program itself raised.
    """
    first = _FirstFit(on_fit)
    calls = FitCalls(first, known_calls())
    calls.install()  # and never removed where the program leaves threads behind: one of them may still come to a fit
    try:
        execute(program)
    except SystemExit as end:
        if not first.reached:
            _no_fit(program, calls, end.code, command)
        if end.code:
            raise
    if not _other_threads():
        calls.remove()
    if first.reached:
        raise StopAtFit(first.status)
    _no_fit(program, calls, None, command)


@dataclass(slots=True)
class _FirstFit:
    """Asks `on_fit` at the first call and stops there; a second one ends the process."""

    on_fit: Callable[[Call], int]
    reached: bool = False
    status: int = 0

    def __call__(self, call: Call) -> NoReturn:
        if self.reached:
            _flush()
            with suppress(Exception):
                sys.stderr.write(
                    f"loopscope: the program caught the stop at its first fit and came to {call.method}: ended here.\n"
                )
            _end(self.status)
        self.reached = True
        self.status = self.on_fit(call)
        if threading.current_thread() is not threading.main_thread():
            _end(self.status)
        raise StopAtFit(self.status)


def _end(status: int) -> NoReturn:
    _flush()
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(Exception):  # closed, replaced or None: whatever it is, the others still need flushing
            stream.flush()  # type: ignore[union-attr]


def _other_threads() -> list[str]:
    current = threading.current_thread()
    return [one.name for one in threading.enumerate() if one is not current and not one.daemon]


def _no_fit(program: Program, calls: FitCalls, code: object, command: str) -> NoReturn:
    """Raise the error that says what was waited for; the text of `sys.exit("text")` comes first, as in python."""
    status = code if isinstance(code, int) else 1
    how = f"left with exit status {status}" if code else "ended"
    if code and not isinstance(code, int):
        _flush()
        sys.stderr.write(f"{code}\n")
    threads = _other_threads()
    running = f" Still running: {', '.join(threads)}; a call made there is shown." if threads else ""
    raise NoFit(
        f"{program} {how} without a fit-like call. {waited_for(calls)}{running}\n"
        f"If the training needs arguments, give them after the script: loopscope {command} {program} ARGS. "
        f"Calls in processes that the script starts are not seen.",
        status if code else LoopscopeError.exit_code,
    )


def waited_for(calls: FitCalls) -> str:
    """Return what was waited for, in a sentence: the calls of the frameworks that the program imported."""
    if not calls.found:
        return f"It imported no framework that loopscope knows ({', '.join(sorted(calls.watched))})."
    own = {root: [name for name in names if "._" not in name] for root, names in calls.found.items()}
    waited = [f"{root}'s {', '.join(dict.fromkeys(names))}" for root, names in sorted(own.items())]
    return f"Waited for {'; '.join(waited)}."
