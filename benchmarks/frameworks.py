"""What recording adds to Lightning, Transformers, Keras and Ignite, in one table: runs the benchmarks beside it.

Each framework has a file and a process of its own; its raw numbers are in `results/recording-<framework>.json`, the
table with the targets in `results/frameworks.json`. Run it with a Python that has the four.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import part
from measure import RESULTS, keep, table
from recording import markdown, read

PARTS = ("lightning", "transformers", "keras", "ignite")


def main() -> None:
    parser = part.options(__doc__)
    parser.add_argument("--table", action="store_true", help="measure nothing; print the last table as Markdown")
    parser.add_argument("--join", action="store_true", help="measure nothing; put the last of the four together")
    given = parser.parse_args()
    if given.table:
        print(*markdown(given.out or RESULTS, "frameworks"), sep="\n")
        return
    folder = part.folder(given)
    for name in () if given.join else PARTS:
        more = ["--quick"] * given.quick + ["--out", str(folder)]
        subprocess.run([sys.executable, Path(__file__).with_name(f"recording_{name}.py"), *more], check=True)
    figures = [figure for name in PARTS for figure in read(folder / f"recording-{name}.json")]
    table("frameworks", figures)
    keep("frameworks", figures, {"quick": given.quick, "parts": list(PARTS)}, folder)
    missed = [figure.what.strip() for figure in figures if figure.verdict == "MISSED"]
    print(f"\n{len(missed)} targets missed{': ' if missed else ''}{'; '.join(missed)}")


if __name__ == "__main__":
    main()
