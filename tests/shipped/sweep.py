"""The sweep: `found = sweep(framework, USES, folder)`, and what docs/true-findings.md says that it must be.

A use is a learner, trainer, model or engine with something that its framework ships, used as documented.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import loopscope
from loopscope.api import Checked
from loopscope.findings import Finding

DOCUMENT = Path(__file__).parents[2] / "docs" / "true-findings.md"

Named = tuple[str, str]
"""A class that the framework ships, and a rule: `("BnFreeze", "dead-order")`."""


@dataclass(frozen=True)
class Use:
    """One use: `Use("EarlyStoppingCallback", lambda folder: learner(EarlyStoppingCallback()), "fit")`.

    `given` are further arguments of `loopscope.check`: those of the run, or `cbs`; a function of what was made.
    """

    name: str
    make: Callable[[Path], Any]
    run: str = ""
    given: Callable[[Any], Mapping[str, Any]] = field(default=lambda made: {})

    def check(self, folder: Path) -> Checked:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the framework says while it is built
            made = self.make(folder)
            return loopscope.check(made, self.run, **self.given(made))


def sweep(uses: Iterable[Use], folder: Path) -> list[tuple[str, Finding]]:
    """Return all findings, each with the name of the use that has it."""
    found = []
    for number, use in enumerate(uses):
        here = folder / str(number)
        here.mkdir()
        found += [(use.name, one) for one in use.check(here).findings]
    return found


def above_note(found: Iterable[tuple[str, Finding]]) -> dict[Named, str]:
    """Return the warnings and errors: whose they are, each with where it was seen first and what it says."""
    seen: dict[Named, str] = {}
    for use, one in found:
        if one.severity != "note":
            seen.setdefault((subject(one), one.rule), f"{use}: {one.severity}: {one.message}")
    return seen


def notes(found: Iterable[tuple[str, Finding]]) -> set[Named]:
    """Return whose notes there are, and of which rules."""
    return {(subject(one), one.rule) for _, one in found if one.severity == "note"}


def subject(finding: Finding) -> str:
    """Return the class that a finding is about: `BnFreeze` of `BnFreeze#3`."""
    return finding.callback.partition("#")[0]


def listed(framework: str) -> set[Named]:
    """Return what docs/true-findings.md lists for a framework."""
    return {(callback, rule) for name, callback, rule, _ in rows() if name == framework}


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the table: framework, callback, rule, and why it is true."""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\| (\w+) \| `(\w*)` \| \[([\w-]+)\]\(rules/[\w-]+\.md\) \| (.+) \|", line)
        if match is not None:
            yield match[1], match[2], match[3], match[4]
