"""What is left of a recording whose process is killed with -9 at a random moment of a fit: does it read, what is lost?

Each try is a forked child that records a fit and is killed somewhere in it; one in ten behind it, while the recording
is closed and compacted. Two callbacks, the first and the last of each event, count their calls into memory shared with
this process, as the last thing that they do: from these counts follows which stamps were due at the moment of death.
The one in flight excepted, each of them must be in the file, in the same order.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import part
from fastai.callback.core import Callback
from learners import EVENTS, quiet, synthetic
from measure import Figure

import loopscope
from loopscope.placing import place
from loopscope.recording import read
from loopscope.timing import reported

BATCHES, QUICK_BATCHES = 600, 40
OPENED, FIRST, LAST, FITTED = range(4)
"""Places in the shared memory: whether the file is there, calls of both callbacks, whether the fit is over."""
TOLD = 1 << 10
"""From here on, the event of each call of the first callback, a byte each."""


@dataclass(slots=True)
class Shared:
    """Numbers that a killed child leaves behind; single bytes and words, so that none is half written."""

    memory: mmap.mmap

    def __getitem__(self, at: int) -> int:
        return int(struct.unpack_from("<q", self.memory, 8 * at)[0])

    def __setitem__(self, at: int, value: int) -> None:
        struct.pack_into("<q", self.memory, 8 * at, value)


def counting(shared: Shared, at: int, order: int) -> Callback:
    """Return a callback that counts its calls; the first one of an event also tells which it was."""

    def handler(number: int) -> Any:
        def call(self: Callback) -> None:
            calls = shared[at]
            if at == FIRST:
                shared.memory[TOLD + calls] = number
            shared[at] = calls + 1

        return call

    handlers = {event: handler(number) for number, event in enumerate(EVENTS)}
    return type("First" if at == FIRST else "Last", (Callback,), {"order": order, **handlers})()


def recorded(shared: Shared, file: Path, batches: int) -> None:
    """Record a fit whose events are counted."""
    learn = synthetic(4, batches)
    learn.add_cbs([counting(shared, FIRST, -(10**6)), counting(shared, LAST, 10**6)])
    with quiet(), loopscope.record(learn, file):
        shared[OPENED] = 1
        learn.fit(1)
        shared[FITTED] = 1


def child(shared: Shared, file: Path, batches: int) -> None:
    """Record a fit, then wait for the end that comes anyway."""
    recorded(shared, file, batches)
    signal.pause()


@dataclass(frozen=True, slots=True)
class Moment:
    """When a child is killed: so many seconds after so many calls of the first callback, or after the fit (None)."""

    calls: int | None
    later: float

    def come(self, shared: Shared) -> bool:
        return bool(shared[FITTED]) or (self.calls is not None and shared[OPENED] and shared[FIRST] >= self.calls)


def moments(count: int, calls: int, seed: int) -> Iterator[Moment]:
    """Yield random moments, evenly spread over a fit of so many calls; every tenth lies in the 150 ms behind it."""
    draw = random.Random(seed)
    for number in range(count):
        if number % 10 == 9:
            yield Moment(None, draw.uniform(0, 0.15))
        else:  # a batch takes about a millisecond: the delay says where in it the end comes
            yield Moment(draw.randrange(calls), draw.uniform(0, 0.002))


def killed(file: Path, moment: Moment, batches: int) -> Shared:
    """Fork a child, kill it at that moment, and return what it counted."""
    shared = memory(batches)
    pid = os.fork()
    if not pid:
        try:
            child(shared, file, batches)
        finally:
            os._exit(1)
    while not moment.come(shared):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the child ended by itself"
        time.sleep(0.0002)
    time.sleep(moment.later)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"
    return shared


def memory(batches: int) -> Shared:
    return Shared(mmap.mmap(-1, TOLD + 32 * (batches + 100)))


# -- what the file must hold -----------------------------------------------------------------------------------


def due(first: int, last: int) -> dict[str, int]:
    """Return the stamps that were written for certain, from the calls of both callbacks that returned.

    An event begins, calls the first callback, others, the last one, and ends. The stamp in flight is that behind the
    call that returned last.
    """
    inside = first - last  # 1 while an event is between its first and its last callback
    return {
        "event starts": first,
        "first starts": first,
        "first ends": first - (0 if inside == 0 else 1),
        "last starts": last,
        "last ends": last - (1 if inside == 0 and last else 0),
        "event ends": max(last - (1 if inside == 0 else 0), 0),
    }


def found(recording: Any) -> tuple[dict[str, int], list[str]]:
    """Return the stamps of both callbacks and of events that are in a file, and its events in order."""
    code, end = (np.concatenate([getattr(lane, key) for lane in recording.lanes] or [[]]) for key in ("code", "end"))
    kinds = [kind_of(recording.names[int(number) & 0xFFFFFFFF]) for number in code]
    starts = Counter(kinds)
    ends = Counter(kind for kind, stamp in zip(kinds, end, strict=True) if stamp)
    events = [
        recording.names[int(number)]["event"]
        for number, kind in zip(code & 0xFFFFFFFF if len(code) else [], kinds, strict=True)
        if kind == "event"
    ]
    counted = {f"{kind} starts": starts[kind] for kind in ("event", "first", "last")}
    return {**counted, **{f"{kind} ends": ends[kind] for kind in ("event", "first", "last")}}, events


def kind_of(name: dict[str, Any]) -> str:
    if name["k"] == "handler":
        return {"First": "first", "Last": "last"}.get(name["cls"], "")
    return str(name["k"])


def examined(file: Path, shared: Shared) -> dict[str, Any]:
    """Return what became of one recording: `lost` stamps besides the one in flight, and whether the order is right."""
    first, last = shared[FIRST], shared[LAST]
    result: dict[str, Any] = {"first": first, "last": last, "fitted": bool(shared[FITTED])}
    try:
        recording = read(file)
        placed = place(recording)
        reported(placed)
    except Exception as error:
        return {**result, "unreadable": f"{type(error).__name__}: {error}"}
    there, events = found(recording)
    told = [EVENTS[number] for number in shared.memory[TOLD : TOLD + first]]
    wanted = due(first, last)
    return {
        **result,
        "state": recording.state,
        "spans": recording.spans,
        "lost": sum(max(0, wanted[kind] - there[kind]) for kind in wanted),
        "in_flight": max(0, first - there["first ends"]) + max(0, last - there["last ends"]),
        "told": events[:first] == told and 0 <= len(events) - first <= 1,
        "unexpected": sum(block.unexpected_count for block in placed.blocks()),
        "losses": list(recording.losses),
    }


# -- the table -------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    tries = int(given.tries or (10 if given.quick else 200))
    batches = QUICK_BATCHES if given.quick else BATCHES
    results = []
    with tempfile.TemporaryDirectory() as name:
        calls = whole(Path(name), batches)
        for number, moment in enumerate(moments(tries, calls, int(given.seed or 0))):
            file = Path(name) / f"{number}.loop"
            results.append({**asdict(moment), **examined(file, killed(file, moment, batches))})
            file.unlink(missing_ok=True)
    return figures(results), {"tries": results, "calls": calls, "batches": batches}


def whole(folder: Path, batches: int) -> int:
    """Return how often the first callback is called in a whole fit, and import here all that a child needs."""
    shared = memory(batches)
    recorded(shared, folder / "whole.loop", batches)
    return shared[FIRST]


def figures(results: list[dict[str, Any]]) -> list[Figure]:
    readable = [one for one in results if "unreadable" not in one]
    return [
        Figure("kill -9 at random moments of a fit", len(results), "times"),
        Figure("   of these behind its end, while the file was closed", sum(one["fitted"] for one in results), "times"),
        Figure("   files that do not read, or have no report", len(results) - len(readable), "files", 0),
        Figure("   stamps lost, the one in flight excepted", sum(one["lost"] for one in readable), "stamps", 0),
        Figure("   most stamps lost at once, the one in flight included", most(readable, "in_flight"), "stamps", 1),
        Figure("   files whose events are not those that fired", sum(not one["told"] for one in readable), "files", 0),
        Figure("   events and calls that could not be placed", sum(one["unexpected"] for one in readable), "", 0),
    ]


def most(results: list[dict[str, Any]], key: str) -> int:
    return max((one[key] for one in results), default=0)


if __name__ == "__main__":
    part.run("recording-kills", __doc__, measure, tries="how often (default: 200)", seed="of the moments (default: 0)")
