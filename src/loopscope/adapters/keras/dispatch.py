"""Recording at Keras's dispatch: the methods of `CallbackList`, swapped at class level for themselves with stamps.

What a pool of threads calls is written by these threads; the main thread's rows say when it was handed over. Nothing of
a callback is wrapped: Keras looks at the hooks of callbacks to decide what the pool may call.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import keras
from keras.callbacks import CallbackList

from loopscope.adapters.keras.binding import bind
from loopscope.adapters.keras.members import EVENT_NAMES, Member, nth
from loopscope.adapters.keras.protocol import handed_over
from loopscope.adapters.keras.reading import of_keras
from loopscope.model import Binding, Flags
from loopscope.source import unwrap
from loopscope.stamped import Dispatch, Named, Point

KEY = "self._model if '_model' in self.__dict__ else loopscope_model(self)"


def model_of(held: object) -> Any:
    """Return the model whose run a CallbackList serves, None if that is not known.

    One that was made without a model does not know it: then it is the model whose fit, evaluate or predict calls it,
    which is remembered, because what a pool of threads calls is not called from there.
    """
    if not isinstance(held, CallbackList):
        return None
    if "_model" in held.__dict__:
        return held._model
    known = _MODELS.get(held)
    if known is not None and known() is not None:
        return known()
    frame = next(_running(sys._getframe(1)), None)
    model = None if frame is None else frame.f_locals.get("self")
    if model is not None:
        _MODELS[held] = weakref.ref(model)
    return model


_MODELS: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()


def _running(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of Keras's own fit, evaluate and predict that are under way, the innermost first."""
    while frame is not None:
        if frame.f_code in _CODES:
            yield frame
        frame = frame.f_back


def _codes() -> Iterator[CodeType]:
    for name in ("fit", "evaluate", "predict"):
        function = unwrap(of_keras(keras.Sequential, name))
        if function is not None:
            yield function.__code__


_CODES = frozenset(_codes())


def _point(method: str, event: str) -> Point:
    call = f"callback.{event}"
    return Point(CallbackList, method, repr(event), call, "callback", "self.callbacks", KEY, GIVEN)


GIVEN = (("loopscope_model", model_of),)

POINTS = tuple(
    point
    for point in (
        *(_point(f"_{event}" if f"_{event}" in vars(CallbackList) else event, event) for event in EVENT_NAMES),
        Point(CallbackList, "_async_dispatch", "fn.__name__", "", "", "", KEY, GIVEN),
    )
    if point.name in vars(CallbackList)  # an older Keras has no pool
)


@dataclass(slots=True)
class _Numbers:
    """The numbers of the callbacks in one list, by identity, as they stood when it was first looped over."""

    held: Any
    numbers: dict[int, int] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)

    def take(self) -> None:
        """Give those a number that have none: their places in the list, or behind all others if they came later."""
        first = not self.numbers
        for place, one in enumerate(list(self.held), 1):
            if id(one) not in self.numbers:
                number = place if first else max(self.numbers.values()) + 1
                self.numbers[id(one)] = number
                reason = f"{nth(number)} in the CallbackList" if first else "added while it ran"
                self.members.append(Member(type(one), one, number, reason))

    def now(self) -> list[Member]:
        """Return the members in the order in which they are called now."""
        by_id = {id(member.obj): member for member in self.members}
        return [by_id[id(one)] for one in self.held if id(one) in by_id]


class KerasNaming:
    """What the recorded dispatch calls things: `stamped.Naming`. Numbers belong to a list, not to a model."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}
        self.lists: dict[int, dict[int, _Numbers]] = {}
        self.last = threading.local()

    def event(self, event: str) -> str:
        return handed_over(event[1:]) if event.startswith("_") else event

    def begin(self, obj: Any) -> None:
        self.runs[id(obj)] = self.runs.get(id(obj), 0) + 1

    def end(self, obj: Any) -> None:
        left = self.runs.pop(id(obj), 1) - 1
        if left > 0:
            self.runs[id(obj)] = left
        else:
            self.lists.pop(id(obj), None)
            self.last.__dict__.clear()

    def listed(self, obj: Any, listed: Any) -> Sequence[Any]:
        known = self.lists.setdefault(id(obj), {})
        if id(listed) not in known:
            known[id(listed)] = _Numbers(listed)
        self.last.numbers = known[id(listed)]
        self.last.numbers.take()
        return list(listed)

    def handler(self, obj: Any, handler: Any, event: str) -> Named | None:
        lists = [*self.lists.get(id(obj), {}).values()]
        numbers = getattr(self.last, "numbers", None)  # the list that this thread looked at last comes first
        members = [one for each in (numbers, *reversed(lists)) if each is not None for one in each.members]
        member = next((one for one in members if one.obj is handler), None)
        found = None if member is None else member.found(event)
        if member is None or found is None:
            return None
        return Named(member.id, found.method, member.cls.__name__)

    def bind(self, obj: Any) -> tuple[Binding, Flags]:
        numbers: _Numbers | None = getattr(self.last, "numbers", None)
        return bind([] if numbers is None else numbers.now(), EVENT_NAMES, ()), {}

    def where(self, obj: Any) -> tuple[int | None, int | None]:
        frames = [frame for frame in _running(sys._getframe(1)) if frame.f_locals.get("self") is obj]
        epochs = [frame.f_locals["epoch"] for frame in frames if "epoch" in frame.f_locals]
        batches = [frame.f_locals["begin_step"] for frame in frames[:1] if "begin_step" in frame.f_locals]
        return (epochs or [None])[0], (batches or [None])[0]


DISPATCH = Dispatch("keras", keras.__version__, POINTS, KerasNaming())


def attach(obj: Any, sink: Any) -> Callable[[], None]:
    """Record every event and handler call of `obj` (None: of every model) into `sink`; return what detaches it.

    Detaching works in any order, twice, and from inside a handler. Raises `UnknownVersion`.
    """
    DISPATCH.verify()
    if obj is not None:
        return DISPATCH.watch(obj, obj, sink(obj))
    return DISPATCH.watch_all(lambda model: DISPATCH.watch(model, model, sink(model)))
