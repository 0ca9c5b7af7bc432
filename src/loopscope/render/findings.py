"""Findings for a terminal, as text and as JSON.

Constraint: pure; names get into rich as text, never as markup, and rich is imported where something is printed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from loopscope.errors import UnknownChoice
from loopscope.findings import Finding
from loopscope.render.json import finding
from loopscope.render.phrases import counted as summary
from loopscope.render.phrases import plain, short

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["FORMATS", "as_json", "render", "renderable", "summary", "where"]

FORMATS = ("text", "json")
WIDTH = 100
STYLES: Mapping[str, str] = MappingProxyType({"error": "bold red", "warning": "yellow", "note": "cyan"})


def render(
    format: str, findings: Sequence[Finding], of: str, here: str = "", width: int | None = None, unasked: int = 0
) -> str:
    """Return findings as text or json; `of` says what was checked. Raises `UnknownChoice` for another format.

    `unasked` is how many rules there are that only a script can answer.
    """
    if format not in FORMATS:
        raise UnknownChoice.of("format", format, FORMATS)
    if format == "json":
        return as_json(findings, of)
    from loopscope.render.plaintext import printed

    return printed(renderable(findings, of, here, unasked), width or WIDTH, False)


def as_json(findings: Sequence[Finding], of: str) -> str:
    """Return findings as JSON: each with all its fields, by their names."""
    whole = {"checked": of, "findings": [finding(one) for one in findings]}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def renderable(findings: Sequence[Finding], of: str, here: str = "", unasked: int = 0) -> RenderableType:
    """Return what rich prints: each finding with its reasons, and how many there are."""
    from rich.console import Group

    return Group(*_parts(findings, of, here), *_left_out(unasked))


def _parts(findings: Sequence[Finding], of: str, here: str) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    for one in findings:
        head = Text(f"{one.severity}  ", STYLES[one.severity]) + Text(one.rule, "bold")
        yield head + Text(f"  {where(one, here)}", "dim")
        yield Padding(Text(plain(one.message)), (0, 0, 0, 2))
        yield from _about("why", one.why)
        yield from _about("do", one.do)
        for fact in one.evidence:
            yield from _about("seen" if one.trust == "observed" else "read", fact)
        yield from _about("met", ", ".join(one.threads))
        yield Text()
    yield Text(f"{plain(of)}: {summary(findings)}", "bold")


def _left_out(unasked: int) -> Iterator[RenderableType]:
    if unasked:
        from rich.text import Text

        rules, them = ("1 rule reads", "it") if unasked == 1 else (f"{unasked} rules read", "them")
        yield Text(f"({rules} the callbacks' source: loopscope check train.py asks {them}, too)", "dim")


def _about(word: str, text: str) -> Iterator[RenderableType]:
    if text:
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=4, style="dim")
        grid.add_column()
        grid.add_row(Text(word), Text(plain(text)))
        yield Padding(grid, (0, 0, 0, 2))


def where(finding: Finding, here: str = "") -> str:
    """Return where a finding is: `GradientClip#3.before_step (train.py:12)`."""
    name = ".".join(filter(None, (finding.callback, finding.method or finding.event)))
    place = "" if finding.place is None else f"({short(finding.place, here)})"
    return plain(" ".join(filter(None, (name, place))))
