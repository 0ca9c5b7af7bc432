"""How large a recording is, and what it takes to report it: bytes per span, 1 M and 10 M spans, as text and as a trace.

Every recording here is a true one of a fit. The long ones are of a learner whose batches cost next to nothing, with
three idle handlers at each event; each is kept twice, as it was before it was closed (live) and compacted (closed).
Reports are made by `loopscope report` in processes of their own; their process time counts, and what a report of nearly
nothing takes (the start of Python, the imports) stands beside it. This process stays small: a child's peak memory would
include that of the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import part
from measure import Figure

PER_BATCH = 36
"""Rows that a batch of `learners.cheap` makes."""

REAL_BATCHES = 1500
SIZES = {"1 M": 1_000_000, "10 M": 10_000_000}
LIMITS = {"1 M": 1.0, "10 M": 6.0}
FORMS = ("closed", "live")
TRACE_LIMIT = 3.0
MEMORY_LIMIT = 1e9


# -- recordings ------------------------------------------------------------------------------------------------

MAKE = """
import shutil, sys, json, os, time
from pathlib import Path
import loopscope
from learners import cheap, quiet, synthetic
for folder, callbacks, batches in json.loads(sys.argv[1]):
    folder = Path(folder)
    learn = synthetic(callbacks, batches) if callbacks else cheap(batches)
    with quiet():
        rec = loopscope.record(learn, folder / "closed.part", force=True)
        with rec:
            learn.fit(1)
            shutil.copy(rec.path, folder / "live.part")
            start = time.process_time()
        closing = time.process_time() - start
    (folder / "made.json").write_text(json.dumps({"batches": batches, "closing_s": closing}))
    for form in ("live", "closed"):
        os.replace(folder / f"{form}.part", folder / f"{form}.loop")
"""


def make(wanted: dict[Path, tuple[int, int]]) -> None:
    """Record a fit into each folder, (callbacks, batches), the cheap learner for 0; those of a run before stay."""
    missing = []
    for folder, (callbacks, batches) in wanted.items():
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "closed.loop").exists() or note(folder)["batches"] != batches:
            missing.append((str(folder), callbacks, batches))
    paths = filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if missing:
        subprocess.run([sys.executable, "-c", MAKE, json.dumps(missing)], check=True, env=here)


def note(folder: Path) -> dict[str, Any]:
    """Return what was noted when the recordings of a folder were made."""
    found: dict[str, Any] = json.loads((folder / "made.json").read_text())
    return found


WEIGH = """
import sys, json
from loopscope.recording import read
from loopscope.recording.blocks import Source, walk
from loopscope.recording.layout import HEAD_SIZE, ROW, ROWS, Head
from loopscope.placing import place
weighed = {}
for form in ("live", "closed"):
    path = f"{sys.argv[1]}/{form}.loop"
    recording = read(path)
    with open(path, "rb", buffering=0) as file:
        source = Source(file)
        head = Head.unpack(source.read(0, HEAD_SIZE))
        room = sum(one.block.length for one in walk(source, head).blocks if one.block.kind == ROWS)
    unused = room - ROW * recording.spans if room else 0
    unexpected = sum(block.unexpected_count for block in place(recording).blocks())
    weighed[form] = dict(
        state=recording.state, spans=recording.spans, size=recording.size, used=recording.size - unused,
        unexpected=unexpected, losses=recording.losses,
    )
print(json.dumps(weighed))
"""


def weighed(folder: Path) -> dict[str, Any]:
    """Return spans, bytes and what was not expected, of the live and the closed form of a recording."""
    command = [sys.executable, "-c", WEIGH, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["live"]["spans"] == found["closed"]["spans"]
    assert not any(one["unexpected"] or one["losses"] for one in found.values()), found
    return found


# -- reports ---------------------------------------------------------------------------------------------------


def timed(*arguments: str | Path) -> dict[str, float]:
    """Run `loopscope report ...` in a process of its own; return its process and wall time (s) and peak memory."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "loopscope", "report", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, arguments
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "process_s": used.ru_utime + used.ru_stime,
        "wall_s": time.perf_counter() - start,
        "bytes": used.ru_maxrss * unit,
    }


