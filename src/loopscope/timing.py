"""A placed recording as a `Report`: every nanosecond in exactly one row, how each run ended, what was unexpected.

>>> report = reported(place(read("run.loop")))  # doctest: +SKIP

Constraint: integer arithmetic only, so that the rows sum to the wall time exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from loopscope.durations import COMPUTE, COMPUTING, Timed
from loopscope.endings import endings, handler_name
from loopscope.parse import Unexpected
from loopscope.placing import NAME, Block, Placed
from loopscope.positions import positions
from loopscope.report import At, Cost, Line, Report, Track, Unplaced, Warmup
from loopscope.timetree import by_category, outside, track

EARLY = 10
"""The first so many training batches of a run are its warm-up."""


def reported(placed: Placed) -> Report:
    """Return what `loopscope report` shows of a placed recording."""
    recording = placed.recording
    tracks = [track(placed, blocks, lane.thread) for lane, blocks in placed.lanes] or [outside(placed)]
    root_lines = [line for one in tracks for _, line in one.root.walk()]
    placed_events = sum(_fired(block) for block in placed.blocks() if block.node is not None)
    unplaced = list(_unplaced(placed))
    own = by_category(root_lines)
    calls = sum(len(block.code) - len(block.events) for block in placed.blocks())
    return Report(
        path=recording.path,
        state=_state(recording.state),
        wall=placed.end - placed.begin,
        header=_header(placed),
        tracks=tuple(tracks),
        endings=endings(placed),
        events=placed_events + _created(placed),
        calls=calls - sum(block.unnamed for block in placed.blocks()),
        unexpected=tuple(unplaced),
        unexpected_count=sum(block.unexpected_count for block in placed.blocks()),
        slowest=tuple(sorted(_told_apart(tracks), key=lambda line: -line.own)),
        warmups=tuple(_warmups(placed)),
        data=own.get("data", 0),
        compute=sum(own.get(name, 0) for name in (*COMPUTE, COMPUTING)),
        cost=_cost(placed, *_written(placed)),
        heads=tuple(_heads(placed, len(tracks))),
        losses=tuple(recording.losses),
        spans=recording.spans,
        size=recording.size,
    )


def head(placed: Placed) -> Report:
    """Return what can be said at once of a long recording: how its runs ended, or what is open."""
    recording = placed.recording
    return Report(
        path=recording.path,
        state=_state(recording.state),
        wall=placed.end - placed.begin,
        header=_header(placed),
        tracks=(),
        endings=endings(placed),
    )


def _header(placed: Placed) -> Mapping[str, object]:
    """Return the file's header with the versions of frameworks that were only met while it was written."""
    versions: dict[str, object] = {}
    for line in (placed.recording.header, *placed.recording.lines):
        found = line.get("versions") if line.get("k") in (None, "header", "versions") else None
        versions.update(found if isinstance(found, dict) else {})
    return {**placed.recording.header, **({"versions": versions} if versions else {})}


def _told_apart(tracks: Sequence[Track]) -> Iterator[Line]:
    """Yield the handlers of all trees; one that stands in several places gets a note that says which it is."""
    found: dict[tuple[str, str], list[tuple[tuple[str, ...], Line]]] = {}
    for one in tracks:
        for path, line in _handlers(one.root, (one.thread,)):
            found.setdefault((line.name, line.callback), []).append((path, line))
    for places in found.values():
        common = set.intersection(*(set(path) for path, _ in places))
        for path, line in places:
            yield replace(line, note=", ".join(name for name in path if name not in common))


def _handlers(line: Line, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Line]]:
    if line.kind == "handler":
        yield path, line
    often = Counter(child.name for child in line.children)
    seen: Counter[str] = Counter()
    for child in line.children:
        seen[child.name] += 1
        name = child.name if often[child.name] == 1 else f"{child.name} {seen[child.name]}"  # the fits of fine_tune
        yield from _handlers(child, (*path, name) if child.kind in ("run", "scope", "handler") else path)


def _fired(block: Block) -> int:
    """Return how many events of a block have a place, the edges of enclosing calls left out: nothing fires there."""
    edges: Any = np.array([*(node.how == "edge" for node in block.places.nodes), True], bool)  # the last is for -1
    return int((~edges[block.node]).sum())


