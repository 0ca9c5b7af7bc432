"""Write the README's table of what the tests ran on: the extras of pyproject.toml, the versions of constraints.txt.

Run it with a Python that the tests of a framework ran on: that one stands in the table, and what is installed beside it
must be what constraints.txt says. With `--check` nothing is written; the exit status is 1 if the table is another.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from difflib import unified_diff
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from loopscope.api import FRAMEWORKS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- versions -->\n", "<!-- /versions -->"

BESIDE = {"lightning": ("pytorch-lightning",), "transformers": ("accelerate",)}
"""What the tests of a framework also run with, besides torch."""


def main() -> None:
    readme = README.read_text(encoding="utf-8")
    head, found, rest = readme.partition(BEGIN)
    table, ended, tail = rest.partition(END)
    if not found or not ended:
        sys.exit(f"{README.name} has no place for the table: a line {BEGIN.strip()} and, below it, one {END}.")
    if "--check" not in sys.argv[1:]:
        if other := list(others()):
            sys.exit("\n".join(other))
        README.write_text(head + BEGIN + versions("{}.{}".format(*sys.version_info)) + END + tail, encoding="utf-8")
        print(README.name)
        return
    python = re.search(r"(3\.\d+) \|$", table, re.M)
    now = versions(python[1] if python else "3.x")
    if stale := list(unified_diff(table.splitlines(), now.splitlines(), "README.md (held)", "(now)", lineterm="")):
        sys.exit("\n".join([*stale, "To write it anew: python tools/versions.py"]))


def versions(python: str) -> str:
    """Return the table as lines of Markdown, for tests that ran on that Python."""
    extras, pins = dict(declared()), dict(pinned())
    lines = ["| framework | installed by | accepted | tested with | on Python |", "| --- | --- | --- | --- | --- |"]
    for name in FRAMEWORKS:
        package, least = extras[name]
        tested = ", ".join(f"{one} {pins[one]}" for one in (package, *BESIDE.get(name, ()), "torch"))
        lines.append(f"| {name} | `loopscope[{name}]` | {package} {least} or newer | {tested} | {python} |")
    return "\n".join(lines) + "\n"


def declared() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each extra that is a framework, with the package that it installs and the least version of that."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra, package, least in re.findall(r'^(\w+) = \["([\w-]+)(?:\[\w+\])?>=([\d.]+)"', project, re.M):
        if extra in FRAMEWORKS:
            yield extra, (package, least)


def pinned() -> Iterator[tuple[str, str]]:
    """Yield what constraints.txt holds: package and version."""
    yield from re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)


def others() -> Iterator[str]:
    """Yield what is installed here in another version than constraints.txt says, in a sentence each."""
    for package, pin in pinned():
        installed = here(package)
        if installed is not None and installed.partition("+")[0] != pin:
            yield f"{package} {installed} is installed here, and constraints.txt says {pin}."


def here(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
