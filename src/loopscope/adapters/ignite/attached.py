"""Who is attached to an engine: its handlers in calling order, each with the function of the user's that it is about.

Ids are numbers in the order in which the engine's own lists are read; an object that stands at several events, a metric
or the owner of bound methods, keeps one. Constraint: `_event_handlers` makes a list for every event that it is asked
for, and ignite swallows errors once there is one for EXCEPTION_RAISED: it is never asked, only walked through.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ignite.engine import Engine
from ignite.handlers.time_profilers import BasicTimeProfiler


def inner_code(function: Callable[..., Any]) -> CodeType:
    """Return the code of the one function that a function of ignite's makes."""
    return next(const for const in function.__code__.co_consts if isinstance(const, CodeType))


WRAPPERS = {inner_code(Engine._handler_wrapper)}
"""The code of the function that ignite attaches in place of a handler whose event has a filter."""


@dataclass(frozen=True, slots=True, eq=False)
class Attached:
    """One entry of an engine's lists: `function` is what the user attached, `call` what ignite calls in its place.

    `event` is the event's name, `key` what ignite knows it by, `asks` the filter that decides, if there is one.
    """

    event: str
    key: Any
    call: Any
    function: Any
    asks: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mine: bool = False

    @property
    def owner(self) -> Any:
        """Return the object that the handler's id stands for: that of a bound method, else the function itself."""
        return owner(self.function)

    @property
    def takes_engine(self) -> bool:
        return bool(self.args) and isinstance(self.args[0], weakref.ref)

    @property
    def given(self) -> tuple[Any, ...]:
        """Return the arguments that were attached with the handler, the engine left out."""
        return self.args[1:] if self.takes_engine else self.args


def event_name(event: Any) -> str:
    """Return the name of an event: `event_name(Events.STARTED(every=2))` -> `"STARTED"`; a text is its own."""
    return event if isinstance(event, str) else str(event.name)


def attached(engine: Engine) -> list[Attached]:
    """Return everything that is attached to `engine`, event by event as its lists stand."""
    return [entry(key, *one) for key, listed in engine._event_handlers.items() for one in listed]


def late(entries: Iterable[Attached]) -> list[Attached]:
    """Return what stands behind the others at STARTED by the time it is called: there since the first one there ran.

    ignite's BasicTimeProfiler appends to the list of STARTED while the dispatch walks through it.
    """
    found = []
    for one in entries:
        if appends(one):
            last = one.owner._as_last_started
            found.append(replace(one, call=last, function=last, asks=None))
    return found


def appends(one: Attached) -> bool:
    """Return whether this is the handler with which BasicTimeProfiler attaches all its others."""
    return getattr(one.function, "__func__", None) is BasicTimeProfiler._as_first_started


def entry(key: Any, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Attached:
    """Return one entry of the list of event `key`."""
    asks, function = filtered(call)
    return Attached(event_name(key), key, call, function, asks, args, kwargs)


def timed(call: Any) -> Any:
    """Return what one wrapper of ignite's HandlersTimeProfiler is around while a run goes on, else `call` itself."""
    return vars(call).get("_profiler_original", call) if isinstance(call, FunctionType) else call


def filtered(call: Any) -> tuple[Callable[..., Any] | None, Any]:
    """Return the filter that ignite asks before it calls a handler, None where there is none, and the handler."""
    while (inner := timed(call)) is not call:  # twice around what an earlier run has not unwrapped
        call = inner
    if not isinstance(call, FunctionType) or call.__code__ not in WRAPPERS:
        return None, call
    cells = dict(zip(call.__code__.co_freevars, call.__closure__ or (), strict=True))
    return cells["event_filter"].cell_contents, cells["handler"].cell_contents


def owner(function: Any) -> Any:
    """Return the object that a handler belongs to: `owner(metric.completed)` -> `metric`."""
    if isinstance(function, MethodType):
        return function.__self__
    if isinstance(function, BuiltinFunctionType) and not isinstance(function.__self__, ModuleType | None):
        return function.__self__
    return function


def class_name(function: Any) -> str:
    """Return what a handler is called by: the class of its object, the name of a function, `lambda`."""
    one = owner(function)
    if isinstance(one, functools.partial):
        return class_name(one.func)
    if isinstance(one, (FunctionType, BuiltinFunctionType)):
        name = one.__name__
    else:
        name = one.__name__ if isinstance(one, type) else type(one).__name__
    return "lambda" if name == "<lambda>" else name


def method_name(function: Any) -> str:
    """Return what is called of a handler's object: the method, `__call__`, or the function itself."""
    if isinstance(function, functools.partial):
        return method_name(function.func)
    if isinstance(function, (MethodType, FunctionType, BuiltinFunctionType)):
        name = function.__name__
        return "lambda" if name == "<lambda>" else name
    return "__call__"


def owner_class(function: Any) -> type | None:
    """Return the class whose handler this is, None for a plain function."""
    one = owner(function)
    if isinstance(one, functools.partial):
        return owner_class(one.func)
    if isinstance(one, type):
        return one
    return None if isinstance(one, (FunctionType, BuiltinFunctionType)) else type(one)


class Ids:
    """Gives each attached object its id: `Ids(attached(engine))(metric.completed)` -> `"Accuracy#3"`.

    An object that is asked for later gets the next number; those that are known are kept alive.
    """

    def __init__(self, entries: Iterable[Attached] = ()) -> None:
        self.known: dict[int, tuple[Any, str]] = {}
        for one in entries:
            self(one.function)

    def __call__(self, function: Any) -> str:
        one = owner(function)
        if id(one) not in self.known:
            self.known[id(one)] = one, f"{class_name(function)}#{len(self.known) + 1}"
        return self.known[id(one)][1]


def walk_events(engine: Engine) -> Iterator[str]:
    """Yield the names of all events that are registered with an engine, once each, in the order of registration."""
    yield from dict.fromkeys(map(event_name, engine._allowed_events))