def _written(placed: Placed) -> tuple[int, int]:
    """Return how many rows of events and how many of calls the recorder wrote, whatever was put in by the reader."""
    names = placed.recording.names
    mine = [n for n, name in names.items() if name.get("k") == "event" and name.get("evidence") != "inferred"]
    runs = [n for n, name in names.items() if name.get("k") == "run"]
    events, begun = 0, 0
    for lane in placed.recording.lanes:
        codes = lane.code & NAME
        events += int(np.isin(codes, mine).sum())
        begun += int(np.isin(codes, runs).sum())
    return events, placed.recording.spans - events - begun


def _state(state: str) -> Literal["closed", "running", "killed"]:
    return "running" if state == "running" else "killed" if state == "killed" else "closed"


def _created(placed: Placed) -> int:
    """Return the events outside of every run that have a place there: the making of a learner."""
    strays = [block for block in placed.blocks() if block.run is None and block.loop is None]
    return sum(len(block.events) for block in strays) - sum(block.unexpected_count for block in strays)


def _unplaced(placed: Placed) -> Iterable[Unplaced]:
    for _, blocks in placed.lanes:
        odd = [block for block in blocks if block.unexpected]
        starts = np.sort(np.concatenate([block.start[block.events] for block in blocks])) if odd else None
        for block in odd:
            where = positions(block, placed.recording.names)
            own = block.start[block.events]
            for one in block.unexpected:
                begin = own[one.position] if one.position < len(own) else block.until
                position = where.at(one.position) if block.run or not block.parent else _inside(placed, block, one)
                yield Unplaced(int(np.searchsorted(starts, begin)), one.message, position)


def _inside(placed: Placed, block: Block, one: Unexpected) -> At:
    """Return where an event fired that a handler fires by itself: in that handler's epoch and batch."""
    names, parent = placed.recording.names, block.parent
    assert parent is not None
    fired = str(names[int(block.code[block.events[one.position]]) & NAME].get("event"))
    if block.owner < 0:
        return At(event=fired)
    event = int(np.searchsorted(parent.events, block.owner, "right")) - 1
    handler = handler_name(names[int(parent.code[block.owner]) & NAME])
    return replace(positions(parent, names).at(event, handler), event=fired)


def _cost(placed: Placed, events: int, calls: int) -> Cost:
    end: Mapping[str, Any] = next((line for line in reversed(placed.recording.lines) if line.get("k") == "end"), {})
    found: Any = end.get("cost")
    cost: Mapping[str, Any] = found if isinstance(found, dict) else {}
    known = {
        name: float(cost[name]) for name in ("per_event", "per_call", "clock", "dispatch") if _number(cost.get(name))
    }
    theirs = cost.get("framework_dispatch")
    reading = end.get("reading")
    return Cost(
        events,
        calls,
        **known,
        reading=reading if isinstance(reading, int) else 0,
        framework_dispatch=float(theirs) if _number(theirs) else None,  # type: ignore[arg-type]
        callbacks=cost["callbacks"] if isinstance(cost.get("callbacks"), int) else 0,
    )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12


def _heads(placed: Placed, threads: int) -> Iterable[str]:
    devices = {str(name.get("device")) for name in placed.recording.names.values() if name.get("k") == "object"}
    if any(device.startswith("cuda") for device in devices):
        yield (
            "times are the host's: kernels run on the GPU meanwhile, and are billed to whoever waits for them first "
            "(the handlers marked as waiting do; nothing was synchronised for this recording)"
        )
    if threads > 1:
        yield f"{threads} threads were recorded: each has a tree of its own, and each sums to the wall time"


def _warmups(placed: Placed) -> Iterable[Warmup]:
    for block in placed.blocks():
        if block.run is None or block.parent is not None or not len(block.events):
            continue
        for number, scope in enumerate(block.places.scopes):
            path = [one.name for one in block.places.scope_paths[number]]
            if scope.name != "batch" or "train" not in path:
                continue
            took = Timed(block).entries(number)
            if len(took) >= 2 * EARLY:
                early, rest = took[:EARLY], took[EARLY:]
                yield Warmup(
                    str(block.run.get("call")),
                    int(took[0]),
                    int(np.median(early)),
                    len(early),
                    int(np.median(rest)),
                    len(rest),
                )
