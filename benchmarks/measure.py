"""What the benchmarks share: a table for people, a JSON file for comparing, and the machine that both speak of."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("loopscope", "fastai", "lightning", "transformers", "keras", "pytorch-ignite"),
    *("torch", "numpy", "viztracer", "pyinstrument"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of a table: `Figure("a batch", 1.2, "ms", target=2.0)`; `low` and `high` bound its 95 % interval.

    The target is met by a value that is not above it, except with `least`: then by one that is not below.
    """

    what: str
    value: float
    unit: str = ""
    target: float | None = None
    low: float | None = None
    high: float | None = None
    least: bool = False

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        met = self.value >= self.target if self.least else self.value <= self.target
        return "met" if met else "MISSED"

    def line(self) -> str:
        """Return the row as text; digits as the size of the value needs them."""
        what, value, interval, target = self._cells()
        return f"{what:66}{value:>10} {self.unit:9}{interval:>13}{target:>10}  {self.verdict}".rstrip()

    def markdown(self) -> str:
        """Return the row as one of a Markdown table of four columns."""
        what, value, interval, target = self._cells()
        what = f"… {what.lstrip()}" if what.startswith(" ") else what
        aim = f"{target}, {self.verdict}" if target else ""
        return "| " + " | ".join([what, f"{value} {self.unit}".rstrip(), interval, aim]) + " |"

    def _cells(self) -> tuple[str, str, str, str]:
        interval = "" if self.low is None or self.high is None else f"{self.low:.3f}–{self.high:.3f}"
        target = "" if self.target is None else f"{'≥' if self.least else '≤'} {_digits(self.target)}"
        return self.what, _digits(self.value), interval, target


def _digits(value: float) -> str:
    size = abs(value)
    places = 0 if value == int(value) or size >= 100 else 1 if size >= 10 else 2 if value == round(value, 2) else 3
    return f"{value:,.{places}f}"


def machine() -> dict[str, object]:
    """Where a figure was measured: a figure without this says nothing."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        **{package: installed(package) for package in PACKAGES},
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def bootstrap(values: Sequence[float], rounds: int = 4000) -> tuple[float, float, float]:
    """Return the median and its 95 % interval: the medians of so many resamples, seeded, so that it repeats."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(rounds))
    return statistics.median(values), medians[round(0.025 * rounds)], medians[round(0.975 * rounds) - 1]


def table(name: str, figures: Sequence[Figure]) -> None:
    """Print figures of any unit, each with its target and whether it is met."""
    print(f"\n{name}\n{'':66}{'':>10} {'':9}{'95 %':>13}{'target':>10}")
    for figure in figures:
        print(figure.line())


def keep(name: str, figures: Sequence[Figure], raw: Mapping[str, object], folder: Path | None = None) -> Path:
    """Write figures and raw numbers to `<folder>/<name>.json`, `results/` unless another folder is given."""
    rows = [{**asdict(figure), "verdict": figure.verdict} for figure in figures]
    return _write(name, {"machine": machine(), "rows": rows, "raw": raw}, folder or RESULTS)


def report(name: str, rows: Sequence[tuple[str, float, float | None]], raw: Mapping[str, object]) -> None:
    """Print `(what, milliseconds, target or None)` as a table and write them to results/<name>.json."""
    print(f"\n{name}\n{'':40}{'ms':>10}{'target':>10}")
    for what, ms, target in rows:
        verdict = "" if target is None else f"{target:>10g}  {'met' if ms <= target else 'MISSED'}"
        print(f"{what:40}{ms:>10.2f}{verdict}")
    listed = [{"what": what, "ms": round(ms, 4), "target_ms": target} for what, ms, target in rows]
    path = _write(name, {"machine": machine(), "rows": listed, "raw": raw}, RESULTS)
    print(f"-> {os.path.relpath(path)}")


def _write(name: str, content: Mapping[str, object], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
