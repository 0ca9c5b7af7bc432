"""What a recorded dispatch knows of each recorded object: its codes in the file, and who is called at each event.

Constraint: objects are held weakly, handlers only while a run is under way; what the hot path asks for is a look-up.
"""

from __future__ import annotations

import operator
import time
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from loopscope.endings import handler_name
from loopscope.model import Binding, Flags

clock = time.perf_counter_ns

MOST_CHANGES = 500
"""So often in a run it is noted that handlers were added, removed or moved; later ones are listed as unexpected."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a handler is called in the file: the id that the map gives it, the method, and the callback's class.

    One that `decides` may call nobody: it has no row of its own, its twin writes one (`Point.twin`).
    """

    id: str
    method: str
    cls: str
    decides: bool = False


class Naming(Protocol):
    """What an adapter says of its dispatch; `obj` is the recorded learner, trainer or engine."""

    def event(self, event: Any) -> str:
        """Return the name of an event, as the map has it, from what the dispatch is called with."""

    def begin(self, obj: Any) -> None:
        """Give the handlers of `obj` the numbers that the map gives them: a run begins."""

    def handler(self, obj: Any, handler: Any, event: Any) -> Named | None:
        """Return what a handler is called; None for one that does nothing (the empty method of the base class).

        One that was added since the run began gets a number of its own.
        """

    def listed(self, obj: Any, listed: Any) -> Sequence[Any]:
        """Return the handlers in the very thing that the dispatch loops over, which is often a list of them."""

    def bind(self, obj: Any) -> tuple[Binding, Flags]:
        """Return who is called where from now on, with the ids that `handler` gives."""

    def where(self, obj: Any) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the object itself says it is in, from 0."""

    def end(self, obj: Any) -> None:
        """Let go of what `begin` and `handler` kept: the run is over."""


class _Events(dict[Any, int]):
    """Event -> its code; one that is new gets its code when it first fires."""

    def __init__(self, register: Callable[[Any], int]) -> None:
        self.register = register

    def __missing__(self, event: Any) -> int:
        code = self[event] = self.register(event)
        return code


class Listed:
    """The handlers that a dispatch loops over at one event, as they were when it was last asked, with their codes.

    `entries` are the `count` things in its list, by whose identity it is known that they are still the same; `pairs`
    are the handlers in them, each with its code, in the same order. It keeps them alive, so that an identity means one
    thing.
    """

    __slots__ = ("codes", "count", "entries", "pairs")

    def __init__(self, entries: list[Any], pairs: list[tuple[Any, int]]) -> None:
        self.entries, self.pairs, self.count = entries, pairs, len(entries)
        self.codes = {id(handler): code for handler, code in pairs}


class Watched:
    """One recorded object in one recording; `all` are those of the same object, this one included.

    `sink` is the neutral side (`recorder.Subject`). `lists` say by event what the dispatch loops over. `kept` keeps
    alive what is known by its identity.
    """

    __slots__ = (
        *("all", "bindings", "changes", "events", "kept", "lane", "lanes", "lists", "naming", "ref"),
        *("decided", "sink", "spans", "thread"),
    )

    def __init__(self, obj: Any, sink: Any, naming: Naming) -> None:
        self.ref = weakref.ref(obj)
        self.sink = sink
        self.naming = naming
        self.lanes = sink.lanes
        self.lane = sink.lane
        self.all: tuple[Watched, ...] = (self,)
        self.events = _Events(lambda event: int(sink.event(naming.event(event))))
        self.spans = _Events(lambda event: int(sink.span(naming.event(event))))
        self.thread = get_ident()
        self.let_go()

    def let_go(self) -> None:
        self.decided: dict[int, int] = {}
        self.lists: dict[Any, Listed] = {}
        self.kept: list[Any] = []
        self.bindings: list[tuple[Any, Binding]] = []
        self.changes = 0

    def number(self, obj: Any) -> None:
        """Name the handlers as the map does: a run begins."""
        self.let_go()
        self.thread = get_ident()
        self.naming.begin(obj)

    def forget(self) -> None:
        """Let go of the handlers: the run is over."""
        self.let_go()
        obj = self.ref()
        if obj is not None:
            self.naming.end(obj)

    def where(self) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the object says it is in, from 0."""
        obj = self.ref()
        return (None, None) if obj is None else self.naming.where(obj)

    def bind(self, obj: Any, members: Mapping[str, Any]) -> tuple[Binding, Flags]:
        """Return who is called where from now on."""
        return self.naming.bind(obj)

    def handler(self, handler: Any, event: Any) -> int:
        """Return the code of a handler, 0 for one that does nothing; registered when it is first called in a run."""
        obj = self.ref()
        code = self.code(None if obj is None else self.named(obj, handler, event), event)
        self.kept.append(handler)
        return code

    def moved(self, event: Any, known: Listed, now: Sequence[Any], handler: Any) -> int:
        """Return the code of a handler that is not the one that stood at its place when the dispatch was last asked.

        Either it was put there before this event, then it is asked anew; or the list changes while it is looped over.
        """
        if self.lists.get(event) is known and self._replaced(known, now, handler):
            self.listed(event, now)
        return self.late(self.lists.get(event) or known, handler, event)

    def _replaced(self, known: Listed, now: Sequence[Any], handler: Any) -> bool:
        """Return whether a handler is the first that differs, in a list that is as long as it was."""
        at = next((n for n, (one, old) in enumerate(zip(now, known.entries, strict=False)) if one is not old), None)
        obj = self.ref()
        if at is None or len(now) != known.count or obj is None:
            return False
        return self.naming.listed(obj, now)[at] is handler

    def late(self, listed: Listed, handler: Any, event: Any) -> int:
        """Return the code of a handler, whatever its place."""
        code = listed.codes.get(id(handler))
        if code is None:
            code = listed.codes[id(handler)] = self.handler(handler, event)
        return code

    def code(self, named: Named | None, event: Any) -> int:
        """Return the number of a handler's name in the file, 0 for None and for one that decides itself."""
        return 0 if named is None or named.decides else self.registered(named, event)

    def registered(self, named: Named, event: Any) -> int:
        return int(self.sink.handler(named.id, self.naming.event(event), named.method, named.cls))

    def decides(self, handler: Any, event: Any) -> int:
        """Return the code of the call that a handler has decided to make, 0 if it is not known."""
        code = self.decided.get(id(handler))
        if code is None:
            obj = self.ref()
            named = None if obj is None else self.named(obj, handler, event)
            code = self.decided[id(handler)] = 0 if named is None else self.registered(named, event)
            self.kept.append(handler)
        return code

    def named(self, obj: Any, handler: Any, event: Any) -> Named | None:
        """Return what a handler is called; None if it does nothing, or if its own code fails when it is looked at."""
        try:
            return self.naming.handler(obj, handler, event)
        except Exception:  # must not come up in the run that is recorded; the report lists the call as missing
            return None

    def listed(self, event: Any, now: Iterable[Any]) -> Listed:
        """Return what the dispatch loops over, which is not what it was before.

        A handler may have another name now: in a run inside the run it stands in another list. Who is called apart from
        the run, by another thread, is not compared: the innermost run that is under way need not be its own.
        """
        several, obj = list(now), self.ref()
        if obj is None:
            return Listed(several, [])
        handlers = self.naming.listed(obj, now)
        found = [self.named(obj, handler, event) for handler in handlers]
        pairs = [(one, self.code(named, event)) for one, named in zip(handlers, found, strict=True)]
        listed = self.lists[event] = Listed(several, pairs)
        if not self.sink.runs or self.changes >= MOST_CHANGES or get_ident() != self.thread:
            return listed
        run, binding = self.bound()
        expected = binding.at(self.naming.event(event))
        if [one.id for one in found if one is not None] != [one.id for one in expected]:
            self.changes += 1
            self.sink.rebound(obj, {})
            self.bindings[-1] = run, self.naming.bind(obj)[0]
        return listed

    def bound(self) -> tuple[Any, Binding]:
        """Return the run that is under way, and who is called where in it."""
        runs = self.sink.runs
        while self.bindings and not any(self.bindings[-1][0] is one for one in runs):
            self.bindings.pop()
        if not self.bindings or self.bindings[-1][0] is not runs[-1]:
            self.bindings.append((runs[-1], runs[-1].loop.binding))
        return self.bindings[-1]


