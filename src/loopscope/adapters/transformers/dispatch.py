"""Recording at Transformers' dispatch: `CallbackHandler.call_event`, swapped at class level for itself with stamps.

Every event and every handler call goes through that one function. Constraint: nothing is added to a trainer, a handler
or its callbacks; numbers and places of callbacks are kept here while a run is recorded, and no longer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import transformers
from transformers.trainer import Trainer
from transformers.trainer_callback import CallbackHandler, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from loopscope.adapters.transformers.binding import bind, opened, read
from loopscope.adapters.transformers.control import NOTHING
from loopscope.adapters.transformers.lines import line
from loopscope.adapters.transformers.members import Member, nth
from loopscope.model import Binding, Flags
from loopscope.source import unwrap
from loopscope.stamped import Dispatch, Named, Point
from loopscope.stamped import calibrate as stamps
from loopscope.stamped.calibrating import least, turn

POINTS = (
    Point(
        CallbackHandler,
        "call_event",
        event="event",
        call="getattr(callback, event)",
        handler="callback",
        handlers="self.callbacks",
    ),
)


@dataclass(slots=True)
class _Numbers:
    """The callbacks of a trainer while a run is recorded, by identity, numbered as they stood at its first event."""

    runs: int = 0
    members: dict[int, Member] = field(default_factory=dict)

    def take(self, listed: Sequence[Any]) -> None:
        """Give those a number that have none: their places in the list, or behind all others if they came later."""
        first = not self.members
        for place, one in enumerate(listed, 1):
            if id(one) not in self.members:
                number = place if first else max(member.number for member in self.members.values()) + 1
                reason = f"{nth(place)} in trainer.callback_handler.callbacks" if first else "added while it ran"
                self.members[id(one)] = Member(type(one), one, number, reason)


class TransformersNaming:
    """What the recorded dispatch calls things: `stamped.Naming`."""

    def __init__(self) -> None:
        self.known: dict[int, _Numbers] = {}

    def event(self, event: str) -> str:
        return event

    def begin(self, obj: Any) -> None:
        self.known.setdefault(id(obj), _Numbers()).runs += 1

    def end(self, obj: Any) -> None:
        numbers = self.known.get(id(obj))
        if numbers is not None:
            numbers.runs -= 1
            if numbers.runs < 1:
                del self.known[id(obj)]

    def numbers(self, obj: Any) -> _Numbers:
        """Return the numbers of a trainer, of none that is kept where no run of it is under way."""
        numbers = self.known.get(id(obj), _Numbers())
        numbers.take(list(obj.callback_handler.callbacks))
        return numbers

    def listed(self, obj: Any, listed: Any) -> Sequence[Any]:
        self.numbers(obj)
        return list(listed)

    def handler(self, obj: Any, handler: Any, event: str) -> Named | None:
        member = self.numbers(obj).members.get(id(handler))
        if member is None or member.found(event) is None:
            return None
        return Named(member.id, event, member.cls.__name__)

    def bind(self, obj: Any) -> tuple[Binding, Flags]:
        members = self.numbers(obj).members
        now = [members[id(one)] for one in obj.callback_handler.callbacks]
        handlers = read(now)
        sums_up = obj.args.gradient_accumulation_steps > 1
        found = opened(handlers, NOTHING, sums_up=sums_up, starts_with_evaluation=bool(obj.args.eval_on_start))
        return bind(handlers, found), {}

    def where(self, obj: Any) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the loop's own frames have reached, from 0."""
        frames = [frame for frame in _frames(sys._getframe(1)) if frame.f_locals.get("self") is obj]
        epochs = [frame.f_locals["epoch"] for frame in frames if "epoch" in frame.f_locals]
        batch = _batch(frames[0]) if frames else None
        return (epochs or [None])[0], batch


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of Transformers' loops that are under way, the innermost first."""
    while frame is not None:
        if frame.f_code in _LOOPS:
            yield frame
        frame = frame.f_back


def _batch(frame: FrameType) -> int | None:
    """Return the batch that a loop is at; None behind its last one, and where it has had none yet."""
    step = frame.f_locals.get("step")
    ends = line("_run_epoch", "self.callback_handler.on_epoch_end").place
    over = frame.f_code.co_name == "_run_epoch" and ends is not None and frame.f_lineno >= ends.line
    return step if isinstance(step, int) and step >= 0 and not over else None


_LOOPS = frozenset(
    function.__code__
    for function in (
        unwrap(vars(Trainer).get(name)) for name in ("_inner_training_loop", "_run_epoch", "evaluation_loop")
    )
    if function is not None
)

NAMING = TransformersNaming()
DISPATCH = Dispatch("transformers", transformers.__version__, POINTS, NAMING)
DISPATCHING = DISPATCH.codes


def dispatched(first: Any) -> Any:
    """Return the trainer that a CallbackHandler calls for, None if it is not recorded."""
    watched = DISPATCH.watched.get(id(first))
    return None if watched is None else watched.ref()


def verify() -> None:
    """Raise `UnknownVersion` if `CallbackHandler.call_event` has not the shape that `attach` expects."""
    DISPATCH.verify()


def attach(obj: Any, sink: Any) -> Callable[[], None]:
    """Record every event and handler call of `obj` (None: of every trainer) into `sink`; return what detaches it.

    Detaching works in any order, twice, and from inside a handler. Raises `UnknownVersion`.
    """
    verify()
    if obj is not None:
        return _watch(obj, sink)
    return DISPATCH.watch_all(lambda trainer: _watch(trainer, sink))


def _watch(trainer: Any, sink: Any) -> Callable[[], None]:
    return DISPATCH.watch(trainer, trainer.callback_handler, sink(trainer))


def adopt(obj: Any) -> None:
    """Have a trainer recorded that is met for the first time, by everybody who records all."""
    DISPATCH.adopt(obj)


def calibrate() -> dict[str, object]:
    """Return what recording costs in this process, in ns: `per_event`, `per_call`, `clock`, `dispatch`.

    `framework_dispatch` is what Transformers itself takes for an event of so many empty `callbacks`.
    """
    held = object.__new__(CallbackHandler)  # without __init__, which warns of several callbacks of one class
    held.callbacks = [TrainerCallback() for _ in range(CALLBACKS)]
    held.model = held.processing_class = held.optimizer = held.lr_scheduler = None
    held.train_dataloader = held.eval_dataloader = None
    args = object.__new__(TrainingArguments)
    state, control = TrainerState(), TrainerControl()
    taken = least(lambda: held.call_event("on_step_begin", args, state, control)) - turn()
    return {**stamps(), "framework_dispatch": round(taken, 1), "callbacks": CALLBACKS}


CALLBACKS = 4
