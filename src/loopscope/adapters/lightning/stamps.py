"""The hot path of a recording: context managers that Lightning enters around each hook, and that write its row.

Lightning asks its profiler for one at every hook call; its own default makes a generator each time, which takes longer
than all of this. Constraint: nothing here may raise, swallow what passes through, or add a frame to it.
"""

from __future__ import annotations

import time
from _thread import get_ident
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

clock = time.perf_counter_ns

PLAIN, AROUND, LAST, UNSURE = range(4)
"""What kind of row an action has: one by itself; one that others lie inside of; one behind those of all callbacks, at
which it is looked whether they are still the same; one of several callbacks that have one name."""


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """What Lightning tells its profiler of, in one recording: the number of its row's name, and its kind.

    `told` says who is called, for an exception that is first seen there: `"Net.training_step"`.
    """

    subject: Any
    code: int
    event: str
    told: str = ""
    kind: int = PLAIN


class Nothing:
    """Stands around the call of a method that does nothing."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        return None


NOTHING = Nothing()


class Row:
    """Writes the row of one call in one recording."""

    __slots__ = ("action", "at", "lanes", "rows")

    def __init__(self, lanes: Any, action: Action) -> None:
        self.lanes = lanes
        self.action = action

    def __enter__(self) -> None:
        lane = self.lanes.get(get_ident()) or self.action.subject.lane()
        self.rows = rows = lane.rows
        self.at = at = lane.at
        try:
            rows[at + 1] = clock()
            rows[at] = self.action.code
        except (IndexError, ValueError):
            lane.more()  # the segment is full, or was taken from a forked child
            self.rows, self.at = rows, at = lane.rows, lane.at
            rows[at + 1] = clock()
            rows[at] = self.action.code
        lane.at = at + 3

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        now = clock()
        try:
            if error is not None:
                self.failed(error)
            self.rows[self.at + 2] = now
        except ValueError:  # a child that was forked meanwhile, which never writes
            pass

    def failed(self, error: BaseException) -> None:
        """Write by what the call was left."""
        action, rows, at = self.action, self.rows, self.at
        number = action.subject.outcome(error, action.event, action.told, rows[at + 1])
        rows[at] = (rows[at] & 0xFFFFFFFF) | number << 32


class Around(Row):
    """The row of a call inside of which others are; some of these may have begun and never ended."""

    __slots__ = ("pending",)

    def __init__(self, lanes: Any, action: Action, pending: list[Started]) -> None:
        self.lanes = lanes
        self.action = action
        self.pending = pending

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.pending:
            close(self.pending, self)
        Row.__exit__(self, kind, error, trace)


class Both:
    """Several context managers as one: that of the program's own profiler, and those of several recordings."""

    __slots__ = ("several",)

    def __init__(self, several: Sequence[Any]) -> None:
        self.several = several

    def __enter__(self) -> Any:
        value = None
        for one in self.several:
            value = one.__enter__() or value
        return value

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        swallowed = False
        for one in reversed(self.several):
            swallowed = bool(one.__exit__(kind, error, trace)) or swallowed
        return swallowed


@dataclass(slots=True, eq=False)
class Started:
    """Something of which Lightning says by itself that it begins and ends; `handling` was raised before it began."""

    name: str
    row: Row
    handling: BaseException | None


def close(pending: list[Started], around: Row) -> None:
    """End what began inside of a row and was left without a word: an exception went through it."""
    try:
        since = around.rows[around.at + 1]
        while pending and pending[-1].row.rows[pending[-1].row.at + 1] >= since:
            pending.pop().row.__exit__(None, None, None)
    except ValueError:  # a child that was forked meanwhile
        pending.clear()
