"""What differs between A and B, for a terminal, as text, Markdown and JSON.

Handlers are told callback by callback, times as a table. Constraint: pure; names get into rich as text, never as
markup.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loopscope.changes import FORMATS, Change, Pace, Sides
from loopscope.errors import UnknownChoice
from loopscope.render.markdown import escape
from loopscope.render.phrases import plain
from loopscope.render.plaintext import Readable, printed
from loopscope.render.report.figures import counted, duration, factor, percent

SCHEMA = "loopscope/difference"
VERSION = 1
WIDTH = 100
SIGNS: Mapping[str, str] = MappingProxyType({"added": "+", "removed": "-", "moved": ">", "changed": "~"})
STYLES: Mapping[str, str] = MappingProxyType(
    {"added": "green", "removed": "red", "moved": "cyan", "changed": "yellow", "slower": "red", "faster": "green"}
)
TIMES = ("slower", "faster")


def render(format: str, changes: Sequence[Change], sides: Sides, width: int | None = None) -> str:
    """Return the changes as text, json or markdown; raises `UnknownChoice` for another format."""
    if format not in FORMATS:
        raise UnknownChoice.of("format", format, FORMATS)
    if format == "json":
        return as_json(changes, sides)
    if format == "markdown":
        return "\n".join(_markdown(changes, sides)) + "\n"
    return printed(renderable(changes, sides), width or WIDTH, False)


def as_json(changes: Sequence[Change], sides: Sides) -> str:
    """Return the changes as JSON: each with all its fields, by their names; docs/diff.md says what they are."""
    whole = {"schema": SCHEMA, "version": VERSION, **dataclasses.asdict(sides)}
    listed = [dataclasses.asdict(one) for one in changes]
    return json.dumps({**whole, "changes": listed}, indent=1) + "\n"


def renderable(changes: Sequence[Change], sides: Sides) -> RenderableType:
    """Return what rich prints: what was compared, each change, and how many there are."""
    return Readable(Group(*_parts(tuple(changes), sides)))


def summary(changes: Sequence[Change]) -> str:
    """Return how many changes there are of each kind: `8 handlers added, 1 scope changed`."""
    counts: dict[tuple[str, str], int] = {}
    for one in changes:
        key = ("row", one.kind) if one.kind in TIMES else (_noun(one), one.kind)
        counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{counted(n, noun)} {kind}" for (noun, kind), n in counts.items()) or "no differences"


def _noun(change: Change) -> str:
    loop = "note" if change.name == "note" else "loop fact"
    return {"loop": loop, "cancel": "reaction"}.get(change.what, change.what)


# -- words -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One change as it is read: a sign, what it is about, what of it; and lines of two columns below."""

    change: Change
    head: str
    about: str = ""
    lines: tuple[tuple[str, str], ...] = ()


def entries(changes: Iterable[Change]) -> Iterator[Entry]:
    """Yield what is not a time, in order; the handlers of one callback stand together."""
    rest = [one for one in changes if one.kind not in TIMES]
    for _, group in groupby(sorted(rest, key=_rank(rest)), key=_owner):
        ones = list(group)
        if ones[0].what == "handler":
            yield from _callback(ones)
        else:
            yield _alone(ones[0])


def _owner(change: Change) -> tuple[object, ...]:
    if change.what != "handler":
        return (id(change),)
    return change.run, change.kind, change.id


def _rank(changes: Sequence[Change]) -> Callable[[Change], int]:
    """Return a key that brings the handlers of one callback together, where its first one stands."""
    first: dict[tuple[object, ...], int] = {}
    for at, one in enumerate(changes):
        first.setdefault(_owner(one), at)
    return lambda one: first[_owner(one)]


def _alone(one: Change) -> Entry:
    what = "on" if one.what == "cancel" else "" if one.what == "loop" else one.what
    head = " ".join(filter(None, (what, one.name)))
    place = f"in {'; '.join(one.where)}" if one.where else ""
    if one.kind == "changed":
        field = "" if one.what == "loop" else one.field
        return Entry(one, head, place, ((field, _turned(one)),))
    if one.what == "loop":
        return Entry(one, head, "", (("", one.old or one.new),))
    if one.what == "run":
        return Entry(one, head, "only in B" if one.kind == "added" else "only in A")
    now = "now " if one.kind == "moved" else ""
    held = (("events", one.old or one.new),) if one.old or one.new else ()
    return Entry(one, head, ", ".join(filter(None, (place, now + _stands(one)))), held)


def _callback(ones: Sequence[Change]) -> Iterator[Entry]:
    """Yield the changes of one callback: where it stands, or what of it differs."""
    name = ones[0].name.rpartition(".")[0]
    if ones[0].kind == "changed":
        yield Entry(ones[0], name, "", tuple(line for one in ones for line in _differs(one)))
        return
    lines = tuple((one.event, _moved(one) if one.kind == "moved" else _stands(one)) for one in ones)
    about = ones[0].reason if ones[0].kind != "moved" else _why_moved(ones[0])
    yield Entry(ones[0], name, about, lines)


def _why_moved(one: Change) -> str:
    return "moved" if one.old == one.new else f"moved: {_turned(one)}"


def _differs(one: Change) -> Iterator[tuple[str, str]]:
    place = f" (in {'; '.join(one.where)})" if one.where else ""
    yield one.event, f"{one.field}: {_turned(one)}{place}"


def _turned(one: Change) -> str:
    return f"{one.old or 'nothing'} → {one.new or 'nothing'}"


