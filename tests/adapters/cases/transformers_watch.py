"""Watches a real run of a Trainer from outside: every event and handler call, by `sys.settrace`, with nothing patched.

The trace function looks only at the frames of `CallbackHandler.call_event` and at what these call directly. It is the
independent witness that loopscope's map is compared with.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from transformers.trainer import Trainer
from transformers.trainer_callback import CallbackHandler, TrainerCallback

from loopscope.adapters import transformers as adapter
from loopscope.model import Loop
from loopscope.seen import Call, Fired

DISPATCH = CallbackHandler.call_event.__code__
HOOKS = [name for name in vars(TrainerCallback) if name.startswith("on_")]
EMPTY = {vars(TrainerCallback)[name].__code__ for name in HOOKS}
RUNS = {vars(Trainer)[name].__code__: name for name in ("train", "evaluate", "predict")}


@dataclass(eq=False)
class OpenCall:
    """A handler that is being called."""

    handler: str
    inner: list[Fired] = field(default_factory=list)
    run: str | None = None


@dataclass(eq=False)
class OpenEvent:
    """An event that is firing; `last_is_call`: the last thing that happened is that a handler returned or raised."""

    frame: FrameType
    name: str
    calls: list[Call] = field(default_factory=list)
    raised: str | None = None
    last_is_call: bool = False


class Watch:
    """What happened in a run: `fired` as `parse.follow` takes it.

    `outcome` is the class name of what left the run, `error` that itself. `places` are (event, handler, "file:line").
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.fired: list[Fired] = []
        self.outcome: str | None = None
        self.error: BaseException | None = None
        self.places: list[tuple[str, str, str]] = []
        self.loops: dict[str, Loop] = {}
        self.events: list[OpenEvent] = []
        self.calls: list[OpenCall] = []
        self.known: list[Any] = []  # the callbacks, in the order in which they were met

    def nested(self, call: Call) -> Loop:
        return self.loops[call.run or ""]

    @property
    def order(self) -> list[str]:
        """The names of the events as they fired, those of nested runs left out."""
        return [event.event for event in self.fired]

    @contextmanager
    def __call__(self) -> Iterator[Watch]:
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            yield self
        except BaseException as error:  # the outcome of a run is what is being watched
            self.outcome, self.error = type(error).__name__, error
        finally:
            sys.settrace(before)

    def trace(self, frame: FrameType, kind: str, arg: object) -> Any:
        code = frame.f_code
        if code is DISPATCH and frame.f_locals.get("self") is self.trainer.callback_handler:
            return self.event(frame)
        top = self.events[-1] if self.events else None
        if top is not None and frame.f_back is top.frame and _is_given(frame, top.frame.f_locals["state"]):
            return self.called(top, frame)
        if self.calls and code in RUNS and frame.f_locals.get("self") is self.trainer:
            self.run(self.calls[-1], frame)
        return None

    def event(self, frame: FrameType) -> Any:
        opened = OpenEvent(frame, frame.f_locals["event"])
        self.events.append(opened)
        for one in frame.f_locals["self"].callbacks if not self.known else ():
            self.known.append(one)

        def trace(frame: FrameType, kind: str, arg: Any) -> Any:
            if kind == "line":
                opened.last_is_call = False
            elif kind == "exception":
                opened.raised = arg[0].__name__
                if opened.last_is_call:
                    last = opened.calls[-1]
                    opened.calls[-1] = Call(last.handler, opened.raised, last.inner, last.run)
            elif kind == "return":
                self.events.remove(opened)
                fired = Fired(opened.name, tuple(opened.calls), opened.raised)
                (self.calls[-1].inner if self.calls else self.fired).append(fired)
            return trace

        return trace

    def called(self, event: OpenEvent, frame: FrameType) -> Any:
        code = frame.f_code
        if code in EMPTY:
            return None
        opened = OpenCall(self.id(event.frame.f_locals["callback"]))
        self.places.append((event.name, opened.handler, f"{code.co_filename}:{code.co_firstlineno}"))
        self.calls.append(opened)

        def trace(frame: FrameType, kind: str, arg: object) -> Any:
            frame.f_trace_lines = False
            if kind == "return":
                self.calls.remove(opened)
                event.calls.append(Call(opened.handler, None, tuple(opened.inner), opened.run))
                event.last_is_call = True
            return trace

        return trace

    def run(self, call: OpenCall, frame: FrameType) -> None:
        """Read the map of a run that begins inside a handler, with nothing traced meanwhile."""
        if call.run is not None:  # a run of that run: evaluate calls itself for each dataset
            return
        code = frame.f_code
        arguments = {name: frame.f_locals[name] for name in code.co_varnames[1 : code.co_argcount]}
        call.run = f"{RUNS[code]} {len(self.loops)}"
        tracing = sys.gettrace()
        sys.settrace(None)
        self.loops[call.run] = adapter.describe_call(self.trainer, RUNS[code], arguments)
        sys.settrace(tracing)

    def id(self, callback: Any) -> str:
        """Return the handler id of the map: the class, and the number in the list when the run began."""
        if not any(one is callback for one in self.known):
            self.known.append(callback)
        number = next(n for n, one in enumerate(self.known, 1) if one is callback)
        return f"{type(callback).__name__}#{number}"


def _is_given(frame: FrameType, state: Any) -> bool:
    """Whether a function was called with the state of the trainer, as handlers are: others are finalizers, look-ups."""
    values = list(frame.f_locals.values())
    return any(state is one or (isinstance(one, tuple) and any(state is part for part in one)) for one in values)