def again(lane: Any, code: int) -> tuple[Any, int]:
    """Write a start stamp into the next segment of a lane: the last one is full, or was taken from a forked child."""
    lane.more()
    rows, at = lane.rows, lane.at
    rows[at + 1] = clock()
    rows[at] = code
    return rows, at


def failed(watched: Watched, rows: Any, at: int, error: BaseException, event: Any, handler: Any) -> None:
    """Write the end stamp of a row that was left by an exception, and the exception's class."""
    now = clock()
    try:
        start, name = rows[at + 1], watched.naming.event(event)
        number = watched.sink.outcome(error, name, "" if handler is None else _told(watched, handler, event), start)
        rows[at] = (rows[at] & 0xFFFFFFFF) | number << 32
        rows[at + 2] = now
    except ValueError:  # a child that was forked meanwhile, which never writes
        return


def _told(watched: Watched, handler: Any, event: Any) -> str:
    obj = watched.ref()
    named = None if obj is None else watched.named(obj, handler, event)
    return "" if named is None else handler_name({"cls": named.cls, "method": named.method})


# -- several recordings of one object ----------------------------------------------------------------------


def begin(several: Sequence[Watched], event: Any, listed: Sequence[Any]) -> list[tuple[Any, Any, int]]:
    """Write the start stamps of an event in all recordings of an object.

    Return of each the handlers with their codes, and where its row is.
    """
    rows = [(one.lanes.get(get_ident()) or one.lane()).begin(one.events[event], clock) for one in several]
    entries = list(listed)
    known = [one.lists.get(event) for one in several]
    now = [
        its
        if its is not None and its.count == len(entries) and all(map(operator.is_, entries, its.entries))
        else one.listed(event, listed)
        for one, its in zip(several, known, strict=True)
    ]
    return [(its, *row) for its, row in zip(now, rows, strict=True)]


