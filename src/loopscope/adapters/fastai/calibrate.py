"""What recording costs here and now: the stamps, the clock, and fastai's own dispatch beside the recorded one.

Measured in the recorded process when recording ends, on objects of its own; nothing of the user's is called. Minimum
of many, since everything else that the machine does only adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastai.callback.core import Callback
from fastai.learner import Learner
from fastcore.foundation import L
from torch import nn

from loopscope.adapters.fastai.transplant import STOCK, recorded
from loopscope.adapters.fastai.watching import WATCHED, Watched, clock, get_ident

CALLBACKS = 4
"""With so many callbacks one event's dispatch is measured: fastai's defaults and one more."""

ROUNDS, EVENTS = 7, 60


def calibrate() -> dict[str, object]:
    """Return, in ns: `per_event`, `per_call`, `clock` (one read), `dispatch` and `framework_dispatch` of one event."""
    learn, watched = _learner()
    stamped = recorded("one")
    theirs = _least(lambda: STOCK(learn, "after_step"))
    WATCHED[id(learn)] = watched
    try:
        ours = _least(lambda: stamped(learn, "after_step"))
    finally:
        del WATCHED[id(learn)]
    lane = watched.lane()
    turn = _shortest(_turns)
    return {
        "per_event": round(_shortest(lambda: _stamps(lane, watched.lanes)) - turn, 1),
        "per_call": round(_shortest(lambda: _stamps(lane, None)) - turn, 1),
        "clock": round((_shortest(_clocks) - turn) / 2, 1),
        "dispatch": round(ours - turn, 1),
        "framework_dispatch": round(theirs - turn, 1),
        "callbacks": CALLBACKS,
    }


def _least(call: Callable[[], object]) -> float:
    """Return the least ns that a call took on the average of a round, its turn of the loop included."""

    def turns() -> int:
        start = time.perf_counter_ns()
        for _ in range(EVENTS):
            call()
        return time.perf_counter_ns() - start

    return _shortest(turns)


def _shortest(turns: Callable[[], int]) -> float:
    """Return the ns per turn of the shortest of several rounds; `turns` makes one of `EVENTS` turns and times it."""
    return min(turns() for _ in range(ROUNDS)) / EVENTS


def _turns() -> int:
    start = time.perf_counter_ns()
    for _ in range(EVENTS):
        pass
    return time.perf_counter_ns() - start


def _clocks() -> int:
    start = time.perf_counter_ns()
    for _ in range(EVENTS):
        clock()
        clock()
    return time.perf_counter_ns() - start


def _stamps(lane: Any, lanes: Any) -> int:
    """Time one row's statements as they stand in `hot.py`; with `lanes` also what an event does to find its lane."""
    lane.at = 0
    start = time.perf_counter_ns()
    for _ in range(EVENTS):
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


class _Scratch:
    """A lane in private memory, for one learner that is never trained."""

    def __init__(self) -> None:
        self.rows = memoryview(bytearray(24 * (EVENTS + 1))).cast("q")
        self.at = 0
        self.number = 0

    def more(self) -> None:
        self.at = 0


class _Sink:
    """Codes that mean nothing."""

    runs: tuple[Any, ...] = (None,)  # one is under way: callbacks are not let go of behind each event

    def __init__(self) -> None:
        self.only = _Scratch()
        self.lanes: dict[int, Any] = {}

    def lane(self) -> Any:
        return self.only

    def event(self, event: str) -> int:
        return 7

    def callbacks(self) -> tuple[str, ...]:
        return ()

    def bound(self, obj: Any, members: Any) -> None:
        pass


def _learner() -> tuple[Learner, Watched]:
    learn = Learner.__new__(Learner)
    callbacks = [Callback() for _ in range(CALLBACKS)]
    learn.__dict__.update(cbs=L(callbacks), model=nn.Module(), training=True)
    for one in callbacks:
        one.__dict__.update(learn=learn)
    return learn, Watched(learn, _Sink())
