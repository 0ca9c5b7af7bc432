"""How long the parts of a placed run took, each nanosecond in exactly one of them, and what they are called.

Constraint: integer arithmetic only, so that the parts sum to the whole exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopscope.model import Loop, Scope
from loopscope.places import Gap, Places
from loopscope.placing import Block
from loopscope.report import Stats

DATA = ("start the data", "draw a batch", "move to device", "split into xb and yb")
COMPUTE = ("forward", "loss", "backward", "optimizer step", "zero_grad")
COMPUTING = "compute"
"""Where a stretch between two events holds several steps, of `COMPUTE` among others, which cannot be told apart."""

OTHER = "other steps"
"""What the framework does there by name, and none of the words above says."""

READING = "reading the loop"
"""What loopscope itself did before a run inside another one: it read its loop."""

CATEGORIES = (
    "data",
    *COMPUTE,
    COMPUTING,
    OTHER,
    "handlers",
    "dispatch",
    "between events",
    "framework",
    READING,
    "outside",
)
"""The rows of the summary, in the order in which they are read."""


KNOWN = ("data", *COMPUTE)


@dataclass(frozen=True, slots=True)
class Between:
    """What a gap is called, in which category it counts, and in which scope it stands (the innermost last)."""

    name: str
    category: str
    path: tuple[Scope, ...]


def between(gap: Gap, places: Places, loop: Loop | None) -> Between:
    """Name the stretch before an event: by its step where the framework's own code takes exactly one there.

    One that holds several is called by the events around it. So is one of an overridden loop, where a step's name may
    be wrong.
    """
    before = () if gap.before is None else places.paths[places.known_nodes[id(gap.before)]]
    after = () if gap.after is None else places.paths[places.known_nodes[id(gap.after)]]
    common = tuple(one for one, other in zip(before, after, strict=False) if one is other)
    if gap.before is None:
        common = after[:1]
    steps = [] if gap.raised else list(gap.steps)
    home = loop.home if loop is not None else ""
    foreign = [step for step, _ in steps if step.place is None or not home or not step.place.file.startswith(home)]
    words = list(dict.fromkeys("data" if step.name in DATA else step.name for step, _ in steps))
    if foreign and (words or len(foreign) == len(steps)) and gap.before is not None and gap.after is not None:
        return Between(f"{gap.before.name} → {gap.after.name}", "between events", common)
    if len(words) == 1:
        return Between(words[0], words[0] if words[0] in KNOWN else OTHER, steps[0][1])
    if words and gap.before is not None and gap.after is not None:
        # small steps on the way (to move the batch, to clip) are a part of the computing there; a wait for data is not
        names = {step.name for step, _ in steps}
        waits = names & {*DATA} - {"move to device"}
        category = COMPUTING if names & {*COMPUTE} and not waits else "between events"
        one_place = all(path == steps[0][1] for _, path in steps)
        return Between(f"{gap.before.name} → {gap.after.name}", category, steps[0][1] if one_place else common)
    return Between("framework", "framework", common)


class Timed:
    """The durations of one block, each nanosecond of it once: events, calls, what lies between, and calls inside.

    `gaps` are those before each event, `tail` the one behind the last, both without runs that took place there;
    `dispatch` is what of each event no handler took. `calls` are the rows of handler calls, `took` their durations,
    `owner` the number of the event of each, `inside` what nested runs took of a call, by its number.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        start, end, events = block.start, block.end, block.events
        self.begins, self.ends = start[events], end[events]
        last = int(self.ends[-1]) if len(events) else block.begin
        self.gaps = self.begins - np.append(np.int64(block.begin), self.ends[:-1])[: len(events)]
        self.tail = block.until - last
        self.events = self.ends - self.begins
        handlers: Any = np.ones(len(start), bool)
        handlers[events] = False
        self.calls: Any = np.flatnonzero(handlers).astype(np.int32 if len(start) < 1 << 31 else np.int64)
        self.took = end[self.calls] - start[self.calls]
        counts: Any = np.diff(np.append(events, len(start))) - 1
        self.owner: Any = np.repeat(np.arange(len(events), dtype=np.int32), counts)
        running: Any = np.append(np.int64(0), np.cumsum(self.took))
        edges: Any = np.append(np.int64(0), np.cumsum(counts))
        self.dispatch = self.events - (running[edges[1:]] - running[edges[:-1]])
        self.inside: dict[int, int] = {}
        for child in block.children:
            took = child.until - child.begin + child.lead
            if child.owner >= 0:
                at = int(np.searchsorted(self.calls, child.owner))
                self.inside[at] = self.inside.get(at, 0) + took
            elif child.gap < len(events):
                self.gaps[child.gap] -= took
            else:
                self.tail -= took

    def entered(self, scope: int) -> tuple[Any, Any]:
        """Return the numbers of the first event of each entry of a scope, and of the one behind its last."""
        return self.block.entries(scope)

    def leads(self, scope: int, begins: Any) -> Any:
        """Return whether what lies before these events belongs to the scope that they begin: drawing the batch, say."""
        places, one = self.block.places, self.block.places.scopes[scope]
        rows = [any(inner is one for inner in between(gap, places, self.block.loop).path) for gap in places.gaps]
        return np.array([*rows, False], bool)[self.block.gaps[begins]]

    def entries(self, scope: int) -> Any:
        """Return how long each entry of a scope took: from its first event to its last, and what led to it."""
        begins, ends = self.entered(scope)
        led = np.where(self.leads(scope, begins), self.gaps[begins], 0)
        return self.ends[ends - 1] - self.begins[begins] + led


def stats(took: Any) -> Stats:
    """Return the figures of a row: `stats(np.array([3, 5]))`, in ns; p50 and p99 are durations that occurred."""
    count = len(took)
    if not count:
        return Stats(0, 0, 0, 0, 0)
    ranks = (count - 1) // 2, min(count - 1, -(-count * 99 // 100) - 1)
    ordered = np.partition(took, ranks)
    return Stats(count, int(took.sum()), int(ordered[ranks[0]]), int(ordered[ranks[1]]), int(took.max()))


def grouped(keys: Any, *columns: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield each key with its part of every column: `dict(grouped(np.array([1, 0, 1]), durations))`."""
    if not len(keys):
        return
    known, small = numbered(keys)
    order = np.argsort(small, kind="stable").astype(np.int32 if len(keys) < 1 << 31 else np.int64)
    edges = np.cumsum(np.bincount(small)).tolist()
    for key, first, stop in zip(known.tolist(), [0, *edges], edges, strict=False):
        rows = order[first:stop]
        yield key, tuple(column[rows] for column in columns)


def numbered(keys: Any) -> tuple[Any, Any]:
    """Return the different keys in order, and for each key its number among them, in as few bytes as that takes."""
    if int(keys.min()) >= 0 and int(keys.max()) < 1 << 22:  # faster than sorting where they are few and small
        known = np.flatnonzero(np.bincount(keys))
        kind = np.uint16 if len(known) < 1 << 16 else np.int32
        table: Any = np.zeros(int(keys.max()) + 1, kind)
        table[known] = np.arange(len(known))
        return known, table[keys]
    known = np.unique(keys)
    return known, np.searchsorted(known, keys)


def joined(arrays: Sequence[Any]) -> Any:
    """Return one array of all; of one, that itself: a long run is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def found_in(ordered: Any, wanted: Any) -> list[int]:
    """Return where those of `wanted` stand that are in `ordered`."""
    at: Any = np.searchsorted(ordered, wanted)
    there = at < len(ordered)
    at = at[there]
    found: list[int] = at[ordered[at] == wanted[there]].tolist()
    return found
