"""Follows a real run along a loop: every event and handler call is placed, or what is unexpected is named.

The same rule serves the proof of the map (`follow` stops at the first thing that the tree does not say) and a
recording's report (`place` goes on behind it, and skips over repetitions that it has seen before). Which handlers
raised what is taken from the run; everything else, the unwinding above all, is predicted and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from loopscope.model import Event, Handler, Loop, Need, Node, Repeat, Scope, Step, is_over
from loopscope.places import Bound, Gap, Inside, Out, Places, Trace
from loopscope.seen import Call, Fired
from loopscope.views import caught

Nested: TypeAlias = Callable[[Call], Loop | Sequence[tuple[Sequence[Fired], Loop]]]
"""Gives the loop of what ran inside a handler call; where several runs did, the events of each with its loop."""


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
    nested: Nested | None = None,
) -> Followed:
    """Follow `fired` along `loop`; `outcome` is the class name of the exception that left the run, if one did.

    `nested` gives the loop of a run that took place inside a handler call, or several with the events of each; without
    it such a call is unexpected.
    """
    inside = None if nested is None else _Strict(nested)
    follower = _Follower(fired, dict(loop.flags), inside)
    try:
        follower.run(loop, outcome)
    except _Wrong as wrong:
        return Followed(follower.at, follower.calls, Unexpected(follower.at, str(wrong)))
    return Followed(follower.at, follower.calls)


@dataclass(slots=True)
class Placing:
    """A run that is placed whole: `Placing(trace, out, places, inside)`, then `place(loop, outcome)`.

    `cut` says that the recording ends before the run does; `opened` that its last event has no end.
    `unnamed` counts the calls that have no place, `apart` by name the events that other threads are to see to.
    `limit` is the number of unexpected things after which the rest is given up and counted as unexpected.
    """

    trace: Trace
    out: Out
    places: Places
    inside: Inside
    bounds: Sequence[Bound] = ()
    cut: bool = False
    opened: bool = False
    limit: int = 200
    calls: int = 0
    unexpected: list[Unexpected] = field(default_factory=list)
    given_up: int = 0
    unnamed: int = 0
    apart: dict[str, int] = field(default_factory=dict)

    def place(self, loop: Loop, outcome: str | None, flags: dict[str, bool | None] | None = None) -> None:
        """Follow the run to its end; what is unexpected is collected and stepped over."""
        follower = _Follower(self.trace, dict(loop.flags) if flags is None else flags, self.inside, self)
        try:
            follower.run(loop, outcome)
        except _Cut:
            pass
        except _Wrong as wrong:
            self.unexpected.append(Unexpected(follower.at, str(wrong)))
        if len(self.unexpected) >= self.limit:
            self.given_up += len(self.trace) - follower.at
        self.calls += follower.calls
        self.apart = follower.apart


class _Wrong(Exception):
    """The run does something that the protocol does not allow."""


class _Cut(Exception):
    """The recording ends here, and the run does not."""


class _Unwinding(Exception):
    """An exception of the run on its way outwards."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(slots=True)
