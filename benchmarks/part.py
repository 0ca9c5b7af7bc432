"""How each benchmark of recording is started: `python benchmarks/recording_fit.py [--quick] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from measure import RESULTS, Figure, keep, table

Measured = tuple[Sequence[Figure], Mapping[str, object]]


def options(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: says whether it works, not how fast")
    parser.add_argument(
        "--out", type=Path, help="folder for the JSON (default: benchmarks/results; quick: a temporary one)"
    )
    return parser


def folder(given: argparse.Namespace) -> Path:
    """Return where results go: a quick run never overwrites those that mean something."""
    return given.out or (Path(tempfile.mkdtemp(prefix="quick-")) if given.quick else RESULTS)


def run(name: str, about: str | None, measure: Callable[[argparse.Namespace], Measured], **more: str) -> None:
    """Measure, print the table, write `<name>.json`; `more` are further options with a value, and their help."""
    parser = options(about)
    for option, text in more.items():
        parser.add_argument(f"--{option}", help=text)
    given = parser.parse_args()
    figures, raw = measure(given)
    table(name, figures)
    path = keep(name, figures, {"quick": given.quick, **raw}, folder(given))
    print(f"-> {os.path.relpath(path)}")
