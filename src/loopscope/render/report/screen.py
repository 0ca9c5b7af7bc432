"""A report for a terminal, 80 columns and wider; as plain text it is the format `text`.

What is urgent stands first: the call that is open now. Constraint: with `grid`, the only module of these that imports
rich; names and messages get into rich as `Text`, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from loopscope.render.phrases import plain
from loopscope.render.plaintext import Readable, printed
from loopscope.render.report import Options, figures, words
from loopscope.render.report.grid import Grid, GridRow, Sentence
from loopscope.render.report.rows import Row, marks, name, place, rows, slowest, told, waits
from loopscope.report import Ending, Line, Report, Track

WIDTH = 100
BAR = 24

TITLE = "bold"
URGENT = "bold red"
WARN = "yellow"
GOOD = "green"
QUIET = "dim"
STYLES = {"run": "bold", "scope": "bold cyan", "event": "bold", "step": "green", "data": "green"}


def render(report: Report, options: Options) -> str:
    """Return what a terminal shows as text, with its colours if `options.color`."""
    return printed(renderable(report, options), options.width or WIDTH, options.color)


def renderable(report: Report, options: Options) -> RenderableType:
    """Return what rich prints."""
    return Readable(Group(*_parts(report, options)))


def now(report: Report) -> RenderableType:
    """Return the lines that say what is open, alone: they are shown before the rest is worked out."""
    return Group(*(Sentence(Text(line, URGENT)) for line in words.now(report)))


def _parts(report: Report, options: Options) -> Iterator[RenderableType]:
    yield from _head(report)
    yield from _placed(report)
    for track in report.tracks:
        yield from _track(report, track, options)
    yield from _slowest(report, options)
    if options.brief:
        return
    if report.warmups:
        yield from _section("Warm-up", [Sentence(Text(words.warmup(one))) for one in report.warmups])
    if report.data or report.compute:
        yield from _section("Data", [Sentence(Text(words.data(report)))])
    for ending in report.endings:
        yield from _last(ending)
    if known := list(words.calibrated(report)):
        yield from _section("What recording costs", [Sentence(Text(line)) for line in known])


def _section(title: str, parts: Sequence[RenderableType]) -> Iterator[RenderableType]:
    yield Text()
    yield Sentence(Text(title, TITLE))
    yield from parts


# -- the head ----------------------------------------------------------------------------------------------------------


def _head(report: Report) -> Iterator[RenderableType]:
    for now in words.now(report):
        yield Sentence(Text(now, URGENT))
    yield Sentence(Text(words.title(report), TITLE))
    if origin := words.origin(report):
        yield Sentence(Text(origin, QUIET))
    styles = {"finished": GOOD, "running": "", "detached": WARN}
    for how, sentence in words.endings(report):
        yield Sentence(Text(sentence, styles.get(how, WARN)))
    for head in report.heads:
        yield Sentence(Text(plain(head)), "note  ")
    for loss in report.losses:
        yield Sentence(Text(plain(loss), WARN), "lacks ")


def _placed(report: Report) -> Iterator[RenderableType]:
    yield Sentence(Text(words.placed(report), URGENT if report.unexpected_count else GOOD))
    for one in words.unexpected(report):
        yield Sentence(Text(one), "  ")


# -- one thread --------------------------------------------------------------------------------------------------------


def _track(report: Report, track: Track, options: Options) -> Iterator[RenderableType]:
    several = f", thread {plain(track.thread)}" if len(report.tracks) > 1 else ""
    yield from _section(f"Where the time went{several}", _summary(report, track))
    if track is report.tracks[-1]:
        yield from (Sentence(Text(line, QUIET)) for line in words.cost(report))
    if options.brief:
        return
    yield from _section(f"The loop{several}", [_tree(report, track, options)])
    marked = waits(report)
    if marked and track is report.tracks[-1]:
        yield Sentence(Text(words.WAITS, QUIET))
        yield from (Sentence(Text(f"{handler}: {why}", QUIET), "  ") for handler, why in marked.items())


def _summary(report: Report, track: Track) -> list[RenderableType]:
    lines = [
        GridRow(
            Text(plain(one.name)),
            (figures.number(one.count), figures.duration(one.total), "" if share is None else figures.percent(share)),
            "" if share is None else _bar(share),
            style=QUIET if share is None or share < figures.NOTHING else "",
        )
        for one, share in words.summary(report, track)
    ]
    lines.append(GridRow(Text("sum"), ("", figures.duration(track.sum), ""), style=TITLE))
    return [
        Grid(("part", "count", "total", "share"), lines),
        Sentence(Text(words.adds_up(report, track), GOOD if track.sum == figures.wall(report, track) else URGENT)),
    ]


def _bar(share: float) -> str:
    halves = round(share * BAR * 2)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def _tree(report: Report, track: Track, options: Options) -> Grid:
    return Grid(("", *figures.COLUMNS), [_tree_row(row) for row in told(rows(report, track, options))])


def _tree_row(row: Row) -> GridRow:
    guide, below = _guides(row)
    return GridRow(
        _named(row.label, row.line, row.folded),
        figures.of_row(row.line, row.share),
        guide=guide,
        below=below + ("│ " if row.line.children and not row.folded else "  "),
        style=QUIET if row.share is not None and row.share < figures.NOTHING else "",
    )


def _guides(row: Row) -> tuple[str, str]:
    """Return what stands before a name, and before its further lines."""
    if not row.last:
        return "", ""
    above = "".join("  " if last else "│ " for last in row.last[:-1])
    return above + ("└ " if row.last[-1] else "├ "), above + ("  " if row.last[-1] else "│ ")


def _named(label: str, line: Line, folded: int = 0) -> Text:
    text = Text.assemble((label, STYLES.get(line.kind, "")))
    for mark in marks(line):
        text.append(f" ({mark})", WARN)
    if folded:
        text.append(f" … {figures.counted(folded, 'row')}", QUIET)
    return text


# -- what stands out ---------------------------------------------------------------------------------------------------


def _slowest(report: Report, options: Options) -> Iterator[RenderableType]:
    heads, shown = slowest(report, options)
    lines = [GridRow(_named(name(line), line), cells, place(line), below="  ") for line, cells in shown]
    if lines:
        yield from _section("Slowest handlers", [Grid(("", *heads), lines)])


def _last(ending: Ending) -> Iterator[RenderableType]:
    if words.tells_before(ending):
        yield from _section(words.last_calls(ending), [_calls(words.table_of(ending.before))])
    if ending.open:
        yield from _section(words.open_calls(ending), [_calls(words.table_of(ending.open))])


def _calls(cells: Sequence[tuple[str, str, str, str]]) -> Grid:
    lines = [GridRow(Text(start), (took,), f"{what}  {beside}".rstrip()) for start, took, what, beside in cells]
    return replace(Grid(("start", "took"), lines), quiet="")
