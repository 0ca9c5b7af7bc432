"""How each benchmark of recording is started: `python benchmarks/recording_fit.py [--quick] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from measure import Figure, keep, table

Measured = tuple[Sequence[Figure], Mapping[str, object]]


def options(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: says whether it works, not how fast")
    parser.add_argument("--out", type=Path, help="folder for the JSON (default: benchmarks/results)")
    return parser


def run(name: str, about: str | None, measure: Callable[[argparse.Namespace], Measured], **more: str) -> None:
    """Measure, print the table, write `<name>.json`; `more` are further options with a value, and their help."""
    parser = options(about)
    for option, text in more.items():
        parser.add_argument(f"--{option}", help=text)
    given = parser.parse_args()
    figures, raw = measure(given)
    table(name, figures)
    path = keep(name, figures, {"quick": given.quick, **raw}, given.out)
    print(f"-> {os.path.relpath(path)}")
