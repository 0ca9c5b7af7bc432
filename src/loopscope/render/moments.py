"""The same moment in several frameworks, as text for a terminal, Markdown and JSON.

Each takes the frameworks in the order in which they shall stand; one alone is shown with all its events. Text has a
table where its columns fit the width, else a paragraph for each moment. Constraint: pure, and no framework is imported.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from loopscope.catalog import MOMENTS, Framework
from loopscope.errors import UnknownChoice
from loopscope.render.markdown import escape
from loopscope.render.plaintext import printed

WIDTH = 100
SCHEMA = "loopscope/moments"
VERSION = 1

TITLE = "bold"
EVENT = "cyan"
QUIET = "dim"
GAP = 2
"""Blanks between columns."""

NOBODY = "nobody"

PAGE = (
    "What each framework calls at a moment, in the order in which it does. The tests hold this against real runs: "
    "what is named fires there, and what fires there is named, but for hooks that do the work themselves (such as "
    "Lightning's `training_step`) and what Ignite fires between asking for a batch and having it. *nobody* is where "
    "a framework calls none of its events: what to do instead stands below the table, and behind that every event "
    "with what it is for. `loopscope events` shows it in a terminal."
)
"""What the page of several frameworks begins with."""


class Renderer(Protocol):
    """What a format is."""

    def __call__(self, frameworks: Sequence[Framework], width: int | None = None) -> str:
        """Return the moments of `frameworks`; only text has a width."""


def render(format: str, frameworks: Sequence[Framework], width: int | None = None) -> str:
    """Return the moments in one of `FORMATS`: `render("json", [framework("keras")])`; raises `UnknownChoice`."""
    if format not in FORMATS:
        raise UnknownChoice.of("format", format, FORMATS)
    return FORMATS[format](frameworks, width)


# -- text --------------------------------------------------------------------------------------------------------------


def text(frameworks: Sequence[Framework], width: int | None = None) -> str:
    """Return what a terminal of `width` columns (None: 100) shows, without its colours."""
    return printed(renderable(frameworks), width or WIDTH, color=False)


def renderable(frameworks: Sequence[Framework]) -> RenderableType:
    """Return what rich prints."""
    return _Alone(frameworks[0]) if len(frameworks) == 1 else _Several(frameworks)


@dataclass(frozen=True, slots=True)
class _Alone:
    """One framework: what it calls at each moment, what is so then, and all its events."""

    framework: Framework

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        of = self.framework
        moments = _grid("moment", of.name)
        for moment, meaning in MOMENTS.items():
            advice = [Text(of.absent[moment])] if moment in of.absent else []
            moments.add_row(moment, Group(_events(of, moment), Text(meaning, QUIET), *advice))
        events = _grid("event", "")
        for event, about in of.events.items():
            events.add_row(Text(event, EVENT), about)
        yield Text(f"What {of.name} calls, and when", TITLE)
        yield from (Text(), moments, Text(), Text(f"All events of {of.name}", TITLE), Text(), events)


def _events(of: Framework, moment: str) -> Text:
    return Text(", ").join(Text(event, EVENT) for event in of.moments.get(moment, ())) or Text(NOBODY)


@dataclass(frozen=True, slots=True)
class _Several:
    """Frameworks side by side, or one below the other where the terminal is too narrow for that."""

    frameworks: Sequence[Framework]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"The same moment in {', '.join(one.name for one in self.frameworks)}", TITLE)
        yield Text()
        room = options.max_width - max(map(len, MOMENTS)) - GAP * len(self.frameworks)
        least = [_longest(one) for one in self.frameworks]
        yield from self.beside(room, least) if sum(least) <= room else self.below()
        yield Text()
        yield Text(f"loopscope events {self.frameworks[0].name}: one framework, with all its events.", QUIET)

    def beside(self, room: int, least: Sequence[int]) -> Iterator[RenderableType]:
        """Yield a table, in which no name of an event is broken, and below it what is done where nobody is called."""
        more = [max(_whole(one) - own, 0) for one, own in zip(self.frameworks, least, strict=True)]
        share = min(1.0, (room - sum(least)) / max(sum(more), 1))
        table = _grid("moment")
        for one, own, wanted in zip(self.frameworks, least, more, strict=True):
            table.add_column(one.name, width=own + int(wanted * share))
        notes = _grid("", "")
        notes.show_header = False
        for moment in MOMENTS:
            cells = []
            for one in self.frameworks:
                cells.append(_events(one, moment))
                if moment in one.absent:
                    mark = f"[{notes.row_count + 1}]"
                    notes.add_row(Text(mark), Text.assemble((f"{one.name}, {moment}: ", QUIET), one.absent[moment]))
                    cells[-1] += Text(f" {mark}", QUIET)
            table.add_row(moment, *cells)
        yield table
        if notes.row_count:
            yield from (Text(), notes)

    def below(self) -> Iterator[RenderableType]:
        """Yield a paragraph for each moment."""
        for at, (moment, meaning) in enumerate(MOMENTS.items()):
            if at:
                yield Text()
            yield Text.assemble((moment, TITLE), (f"  {meaning}", QUIET))
            lines = _grid("", "")
            lines.show_header = False
            for one in self.frameworks:
                advice = f". {one.absent[moment]}" if moment in one.absent else ""
                lines.add_row(f"  {one.name}", _events(one, moment) + Text(advice))
            yield lines


def _whole(of: Framework) -> int:
    """Return the width at which the events of each moment stand on one line."""
    return max(len(", ".join(events)) for events in of.moments.values())


def _longest(of: Framework) -> int:
    """Return the width of the widest thing in the column of a framework that may not be broken."""
    events = [event for moment in of.moments.values() for event in moment]
    return max(len(one) for one in (of.name, f"{NOBODY} [99]", *(f"{event}," for event in events)))


def _grid(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style=QUIET)
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, overflow="fold")
    return table


# -- Markdown ----------------------------------------------------------------------------------------------------------


def markdown(frameworks: Sequence[Framework], width: int | None = None) -> str:
    """Return a page (GitHub's Markdown): a table, what is done where nobody is called, and every event."""
    names = ", ".join(one.name for one in frameworks)
    title = "The same moment in every framework" if len(frameworks) > 1 else f"What {names} calls, and when"
    blocks = [f"# {title}", *([PAGE] if len(frameworks) > 1 else []), *_table(frameworks), *_instead(frameworks)]
    for one in frameworks:
        events = [f"- `{event}`: {escape(about)}" for event, about in one.events.items()]
        blocks += [f"## All events of {one.name}", "\n".join(events)]
    return "\n\n".join(blocks) + "\n"


def _table(frameworks: Sequence[Framework]) -> Iterator[str]:
    rows = [("moment", *(one.name for one in frameworks)), ("---",) * (len(frameworks) + 1)]
    for moment, meaning in MOMENTS.items():
        rows.append((f"**{moment}**<br>{escape(meaning)}", *(_cell(one, moment) for one in frameworks)))
    yield "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(of: Framework, moment: str) -> str:
    return "<br>".join(f"`{event}`" for event in of.moments.get(moment, ())) or NOBODY


def _instead(frameworks: Sequence[Framework]) -> Iterator[str]:
    absent = [moment for moment in MOMENTS if any(moment in one.absent for one in frameworks)]
    if absent:
        yield "## What to do where nobody is called"
    for moment in absent:
        advice = [f"- {one.name}: {escape(one.absent[moment])}" for one in frameworks if moment in one.absent]
        yield "\n".join([f"**{moment}**", "", *advice])


# -- JSON --------------------------------------------------------------------------------------------------------------


def json(frameworks: Sequence[Framework], width: int | None = None) -> str:
    """Return all of it: `frameworks` by name, each with its `events`, its `moments` and what it has `absent`."""
    whole = {
        "schema": SCHEMA,
        "version": VERSION,
        "moments": dict(MOMENTS),
        "frameworks": {
            one.name: {
                "moments": {moment: list(events) for moment, events in one.moments.items()},
                "absent": dict(one.absent),
                "events": dict(one.events),
            }
            for one in frameworks
        },
    }
    return json_text.dumps(whole, indent=1) + "\n"


FORMATS: Mapping[str, Renderer] = MappingProxyType({"text": text, "markdown": markdown, "json": json})
"""Name of a format -> what renders it."""