class _Strict:
    """What ran inside a handler call, followed as strictly as what is around it."""

    nested: Nested

    def __call__(self, call: Call, flags: dict[str, bool | None], handler: Handler | None = None) -> tuple[int, bool]:
        found = self.nested(call)
        runs = [(call.inner, found)] if isinstance(found, Loop) else list(found)
        calls = 0
        for number, (events, loop) in enumerate(runs, 1):
            known = dict(loop.flags) if loop.own_flags else flags
            inner = _Follower(events, known, self)
            known.update({name: value for name, value in loop.flags.items() if name not in known})
            inner.run(loop, call.raised if number == len(runs) else None)
            calls += inner.calls
        return calls, not all(loop.own_flags for _, loop in runs)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """One repetition of a scope that was followed: what it placed, and the state in which it left."""

    length: int
    nodes: tuple[int, ...]
    gaps: tuple[int, ...]
    entered: tuple[tuple[int, int, int], ...]
    calls: int
    flags: tuple[tuple[str, bool | None], ...]
    before: Event | None
    steps: tuple[tuple[Step, tuple[Scope, ...]], ...]
    raised: bool
    in_step: bool
    after: tuple[object, ...]
    apart: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class _Follower:
    fired: Sequence[Fired] | Trace
    flags: dict[str, bool | None]
    inside: Inside | None
    placing: Placing | None = None
    loop: Loop = field(init=False)
    outcome: str | None = None
    at: int = 0
    calls: int = 0
    in_step: bool = False  # a step stands between the last event and here, so the framework's own code may have raised
    scopes: list[Scope] = field(default_factory=list)  # those whose body is being run: they catch
    path: list[Scope] = field(default_factory=list)  # those that are entered, before and exit included
    before: Event | None = None
    raised: bool = False
    steps: tuple[tuple[Step, tuple[Scope, ...]], ...] = ()
    rest: list[tuple[tuple[Node, ...], int]] = field(default_factory=list)  # what is left to do, outermost first
    heads: dict[int, frozenset[str]] = field(default_factory=dict)  # with which events a node begins, by its identity
    found: list[tuple[str, ...]] = field(default_factory=list)  # the flags that what fired has decided, by open scope
    nested: int = 0  # so many handler calls ran a loop inside themselves
    odd: int = -1  # the last position at which something else was expected
    keeping: int = 0  # so many scopes are being followed that will be recognised when they come again
    log: list[tuple[int, int]] = field(default_factory=list)  # meanwhile: (node, gap) of each event that was placed
    entered: list[tuple[int, int, int]] = field(default_factory=list)  # and (scope, begin, end) of each scope
    stretches: dict[tuple[object, ...], dict[int, dict[bytes, _Stretch]]] = field(default_factory=dict)
    bounds: list[Bound] = field(default_factory=list)
    apart: dict[str, int] = field(default_factory=dict)  # events that were left to other threads, by name
    entries: dict[int, int] = field(default_factory=dict)  # how often each scope with turns was entered

    def run(self, loop: Loop, outcome: str | None) -> None:
        self.loop, self.outcome = loop, outcome
        if self.placing is not None:
            self.bounds = sorted(self.placing.bounds, key=lambda bound: -bound.at)  # the next one last
        try:
            self.scope(loop.root)
        except _Unwinding as unwinding:
            if outcome is None:
                self.wrong(f"{unwinding.name} leaves the run, but the run ended normally")
        else:
            if outcome is not None and not self.in_step and self.placing is None:
                self.wrong(f"the run ended with {outcome}, but nothing that is left could raise it")
        while self.at < len(self.fired):
            self.wrong(f"{self.fired[self.at].event} fired after the end of the loop")
            self.skipped()

    def wrong(self, message: str) -> None:
        """Refuse the run, or note what is unexpected and go on."""
        if self.placing is None:
            raise _Wrong(message)
        self.placing.unexpected.append(Unexpected(self.at, message))
        if len(self.placing.unexpected) >= self.placing.limit:
            raise _Cut

    def skipped(self) -> None:
        """Step over an event that has no place."""
        self.calls += len(self.fired[self.at].calls)
        if self.placing is not None:
            self.placing.unnamed += len(self.fired[self.at].calls)
            self.placing.out.put(self.at, [-1], [-1], 1)
        self.at += 1
        self.before, self.steps = None, ()

    # -- the protocol ------------------------------------------------------------------------------------

    def nodes(self, nodes: tuple[Node, ...]) -> None:
        nested, depth = self.nested, len(self.rest)
        self.rest.append((nodes, 0))
        try:
            for at, node in enumerate(nodes, 1):
                if not self.wanted(node):
                    continue
                self.rest[depth] = nodes, at
                if isinstance(node, Event):
                    if node.how not in OPTIONAL or self.comes(node):
                        self.event(node)
                    else:
                        self.unseen(node)
                elif isinstance(node, Scope):
                    self.scope(node, self.nested > nested)
                    nested = self.nested
                else:
                    self.in_step = True
                    if self.placing is not None:
                        self.steps = (*self.steps, (node, tuple(self.path)))
        finally:
            del self.rest[depth:]

    def unseen(self, event: Event) -> None:
        """Pass over an event that this thread does not see, with what its handlers may change."""
        if event.how == "apart":
            self.apart[event.name] = self.apart.get(event.name, 0) + 1
        self.unsure(one for handler in self.loop.binding.at(event.name) for one in handler.sets)

    def wanted(self, node: Node) -> bool:
        """Return whether the run takes this node: by its flags, and where these are open by what fired next.

        What that says of a flag holds up to the end of the scope: a batch without a loss has no backward pass.
        """
        met = holds(node.needs, self.flags)
        if met is not None or isinstance(node, Step):
            return met is not False
        comes = self.comes(node) or self.inside_of(node) or self.comes_late(node)
        unsure = [need for need in node.needs if need.met(self.flags) is None]
        if comes or len(unsure) == 1:
            self.flags.update((need.flag, need.value is comes) for need in unsure)
            self.found[-1:] = [(*self.found[-1], *(need.flag for need in unsure))] if self.found else []
        return comes

    def inside_of(self, node: Node) -> bool:
        """Return whether the run is inside of `node` although its beginning is missing."""
        if self.placing is None or not isinstance(node, Scope) or self.at >= len(self.fired):
            return False
        seen = self.fired[self.at].event
        return seen in _names((node,)) and seen not in self.behind()

    def comes_late(self, node: Node) -> bool:
        """Return whether `node` begins behind an event that has no place; that is said, and stepped over."""
        if self.placing is None or self.at + 1 >= len(self.fired) or self.fired[self.at].event in self.behind():
            return False
        name = self.fired[self.at + 1].event
        if name not in self.heads[id(node)]:
            return False
        self.wrong(f"expected {name}, but {self.fired[self.at].event} fired")
        self.skipped()
        return True

    def comes(self, node: Node) -> bool:
        if id(node) not in self.heads:
            self.heads[id(node)] = first([node])[0]
        return self.at < len(self.fired) and self.fired[self.at].event in self.heads[id(node)]

    def scope(self, scope: Scope, shaken: bool = False) -> None:
        """Follow a scope, as often as it is repeated.

        `shaken` says that a loop ran inside a handler just before: it may have changed how often (fastai's nested `fit`
        leaves its own number of epochs behind, a nested validation its data), which then only the run knows.
        """
        if scope.repeat.most is None:
            times = self.all(scope)
            if times < scope.repeat.least:
                self.ends_here(scope)
                self.wrong(f"expected {scope.name} at least {scope.repeat.least} times, but it ran {times} times")
            return
        open_end = scope.repeat.least < scope.repeat.most
        left = scope.repeat.most
        while left:
            self.ends_here(scope)
            if open_end and scope.repeat.most - left >= scope.repeat.least and not self.comes(scope):
                return
            if self.fewer(scope, left, shaken):
                return
            last = left == 1
            self.flags.update(scope.last_sets if last else ())
            done = self.again(scope, 1 if last else left - 1)
            if not done:
                self.once(scope, not last)
            left -= done or 1
        self.more(scope, shaken)

    def all(self, scope: Scope) -> int:
        """Follow as many repetitions as there are, and return their number."""
        begin, times = -1, 0
        while self.comes(scope) and begin < self.at:
            begin = self.at
            done = self.again(scope, len(self.fired))
            if not done:
                self.once(scope, True)
            times += done or 1
        return times

    def fewer(self, scope: Scope, left: int, shaken: bool) -> bool:
        """Return whether the run goes on behind a scope that was expected `left` times more, and say so."""
        if not shaken and (self.placing is None or scope.repeat.most == 1):
            return False
        if self.at >= len(self.fired) or self.comes(scope):
            return False
        seen = self.fired[self.at].event
        if seen not in self.behind():
            return False
        if not shaken:
            self.wrong(f"expected {scope.name} {left} more of {scope.repeat} times, but {seen} fired")
        return True

    def more(self, scope: Scope, shaken: bool) -> None:
        """Follow repetitions that nobody expected, and say so once."""
        if (self.placing is None and not shaken) or not self.comes(scope):
            return
        seen = self.fired[self.at].event
        if seen in self.behind():
            return
        if not shaken:
            self.wrong(f"expected {scope.name} only {scope.repeat} times, but {seen} fired")
        self.all(scope)

    def behind(self) -> set[str]:
        """Return the events with which the run may go on behind the node that it is at."""
        names: set[str] = set()
        for nodes, at in reversed(self.rest):
            inner, must = first(nodes[at:])
            names |= inner
            if must:
                break
        return names

    def ends_here(self, scope: Scope) -> None:
        """Stop where the recording does: not even a wanted repetition is expected behind that."""
        if self.placing is not None and self.placing.cut and self.at >= len(self.fired):
            raise _Cut

    def once(self, scope: Scope, more: bool) -> None:
        """Follow one repetition; `more` says that another one may follow."""
        if self.placing is None:
            self.enter(scope)
            return
        depth = len(self.rest)
        # where it need not come again, what follows the scope may come as well
        again = scope if scope.repeat.least == scope.repeat.most else replace(scope, repeat=Repeat(0, None))
        self.rest += [((again,), 0)] if more else []
        number = self.placing.places.scope(scope, self.path)
        keeps = self.placing.places.keeps(scope)
        key, begin, calls = (*self.state(scope), *self.turn(scope)) if keeps else (), self.at, self.calls
        apart = dict(self.apart)
        mark, entered, wrongs = len(self.log), len(self.entered), len(self.placing.unexpected)
        self.keeping += keeps
        try:
            self.enter(scope)
            if keeps and wrongs == len(self.placing.unexpected):
                self.keep(scope, key, (begin, calls, mark, entered), apart)
        finally:
            del self.rest[depth:]
            self.placing.out.entered(number, begin, self.at, 0, 1)
            self.keeping -= keeps
            if self.keeping:
                self.entered.append((number, begin, self.at))
            else:
                self.log.clear()
                self.entered.clear()

    def keep(
        self, scope: Scope, key: tuple[object, ...], since: tuple[int, int, int, int], apart: dict[str, int]
    ) -> None:
        """Keep what a repetition placed, for its likes; `since` is where its events, calls, places and scopes begin."""
        assert self.placing is not None
        begin, calls, mark, entered = since
        length = self.at - begin
        window = self.placing.trace.window(begin, length) if length else None
        if window is None or any(begin <= bound.at < self.at for bound in self.placing.bounds):
            return
        if len(self.stretches) > MOST_STATES:
            self.stretches.clear()
        placed = self.log[mark:]
        inner = [(one, first - begin, last - begin) for one, first, last in self.entered[entered:]]
        itself = self.placing.places.scope(scope, self.path), 0, length
        known = self.stretches.setdefault(key, {}).setdefault(length, {})
        if len(known) > MOST_STATES:
            known.clear()
        known[window] = _Stretch(
            length,
            tuple(node for node, _ in placed),
            tuple(gap for _, gap in placed),
            (*inner, itself),
            self.calls - calls,
            tuple(self.flags.items()),
            self.before,
            self.steps,
            self.raised,
            self.in_step,
            self.state(scope),
            tuple((name, count - apart.get(name, 0)) for name, count in self.apart.items()),
        )

    def state(self, scope: Scope) -> tuple[object, ...]:
        """Return all that one repetition depends on, but for the events themselves."""
        steps = tuple(id(step) for step, _ in self.steps)
        binding = id(self.loop.binding)
        return id(scope), tuple(self.flags.items()), id(self.before), self.raised, steps, self.in_step, binding

    def turn(self, scope: Scope) -> tuple[bool, ...]:
        """Return the flags that the next entry of a scope brings with it."""
        entry = self.entries.get(id(scope), 0) + 1
        return tuple(turn.at(entry) for turn in scope.turns)

    def again(self, scope: Scope, most: int) -> int:
        """Place as many repetitions as are the same as one that was followed before; return their number."""
        if self.placing is None or scope.repeat.most == 1 or not self.stretches:
            return 0
        state = self.state(scope)
        for length, known in self.stretches.get((*state, *self.turn(scope)), {}).items():
            window = self.placing.trace.window(self.at, length)
            stretch = known.get(window) if window is not None else None
            room = (self.bounds[-1].at if self.bounds else len(self.fired)) - self.at
            if stretch is None or room < length:
                continue
            entry = self.entries.get(id(scope), 0) + 1
            most = min(most, room // length, *(turn.steady(entry) for turn in scope.turns))
            times = self.placing.trace.repeats(self.at, length, most if stretch.after == state else 1)
            self.take(stretch, times)
            if scope.turns:
                self.entries[id(scope)] = entry + times - 1
            return times
        return 0

    def take(self, stretch: _Stretch, times: int) -> None:
        """Place `times` stretches that are like the one given."""
        assert self.placing is not None
        self.placing.out.put(self.at, stretch.nodes, stretch.gaps, times)
        for scope, begin, end in stretch.entered:
            self.placing.out.entered(scope, self.at + begin, self.at + end, stretch.length, times)
        for n in range(times if self.keeping else 0):
            base = self.at + n * stretch.length
            self.log.extend(zip(stretch.nodes, stretch.gaps, strict=True))
            self.entered.extend((scope, base + begin, base + end) for scope, begin, end in stretch.entered)
        self.at += times * stretch.length
        self.calls += times * stretch.calls
        for name, count in stretch.apart:
            self.apart[name] = self.apart.get(name, 0) + times * count
        self.flags.clear()
        self.flags.update(stretch.flags)
        self.before, self.steps = stretch.before, stretch.steps
        self.raised, self.in_step = stretch.raised, stretch.in_step

    def left_in_step(self, entering: Scope | None = None) -> None:
        """Go the way of the framework's own exception in the step before, where what fired can be nothing else.

        Said here where a scope would be entered, or has come to the end of its body: at an event that is expected it is
        said by `raised_in_step`.
        """
        if not self.in_step or self.at >= len(self.fired) or (entering is not None and self.comes(entering)):
            return
        seen = self.fired[self.at].event
        for scope in reversed(self.scopes):
            for catch in scope.catches:
                if id(catch) not in self.heads:
                    self.heads[id(catch)] = first(catch.body)[0]
                if seen in self.heads[id(catch)] and seen not in self.behind():
                    raise _Unwinding(catch.exceptions[0])

    def enter(self, scope: Scope) -> None:
        self.left_in_step(scope)
        self.flags.update(scope.sets)
        if scope.turns:
            self.flags.update(zip((turn.flag for turn in scope.turns), self.turn(scope), strict=True))
            self.entries[id(scope)] = self.entries.get(id(scope), 0) + 1
        self.path.append(scope)
        self.found.append(())
        depth = len(self.rest)
        self.rest.append((scope.exit, 0))
        try:
            self.nodes(scope.before)
            self.scopes.append(scope)
            try:
                self.nodes(scope.body)
                self.left_in_step()
            except _Unwinding as unwinding:
                self.scopes.pop()
                self.unwound(scope, unwinding)
            else:
                self.scopes.pop()
            del self.rest[depth:]
            self.nodes(scope.exit)
        finally:
            self.path.pop()
            self.flags.update((name, None) for name in self.found.pop())
            del self.rest[depth:]

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
        while self.at == len(self.fired) or self.fired[self.at].event != event.name:
            if self.placing is not None and self.placing.cut and self.at == len(self.fired):
                raise _Cut
            message = self.raised_in_step(event)
            if self.odd != self.at:  # what else is missing here is said with the first
                self.wrong(message)
            self.odd = self.at
            if not self.is_extra(event):
                self.unsure(one for handler in self.loop.binding.at(event.name) for one in handler.sets)
                return  # it is missing: what fired instead may be what comes next
            self.skipped()
        while self.bounds and self.bounds[-1].at <= self.at:
            bound = self.bounds.pop()
            if bound.binding is not None:
                self.loop = replace(self.loop, binding=bound.binding)
            self.flags.update(bound.flags)
        seen = self.fired[self.at]
        # an enclosing call may raise at once; and at its end an exception of what it enclosed may be passing through
        self.in_step = event.how == "edge" and (self.in_step or not is_over(event))
        raised = self.handlers(event, seen)
        self.placed(event, raised is not None)
        self.at += 1
        if raised is not None and raised not in self.loop.swallowed:
            raise _Unwinding(raised)
        if raised is None:
            self.flags.update(self.loop.binding.resets.get(event.name, ()))

    def is_extra(self, event: Event) -> bool:
        """Return whether what fired has no place, rather than that `event`, which was expected, is missing."""
        ahead = [self.fired[at].event for at in range(self.at, min(self.at + 4, len(self.fired)))]
        if event.name in ahead[1:2]:
            return True
        if not ahead:
            return False
        nodes, at = self.rest[-1]
        if ahead[0] in _names(nodes[at:]) or ahead[0] in self.behind():
            return False
        return event.name in ahead[2:] or ahead[0] not in _names((self.loop.root,))

    def unsure(self, sets: Iterable[tuple[str, bool | None]]) -> None:
        """Leave to the run what a handler sets that was expected and not seen."""
        self.flags.update((name, None) for name, _ in sets)

    def placed(self, event: Event, raised: bool) -> None:
        if self.placing is None:
            return
        places = self.placing.places
        node = places.node(event, self.path)
        gap = places.gap(Gap(self.before, self.raised, self.steps, event))
        self.placing.out.put(self.at, [node], [gap], 1)
        if self.keeping:
            self.log.append((node, gap))
        self.before, self.raised, self.steps = event, raised, ()

    def raised_in_step(self, event: Event) -> str:
        """The expected event did not fire: go the way of the framework's own exception, or say so."""
        seen = self.fired[self.at].event if self.at < len(self.fired) else None
        out = self.outcome if self.in_step or self.placing is not None else None
        for scope in reversed(self.scopes):
            for catch in scope.catches if self.in_step else ():
                ahead = (*catch.body, *scope.exit) if catch.then == "exit" else catch.body
                if seen in first(ahead)[0]:
                    raise _Unwinding(catch.exceptions[0])
            if scope.always and out is not None and seen in first(scope.exit)[0]:
                raise _Unwinding(out)
        if seen is None and out is not None:
            raise _Unwinding(out)
        return f"expected {event.name}, {'the run ended' if seen is None else f'but {seen} fired'}"

    def handlers(self, event: Event, seen: Fired) -> str | None:
        """Compare the calls of one event with the binding; return the exception that ended it, if one did."""
        left = list(seen.calls)
        open_end = self.placing is not None and self.placing.opened and self.at == len(self.fired) - 1
        for handler in self.loop.binding.at(event.name):
            met = holds(handler.needs, self.flags)
            while met and any(_is_of(call, handler) for call in left[1:]) and not _is_of(left[0], handler):
                extra = left.pop(0)
                if self.extra(extra, event):
                    return extra.raised
            here = bool(left) and _is_of(left[0], handler)
            if (open_end or seen.raised is not None) and not left:
                break
            if met is True and not here:
                self.wrong(
                    f"{event.name}: expected {handler.id}, {f'but {left[0].handler}' if left else 'nothing'} was called"
                )
                self.unsure(handler.sets)
                continue
            if met is False or not here:
                continue
            call = left.pop(0)
            self.calls += 1
            self.ran_inside(call, handler)
            if call.raised is not None:
                if left:
                    self.wrong(f"{event.name}: {left[0].handler} was called after {handler.id} raised {call.raised}")
                return call.raised
            self.returned(handler, event)
        for call in left:
            if self.extra(call, event):
                return call.raised
        return seen.raised

    def extra(self, call: Call, event: Event) -> bool:
        """Step over a call that has no place; return whether it ended the event."""
        if self.placing is not None:
            self.placing.unnamed += 1
        self.wrong(f"{event.name}: {call.handler} was called, which the binding does not name there")
        self.calls += 1
        self.ran_inside(call)
        return call.raised is not None

    def returned(self, handler: Handler, event: Event) -> None:
        for raise_ in handler.raises:
            if raise_.certain and holds(raise_.needs, self.flags):
                self.wrong(f"{event.name}: {handler.id} returned, but should have raised {raise_.exception}")
        self.flags.update(handler.sets)

    def ran_inside(self, call: Call, handler: Handler | None = None) -> None:
        """Follow the run that took place inside a handler call; it shares the flags of the one around it.

        Or the events that the handler fired by itself, where it may do so.
        """
        if not call.inner:
            return
        if handler is not None and handler.inside and isinstance(self.inside, _Strict | None) and call.run is None:
            inner = _Follower(call.inner, self.flags, self.inside)
            inner.run(fired_by(handler, self.loop), call.raised)
            self.calls += inner.calls
            return
        if self.inside is None:
            raise _Wrong(f"{call.handler} ran {call.inner[0].event} inside itself")
        calls, shaken = self.inside(call, self.flags, handler)
        self.nested += shaken
        self.calls += calls


def fired_by(handler: Handler, loop: Loop) -> Loop:
    """Return what a handler fires by itself as a loop of its own, any number of times."""
    again = Scope(handler.method, handler.inside, repeat=Repeat(0, None, "as often as it likes"))
    return replace(loop, root=Scope(handler.method, (again,)))


OPTIONAL = ("unseen", "apart")
"""How an event is seen that may be missing where it stands."""


def _is_of(call: Call, handler: Handler) -> bool:
    """Return whether a call is one of this handler: by its id, or by one of several that were recorded as one."""
    return call.handler == handler.id or (handler.evidence == "merged" and handler.id in call.handler.split("|"))


MOST_STATES = 5_000
"""So many different repetitions are kept; a run in which each is different is followed event by event."""


def _names(nodes: Iterable[Node]) -> set[str]:
    """Return the events anywhere in `nodes`."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, Event):
            names.add(node.name)
        elif isinstance(node, Scope):
            names |= _names(node.nodes())
    return names


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
            if not node.needs and node.how not in OPTIONAL:
                return frozenset(names), True
        elif isinstance(node, Scope):
            inner, must = first((*node.before, *node.body, *node.exit))
            names |= inner
            if must and not node.needs and node.repeat.least:
                return frozenset(names), True
    return frozenset(names), False
