"""Who is called at each event of an engine: its handlers in calling order, what each does, and when it is skipped."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ignite.engine import Engine
from ignite.handlers.base_logger import BaseLogger
from ignite.metrics import Metric

from loopscope.adapters.ignite.attached import Attached, Ids, class_name, method_name, owner, owner_class
from loopscope.adapters.ignite.doings import CORE, Doings, Openings, doings, given_to
from loopscope.adapters.ignite.filters import Span, counted_by, how_many, spans, words
from loopscope.adapters.ignite.plan import Plan
from loopscope.adapters.ignite.vocabulary import VOCABULARY, WAITING
from loopscope.handlers import Said, said
from loopscope.model import Binding, Event, Handler, Need

NEVER = "never"
"""A flag that is always False: for what the settings rule out."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A filter whose answers are known beforehand: its flag, the event's name, and the counts at which it says yes."""

    flag: str
    event: str
    by: str
    spans: tuple[Span, ...]


@dataclass(slots=True)
class Bound:
    """The handlers of a run, what they leave open, and the filters that the counts decide."""

    binding: Binding
    openings: Openings
    counted: list[Counted] = field(default_factory=list)
    doings: dict[tuple[str, str], list[Doings]] = field(default_factory=dict)


@dataclass(slots=True)
class Member:
    """One attached handler with all that was read of it."""

    one: Attached
    id: str
    said: Said
    doing: Doings


def members(engine: Engine, entries: Iterable[Attached], ids: Ids) -> list[Member]:
    """Read every attached handler; nothing of them is run."""
    found = []
    for one in entries:
        passed = ("engine",) if one.takes_engine else ()
        told = said(one.function, owner_class(one.function), VOCABULARY, waiting=WAITING, passed=passed)
        doing = doings(engine, one.function, told.effects, given_to(one, engine))
        found.append(Member(one, ids(one.function), told, doing))
    return found


def bind(engine: Engine, found: list[Member], plan: Plan, openings: Openings) -> Bound:
    """Return who is called where in the run of `plan`; `openings` say what of it only the run knows."""
    counted: dict[str, Counted] = {}
    handlers: dict[str, list[Handler]] = {}
    removed = list(_removed(found))
    for member in found:
        event = member.one.event
        place = len(handlers.get(event, ())) + 1
        needs = [*_filter(member, plan, openings, counted)]
        if any(_is_removed(member, one) for one in removed):
            needs.append(Need(_kept(member), True, "only while it is attached"))
        handlers.setdefault(event, []).append(_handler(member, place, tuple(needs), removed, found))
    counts = {event: len(several) for event, several in handlers.items()}
    several = {
        event: tuple(replace(one, reason=f"{one.reason} of {counts[event]}") for one in listed)
        if counts[event] > 1
        else tuple(replace(one, reason="alone at this event") for one in listed)
        for event, listed in handlers.items()
    }
    return Bound(Binding(several), openings, list(counted.values()))


def _handler(
    member: Member, place: int, needs: tuple[Need, ...], removed: list[tuple[Any, str] | None], found: list[Member]
) -> Handler:
    one, told = member.one, member.said
    skips = [(f"skip {name}", None) for name in SKIPPED if name in member.doing.skips]
    gone = [] if member.doing.removes == () else [
        (_kept(other), None) for other in found if any(_is_removed(other, by) for by in _removals(member))
    ]
    return Handler(
        id=member.id,
        callback=class_name(one.function),
        label=label(one),
        event=one.event,
        method=method_name(one.function),
        reason=f"attached {ordinal(place)}",
        origin="cbs" if one.mine else origin(one),
        mine=one.mine,
        place=told.place,
        facts=told.facts,
        needs=needs,
        sets=tuple(dict.fromkeys([*skips, *gone])),
        raises=told.raises,
        nested=told.nested,
        inside=tuple(Event(name, told.place, (Need(f"fires {name}", True, f"only if {name} is fired"),))
                     for name in member.doing.fires),
    )
