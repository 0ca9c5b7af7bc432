"""What LearningRateFinder and BatchSizeFinder do inside of a handler: they train, with the other callbacks put aside.

How much that is depends on the losses and on the memory, and how it is done on the version: so all that may fire there
is allowed, in any order. What comes behind it is as strict as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from loopscope.adapters.lightning.binding import Bound, Found, bind
from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.hooks import ENCLOSING, HOOKS
from loopscope.adapters.lightning.members import Member
from loopscope.model import Event, Need, Node, Scope, over

FLAG = "a tuner is at work"
ASIDE = Need(FLAG, False, "a tuner has put the callbacks aside")
ITS_OWN = Need(FLAG, True, "it is only there while the tuner is at work")

BROUGHT = "brought by LearningRateFinder"
"""The origin of the callback that it trains with."""

STARTS = ("on_fit_start", "on_validation_start", "on_test_start", "on_predict_start")


def tuned(given: Given, members: tuple[Member, ...], bound: Bound) -> Bound:
    """Return the handlers of a run in which a tuner is at work; the callback that it brings along is one of them."""
    tuners = {member.id for member in members if member.tunes}
    if not tuners:
        return bound
    callbacks = {member.id for member in members}
    inside = Scope("tuning", tuple(_anything()), sets=((FLAG, None),))

    def changed(one: Found) -> Found:
        handler = one.handler
        if handler.id not in callbacks:
            return one
        handler = replace(handler, needs=(*handler.needs, ASIDE))
        if handler.id in tuners and handler.event in STARTS:
            handler = replace(handler, inside=(inside,), sets=(*handler.sets, (FLAG, False)))
        return replace(one, handler=handler)

    found = {event: tuple(map(changed, handlers)) for event, handlers in bound.found.items()}
    for event, more in _brought(given, members, tuple(found)).found.items():
        extra = tuple(replace(one, handler=replace(one.handler, needs=(ITS_OWN,))) for one in more)
        found[event] = (*extra, *found[event])
    return Bound(found)


def _brought(given: Given, members: tuple[Member, ...], events: tuple[str, ...]) -> Bound:
    """Return the handlers of the callback that LearningRateFinder trains with."""
    finder = given.package.part("callbacks").LearningRateFinder
    if not any(isinstance(member.obj, finder) for member in members):
        return Bound()
    callback: Any = given.package.cls("tuner.lr_finder._LRCallback")(num_training=1)
    found = bind(given, [Member(callback, len(members) + 1, BROUGHT)], events)
    return Bound({event: tuple(one for one in its if one.owner is callback) for event, its in found.found.items()})


def _anything() -> Iterator[Node]:
    for name in HOOKS:
        edges = (name, over(name)) if name in ENCLOSING else (name,)
        for event in edges:
            needs = (Need(f"tuning: {event}", True, "the tuner decides"),)
            yield Event(event, None, needs, "edge" if name in ENCLOSING else "calls")
