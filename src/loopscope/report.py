"""What a recording says, as plain frozen data: timed lines, how each run ended, what was unexpected, what it cost.

`timing.py` builds it from a placed recording, the renderers show it. All times are integers in nanoseconds.
Constraint: standard library only, no behaviour beyond small look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Ended = Literal["finished", "cancelled", "interrupted", "raised", "killed", "running", "detached"]
"""How a run ended. `killed`: nothing closed the file and nobody writes to it any more; `running`: somebody does;
`detached`: recording stopped (detached, full disk, size limit) while the run went on."""

LineKind = Literal["thread", "run", "scope", "event", "handler", "step", "dispatch", "framework", "outside"]


@dataclass(frozen=True, slots=True)
class Stats:
    """The durations of one row: `Stats(count=20, total=4_000_000, p50=190_000, p99=400_000, max=410_000)`, in ns."""

    count: int
    total: int
    p50: int
    p99: int
    max: int

    @property
    def mean(self) -> float:
        """Nanoseconds per occurrence; 0.0 where there is none."""
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the timed tree.

    `stats` are inclusive: what happened inside counts. `own` is the part of `stats.total` that belongs to this row and
    to no other, so that over a whole tree the `own` of all lines sums to the wall time, and for each line
    `stats.total == own + sum(child.stats.total)`. Scopes, events, runs and threads have `own == 0`: what the framework
    does itself stands in a child of kind `framework` or `dispatch`.

    `name` is the scope, event, `Callback.method` of a handler, or the step (`"data"`, `"forward"`, ...; or
    `"after_pred → after_loss"` where the loop is not the framework's own and no step's name is certain). `category` is
    the row of the summary that `own` is counted in (`"data"`, `"forward"`, `"handlers"`, `"dispatch"`, ...), empty
    where `own` is 0. `callback` is the callback's id in the loop (`"Recorder#2"`), for handlers. `open` is the number
    of occurrences that were never closed. `waits` says why the handler forces the host to wait for the device, from
    its source; empty where nothing shows that.
    """

    kind: LineKind
    name: str
    stats: Stats
    own: int = 0
    category: str = ""
    callback: str = ""
    place: str = ""
    doc: str = ""
    open: int = 0
    raised: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    waits: str = ""
    note: str = ""
    children: tuple[Line, ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Line]]:
        """Yield (depth, line) for this line and everything below it, in the order in which it is read."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True, slots=True)
class At:
    """A position in a run, as far as it is known: `At("learn.fit(2)", epoch=1, batch=17, event="after_batch")`.

    Epochs and batches count from 0. `handler` is `"Recorder.after_batch"` where one was open.
    """

    run: str = ""
    epoch: int | None = None
    batch: int | None = None
    event: str = ""
    handler: str = ""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One call before the end: `Spoken("after_batch", "Recorder.after_batch", start, 812_000)`; ns since the start.

    `handler` is empty for the event itself; `duration` is None for a call that was still open. `raised` is the class
    name of the exception with which it ended.
    """

    event: str
    handler: str
    start: int
    duration: int | None
    raised: str = ""
    at: At = At()


@dataclass(frozen=True, slots=True)
class Ending:
    """How one run ended, and what stood there.

    `exception` and `message` are what left the run (`raised`, `interrupted`) or the Cancel… exception (`cancelled`);
    `at` is where it was raised; `before` are the last twenty calls, oldest first; `open` the calls that were never
    closed (`killed`, `running`), outermost first; `cancels` counts the exceptions that were caught on the way, by
    (`exception`, `Callback.method`).
    """

    run: str
    learner: str
    how: Ended
    start: int
    wall: int
    exception: str = ""
    message: str = ""
    at: At = At()
    before: tuple[Spoken, ...] = ()
    open: tuple[Spoken, ...] = ()
    cancels: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Unplaced:
    """One thing that the protocol or the binding does not allow there: `Unplaced(214, "expected ..., but ... fired")`.

    `position` counts the events of that thread from 0.
    """

    position: int
    message: str
    at: At = At()


@dataclass(frozen=True, slots=True)
class Category:
    """One line of the summary: where the wall time went. The `total` of all categories sum to the wall time."""

    name: str
    count: int
    total: int


@dataclass(frozen=True, slots=True)
class Warmup:
    """The first training batches of a run against the rest, as ns per batch (medians)."""

    run: str
    first: int
    early: int
    early_count: int
    rest: int
    rest_count: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What recording itself cost, calibrated in the recorded process: an "of which" beside the sum, not a row in it.

    `events` × `per_event` + `calls` × `per_call` = `stamps`; `reading` is what it took to read the loops before their
    runs. `clock` is one clock read. `dispatch` is what one event's dispatch without any handler costs while recorded,
    `framework_dispatch` the same with the framework's own code, unrecorded, with as many callbacks (`callbacks`).
    All in ns; None where it was not calibrated (the process was killed).
    """

    events: int
    calls: int
    per_event: float | None = None
    per_call: float | None = None
    clock: float | None = None
    reading: int = 0
    dispatch: float | None = None
    framework_dispatch: float | None = None
    callbacks: int = 0

    @property
    def stamps(self) -> float | None:
        """Nanoseconds that the stamps took, None where that was not calibrated."""
        if self.per_event is None or self.per_call is None:
            return None
        return self.events * self.per_event + self.calls * self.per_call


@dataclass(frozen=True, slots=True)
class Track:
    """One thread of the recording: its tree, and the sum of its rows, which is the wall time exactly."""

    thread: str
    root: Line
    categories: tuple[Category, ...] = ()

    @property
    def sum(self) -> int:
        """The `own` time of all lines together, in ns."""
        return sum(line.own for _, line in self.root.walk())


@dataclass(frozen=True, slots=True)
class Report:
    """All that `loopscope report` shows of one recording.

    `state` is `closed`, `running` (somebody writes to it) or `killed`; `losses` say what the file lacks, in sentences;
    `heads` are things to know before reading a figure (CUDA, several threads). `header` is the file's own header:
    command, host, pid, rank, versions, wall-clock start (see docs/format.md).
    """

    path: str
    state: Literal["closed", "running", "killed"]
    wall: int
    header: Mapping[str, object]
    tracks: tuple[Track, ...]
    endings: tuple[Ending, ...] = ()
    events: int = 0
    calls: int = 0
    unexpected: tuple[Unplaced, ...] = ()
    unexpected_count: int = 0
    slowest: tuple[Line, ...] = ()
    warmups: tuple[Warmup, ...] = ()
    data: int = 0
    compute: int = 0
    cost: Cost = Cost(0, 0)
    heads: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    spans: int = 0
    size: int = 0
