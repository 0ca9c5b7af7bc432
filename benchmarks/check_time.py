"""What `loopscope.check(learn)` costs, warm, and which share of it each part has: the map, the reading, the rules."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from inspect_time import TWELVE, learner
from measure import report

TARGET = 60.0
WHOLE = f"{TWELVE} callbacks, warm: the whole check"


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def parts(learn) -> dict[str, Callable[[], object]]:
    """What a check does, each part by itself; a rule by its name."""
    import loopscope
    from loopscope import checked, checks

    shown = loopscope.inspect(learn)
    case = checked.case_of(learn, "fit", shown.loop, {}, None)
    return {
        WHOLE: lambda: loopscope.check(learn),
        "the map": lambda: loopscope.inspect(learn),
        "reading the callbacks": lambda: checked.case_of(learn, "fit", shown.loop, {}, None),
        "all rules": lambda: checks.check(case),
        **{f"rule {name}": lambda name=name: checks.check(case, [name]) for name in checks.TABLE},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=101, help="repeats (default: %(default)s)")
    options = parser.parse_args()
    each = parts(learner(TWELVE))
    measured: dict[str, list[float]] = {name: [] for name in each}
    for _ in range(options.n + 1):  # in turn, so that a slow minute of the machine hits every part alike
        for name, call in each.items():
            measured[name].append(milliseconds(call))
    warm = {name: times[1:] for name, times in measured.items()}
    rows = [(name, statistics.median(times), TARGET if name == WHOLE else None) for name, times in warm.items()]
    low, _, high = statistics.quantiles(warm[WHOLE], n=4)
    report("check-time", rows, {"warm_ms": warm[WHOLE], "quartiles_ms": [low, high]})
    print(f"half of the whole checks took {low:.1f} to {high:.1f} ms")


if __name__ == "__main__":
    main()
