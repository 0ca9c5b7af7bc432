"""Write docs/rules/: the list of the rules of `loopscope check` and a page of each, as `loopscope explain` prints them.

With `--check` nothing is written; the exit status is 1 if a page is not what its rule says, or is the page of none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from loopscope import api

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "rules"


def pages() -> Mapping[str, str]:
    """Return name of a file -> what it holds."""
    return {"README.md": api.explain(), **{f"{name}.md": api.explain(name) for name in api.TABLE}}


def stale(folder: Path = FOLDER) -> list[str]:
    """Return what is not as it should be, a line for each page."""
    wanted = pages()
    held = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return [
        *(f"{name} is missing" for name in wanted if name not in held),
        *(f"{name} is not what the rules say" for name, text in wanted.items() if held.get(name, text) != text),
        *(f"{name} is the page of no rule" for name in sorted(held) if name not in wanted),
    ]


def main() -> None:
    if "--check" in sys.argv[1:]:
        if found := stale():
            sys.exit("\n".join([*found, "To write them anew: python tools/rules.py"]))
        return
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"rules/: {len(wanted)} pages")


if __name__ == "__main__":
    main()
