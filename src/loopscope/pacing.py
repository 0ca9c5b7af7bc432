"""How long each row of two recordings took, call by call, and which of them differ beyond their noise.

The rule (`beyond`): the calls of a row are cut into up to 20 stretches, as they came. Where the medians of the
stretches lie, but for the few lowest and highest, is the noise of the row in that recording. Two rows differ if the gap
between these ranges is wider than the wider of them (as ratios: what a busy machine does to a row in one half of a run
it may do to all of another run), if one median is at least `LEAST` times the other and `FLOOR` away, and if all of that
still holds when B is divided by what its rows took longer at large. A row with fewer than `FEWEST` calls says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loopscope.changes import Change, Pace, What
from loopscope.durations import Timed, between, grouped, joined
from loopscope.endings import endings, handler_name
from loopscope.model import Loop, Scope
from loopscope.placing import NAME, Block, Placed

FEWEST = 8
"""A row with fewer calls in one of the recordings is not compared."""

STRETCHES = 20
LEAST = 1.25
"""So many times as long, at least."""

FLOOR = 2_000
"""So many nanoseconds longer, at least: a clock read and a cache miss are no news."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of the timed tree: `Slot("handler", ("fit",), "after_fit", "Recorder.after_fit", "Recorder#2")`."""

    what: What
    path: tuple[str, ...]
    event: str
    name: str
    callback: str = ""


@dataclass(slots=True, eq=False)
class Run:
    """The runs of one loop of one object in a recording, as one: their durations go into the same rows.

    `ended` says how they ended: `finished`, `raised ValueError`; nothing for those inside other runs.
    """

    loop: Loop
    call: str
    names: Mapping[int, Mapping[str, Any]]
    blocks: list[Block]
    ended: dict[str, None]
    _durations: dict[Slot, Any] | None = None

    @property
    def wall(self) -> int:
        """How long they took, in ns."""
        return sum(one.until - one.begin for one in self.blocks)

    def entered(self) -> dict[tuple[str, ...], int]:
        """Return how often each scope was entered, by the names of those around it and its own."""
        return {(*slot.path, slot.name): len(took) for slot, took in self.durations().items() if slot.what == "scope"}

    def durations(self) -> dict[Slot, Any]:
        """Return how long each call of each row took, in ns, in the order in which they came."""
        if self._durations is None:
            found: dict[Slot, list[Any]] = {}
            for block in self.blocks:
                for slot, took in _durations(block, self.names):
                    found.setdefault(slot, []).append(took)
            self._durations = {slot: joined(ones) for slot, ones in found.items()}
        return self._durations


def runs(placed: Placed) -> list[Run]:
    """Return the runs of a recording that have a loop, those inside other runs included, in order."""
    found: dict[object, Run] = {}
    outermost = [block for block in placed.blocks() if block.run is not None and block.parent is None]
    ended = {
        id(block): f"{one.how} {one.exception}".rstrip()
        for block, one in zip(sorted(outermost, key=lambda one: one.begin), endings(placed), strict=True)
    }
    for block in placed.blocks():
        if block.run is None or block.loop is None:
            continue
        key = block.run.get("loop"), block.run.get("object"), block.run.get("call"), block.parent is None
        if key not in found:
            found[key] = Run(block.loop, str(block.run.get("call", "")), placed.recording.names, [], {})
        found[key].blocks.append(block)
        if id(block) in ended:
            found[key].ended[ended[id(block)]] = None
    return list(found.values())


def _durations(block: Block, names: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[Slot, Any]]:
    """Yield the durations of one run: its scopes, events, handler calls, and the steps between the events."""
    timed = Timed(block)
    yield from _scopes(timed)
    yield from _steps(timed)
    if not len(block.events):
        return
    for node, (took,) in grouped(np.asarray(block.node) + 1, timed.events):
        if node and block.places.nodes[node - 1].how != "edge":
            name = block.places.nodes[node - 1].name
            yield Slot("event", _path(block.places.paths[node - 1]), name, name), took
    yield from _calls(timed, names)


def _scopes(timed: Timed) -> Iterator[tuple[Slot, Any]]:
    places = timed.block.places
    for number, scope in enumerate(places.scopes):
        yield Slot("scope", _path(places.scope_paths[number]), "", scope.name), timed.entries(number)


def _steps(timed: Timed) -> Iterator[tuple[Slot, Any]]:
    block = timed.block
    if not len(block.gaps):
        return
    for number, (took,) in grouped(np.asarray(block.gaps) + 1, timed.gaps):
        if number:
            lies = between(block.places.gaps[number - 1], block.places, block.loop)
            if lies.category != "framework":
                yield Slot("step", _path(lies.path), "", lies.name), took


