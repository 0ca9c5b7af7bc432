"""A report as JSON, whole, times in whole nanoseconds: `docs/report-json.md` names every field.

Fields stand in the order in which the report declares them, behind them those that follow from others, keys of mappings
in alphabetical order. `depth` and `sort` change nothing: nothing is left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from loopscope.render.report import Options, figures
from loopscope.report import Category, Cost, Ending, Line, Report, Stats, Track

SCHEMA = "loopscope/report"
VERSION = 1


def render(report: Report, options: Options) -> str:
    """Return the whole report; no option changes it."""
    whole = {"schema": SCHEMA, "version": VERSION, "report": encode(report, report)}
    return json.dumps(whole, indent=1) + "\n"


def encode(value: Any, report: Report) -> Any:
    """Return a part of a report as dicts, lists and plain values, with what follows from it."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: encode(getattr(value, field.name), report) for field in dataclasses.fields(value)}
        if isinstance(value, Ending):
            fields["cancels"] = [
                {"exception": exception, "handler": handler, "count": count}
                for (exception, handler), count in value.cancels.items()
            ]
        return fields | derived(value, report)
    if isinstance(value, Mapping):
        return {str(key): encode(value[key], report) for key in sorted(value, key=str)}
    return [encode(one, report) for one in value] if isinstance(value, (tuple, list)) else value


def derived(value: Any, report: Report) -> dict[str, Any]:
    """Return the figures that follow from others: they are here so that nobody has to work them out again."""
    if isinstance(value, Stats):
        return {"mean": figures.mean(value)}
    if isinstance(value, Line):
        return {"share": figures.share_of(value, report)}
    if isinstance(value, Category):
        return {"share": figures.share_of_category(value, report)}
    if isinstance(value, Track):
        return {"wall": figures.wall(report, value), "sum": value.sum}
    return {"stamps": value.stamps} if isinstance(value, Cost) else {}
