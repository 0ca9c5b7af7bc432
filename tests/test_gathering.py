"""Rows without events around them: whatever was dispatched comes back as events with their calls, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loopscope.gathering import gathered
from loopscope.model import over
from loopscope.placing import NAME
from loopscope.recording import Recording, Rows

WHO = ("A#1", "B#2", "C#3")

Call = tuple[int, bool, bool, list[Any]]  # who, idle, raised, what happened inside
Shape = tuple[str, str, list[Any]]


def calls(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Call]]:
    """The handlers of one event: each of WHO at most once, in order, some that do nothing, some that fire more."""
    one = st.tuples(st.booleans(), st.just([]) if inner.is_empty else st.lists(inner, max_size=2))
    return st.dictionaries(st.sampled_from(range(len(WHO))), one, min_size=1).map(
        lambda found: [(who, idle, False, [] if idle else below) for who, (idle, below) in sorted(found.items())]
    )


def shapes() -> st.SearchStrategy[Any]:
    """One thing that happens: an event, something enclosing, or a run."""
    return st.recursive(
        st.tuples(st.just("event"), st.sampled_from("xyz"), calls(st.nothing())),
        lambda inner: st.one_of(
            st.tuples(st.just("event"), st.sampled_from("xyz"), calls(inner)),
            st.tuples(st.sampled_from(["span", "encloses", "run"]), st.sampled_from("pq"), st.lists(inner, max_size=3)),
        ),
        max_leaves=12,
    )


@dataclass
class Writer:
    """Writes rows as a profiler that sees only calls would, and what should come of them."""

    clock: int = 0
    rows: list[list[int]] = field(default_factory=list)
    names: dict[int, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    expected: list[tuple[Any, ...]] = field(default_factory=list)

    def code(self, **name: Any) -> int:
        key = str(name)
        if key not in self.codes:
            self.codes[key] = len(self.codes) + 1
            self.names[self.codes[key]] = name
        return self.codes[key]

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def open(self, code: int) -> list[int]:
        row = [code, self.tick(), 0]
        self.rows.append(row)
        return row

    def several(self, shapes: list[Any]) -> None:
        before = ""
        for kind, name, inside in shapes:
            if (
                kind == "event" and before == name
            ):  # two dispatches of one event are told apart if a handler comes again
                self.noise()
            before = name if kind == "event" else ""
            self.one(kind, name, inside)

    def noise(self) -> None:
        """Something else between two dispatches of one event."""
        row = self.open(self.code(k="span", object=1, event="noise"))
        self.expected.append(("event", "noise", row[1], row[1]))
        row[2] = self.tick()
        self.expected.append(("event", over("noise"), row[2], row[2]))

    def one(self, kind: str, name: str, inside: list[Any]) -> None:
        if kind == "event":
            self.event(name, inside)
            return
        if kind == "run":
            row = self.open(self.code(k="run", object=1, call=name))
            at = len(self.expected)
            self.expected.append(())
            self.several(inside)
            row[2] = self.tick()
            self.expected[at] = ("run", name, row[1], row[2])
            return
        handler = {"callback": "A#1", "encloses": True} if kind == "encloses" else {}
        row = self.open(self.code(k="handler" if handler else "span", object=1, event=name, **handler))
        self.expected.append(("event", name, row[1], row[1]))
        if handler:
            self.expected.append(("handler", "A#1", row[1], row[1]))
        self.several(inside)
        row[2] = self.tick()
        self.expected.append(("event", over(name), row[2], row[2]))

    def event(self, name: str, found: list[Call]) -> None:
        at = len(self.expected)
        self.expected.append(())
        begin = self.clock + 1
        for who, idle, _, inside in found:
            row = self.open(self.code(k="handler", object=1, event=name, callback=WHO[who], loose=True, idle=idle))
            here = len(self.expected)
            if not idle:
                self.expected.append(())
            self.several(inside)
            row[2] = self.tick()
            if not idle:
                self.expected[here] = ("handler", WHO[who], row[1], row[2])
        self.expected[at] = ("event", name, begin, self.clock)

    def recording(self) -> Recording:
        table = np.array(self.rows, np.int64).reshape(-1, 3)
        lane = Rows(1, "MainThread", table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())
        return Recording(
            path="run.loop", version=(1, 0), state="closed", header={}, names=self.names, lines=(), lanes=(lane,),
            losses=(), begin=0, end=self.clock, now=None, size=1, spans=len(table),
        )  # fmt: skip


def told(recording: Recording) -> list[tuple[Any, ...]]:
    (lane,) = recording.lanes
    found = []
    for code, start, end in zip(lane.code.tolist(), lane.start.tolist(), lane.end.tolist(), strict=True):
        name = recording.names[code & NAME]
        found.append((name["k"], name.get("callback") or name.get("event") or name.get("call"), start, end))
    return found


@given(st.lists(shapes(), max_size=6))
def test_whatever_was_dispatched_comes_back_as_events(shapes):
    """Events, spans, enclosing calls and runs, nested in any way: each row is where it belongs, at its own times."""
    written = Writer()
    written.several(shapes)
    assert told(gathered(written.recording())) == written.expected


def handler(written: Writer, who: str, event: str = "x", **more: Any) -> None:
    row = written.open(written.code(k="handler", object=1, event=event, callback=who, loose=True, **more))
    row[2] = written.tick()


def events(written: Writer) -> list[str]:
    return [f"{kind} {name}" for kind, name, *_ in told(gathered(written.recording()))]


def test_an_event_that_fires_twice_in_a_row():
    """A handler that comes again begins another event, and so do those behind it."""
    written = Writer()
    for _ in range(2):
        handler(written, "A#1")
        handler(written, "B#2")
    assert events(written) == ["event x", "handler A#1", "handler B#2"] * 2


def test_handlers_of_one_name():
    """Two handlers that were recorded under one name are two calls of one event, a third begins another one."""
    written = Writer()
    for _ in range(3):
        handler(written, "A#1|A#2", merged=2)
    assert events(written) == ["event x", "handler A#1|A#2", "handler A#1|A#2", "event x", "handler A#1|A#2"]


def test_what_is_open_stays_open():
    """A killed run: the event of an open call is open, and an enclosing call has no end."""
    written = Writer()
    written.open(written.code(k="span", object=1, event="p"))
    handler(written, "A#1")
    written.open(written.code(k="handler", object=1, event="x", callback="B#2", loose=True))
    assert told(gathered(written.recording())) == [
        ("event", "p", 1, 1), ("event", "x", 2, 0), ("handler", "A#1", 2, 3), ("handler", "B#2", 4, 0),
    ]  # fmt: skip


def test_what_raised():
    """The event of a call that raised was left by the same exception."""
    written = Writer()
    error = written.code(k="exception", exception="ValueError")
    handler(written, "A#1")
    handler(written, "B#2")
    written.rows[-1][0] |= error << 32
    (lane,) = gathered(written.recording()).lanes
    assert [code >> 32 for code in lane.code.tolist()] == [error, 0, error]


def test_a_recording_without_such_rows_is_left_as_it_is():
    """Other frameworks' recordings are not copied."""
    written = Writer()
    row = written.open(written.code(k="event", object=1, event="x"))
    row[2] = written.tick()
    recording = written.recording()
    assert gathered(recording) is recording
