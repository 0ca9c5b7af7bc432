"""Every figure of recording in one table: runs the benchmarks beside it, one after the other, and joins their results.

Each question has a file and a process of its own; its raw numbers are in `results/recording-*.json`, the table with the
targets in `results/recording.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import part
from measure import RESULTS, Figure, keep, table

PARTS = ("fit", "dispatch", "files", "kills")


def main() -> None:
    parser = part.options(__doc__)
    parser.add_argument("--keep", help="folder where long recordings stay for the next time")
    parser.add_argument("--table", action="store_true", help="measure nothing; print the last table as Markdown")
    given = parser.parse_args()
    if given.table:
        print(*markdown(given.out or RESULTS), sep="\n")
        return
    folder = part.folder(given)
    for name in PARTS:
        more = ["--quick"] * given.quick + ["--out", str(folder)]
        if name == "files" and given.keep:
            more += ["--keep", given.keep]
        subprocess.run([sys.executable, Path(__file__).with_name(f"recording_{name}.py"), *more], check=True)
    figures = [figure for name in PARTS for figure in read(folder / f"recording-{name}.json")]
    table("recording", figures)
    keep("recording", figures, {"quick": given.quick, "parts": list(PARTS)}, folder)
    missed = [figure.what.strip() for figure in figures if figure.verdict == "MISSED"]
    print(f"\n{len(missed)} targets missed{': ' if missed else ''}{'; '.join(missed)}")


def read(path: Path) -> list[Figure]:
    """Return figures as they were written."""
    rows = json.loads(path.read_text())["rows"]
    return [Figure(**{key: value for key, value in row.items() if key != "verdict"}) for row in rows]


def markdown(folder: Path, name: str = "recording") -> list[str]:
    """Return the lines of the table in docs/overhead.md, from the results in a folder."""
    head = ["| what | measured | 95 % | target |", "| --- | --- | --- | --- |"]
    return [*head, *(figure.markdown() for figure in read(folder / f"{name}.json"))]


if __name__ == "__main__":
    main()
