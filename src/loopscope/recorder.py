"""One recording being made: names for what runs, a row for each fit-like call, and where the last exception came from.

The adapter writes the rows of events and handlers (`adapters/…/attach`) into the lanes of the `Tape`; this is the
neutral side, which gives them their codes. Constraint: knows no framework; holds recorded objects weakly.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from loopscope import codec
from loopscope.model import Binding, Flags, Loop, Place
from loopscope.recording import Lane, Tape

UNKNOWN = 0x7FFFFFFF
"""The number of a name that could not be written; a row must not have number 0, which says that it has not begun."""

MESSAGE = 500
"""So many characters of an exception's message are kept."""


class Watching(Protocol):
    """What an adapter keeps of one recorded object."""

    def number(self, obj: Any) -> None:
        """Name the callbacks of `obj` as its map does: a run begins."""

    def forget(self) -> None:
        """Let go of the callbacks: the run is over."""

    def where(self) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the object itself says it is in, from 0."""

    def bind(self, obj: Any, members: Mapping[str, Any]) -> tuple[Binding, Flags]:
        """Return who is called where from now on, and what is known of the flags; `members` by their ids."""


@dataclass(slots=True)
class Run:
    """A fit-like call that is under way: `loop` is its map, `ids` the callbacks that the map names."""

    loop: Loop
    ids: tuple[str, ...]
    rows: memoryview
    at: int
    start: int
    members: tuple[str, ...] | None = None


@dataclass(slots=True)
class Raised:
    """Where and when an exception was first seen: `key` is its identity; it is not kept alive."""

    key: int
    kind: type
    clock: int
    event: str
    handler: str
    epoch: int | None
    batch: int | None


@dataclass(slots=True, eq=False)
class Recorder:
    """The names of one recording, each written once: `Recorder(Tape.create("run.loop", {}))`."""

    tape: Tape
    codes: dict[tuple[object, ...], int] = field(default_factory=dict)
    subjects: list[Subject] = field(default_factory=list)
    left: Left | None = None
    reading: int = 0  # ns that went into reading loops before their runs
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def code(self, kind: str, **fields: object) -> int:
        """Return the number of a name, written to the file when it is first asked for."""
        key = (kind, *(json.dumps(value, default=str) for value in fields.values()))
        with self._lock:
            if key not in self.codes:
                self.codes[key] = self.tape.name(kind, **fields) or UNKNOWN
            return self.codes[key]

    def under_way(self) -> bool:
        """Return whether any run is being recorded."""
        return any(subject.runs for subject in self.subjects)

    def subject(self, obj: object, facts: Mapping[str, object]) -> Subject:
        """Return a new recorded object; `facts` (class, device, ...) go into the file."""
        with self._lock:
            number = self.tape.name("object", number=len(self.subjects) + 1, **facts)
            self.subjects.append(Subject(self, number, weakref.ref(obj)))
            return self.subjects[-1]

    def loop(self, loop: Loop) -> int:
        """Return the number of a map, which is written once however often it is run."""
        return self.code("loop", loop=codec.encode(loop))


@dataclass(frozen=True, slots=True)
class Left:
    """An exception that left a recorded run: what the one line on stderr is made of."""

    key: int
    exception: str
    run: str
    event: str
    handler: str
    epoch: int | None
    batch: int | None


@dataclass(slots=True, eq=False)
class Subject:
    """One recorded object in one recording: what its adapter's hot path asks when it meets something new."""

    recorder: Recorder
    number: int
    ref: Callable[[], Any]
    watched: Watching | None = None
    runs: list[Run] = field(default_factory=list)
    raised: Raised | None = None
    outcomes: dict[type, int] = field(default_factory=dict)

    @property
    def lanes(self) -> dict[int, Lane]:
        return self.recorder.tape.lanes

    def lane(self) -> Lane:
        return self.recorder.tape.lane()

    def event(self, event: str) -> int:
        return self.recorder.code("event", object=self.number, event=event)

    def handler(self, label: str, event: str, method: str, callback: str, **more: object) -> int:
        """Return the code of a handler; `more` are `idle`, `loose`, `encloses` and `merged` (docs/format.md)."""
        return self.recorder.code(
            "handler", object=self.number, callback=label, event=event, method=method, cls=callback, **more
        )

    def span(self, event: str) -> int:
        """Return the code of something that the framework does and that other things happen inside of."""
        return self.recorder.code("span", object=self.number, event=event)

    def outcome(self, error: BaseException, event: str, handler: str, start: int) -> int:
        """Return the number of an exception's class, and remember where it was first seen.

        `start` is when the row began that it leaves: one that was seen before then is another, with a used address.
        """
        kind, seen = type(error), self.raised
        if seen is None or seen.key != id(error) or seen.kind is not kind or seen.clock < start:
            epoch, batch = self.watched.where() if self.watched else (None, None)
            self.raised = Raised(id(error), kind, self.recorder.tape.clock(), event, handler, epoch, batch)
        number = self.outcomes.get(kind)
        if number is None:
            number = self.recorder.code("exception", exception=kind.__name__, module=kind.__module__)
            self.outcomes[kind] = number
        return number

    def callbacks(self) -> Iterable[str]:
        """Return the ids that the map of the present run gives to callbacks."""
        return self.runs[-1].ids if self.runs else ()

    def bound(self, obj: Any, members: Mapping[str, Any]) -> None:
        """Write a new binding if the callbacks of the run are no longer those that its map, or the last one, names."""
        if not self.runs or self.watched is None:
            return
        run = self.runs[-1]
        first, run_members = run.members is None, tuple(members)
        if run.members == run_members:
            return
        run.members = run_members
        if first and set(members) == set(run.ids):
            return
        self.rebound(obj, members)

    def rebound(self, obj: Any, members: Mapping[str, Any]) -> None:
        """Write who is called where from now on."""
        if not self.runs or self.watched is None:
            return
        start = self.recorder.tape.clock()
        binding, flags = self.watched.bind(obj, members)
        number = self.recorder.code("binding", binding=codec.encode(binding))
        now = self.recorder.tape.clock()
        self.recorder.tape.line("bound", object=self.number, clock=now, binding=number, flags=dict(flags))
        self.recorder.reading += now - start

    def switched(self, flags: Flags) -> None:
        """Write that the run has changed flags on which its handlers depend."""
        if self.runs:
            clock = self.recorder.tape.clock()
            self.recorder.tape.line("bound", object=self.number, clock=clock, flags=dict(flags))

    def begin(
        self, obj: Any, describe: Callable[[], Loop], place: Place | None
    ) -> Callable[[BaseException | None], None]:
        """Open the row of a fit-like call; return what closes it, to be called with the exception that left it."""
        tape = self.recorder.tape
        start = tape.clock()
        loop = describe()
        number = self.recorder.loop(loop)
        shown = {"call": loop.call, "method": loop.run, "loop": number, "place": None if place is None else str(place)}
        code = self.recorder.code("run", object=self.number, **shown)
        ids = dict.fromkeys(one.id for found in loop.binding.handlers.values() for one in found)
        if self.watched is not None and not self.runs:
            self.watched.number(obj)
        rows, at = tape.lane().begin(code, tape.clock)
        run = Run(loop, tuple(ids), rows, at, rows[at + 1])
        spent = rows[at + 1] - start
        self.recorder.reading += spent
        if self.recorder.under_way():  # inside a handler, say, which it must not be billed to
            tape.line("read", start=rows[at + 1], ns=spent)
        self.runs.append(run)
        return lambda error: self._end(run, code, error)

    def _end(self, run: Run, code: int, error: BaseException | None) -> None:
        now = self.recorder.tape.clock()
        outcome = 0
        if error is not None:
            outcome = self.outcome(error, "", "", run.start)
            self._left(run, code, error, now)
        try:
            run.rows[run.at] = code | outcome << 32
            run.rows[run.at + 2] = now
        except ValueError:  # a forked child, which never writes
            return
        while self.runs and self.runs.pop() is not run:
            pass
        if not self.runs and self.watched is not None:
            self.watched.forget()

    def _left(self, run: Run, code: int, error: BaseException, now: int) -> None:
        seen = self.raised
        assert seen is not None
        try:
            message = str(error)[:MESSAGE]
        except Exception:  # a user's broken __str__ must not cost the recording
            message = ""
        name = type(error).__name__
        self.recorder.tape.line("left", run=code, clock=now, exception=name, message=message)
        self.recorder.left = Left(id(error), name, run.loop.call, seen.event, seen.handler, seen.epoch, seen.batch)
