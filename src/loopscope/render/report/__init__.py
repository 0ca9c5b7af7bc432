"""The formats of a report: one file each, one line each in `FORMATS`, imported when first asked for.

A format's module has `render(report, options) -> str`: pure, it prints nothing, reads no clock, and takes every figure
from `figures` and every row from `rows`. The text ends with a line end. The trace, which is made of spans and not of a
report, stands in `loopscope.render.trace`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, cast, get_args

from loopscope.errors import BadValue, UnknownChoice
from loopscope.report import Report

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "text": "loopscope.render.report.screen",
        "json": "loopscope.render.report.json",
        "csv": "loopscope.render.report.csv",
        "markdown": "loopscope.render.report.markdown",
    }
)
"""Name of a format -> the module that renders it."""

SUFFIXES: Mapping[str, str] = MappingProxyType({".txt": "text", ".json": "json", ".csv": "csv", ".md": "markdown"})
"""How a file is called -> the format that it gets."""

Sort = Literal["tree", "total", "own", "mean", "max", "count"]
"""What orders the rows that stand side by side: `tree` is the order of the loop, the others put the largest first."""

SORTS: tuple[str, ...] = get_args(Sort)


@dataclass(frozen=True, slots=True)
class Options:
    """What a reader may choose: `Options(depth=3, sort="total")`; a format ignores what does not concern it.

    `depth` is how many levels below the thread are shown (None: all), `width` is in columns (None: 100), `top` is how
    many of the slowest handlers are listed, `color` asks for terminal colours, `brief` leaves the tree out and all that
    is not a headline. Raises `UnknownChoice` and `BadValue`.
    """

    depth: int | None = None
    sort: Sort = "tree"
    width: int | None = None
    top: int = 10
    color: bool = False
    brief: bool = False

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise UnknownChoice.of("order", self.sort, SORTS)
        for what, value, least in (("depth", self.depth, 0), ("top", self.top, 0), ("width", self.width, 1)):
            if value is not None and not isinstance(value, int):
                raise BadValue(f"{what} {value!r} is no number. Give a number from {least}, or leave it out.")
            if value is not None and value < least:
                raise BadValue(f"{what} {value} is less than {least}. Give a number from {least}, or leave it out.")


class Renderer(Protocol):
    """What the module of a format offers."""

    def render(self, report: Report, options: Options) -> str:
        """Return the report in this format."""


def render(format: str, report: Report, options: Options | None = None) -> str:
    """Return `report` in one of `FORMATS`: `render("csv", report)`; raises `UnknownChoice` for another name."""
    return renderer(format).render(report, options or Options())


def renderer(format: str) -> Renderer:
    """Return the module of a format; raises `UnknownChoice`."""
    if format not in FORMATS:
        raise UnknownChoice.of("format", format, FORMATS)
    return cast(Renderer, importlib.import_module(FORMATS[format]))
