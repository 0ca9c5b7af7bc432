"""What `loopscope.inspect(learn)` costs: the first time in a process, warm, and as callbacks are added."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from measure import report

COUNTS = (3, 6, 12, 24, 48)
TWELVE = 12


def learner(callbacks: int):
    """A real fastai learner with that many callbacks; fastai's own, as a user has them, the defaults included."""
    from fastai.callback.all import (
        CSVLogger,
        EarlyStoppingCallback,
        GradientAccumulation,
        GradientClip,
        MixUp,
        ReduceLROnPlateau,
        SaveModelCallback,
        ShowGraphCallback,
        TerminateOnNaNCallback,
    )
    from fastai.test_utils import synth_learner

    shipped = (
        GradientClip, GradientAccumulation, EarlyStoppingCallback, SaveModelCallback, ReduceLROnPlateau, CSVLogger,
        TerminateOnNaNCallback, ShowGraphCallback, MixUp,
    )  # fmt: skip
    learn = synth_learner()
    learn.remove_cbs(list(learn.cbs[callbacks:]))  # it comes with four
    while len(learn.cbs) < callbacks:
        # A class more than once: fastai allows it, and the growth is to be that of callbacks, not of classes.
        learn.add_cb(shipped[len(learn.cbs) % len(shipped)]())
    return learn


def inspect_ms(learn) -> float:
    import loopscope

    start = time.perf_counter_ns()
    loopscope.inspect(learn, run="fit", epochs=1)
    return (time.perf_counter_ns() - start) / 1e6


def first_ms() -> float:
    """In a process of its own: fastai and the learner are there, loopscope has been imported but has done nothing."""
    # Compiled files are kept, as for anyone who has run it before; the first process, which makes them, does not count.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, __file__, "--first"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1]))


def line(points: dict[int, float]) -> tuple[float, float, float]:
    """Least squares through (callbacks, ms): ms per callback, ms for none, and the share explained (R²)."""
    counts, times = list(points), list(points.values())
    slope, base = statistics.linear_regression(counts, times)
    return slope, base, statistics.correlation(counts, times) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=7, help="fresh processes (default: %(default)s)")
    parser.add_argument("--warm", type=int, default=101, help="warm repeats (default: %(default)s)")
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        learn = learner(TWELVE)
        import loopscope

        _ = loopscope.__version__
        print(json.dumps(inspect_ms(learn)))
        return

    first_ms()
    first = [first_ms() for _ in range(options.n)]
    learners = {count: learner(count) for count in COUNTS}
    warm: dict[int, list[float]] = {count: [] for count in COUNTS}
    for _ in range(options.warm):  # in turn, so that a slow minute of the machine hits every count alike
        for count, learn in learners.items():
            warm[count].append(inspect_ms(learn))
    medians = {count: statistics.median(times[1:]) for count, times in warm.items()}
    slope, base, explained = line(medians)
    rows = [
        (f"{TWELVE} callbacks, first in a process", statistics.median(first), 150.0),
        *((f"{count} callbacks, warm", ms, 25.0 if count == TWELVE else None) for count, ms in medians.items()),
        ("per callback (fitted line)", slope, None),
        ("for none (fitted line)", base, None),
    ]
    report("inspect_time", rows, {"first_ms": first, "warm_ms": warm, "r_squared": explained})
    print(f"the line explains {explained:.1%} of the growth from {COUNTS[0]} to {COUNTS[-1]} callbacks")


if __name__ == "__main__":
    main()
