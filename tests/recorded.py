"""Recordings made by hand, or of others: rows on an artificial clock, so that every expected figure is exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from loopscope.placing import NAME
from loopscope.recording import Recording, Rows


@dataclass
class Group:
    """One event and its handler calls, by their codes: `Group(7, [9, 12])`."""

    event: int
    calls: list[int] = field(default_factory=list)


def groups(recording: Recording) -> tuple[int, list[Group]]:
    """Take a recording of a single run without nesting apart: the code of the run, and its events."""
    (lane,) = recording.lanes
    found: list[Group] = []
    codes = lane.code.tolist()
    for code in codes[1:]:
        if recording.names[code & NAME]["k"] == "event":
            found.append(Group(code))
        else:
            found[-1].calls.append(code)
    return codes[0], found


def rebuilt(recording: Recording, run: int, events: Iterable[Group]) -> Recording:
    """Return `recording` with these events in its run, on a clock that shows 1, 2, 3, ... at each start and end."""
    rows: list[list[int]] = [[run, 1, 0]]
    clock = 2
    for group in events:
        event = [group.event, clock, 0]
        rows.append(event)
        clock += 1
        for call in group.calls:
            rows.append([call, clock, clock + 1])
            clock += 2
        event[2] = clock
        clock += 1
    rows[0][2] = clock
    return timed(recording, [rows], clock)


def timed(recording: Recording, lanes: Sequence[Sequence[Sequence[int]]], end: int, **changes: Any) -> Recording:
    """Return `recording` with other rows, (code, start, end) each, from clock 0 to `end`."""
    made = []
    for number, rows in enumerate(lanes, 1):
        table = np.array(rows, np.int64).reshape(-1, 3)
        made.append(Rows(number, f"thread {number}", table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()))
    lines = tuple(line for line in recording.lines if line["k"] not in ("end", "bound"))
    defaults: dict[str, Any] = {
        "lanes": tuple(made),
        "lines": (*lines, {"k": "end", "clock": end, "stop_clock": end}),
        "begin": 0,
        "end": end,
        "spans": sum(len(rows.code) for rows in made),
    }
    return replace(recording, **{**defaults, **changes})


def name(recording: Recording, code: int) -> str:
    """`before_fit` of an event, `Recorder#2` of a handler call."""
    found = recording.names[code & NAME]
    return str(found["event"] if found["k"] == "event" else found["callback"])
