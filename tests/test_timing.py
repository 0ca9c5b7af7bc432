"""What a report says of a recording, number for number: small recordings made by hand, on a clock of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from loopscope import codec
from loopscope.durations import between, stats
from loopscope.model import Binding, Event, Loop, Need, Repeat, Scope, Step
from loopscope.parse import holds
from loopscope.places import Gap, Places
from loopscope.placing import place
from loopscope.recording import Recording, Rows
from loopscope.report import At, Line, Report, Spoken, Stats, Warmup
from loopscope.timing import reported
from tests import loops

TRAIN, VALID = 2, 1
GAPS = {  # ns before an event, by its name: what the loop itself does there
    "before_batch": 1000, "after_pred": 200, "after_loss": 30, "after_step": 70, "after_batch": 5,
}  # fmt: skip


def loop(epochs: int = 1, train: int = TRAIN, valid: int = VALID, home: str = loops.PACKAGES) -> Loop:
    """The loop of tests/loops.py with fewer batches."""
    parts = (loops.level("train", (loops.batch(train),)), loops.level("validate", (loops.batch(valid),)))
    found: dict[str, Any] = {}
    for one in loops.handlers():
        if one.callback != "Accumulate":
            found[one.event] = (*found.get(one.event, ()), one)
    root = Scope("fit", (loops.level("fit", (loops.level("epoch", parts, Repeat(epochs, epochs)),)),))
    return replace(loops.fit(), root=root, binding=Binding(found), call=f"learn.fit({epochs})", home=home)


@dataclass
class Written:
    """A recording that is being made: rows are [code, start, end], the clock stands still unless it is moved."""

    loop: Loop
    clock: int = 0
    training: bool = False

    def __post_init__(self) -> None:
        self.names: dict[int, dict[str, Any]] = {}
        self.codes: dict[tuple[str, ...], int] = {}
        self.rows: list[list[int]] = []
        self.lines: list[dict[str, Any]] = []
        self.code("object", cls="Learner", number=1, device="cpu")
        self.code("loop", loop=codec.encode(self.loop))
        self.run_code = self.code("run", object=1, call=self.loop.call, method="fit", loop=2, place="train.py:3")

    def code(self, kind: str, **fields: Any) -> int:
        key = (kind, *(str(value) for value in fields.values()))
        if key not in self.codes:
            self.codes[key] = len(self.codes) + 1
            self.names[self.codes[key]] = {"k": kind, "id": self.codes[key], **fields}
        return self.codes[key]

    def open(self, code: int) -> list[int]:
        self.rows.append([code, self.clock, 0])
        return self.rows[-1]

    def close(self, row: list[int], raised: str = "") -> None:
        if raised:
            row[0] |= self.code("exception", exception=raised, module="builtins") << 32
        row[2] = self.clock

    def run(self) -> list[int]:
        return self.open(self.run_code)

    def fire(self, event: str, raised: str = "", last: str = "", took: int = 10) -> list[int]:
        """Fire an event: each handler takes `took` ns, with 1 ns of dispatch before each and 2 behind the last.

        `raised` is what the handler of `last` (or the last one) raises.
        """
        self.clock += GAPS.get(event, 3) if event != "after_batch" or self.training else 3
        row = self.open(self.code("event", object=1, event=event))
        for one in self.called(event):
            self.clock += 1
            call = self.handler(one.id, event)
            self.clock += took
            if raised and (one.callback == last or one is self.called(event)[-1]):
                self.close(call, raised)
                self.close(row, raised)
                return row
            self.close(call)
            self.training = dict(one.sets).get("training", self.training)
        self.clock += 2
        self.close(row)
        return row

    def called(self, event: str) -> list[Any]:
        flags = {"training": self.training, "targets": True}
        return [one for one in self.loop.binding.at(event) if holds([n for n in one.needs if n.flag in flags], flags)]

    def handler(self, id_: str, event: str) -> list[int]:
        callback = id_.partition("#")[0]
        return self.open(self.code("handler", object=1, callback=id_, event=event, method=event, cls=callback))

    def batch(self) -> None:
        for event in ("before_batch", "after_pred", "after_loss"):
            self.fire(event)
        for event in ("before_step", "after_step") if self.training else ():
            self.fire(event)
        self.fire("after_batch")

    def epoch(self, train: int = TRAIN, valid: int = VALID) -> None:
        self.fire("before_epoch")
        for part, batches in (("train", train), ("validate", valid)):
            self.fire(f"before_{part}")
            for _ in range(batches):
                self.batch()
            self.fire(f"after_{part}")
        self.fire("after_epoch")

    def recording(self, state: str = "closed", **changes: Any) -> Recording:
        table = np.array(self.rows, np.int64).reshape(-1, 3)
        end = {"k": "end", "clock": self.clock, "stop_clock": self.clock}
        rows = Rows(1, "MainThread", table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())
        made = Recording(
            path="run.loop", version=(1, 0), state=state, header={"pid": 1}, names=self.names,
            lines=(*self.lines, *([end] if state == "closed" else [])), lanes=(rows,), losses=(), begin=0,
            end=self.clock, now=self.clock if state == "running" else None, size=1, spans=len(rows.code),
        )  # fmt: skip
        return replace(made, **changes)


def whole(written: Written, epochs: int = 1, train: int = TRAIN, valid: int = VALID) -> Recording:
    """A run that finishes, 100 ns after recording began and 50 before it ended."""
    written.clock += 100
    run = written.run()
    written.fire("before_fit")
    for _ in range(epochs):
        written.epoch(train, valid)
    written.fire("after_fit")
    written.clock += 4
    written.close(run)
    written.clock += 50
    return written.recording()


def story() -> Recording:
    return whole(Written(loop()))


def row(depth: int, line: Line) -> tuple[Any, ...]:
    one = line.stats
    return depth, line.kind, line.name, one.count, one.total, line.own, one.p50, one.p99, one.max


def rows(report: Report) -> list[tuple[Any, ...]]:
    return [row(depth, line) for track in report.tracks for depth, line in track.root.walk()]


def test_every_row_of_a_small_run():
    """Each nanosecond is in the row that it belongs to: steps by name, handlers, dispatch, framework, outside."""
    report = reported(place(story()))
    assert rows(report) == [
        (0, "thread", "MainThread", 1, 4306, 0, 4306, 4306, 4306),
        (1, "run", "learn.fit(1)", 1, 4156, 0, 4156, 4156, 4156),
        (2, "scope", "fit", 1, 4149, 0, 4149, 4149, 4149),
        (3, "event", "before_fit", 1, 35, 0, 35, 35, 35),
        (4, "handler", "TrainEval.before_fit", 1, 10, 10, 10, 10, 10),
        (4, "handler", "Mine.before_fit", 1, 10, 10, 10, 10, 10),
        (4, "handler", "Recorder.before_fit", 1, 10, 10, 10, 10, 10),
        (4, "dispatch", "dispatch", 1, 5, 5, 5, 5, 5),
        (3, "scope", "epoch", 1, 4095, 0, 4095, 4095, 4095),
        (4, "event", "before_epoch", 1, 2, 0, 2, 2, 2),
        (5, "dispatch", "dispatch", 1, 2, 2, 2, 2, 2),
        (4, "scope", "train", 1, 2768, 0, 2768, 2768, 2768),
        (5, "event", "before_train", 1, 13, 0, 13, 13, 13),
        (6, "handler", "TrainEval.before_train", 1, 10, 10, 10, 10, 10),
        (6, "dispatch", "dispatch", 1, 3, 3, 3, 3, 3),
        (5, "scope", "batch", 2, 2750, 0, 1375, 1375, 1375),
        (6, "step", "data", 2, 2000, 2000, 1000, 1000, 1000),
        (6, "event", "before_batch", 2, 4, 0, 2, 2, 2),
        (7, "dispatch", "dispatch", 2, 4, 4, 2, 2, 2),
        (6, "step", "forward", 2, 400, 400, 200, 200, 200),
        (6, "event", "after_pred", 2, 26, 0, 13, 13, 13),
        (7, "handler", "Shadowed.after_pred", 2, 20, 20, 10, 10, 10),
        (7, "dispatch", "dispatch", 2, 6, 6, 3, 3, 3),
        (6, "step", "loss", 2, 60, 60, 30, 30, 30),
        (6, "event", "after_loss", 2, 26, 0, 13, 13, 13),
        (7, "handler", "Mine.after_loss", 2, 20, 20, 10, 10, 10),
        (7, "dispatch", "dispatch", 2, 6, 6, 3, 3, 3),
        (6, "scope", "step", 2, 148, 0, 74, 74, 74),
        (7, "event", "before_step", 2, 4, 0, 2, 2, 2),
        (8, "dispatch", "dispatch", 2, 4, 4, 2, 2, 2),
        (7, "step", "optimizer step", 2, 140, 140, 70, 70, 70),
        (7, "event", "after_step", 2, 4, 0, 2, 2, 2),
        (8, "dispatch", "dispatch", 2, 4, 4, 2, 2, 2),
        (6, "step", "zero_grad", 2, 10, 10, 5, 5, 5),
        (6, "event", "after_batch", 2, 70, 0, 35, 35, 35),
        (7, "handler", "TrainEval.after_batch", 2, 20, 20, 10, 10, 10),
        (7, "handler", "Mine.after_batch", 2, 20, 20, 10, 10, 10),
        (7, "handler", "Recorder.after_batch", 2, 20, 20, 10, 10, 10),
        (7, "dispatch", "dispatch", 2, 10, 10, 5, 5, 5),
        (6, "framework", "framework", 2, 6, 6, 3, 3, 3),
        (5, "event", "after_train", 1, 2, 0, 2, 2, 2),
        (6, "dispatch", "dispatch", 1, 2, 2, 2, 2, 2),
        (5, "framework", "framework", 1, 3, 3, 3, 3, 3),
        (4, "scope", "validate", 1, 1292, 0, 1292, 1292, 1292),
        (5, "event", "before_validate", 1, 13, 0, 13, 13, 13),
        (6, "handler", "TrainEval.before_validate", 1, 10, 10, 10, 10, 10),
        (6, "dispatch", "dispatch", 1, 3, 3, 3, 3, 3),
        (5, "scope", "batch", 1, 1274, 0, 1274, 1274, 1274),
        (6, "step", "data", 1, 1000, 1000, 1000, 1000, 1000),
        (6, "event", "before_batch", 1, 2, 0, 2, 2, 2),
        (7, "dispatch", "dispatch", 1, 2, 2, 2, 2, 2),
        (6, "step", "forward", 1, 200, 200, 200, 200, 200),
        (6, "event", "after_pred", 1, 13, 0, 13, 13, 13),
        (7, "handler", "Shadowed.after_pred", 1, 10, 10, 10, 10, 10),
        (7, "dispatch", "dispatch", 1, 3, 3, 3, 3, 3),
        (6, "step", "loss", 1, 30, 30, 30, 30, 30),
        (6, "event", "after_loss", 1, 2, 0, 2, 2, 2),
        (7, "dispatch", "dispatch", 1, 2, 2, 2, 2, 2),
        (6, "event", "after_batch", 1, 24, 0, 24, 24, 24),
        (7, "handler", "Mine.after_batch", 1, 10, 10, 10, 10, 10),
        (7, "handler", "Recorder.after_batch", 1, 10, 10, 10, 10, 10),
        (7, "dispatch", "dispatch", 1, 4, 4, 4, 4, 4),
        (6, "framework", "framework", 1, 3, 3, 3, 3, 3),
        (5, "event", "after_validate", 1, 2, 0, 2, 2, 2),
        (6, "dispatch", "dispatch", 1, 2, 2, 2, 2, 2),
        (5, "framework", "framework", 1, 3, 3, 3, 3, 3),
        (4, "event", "after_epoch", 1, 24, 0, 24, 24, 24),
        (5, "handler", "Recorder.after_epoch", 1, 10, 10, 10, 10, 10),
        (5, "handler", "Tracker.after_epoch", 1, 10, 10, 10, 10, 10),
        (5, "dispatch", "dispatch", 1, 4, 4, 4, 4, 4),
        (4, "framework", "framework", 3, 9, 9, 3, 3, 3),
        (3, "event", "after_fit", 1, 13, 0, 13, 13, 13),
        (4, "handler", "Tracker.after_fit", 1, 10, 10, 10, 10, 10),
        (4, "dispatch", "dispatch", 1, 3, 3, 3, 3, 3),
        (3, "framework", "framework", 2, 6, 6, 3, 3, 3),
        (2, "framework", "framework", 2, 7, 7, 3, 4, 4),
        (1, "outside", "outside", 1, 150, 150, 150, 150, 150),
    ]
    assert [(one.name, one.count, one.total) for one in report.tracks[0].categories] == [
        ("data", 3, 3000),
        ("forward", 3, 600),
        ("loss", 3, 90),
        ("optimizer step", 2, 140),
        ("zero_grad", 2, 10),
        ("handlers", 21, 210),
        ("dispatch", 24, 69),
        ("framework", 12, 37),
        ("outside", 1, 150),
    ]
    assert (report.wall, report.tracks[0].sum, report.data, report.compute) == (4306, 4306, 3000, 840)
    assert (report.events, report.calls, report.unexpected, report.unexpected_count) == (24, 21, (), 0)
    assert [(one.name, one.own) for one in report.slowest[:2]] == [("Shadowed.after_pred", 20), ("Mine.after_loss", 20)]


def test_figures_of_a_row_are_durations_that_occurred():
    """Median and 99th percentile are those of the lower rank; 100 durations have the 99th as the second largest."""
    assert stats(np.arange(1, 101)) == Stats(100, 5050, 50, 99, 100)
    assert stats(np.array([7])) == Stats(1, 7, 7, 7, 7)
    assert stats(np.array([3, 1])) == Stats(2, 4, 1, 3, 3)
    assert stats(np.array([], np.int64)) == Stats(0, 0, 0, 0, 0)


def line_of(report: Report, name: str, kind: str = "handler") -> list[Line]:
    return [line for track in report.tracks for _, line in track.root.walk() if (line.kind, line.name) == (kind, name)]


def test_the_first_batches_against_the_rest():
    """The warm-up row compares the medians of the first ten training batches with those behind, and names the first."""
    written = Written(loop(train=30))
    run = written.run()
    written.fire("before_fit")
    written.fire("before_epoch")
    written.fire("before_train")
    for number in range(30):
        written.clock += 5000 if number == 0 else 100 if number < 10 else 0
        written.batch()
    written.fire("after_train")
    written.fire("before_validate")
    written.batch()
    for event in ("after_validate", "after_epoch", "after_fit"):
        written.fire(event)
    written.close(run)
    report = reported(place(written.recording()))
    assert report.unexpected == ()
    assert report.warmups == (Warmup("learn.fit(1)", 6375, 1475, 10, 1375, 20),)


# -- names of what lies between events ---------------------------------------------------------------------


def test_gaps_of_an_overridden_loop_are_called_by_their_events():
    """Where the loop is not the framework's own, a step's name may be wrong: no row is called forward or loss."""
    own = loop(home="/somewhere/else")
    report = reported(place(whole(Written(own))))
    names = {line.name for _, line in report.tracks[0].root.walk() if line.kind == "step"}
    assert names == {
        "before_train → before_batch",
        "after_batch → before_batch",
        "before_validate → before_batch",
        "before_batch → after_pred",
        "after_pred → after_loss",
        "before_step → after_step",
        "after_step → after_batch",
    }
    assert (report.data, report.compute, report.tracks[0].sum) == (0, 0, report.wall)
    assert [one.total for one in report.tracks[0].categories if one.name == "between events"] == [3840]


def test_a_gap_with_two_steps_of_the_framework_is_called_by_its_events():
    """Forward and loss in one stretch cannot be told apart; after an exception a step may not have run at all."""
    one, other = Event("a"), Event("b")
    steps = (Step("forward", place=None), Step("loss", place=None))
    places = Places()
    scope = Scope("s", (one, *steps, other))
    for event in (one, other):
        places.node(event, (scope,))
    placed = [replace(step, place=loops.event("x").place) for step in steps]
    known = replace(loop(), home=loops.PACKAGES)
    found = between(Gap(one, False, tuple((step, (scope,)) for step in placed), other), places, known)
    assert (found.name, found.category, found.path) == ("a → b", "compute", (scope,))
    raised = between(Gap(one, True, ((placed[0], (scope,)),), other), places, known)
    assert (raised.name, raised.category) == ("framework", "framework")
    single = between(Gap(one, False, ((placed[0], (scope,)),), other), places, known)
    assert (single.name, single.category) == ("forward", "forward")


# -- rows without an end -----------------------------------------------------------------------------------


def cut(written: Written, at: int) -> Recording:
    """The file of a process that was killed after so many rows: what was open then has no end."""
    whole(written)
    moment = written.rows[at][1] + 1
    kept = [[code, start, end if end <= moment else 0] for code, start, end in written.rows[: at + 1]]
    written.rows, written.clock = kept, moment
    return written.recording("killed", end=moment)


def test_a_killed_run_adds_up_wherever_it_stops():
    """Killed at any row: what was open lasts to the last stamp, all is placed, and the rows add up."""
    total = len(story().lanes[0].code)
    for at in range(total):
        written = Written(loop())
        report = reported(place(cut(written, at)))
        assert (report.unexpected, report.state) == ((), "killed"), at
        assert report.tracks[0].sum == report.wall == written.rows[at][1] + 1
        (ending,) = report.endings
        kinds = [written.names[code & 0xFFFFFFFF] for code, _, end in written.rows if not end]
        assert ending.how == "killed"
        assert [one.handler.partition(".")[0] for one in ending.open] == [kind.get("cls", "") for kind in kinds[1:]]
        assert len(ending.before) == min(20, at)


def test_what_was_open_when_it_was_killed():
    """The open calls, outermost first, with their position; the calls before; the open row is marked."""
    written = Written(loop())
    whole(written)
    at = max(n for n, (code, _, _) in enumerate(written.rows) if written.names[code].get("cls") == "Mine")
    report = reported(place(cut(Written(loop()), at)))
    (ending,) = report.endings
    position = At("learn.fit(1)", 0, 0, "after_batch")
    assert (ending.how, ending.exception, ending.message) == ("killed", "", "")
    assert ending.at == replace(position, handler="Mine.after_batch")
    start = ending.open[0].start
    assert ending.open == (
        Spoken("after_batch", "", start, None, "", position),
        Spoken("after_batch", "Mine.after_batch", start + 1, None, "", position),
    )
    assert [one.handler or one.event for one in ending.before[-5:]] == [
        "after_pred",
        "Shadowed.after_pred",
        "after_loss",
        "after_batch",
        "Mine.after_batch",
    ]
    assert [line.open for line in line_of(report, "Mine.after_batch")] == [0, 1]


def test_a_running_recording_lasts_until_now():
    """Of a run that goes on, the open call lasts up to the moment of reading."""
    written = Written(loop())
    written.run()
    written.fire("before_fit")
    row = written.open(written.code("event", object=1, event="before_epoch"))
    now = row[1] + 1_000_000
    report = reported(place(replace(written.recording("running"), now=now)))
    assert (report.state, report.wall, report.unexpected) == ("running", now, ())
    (ending,) = report.endings
    assert (ending.how, ending.wall) == ("running", now)
    assert ending.open == (Spoken("before_epoch", "", row[1], None, "", At("learn.fit(1)", 0, None, "before_epoch")),)
    (line,) = line_of(report, "before_epoch", "event")
    assert line.stats.total == 1_000_000


def test_rows_that_lost_their_end_in_the_middle():
    """An interrupt between two stamps may cost a row its end: it ends where the next one begins, and all adds up."""
    true = story()
    lane = true.lanes[0]
    for at in range(1, len(lane.code)):
        end = lane.end.copy()
        end[at] = 0
        report = reported(place(replace(true, lanes=(replace(lane, end=end),))))
        assert report.tracks[0].sum == report.wall == 4306, at
        assert report.unexpected == (), at
        assert report.endings[0].how == "finished"
        assert all(line.own >= 0 for _, line in report.tracks[0].root.walk())


# -- how it ended ------------------------------------------------------------------------------------------


def ended_by(
    exception: str, event: str, handler: str = "", *, leaves: bool, message: str = "", then: Sequence[str] = ()
) -> Report:
    """A run in whose second training batch `handler` raises at `event`; `leaves`: the exception leaves the run."""
    written = Written(loop())
    run = written.run()
    for name in ("before_fit", "before_epoch", "before_train"):
        written.fire(name)
    written.batch()
    for name in ("before_batch", "after_pred", "after_loss", "before_step", "after_step", "after_batch"):
        if name == event:
            written.fire(name, exception if handler else "", handler.partition(".")[0])
            break
        written.fire(name)
    for name in then:
        written.fire(name)
    if leaves:
        code = written.code("exception", exception=exception, module="builtins")
        run[0] |= code << 32
        written.lines.append(
            {"k": "left", "run": written.run_code, "clock": written.clock, "exception": exception, "message": message}
        )
    written.close(run)
    return reported(place(written.recording()))


@pytest.mark.parametrize(("exception", "how"), [("ValueError", "raised"), ("KeyboardInterrupt", "interrupted")])
def test_an_exception_of_a_handler(exception, how):
    """Exception, message, callback, event, epoch and batch, and the twenty calls before it."""
    report = ended_by(exception, "after_loss", "Mine.after_loss", leaves=True, message="loss is nan")
    (ending,) = report.endings
    assert (ending.how, ending.exception, ending.message) == (how, exception, "loss is nan")
    assert ending.at == At("learn.fit(1)", 0, 1, "after_loss", "Mine.after_loss")
    assert len(ending.before) == 20
    assert ending.before[-1].raised == exception
    assert [one.handler or one.event for one in ending.before[-5:]] == [
        "before_batch",
        "after_pred",
        "Shadowed.after_pred",
        "after_loss",
        "Mine.after_loss",
    ]
    assert [one.start for one in ending.before] == sorted(one.start for one in ending.before)
    assert (ending.open, ending.cancels, report.unexpected) == ((), {}, ())
    assert [dict(line.raised) for line in line_of(report, "Mine.after_loss")] == [{exception: 1}]


def test_an_exception_of_the_forward_pass():
    """What no handler raised is at the last event that fired before it, and no handler is blamed."""
    report = ended_by("RuntimeError", "before_batch", leaves=True, message="shapes")
    (ending,) = report.endings
    assert (ending.how, ending.exception, ending.message) == ("raised", "RuntimeError", "shapes")
    assert ending.at == At("learn.fit(1)", 0, 1, "before_batch")
    assert report.unexpected == ()


def test_a_cancelled_run():
    """Who cancelled it, and where; the run itself ended normally."""
    report = ended_by(
        "CancelFitException", "after_loss", "Mine.after_loss", leaves=False, then=["after_cancel_fit", "after_fit"]
    )
    (ending,) = report.endings
    assert (ending.how, ending.exception, ending.message) == ("cancelled", "CancelFitException", "")
    assert ending.at == At("learn.fit(1)", 0, 1, "after_loss", "Mine.after_loss")
    assert ending.before[-1].handler == "Mine.after_loss"
    assert dict(ending.cancels) == {("CancelFitException", "Mine.after_loss"): 1}
    assert report.unexpected == ()


def test_a_cancelled_batch_does_not_end_a_run():
    """A caught exception is counted, by whom; the run finished."""
    written = Written(loop())
    run = written.run()
    for name in ("before_fit", "before_epoch", "before_train"):
        written.fire(name)
    for _ in range(2):
        written.fire("before_batch")
        written.fire("after_pred")
        written.fire("after_loss", "CancelBatchException")
        written.fire("after_cancel_batch")
        written.fire("after_batch")
    for name in ("after_train", "before_validate"):
        written.fire(name)
    written.batch()
    for name in ("after_validate", "after_epoch", "after_fit"):
        written.fire(name)
    written.close(run)
    report = reported(place(written.recording()))
    (ending,) = report.endings
    assert (ending.how, ending.exception, ending.at) == ("finished", "", At("learn.fit(1)"))
    assert dict(ending.cancels) == {("CancelBatchException", "Mine.after_loss"): 2}
    assert (report.unexpected, ending.before, ending.open) == ((), (), ())


def test_a_run_from_which_recording_was_detached():
    """A closed file in which the run did not end: recording stopped while the run went on."""
    written = Written(loop())
    written.run()
    written.fire("before_fit")
    written.fire("before_epoch")
    report = reported(place(written.recording()))
    (ending,) = report.endings
    assert (ending.how, ending.open, ending.at) == ("detached", (), At("learn.fit(1)", 0, None, "before_epoch"))
    assert (report.unexpected, report.tracks[0].sum) == ((), report.wall)


# -- nested runs, several runs -----------------------------------------------------------------------------


def test_the_time_of_a_nested_run_is_not_its_handler_s_own():
    """A run inside a handler stands below it; the handler's own time is what is left."""
    written = Written(loop())
    outer = written.run()
    written.fire("before_fit")
    written.epoch()
    written.clock += 3
    event = written.open(written.code("event", object=1, event="after_fit"))
    written.clock += 1
    call = written.handler("Tracker#1", "after_fit")
    written.clock += 500
    begin = written.clock
    inner = written.run()
    written.fire("before_fit")
    written.epoch()
    written.fire("after_fit")
    written.close(inner)
    took = written.clock - begin
    written.clock += 20
    written.close(call)
    written.clock += 2
    written.close(event)
    written.close(outer)
    report = reported(place(written.recording()))
    first = line_of(report, "Tracker.after_fit")[0]
    assert (first.stats.total, first.own) == (520 + took, 520)
    (run,) = first.children
    assert (run.kind, run.name, run.stats) == ("run", "learn.fit(1)", Stats(1, took, took, took, took))
    assert (report.unexpected, report.tracks[0].sum) == ((), report.wall)
    assert [one.run for one in report.endings] == ["learn.fit(1)"]
    assert report.events == 2 * 24


