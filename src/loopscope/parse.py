"""Follows a real run along a loop: every event and handler call is placed, or the first unexpected one is named.

The same rule serves the proof of the map (what fires is what the tree says) and a recording's report. Which
handlers raised what is taken from the run; everything else, the unwinding above all, is predicted and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from loopscope.model import Event, Handler, Loop, Need, Node, Scope, Step
from loopscope.views import caught


@dataclass(frozen=True, slots=True)
class Call:
    """One handler call that was seen: `Call("Recorder#2")`; `raised` is the class name of what it raised.

    `inner` are the events of a loop that ran inside it, `run` the fit-like call that ran them.
    """

    handler: str
    raised: str | None = None
    inner: tuple[Fired, ...] = ()
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Fired:
    """One event that was seen, with its calls in order."""

    event: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Unexpected:
    """The first thing that the protocol does not allow: `position` counts the events of the run from 0."""

    position: int
    message: str


@dataclass(frozen=True, slots=True)
class Followed:
    """How a run fits its loop: `unexpected` is None where every event and call was placed."""

    events: int
    calls: int
    unexpected: Unexpected | None = None


def follow(
    loop: Loop,
    fired: Sequence[Fired],
    outcome: str | None = None,
    *,
    nested: Callable[[Call], Loop] | None = None,
) -> Followed:
    """Follow `fired` along `loop`; `outcome` is the class name of the exception that left the run, if one did.

    `nested` gives the loop of a run that took place inside a handler call; without it such a call is unexpected.
    """
    follower = _Follower(fired, nested, dict(loop.flags))
    try:
        follower.run(loop, outcome)
    except _Wrong as wrong:
        return Followed(follower.at, follower.calls, Unexpected(follower.at, str(wrong)))
    return Followed(follower.at, follower.calls)


class _Wrong(Exception):
    """The run does something that the protocol does not allow."""


class _Unwinding(Exception):
    """An exception of the run on its way outwards."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(slots=True)
