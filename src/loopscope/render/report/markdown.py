"""A report as Markdown (GitHub's): the sentences and tables of the terminal, every name escaped where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loopscope.render.markdown import escape
from loopscope.render.phrases import plain
from loopscope.render.report import Options, figures, words
from loopscope.render.report.rows import Row, marks, name, place, rows, slowest, told, waits
from loopscope.report import Ending, Line, Report, Track

INDENT = "&emsp;"
CALLS = ("start", "took", "call", "where")
TO_THE_RIGHT = (*figures.COLUMNS, "own", "start", "took")


def render(report: Report, options: Options) -> str:
    """Return the report under headings, in the order of the terminal."""
    blocks = [*_head(report), *_placed(report)]
    for track in report.tracks:
        blocks += _track(report, track, options)
    blocks += _slowest(report, options)
    if report.warmups:
        blocks += ["## Warm-up", _items(map(words.warmup, report.warmups))]
    if report.data or report.compute:
        blocks += ["## Data", escape(words.data(report))]
    for ending in report.endings:
        blocks += _last(ending)
    if known := list(words.calibrated(report)):
        blocks += ["## What recording costs", _items(known)]
    return "\n\n".join(blocks) + "\n"


def _head(report: Report) -> Iterator[str]:
    yield f"# {escape(words.title(report))}"
    for now in words.now(report):
        yield f"**{escape(now)}**"
    if origin := words.origin(report):
        yield escape(origin)
    if report.endings:
        yield _items(sentence for _, sentence in words.endings(report))
    for head in report.heads:
        yield f"> {escape(plain(head))}"
    for loss in report.losses:
        yield f"> lacks {escape(plain(loss))}"


def _placed(report: Report) -> Iterator[str]:
    yield escape(words.placed(report))
    if report.unexpected_count:
        yield _items(words.unexpected(report))


def _track(report: Report, track: Track, options: Options) -> Iterator[str]:
    several = f", thread {escape(plain(track.thread))}" if len(report.tracks) > 1 else ""
    yield f"## Where the time went{several}"
    yield _summary(report, track)
    yield escape(words.adds_up(report, track))
    if track is report.tracks[-1]:
        yield _items(words.cost(report))
    yield f"## The loop{several}"
    yield _table(("row", *figures.COLUMNS), map(_tree_row, told(rows(report, track, options))))
    marked = waits(report)
    if marked and track is report.tracks[-1]:
        yield escape(words.WAITS)
        yield _items(f"{handler}: {why}" for handler, why in marked.items())


def _summary(report: Report, track: Track) -> str:
    lines = [
        (escape(plain(one.name)), figures.number(one.count), figures.duration(one.total), _share(share))
        for one, share in words.summary(report, track)
    ]
    return _table(("part", "count", "total", "share"), [*lines, ("**sum**", "", figures.duration(track.sum), "")])


def _share(share: float | None) -> str:
    return "" if share is None else figures.percent(share)


def _tree_row(row: Row) -> Sequence[str]:
    label = INDENT * row.depth + _named(row.label, row.line)
    if row.folded:
        label += f" … {figures.counted(row.folded, 'row')}"
    return (label, *figures.of_row(row.line, row.share))


def _named(label: str, line: Line) -> str:
    shown = f"**{escape(label)}**" if line.kind in ("run", "scope", "event") else escape(label)
    return shown + "".join(f" ({escape(mark)})" for mark in marks(line))


def _slowest(report: Report, options: Options) -> Iterator[str]:
    heads, shown = slowest(report, options)
    if shown:
        lines = [(_named(name(line), line), *cells, escape(place(line))) for line, cells in shown]
        yield "## Slowest handlers"
        yield _table(("handler", *heads, "place"), lines)


def _last(ending: Ending) -> Iterator[str]:
    if words.tells_before(ending):
        yield f"## {escape(words.last_calls(ending))}"
        yield _table(CALLS, map(_call, words.table_of(ending.before)))
    if ending.open:
        yield f"## {escape(words.open_calls(ending))}"
        yield _table(CALLS, map(_call, words.table_of(ending.open)))


def _call(cells: tuple[str, str, str, str]) -> Sequence[str]:
    start, took, what, where = cells
    return (start, took, escape(what), escape(where))


def _items(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape(sentence)}" for sentence in sentences)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table, its figures set to the right."""
    rule = [" ---: " if what in TO_THE_RIGHT else " --- " for what in head]
    return "\n".join([_row(head), f"|{'|'.join(rule)}|", *map(_row, lines)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
