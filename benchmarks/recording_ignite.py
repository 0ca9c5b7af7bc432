"""What recording adds to an ignite run, beside ignite's own two profilers, and to one handler call.

Each round runs a new engine under every condition in turn: unrecorded, recorded, with each profiler, and unrecorded
again; a condition's process time over the mean of the two unrecorded ones is a ratio. Of one dispatch the least of many
turns counts, taken in the middle of a recorded run.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import part
import torch
from ignite.engine import Engine, Events
from ignite.handlers import BasicTimeProfiler, HandlersTimeProfiler
from measure import Figure, bootstrap

import loopscope

torch.set_num_threads(1)

STOCK = vars(Engine)["_fire_event"]
"""ignite's dispatch, fetched before anything is recorded."""

BATCH_NS = 1_000_000
"""So long a batch computes."""

FEW, MANY = 4, 44

Around = Callable[[Engine], contextlib.AbstractContextManager[Any]]


def engine(handlers: int = 2) -> Engine:
    """An engine whose step computes for a millisecond, with handlers at each event of a batch, one of them filtered."""
    weights = torch.eye(64)

    def step(engine: Engine, batch: Any) -> None:
        until, x = time.process_time_ns() + BATCH_NS, weights
        while time.process_time_ns() < until:
            x = x @ weights

    made = Engine(step)
    for event in (Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):
        for _ in range(handlers):
            made.add_event_handler(event, lambda engine: None)
    made.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda engine: None)
    return made


def took(around: Around, batches: int) -> int:
    """Return the process time (ns) of one run, of which reading the loop before it is no part."""
    made = engine()
    stamps: list[int] = []
    made.add_event_handler(Events.EPOCH_STARTED, lambda: stamps.append(time.process_time_ns()))
    made.add_event_handler(Events.EPOCH_COMPLETED, lambda: stamps.append(time.process_time_ns()))
    gc.collect()
    with around(made):
        made.run(range(batches))
    return stamps[1] - stamps[0]


def bare(_: Engine) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def profiled(kind: Callable[[], Any], made: Engine) -> Iterator[None]:
    kind().attach(made)
    yield


def ratios(folder: Path, rounds: int, batches: int) -> dict[str, list[float]]:
    """Return, by condition, the ratio of each round."""
    conditions: dict[str, Around] = {
        "recorded": lambda made: loopscope.record(made, folder / "run.loop", force=True),
        "BasicTimeProfiler": lambda made: profiled(BasicTimeProfiler, made),
        "HandlersTimeProfiler": lambda made: profiled(HandlersTimeProfiler, made),
    }
    found: dict[str, list[float]] = {name: [] for name in conditions}
    took(bare, batches)
    for turn in range(rounds):
        first = took(bare, batches)
        names = list(conditions)[:: 1 if turn % 2 else -1]
        times = {name: took(conditions[name], batches) for name in names}
        both = statistics.mean((first, took(bare, batches)))
        for name, one in times.items():
            found[name].append(one / both)
    return found


# -- one dispatch ----------------------------------------------------------------------------------------------


def dispatching(count: int, given: Any) -> Engine:
    """An engine with so many empty handlers of one event, attached at `given`."""
    made = Engine(lambda engine, batch: None)
    for _ in range(count):
        made.add_event_handler(given, lambda engine: None)
    return made


def least(turns: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least time (ns) of one call of each, all in turn."""
    found = dict.fromkeys(turns, float("inf"))
    for _ in range(rounds):
        for name, call in turns.items():
            start = time.perf_counter_ns()
            for _ in range(20):
                call()
            found[name] = min(found[name], (time.perf_counter_ns() - start) / 20)
    return found


def dispatches(folder: Path, rounds: int, given: Any) -> dict[str, float]:
    """Return the ns of one event with few and with many handlers, as ignite fires it and as it is recorded."""
    found: dict[str, float] = {}

    def measure(few: Engine, many: Engine) -> None:
        turns: dict[str, Callable[[], object]] = {}
        for name, made in ((f"{FEW}", few), (f"{MANY}", many)):
            turns[f"ignite {name}"] = lambda made=made: STOCK(made, Events.STARTED)
            turns[f"recorded {name}"] = lambda made=made: made._fire_event(Events.STARTED)
        found.update(least(turns, rounds))

    few, many = dispatching(FEW, given), dispatching(MANY, given)
    with (
        loopscope.record(few, folder / "few.loop", force=True),
        loopscope.record(many, folder / "many.loop", force=True),
    ):
        few.add_event_handler(Events.EPOCH_STARTED, lambda: many.run([1]))
        many.add_event_handler(Events.EPOCH_STARTED, lambda: measure(few, many))
        few.run([1])
    return found


# -- the table -------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    rounds, batches = (2, 20) if given.quick else (41, 300)
    turns = 5 if given.quick else 1500
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = ratios(folder, rounds, batches)
        plain = dispatches(folder, turns, Events.STARTED)
        filtered = dispatches(folder, turns, Events.STARTED(event_filter=lambda engine, event: True))
    figures = [*of_ratios(found), *of_dispatches(plain, ""), *of_dispatches(filtered, ", with a filter")]
    return figures, {
        "ratios": found,
        "dispatch_ns": plain,
        "filtered_ns": filtered,
        "rounds": rounds,
        "batches": batches,
    }


def of_ratios(found: dict[str, list[float]]) -> Iterator[Figure]:
    for name, values in found.items():
        middle, low, high = bootstrap(values)
        target = 1.02 if name == "recorded" else None
        yield Figure(f"Ignite, 1 ms per batch: {name} / unrecorded", middle, "×", target, low, high)


def of_dispatches(took: dict[str, float], what: str) -> Iterator[Figure]:
    each = {kind: (took[f"{kind} {MANY}"] - took[f"{kind} {FEW}"]) / (MANY - FEW) for kind in ("ignite", "recorded")}
    own = took[f"ignite {FEW}"] - FEW * each["ignite"]
    ours = took[f"recorded {FEW}"] - FEW * each["recorded"]
    yield Figure(f"Ignite, one handler call{what}: its own dispatch", each["ignite"] / 1e3, "µs")
    added = (each["recorded"] - each["ignite"]) / 1e3
    yield Figure("   added by recording", added, "µs", None if what else 0.35)
    yield Figure(f"Ignite, one event without handlers{what}: added by recording", (ours - own) / 1e3, "µs")


if __name__ == "__main__":
    part.run("recording-ignite", __doc__, measure)
