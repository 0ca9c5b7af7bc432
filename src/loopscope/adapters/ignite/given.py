"""What is given as `cbs=`: pairs of an event and a function, attached as `add_event_handler` would attach them."""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from ignite.engine import Engine
from ignite.engine.events import CallableEventWithFilter, Events, EventsList
from ignite.engine.utils import _check_signature

from loopscope.adapters.ignite.attached import Attached, entry, event_name, walk_events
from loopscope.errors import BadCallback

EXAMPLE = "cbs=[(Events.EPOCH_COMPLETED, your_function)]"


def attached_by(engine: Engine, cbs: object) -> list[Attached]:
    """Return what `engine` would hold of `cbs`: `attached_by(engine, (Events.STARTED, hello))`; nothing is attached.

    Raises `BadCallback` for what is no pair, for an event that is not registered, and for a function that ignite
    cannot call with its engine, nor without.
    """
    return [one for pair in _pairs(cbs) for one in _attached(engine, *pair)]


def _pairs(cbs: object) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    if cbs is None:
        return
    several: Iterable[Any] = [cbs] if _is_pair(cbs) or not isinstance(cbs, (list, tuple)) else cbs
    for one in several:
        if not _is_pair(one):
            raise BadCallback(_refused(one))
        yield one[0], one[1], tuple(one[2:])


def _is_pair(one: Any) -> bool:
    if not isinstance(one, tuple) or len(one) < 2:
        return False
    return isinstance(one[0], (str, CallableEventWithFilter, EventsList)) and not isinstance(one[1], tuple)


def _refused(one: object) -> str:
    what = f"the class {one.__name__}" if isinstance(one, type) else f"{one!r} ({type(one).__name__})"
    if callable(getattr(one, "attach", None)):
        return f"{what} attaches itself: type its attach(engine, ...) before the map is asked for."
    if callable(one):
        return f"{what} does not say at which event it stands. Type {EXAMPLE}."
    return f"{what} is no pair of an event and a function. Type {EXAMPLE}."


def _attached(engine: Engine, event: Any, function: Any, args: tuple[Any, ...]) -> Iterator[Attached]:
    for one in event if isinstance(event, EventsList) else [event]:
        known = list(walk_events(engine))
        name = event_name(one)
        if one not in engine._allowed_events:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or difflib.get_close_matches(
                name.upper(), known, n=3, cutoff=0.5
            )
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise BadCallback(
                f"the event {name} is not registered with this {type(engine).__name__}.{hint} Registered: "
                f"{', '.join(known)}. One of your own has to be registered first: engine.register_events({name!r})."
            )
        if not callable(function):
            raise BadCallback(f"{function!r} ({type(function).__name__}) cannot be called. Type {EXAMPLE}.")
        asks = one.filter if isinstance(one, CallableEventWithFilter) else None
        given = _taken(engine, name, function, args)
        yield replace(entry(one, function, given, {}), asks=asks, mine=True)


def _taken(engine: Engine, event: str, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments as ignite keeps them: with the engine if the function takes it."""
    hands = {Events.EXCEPTION_RAISED.name: (Exception(),), Events.TERMINATE_SINGLE_EPOCH.name: (0,)}
    handed: tuple[Any, ...] = hands.get(event, ())
    for with_engine in (True, False):
        first: Iterable[Any] = (engine,) if with_engine else ()
        try:
            _check_signature(function, "handler", *first, *handed, *args)
        except ValueError as error:
            why = str(error)
        else:
            return (weakref.ref(engine), *args) if with_engine else args
    raise BadCallback(f"ignite cannot call this at {event}: {why}")
