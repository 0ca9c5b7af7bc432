"""What the benchmarks share: a table for people, a JSON file for comparing, and the machine that both speak of."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    """Where a figure was measured: a figure without this says nothing."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **{package: installed(package) for package in ("loopscope", "fastai", "torch")},
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


def report(name: str, rows: Sequence[tuple[str, float, float | None]], raw: Mapping[str, object]) -> None:
    """Print `(what, milliseconds, target or None)` as a table and write them to results/<name>.json."""
    print(f"\n{name}\n{'':40}{'ms':>10}{'target':>10}")
    for what, ms, target in rows:
        verdict = "" if target is None else f"{target:>10g}  {'met' if ms <= target else 'MISSED'}"
        print(f"{what:40}{ms:>10.2f}{verdict}")
    table = [{"what": what, "ms": round(ms, 4), "target_ms": target} for what, ms, target in rows]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "rows": table, "raw": raw}, indent=2) + "\n")
    print(f"-> {os.path.relpath(path)}")