def test_runs_of_one_loop_share_their_rows():
    """The same call made three times is one row with a count of three; the time between them is outside."""
    written = Written(loop())
    for _ in range(3):
        run = written.run()
        written.fire("before_fit")
        written.epoch()
        written.fire("after_fit")
        written.close(run)
        written.clock += 77
    report = reported(place(written.recording()))
    (run,) = line_of(report, "learn.fit(1)", "run")
    (outside,) = line_of(report, "outside", "outside")
    assert (run.stats.count, run.stats.total + outside.own, outside.own) == (3, report.wall, 231)
    assert [line.stats.count for line in line_of(report, "Recorder.before_fit")] == [3]
    assert (len(report.endings), report.unexpected) == (3, ())


def test_what_has_no_place_has_a_row_of_its_own():
    """An event that the loop does not have there is a row of the run, marked; the rows add up all the same."""
    written = Written(loop())
    run = written.run()
    written.fire("before_fit")
    written.fire("after_step")
    written.epoch()
    written.fire("after_fit")
    written.close(run)
    report = reported(place(written.recording()))
    assert [(one.position, one.message, one.at) for one in report.unexpected] == [
        (1, "expected before_epoch, but after_step fired", At("learn.fit(1)", None, None, "after_step"))
    ]
    assert [line.note for line in line_of(report, "after_step", "event")] == ["", "unexpected"]
    assert (report.tracks[0].sum, report.events) == (report.wall, 24)


