"""A placed recording as tracks of spans for a trace viewer: one per learner and thread, scopes and steps included."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopscope.durations import Timed, between
from loopscope.endings import handler_name
from loopscope.placing import NAME, Block, Placed
from loopscope.positions import positions
from loopscope.render.trace import TraceTrack

RUN, SCOPE, STEP, EVENT, HANDLER = range(5)
"""What stands around what where two spans have the same bounds."""


def tracks(placed: Placed) -> list[TraceTrack]:
    """Return the tracks of a recording, in the order in which their learners first appear."""
    found: dict[tuple[int, int], _Track] = {}
    pid = placed.recording.header.get("pid")
    for lane, blocks in placed.lanes:
        for block in blocks:
            key = lane.number, _subject(placed, block)
            if key not in found:
                found[key] = _Track(placed, _label(placed, key[1], lane.thread))
            found[key].add(block)
    shown = pid if isinstance(pid, int) else 1
    return [track.made(shown, tid) for tid, track in enumerate(found.values(), 1)]


def _subject(placed: Placed, block: Block) -> int:
    if block.run is not None:
        return int(block.run.get("object", 0))
    if not len(block.code):
        return 0
    return int(placed.recording.names[int(block.code[0]) & NAME].get("object", 0))


def _label(placed: Placed, subject: int, thread: str) -> str:
    name = placed.recording.names.get(subject, {})
    return f"{name.get('cls', 'loop')} {name.get('number', '')}".strip() + (f" · {thread}" if thread else "")


@dataclass(slots=True)
class _Track:
    placed: Placed
    label: str
    numbers: dict[tuple[str, str, str], int] = field(default_factory=dict)
    columns: list[tuple[Any, Any, Any, Any, Any, Any]] = field(default_factory=list)

    def number(self, name: str, category: str, args: str = "") -> int:
        return self.numbers.setdefault((name, category, args), len(self.numbers))

    def add(self, block: Block) -> None:
        names = self.placed.recording.names
        timed = Timed(block)
        where = positions(block, names)
        event_of: Any = np.zeros(len(block.code), np.int64)
        event_of[block.events] = np.arange(len(block.events))
        event_of[timed.calls] = timed.owner
        codes = block.code & NAME
        lookup: Any = np.zeros(max(names, default=0) + 1, np.int32)
        for code in np.flatnonzero(np.bincount(codes)).tolist() if len(codes) else ():
            name = names[code]
            if name.get("k") == "event":
                lookup[code] = self.number(str(name.get("event")), "event")
            else:
                lookup[code] = self.number(handler_name(name), "handler", _args(callback=name.get("callback")))
        levels: Any = np.full(len(codes), HANDLER, np.int8)
        levels[block.events] = EVENT
        self.columns.append(
            (lookup[codes], block.start, block.end, where.epoch[event_of], where.batch[event_of], levels)
        )
        if block.run is not None:
            whole = self.number(str(block.run.get("call")), "run", _args(place=block.run.get("place")))
            self.one(whole, block.begin, block.until, RUN)
        if block.loop is not None and len(block.events):
            self.steps(block, timed, where.epoch, where.batch)
            self.scopes(block, timed, where.epoch, where.batch)

    def one(self, number: int, begin: int, end: int, level: int) -> None:
        none = np.array([-1])
        self.columns.append(
            (np.array([number]), np.array([begin]), np.array([end]), none, none, np.array([level], np.int8))
        )

    def steps(self, block: Block, timed: Timed, epoch: Any, batch: Any) -> None:
        """Add the framework's own steps between events; runs that took place there lie inside."""
        rows = [between(gap, block.places, block.loop) for gap in block.places.gaps]
        shown = np.array([*(row.category != "framework" for row in rows), False], bool)[block.gaps]
        at = np.flatnonzero(shown)
        lookup = np.array([*(self.number(row.name, "step") for row in rows), 0], np.int32)
        begins = np.append(np.int64(block.begin), timed.ends[:-1])[at]
        levels: Any = np.full(len(at), STEP, np.int8)
        self.columns.append((lookup[block.gaps[at]], begins, timed.begins[at], epoch[at], batch[at], levels))

    def scopes(self, block: Block, timed: Timed, epoch: Any, batch: Any) -> None:
        for number in block.entered:
            scope = block.places.scopes[number]
            begins, ends = timed.entered(number)
            first = timed.begins[begins] - np.where(timed.leads(number, begins), timed.gaps[begins], 0)
            names: Any = np.full(len(begins), self.number(scope.name, "scope"), np.int32)
            levels: Any = np.full(len(begins), SCOPE, np.int8)
            self.columns.append((names, first, timed.ends[ends - 1], epoch[begins], batch[begins], levels))

    def made(self, pid: int, tid: int) -> TraceTrack:
        name, start, end, epoch, batch, level = (np.concatenate(column) for column in zip(*self.columns, strict=True))
        order = np.lexsort((level, -end, start))
        keys = list(self.numbers)
        return TraceTrack(
            pid,
            tid,
            self.label,
            [key[0] for key in keys],
            name[order].astype(np.int32),
            start[order],
            end[order],
            epoch[order].astype(np.int32),
            batch[order].astype(np.int32),
            [key[1] for key in keys],
            [key[2] for key in keys],
        )


def _args(**values: object) -> str:
    given = {name: value for name, value in values.items() if value}
    return json.dumps(given)[1:-1] if given else ""
