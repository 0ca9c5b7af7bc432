"""What `import loopscope` adds to the start of Python: fresh processes, in turn with bare ones."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from measure import report

CASES = {"bare": "pass", "typing": "import typing", "loopscope": "import loopscope"}
# Measured inside as well: the import statement alone, without the start and the end of the process.
INSIDE = "import time; start = time.perf_counter_ns(); import loopscope; print(time.perf_counter_ns() - start)"


def wall_ms(code: str) -> float:
    start = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter_ns() - start) / 1e6


def inside_ms() -> float:
    done = subprocess.run([sys.executable, "-c", INSIDE], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=41, help="processes per case (default: %(default)s)")
    rounds = parser.parse_args().n
    wall: dict[str, list[float]] = {name: [] for name in CASES}
    inside: list[float] = []
    for _ in range(rounds):
        for name, code in CASES.items():
            wall[name].append(wall_ms(code))
        inside.append(inside_ms())
    added = [with_it - bare for with_it, bare in zip(wall["loopscope"], wall["bare"], strict=True)]
    rows = [
        ("a bare interpreter, whole process", statistics.median(wall["bare"]), None),
        ("with `import typing`", statistics.median(wall["typing"]), None),
        ("with `import loopscope`", statistics.median(wall["loopscope"]), None),
        ("added by loopscope (paired median)", statistics.median(added), 20.0),
        ("the import statement alone", statistics.median(inside), 20.0),
    ]
    report("import_time", rows, {"rounds": rounds, "wall_ms": wall, "inside_ms": inside})


if __name__ == "__main__":
    main()
