"""The recorder is proved: what a recording holds is what really ran, all of it has a place, and its rows add up."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.core as core
from fastai.callback.core import Callback
from fastai.learner import Learner

import loopscope
from loopscope.placing import place
from loopscope.recording import read
from loopscope.report import At as Position
from loopscope.report import Report
from loopscope.session import Session
from loopscope.timing import reported
from tests.adapters.cases import fastai_recorded
from tests.adapters.cases.fastai import CASES, At, Case, learner
from tests.adapters.cases.fastai_recorded import (
    Does,
    does,
    everything,
    quiet,
    recorded,
    seeded,
    witnessed,
)
from tests.told import plain, sums, told

ALL = [*CASES, *fastai_recorded.CASES]

CANCELS = list(core._ex_docs)
EVENTS = [name for name in core._events if name != "after_create"]

UNEXPECTED = {
    # what a handler changes without its source saying so: how many batches there are then is not known
    "other data in before_epoch": [
        (65, "expected batch only 3 times, but before_batch fired"),
        (91, "expected batch only 2 times, but before_batch fired"),
    ],
    "another loader in before_train": [(19, "expected batch 1 more of 3 times, but after_train fired")],
    "a shorter loader in before_train": [
        (27, "expected batch 67 more of 70 times, but after_train fired"),
        (69, "expected batch 67 more of 70 times, but after_train fired"),
    ],
    "more epochs in before_fit": [(77, "expected epoch only 2 times, but before_epoch fired")],
    "no epoch at all": [(1, "expected epoch 2 more of 2 times, but after_fit fired")],
    # the same for learn.training, on which other handlers depend
    "training flag set by a handler": [(14, "after_batch: expected TrainEvalCallback#1, but Recorder#2 was called")],
}
"""All that true runs do and the map does not allow, by case: position and message."""

RENAMED = {"lr_find inside a subclass's fine_tune"}
"""Cases in which callbacks of one class come and go: the map numbers them in another way than the witness."""


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_recording_holds_what_ran_and_all_of_it_has_a_place(case, tmp_path, monkeypatch):
    """Events, handlers and exceptions are those that an independent witness saw; all are placed, the rows add up."""
    monkeypatch.chdir(tmp_path)
    recording, left = recorded(case, tmp_path / "run.loop")
    placed = place(recording)
    report = reported(placed)
    watch = witnessed(case)

    assert (type(left).__name__ if left else None) == watch.outcome == case.raises
    mine, seen = told(placed), plain(watch.fired)
    if case.name in RENAMED:
        mine, seen = unnumbered(mine), unnumbered(seen)
    assert mine == seen
    assert [(one.position, one.message) for one in report.unexpected] == UNEXPECTED.get(case.name, [])
    assert report.unexpected_count == len(report.unexpected)
    assert all((block.node >= 0).all() for block in placed.blocks())
    assert report.events == sum(len(block.events) for block in placed.blocks()) > 1
    assert sums(report) == []
    assert ended(report) == case.raises
    assert (recording.state, recording.losses) == ("closed", ())


def unnumbered(fired):
    """The same with the class of each callback instead of its id."""
    return [
        replace(
            one,
            calls=tuple(
                replace(call, handler=call.handler.rpartition("#")[0], inner=tuple(unnumbered(call.inner)))
                for call in one.calls
            ),
        )
        for one in fired
    ]


def ended(report: Report) -> str | None:
    """The exception that left the last run, None if none did; the report must say the same in other words."""
    last = report.endings[-1]
    assert (last.how in ("raised", "interrupted")) == bool(last.exception and last.how != "cancelled")
    assert (last.how == "interrupted") == (last.exception == "KeyboardInterrupt")
    return last.exception if last.how in ("raised", "interrupted") else None


def test_the_list_of_what_is_unexpected_names_real_cases():
    """No entry of that list is left over from a case that is gone."""
    assert UNEXPECTED.keys() | RENAMED <= {case.name for case in ALL}
    assert len({case.name for case in ALL}) == len(ALL)


# -- exceptions everywhere ---------------------------------------------------------------------------------


def thrown(event: str, exception: type[BaseException], path: Path) -> tuple[At, Report, str | None]:
    thrower = At(event, exception)
    case = Case("", lambda: learner(thrower, n_trn=2, n_val=1), lambda learn: learn.fit(2))
    recording, left = recorded(case, path)
    report = reported(place(recording))
    assert (report.unexpected, sums(report)) == ((), []), (event, exception)
    return thrower, report, type(left).__name__ if left else None


def test_every_cancel_exception_at_every_event(tmp_path):
    """Seven cancel exceptions at 23 events: all is placed, the ending says who raised what, and whether it escaped."""
    hows = []
    for event in EVENTS:
        for name in CANCELS:
            thrower, report, left = thrown(event, getattr(core, name), tmp_path / "run.loop")
            ending = report.endings[0]
            said = (ending.exception, ending.at.handler, ending.at.event)
            by = (name, f"At.{event}", event)
            if not thrower.raised:
                assert (ending.how, said, ending.cancels) == ("finished", ("", "", ""), {})
            elif left:
                assert (ending.how, left) == ("raised", name)
                assert said == by
                assert ending.cancels == {}
            else:
                assert ending.cancels == {(name, f"At.{event}"): 1}
                assert (ending.how, said) == (
                    ("cancelled", by) if name == "CancelFitException" else ("finished", ("", "", ""))
                )
            hows.append(ending.how if thrower.raised else "never")
    assert {how: hows.count(how) for how in sorted(set(hows))} == {
        "cancelled": 15,
        "finished": 32,
        "never": 49,
        "raised": 65,
    }


@pytest.mark.parametrize("exception", [KeyboardInterrupt, ValueError, StopIteration])
def test_other_exceptions_at_every_event(exception, tmp_path):
    """What is no cancel exception ends the run, and the ending says where it was raised; StopIteration does not."""
    for event in EVENTS:
        thrower, report, left = thrown(event, exception, tmp_path / "run.loop")
        ending = report.endings[0]
        if not thrower.raised or exception is StopIteration:
            assert (left, ending.how) == (None, "finished")
            continue
        assert left == ending.exception == exception.__name__
        assert ending.how == ("interrupted" if exception is KeyboardInterrupt else "raised")
        assert (ending.at.handler, ending.at.event) == (f"At.{event}", event)
        assert "on purpose" in ending.message
        assert ending.before[-1].raised == exception.__name__
        assert ending.cancels == {}


class Interrupted(Callback):
    """Ctrl-C strikes in fastai's dispatch, when it asks whether this one has a turn."""

    order = 51

    def __init__(self, event: str) -> None:
        self.event, self.armed = event, False

    def before_batch(self):
        self.armed = True

    def after_pred(self):
        pass

    @property
    def run(self):
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        return True

    @run.setter
    def run(self, value):
        pass