class _Follower:
    fired: Sequence[Fired]
    nested: Callable[[Call], Loop] | None
    flags: dict[str, bool | None]
    loop: Loop = field(init=False)
    outcome: str | None = None
    at: int = 0
    calls: int = 0
    in_step: bool = False  # a step stands between the last event and here, so the framework's own code may have raised
    scopes: list[Scope] = field(default_factory=list)

    def run(self, loop: Loop, outcome: str | None) -> None:
        self.loop, self.outcome = loop, outcome
        try:
            self.scope(loop.root)
        except _Unwinding as unwinding:
            if outcome is None:
                raise _Wrong(f"{unwinding.name} leaves the run, but the run ended normally") from None
        else:
            if outcome is not None and not self.in_step:
                raise _Wrong(f"the run ended with {outcome}, but nothing that is left could raise it")
        if self.at < len(self.fired):
            raise _Wrong(f"{self.fired[self.at].event} fired after the end of the loop")

    # -- the protocol ------------------------------------------------------------------------------------

    def nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if not self.wanted(node):
                continue
            if isinstance(node, Event):
                self.event(node)
            elif isinstance(node, Scope):
                self.scope(node)
            else:
                self.in_step = True

    def wanted(self, node: Node) -> bool:
        """Return whether the run takes this node: by its flags, and where these are open by what fired next."""
        met = holds(node.needs, self.flags)
        if met is None and not isinstance(node, Step):
            return self.comes(node)
        return met is not False

    def comes(self, node: Node) -> bool:
        return self.at < len(self.fired) and self.fired[self.at].event in first([node])[0]

    def scope(self, scope: Scope) -> None:
        if scope.repeat.most is None:
            while self.comes(scope):
                self.once(scope)
            return
        for left in reversed(range(scope.repeat.most)):
            self.flags.update(() if left else scope.last_sets)
            self.once(scope)

    def once(self, scope: Scope) -> None:
        self.flags.update(scope.sets)
        self.nodes(scope.before)
        self.scopes.append(scope)
        try:
            self.nodes(scope.body)
        except _Unwinding as unwinding:
            self.scopes.pop()
            self.unwound(scope, unwinding)
        else:
            self.scopes.pop()
        self.nodes(scope.exit)

    def unwound(self, scope: Scope, unwinding: _Unwinding) -> None:
        """Go the way of an exception: return where the scope's exit follows, raise where it passes through."""
        for catch in scope.catches:
            if caught(catch, unwinding.name):
                self.nodes(catch.body)
                if catch.then == "exit":
                    return
                break
        if scope.always:
            self.nodes(scope.exit)
        raise unwinding

    # -- events and handlers -----------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        if self.at == len(self.fired) or self.fired[self.at].event != event.name:
            self.raised_in_step(event)
        seen = self.fired[self.at]
        self.in_step = False
        raised = self.handlers(event, seen)
        self.at += 1
        if raised is not None and raised not in self.loop.swallowed:
            raise _Unwinding(raised)
        if raised is None:
            self.flags.update(self.loop.binding.resets.get(event.name, ()))

    def raised_in_step(self, event: Event) -> None:
        """The expected event did not fire: go the way of an exception of the framework's own code, or refuse."""
        seen = self.fired[self.at].event if self.at < len(self.fired) else None
        if self.in_step:
            for scope in reversed(self.scopes):
                for catch in scope.catches:
                    if seen is not None and seen in first(catch.body)[0]:
                        raise _Unwinding(catch.exceptions[0])
                if scope.always and self.outcome is not None and seen in first(scope.exit)[0]:
                    raise _Unwinding(self.outcome)
            if seen is None and self.outcome is not None:
                raise _Unwinding(self.outcome)
        raise _Wrong(f"expected {event.name}, {'the run ended' if seen is None else f'but {seen} fired'}")

    def handlers(self, event: Event, seen: Fired) -> str | None:
        """Compare the calls of one event with the binding; return the exception that ended it, if one did."""
        left = list(seen.calls)
        for handler in self.loop.binding.at(event.name):
            met = holds(handler.needs, self.flags)
            here = bool(left) and left[0].handler == handler.id
            if met is True and not here:
                raise _Wrong(
                    f"{event.name}: expected {handler.id}, {f'but {left[0].handler}' if left else 'nothing'} was called"
                )
            if met is False or not here:
                continue
            call = left.pop(0)
            self.calls += 1
            self.inside(call)
            if call.raised is not None:
                if left:
                    raise _Wrong(f"{event.name}: {left[0].handler} was called after {handler.id} raised {call.raised}")
                return call.raised
            self.returned(handler, event)
        if left:
            raise _Wrong(f"{event.name}: {left[0].handler} was called, which the binding does not name there")
        return None

    def returned(self, handler: Handler, event: Event) -> None:
        for raise_ in handler.raises:
            if raise_.certain and holds(raise_.needs, self.flags):
                raise _Wrong(f"{event.name}: {handler.id} returned, but should have raised {raise_.exception}")
        self.flags.update(handler.sets)

    def inside(self, call: Call) -> None:
        """Follow the run that took place inside a handler call; it shares the flags of the one around it."""
        if not call.inner:
            return
        if self.nested is None:
            raise _Wrong(f"{call.handler} ran {call.inner[0].event} inside itself")
        inner = _Follower(call.inner, self.nested, self.flags)
        loop = self.nested(call)
        shared = {name: value for name, value in loop.flags.items() if name not in self.flags}
        self.flags.update(shared)
        inner.run(loop, call.raised)
        self.calls += inner.calls


def holds(needs: Iterable[Need], flags: dict[str, bool | None]) -> bool | None:
    """Return whether all of `needs` hold: True, False, or None when that is open."""
    met = [need.met(flags) for need in needs]
    return False if False in met else None if None in met else True


def first(nodes: Iterable[Node]) -> tuple[frozenset[str], bool]:
    """Return the events with which `nodes` may begin, and whether one of them must fire."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, Event):
            names.add(node.name)
            if not node.needs:
                return frozenset(names), True
        elif isinstance(node, Scope):
            inner, must = first((*node.before, *node.body, *node.exit))
            names |= inner
            if must and not node.needs and node.repeat.least:
                return frozenset(names), True
    return frozenset(names), False
