"""Write docs/moments.md, the same moment in every framework, as `loopscope events -f markdown` prints it.

With `--check` nothing is written; the exit status is 1 if the page is not what the catalogue says.
"""

from __future__ import annotations

import sys
from difflib import unified_diff
from pathlib import Path

from loopscope import api

PAGE = Path(__file__).resolve().parent.parent / "docs" / "moments.md"


def main() -> None:
    page = api.moments().render("markdown")
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
        print(PAGE.name)
        return
    held = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    if stale := list(unified_diff(held, page.splitlines(), "moments.md (held)", "moments.md (now)", lineterm="")):
        sys.exit("\n".join([*stale, "To write it anew: python tools/moments.py"]))


if __name__ == "__main__":
    main()