def test_an_interrupt_between_two_handlers(tmp_path):
    """Ctrl-C in fastai's own dispatch: the handlers that were still to come are not expected, the event is named."""
    case = Case("", lambda: learner(Interrupted("")), lambda learn: learn.fit(2))
    recording, left = recorded(case, tmp_path / "run.loop")
    report = reported(place(recording))
    assert isinstance(left, KeyboardInterrupt)
    ending = report.endings[0]
    assert (ending.how, ending.at) == ("interrupted", Position("learn.fit(2)", 0, 0, "after_pred"))
    assert (report.unexpected, sums(report)) == ((), [])


class Fails(Exception):
    pass


def test_an_error_of_the_framework_s_own_code(tmp_path):
    """An error in the forward pass or in drawing a batch is no handler's: the ending names the event before it."""

    def failing(learn: Learner, at: str) -> None:
        def fail(*args: object) -> None:
            raise Fails("in the model")

        if at == "forward":
            learn.model.forward = fail
        else:
            learn.dls.valid.after_batch = fail
        learn.fit(1)

    places = {
        "forward": Position("learn.fit(1)", 0, 0, "before_batch"),
        "draw": Position("learn.fit(1)", 0, None, "before_validate"),
    }
    for at, expected in places.items():
        recording, left = recorded(Case("", learner, lambda learn, at=at: failing(learn, at)), tmp_path / "run.loop")
        report = reported(place(recording))
        ending = report.endings[0]
        assert isinstance(left, Fails)
        assert (ending.how, ending.exception, ending.message, ending.at) == (
            "raised",
            "Fails",
            "in the model",
            expected,
        )
        assert (report.unexpected, sums(report)) == ((), [])


# -- several learners, threads, and from the middle on -----------------------------------------------------


@contextlib.contextmanager
def all_recorded(path: Path) -> Iterator[Session]:
    """Record every learner of the process, as `loopscope run` does."""
    session = Session(None, path).start()
    try:
        with quiet():
            yield session
    finally:
        session.stop()


def runs(report: Report) -> list[tuple[str, str, str]]:
    return [(one.learner, one.run, one.how) for one in report.endings]