def _calls(timed: Timed, names: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[Slot, Any]]:
    block = timed.block
    if not len(timed.calls):
        return
    most = max(names, default=0) + 1
    nodes = np.asarray(block.node)[timed.owner].astype(np.int64) + 1
    keys = nodes * most + (block.code[timed.calls] & NAME).astype(np.int64)
    for key, (took,) in grouped(keys, timed.took):
        node, number = divmod(key, most)
        if node:
            event, name = block.places.nodes[node - 1].name, names[number]
            callback = str(name.get("callback"))
            yield Slot("handler", _path(block.places.paths[node - 1]), event, handler_name(name), callback), took


def _path(scopes: Sequence[Scope]) -> tuple[str, ...]:
    """Return the names of the scopes around a row, as the tree has them: without the run itself."""
    return tuple(one.name for one in scopes[1:])


# -- the rule ----------------------------------------------------------------------------------------------------------


def paced(a: Run, b: Run, names: Mapping[str, str]) -> list[Change]:
    """Return the rows whose times differ beyond their noise, slowest first; `names` are ids in B -> ids in A.

    A scope or an event whose handler differs is left out: the handler says it.
    """
    factor = shared_factor(a, b, names)
    found = [
        _change(slot, _pace(ours, a.wall), _pace(theirs, b.wall))
        for slot, ours, theirs in _both(a, b, names)
        if beyond(ours, theirs, factor)
    ]
    said = {(one.where, one.event) for one in found if one.what == "handler"}
    kept = [one for one in found if one.what != "event" or (one.where, one.event) not in said]
    return sorted(kept, key=lambda one: -abs(_weight(one)))


def shared_factor(a: Run, b: Run, names: Mapping[str, str]) -> float:
    """Return how many times as long the rows of B took at large: the middle of all ratios; 1.0 where there are few."""
    ratios = [
        float(np.median(theirs)) / float(np.median(ours))
        for slot, ours, theirs in _both(a, b, names)
        if slot.what in ("handler", "step") and np.median(ours) > 0
    ]
    return float(np.median(ratios)) if len(ratios) >= FEWEST else 1.0


def _both(a: Run, b: Run, names: Mapping[str, str]) -> Iterator[tuple[Slot, Any, Any]]:
    """Yield the rows that both recordings have, as often as it takes to say something."""
    ours = {_known(slot, {}): took for slot, took in a.durations().items()}
    for slot, theirs in b.durations().items():
        mine = ours.get(_known(slot, names))
        if mine is not None and min(len(mine), len(theirs)) >= FEWEST:
            yield slot, mine, theirs


def _known(slot: Slot, names: Mapping[str, str]) -> Slot:
    known = "|".join(names.get(one, one) for one in slot.callback.split("|"))  # several where calls were merged
    return replace(slot, callback=known)


def beyond(a: Any, b: Any, factor: float = 1.0) -> bool:
    """Return whether durations differ beyond their noise: `beyond(np.array([3, 4, 3, ...]), np.array([9, 8, ...]))`.

    Of calls that are independent of each other, and alike in both recordings, it takes 1 pair in 6 000 for different at
    most, by counting the orders in which the stretches may come (`LEAST` and `FLOOR` left aside). Recordings are not
    like that; docs/diff.md says what came out for pairs of recordings of one and the same program.
    """
    return _apart(a, b) and _apart(a * factor, b)


def _apart(a: Any, b: Any) -> bool:
    (low, high), (least, most) = _range(a), _range(b)
    one, other = float(np.median(a)), float(np.median(b))
    small, great = min(one, other), max(one, other)
    gap = max(least / max(high, 1.0), low / max(most, 1.0))
    noise = max(high / max(low, 1.0), most / max(least, 1.0))
    return gap > max(noise, 1.0) and great >= LEAST * small and great - small >= FLOOR


def _range(took: Any) -> tuple[float, float]:
    """Return between which bounds the median stood, stretch by stretch, the lowest and highest few left out."""
    count = min(STRETCHES, len(took))
    medians = sorted(float(np.median(one)) for one in np.array_split(took, count))
    out = max(0, count // 4 - 2)
    return medians[out], medians[-1 - out]


def _pace(took: Any, wall: int) -> Pace:
    low, high = _range(took)
    return Pace(len(took), int(np.median(took)), int(low), int(high), int(took.sum()) / wall if wall else 0.0)


def _change(slot: Slot, a: Pace, b: Pace) -> Change:
    return Change(
        "slower" if b.median > a.median else "faster",
        slot.what,
        slot.name,
        where=(" > ".join(slot.path),) if slot.path else (),
        callback=slot.name.partition(".")[0] if slot.what == "handler" else "",
        id=slot.callback,
        event=slot.event,
        paces=(a, b),
    )


def _weight(change: Change) -> int:
    """Return how much longer or shorter all calls of a row took together."""
    assert change.paces is not None
    a, b = change.paces
    return (b.median - a.median) * b.count