def _stands(one: Change) -> str:
    """Return between what it stands: `after Recorder, before ProgressCallback`."""
    if one.follows is None and one.precedes is None:
        return "alone"
    follows = "first" if one.follows is None else f"after {one.follows}"
    precedes = "last" if one.precedes is None else f"before {one.precedes}"
    return f"{follows}, {precedes}"


def _moved(one: Change) -> str:
    """Return what a handler now runs before or after, and did not: `now before Recorder`."""
    sides = (("before", one.now_before), ("after", one.now_after))
    return "now " + " and ".join(f"{word} {', '.join(names)}" for word, names in sides if names)


def _row(one: Change) -> tuple[str, str, str, str, str]:
    """Return the columns of a time."""
    assert one.paces is not None
    a, b = one.paces
    return _ratio(one), _what(one), _pace(a), _pace(b), f"{percent(a.share)} → {percent(b.share)}"


def _ratio(one: Change) -> str:
    """Return how many times slower or faster B is: `9.02× slower`."""
    return f"{factor(one.ratio if one.kind == 'slower' else 1 / max(one.ratio, 1e-9))}× {one.kind}"


def _what(one: Change) -> str:
    """Return which row a time is of."""
    if one.what == "handler":
        return one.name
    return f"{one.what} {one.name}"


def _pace(pace: Pace) -> str:
    return f"{duration(pace.median)} ({duration(pace.low)} to {duration(pace.high)})"


HEADS = ("B is", "row", "A: median of a call", "B: median of a call", "share of the run")


# -- for a terminal ----------------------------------------------------------------------------------------------------


def _parts(changes: Sequence[Change], sides: Sides) -> Iterator[RenderableType]:
    yield _grid([("A", sides.a), ("B", sides.b)], "bold", indent=0)
    for note in sides.notes:
        yield Text(plain(note), "yellow")
    yield Text()
    for run, group in _by_run(changes):
        if run:
            yield Text(plain(run), "bold underline")
        for entry in entries(group):
            yield from _entry(entry)
        if times := [one for one in group if one.kind in TIMES]:
            yield from _times(times)
    yield Text(summary(changes), "bold")


def _by_run(changes: Sequence[Change]) -> Iterator[tuple[str, list[Change]]]:
    for run in dict.fromkeys(one.run for one in changes):
        yield run, [one for one in changes if one.run == run]


def _entry(entry: Entry) -> Iterator[RenderableType]:
    kind = entry.change.kind
    about = f"  {plain(entry.about)}" if entry.about else ""
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_row(
        Text(SIGNS[kind], STYLES[kind]), Text.assemble((plain(entry.head), f"bold {STYLES[kind]}"), (about, "dim"))
    )
    yield line
    if entry.lines:
        yield _grid(entry.lines, "", indent=4)
    yield Text()


def _grid(lines: Sequence[Sequence[str]], style: str, indent: int) -> RenderableType:
    """Return lines in columns, the first in `style`; without it where it has nothing to say."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    named = any(line[0] for line in lines)
    for number in range(len(lines[0]) if named else len(lines[0]) - 1):
        grid.add_column(style=style if number == 0 and named else "", no_wrap=number == 0 and named)
    for line in lines:
        grid.add_row(*(Text(plain(cell)) for cell in (line if named else line[1:])))
    return Padding(grid, (0, 0, 0, indent))


def _times(times: Sequence[Change]) -> Iterator[RenderableType]:
    """Yield the times, each with a line for A and one for B, so that it fits into 80 columns."""
    yield Text("times that differ beyond their noise", "bold")
    for one in times:
        assert one.paces is not None
        ratio, row, place = f"  {_ratio(one)}  ", plain(_what(one)), f"  {plain(_at(one))}"
        yield Text.assemble((ratio, STYLES[one.kind]), (row, "bold"), (place, "dim"))
        rows = [
            (side, _pace(pace), f"{percent(pace.share)} of the run") for side, pace in zip("AB", one.paces, strict=True)
        ]
        yield _grid(rows, "dim", indent=4)
    yield Text()


def _at(one: Change) -> str:
    """Return where a row stands, in short: `in train > batch`."""
    scopes = one.where[0].split(" > ") if one.where else []
    return f"in {' > '.join(scopes[2:] if len(scopes) > 3 else scopes)}" if scopes else ""


# -- Markdown ----------------------------------------------------------------------------------------------------------


def _markdown(changes: Sequence[Change], sides: Sides) -> Iterator[str]:
    yield from ("# What differs", "", f"* A: {_safe(sides.a)}", f"* B: {_safe(sides.b)}", "")
    for note in sides.notes:
        yield from (f"> {_safe(note)}", "")
    for run, group in _by_run(changes):
        if run:
            yield from (f"## {_safe(run)}", "")
        listed = list(entries(group))
        for entry in listed:
            yield f"* {entry.change.kind}: **{_safe(entry.head)}**" + (f" {_safe(entry.about)}" if entry.about else "")
            yield from (f"  * {_safe(': '.join(filter(None, line)))}" for line in entry.lines)
        if listed:
            yield ""
        if times := [one for one in group if one.kind in TIMES]:
            yield from _table(times)
    yield f"{summary(changes)[0].upper()}{summary(changes)[1:]}."


def _table(times: Sequence[Change]) -> Iterator[str]:
    yield "| " + " | ".join((*HEADS, "where")) + " |"
    yield "| ---: | --- | --- | --- | --- | --- |"
    for one in times:
        yield "| " + " | ".join(map(_safe, (*_row(one), "; ".join(one.where)))) + " |"
    yield ""


def _safe(text: str) -> str:
    return escape(plain(text))
