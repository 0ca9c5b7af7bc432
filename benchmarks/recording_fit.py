"""What recording adds to a fit: real fastai learners with 4, 6 and 12 callbacks, and what profilers add beside it.

Each round fits every learner four times, unrecorded, recorded, recorded, unrecorded; the two sums make one ratio. What
counts is the process time from the draw of the first training batch to the end of the last. Reading the loop before
the fit and compacting the file behind it lie outside of that: they are in the second ratio, that of the whole `with`
block, and stand in a row of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import part
from learners import quiet, synthetic
from measure import Figure, bootstrap

import loopscope

Around = Callable[[Any], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """A learner: so many callbacks, fastai's progress bar among them or not."""

    name: str
    callbacks: int
    bar: bool = True


CASES = (
    Case("4 callbacks", 4),
    Case("6 callbacks", 6),
    Case("12 callbacks", 12),
    Case("4 callbacks, no progress bar", 5, bar=False),
)


@dataclass(slots=True)
class Took:
    """Process time (ns) of one fit: its training batches, the call, and all of the recording or profiling around it."""

    batches: int
    fit: int
    whole: int


def fit(case: Case, around: Around, batches: int) -> Took:
    """Fit a new learner, the same at each call, inside `around(learn)`."""
    learn = synthetic(case.callbacks, batches)
    gc.collect()
    with quiet(), contextlib.nullcontext() if case.bar else learn.no_bar():
        start = time.process_time_ns()
        with around(learn):
            begun = time.process_time_ns()
            learn.fit(1)
            done = time.process_time_ns()
        return Took(learn.dls.train.batches_ns, done - begun, time.process_time_ns() - start)


# -- what is around the fit ------------------------------------------------------------------------------------


def bare(_: Any) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def recorded(file: Path) -> Around:
    return lambda learn: loopscope.record(learn, file, force=True)


@contextlib.contextmanager
def under_cprofile(_: Any) -> Iterator[None]:
    import cProfile

    profiler = cProfile.Profile()
    profiler.enable()
    yield
    profiler.disable()


@contextlib.contextmanager
def under_viztracer(_: Any) -> Iterator[None]:
    """Every call goes into its ring buffer; nothing is saved."""
    from viztracer import VizTracer

    tracer = VizTracer(verbose=0)
    tracer.start()
    yield
    tracer.stop()
    tracer.clear()
    tracer.terminate()


@contextlib.contextmanager
def under_pyinstrument(_: Any) -> Iterator[None]:
    """Sampled each millisecond, its default."""
    from pyinstrument import Profiler

    profiler = Profiler()
    profiler.start()
    yield
    profiler.stop()


@contextlib.contextmanager
def under_torch_profiler(_: Any) -> Iterator[None]:
    """CPU activities, no export. It knows operations, not callbacks."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]):
        yield


PEERS: dict[str, tuple[str, Around]] = {
    "cProfile": ("cProfile", under_cprofile),
    "VizTracer": ("viztracer", under_viztracer),
    "pyinstrument": ("pyinstrument", under_pyinstrument),
    "torch.profiler": ("torch.profiler", under_torch_profiler),
}


def installed_peers() -> dict[str, Around]:
    """Return the profilers that are installed; the extra `bench` has them."""
    found = {}
    for name, (module, around) in PEERS.items():
        with contextlib.suppress(ImportError):
            __import__(module)
            found[name] = around
    return found


# -- rounds ----------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    rounds = int(given.rounds or (1 if given.quick else 24))
    batches = 12 if given.quick else 800
    peer_batches = 12 if given.quick else 250
    raw: dict[str, list[dict[str, Any]]] = {case.name: [] for case in CASES}
    peers: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fit.loop"
        for number in range(0 if given.quick else -1, rounds):  # round -1 warms up, and does not count
            for case in CASES:
                one = abba(case, file, batches)
                if number >= 0:
                    raw[case.name].append(one)
            if number % 2 == 0:
                for name, ratio in beside(file, peer_batches).items():
                    peers.setdefault(name, []).append(ratio)
    figures = [figure for case in CASES for figure in of_case(case, raw[case.name], batches)]
    figures += [interval(f"4 callbacks, per batch: {name} / nothing", ratios) for name, ratios in peers.items()]
    return figures, {"batches": batches, "peer_batches": peer_batches, "rounds": raw, "peers": peers}


def abba(case: Case, file: Path, batches: int) -> dict[str, Any]:
    """Fit four times; return the sums of both sides, the ratios, and what recording did before and behind the fit."""
    sides: dict[str, list[Took]] = {"bare": [], "recorded": []}
    reading = []
    for side in ("bare", "recorded", "recorded", "bare"):
        sides[side].append(fit(case, bare if side == "bare" else recorded(file), batches))
        if side == "recorded":
            reading.append(loopscope.load(file).report().cost.reading)
    sums = {
        side: {name: sum(getattr(one, name) for one in took) for name in ("batches", "fit", "whole")}
        for side, took in sides.items()
    }
    return {
        **sums,
        "ratio": sums["recorded"]["batches"] / sums["bare"]["batches"],
        "ratio_whole": sums["recorded"]["whole"] / sums["bare"]["whole"],
        "reading_ns": statistics.mean(reading),
        "closing_ns": (sums["recorded"]["whole"] - sums["recorded"]["fit"]) / 2,
    }


def beside(file: Path, batches: int) -> dict[str, float]:
    """Return the ratio of each profiler, and of recording, to the bare fits before and behind them."""
    case = CASES[0]
    before = fit(case, bare, batches).batches
    ways = {"loopscope, in the same turns": recorded(file), **installed_peers()}
    took = {name: fit(case, around, batches).batches for name, around in ways.items()}
    plain = (before + fit(case, bare, batches).batches) / 2
    return {name: one / plain for name, one in took.items()}


def of_case(case: Case, rounds: list[dict[str, Any]], batches: int) -> Iterator[Figure]:
    def median(key: str) -> float:
        return statistics.median(one[key] for one in rounds)

    plain = statistics.median(one["bare"]["batches"] for one in rounds) / 2 / batches
    yield interval(f"{case.name}, per batch: recorded / unrecorded", [one["ratio"] for one in rounds], 1.02)
    yield Figure(f"{case.name}: an unrecorded batch", plain / 1e6, "ms")
    whole = statistics.median(one["bare"]["whole"] for one in rounds) / 2e9
    ratios = [one["ratio_whole"] for one in rounds]
    yield interval(f"{case.name}, `with` block around a fit of {whole:.1f} s: ratio", ratios)
    yield Figure(f"{case.name}: reading the loop before the fit", median("reading_ns") / 1e6, "ms")
    yield Figure(f"{case.name}: opening, calibrating, compacting", median("closing_ns") / 1e6, "ms")


def interval(what: str, ratios: list[float], target: float | None = None) -> Figure:
    value, low, high = bootstrap(ratios)
    return Figure(what, value, "×", target, low, high)


if __name__ == "__main__":
    part.run("recording-fit", __doc__, measure, rounds="rounds of the whole (default: 24)")