def test_two_learners_in_one_process(tmp_path):
    """One after the other, and one inside a handler of the other: told apart, all placed, and the rows add up."""
    one, other = seeded(learner), learner()
    one.add_cb(Does("after_train", lambda learn: other.fit(1), 1))
    with all_recorded(tmp_path / "run.loop"):
        one.fit(2)
        other.validate()
        one.fit(1)
    placed, report = everything(tmp_path / "run.loop")
    assert (report.unexpected, sums(report)) == ((), [])
    assert runs(report) == [
        ("Learner 1", "learn.fit(2)", "finished"),
        ("Learner 2", "learn.validate()", "finished"),
        ("Learner 1", "learn.fit(1)", "finished"),
    ]
    inner = [block for block in placed.blocks() if block.parent is not None]
    assert [(str(block.run["call"]), len(block.events)) for block in inner] == [("learn.fit(1)", 40)]
    (track,) = report.tracks
    names = [
        (depth, line.kind, line.name, line.note) for depth, line in track.root.walk() if line.kind in ("run", "outside")
    ]
    assert [(kind, name, note) for _, kind, name, note in names] == [
        ("run", "learn.fit(2)", "Learner 1"),
        ("run", "learn.fit(1)", "Learner 2"),
        ("run", "learn.validate()", "Learner 2"),
        ("run", "learn.fit(1)", "Learner 1"),
        ("outside", "outside", ""),
    ]


def test_only_the_given_learner_is_recorded(tmp_path):
    """`record(learn)` says nothing of another learner that a handler trains: its time is that handler's."""
    other = learner()
    case = Case("", does("after_train", lambda learn: other.fit(1), 1), lambda learn: learn.fit(2))
    recording, _ = recorded(case, tmp_path / "run.loop")
    placed, report = place(recording), reported(place(recording))
    assert (report.unexpected, sums(report), runs(report)) == ((), [], [("Learner 1", "learn.fit(2)", "finished")])
    assert [len(block.events) for block in placed.blocks()] == [78]