# -- positions ---------------------------------------------------------------------------------------------


def positions_of(epochs: int) -> Iterator[tuple[str, int | None, int | None]]:
    """Where each unknown event of a run is said to be: one is put behind every batch event."""
    written = Written(loop(epochs))
    run = written.run()
    written.fire("before_fit")
    for _ in range(epochs):
        written.epoch()
        written.fire("noise")
    written.fire("after_fit")
    written.close(run)
    report = reported(place(written.recording()))
    for one in report.unexpected:
        yield one.message, one.at.epoch, one.at.batch


def test_unexpected_events_have_positions():
    """An event that no loop knows is refused by name; outside of epochs it has no epoch."""
    assert list(positions_of(2)) == [
        ("expected before_epoch, but noise fired", None, None),
        ("expected after_fit, but noise fired", None, None),
    ]


def test_a_flag_that_a_line_of_the_recording_changes(monkeypatch):
    """A note in the recording that a callback was switched off holds from its moment on: then it is not expected."""
    switched = Need("run Mine#1", True, "run is False")
    with_flag = loop()
    handlers = {
        event: tuple(replace(one, needs=(*one.needs, switched)) if one.callback == "Mine" else one for one in ones)
        for event, ones in with_flag.binding.handlers.items()
    }
    with_flag = replace(with_flag, binding=Binding(handlers), flags={"training": False, "run Mine#1": True})
    without = Binding({event: tuple(one for one in ones if one.callback != "Mine") for event, ones in handlers.items()})
    written = Written(with_flag)
    run = written.run()
    written.fire("before_fit")
    note = {"k": "bound", "object": 1, "clock": written.clock + 3, "flags": {"run Mine#1": False}}
    written.loop = replace(with_flag, binding=without)
    written.epoch()
    written.fire("after_fit")
    written.close(run)
    silent = reported(place(written.recording()))
    written.lines.append(note)
    noted = reported(place(written.recording()))
    assert [one.message for one in silent.unexpected] == [
        "after_loss: expected Mine#1, nothing was called",
        "after_batch: expected Mine#1, but Recorder#1 was called",
        "after_loss: expected Mine#1, nothing was called",
        "after_batch: expected Mine#1, but Recorder#1 was called",
        "after_batch: expected Mine#1, but Recorder#1 was called",
    ]
    assert noted.unexpected == ()
