"""What the stamps of a recording cost here and now, measured in memory of its own; nothing of the user's is called.

The minimum of many, since everything else that the machine does only adds.
"""

from __future__ import annotations

import time
from _thread import get_ident
from collections.abc import Callable
from typing import Any

from loopscope.stamped.watching import clock

ROUNDS, TURNS = 7, 60


def calibrate() -> dict[str, object]:
    """Return, in ns: `per_event`, `per_call`, `clock` (one read)."""
    lane, turn = Scratch(TURNS), shortest(_turns)
    lanes: dict[int, Any] = {get_ident(): lane}
    return {
        "per_event": round(shortest(lambda: _stamps(lane, lanes)) - turn, 1),
        "per_call": round(shortest(lambda: _stamps(lane, None)) - turn, 1),
        "clock": round((shortest(_clocks) - turn) / 2, 1),
    }


def least(call: Callable[[], object]) -> float:
    """Return the least ns that a call took on the average of a round, its turn of the loop included."""

    def turns() -> int:
        start = time.perf_counter_ns()
        for _ in range(TURNS):
            call()
        return time.perf_counter_ns() - start

    return shortest(turns)


def turn() -> float:
    """Return the ns of an empty turn of the loop that `least` makes."""
    return shortest(_turns)


def shortest(turns: Callable[[], int]) -> float:
    """Return the ns per turn of the shortest of several rounds; `turns` makes one of `TURNS` turns and times it."""
    return min(turns() for _ in range(ROUNDS)) / TURNS


def _turns() -> int:
    start = time.perf_counter_ns()
    for _ in range(TURNS):
        pass
    return time.perf_counter_ns() - start


def _clocks() -> int:
    start = time.perf_counter_ns()
    for _ in range(TURNS):
        clock()
        clock()
    return time.perf_counter_ns() - start


def _stamps(lane: Any, lanes: Any) -> int:
    """Time one row's statements as a recorded dispatch has them; with `lanes` also how an event finds its lane."""
    lane.at = 0
    start = time.perf_counter_ns()
    for _ in range(TURNS):
        if lanes is not None:
            lanes.get(get_ident())
        rows = lane.rows
        at = lane.at
        try:
            rows[at + 1] = clock()
            rows[at] = 7
        except (IndexError, ValueError):
            pass
        lane.at = at + 3
        try:
            rows[at + 2] = clock()
        except ValueError:
            pass
    return time.perf_counter_ns() - start


class Scratch:
    """A lane in private memory, for `rows` rows."""

    def __init__(self, rows: int) -> None:
        self.rows = memoryview(bytearray(24 * (rows + 1))).cast("q")
        self.starts, self.ends = self.rows[1:], self.rows[2:]
        self.at = 0
        self.number = 0

    def more(self) -> None:
        self.at = 0
