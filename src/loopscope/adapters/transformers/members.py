"""The callbacks of a run in calling order: where each came from, why it stands there, and what it does at an event."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import trainer as stock
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.trainer_callback import (
    DefaultFlowCallback,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
)

from loopscope.adapters.transformers.settings import Flow, Resumed
from loopscope.errors import BadCallback

_MISSING: Any = object()


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What Transformers calls for one callback at one event; None as `target`: there is nothing, and it fails."""

    target: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One callback of the run: `number` is its place in the list, from 1; `obj` is None for a class that was given."""

    cls: type
    obj: Any
    number: int
    reason: str
    origin: str = "trainer"
    mine: bool = False

    @property
    def id(self) -> str:
        return f"{self.cls.__name__}#{self.number}"

    @property
    def label(self) -> str:
        try:
            return self.cls.__name__ if self.obj is None else repr(self.obj)
        except Exception:  # a user's broken __repr__ must not cost the map
            return self.cls.__name__

    def found(self, event: str) -> Found | None:
        """Return what `getattr(callback, event)` gives, without running anything; None for the empty stock method."""
        target = getattr(self.obj, "__dict__", {}).get(event, _MISSING)
        target = static(self.cls, event, _MISSING) if target is _MISSING else target
        if isinstance(target, (staticmethod, classmethod)):
            target = target.__func__
        if target is not _MISSING:
            return None if target is vars(TrainerCallback).get(event) else Found(target)
        if static(self.cls, "__getattr__") is not None:
            return Found(None, (f"{self.cls.__name__}.__getattr__ decides what is called",))
        return Found(None, (f"it has no {event}, which Transformers calls on everything in its list: it fails here",))

    def is_broken(self, found: Found) -> bool:
        """Return whether Transformers fails on what was found."""
        return found.target is None and static(self.cls, "__getattr__") is None


def static(cls: type, name: str, default: Any = None) -> Any:
    """Return a class attribute as it stands in its class."""
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return default


def instances(cbs: object) -> list[tuple[type, Any]]:
    """Return one's own callbacks (one or several, instances or classes) as classes, each with its instance or None.

    Nothing is built. Raises `BadCallback` for what is none, and for a class that needs arguments.
    """
    if cbs is None:
        return []
    listed = list(cbs) if isinstance(cbs, (list, tuple, set)) else [cbs]
    return [_checked(one) for one in listed]


def _checked(one: Any) -> tuple[type, Any]:
    cls = one if isinstance(one, type) else type(one)
    if not issubclass(cls, TrainerCallback):
        what = f"the class {one.__name__}" if isinstance(one, type) else f"{one!r} ({cls.__name__})"
        raise BadCallback(
            f"{what} is no callback of Transformers. Accepted: a TrainerCallback, a class of one, or a list of either."
        )
    if isinstance(one, type) and not _takes_nothing(one):
        raise BadCallback(f"{one.__name__} cannot be built without arguments. Pass an instance: {one.__name__}(...).")
    return cls, None if isinstance(one, type) else one


def _takes_nothing(cls: type) -> bool:
    try:
        inspect.signature(cls).bind()
    except TypeError:
        return False
    except ValueError:  # it has no signature that could be asked
        return True
    return True


def members(trainer: Any, own: Sequence[tuple[type, Any]], resumed: Resumed | None) -> list[Member]:
    """Return the callbacks of a run of `trainer`, with `own` behind them, in the order in which they are called."""
    held = list(trainer.callback_handler.callbacks)
    found = [Member(type(one), one, n, *_why(trainer, held, n)) for n, one in enumerate(held, 1)]
    for cls, one in own:
        number = len(found) + 1
        before = f"; callbacks=[...] puts it before {found[-1].cls.__name__}" if _is_progress(trainer, found) else ""
        reason = f"{nth(number)}: where trainer.add_callback puts it{before}"
        found.append(Member(cls, one, number, reason, "cbs", True))
    return (
        found
        if resumed is None or not trainer.args.restore_callback_states_from_checkpoint
        else _restored(found, resumed)
    )


def _is_progress(trainer: Any, found: Sequence[Member]) -> bool:
    return bool(found) and found[-1].cls is _progress(trainer)


def _progress(trainer: Any) -> type:
    disabled = getattr(trainer.args, "disable_tqdm", False)
    progress: type = PrinterCallback if disabled else stock.DEFAULT_PROGRESS_CALLBACK
    return progress


def _why(trainer: Any, held: Sequence[Any], number: int) -> tuple[str, str]:
    """Return why a callback stands where it does, and how it came there: the defaults stand around the user's own."""
    first = [*stock.DEFAULT_CALLBACKS, *_reporting(trainer)]
    kinds = [type(one) for one in held]
    cls, progress = kinds[number - 1], _progress(trainer)
    if kinds[:number] == first[:number] and cls in stock.DEFAULT_CALLBACKS:
        return f"{nth(number)}: Trainer puts its {cls.__name__} before all others", "default"
    if kinds[:number] == first[:number]:
        return f"{nth(number)}: Trainer puts what report_to asks for before callbacks=", "default"
    at = kinds.index(progress) + 1 if progress in kinds else len(kinds) + 1
    if number == at:
        return f"{nth(number)}: Trainer adds it behind those of callbacks=", "default"
    if number > at:
        return f"{nth(number)}: added when the Trainer was there already", "trainer"
    return f"{nth(number)}: in callbacks=, in the order given", "trainer"


def _reporting(trainer: Any) -> list[type]:
    try:
        return list(get_reporting_integration_callbacks(trainer.args.report_to))
    except Exception:  # a value that the user has put there since
        return []


def _restored(found: list[Member], resumed: Resumed) -> list[Member]:
    """Return the list as `Trainer._load_callback_state` leaves it: what has a state in the checkpoint is made anew."""
    left, anew = list(found), []
    for name, saved in resumed.callbacks.items():
        states = saved if isinstance(saved, list) else [saved]
        alike = [one for one in found if one.cls.__name__ == name]
        for one, _ in zip(alike, states, strict=False):
            if issubclass(one.cls, TrainerControl):
                continue
            gone = next((other for other in left if issubclass(other.cls, one.cls)), None)
            left = [other for other in left if other is not gone]
            anew.append(one)
    moved = [replace(one, reason="made anew from the checkpoint's state, and added as the last") for one in anew]
    return [
        replace(one, number=n, reason=f"{nth(n)}: {one.reason.partition(': ')[2] or one.reason}")
        for n, one in enumerate([*left, *moved], 1)
    ]


def flow(found: Iterable[Member]) -> Flow:
    """Return which decisions are made by Transformers' own DefaultFlowCallback."""
    flows = [one for one in found if issubclass(one.cls, DefaultFlowCallback)]

    def stock_at(event: str) -> bool:
        return any(is_flow(one, event) for one in flows)

    return Flow(stock_at("on_step_end"), stock_at("on_epoch_end"))


def is_flow(member: Member, event: str) -> bool:
    """Return whether a handler is `DefaultFlowCallback`'s own, whose decisions the schedule makes."""
    found = member.found(event)
    return found is not None and found.target is not None and found.target is vars(DefaultFlowCallback).get(event)


def nth(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `4th`, ... `11th`."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else last}"


def unheard(found: Iterable[Member], events: Iterable[str]) -> Iterator[Member]:
    """Yield the callbacks that handle none of `events`."""
    names = tuple(events)
    yield from (one for one in found if not any(one.found(name) for name in names))
