"""The rows of a report's trees as every format shows them: sorted, folded, named, each with its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from loopscope.model import Place
from loopscope.render.phrases import plain, short
from loopscope.render.report import Options, figures
from loopscope.report import Line, Report, Track


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a tree: what it is called there, and how it hangs in it.

    `label` is short: the callback alone where the handler is called as the event above it. `path` leads to it from its
    thread: `fit/epoch/train/batch/after_batch/Recorder.after_batch`. `last` says for each level from the first below
    the thread whether nothing follows there. `folded` is the number of rows below it that are not shown.
    """

    thread: str
    path: str
    label: str
    line: Line
    share: float | None
    last: tuple[bool, ...] = ()
    folded: int = 0

    @property
    def depth(self) -> int:
        """Levels below the thread, whose own row has 0."""
        return len(self.last)


def rows(report: Report, track: Track, options: Options) -> Iterator[Row]:
    """Yield the rows of one thread, its own first."""
    root = track.root
    folded = _below(root) if options.depth == 0 else 0
    yield Row(plain(track.thread), "", name(root), root, None, (), folded)
    if not folded:
        yield from _children(report, Row(plain(track.thread), "", "", root, None), options)


def _children(report: Report, above: Row, options: Options) -> Iterator[Row]:
    lines = ordered(above.line.children, options)
    labels = _labels(lines, above.line)
    for at, (line, label) in enumerate(zip(lines, labels, strict=True)):
        last = (*above.last, at + 1 == len(lines))
        path = f"{above.path}/{step(line)}" if above.path else step(line)
        folded = _below(line) if len(last) == options.depth else 0
        row = Row(above.thread, path, label, line, figures.share_of(line, report), last, folded)
        yield row
        if not folded:
            yield from _children(report, row, options)


def told(rows: Iterable[Row]) -> Iterator[Row]:
    """Leave out what says nothing new: that the time of an event without any handler is that of its dispatch."""
    alone: set[int] = set()
    for row in rows:
        children = row.line.children
        if row.line.kind == "event" and len(children) == 1 and children[0].kind == "dispatch":
            alone.add(id(children[0]))
        if id(row.line) not in alone:
            yield row


def ordered(lines: Sequence[Line], options: Options) -> Sequence[Line]:
    """Return rows that stand side by side in the order that was asked for; equal ones stay as they are."""
    if options.sort == "tree":
        return lines
    return sorted(lines, key=lambda line: -figures.worth(line, options.sort))


def name(line: Line) -> str:
    """Return the whole name of a row; `?` for one that has none."""
    return plain(line.name) or "?"


def place(line: Line) -> str:
    """Return where a handler is written, as one would type it: `fastai/learner.py:571`."""
    file, _, number = line.place.rpartition(":")
    return short(Place(file, int(number))) if file and number.isdecimal() else plain(line.place)


def step(line: Line) -> str:
    r"""Return a row's step of a path: its name, a slash in it written `\/`."""
    return name(line).replace("\\", "\\\\").replace("/", "\\/")


def marks(line: Line) -> Iterator[str]:
    """Yield what is remarkable about a row: `waits`, `open`, `raised ValueError × 2`."""
    if line.waits:
        yield "waits"
    if line.open:
        yield "open" if line.open == 1 else f"{figures.number(line.open)} open"
    for exception, count in line.raised.items():
        yield f"raised {plain(exception)}" + (f" × {figures.number(count)}" if count > 1 else "")
    if line.note:
        yield plain(line.note)


def slowest(report: Report, options: Options) -> tuple[Sequence[str], list[tuple[Line, Sequence[str]]]]:
    """Return the heads of the table of slowest handlers, and each with its figures as they are written.

    Their own time is there where it is not their total: where one of them runs a loop of its own.
    """
    shown = report.slowest[: options.top]
    nested = any(line.own != line.stats.total for line in shown)
    heads = ("count", "total", *(["own"] if nested else []), "share", "mean", "max")
    return heads, [(line, _written(line, report, heads)) for line in shown]


def _written(line: Line, report: Report, heads: Sequence[str]) -> Sequence[str]:
    cells = figures.of_row(line, figures.share_of(line, report))
    written = {**dict(zip(figures.COLUMNS, cells, strict=True)), "own": figures.duration(line.own)}
    return [written[head] for head in heads]


def waits(report: Report) -> dict[str, str]:
    """Return the handlers that make the host wait for the device -> why, in the order of the tree."""
    lines = [line for track in report.tracks for _, line in track.root.walk()]
    return {name(line): plain(line.waits) for line in (*lines, *report.slowest) if line.waits}


def _labels(lines: Sequence[Line], above: Line) -> list[str]:
    labels = [_label(line, above) for line in lines]
    often = Counter(labels)
    return [
        plain(line.callback) if often[label] > 1 and line.callback else label
        for line, label in zip(lines, labels, strict=True)
    ]


def _label(line: Line, above: Line) -> str:
    whole = name(line)
    callback, dot, method = whole.rpartition(".")
    return callback if line.kind == "handler" and callback and dot and method == plain(above.name) else whole


def _below(line: Line) -> int:
    return sum(1 for _ in line.walk()) - 1
