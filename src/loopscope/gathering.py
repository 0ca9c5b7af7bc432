"""Rows that were written without events around them, given the form that the others have: events with their calls.

A framework may let single calls be seen and not the dispatch that makes them (Lightning's profiler): such rows are
*loose*. Neighbours of one event become the calls of one event. A row that other events happen inside of (`encloses`,
`span`) becomes two events of no length, its edges, so that all rows are flat again. Constraint: numpy only, because a
recording has tens of millions of rows; a recording without such rows is returned as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from loopscope.model import over
from loopscope.recording import Recording, Rows

NAME = 0xFFFFFFFF


def gathered(recording: Recording) -> Recording:
    """Return the recording with its loose and enclosing rows as events: `gathered(read("run.loop"))`."""
    names = recording.names
    special = [n for n, name in names.items() if name.get("loose") or name.get("encloses") or name.get("k") == "span"]
    if not special:
        return recording
    kinds = _Kinds(names)
    lanes = tuple(_lane(lane, kinds) for lane in recording.lanes)
    return replace(recording, names={**names, **kinds.made}, lanes=lanes)


class _Kinds:
    """What each name stands for, by its number; `made` are the names of the events that are put in."""

    def __init__(self, names: Mapping[int, Mapping[str, Any]]) -> None:
        most = max(names, default=0) + 1
        self.made: dict[int, dict[str, Any]] = {}
        flags: list[Any] = [np.zeros(most, bool) for _ in range(4)]
        self.is_run, self.encloses, self.loose, self.idle = flags
        self.event: Any = np.zeros(most, np.int64)  # the number of the event that is put in around a row, or before it
        self.over: Any = np.zeros(most, np.int64)  # the number of the event at the end of an enclosing one
        self.times: Any = np.ones(most, np.int64)  # so many handlers have this name
        known: dict[tuple[Any, str], int] = {}
        for number, name in names.items():
            self.is_run[number] = name.get("k") == "run"
            self.encloses[number] = bool(name.get("encloses")) or name.get("k") == "span"
            self.idle[number] = bool(name.get("idle")) or name.get("k") == "span"
            self.loose[number] = bool(name.get("loose")) and not self.encloses[number]
            self.times[number] = int(name.get("merged") or 1)
            if self.encloses[number] or self.loose[number]:
                event, obj = str(name.get("event")), name.get("object")
                self.event[number] = self._number(known, obj, event, most)
            if self.encloses[number]:
                self.over[number] = self._number(known, obj, over(event), most)
                for edge in (self.event[number], self.over[number]):
                    self.made[int(edge)]["edge"] = True

    def _number(self, known: dict[tuple[Any, str], int], obj: Any, event: str, most: int) -> int:
        if (obj, event) not in known:
            known[obj, event] = number = most + len(known)
            self.made[number] = {"k": "event", "object": obj, "event": event, "evidence": "inferred"}
        return known[obj, event]


def _lane(lane: Rows, kinds: _Kinds) -> Rows:
    """Return one lane with its rows flat, in the order in which they began."""
    name = (lane.code & NAME).astype(np.int64)
    name[name >= len(kinds.loose)] = 0  # damage: a number that names nothing
    encloses, loose = kinds.encloses[name], kinds.loose[name]
    if not (encloses.any() or loose.any()):
        return lane
    rows = np.arange(len(name))
    owner = _owners(lane, kinds.is_run[name], loose)
    around = np.flatnonzero(encloses)
    closed = around[lane.end[around] != 0]
    ends = np.maximum(lane.end[closed], lane.start[closed] + 1)
    as_they_are = rows[~encloses & ~(loose & kinds.idle[name])]
    called = around[~kinds.idle[name[around]]]  # its time is that of what it encloses: as a call it has no length
    first, events = _events(lane, name, _Flat.of(lane, rows[~encloses], around, closed, ends), owner, kinds)
    flat: tuple[tuple[Any, Any, Any, Any], ...] = (
        (lane.code[as_they_are], lane.start[as_they_are], lane.end[as_they_are], 4 * as_they_are + 1),
        (kinds.event[name[around]], lane.start[around], lane.start[around], 4 * around),
        # what it raised is told by what happened inside of it: nothing was raised when it began
        (lane.code[called] & NAME, lane.start[called], lane.start[called], 4 * called + 1),
        (*events, 4 * first),
        (kinds.over[name[closed]], ends, ends, -closed),  # before all that begins then, the inner ones first
    )
    code, start, end, tie = (np.concatenate(column) for column in zip(*flat, strict=True))
    order = np.lexsort((tie, tie > 0, start))
    return Rows(lane.number, lane.thread, code[order], start[order], end[order])


def _owners(lane: Rows, is_run: Any, loose: Any) -> Any:
    """Return for each row in which run, or in which handler call, it happened: the row of that; -1 for none."""
    owner: Any = np.full(len(lane.code), -1, np.int64)
    ends = np.where(lane.end == 0, np.iinfo(np.int64).max, lane.end)
    holds: Any = np.zeros(len(lane.code), bool)
    holds[:-1] = ends[:-1] > lane.start[1:]
    for row in np.flatnonzero(holds & (is_run | loose)).tolist():
        owner[row + 1 : int(np.searchsorted(lane.start, ends[row]))] = row
    return owner


class _Flat:
    """What happened one after the other: rows, and the edges of those that enclose others, which keep rows apart."""

    def __init__(self, row: Any, is_edge: Any) -> None:
        self.row, self.is_edge = row, is_edge

    @classmethod
    def of(cls, lane: Rows, rows: Any, around: Any, closed: Any, ends: Any) -> _Flat:
        row = np.concatenate([rows, around, closed])
        time = np.concatenate([lane.start[rows], lane.start[around], ends])
        tie = np.concatenate([rows + 1, around + 1, -closed])
        order = np.lexsort((tie, tie > 0, time))
        return cls(row[order], order >= len(rows))


def _events(lane: Rows, name: Any, flat: _Flat, owner: Any, kinds: _Kinds) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return the first row of each event that is put in, and its code, start and end."""
    order = np.argsort(owner[flat.row], kind="stable")  # what happened in a handler does not part those beside it
    row, is_edge = flat.row[order], flat.is_edge[order]
    loose = kinds.loose[name[row]] & ~is_edge
    event, where = kinds.event[name[row]], owner[row]
    starts = loose.copy()
    starts[1:] &= ~loose[:-1] | (where[1:] != where[:-1]) | (event[1:] != event[:-1])
    row, starts = row[loose], starts[loose]
    group = np.cumsum(starts) - 1
    group = _parted(group, name[row], kinds)
    firsts = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else np.zeros(0, np.int64)
    if not len(firsts):
        return firsts, (firsts, firsts, firsts)
    last = row[np.append(firsts[1:], len(row)) - 1]
    end = np.maximum.reduceat(lane.end[row], firsts)
    end[np.minimum.reduceat(lane.end[row], firsts) == 0] = 0  # one that is open
    code = kinds.event[name[row[firsts]]] | (lane.code[last] >> 32) << 32
    return row[firsts], (code, lane.start[row[firsts]], end)


def _parted(group: Any, name: Any, kinds: _Kinds) -> Any:
    """Return the groups with those parted in which a handler comes again: the same event fired twice in a row."""
    if not len(group):
        return group
    order = np.lexsort((np.arange(len(group)), name, group))
    same: Any = np.append(False, (group[order][1:] == group[order][:-1]) & (name[order][1:] == name[order][:-1]))
    run = np.arange(len(group)) - np.maximum.accumulate(np.where(same, 0, np.arange(len(group))))
    again: Any = np.empty(len(group), np.int64)
    again[order] = run
    again //= kinds.times[name]
    if not again.any():
        return group
    most = int(again.max()) + 1
    return np.maximum.accumulate(group * most + again)
