"""The rows of a file in the live layout, as they were at one moment, although its writer may go on meanwhile.

A thread's rows are read front to back while rows are added and ends are stamped. Had nothing more been done, a call
could look open around calls that came after it. So the rows that look open are read again. If no row was added until
then, that is a true state; if some were, the state at the start of the last row seen is: every end before it must have
been stamped by then, and any later one counts as open.
"""

from __future__ import annotations

import numpy as np

from loopscope.recording.blocks import Placed, Source
from loopscope.recording.coding import Array
from loopscope.recording.layout import ROW, ROWS

FEW_OPEN = 2000
"""With more open rows than this, all rows are read again rather than each by itself."""
NAME = 0xFFFFFFFF


def tables(source: Source, blocks: list[Placed], *, running: bool) -> dict[int, Array]:
    """Return the rows of each lane, an array of shape (rows, 3): code, start, end.

    A row that is open has no outcome.
    """
    lanes: dict[int, list[Placed]] = {}
    for place in blocks:
        if place.block.kind == ROWS:
            lanes.setdefault(place.block.lane, []).append(place)
    return {number: _table(source, places, running) for number, places in lanes.items()}


def cut(table: Array, clock: int) -> Array:
    """Return the rows as they were at `clock`: without those that start later, and with later ends open again."""
    table = table[table[:, 1] <= clock] if len(table) and table[:, 1].max() > clock else table
    table[table[:, 2] > clock, 2] = 0
    _open(table)
    return table


def _table(source: Source, places: list[Placed], running: bool) -> Array:
    table: Array = np.empty((sum(place.size // ROW for place in places), 3), np.int64)
    count = _fill(source, places, table)
    used = _used(table[:count], running)
    table = table[:used]
    if running and used:
        last = int(table[-1, 1])
        _again(source, places, table)
        if used == count or _added(source, places, used):
            return cut(table, last)
    _open(table)
    return table


def _fill(source: Source, places: list[Placed], table: Array) -> int:
    """Read whole rows into `table` until it is full or the file ends; return how many."""
    at = 0
    for place in places:
        part = table[at : at + place.size // ROW]
        if not len(part):
            continue
        at += source.into(place.offset, memoryview(part).cast("B")) // ROW
    return at


def _used(table: Array, running: bool) -> int:
    """Return the number of rows that were begun. Only a damaged file has a gap; a running one may seem to."""
    if not len(table):
        return 0
    begun = table[:, 0] != 0
    if running:
        return len(table) if begun.all() else int(begun.argmin())
    return len(table) - int(begun[::-1].argmax()) if begun.any() else 0


def _again(source: Source, places: list[Placed], table: Array) -> None:
    """Read the rows that look open once more, first to last: whoever encloses others ends after them."""
    rows = np.flatnonzero(table[:, 2] == 0)
    if len(rows) > FEW_OPEN:
        _fill(source, places, table)
        return
    for row in rows.tolist():
        table[row] = np.frombuffer(source.read(_place(places, row), ROW), np.int64)


def _added(source: Source, places: list[Placed], row: int) -> bool:
    return any(source.read(_place(places, row), 8))


def _place(places: list[Placed], row: int) -> int:
    for place in places:
        here = place.size // ROW
        if row < here:
            return place.offset + row * ROW
        row -= here
    raise AssertionError("a row behind the last block")


def _open(table: Array) -> None:
    """Take the outcome from rows that have not ended: it is written just before the end is."""
    table[table[:, 2] == 0, 0] &= NAME
