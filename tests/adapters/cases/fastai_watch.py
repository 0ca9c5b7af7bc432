"""Watches a real fastai run from outside: every event and handler call, by `sys.settrace`, with nothing patched.

The trace function looks only at the frames of fastai's dispatch (`Learner._call_one`, `Callback.__call__`) and at
what these call directly. It is the independent witness that loopscope's map is compared with.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from fastai.callback.core import Callback
from fastai.learner import Learner
from fastcore.basics import GetAttr, getcallable, noop
from fastcore.xtras import modify_exception

from loopscope.adapters import fastai as adapter
from loopscope.model import Loop
from loopscope.seen import Call, Fired

CALL_ONE = Learner._call_one.__code__
CALLBACK_CALL = Callback.__call__.__code__
NOT_HANDLERS = {
    function.__code__ for function in (getcallable, noop, modify_exception, GetAttr.__getattr__, Callback.__setattr__)
}
RUNS = {getattr(Learner, name).__code__: name for name in ("fit", "validate", "get_preds", "_do_epoch_validate")}


@dataclass
class OpenCall:
    """A `Callback.__call__` that is under way; `handler` is set once it has called something."""

    frame: FrameType
    callback: Any
    handler: str | None = None
    code: CodeType | None = None
    raised: str | None = None
    inner: list[Fired] = field(default_factory=list)
    run: str | None = None


@dataclass
class OpenEvent:
    frame: FrameType
    name: str
    calls: list[Call] = field(default_factory=list)


class Watch:
    """What happened in a run: `fired` as `parse.follow` takes it, `outcome` the class name of what left the run."""

    def __init__(self, learn: Learner) -> None:
        self.learn = learn
        self.fired: list[Fired] = []
        self.outcome: str | None = None
        self.error: BaseException | None = None
        self.loops: dict[str, Loop] = {}
        self.events: list[OpenEvent] = []
        self.calls: list[OpenCall] = []
        self.codes: list[tuple[str, str, CodeType | None]] = []
        self.ids: dict[int, str] = {}
        self.met: list[Any] = []  # keeps those alive whose identity is a key of `ids`

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
        if code is CALL_ONE and frame.f_locals.get("self") is self.learn:
            self.events.append(OpenEvent(frame, frame.f_locals["event_name"]))
            frame.f_trace_lines = False
            return self.in_event
        if code is CALLBACK_CALL and self.events:
            self.calls.append(OpenCall(frame, frame.f_locals["self"]))
            frame.f_trace_lines = False
            return self.in_call
        if self.events and frame.f_back is self.events[-1].frame and code.co_name == "__call__":
            # a callback with a __call__ of its own: it may call its handlers through fastai's, or not
            name = self.id(frame.f_locals["self"])
            self.events[-1].calls.append(Call(name))
            self.codes.append((self.events[-1].name, name, code))
            return None
        if not self.calls:
            return None
        top = self.calls[-1]
        if frame.f_back is top.frame and code not in NOT_HANDLERS and top.handler is None:
            top.handler, top.code = self.id(top.callback), code
        elif code in RUNS and top.run is None and frame.f_locals.get("self") is self.learn:
            self.begin_nested(top, frame)
        return None

    def begin_nested(self, top: OpenCall, frame: FrameType) -> None:
        names = frame.f_code.co_varnames[1 : frame.f_code.co_argcount]
        arguments = {name: frame.f_locals[name] for name in names}
        top.run = f"{RUNS[frame.f_code]} {len(self.loops)}"
        tracing = sys.gettrace()
        sys.settrace(None)
        self.loops[top.run] = adapter.describe_call(self.learn, RUNS[frame.f_code], arguments)
        sys.settrace(tracing)

    def in_event(self, frame: FrameType, kind: str, arg: object) -> Any:
        if kind == "return":
            event = self.events.pop()
            done = Fired(event.name, tuple(event.calls))
            (self.calls[-1].inner if self.calls else self.fired).append(done)
        return self.in_event

    def in_call(self, frame: FrameType, kind: str, arg: Any) -> Any:
        top = self.calls[-1]
        if kind == "exception":
            top.raised = arg[0].__name__
        elif kind == "return":
            self.calls.pop()
            if top.handler is not None:
                self.events[-1].calls.append(Call(top.handler, top.raised, tuple(top.inner), top.run))
                self.codes.append((self.events[-1].name, top.handler, top.code))
        return self.in_call

    def id(self, callback: Any) -> str:
        """Return the handler id of the map: the class and the number at which the callback was added."""
        if id(callback) not in self.ids:
            number = next(n for n, one in enumerate(self.learn.cbs, 1) if one is callback)
            self.ids[id(callback)] = f"{type(callback).__name__}#{number}"
            self.met.append(callback)
        return self.ids[id(callback)]
