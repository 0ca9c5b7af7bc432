"""Recording at ignite's dispatch: `Engine._fire_event`, swapped at class level for itself with stamps.

Every event and every handler call of every engine goes through that one function. Constraint: the lists of handlers are
never touched, nor asked for an event that ignite does not ask for (`attached.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ignite
from ignite.engine import Engine, Events

from loopscope.adapters.ignite.attached import Ids, attached, class_name, event_name, filtered, late, method_name
from loopscope.adapters.ignite.binding import Filters, bind, members
from loopscope.adapters.ignite.twins import Twins
from loopscope.model import Binding, Flags
from loopscope.stamped import Dispatch, Named, Point
from loopscope.stamped import calibrate as stamps
from loopscope.stamped.calibrating import least, turn

TWINS = Twins()

NAME = "event_name if event_name.__class__ is str else event_name._name_"
"""An event by its name: ignite's events hash and compare in Python."""

POINTS = (
    Point(
        Engine,
        "_fire_event",
        event=NAME,
        call="func",
        handler="func",
        handlers="self._event_handlers[event_name]",
        given=(("loopscope_twin", TWINS.made.get),),
        twin="loopscope_twin(id(func), func)",
    ),
)

DRAWING = ("GET_BATCH_STARTED", "DATALOADER_STOP_ITERATION", "GET_BATCH_COMPLETED")
OUTSIDE = ("STARTED", "EPOCH_STARTED", "EPOCH_COMPLETED", "COMPLETED", "TERMINATE", "TERMINATE_SINGLE_EPOCH")

BEFORE_STARTED = (None, Events.COMPLETED, Events.TERMINATE, Events.INTERRUPT, Events.EXCEPTION_RAISED)
"""What an engine fired last when STARTED comes next: behind it, what is late there is in the list."""


@dataclass(slots=True)
class IgniteNaming:
    """What the recorded dispatch calls things: `stamped.Naming`; ids are kept while a run of an engine is recorded."""

    known: dict[int, tuple[int, Ids]] = field(default_factory=dict)

    def event(self, event: Any) -> str:
        return event_name(event)

    def begin(self, obj: Engine) -> None:
        entries = attached(obj)
        runs, ids = self.known.get(id(obj), (0, None))
        self.known[id(obj)] = runs + 1, ids or Ids(entries)
        for one in entries:
            if one.asks is not None:
                TWINS.of(obj, one.call, DISPATCH.unknown)

    def end(self, obj: Engine) -> None:
        runs, ids = self.known.pop(id(obj), (1, Ids()))
        if runs > 1:
            self.known[id(obj)] = runs - 1, ids
        else:
            TWINS.let_go(obj)

    def ids(self, obj: Engine) -> Ids:
        """Return the ids of an engine's handlers, of none that is kept where no run of it is under way."""
        known = self.known.get(id(obj))
        return Ids(attached(obj)) if known is None else known[1]

    def listed(self, obj: Engine, listed: Any) -> Sequence[Any]:
        return [call for call, *_ in listed]

    def handler(self, obj: Engine, handler: Any, event: Any) -> Named | None:
        asks, function = filtered(handler)
        if asks is not None:
            TWINS.of(obj, handler, DISPATCH.unknown)
        return Named(self.ids(obj)(function), method_name(function), class_name(function), decides=asks is not None)

    def bind(self, obj: Engine) -> tuple[Binding, Flags]:
        entries = attached(obj)
        if obj.last_event_name in BEFORE_STARTED:
            entries += late(entries)
        found = members(obj, entries, self.ids(obj))
        return bind(found, Filters(None, None)), {}

    def where(self, obj: Engine) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the engine's state counts, from 0."""
        state, last = obj.state, event_name(obj.last_event_name or "")
        epoch = state.epoch - 1 if state.epoch > 0 else None
        if last in OUTSIDE:
            return epoch, None
        done = state.iteration if last in DRAWING else state.iteration - 1
        return epoch, done % state.epoch_length if state.epoch_length else done


NAMING = IgniteNaming()
DISPATCH = Dispatch("pytorch-ignite", ignite.__version__, POINTS, NAMING)
DISPATCHING = DISPATCH.codes
TWINS.watched = DISPATCH.watched


def verify() -> None:
    """Raise `UnknownVersion` if `Engine._fire_event` has not the shape that `attach` expects."""
    DISPATCH.verify()


def attach(obj: Any, sink: Any) -> Callable[[], None]:
    """Record every event and handler call of `obj` (None: of every engine) into `sink`; return what detaches it.

    Detaching works in any order, twice, and from inside a handler. Raises `UnknownVersion`.
    """
    verify()
    if obj is not None:
        return DISPATCH.watch(obj, obj, sink(obj))
    return DISPATCH.watch_all(lambda engine: DISPATCH.watch(engine, engine, sink(engine)))


def adopt(obj: Any) -> None:
    """Have an engine recorded that is met for the first time, by everybody who records all."""
    DISPATCH.adopt(obj)


def calibrate() -> dict[str, object]:
    """Return what recording costs in this process, in ns: `per_event`, `per_call`, `clock`, `framework_dispatch`.

    `framework_dispatch` is what ignite itself takes for an event of so many empty `callbacks`.
    """
    engine = Engine(_nothing)
    for _ in range(CALLBACKS):
        engine.add_event_handler(Events.ITERATION_STARTED, lambda _: None)
    taken = least(lambda: engine._fire_event(Events.ITERATION_STARTED)) - turn()
    return {**stamps(), "framework_dispatch": round(taken, 1), "callbacks": CALLBACKS}


def _nothing(engine: Engine, batch: Any) -> None:
    pass


CALLBACKS = 4
