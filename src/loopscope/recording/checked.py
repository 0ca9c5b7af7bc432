"""Which rows can be: known names, times within the recording, ends not before starts, starts in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from loopscope.recording.coding import Array

AT_ONCE = 65_536
"""Rows that are looked at together: few enough for the processor's cache."""
DENSE = 1 << 22
"""Numbers of names up to this are looked up in a table."""
LATEST = (1 << 63) - 1


def possible(columns: list[Array], names: Iterable[int], begin: int, latest: int | None) -> Array | None:
    """Return which rows can be, or None if all can: `possible([code, start, end], recording.names, begin, None)`.

    `begin` and `latest` are the first and last possible stamps, in ns. Of rows that are out of order the fewer are
    refused: those that start before one in front of them, or those that start after one behind them.
    """
    known = _Known(names)
    latest = LATEST if latest is None else latest
    count = len(columns[0])
    bad: list[tuple[int, Array]] = []
    ordered, before = True, -1
    for at in range(0, count, AT_ONCE):
        code, start, end = (column[at : at + AT_ONCE] for column in columns)
        good = known(code) & (start >= begin) & (start <= latest) & ((end == 0) | ((end >= start) & (end <= latest)))
        if not good.all():
            bad.append((at, good))
        ordered = ordered and bool(start[0] >= before and (start[1:] >= start[:-1]).all())
        before = int(start[-1])
    if ordered and not bad:
        return None
    keep: Array = np.ones(count, bool)
    for at, good in bad:
        keep[at : at + len(good)] = good
    where = np.flatnonzero(keep)
    keep[where[~_in_order(columns[1][where])]] = False
    return keep


def _in_order(start: Array) -> Array:
    """Return a choice of rows whose starts do not decrease."""
    late = start < np.maximum.accumulate(start)
    early = start > np.minimum.accumulate(start[::-1])[::-1]
    if early.sum() < late.sum():
        keep = ~early
        rest = start[keep]
        keep[keep] = rest >= np.maximum.accumulate(rest)
        return keep
    return ~late


class _Known:
    """Whether the name and the outcome in each code are numbers that the file explains."""

    def __init__(self, names: Iterable[int]) -> None:
        numbers: Any = np.fromiter(names, np.int64)
        self.numbers = numbers
        self.table: Array = None
        if not len(numbers) or numbers.max() < DENSE:
            self.table = np.zeros((int(numbers.max()) if len(numbers) else 0) + 2, bool)
            self.table[numbers] = True

    def __call__(self, code: Array) -> Array:
        outcome = code >> 32
        good = self._has(code & 0xFFFFFFFF)
        return good & ((outcome == 0) | self._has(outcome)) if outcome.any() else good

    def _has(self, number: Array) -> Array:
        if self.table is None:
            return np.isin(number, self.numbers)
        top = len(self.table) - 1
        return self.table[np.where((number < 0) | (number > top), top, number)]
