"""Watches a real ignite run from outside: every event and handler call, by `sys.settrace`, with nothing patched.

The trace function looks only at the frames of `Engine.run` and `Engine._fire_event`, at the lines of the latter, and at
the function that ignite puts around a handler with a filter. It is the independent witness that loopscope's map is
compared with.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType
from typing import Any

from ignite.engine import Engine

from loopscope.adapters import ignite as adapter
from loopscope.model import Loop
from loopscope.seen import Call, Fired

RUN = Engine.run.__code__
FIRE = Engine._fire_event.__code__
WRAPPER = next(one for one in Engine._handler_wrapper.__code__.co_consts if isinstance(one, CodeType))


def line_of_call(function: Any, called: str) -> int:
    """The line of the one statement in which a function calls `called`."""
    lines, first = inspect.getsourcelines(function)
    calls = [one for one in ast.walk(ast.parse(textwrap.dedent("".join(lines)))) if isinstance(one, ast.Call)]
    return next(one.lineno for one in calls if ast.unparse(one.func) == called) + first - 1


CALLING = line_of_call(Engine._fire_event, "func")
HANDING_ON = line_of_call(Engine._handler_wrapper, "handler")


@dataclass(eq=False)
class Run:
    """A call of `Engine.run`; `loop` is its map, read when it began."""

    engine: Engine
    loop: Loop | None
    fired: list[Fired] = field(default_factory=list)


@dataclass(eq=False)
class OpenEvent:
    frame: FrameType
    name: str
    calls: list[Call] = field(default_factory=list)
    raised: str | None = None


@dataclass(eq=False)
class OpenCall:
    """A handler that may be called: `happened` says that it is, and that no filter keeps it from it."""

    frame: FrameType
    handler: Any
    happened: bool
    fired: list[Fired] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


class Watch:
    """What happened in a run: `fired` as `parse.follow` takes it, `outcome` the class name of what left the run."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.fired: list[Fired] = []
        self.outcome: str | None = None
        self.error: BaseException | None = None
        self.places: list[tuple[str, str, str]] = []
        self.open: list[Run | OpenEvent | OpenCall] = []
        self.runs: dict[str, list[Run]] = {}
        self.ids: dict[int, dict[int, tuple[str, Any]]] = {}

    def nested(self, call: Call) -> Loop | Sequence[tuple[Sequence[Fired], Loop]]:
        return [(run.fired, run.loop) for run in self.runs[call.run or ""] if run.loop is not None]

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
        if code is RUN:
            return self.run(frame)
        if code is FIRE and self.open:
            return self.event(frame)
        top = self.open[-1] if self.open else None
        if isinstance(top, OpenCall):
            if code is WRAPPER and frame.f_back is top.frame:
                return self.wrapper(top)
            self.code(top, code)
        return None

    def run(self, frame: FrameType) -> Any:
        engine = frame.f_locals["self"]
        if not self.open and engine is not self.engine:
            return None
        top = self.open[-1] if self.open else None
        run = Run(engine, None) if self.open else Run(engine, None, self.fired)
        if isinstance(top, OpenCall):
            names = frame.f_code.co_varnames[1 : frame.f_code.co_argcount]
            tracing = sys.gettrace()
            sys.settrace(None)
            run.loop = adapter.describe_call(engine, "run", {name: frame.f_locals[name] for name in names})
            sys.settrace(tracing)
            top.runs.append(run)
        self.number(engine)
        self.open.append(run)
        return self.until(run)

    def until(self, opened: Run) -> Any:
        def trace(frame: FrameType, kind: str, arg: object) -> Any:
            frame.f_trace_lines = False
            if kind == "return":
                self.open.remove(opened)
            return trace

        return trace

    def event(self, frame: FrameType) -> Any:
        name = frame.f_locals["event_name"]
        opened = OpenEvent(frame, name if isinstance(name, str) else name.name)
        self.open.append(opened)

        def trace(frame: FrameType, kind: str, arg: Any) -> Any:
            top = self.open[-1]
            if kind == "exception" and self.open:
                opened.raised = arg[0].__name__
            if isinstance(top, OpenCall) and top.frame is frame and kind != "exception":
                self.called(opened, top)
            if kind == "line":
                opened.raised = None
                if frame.f_lineno == CALLING:
                    call = frame.f_locals["func"]
                    asked = getattr(call, "__code__", None) is WRAPPER
                    self.open.append(OpenCall(frame, call.__wrapped__ if asked else call, not asked))
            elif kind == "return":
                self.open.remove(opened)
                self.fire(Fired(opened.name, tuple(opened.calls), opened.raised))
            return trace

        return trace

    def wrapper(self, call: OpenCall) -> Any:
        def trace(frame: FrameType, kind: str, arg: object) -> Any:
            call.happened |= kind == "line" and frame.f_lineno == HANDING_ON
            return trace

        return trace

    def called(self, event: OpenEvent, call: OpenCall) -> None:
        self.open.remove(call)
        if not call.happened:
            return
        inner = [*call.fired, *(one for run in call.runs for one in run.fired)]
        key = str(len(self.runs)) if call.runs else None
        if key is not None:
            self.runs[key] = call.runs
        event.calls.append(Call(self.id(call.handler), event.raised, tuple(inner), key))

    def fire(self, fired: Fired) -> None:
        top = self.open[-1]
        assert not isinstance(top, OpenEvent)
        top.fired.append(fired)

    def code(self, call: OpenCall, code: CodeType) -> None:
        """Take note of the function that a call really comes to, below decorators and partials."""
        function = call.handler
        while isinstance(function, functools.partial):
            function = function.func
        function = inspect.unwrap(function if inspect.isroutine(function) else type(function).__call__)
        if getattr(function, "__code__", None) is code:
            event = next(one for one in reversed(self.open) if isinstance(one, OpenEvent))
            place = event.name, self.id(call.handler), f"{code.co_filename}:{first_line(code)}"
            if place not in self.places:
                self.places.append(place)

    # -- ids ---------------------------------------------------------------------------------------------

    def number(self, engine: Engine) -> None:
        """Number what is attached, in the order of the engine's lists, once an engine is met."""
        if id(engine) not in self.ids:
            self.ids[id(engine)] = {}
            for listed in engine._event_handlers.values():
                for call, _, _ in listed:
                    self.id(call.__wrapped__ if getattr(call, "__code__", None) is WRAPPER else call, engine)

    def id(self, handler: Any, engine: Engine | None = None) -> str:
        """Return the id of the map: a name, and the number of the object in the order of attaching."""
        if engine is None:
            engine = next(one for one in reversed(self.open) if isinstance(one, OpenEvent)).frame.f_locals["self"]
        known = self.ids.setdefault(id(engine), {})
        owner = handler.__self__ if isinstance(handler, MethodType) else handler
        if isinstance(handler, BuiltinFunctionType) and not inspect.ismodule(handler.__self__):
            owner = handler.__self__
        if id(owner) not in known:
            named = owner
            while isinstance(named, functools.partial):
                named = named.func.__self__ if isinstance(named.func, MethodType) else named.func
            plain = isinstance(named, (FunctionType, BuiltinFunctionType, type))
            name = named.__name__ if plain else type(named).__name__
            known[id(owner)] = f"{'lambda' if name == '<lambda>' else name}#{len(known) + 1}", owner
        return known[id(owner)][0]


def first_line(code: CodeType) -> int:
    """The line of the `def`: code begins with its first decorator."""
    lines, first = inspect.getsourcelines(code)
    if code.co_name == "<lambda>":
        return first
    return first + next(n for n, line in enumerate(lines) if line.split()[:1] in (["def"], ["async"]))
