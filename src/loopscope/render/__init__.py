"""The output formats: one file each, one line each in `FORMATS`, imported when first asked for.

A format's module has `render(view, options) -> str`: pure, it prints nothing, opens nothing and computes no figure
of its own. The text ends with a line end.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast

from loopscope.errors import UnknownChoice
from loopscope.views import View

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "tree": "loopscope.render.tree",
        "text": "loopscope.render.text",
        "article": "loopscope.render.article",
        "markdown": "loopscope.render.markdown",
        "json": "loopscope.render.json",
        "html": "loopscope.render.html",
    }
)
"""Name of a format -> the module that renders it."""

SUFFIXES: Mapping[str, str] = MappingProxyType({".txt": "text", ".md": "markdown", ".json": "json", ".html": "html"})
"""How a file is called -> the format that it gets."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a reader may choose; a format ignores what does not concern it.

    `width` is in columns (None: 100), `color` asks for terminal colours. `here` is a folder: a file below it is
    named by its path from there.
    """

    verbose: bool = False
    width: int | None = None
    color: bool = False
    here: str = ""


class Renderer(Protocol):
    """What the module of a format offers."""

    def render(self, view: View, options: Options) -> str:
        """Return the loop in this format."""


def render(format: str, view: View, options: Options | None = None) -> str:
    """Return `view` in one of `FORMATS`: `render("markdown", view(loop))`; raises `UnknownChoice` for another name."""
    return renderer(format).render(view, options or Options())


def renderer(format: str) -> Renderer:
    """Return the module of a format; raises `UnknownChoice`."""
    if format not in FORMATS:
        raise UnknownChoice.of("format", format, FORMATS)
    return cast(Renderer, importlib.import_module(FORMATS[format]))
