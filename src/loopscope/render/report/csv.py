"""The rows of a report as CSV, one line each, times in whole nanoseconds: for spreadsheets and data frames.

Names stand there as they are, quoted where CSV asks for it; a program that evaluates cells that begin with `=` must be
told not to. Every line stays one line: what does not print is escaped.
"""

from __future__ import annotations

import csv
import io

from loopscope.render.phrases import plain
from loopscope.render.report import Options, figures
from loopscope.render.report import rows as tree
from loopscope.report import Report

COLUMNS = (
    *("thread", "path", "kind", "name", "callback", "count", "total_ns", "own_ns", "share"),
    *("mean_ns", "p50_ns", "p99_ns", "max_ns", "open", "raised"),
)
"""The first line. `path` leads from the thread to the row, `share` is of the time in runs,
`raised` is `Class:count;…`."""


def render(report: Report, options: Options) -> str:
    """Return a line for each row that `depth` lets through, in the order that `sort` gives."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for track in report.tracks:
        writer.writerows(_cells(row) for row in tree.rows(report, track, options))
    return out.getvalue()


def _cells(row: tree.Row) -> list[object]:
    line, stats = row.line, row.line.stats
    raised = ";".join(f"{plain(exception)}:{count}" for exception, count in line.raised.items())
    return [
        *(row.thread, row.path, line.kind, tree.name(line), plain(line.callback)),
        *(stats.count, stats.total, line.own, "" if row.share is None else f"{row.share:.6f}"),
        *(figures.mean(stats), stats.p50, stats.p99, stats.max, line.open, raised),
    ]