def test_two_threads(tmp_path):
    """Two learners trained in two threads: two trees, each of which sums to the wall time, nothing unexpected."""
    learners = [seeded(learner), seeded(learner)]
    barrier = threading.Barrier(2)
    for one in learners:
        one.add_cb(Does("before_epoch", lambda learn: barrier.wait(30), 1))
    with all_recorded(tmp_path / "run.loop"):
        threads = [threading.Thread(target=one.fit, args=(2,), name=f"trainer {n}") for n, one in enumerate(learners)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    placed, report = everything(tmp_path / "run.loop")
    assert (report.unexpected, sums(report), len(report.heads)) == ((), [], 1)
    assert sorted(track.thread for track in report.tracks) == ["trainer 0", "trainer 1"]
    assert [len(block.events) for block in placed.blocks()] == [78, 78]


def test_a_learner_made_while_all_are_recorded(tmp_path):
    """The event with which a learner is made has a place although no call runs a loop there (from the first run on)."""
    with all_recorded(tmp_path / "run.loop"):
        learner().fit(1)
        learner().fit(1)
    placed, report = everything(tmp_path / "run.loop")
    assert (report.unexpected, sums(report)) == ((), [])
    assert runs(report) == [("Learner 1", "learn.fit(1)", "finished"), ("Learner 2", "learn.fit(1)", "finished")]
    assert [one.event for one in told(placed)][39:42] == ["after_fit", "after_create", "before_fit"]
    assert report.events == 81


def test_recording_that_starts_in_the_middle_of_a_run(tmp_path):
    """Of a run whose start was not recorded nothing is known: its events are listed, each with its position."""
    path = tmp_path / "run.loop"
    session: list[Session] = []
    learn = learner(
        Does("after_batch", lambda learn: session.append(Session(learn, path).start()), 4),
        Does("after_epoch", lambda learn: session[0].stop(), 0),
    )
    with quiet():
        learn.fit(2)
    placed, report = everything(path)
    names = [one.event for one in told(placed)]
    assert names[0] == "after_validate"
    assert [(one.position, one.message) for one in report.unexpected] == [
        (n, f"{name} fired outside of every recorded call that runs a loop") for n, name in enumerate(names)
    ]
    assert sums(report) == []


def test_recording_that_stops_in_the_middle_of_a_run(tmp_path):
    """What was recorded of it is placed; the ending says that recording stopped while the run went on."""
    path = tmp_path / "run.loop"
    learn = seeded(does("after_batch", lambda learn: session.stop(), 7))
    session = Session(learn, path).start()
    with quiet():
        learn.fit(2)
    placed, report = everything(path)
    assert (report.unexpected, sums(report)) == ((), [])
    ending = report.endings[0]
    assert (ending.how, ending.at) == ("detached", Position("learn.fit(2)", 1, 2, "after_batch", "Does.after_batch"))
    assert [(one.event, one.handler, one.duration) for one in ending.open] == [
        ("after_batch", "", None),
        ("after_batch", "Does.after_batch", None),
    ]
    assert len(learn.recorder.values) == 2
    assert len(placed.recording.lanes) == 1


def test_an_event_that_a_handler_fires_by_itself_is_listed(tmp_path):
    """`learn("after_loss")` in a handler is no part of any loop: it is listed with its position, the rest is placed."""
    case = Case("", does("after_pred", lambda learn: learn("after_loss"), 1), lambda learn: learn.fit(1))
    recording, _ = recorded(case, tmp_path / "run.loop")
    placed = place(recording)
    report = reported(placed)
    watch = witnessed(case)
    assert told(placed) == plain(watch.fired)
    assert [(one.position, one.message, one.at) for one in report.unexpected] == [
        (13, "after_loss fired inside a handler", Position("learn.fit(1)", 0, 1, "after_loss", "Does.after_pred"))
    ]
    assert sums(report) == []


def test_events_fired_outside_of_every_run_are_listed(tmp_path):
    """`learn("after_batch")` typed by the user between two runs is listed, and both runs are placed."""

    def fires(learn: Learner) -> None:
        learn.fit(1)
        learn("before_fit")
        learn("after_cancel_fit")
        learn.fit(1)

    recording, _ = recorded(Case("", learner, fires), tmp_path / "run.loop")
    report = reported(place(recording))
    outside = "fired outside of every recorded call that runs a loop"
    assert [(one.position, one.message) for one in report.unexpected] == [
        (40, f"before_fit {outside}"),
        (41, f"after_cancel_fit {outside}"),
    ]
    assert (report.events, sums(report)) == (80, [])


def test_events_that_the_model_fires_are_listed(tmp_path):
    """An event between two others that the loop does not have there is one unexpected thing, not many."""

    def fires(learn: Learner) -> None:
        forward = learn.model.forward

        def noisy(x):
            if learn.training and learn.iter == 1 and learn.epoch == 0:
                learn("after_batch")
                learn("after_batch")
            return forward(x)

        learn.model.forward = noisy
        learn.fit(2)

    recording, _ = recorded(Case("", learner, fires), tmp_path / "run.loop")
    report = reported(place(recording))
    assert [(one.position, one.message, one.at.epoch) for one in report.unexpected] == [
        (12, "expected after_pred, but after_batch fired", 0),
        (13, "expected after_pred, but after_batch fired", 0),
    ]
    assert (report.events, sums(report)) == (78, [])


# -- positions, and the trace ------------------------------------------------------------------------------


class Logs(Callback):
    """Notes what the learner itself says of where it is, at each batch."""

    order = -50

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def before_batch(self):
        self.seen.append(("before_batch", self.epoch, self.iter))

    def after_batch(self):
        self.seen.append(("after_batch", self.epoch, self.iter))


POSITIONED = [
    Case("fit", lambda: learner(Logs()), lambda learn: learn.fit(2)),
    Case("fine_tune", lambda: learner(Logs()), lambda learn: learn.fine_tune(2, freeze_epochs=2)),
    Case("fit from epoch 1", lambda: learner(Logs()), lambda learn: learn.fit(3, start_epoch=1)),
    Case("lr_find", lambda: learner(Logs()), lambda learn: learn.lr_find(num_it=8, stop_div=False, show_plot=False)),
    Case(
        "cancelled batches",
        lambda: learner(Logs(), fastai_recorded.Sometimes("after_loss", core.CancelBatchException, [1, 4, 7])),
        lambda learn: learn.fit(2),
    ),
    Case(
        "nested",
        lambda: learner(Logs(), Does("after_train", lambda learn: learn.fit(1))),
        lambda learn: learn.fit(2),
    ),
]


@pytest.mark.parametrize("case", POSITIONED, ids=lambda case: case.name)
def test_epochs_and_batches_in_the_trace_are_the_learner_s_own(case, tmp_path, monkeypatch):
    """`epoch` and `batch` of every span are what `learn.epoch` and `learn.iter` were; spans lie inside each other."""
    monkeypatch.chdir(tmp_path)
    learn = seeded(case.make)
    with quiet(), loopscope.record(learn, "run.loop") as rec:
        case.call(learn)
    rec.save("trace.json", "trace")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [one for one in events if one["ph"] == "X"]
    logged = [
        (one["name"].removeprefix("Logs."), one["args"]["epoch"], one["args"]["batch"])
        for one in spans
        if one["name"].startswith("Logs.")
    ]
    assert logged == next(one for one in learn.cbs if isinstance(one, Logs)).seen
    assert overlaps(spans) == []
    assert {(one["pid"], one["tid"]) for one in spans} == {(spans[0]["pid"], 1)}
    assert [one["args"]["name"] for one in events if one["name"] == "thread_name"] == ["Learner 1 · MainThread"]


def overlaps(spans: list[dict]) -> list[tuple[str, str]]:
    """Pairs of spans on one track of which neither lies inside the other nor wholly before it."""
    found = []
    stack: dict[tuple[int, int], list[tuple[int, str]]] = {}
    for one in spans:
        start, end = round(one["ts"] * 1000), round((one["ts"] + one["dur"]) * 1000)
        around = stack.setdefault((one["pid"], one["tid"]), [])
        while around and around[-1][0] <= start:
            around.pop()
        if around and end > around[-1][0]:
            found.append((around[-1][1], one["name"]))
        around.append((end, one["name"]))
    return found


def test_each_learner_has_a_track(tmp_path):
    """A trace of two learners has a track for each, also where one is trained inside a handler of the other."""
    one, other = seeded(learner), learner()
    one.add_cb(Does("after_train", lambda learn: other.fit(1)))
    with all_recorded(tmp_path / "run.loop"):
        one.fit(1)
        other.validate()
    loopscope.load(tmp_path / "run.loop").save(tmp_path / "trace.json", "trace")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    tracks = {one["tid"]: one["args"]["name"] for one in events if one["name"] == "thread_name"}
    calls = [(tracks[one["tid"]], one["name"]) for one in events if one.get("cat") == "run"]
    assert calls == [
        ("Learner 1 · MainThread", "learn.fit(1)"),
        ("Learner 2 · MainThread", "learn.fit(1)"),
        ("Learner 2 · MainThread", "learn.validate()"),
    ]
    assert overlaps([one for one in events if one["ph"] == "X"]) == []


# -- the comparisons can fail ------------------------------------------------------------------------------


def test_the_comparisons_can_fail(tmp_path):
    """A missing call, another exception, a sum that is off by one and an overlap are all noticed."""
    recording, _ = recorded(Case("", learner, lambda learn: learn.fit(1)), tmp_path / "run.loop")
    placed = place(recording)
    report = reported(placed)
    fired = told(placed)
    assert told(place(read(tmp_path / "run.loop"))) == fired
    lane = recording.lanes[0]
    code = lane.code.copy()
    code[2] |= 1 << 32  # the first handler of the first event
    for changed in (
        replace(lane, code=lane.code[:-1], start=lane.start[:-1], end=lane.end[:-1]),
        replace(lane, code=code),
    ):
        names = {**recording.names, 1: {**recording.names[1], "exception": "X"}}
        assert told(place(replace(recording, lanes=(changed,), names=names))) != fired
    track = report.tracks[0]
    line = track.root.children[-1]
    off = replace(
        track, root=replace(track.root, children=(*track.root.children[:-1], replace(line, own=line.own + 1)))
    )
    wrong = sums(replace(report, tracks=(off,)))
    assert wrong == [
        f"thread MainThread: {report.wall + 1} of {report.wall}",
        f"1 outside: {line.stats.total}, own {line.own + 1}",
    ]
    span = {"pid": 1, "tid": 1, "ts": 0.0, "dur": 2.0, "name": "a"}
    assert overlaps([span, {**span, "ts": 1.0, "name": "b"}]) == [("a", "b")]
    assert overlaps([span, {**span, "ts": 1.0, "dur": 1.0}, {**span, "ts": 2.0}, {**span, "tid": 2, "ts": 3.0}]) == []


def test_the_slowest_handlers_are_told_apart(tmp_path):
    """No two of them have the same name and note: the two fits of fine_tune are counted."""
    learn = learner()
    with learn.no_bar(), learn.no_logging(), loopscope.record(learn, tmp_path / "run.loop") as rec:
        learn.fine_tune(1)
    shown = [(line.name, line.note) for line in rec.report().slowest]
    assert len(shown) == len(set(shown))
    assert ("ParamScheduler.before_batch", "fit 1") in shown
    assert ("ParamScheduler.before_batch", "fit 2") in shown
