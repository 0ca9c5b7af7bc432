"""A table for a terminal that loses nothing: what is too long for its place goes on below, further in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

LEAST = 12
"""The narrowest that a first column may get; then lines get longer than the terminal is wide."""

WIDE = 2
"""Blanks between columns where there is room for them; else there is one."""

BESIDE = 2
"""Blanks before the last column, which holds words."""


@dataclass(frozen=True, slots=True)
class GridRow:
    """One line: a name behind its guides, figures, and words behind them.

    `guide` stands before the first line of the name, `below` before its further lines.
    """

    name: Text
    figures: Sequence[str] = ()
    words: str = ""
    guide: str = ""
    below: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows below a head; figures stand to the right of their columns, the name has what is left of the width.

    Where that is little, the blanks go first, also those inside the figures; then a long name gets a line of its own.
    """

    head: Sequence[str]
    rows: Sequence[GridRow]
    quiet: str = "dim"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = [GridRow(Text(self.head[0]), self.head[1:], style=self.quiet), *self.rows]
        longest = max(cell_len(row.guide) + row.name.cell_len for row in shown)
        columns = _columns(shown, WIDE)
        if longest + sum(columns) > options.max_width:
            columns = _columns(shown, 1)
        if longest + sum(columns) > options.max_width:
            shown = [replace(row, figures=[one.replace(" ", "") for one in row.figures]) for row in shown]
            columns = _columns(shown, 1)
        width = min(longest, max(options.max_width - sum(columns), LEAST))
        for row in shown:
            yield from self.lines(row, columns, width, options)

    def lines(self, row: GridRow, columns: Sequence[int], width: int, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines of one row: mostly one."""
        line = Text.assemble((row.guide, self.quiet), row.name)
        if line.cell_len > width:
            yield from self.name(row, options.max_width)
            line = Text(row.below[:width], self.quiet)
        line.append(" " * (width - line.cell_len))
        line.append("".join(figure.rjust(size) for figure, size in zip(row.figures, columns, strict=True)))
        beside = bool(row.words) and line.cell_len + BESIDE + cell_len(row.words) <= options.max_width
        if beside:
            line.append(" " * BESIDE + row.words, self.quiet)
        line.stylize(row.style)
        yield line
        if row.words and not beside:
            yield Text(f"{row.below}  {row.words}", self.quiet, overflow="fold")

    def name(self, row: GridRow, width: int) -> Iterator[Text]:
        """Yield the lines of a name that has them for itself."""
        for at, piece in enumerate(folded(row.name, width - cell_len(row.guide), width - cell_len(row.below))):
            line = Text.assemble((row.below if at else row.guide, self.quiet), piece)
            line.stylize(row.style)
            yield line


def _columns(rows: Sequence[GridRow], gap: int) -> list[int]:
    return [gap + max(map(cell_len, column)) for column in zip(*(row.figures for row in rows), strict=True)]


def folded(text: Text, first: int, further: int) -> Iterator[Text]:
    """Yield `text` in pieces of `first` columns and then `further`, broken between words where that is possible."""
    width = max(first, 1)
    while text.cell_len > width:
        piece = chop_cells(text.plain, width)[0]
        blank = piece.rfind(" ") if text.plain[len(piece)] != " " else len(piece)
        end = blank if blank > 0 else max(len(piece), 1)
        yield text[:end]
        text = text[end + (text.plain[end] == " ") :]
        width = max(further, 1)
    yield text


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence behind a lead; its further lines start where it starts."""

    text: Text
    lead: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - cell_len(self.lead) - (0 if self.lead else 2)
        first = width + (0 if self.lead else 2)
        for at, piece in enumerate(folded(self.text, first, width)):
            yield Text.assemble((" " * (cell_len(self.lead) or 2) if at else self.lead), piece)
