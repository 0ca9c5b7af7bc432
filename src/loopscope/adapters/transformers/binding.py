"""Who is called at each event: the handlers of the callbacks, what each does, and what it may do to the loop."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

from loopscope.adapters.transformers.control import ANYTHING, NOTHING, Steering, steering
from loopscope.adapters.transformers.members import Found, Member, is_flow
from loopscope.adapters.transformers.opening import BEFORE, EVALUATION, Open, flag
from loopscope.adapters.transformers.vocabulary import (
    EVALUATE,
    EVENT_NAMES,
    LOG,
    PASSED,
    SAVE,
    STOP,
    STOP_EPOCH,
    VOCABULARY,
    WAITING,
)
from loopscope.handlers import Said, said
from loopscope.model import Binding, Event, Handler, Need, Raise
from loopscope.source import syntax

MEANS = {
    STOP: "ends the training",
    STOP_EPOCH: "ends the epoch",
    LOG: "asks for a log",
    EVALUATE: "asks for an evaluation",
    SAVE: "asks for a checkpoint",
}
"""Flag of `control` -> what setting it does."""


@dataclass(frozen=True, slots=True)
class Read:
    """One handler as it was read: what it says and does, and what it may do to the loop; `logs`: it calls `log`."""

    member: Member
    event: str
    found: Found
    said: Said
    steering: Steering
    logs: bool = False


def read(members: Iterable[Member], events: Iterable[str] = EVENT_NAMES) -> list[Read]:
    """Return all handlers of `members`, in calling order at each event."""
    listed, names = list(members), tuple(events)
    return [_read(member, name, found) for name in names for member in listed if (found := member.found(name))]


def _read(member: Member, event: str, found: Found) -> Read:
    does = NOTHING
    if found.target is not None and not is_flow(member, event):
        does = steering(found.target, member.cls)
    elif found.target is None and not member.is_broken(found):
        does = ANYTHING
    logs = _logs(found.target)
    if logs:
        does = does | Steering({LOG: frozenset((False,))})  # which CallbackHandler.on_log sets first of all
    notes = [*found.notes, *_changes(does)]
    told = said(found.target, member.cls, VOCABULARY, waiting=WAITING, notes=notes, passed=PASSED)
    return Read(member, event, found, told, does, logs)


def _logs(target: object) -> bool:
    """Return whether a handler calls something's `log`: of a trainer, it fires on_log inside of the handler."""
    found = None if target is None else syntax(target)
    return found is not None and any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "log"
        for node in ast.walk(found.node)
    )


def _changes(does: Steering) -> Iterator[str]:
    for name, meaning in MEANS.items():
        if does.may(name, True):
            yield f"may set {flag(name)}, which {meaning}"
        elif does.may(name, False):
            yield f"may set {flag(name)} to False"
    if does.numbers:
        yield "may change numbers that the loop goes by"
    if does.adds or does.removes:
        yield "may change the list of callbacks while it is gone through"


def opened(handlers: Iterable[Read], free: Steering, *, sums_up: bool, starts_with_evaluation: bool) -> Open:
    """Return what the handlers may do to the loop, those included that run a loop inside themselves."""
    by: dict[str, Steering] = {}
    listed = list(handlers)
    for one in listed:
        by[one.event] = by.get(one.event, NOTHING) | one.steering
    inner = reduce(or_, (by.get(name, NOTHING) for name in EVALUATION), NOTHING)
    inner = inner | Steering({EVALUATE: frozenset((False,))})
    for one in listed:
        if one.said.nested:
            by[one.event] = by[one.event] | (ANYTHING if "train" in one.said.nested else inner)
    return Open(by, free, sums_up, (*BEFORE, *(EVALUATION if starts_with_evaluation else ())))


def with_open_end(handlers: Iterable[Read]) -> list[Read]:
    """Return `handlers` with the step at which DefaultFlowCallback ends the training left to the run."""
    ends = Steering({STOP: frozenset((True,))})
    at = "on_step_end"
    return [replace(one, steering=ends) if one.event == at and is_flow(one.member, at) else one for one in handlers]


def bind(handlers: Sequence[Read], open_: Open) -> Binding:
    """Return the binding of `handlers`."""
    bound: dict[str, tuple[Handler, ...]] = {}
    for one in handlers:
        bound[one.event] = (*bound.get(one.event, ()), _handler(one, open_))
    return Binding(bound)


def _handler(one: Read, open_: Open) -> Handler:
    member, told = one.member, one.said
    broken = member.is_broken(one.found)
    return Handler(
        id=member.id,
        callback=member.cls.__name__,
        label=member.label,
        event=one.event,
        method=one.event,
        reason=member.reason,
        origin=member.origin,
        mine=member.mine,
        place=told.place,
        facts=told.facts,
        needs=tuple(_needs(one, open_)),
        sets=tuple(_sets(one, open_)),
        raises=(Raise("AttributeError", True),) if broken else told.raises,
        nested=told.nested,
        inside=(Event("on_log"),) if one.logs else (),
    )


def _needs(one: Read, open_: Open) -> Iterator[Need]:
    if open_.whole.removes:
        yield Need(f"kept {one.member.id}", True, "only while no handler has removed it")


def _sets(one: Read, open_: Open) -> Iterator[tuple[str, bool | None]]:
    does: Mapping[str, object] = one.steering.flags
    if one.said.nested:
        does = {**does, **open_.by[one.event].flags}
    yield from ((flag(name), None) for name in does if open_.tracks(name))
