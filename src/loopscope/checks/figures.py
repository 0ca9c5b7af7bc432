"""What a recording says of each batch or epoch: how long it took, and how much of that a handler did.

Constraint: times are integers in ns; the figures of one handler are kept together, however many runs its learner made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopscope.durations import COMPUTE, COMPUTING, Timed, between, grouped, joined
from loopscope.model import Handler, Loop
from loopscope.placing import NAME, Block, Placed

Array = Any


@dataclass(slots=True, eq=False)
class Share:
    """What one handler took of each batch: `took` in ns and `calls`, both by the number of the batch, of `count`."""

    handler: Handler
    count: int = 0
    took: list[Array] = field(default_factory=list)
    calls: list[Array] = field(default_factory=list)

    def add(self, at: int, took: Array, calls: Array) -> None:
        """Say what it took of the batches from number `at` on; of those before, of which nothing was said, nothing."""
        missing: Array = np.zeros(at - self.count, np.int64)
        self.took += [missing, took]
        self.calls += [missing, calls]
        self.count = at + len(took)

    def times(self, count: int) -> tuple[Array, Array]:
        """Return what it took of each of `count` batches, and how often it was called there."""
        missing: Array = np.zeros(count - self.count, np.int64)
        return joined([*self.took, missing]), joined([*self.calls, missing])


@dataclass(slots=True, eq=False)
class Parts:
    """All entries of one scope in the runs of one loop: the batches of the training, say.

    `took` is how long each was, `data` and `compute` what of it is known to have gone there, `shares` what handlers
    did. `run` is how the run was typed, `device` where its model was, `count` how many there are.
    """

    run: str
    device: str
    loop: Loop
    count: int = 0
    took: list[Array] = field(default_factory=list)
    data: list[Array] = field(default_factory=list)
    compute: list[Array] = field(default_factory=list)
    shares: dict[tuple[str, str], Share] = field(default_factory=dict)

    @property
    def on_cpu(self) -> bool:
        """Whether the model was where the host computes, so that nothing waits for a device."""
        return self.device.startswith("cpu")

    def times(self) -> Array:
        """Return how long each entry took."""
        return joined(self.took)

    def shipped(self, handler: Handler) -> bool:
        """Return whether a handler is the framework's own code, or nobody's that is known."""
        return handler.place is None or bool(self.loop.home and handler.place.file.startswith(self.loop.home))

    def waits(self, handler: Handler) -> bool:
        """Return whether what a handler took may be what the device had still to do."""
        return not self.on_cpu and any(fact.kind == "wait" for fact in handler.facts)


def parts(placed: Placed, name: str, without: str = "", of: Loop | None = None) -> list[Parts]:
    """Return the entries of each scope of a name: `parts(placed, "batch")`.

    What handlers do in a scope called `without`, inside of these, is left out: `parts(placed, "epoch", "batch")`. `of`
    is the loop whose runs are looked at, where it is not all of them.
    """
    found: dict[tuple[int, int], Parts] = {}
    for block in placed.blocks():
        if block.run is not None and block.loop is not None and (of is None or of is block.loop) and len(block.events):
            for number in _scopes(block, name):
                key = id(block.places), number  # those of one loop of one object
                _add(found.setdefault(key, _empty(placed, block)), placed, block, number, without)
    return [one for one in found.values() if one.count]


def _scopes(block: Block, name: str) -> list[int]:
    return [number for number, one in enumerate(block.places.scopes) if one.name == name and number in block.entered]


def _empty(placed: Placed, block: Block) -> Parts:
    assert block.run is not None
    assert block.loop is not None
    known = placed.recording.names.get(int(block.run.get("object", 0)), {})
    return Parts(str(block.run.get("call", "")), str(known.get("device", "")), block.loop)


def _add(to: Parts, placed: Placed, block: Block, number: int, without: str) -> None:
    timed = Timed(block)
    begins, ends = block.entries(number)
    if not len(begins):
        return
    entry = _within(len(block.events), begins, ends)
    to.took.append(timed.entries(number))
    to.data.append(_gaps(timed, entry, len(begins), ("data",)))
    to.compute.append(_gaps(timed, entry, len(begins), (*COMPUTE, COMPUTING)))
    for handler, took, calls in _shares(placed, timed, entry, len(begins), without):
        share = to.shares.setdefault((handler.id, handler.event), Share(handler))
        share.add(to.count, took, calls)
    to.count += len(begins)


def _shares(
    placed: Placed, timed: Timed, entry: Array, count: int, without: str
) -> Iterator[tuple[Handler, Array, Array]]:
    """Yield each handler with what it took of each entry, and how often it was called there."""
    there = _calls(timed, entry, without)
    handlers = _handlers(placed, timed.block)
    codes = (timed.block.code[timed.calls[there]] & NAME).astype(np.int64)
    known = {int(code): handlers.get(_who(placed, int(code))) for code in np.unique(codes)}
    found: dict[tuple[str, str], tuple[Handler, Array, Array]] = {}
    for code, (entries, took) in grouped(codes, entry[timed.owner[there]], timed.took[there]):
        handler = known[code]
        if handler is not None:
            _, sums, calls = found.get((handler.id, handler.event), (handler, 0, 0))
            sums = sums + np.bincount(entries, took, count).astype(np.int64)
            found[handler.id, handler.event] = handler, sums, calls + np.bincount(entries, minlength=count)
    yield from found.values()


def _within(events: int, begins: Array, ends: Array) -> Array:
    """Return for each event the number of the entry that it is in, -1 where it is in none."""
    at = np.arange(events)
    entry = np.searchsorted(begins, at, "right") - 1
    return np.where((entry >= 0) & (at < ends[np.maximum(entry, 0)]), entry, -1)


def _gaps(timed: Timed, entry: Array, count: int, categories: Iterable[str]) -> Array:
    """Return for each entry what lay between its events and counts in one of these categories."""
    places, loop = timed.block.places, timed.block.loop
    known = [between(gap, places, loop).category in categories for gap in places.gaps]
    there = np.array([*known, False], bool)[timed.block.gaps] & (entry >= 0)  # the last is for -1
    return np.bincount(entry[there], timed.gaps[there], count).astype(np.int64)


def _calls(timed: Timed, entry: Array, without: str) -> Array:
    """Return the handler calls inside the entries that ended, and are not a part of the loop itself, by number."""
    block = timed.block
    outside = entry < 0
    for number in _scopes(block, without) if without else ():
        outside = outside | (_within(len(entry), *block.entries(number)) >= 0)
    # a call at an edge is the framework's own work, which the loop does there
    edges = np.array([*(node.how == "edge" for node in block.places.nodes), True], bool)[block.node]
    return np.flatnonzero(~(outside | edges)[timed.owner] & ~np.isin(timed.calls, block.open))


def _who(placed: Placed, code: int) -> tuple[str, str]:
    name = placed.recording.names.get(code, {})
    return str(name.get("callback")).partition("|")[0], str(name.get("event"))


def _handlers(placed: Placed, block: Block) -> dict[tuple[str, str], Handler]:
    """Return (id, event) -> handler, of the loop and of the bindings that came into force later."""
    assert block.loop is not None
    bindings = [*placed.bindings.values(), block.loop.binding]
    ones: Iterator[Handler] = (one for binding in bindings for here in binding.handlers.values() for one in here)
    return {(one.id, one.event): one for one in ones}


def shown(handler: Handler) -> str:
    """Return how a handler is called: `Recorder.after_batch`, and `say` for a plain function."""
    return handler.method if handler.callback == handler.method else f"{handler.callback}.{handler.method}"


def median(took: Array) -> int:
    """Return the median of durations, in ns; 0 of none."""
    return int(np.median(took)) if len(took) else 0


UNITS = (("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))


def span(ns: float) -> str:
    """Return a duration in three digits: `span(3_070_000)` -> `"3.07 ms"`."""
    unit, size = next((one for one in reversed(UNITS) if ns >= one[1]), UNITS[0])
    value = ns / size
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}" if size > 1 else f"{value:.0f} ns"


def percent(part: float, whole: float) -> str:
    """Return a share: `percent(1, 3)` -> `"33 %"`."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