def begin_span(several: Sequence[Watched], event: Any) -> list[tuple[Any, int]]:
    """Write the start stamps of what the framework does, and other things happen inside of, in all recordings."""
    return [(one.lanes.get(get_ident()) or one.lane()).begin(one.spans[event], clock) for one in several]


def begin_call(
    several: Sequence[Watched], events: Sequence[tuple[Any, ...]], handler: Any, event: Any
) -> list[tuple[Watched, Any, int]]:
    """Write the start stamps of a handler call; those recordings are left out for which it does nothing."""
    opened = []
    for one, (listed, *_) in zip(several, events, strict=True):
        code = one.late(listed, handler, event)
        if code:
            opened.append((one, *(one.lanes.get(get_ident()) or one.lane()).begin(code, clock)))
    return opened


def begin_decided(several: Sequence[Watched], handler: Any, event: Any) -> list[tuple[Watched, Any, int]]:
    """Write the start stamps of a call that a handler has decided to make; called by its twin."""
    codes = [(one, one.decides(handler, event)) for one in several]
    return [(one, *(one.lanes.get(get_ident()) or one.lane()).begin(code, clock)) for one, code in codes if code]


def finish(opened: Iterable[tuple[Any, ...]]) -> None:
    """Write the end stamps of rows that were begun."""
    now = clock()
    for *_, rows, at in opened:
        try:
            rows[at + 2] = now
        except ValueError:
            return


def failed_all(several: Sequence[Watched], opened: Any, error: BaseException, event: Any) -> None:
    """Write the end stamps of an event that an exception left."""
    for one, (*_, rows, at) in zip(several, opened, strict=True):
        failed(one, rows, at, error, event, None)


def failed_calls(opened: Any, error: BaseException, event: Any, handler: Any) -> None:
    """Write the end stamps of a call that an exception left."""
    for one, rows, at in opened:
        failed(one, rows, at, error, event, handler)
