"""Who is called at each event of an engine: its handlers in calling order, what each does, and when it is skipped."""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType
from typing import Any

from ignite.engine import Engine
from ignite.handlers.base_logger import BaseLogger

from loopscope.adapters.ignite.attached import Attached, Ids, class_name, method_name, owner, owner_class
from loopscope.adapters.ignite.doings import Doings, Openings, doings, given_to
from loopscope.adapters.ignite.filters import Filter, counted_by, known_filter, named_filter
from loopscope.adapters.ignite.plan import Plan
from loopscope.adapters.ignite.vocabulary import VOCABULARY, WAITING
from loopscope.effects import Effects, effects
from loopscope.handlers import Said, said
from loopscope.model import Binding, Event, Handler, Need

NEVER = "never"
"""A flag that is always False: for what the settings rule out."""

STARTED_DATA = "the data is started"
"""The flag under which an epoch goes on with the data of the one before."""

SKIPPED = {"terminate": "COMPLETED", "terminate_epoch": "EPOCH_COMPLETED"}
"""Methods that can be told to leave out an event -> that event."""


@dataclass(frozen=True, slots=True)
class Member:
    """One attached handler with all that was read of it."""

    one: Attached
    id: str
    said: Said
    doing: Doings

    @property
    def kept(self) -> str:
        """The flag that says that it is still attached."""
        return f"attached {self.id} at {self.one.event}"

    def removes(self, other: Member) -> bool:
        """Return whether it may detach another one, or itself."""
        gone = self.doing.removes
        return gone is None or any(
            event == other.one.event and bool(function == other.one.function) for function, event in gone
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """A filter whose answers the counts decide: the flag that holds them, the event's name, and the filter."""

    flag: str
    event: str
    by: str
    filter: Filter


@dataclass(slots=True)
class Filters:
    """The filters of a run: those that the counts decide are kept in `counted`, for the scopes that do the counting.

    Without a plan nothing is known of the counts beforehand: in a run that is under way.
    """

    plan: Plan | None
    openings: Openings | None
    counted: dict[str, Counted] = field(default_factory=dict)

    def needs(self, one: Attached, id: str) -> Iterator[Need]:
        """Yield under which condition ignite's wrapper calls the handler."""
        if one.asks is None:
            return
        by = counted_by(one.key)
        if by is None:
            yield Need(NEVER, True, f"{one.event} has no count: its filter raises RuntimeError")
            return
        known = known_filter(one.asks)
        if known is None:
            yield Need(f"filter of {id} at {one.event}", True, named_filter(one.asks, by))
            return
        words = known.words.format(by)
        if one.event.startswith("GET_BATCH"):
            words += f" that {'are' if '{}s' in known.words else 'is'} done"
        answer = self.answer(one.event, by, known)
        if answer is None:
            flag = f"{one.event}: {words}"
            self.counted[flag] = Counted(flag, one.event, by, known)
            yield Need(flag, True, words)
        elif not answer:
            yield Need(NEVER, True, f"{words}, and this run does not get there")

    def answer(self, event: str, by: str, known: Filter) -> bool | None:
        """Return what a filter says each time in this run, None where that changes or only the run knows it."""
        if self.plan is None or self.openings is None or by in self.openings.resets:
            return None
        begin, times = self.counts(self.plan, self.openings, event, by)
        if begin is None or times is None:
            return None
        yes = known.how_many(begin, times)
        return False if not yes else True if yes == times else None

    def counts(self, plan: Plan, openings: Openings, event: str, by: str) -> tuple[int | None, int | None]:
        """Return the count before an event's first time, and how often it fires: `(0, 30)`; None for what is open."""
        if plan.place is not None:  # a run that goes on in the middle of something: see protocol.py
            return None, None
        if (event, by) == ("STARTED", "epoch"):
            return plan.epoch - 1, 1
        ends = plan.epochs if not openings.stops and not openings.swallows else None
        if (event, by) == ("COMPLETED", "epoch"):
            return (None if ends is None else plan.epochs_before + ends - 1), 1
        if by == "epoch" and event in ("EPOCH_STARTED", "EPOCH_COMPLETED"):
            early = openings.ends_epochs or openings.swallows or plan.dry
            return plan.epochs_before, None if plan.max_iters is not None and early else plan.epochs
        if by == "iteration" and event in ("ITERATION_STARTED", "ITERATION_COMPLETED"):
            return plan.iteration, plan.iterations
        if by == "iteration" and event in ("GET_BATCH_STARTED", "GET_BATCH_COMPLETED"):
            return plan.iteration - 1, plan.iterations
        return None, None


def members(engine: Engine, entries: Iterable[Attached], ids: Ids) -> list[Member]:
    """Read every attached handler; nothing of them is run."""
    found = []
    for one in entries:
        told = _read(engine, one)
        doing = doings(engine, one.function, told.effects, given_to(one, engine))
        found.append(Member(one, ids(one.function), told, doing))
    return found


_SAID: weakref.WeakKeyDictionary[Engine, dict[int, tuple[weakref.ref[Any], Said]]] = weakref.WeakKeyDictionary()
"""What was read of the handlers of each engine: an evaluator is run every epoch, and its map is read each time."""


def _read(engine: Engine, one: Attached) -> Said:
    known = _SAID.setdefault(engine, {})
    before = known.get(id(one.call))
    if before is not None and before[0]() is one.call:
        return before[1]
    told = said(
        one.function,
        owner_class(one.function),
        VOCABULARY,
        waiting=WAITING,
        passed=("engine",) if one.takes_engine else (),
        notes=_notes(one),
    )
    with contextlib.suppress(TypeError):  # what cannot be referred to weakly is read again
        known[id(one.call)] = weakref.ref(one.call), told
    return told


_STEPS: weakref.WeakKeyDictionary[Engine, tuple[weakref.ref[Any], Effects]] = weakref.WeakKeyDictionary()


def step_effects(engine: Engine) -> Effects:
    """Return what the process function of an engine does, as far as its source shows it."""
    function = engine._process_function
    before = _STEPS.get(engine)
    if before is not None and before[0]() is function:
        return before[1]
    done = effects(function, None, VOCABULARY, passed=("engine", "batch"))
    with contextlib.suppress(TypeError):
        _STEPS[engine] = weakref.ref(function), done
    return done


def bind(found: list[Member], filters: Filters) -> Binding:
    """Return who is called where; the filters that the counts decide are left in `filters`."""
    handlers: dict[str, list[Handler]] = {}
    counts: dict[str, int] = {}
    removing = [member for member in found if member.doing.removes != ()]
    for member in found:
        counts[member.one.event] = counts.get(member.one.event, 0) + 1
    for member in found:
        listed = handlers.setdefault(member.one.event, [])
        needs = [*filters.needs(member.one, member.id)]
        if any(other.removes(member) for other in removing):
            needs.append(Need(member.kept, True, "only while it is attached"))
        reason = _reason(len(listed) + 1, counts[member.one.event], member.one.mine)
        listed.append(_handler(member, reason, tuple(needs), found))
    resets = {"EPOCH_COMPLETED": ((STARTED_DATA, True),)}
    return Binding({event: tuple(listed) for event, listed in handlers.items()}, resets)


def _handler(member: Member, reason: str, needs: tuple[Need, ...], found: list[Member]) -> Handler:
    one, told = member.one, member.said
    skips = [skipping(SKIPPED[name]) for name in SKIPPED if name in member.doing.skips]
    gone = [other.kept for other in found if member.removes(other)] if member.doing.removes != () else []
    return Handler(
        id=member.id,
        callback=class_name(one.function),
        label=label(one),
        event=one.event,
        method=method_name(one.function),
        reason=reason,
        origin=origin(one),
        mine=one.mine,
        place=told.place,
        facts=told.facts,
        needs=needs,
        sets=tuple((flag, None) for flag in (*skips, *gone)),
        raises=told.raises,
        nested=told.nested,
        inside=tuple(
            Event(name, where, (Need(f"{member.id} fires {name}", True, f"only if it fires {name}"),))
            for name, where in member.doing.fires
        ),
    )


def skipping(event: str) -> str:
    """Return the flag under which an event is left out because a handler asked for that."""
    return f"skip {event}"


def _reason(place: int, count: int, mine: bool) -> str:
    if count == 1:
        return "the only one here"
    return f"{ordinal(place)} of {count} here, {'behind those of the engine' if mine else 'in the order of attaching'}"


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, ..."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def label(one: Attached) -> str:
    """Return how a handler shows itself: its qualified name, or its class and what it was attached with."""
    whose = owner(one.function)
    plain = isinstance(whose, (FunctionType, BuiltinFunctionType, type))
    name = whose.__qualname__ if plain else f"{class_name(one.function)}()"
    if isinstance(whose, functools.partial):
        name = f"partial({class_name(one.function)})"
    words = [*map(_shown, one.given), *(f"{key}={_shown(value)}" for key, value in one.kwargs.items())]
    return f"{name} with {', '.join(words)}" if words else name


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def origin(one: Attached) -> str:
    """Return how a handler came to the engine: by somebody's `attach`, or by `on` and `add_event_handler`."""
    if one.mine:
        return "cbs"
    by = next((given for given in one.given if isinstance(given, BaseLogger)), owner(one.function))
    if method_name(one.function) != "__call__" or by is not owner(one.function):
        attaches = getattr(type(by), "attach", None)
        if isinstance(attaches, FunctionType) and not isinstance(by, Engine):
            return f"{type(by).__name__}.attach"
    return "engine"


def _notes(one: Attached) -> Iterator[str]:
    if one.event == "TERMINATE_SINGLE_EPOCH" and not _takes(one.function, "iter_counter"):
        yield "ignite hands over iter_counter by that name, which it does not take: TypeError when the event fires"


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def flags(found: Iterable[Member], process: Doings) -> Mapping[str, bool | None]:
    """Return the flags of a run as they are when it begins."""
    kept = {member.kept: True for member in found}
    skips = {skipping(event): None if name in process.skips else False for name, event in SKIPPED.items()}
    return {NEVER: False, **skips, **kept}
