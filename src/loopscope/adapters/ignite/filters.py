"""At which counts an event's filter lets a handler run: `every=`, `once=`, `before=`, `after=`, or the user's own.

ignite gives a filter the epoch or the iteration that the engine's state holds when the event fires; what it was made
of is read from its closure. Constraint: a filter is never asked, since it may be the user's own and count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MappingProxyType
from typing import Any

from ignite.engine.events import CallableEventWithFilter, State

from loopscope.adapters.ignite.attached import inner_code

Span = tuple[int, int | None, int]
"""First, last (None: without end), step."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The counts at which a filter says yes, and that in words: `only every 3 {}s`, for the name of what is counted."""

    spans: tuple[Span, ...]
    words: str

    def at(self, count: int) -> bool:
        """Return whether it says yes at a count."""
        return any(
            first <= count and (last is None or count <= last) and (count - first) % step == 0
            for first, last, step in self.spans
        )

    def entries(self, before: int) -> tuple[Span, ...]:
        """Return the spans as numbers of entries from 1, where the count at the first entry is `before + 1`."""
        moved = (
            _moved(first - before, None if last is None else last - before, step) for first, last, step in self.spans
        )
        return tuple(one for one in moved if one[1] is None or one[0] <= one[1])

    def how_many(self, before: int, entries: int) -> int:
        """Return at how many of so many entries it says yes."""
        spans = self.entries(before)
        return sum(
            max(0, ((entries if last is None else min(entries, last)) - first) // step + 1)
            for first, last, step in spans
        )


def _moved(first: int, last: int | None, step: int) -> Span:
    """Return a span that begins at 1 at the earliest."""
    return (first if first > 0 else first + -(-(1 - first) // step) * step), last, step


def _every(cells: Mapping[str, Any]) -> Filter:
    every = int(cells["every"])
    return Filter(((0, None, every),), f"only every {every} {{}}s")


def _once(cells: Mapping[str, Any]) -> Filter:
    once = sorted({int(one) for one in cells["once"]})
    return Filter(tuple((one, one, 1) for one in once), f"only at {{}} {', '.join(map(str, once))}")


def _between(cells: Mapping[str, Any]) -> Filter:
    before, after, every = cells["before_"], int(cells["after_"]), int(cells.get("every", 1))
    last = None if math.isinf(before) else int(before) - 1
    until = "" if last is None else f" up to {last}"
    words = f"only every {every} {{}}s from {after + 1} on" if every > 1 else f"only from {{}} {after + 1} on"
    return Filter(((after + 1, last, every),), words + until)


KNOWN: Mapping[CodeType, Callable[[Mapping[str, Any]], Filter]] = MappingProxyType(
    {
        inner_code(CallableEventWithFilter.every_event_filter): _every,
        inner_code(CallableEventWithFilter.once_event_filter): _once,
        inner_code(CallableEventWithFilter.before_and_after_event_filter): _between,
        inner_code(CallableEventWithFilter.every_before_and_after_event_filter): _between,
    }
)
"""The code of the filters that ignite itself makes -> how to read one."""


def known_filter(asks: Any) -> Filter | None:
    """Return what ignite's own filter says, None for one that only the run can ask."""
    read = KNOWN.get(asks.__code__) if isinstance(asks, FunctionType) else None
    if read is None:
        return None
    cells = (cell.cell_contents for cell in asks.__closure__ or ())
    return read(dict(zip(asks.__code__.co_freevars, cells, strict=True)))


def counted_by(key: Any) -> str | None:
    """Return what of the engine's state a filter of event `key` is given: `"iteration"`; None where ignite has nothing.

    It then raises RuntimeError when the event fires.
    """
    found: str | None = State.event_to_attr.get(key)
    return found


def named_filter(asks: Any, by: str) -> str:
    """Return in words that a filter of the user's own decides."""
    name = getattr(asks, "__name__", type(asks).__name__)
    return f"only if {'a lambda' if name == '<lambda>' else name}(engine, {by}) says so"
