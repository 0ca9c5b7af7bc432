"""At which counts an event's filter lets a handler run: `every=3`, `once=`, `before=`, `after=`, or one that the run asks.

ignite gives a filter the epoch or the iteration that the engine's state holds when the event fires; what it was made
of is read from its closure. Constraint: a filter is never asked, since it may be the user's own and count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, MappingProxyType
from typing import Any

from ignite.engine.events import CallableEventWithFilter, State

from loopscope.adapters.ignite.attached import _inner

Span = tuple[int, int | None, int]
"""First, last (None: without end), step."""


def _every(cells: dict[str, Any]) -> tuple[list[Span], str]:
    every = int(cells["every"])
    return [(0, None, every)], f"every={every}"


def _once(cells: dict[str, Any]) -> tuple[list[Span], str]:
    once = sorted({int(one) for one in cells["once"]})
    return [(one, one, 1) for one in once], f"once={once[0] if len(once) == 1 else once}"


def _between(cells: dict[str, Any]) -> tuple[list[Span], str]:
    before, after = cells["before_"], int(cells["after_"])
    every = int(cells.get("every", 1))
    last = None if math.isinf(before) else int(before) - 1
    words = {"every": every if every > 1 else None, "before": None if last is None else last + 1, "after": after or None}
    text = ", ".join(f"{name}={value}" for name, value in words.items() if value is not None)
    return [(after + 1, last, every)], text


KNOWN: MappingProxyType[CodeType, Callable[[dict[str, Any]], tuple[list[Span], str]]] = MappingProxyType(
    {
        _inner(CallableEventWithFilter.every_event_filter): _every,
        _inner(CallableEventWithFilter.once_event_filter): _once,
        _inner(CallableEventWithFilter.before_and_after_event_filter): _between,
        _inner(CallableEventWithFilter.every_before_and_after_event_filter): _between,
    }
)
"""The code of the filters that ignite itself makes -> how to read one."""


def spans(asks: Any) -> tuple[list[Span], str] | None:
    """Return the counts at which a filter says yes and how it was typed: `([(0, None, 3)], "every=3")`.

    None for one that only the run can ask.
    """
    read = KNOWN.get(asks.__code__) if isinstance(asks, FunctionType) else None
    if read is None:
        return None
    return read(dict(zip(asks.__code__.co_freevars, (cell.cell_contents for cell in asks.__closure__ or ()), strict=True)))


def counted_by(key: Any) -> str | None:
    """Return what of the engine's state a filter of event `key` is given: `"iteration"`; None where ignite has nothing.

    It then raises RuntimeError when the event fires.
    """
    return State.event_to_attr.get(key)


def from_entry(found: Iterable[Span], before: int) -> tuple[Span, ...]:
    """Return spans of counts as those of entries from 1, where the count at the first entry is `before + 1`."""
    return tuple(
        one for one in (_shifted(first - before, last, step, before) for first, last, step in found) if _is_some(one)
    )


def _shifted(first: int, last: int | None, step: int, before: int) -> Span:
    if first < 1:
        first += -(-(1 - first) // step) * step
    return first, None if last is None else last - before, step


def _is_some(span: Span) -> bool:
    return span[1] is None or span[0] <= span[1]


def among(found: Iterable[Span], count: int) -> bool:
    """Return whether a count is in one of the spans."""
    return any(
        first <= count and (last is None or count <= last) and (count - first) % step == 0 for first, last, step in found
    )


def how_many(found: Iterable[Span], entries: int) -> int:
    """Return at how many of so many entries a span begins or ends: 0, all of them, or something between, at least."""
    counted = 0
    for first, last, step in found:
        top = entries if last is None else min(entries, last)
        counted += max(0, (top - first) // step + 1)
    return min(counted, entries)
