"""The places of a run: nodes of a loop by number, what lies between them, and where a follower puts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from loopscope.model import Binding, Event, Flags, Handler, Scope, Step
from loopscope.seen import Call, Fired

MOST_KEPT = 2_000
"""A repetition of at most so many events is kept to be recognised: a batch, not an epoch of many batches."""


class Trace(Protocol):
    """The events of a long run, in which equal stretches can be found without looking at each event."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int) -> Fired: ...

    def window(self, at: int, length: int) -> bytes | None:
        """Return what identifies the events from `at` on, with the one that follows; None if it cannot recur."""

    def repeats(self, at: int, length: int, most: int) -> int:
        """Return how often the stretch of `length` events from `at` on stands there in a row, at most `most` times."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The stretch before an event: `before` is the event's node that came before it (None: the run's begin).

    `raised` says whether an exception left that one; `steps` are the steps that the loop takes there, each with the
    scopes that it stands in, outermost first.
    """

    before: Event | None
    raised: bool
    steps: tuple[tuple[Step, tuple[Scope, ...]], ...]
    after: Event | None


class Out(Protocol):
    """Where the places of a run go: node and gap of each event, and each time that a scope was entered."""

    def put(self, at: int, nodes: Sequence[int], gaps: Sequence[int], times: int) -> None:
        """Place `times` equal stretches of events, one behind the other, from `at` on."""

    def entered(self, scope: int, begin: int, end: int, every: int, times: int) -> None:
        """Say that a scope held the events `begin` to `end`, and so `times` times, `every` events later each."""


@dataclass(slots=True)
class Places:
    """What the numbers in an `Out` stand for: nodes by number, the scopes around each, and the gaps."""

    nodes: list[Event] = field(default_factory=list)
    paths: list[tuple[Scope, ...]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    scope_paths: list[tuple[Scope, ...]] = field(default_factory=list)
    known_nodes: dict[int, int] = field(default_factory=dict)
    known_gaps: dict[tuple[object, ...], int] = field(default_factory=dict)
    known_scopes: dict[int, int] = field(default_factory=dict)
    kept: dict[int, bool] = field(default_factory=dict)

    def keeps(self, scope: Scope) -> bool:
        """Return whether repetitions of a scope are worth recognising."""
        if id(scope) not in self.kept:
            self.kept[id(scope)] = scope.repeat.most != 1 and _size(scope) <= MOST_KEPT and not _turning_inside(scope)
        return self.kept[id(scope)]

    def node(self, event: Event, path: Sequence[Scope]) -> int:
        if id(event) not in self.known_nodes:
            self.known_nodes[id(event)] = len(self.nodes)
            self.nodes.append(event)
            self.paths.append(tuple(path))
        return self.known_nodes[id(event)]

    def gap(self, gap: Gap) -> int:
        key = (id(gap.before), gap.raised, id(gap.after), *(id(step) for step, _ in gap.steps))
        if key not in self.known_gaps:
            self.known_gaps[key] = len(self.gaps)
            self.gaps.append(gap)
        return self.known_gaps[key]

    def scope(self, scope: Scope, path: Sequence[Scope]) -> int:
        if id(scope) not in self.known_scopes:
            self.known_scopes[id(scope)] = len(self.scopes)
            self.scopes.append(scope)
            self.scope_paths.append(tuple(path))
        return self.known_scopes[id(scope)]


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding that holds from the event `at` of a run on (None: the one before), with what the flags are there."""

    at: int
    binding: Binding | None
    flags: Flags


class Inside(Protocol):
    """Follows what ran inside a handler call."""

    def __call__(self, call: Call, flags: dict[str, bool | None], handler: Handler | None = None) -> tuple[int, bool]:
        """Follow it, as what `handler` did, with the flags of the run around it, which it may change.

        Return how many calls were placed, and whether it may have changed the run around it.
        """


def _turning_inside(scope: Scope) -> bool:
    """Return whether repetitions differ by how often something inside was entered before."""
    return any(bool(node.turns) or _turning_inside(node) for node in scope.nodes() if isinstance(node, Scope))


def _size(scope: Scope) -> int:
    """Return how many events one repetition has at most; a number beyond every limit where that is open."""
    size = 0
    for node in scope.nodes():
        if isinstance(node, Event):
            size += 1
        elif isinstance(node, Scope):
            size += _size(node) * (node.repeat.most if node.repeat.most is not None else MOST_KEPT + 1)
    return size