def turns(folders: dict[str, Path], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Report every recording in turn, as text, and those of 1 M as a trace, so many times."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for name, folder in folders.items():
            for form in FORMS:
                found.setdefault(f"{name} {form}", []).append(timed(folder / f"{form}.loop"))
        trace = folders["1 M"] / "trace.json"
        options = ("--format", "trace", "--force", "-o", trace)
        found.setdefault("trace", []).append(timed(folders["1 M"] / "closed.loop", *options))
        trace.unlink()
    return found


# -- the table -------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    sizes = {name: spans // (10_000 if given.quick else 1) for name, spans in SIZES.items()}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(given.keep or scratch)
        folders = {name: root / name.replace(" ", "") for name in sizes}
        wanted = {folders[name]: (0, -(-spans // PER_BATCH)) for name, spans in sizes.items()}
        make({**wanted, root / "tiny": (0, 1), root / "real": (6, 20 if given.quick else REAL_BATCHES)})
        notes = {name: note(folder) for name, folder in folders.items()}
        weights = {name: weighed(folder) for name, folder in {**folders, "real": root / "real"}.items()}
        reports = turns({"tiny": root / "tiny", **folders}, 1 if given.quick else 7)
    figures = [*of_bytes(weights), *of_reports(reports), *of_closing(notes)]
    return figures, {"made": notes, "weights": weights, "reports": reports}


def of_bytes(weights: dict[str, Any]) -> Iterator[Figure]:
    real = weights["real"]
    live, closed, spans = real["live"], real["closed"], real["live"]["spans"]
    yield Figure(f"spans of a fit of {REAL_BATCHES} batches, 6 callbacks", spans)
    yield Figure("bytes per span, live, all of the file in use", live["used"] / spans, "bytes", 40)
    yield Figure("bytes per span, live, with what is reserved ahead", live["size"] / spans, "bytes")
    yield Figure("bytes per span, closed", closed["size"] / spans, "bytes", 6)
    ten = weights["10 M"]
    yield Figure("bytes per span, 10 M spans, live, in use", ten["live"]["used"] / ten["live"]["spans"], "bytes", 40)
    yield Figure("bytes per span, 10 M spans, closed", ten["closed"]["size"] / ten["closed"]["spans"], "bytes", 6)


def of_reports(reports: dict[str, list[dict[str, float]]]) -> Iterator[Figure]:
    def median(name: str, key: str) -> float:
        return statistics.median(one[key] for one in reports[name])

    yield Figure("report of next to nothing: start of Python, imports", median("tiny closed", "process_s"), "s")
    for size, limit in LIMITS.items():
        for form in FORMS:
            name = f"{size} {form}"
            yield Figure(f"report of {size} spans, {form}, process time", median(name, "process_s"), "s", limit)
            yield Figure(f"report of {size} spans, {form}, wall time", median(name, "wall_s"), "s")
            peak = median(name, "bytes") / 1e6
            yield Figure(f"report of {size} spans, {form}, peak memory", peak, "MB", MEMORY_LIMIT / 1e6)
    yield Figure("Chrome trace of 1 M spans, process time", median("trace", "process_s"), "s", TRACE_LIMIT)
    yield Figure("Chrome trace of 1 M spans, wall time", median("trace", "wall_s"), "s")
    yield Figure("Chrome trace of 1 M spans, peak memory", median("trace", "bytes") / 1e6, "MB")


def of_closing(notes: dict[str, Any]) -> Iterator[Figure]:
    for size, note in notes.items():
        yield Figure(f"closing a recording of {size} spans, once", note["closing_s"], "s")


if __name__ == "__main__":
    part.run("recording-files", __doc__, measure, keep="folder where long recordings stay for the next time")
