"""Watches a real Keras run from outside: every event and handler call, by `sys.settrace`, with nothing patched.

The trace function looks only at the frames of CallbackList's own methods and at what these call directly. What a pool
of threads calls is kept apart. It is the independent witness that loopscope's map is compared with.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import keras
from keras.callbacks import Callback, CallbackList

from loopscope.adapters import keras as adapter
from loopscope.model import Loop, over
from loopscope.seen import Call, Fired

HOOKS = [name for name in vars(Callback) if name.startswith("on_")]
LOOPING = {
    f"_{name}" if f"_{name}" in vars(CallbackList) else name: name for name in HOOKS if name in vars(CallbackList)
}
"""Method of CallbackList that loops over the callbacks -> the event that it is: `_on_train_batch_end` has its own."""

DISPATCH = {vars(CallbackList)[method].__code__: event for method, event in LOOPING.items()}
HANDING = {vars(CallbackList)[event].__code__: event for method, event in LOOPING.items() if method != event}
ASYNC = CallbackList._async_dispatch.__code__
EMPTY = {vars(Callback)[name].__code__ for name in HOOKS}
NO_HANDLERS = {vars(CallbackList)[name].__code__ for name in ("_on_begin", "_on_end", "_flush_futures")} | {
    keras.src.utils.python_utils.pythonify_logs.__code__
}
RUNS = {inspect.unwrap(getattr(keras.Model, name)).__code__: name for name in ("fit", "evaluate", "predict")}
LOOKED_AT = {*DISPATCH, *RUNS, ASYNC}


@dataclass(eq=False)
class OpenCall:
    """A handler that is being called."""

    frame: FrameType
    handler: str
    inner: list[Fired] = field(default_factory=list)
    run: str | None = None


@dataclass(eq=False)
class OpenEvent:
    frame: FrameType
    name: str
    calls: list[Call] = field(default_factory=list)
    raised: str | None = None
    last_is_call: bool = False


@dataclass(eq=False)
class Thread:
    """What is under way in one thread; `empty` are the frames of Callback's own methods, which call older hooks."""

    out: list[Fired]
    events: list[OpenEvent] = field(default_factory=list)
    calls: list[OpenCall] = field(default_factory=list)
    empty: list[FrameType] = field(default_factory=list)


class Watch:
    """What happened in a run: `fired` as `parse.follow` takes it, `apart` what other threads called.

    `outcome` is the class name of what left the run, `error` that itself. `places` are (event, handler, "file:line").
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.fired: list[Fired] = []
        self.apart: list[Fired] = []
        self.outcome: str | None = None
        self.error: BaseException | None = None
        self.places: list[tuple[str, str, str]] = []
        self.loops: dict[str, Loop] = {}
        self.main = threading.get_ident()
        self.threads = {self.main: Thread(self.fired)}
        self.lists: list[Any] = []
        self.open: set[FrameType | None] = set()  # frames of which each call is looked at

    def nested(self, call: Call) -> Loop:
        return self.loops[call.run or ""]

    @property
    def order(self) -> list[str]:
        """The names of the events as they fired, those of nested runs left out."""
        return [event.event for event in self.fired]

    @contextmanager
    def __call__(self) -> Iterator[Watch]:
        before, before_thread = sys.gettrace(), threading.gettrace()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        try:
            yield self
        except BaseException as error:  # the outcome of a run is what is being watched
            self.outcome, self.error = type(error).__name__, error
        finally:
            sys.settrace(before)
            threading.settrace(before_thread)
            for one in self.lists:  # an exception leaves handlers of the pool behind that are not done
                concurrent.futures.wait(one._futures)

    def trace(self, frame: FrameType, kind: str, arg: object) -> Any:
        code = frame.f_code
        if code not in LOOKED_AT and (not self.open or frame.f_back not in self.open):
            return None  # nearly always: it is called for every function
        back = frame.f_back
        me = self.threads.get(threading.get_ident())
        if me is None:
            me = self.threads[threading.get_ident()] = Thread(self.apart)
        if me.events and back is me.events[-1].frame and code not in NO_HANDLERS:
            return self.called(me, frame, back)
        if me.empty and back is me.empty[-1] and code not in EMPTY:
            return self.called(me, frame, me.events[-1].frame)
        if code in DISPATCH:
            return self.event(me, frame, DISPATCH[code])
        if code is ASYNC and back is not None and back.f_code in HANDING:
            name = f"{HANDING[back.f_code]} handed over"
            self.fire(me, Fired(name))
            return self.leaving(lambda: self.fire(me, Fired(over(name))))
        if me.calls and code in RUNS:
            return self.run(me.calls[-1], frame)
        if me.events:
            me.events[-1].last_is_call = me.events[-1].last_is_call and back is not me.events[-1].frame
        return None

    def leaving(self, done: Any) -> Any:
        """A trace function for one frame that only waits for its end."""

        def trace(frame: FrameType, kind: str, arg: object) -> Any:
            frame.f_trace_lines = False
            if kind == "return":
                done()
            return trace

        return trace

    def fire(self, me: Thread, fired: Fired) -> None:
        (me.calls[-1].inner if me.calls else me.out).append(fired)

    def event(self, me: Thread, frame: FrameType, name: str) -> Any:
        opened = OpenEvent(frame, name)
        me.events.append(opened)
        self.open.add(frame)
        held = frame.f_locals["self"]
        if not any(held is one for one in self.lists):
            self.lists.append(held)

        def trace(frame: FrameType, kind: str, arg: Any) -> Any:
            frame.f_trace_lines = False
            if kind == "exception":
                opened.raised = arg[0].__name__
                if opened.last_is_call:
                    last = opened.calls[-1]
                    opened.calls[-1] = Call(last.handler, opened.raised, last.inner, last.run)
            elif kind == "return":
                me.events.remove(opened)
                self.open.discard(frame)
                self.fire(me, Fired(name, tuple(opened.calls), opened.raised if me.out is self.fired else None))
            return trace

        return trace

    def called(self, me: Thread, frame: FrameType, dispatch: FrameType) -> Any:
        event, code = me.events[-1], frame.f_code
        event.last_is_call = False
        if code in EMPTY:
            me.empty.append(frame)
            self.open.add(frame)
            return self.leaving(lambda: self.open.discard(me.empty.pop()))
        name = self.id(dispatch.f_locals["self"], dispatch.f_locals["callback"])
        self.places.append((event.name, name, f"{code.co_filename}:{code.co_firstlineno}"))
        opened = OpenCall(frame, name)
        me.calls.append(opened)

        def done() -> None:
            me.calls.remove(opened)
            event.calls.append(Call(name, None, tuple(opened.inner), opened.run))
            event.last_is_call = True

        return self.leaving(done)

    def run(self, call: OpenCall, frame: FrameType) -> Any:
        if call.run is None:
            code = frame.f_code
            names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            arguments = {name: frame.f_locals[name] for name in names}
            call.run = f"{RUNS[code]} {len(self.loops)}"
            tracing = sys.gettrace()
            sys.settrace(None)
            self.loops[call.run] = adapter.describe_call(frame.f_locals["self"], RUNS[code], arguments)
            sys.settrace(tracing)
        return None

    def id(self, held: Any, callback: Any) -> str:
        """Return the handler id of the map: the class, and the number in the list that Keras holds."""
        number = next(n for n, one in enumerate(held.callbacks, 1) if one is callback)
        return f"{type(callback).__name__}#{number}"
