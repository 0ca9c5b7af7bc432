"""The hot path of a recording: context managers that Lightning enters around each hook, and that write its row.

Lightning asks its profiler for one at every hook call; its own default makes a generator each time, which takes longer
than all of this. They are made once and lent: a list's `pop` and `append` are whole, so that no two calls get the same
one, in whatever thread. Constraint: nothing here may raise, swallow what passes through, or add a frame to it.
"""

from __future__ import annotations

import itertools
import time
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from types import TracebackType
from typing import Any, Protocol

clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """What Lightning tells its profiler of, in one recording: the number of its row's name.

    `told` says who is called, for an exception that is first seen there: `"Net.training_step"`.
    """

    subject: Any
    code: int
    event: str
    told: str = ""


class Nothing:
    """Stands around the call of a method that does nothing."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        return None


NOTHING = Nothing()


class Row:
    """Writes the row of one call in one recording; `back` takes it when that is over."""

    __slots__ = ("action", "at", "back", "code", "lanes", "rows")

    def __init__(self, action: Action, back: Callable[[Any], None]) -> None:
        self.action = action
        self.code = action.code
        self.lanes: Mapping[int, Any] = action.subject.lanes
        self.back = back

    def __enter__(self) -> None:
        lane = self.lanes.get(get_ident()) or self.action.subject.lane()
        self.rows = rows = lane.rows
        self.at = at = lane.at
        try:
            rows[at + 1] = clock()
            rows[at] = self.code
        except (IndexError, ValueError):
            lane.more()  # the segment is full, or was taken from a forked child
            self.rows, self.at = rows, at = lane.rows, lane.at
            rows[at + 1] = clock()
            rows[at] = self.code
        lane.at = at + 3

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        now = clock()
        try:
            if error is not None:
                self.failed(error)
            self.rows[self.at + 2] = now
        except ValueError:  # a child that was forked meanwhile, which never writes
            pass
        self.back(self)

    def failed(self, error: BaseException) -> None:
        """Write by what the call was left."""
        action, rows, at = self.action, self.rows, self.at
        number = action.subject.outcome(error, action.event, action.told, rows[at + 1])
        rows[at] = (rows[at] & 0xFFFFFFFF) | number << 32


class Around(Row):
    """The row of a call inside of which others are; `started` are those of each thread that have only begun yet."""

    __slots__ = ("started",)

    def __init__(self, action: Action, back: Callable[[Any], None], started: Mapping[int, list[Started]]) -> None:
        super().__init__(action, back)
        self.started = started

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        pending = self.started.get(get_ident())
        if pending:
            close(pending, self)
        Row.__exit__(self, kind, error, trace)


class Mark:
    """Notes that a method was called which does nothing: a row that ends as it begins, so that nothing is kept of it.

    One for all calls, in whatever thread.
    """

    __slots__ = ("action", "code", "lanes")

    def __init__(self, action: Action) -> None:
        self.action = action
        self.code = action.code
        self.lanes: Mapping[int, Any] = action.subject.lanes

    def __enter__(self) -> None:
        lane = self.lanes.get(get_ident()) or self.action.subject.lane()
        rows = lane.rows
        at = lane.at
        try:
            rows[at + 2] = rows[at + 1] = clock()
            rows[at] = self.code
        except (IndexError, ValueError):
            lane.more()
            rows, at = lane.rows, lane.at
            rows[at + 2] = rows[at + 1] = clock()
            rows[at] = self.code
        lane.at = at + 3

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """Write by what the call was left: Ctrl-C comes anywhere."""
        action, lane = self.action, self.lanes.get(get_ident())
        at = -3 if lane is None else lane.at - 3
        try:
            if lane is not None and at >= 0 and lane.rows[at] == self.code:
                number = action.subject.outcome(error, action.event, action.told, lane.rows[at + 1])
                lane.rows[at] = self.code | number << 32
        except ValueError:  # a child that was forked meanwhile
            pass


class Seen(Protocol):
    """Who was called when that was last looked at: `current`, of the trainer that `ref()` gives."""

    current: list[Any]

    @property
    def ref(self) -> Callable[[], Any]: ...

    def changed(self, event: str) -> None:
        """They are others now, behind all callbacks of this event."""


def look(seen: Seen, event: str) -> None:
    """See whether the callbacks are still those that they were."""
    trainer = seen.ref()
    if trainer is None:
        return
    current, now = seen.current, trainer.callbacks
    if len(now) != len(current) or not all(map(is_, now, current)):
        seen.changed(event)


class Last(Row):
    """The row behind those of all callbacks, which sees whether these are still the same."""

    __slots__ = ("seen",)

    def __init__(self, action: Action, back: Callable[[Any], None], seen: Seen) -> None:
        super().__init__(action, back)
        self.seen = seen

    def __enter__(self) -> None:
        look(self.seen, self.action.event)
        Row.__enter__(self)


class LastMark(Mark):
    """As `Last`, where the method does nothing. Most hooks of a module are such: a call less is worth its lines."""

    __slots__ = ("seen",)

    def __init__(self, action: Action, seen: Seen) -> None:
        super().__init__(action)
        self.seen = seen

    def __enter__(self) -> None:
        trainer = self.seen.ref()
        if trainer is not None:
            current, now = self.seen.current, trainer.callbacks
            if len(now) != len(current) or not all(map(is_, now, current)):
                self.seen.changed(self.action.event)
        lane = self.lanes.get(get_ident()) or self.action.subject.lane()
        rows = lane.rows
        at = lane.at
        try:
            rows[at + 2] = rows[at + 1] = clock()
            rows[at] = self.code
        except (IndexError, ValueError):
            Mark.__enter__(self)
        else:
            lane.at = at + 3


class Then:
    """A row, and what is done once it has begun: what is written then holds from its event on."""

    __slots__ = ("row", "then")

    def __init__(self, row: Row, then: Callable[[], None]) -> None:
        self.row = row
        self.then = then

    def __enter__(self) -> None:
        self.row.__enter__()
        self.then()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.row.__exit__(kind, error, trace)


class Lender:
    """Lends what stands around the calls of one action: `pop` gives one that is free, or raises `IndexError`.

    `make` makes another one; it is told where to give it back.
    """

    __slots__ = ("back", "make", "pop")

    def __init__(self, make: Callable[[Callable[[Any], None]], Any]) -> None:
        free: list[Any] = []
        self.make = make
        self.pop: Callable[[], Any] = free.pop
        self.back = free.append

    def lend(self) -> Any:
        """Return one that is free, or a new one."""
        try:
            return self.pop()
        except IndexError:
            return self.make(self.back)


class Same(Lender):
    """Lends one and the same thing to everybody."""

    __slots__ = ()

    def __init__(self, thing: Any) -> None:
        super().__init__(lambda back: thing)
        self.pop = itertools.repeat(thing).__next__


IDLE = Same(NOTHING)


class Both:
    """Several context managers as one: that of the program's own profiler, and those of several recordings."""

    __slots__ = ("several",)

    def __init__(self, several: Sequence[Any]) -> None:
        self.several = several

    def __enter__(self) -> Any:
        value = None
        for one in self.several:
            value = one.__enter__() or value
        return value

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        swallowed = False
        for one in reversed(self.several):
            swallowed = bool(one.__exit__(kind, error, trace)) or swallowed
        return swallowed


@dataclass(slots=True, eq=False)
class Started:
    """Something of which Lightning says by itself that it begins and ends; `handling` was raised before it began."""

    name: str
    row: Row
    handling: BaseException | None


def close(pending: list[Started], around: Row) -> None:
    """End what began inside of a row and was left without a word: an exception went through it."""
    try:
        since = around.rows[around.at + 1]
        while pending and pending[-1].row.rows[pending[-1].row.at + 1] >= since:
            pending.pop().row.__exit__(None, None, None)
    except ValueError:  # a child that was forked meanwhile
        pending.clear()
