"""What is recorded of real fastai runs: every call that was made, no other, and where an exception left a run."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.all as cb
import torch
from fastai.callback.core import Callback, CancelBatchException
from fastai.learner import Learner

import loopscope
from loopscope.errors import LoopscopeError, UnknownObject, UnknownVersion
from loopscope.recording import BadPath, BusyRecording, read
from loopscope.session import Session
from tests.adapters.cases.fastai import At, Shadowed, Silent, learner, off, override
from tests.test_cli import ENVIRONMENT, SCRIPTS
from tests.test_recorder_unchanged_fastai import Witness, seed

Told = list[tuple[str, str]]
"""(event, "") for an event, (event, "Recorder#2") for a call of a handler, in the order in which they began."""


def told(path: Path, number: int = 1) -> Told:
    """What the file says of its object `number`, whatever the thread; the rows of runs are left out."""
    recording = read(path)
    assert recording.losses == ()
    objects = {key for key, name in recording.names.items() if name["k"] == "object" and name["number"] == number}
    rows = sorted(
        (int(start), int(code)) for lane in recording.lanes for start, code in zip(lane.start, lane.name(), strict=True)
    )
    names = [recording.names[code] for _, code in rows]
    return [
        (name["event"], name.get("callback", ""))
        for name in names
        if name["k"] in ("event", "handler") and name["object"] in objects
    ]


def reported(path: Path) -> Any:
    return loopscope.load(path).report()


def events(path: Path, number: int = 1) -> list[str]:
    return [event for event, handler in told(path, number) if not handler]


def calls_of(path: Path, name: str) -> list[str]:
    return [event for event, handler in told(path) if handler.partition("#")[0] == name]


# -- what is a call ------------------------------------------------------------------------------------


class EveryBatch(Callback):
    def before_batch(self):
        pass

    def after_epoch(self):
        pass


class InTraining(EveryBatch):
    run_valid = False


class InValidation(EveryBatch):
    run_train = False


class Never(EveryBatch):
    run = False


class Nested(Callback):
    """Runs a validation of its own inside of a handler."""

    def after_train(self):
        self.learn.validate()


class OwnCallOne(Learner):
    def _call_one(self, event_name):
        for one in self.cbs.sorted("order"):
            one(event_name)


class CallsSuperOne(Learner):
    def _call_one(self, event_name):
        return super()._call_one(event_name)


class OwnCall(Learner):
    def __call__(self, event_name):
        return super().__call__(event_name)


class Chooses(Learner):
    """Calls some of its callbacks, some of them twice."""

    def _call_one(self, event_name):
        for one in self.cbs.sorted("order"):
            if not isinstance(one, InTraining):
                one(event_name)
        if event_name == "after_pred":
            self.in_validation(event_name)


class ByItself(Callback):
    """Calls its handlers by a rule of its own."""

    def __call__(self, event_name):
        if event_name in ("after_pred", "after_loss"):
            super().__call__(event_name)

    def after_pred(self):
        pass

    def after_batch(self):
        raise AssertionError("never called")


class FiresMore(Callback):
    """A handler that fires another event of the same learner."""

    def after_pred(self):
        if self.training:
            self.learn("after_cancel_step")

    def after_cancel_step(self):
        pass


class ByChance(EveryBatch):
    """Takes part by chance, as a property decides."""

    @property
    def run(self):
        return random.random() < 0.5

    @run.setter
    def run(self, value):
        pass


class LooksUp(Callback):
    """Makes a handler when it is asked for one."""

    def __getattr__(self, name):
        return (lambda: None) if name == "after_pred" else super().__getattr__(name)


class Throws(Callback):
    """Cancels every second batch."""

    def after_pred(self):
        if self.iter % 2:
            raise CancelBatchException


RUNS: dict[str, Callable[[], Learner]] = {
    "stock": learner,
    "flags": lambda: learner(InTraining(), InValidation(), Never()),
    "cancelled batches": lambda: learner(Throws()),
    "own __call__": lambda: learner(Silent(), ByItself()),
    "an event inside an event": lambda: learner(FiresMore()),
    "a run inside a run": lambda: learner(Nested()),
    "shadowed by the model": lambda: learner(model=Shadowed()),
    "no default callbacks": lambda: learner(EveryBatch(), default_cbs=False),
    "own _call_one": override(OwnCallOne, InTraining(), InValidation()),
    "own _call_one calls super": override(CallsSuperOne, InTraining(), InValidation()),
    "own __call__ of the learner": override(OwnCall, InTraining(), InValidation()),
    "own _call_one, an event inside": override(OwnCallOne, FiresMore()),
    "own _call_one, a run inside": override(OwnCallOne, Nested()),
    "own _call_one, cancelled batches": override(OwnCallOne, Throws()),
    "flags and handlers that code decides about": lambda: learner(ByChance(), LooksUp()),
    "the same with own _call_one": override(OwnCallOne, ByChance(), LooksUp()),
    "own _call_one, own __call__": override(OwnCallOne, Silent(), ByItself()),
    "switched off": lambda: off(learner(EveryBatch()), EveryBatch),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("how", ["record", "run", "twice"])
def test_what_is_recorded_is_what_was_called(name, how, tmp_path):
    """Events and handler calls in the file are, one for one and in order, those that an independent witness saw."""
    seed()
    learn = RUNS[name]()
    watch = Witness(learn)
    with watch():
        learn.fit(2)
    seed()
    learn = RUNS[name]()
    with attached(how, learn, tmp_path):
        learn.fit(2)
    for path in sorted(tmp_path.iterdir()):
        assert told(path) == watch.told
        report = reported(path)
        odd = [one.message for one in report.unexpected if one.message != "after_cancel_step fired inside a handler"]
        assert odd == []
        assert report.tracks[0].sum == report.wall


@contextlib.contextmanager
def attached(how: str, learn: Learner, folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if how == "run":
            stack.callback(Session(None, folder / "a.loop").start().stop)
        else:
            stack.enter_context(loopscope.record(learn, folder / "a.loop"))
        if how == "twice":
            stack.enter_context(loopscope.record(learn, folder / "b.loop"))
        yield


def test_the_two_can_differ(tmp_path):
    """A callback less, and the witness and the file no longer agree."""
    learn = learner(InTraining())
    watch = Witness(learn)
    with watch():
        learn.fit(1)
    learn = learner(InValidation())
    with loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(1)
    assert told(tmp_path / "a.loop") != watch.told


def test_who_chooses_whom_to_call_is_believed(tmp_path):
    """With a `_call_one` that leaves a callback out and calls another twice, exactly these calls are recorded."""
    learn = override(Chooses, InTraining(), InValidation(), EveryBatch())()
    learn.in_validation.after_pred = lambda: None
    with loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(1)
    path = tmp_path / "a.loop"
    assert calls_of(path, "InTraining") == []
    assert calls_of(path, "InValidation") == ["before_batch", "after_pred", "after_pred"] * 2 + ["after_epoch"]
    assert len(calls_of(path, "EveryBatch")) == 3 + 2 + 1


def test_a_handler_that_the_flags_skip_is_no_call(tmp_path):
    """`run`, `run_train`, `run_valid` and `training` decide as in fastai; outside the inner loop only `run` does."""
    learn = learner(InTraining(), InValidation(), Never())
    with loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(1)
        learn.fit(1)
    path = tmp_path / "a.loop"
    assert calls_of(path, "InTraining") == [*["before_batch"] * 3, "after_epoch"] * 2
    assert calls_of(path, "InValidation") == [*["before_batch"] * 2, "after_epoch"] * 2
    assert calls_of(path, "Never") == [*["before_batch"] * 5, "after_epoch"]  # fastai sets `run` back after a fit


def test_an_own_call_is_respected(tmp_path):
    """A callback with a `__call__` of its own is called at every event, and its handlers count as its own doing."""
    learn = learner(ByItself())
    with loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(1)
    assert calls_of(tmp_path / "a.loop", "ByItself") == events(tmp_path / "a.loop")


@pytest.mark.parametrize("where", ["model", "learner", "instance"])
def test_an_attribute_that_shadows_an_event_is_a_call_of_every_callback(where, tmp_path):
    """What model, learner class or learner have under an event's name is called by each callback without a handler."""
    ran = []

    class Has(Learner):
        def after_loss(self):
            ran.append(1)

    learn = learner(model=Shadowed()) if where == "model" else override(Has if where == "learner" else Learner)()
    if where == "instance":
        learn.after_loss = lambda: ran.append(1)
    with loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(1)
    called = [handler.partition("#")[0] for event, handler in told(tmp_path / "a.loop") if event == "after_loss"]
    # TrainEvalCallback takes no part in validation
    training = ["", "TrainEvalCallback", "CastToTensor", "Recorder", "ProgressCallback"]
    assert len(called) == 3 * 5 + 2 * 4
    assert set(called) == set(training)
    assert len(ran) == (0 if where == "model" else 3 * 4 + 2 * 3)


class Sets(Callback):
    """Puts a handler on an instance in the middle of a run, and takes it away again."""

    order = 60

    def after_batch(self):
        if self.train_iter == 1:
            self.learn.every_batch.after_pred = lambda: None
        elif self.train_iter == 3:
            del self.learn.every_batch.after_pred


def test_a_handler_put_on_an_instance_in_mid_run_is_recorded(tmp_path):
    """It counts from the moment when it is there to the moment when it is taken away."""
    learn = learner(EveryBatch(), Sets(), n_trn=5)
    with loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(1)
    assert calls_of(tmp_path / "a.loop", "EveryBatch").count("after_pred") == 2


class Late(Callback):
    order = 30

    def after_pred(self):
        pass

    def after_batch(self):
        pass


class Changes(Callback):
    """Adds, moves, replaces and removes callbacks in the middle of a batch."""

    order = 60

    def after_batch(self):
        doing = {1: self.add, 2: self.move, 3: self.replace, 4: self.remove}
        doing.get(self.train_iter, lambda: None)()

    def add(self):
        self.learn.add_cbs([Late(), Late()])

    def move(self):
        self.learn.cbs[-1].order = 90

    def replace(self):
        self.learn.cbs[-1] = Late()
        self.learn.cbs[-1].learn = self.learn

    def remove(self):
        self.learn.remove_cbs(self.learn.cbs[-2:])


@pytest.mark.parametrize("make", [learner, override(OwnCallOne), override(OwnCall)], ids=["stock", "one", "call"])
def test_callbacks_that_come_and_go_in_mid_run(make, tmp_path):
    """Callbacks that a handler adds, moves, replaces or removes are recorded as such: nothing is unexpected."""
    learn = make()
    learn.dls = learner(n_trn=7).dls
    learn.add_cb(Changes())
    with loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(1)
        learn.fit(1)
    report = reported(tmp_path / "a.loop")
    assert [one.message for one in report.unexpected] == []
    assert calls_of(tmp_path / "a.loop", "Late").count("after_pred") == 2 * 3 * 2
    assert any(line["k"] == "bound" for line in read(tmp_path / "a.loop").lines)


def test_it_says_that_nothing_was_unexpected(tmp_path):
    """`0 unexpected` is said of a run with a callback that cancels, one that skips, and one that is switched off."""
    path = tmp_path / "a.loop"
    learn = off(learner(cb.GradientAccumulation(32), cb.GradientClip(), Throws(), InTraining()), cb.GradientClip)
    with loopscope.record(learn, path) as rec:
        learn.fit(2)
    assert " placed, 0 unexpected" in str(rec)


# -- several recordings --------------------------------------------------------------------------------


def orders(count: int) -> list[tuple[int, ...]]:
    """Every order in which `count` recordings can be started (first 0, then 1, ...) and stopped."""
    steps = [*range(count), *range(count)]
    found = dict.fromkeys(itertools.permutations(steps))
    return [one for one in found if [one.index(n) for n in range(count)] == sorted(one.index(n) for n in range(count))]


ORDERS = [*orders(2), *orders(3)]
KINDS = {"stock": learner, "own _call_one": override(OwnCallOne), "own __call__": override(OwnCall)}


@pytest.mark.parametrize("make", [learner, override(OwnCallOne)], ids=["stock", "own _call_one"])
def test_recordings_start_and_stop_in_any_order(make, tmp_path):
    """Nested or overlapping, stopped in any order: each holds what ran while it was on, and nothing is left behind."""
    learn = make()
    before = vars(Learner)["_call_one"], vars(Learner)["fit"], vars(Callback)["__call__"]
    for number, order in enumerate(ORDERS):
        recordings: dict[int, Any] = {}
        on: set[int] = set()
        expected = dict.fromkeys(order, 0)
        for step in order:
            if step not in recordings:
                recordings[step] = loopscope.record(learn, tmp_path / f"{number}-{step}.loop")
                recordings[step].__enter__()
                on.add(step)
            else:
                recordings[step].__exit__(None, None, None)
                on.discard(step)
            learn.validate()
            for one in on:
                expected[one] += 1
        for step, runs in expected.items():
            report = reported(tmp_path / f"{number}-{step}.loop")
            assert (order, step, len(report.endings)) == (order, step, runs)
            assert report.unexpected_count == 0
            assert events(tmp_path / f"{number}-{step}.loop").count("before_validate") == runs
    assert (vars(Learner)["_call_one"], vars(Learner)["fit"], vars(Callback)["__call__"]) == before


class Switches(Callback):
    """Starts and stops recordings in its handler: one step at each of these training batches."""

    order = 70

    def __init__(self, order: tuple[int, ...], folder: Path) -> None:
        self.steps, self.folder = list(order), folder
        self.recordings: dict[int, Any] = {}
        self.fired: list[str] = []
        self.bounds: dict[int, list[int]] = {}

    def after_pred(self):
        if not self.training or not self.steps:
            return
        step = self.steps.pop(0)
        if step not in self.recordings:
            self.recordings[step] = loopscope.record(self.learn, self.folder / f"{step}.loop")
            self.recordings[step].__enter__()
        else:
            self.recordings[step].__exit__(None, None, None)
        self.bounds.setdefault(step, []).append(self.learn.counted)


class Counts(Learner):
    """Counts its events, by itself."""

    counted = 0


class CountsOne(Counts):
    def _call_one(self, event_name):
        self.counted += 1
        super()._call_one(event_name)


class CountsCall(Counts):
    def __call__(self, event_name):
        self.counted += 1
        super().__call__(event_name)


class CountsFirst(Callback):
    """Counts the events before anybody else, as a callback with a `__call__` of its own."""

    order = -100

    def __call__(self, event_name):
        self.learn.counted += 1


@pytest.mark.parametrize("cls", [Counts, CountsOne, CountsCall])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_recordings_start_and_stop_inside_of_handlers(cls, order, tmp_path):
    """A handler may start and stop recordings of its own learner in any order: each holds the events in between."""
    before = vars(Learner)["_call_one"], vars(cls).get("_call_one"), vars(cls).get("__call__")
    switches = Switches(order, tmp_path)
    learn = override(cls, switches, *([CountsFirst()] if cls is Counts else []))()
    learn.dls = learner(n_trn=7).dls
    learn.counted = 0
    learn.fit(1)
    assert switches.steps == []
    for step, (begin, end) in switches.bounds.items():
        found = events(tmp_path / f"{step}.loop")
        assert (step, len(found)) == (step, end - begin)
        assert found[0] == "after_loss"
        assert found[-1] == "after_pred"
    assert (vars(Learner)["_call_one"], vars(cls).get("_call_one"), vars(cls).get("__call__")) == before


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_learner_is_recorded_twice(make, tmp_path):
    """Two recordings of every learner, one begun between two fits, hold each learner once, with what came after."""
    first = Session(None, tmp_path / "a.loop").start()
    learn = make()
    learn.fit(1)
    second = Session(None, tmp_path / "b.loop").start()
    learn.fit(1)
    other = make()
    other.fit(1)
    first.stop()
    learn.fit(1)
    second.stop()
    assert [reported(tmp_path / name).unexpected_count for name in ("a.loop", "b.loop")] == [0, 0]
    assert [len(reported(tmp_path / name).endings) for name in ("a.loop", "b.loop")] == [3, 3]
    assert events(tmp_path / "a.loop", 1) == events(tmp_path / "b.loop", 1)
    later = [[told(tmp_path / name, number) for number in (2, 3, 4)] for name in ("a.loop", "b.loop")]
    assert later[0] == later[1]
    assert len(later[0][0] + later[0][1]) > 40
    assert later[0][2] == []


def test_two_learners_in_one_file_and_in_two(tmp_path):
    """Two learners of one program are told apart, in one file or each in its own; one may train inside the other."""

    class Trains(Callback):
        def after_epoch(self):
            second.fit(1)

    first, second = learner(Trains(), n_trn=2), learner(n_trn=4, n_val=1)
    session = Session(None, tmp_path / "both.loop").start()
    with loopscope.record(first, tmp_path / "1.loop"), loopscope.record(second, tmp_path / "2.loop"):
        first.fit(2)
    session.stop()
    reports = {name: reported(tmp_path / f"{name}.loop") for name in ("both", "1", "2")}
    assert [report.unexpected_count for report in reports.values()] == [0, 0, 0]
    assert told(tmp_path / "both.loop", 1) == told(tmp_path / "1.loop")
    assert told(tmp_path / "both.loop", 2) == told(tmp_path / "2.loop")
    assert reports["both"].events == reports["1"].events + reports["2"].events
    assert events(tmp_path / "2.loop").count("before_fit") == 2


@pytest.mark.parametrize("make", [learner, override(OwnCallOne)], ids=["stock", "own _call_one"])
def test_two_threads_train_at_once(make, tmp_path):
    """Two learners that train in two threads at the same time are placed each by itself, in one file and in two."""
    first, second = make(), make()
    for one in (first, second):
        one.remove_cb(cb.ProgressCallback)
        one.logger = lambda _: None
        one.dls = learner(n_trn=30, n_val=10).dls
    barrier = threading.Barrier(2)
    failed: list[BaseException] = []

    def train(learn: Learner) -> None:
        try:
            barrier.wait()
            learn.fit(3)
        except BaseException as error:
            failed.append(error)

    session = Session(None, tmp_path / "both.loop").start()
    with loopscope.record(first, tmp_path / "1.loop"), loopscope.record(second, tmp_path / "2.loop"):
        threads = [threading.Thread(target=train, args=(one,)) for one in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    session.stop()
    assert failed == []
    for name in ("both", "1", "2"):
        report = reported(tmp_path / f"{name}.loop")
        assert (name, report.unexpected_count, [one.how for one in report.endings]) == (
            name,
            0,
            ["finished"] * (2 if name == "both" else 1),
        )
        assert all(track.sum == report.wall for track in report.tracks)
    learn = make()
    learn.remove_cb(cb.ProgressCallback)
    learn.logger = lambda _: None
    learn.dls = learner(n_trn=30, n_val=10).dls
    with loopscope.record(learn, tmp_path / "alone.loop"):
        learn.fit(3)
    assert told(tmp_path / "1.loop") == told(tmp_path / "2.loop") == told(tmp_path / "alone.loop")
    assert sorted([told(tmp_path / "both.loop", 1), told(tmp_path / "both.loop", 2)]) == [told(tmp_path / "1.loop")] * 2


# -- forks ---------------------------------------------------------------------------------------------


class Forks(Callback):
    """Forks in a handler, and lets the child train on."""

    order = 55

    def after_batch(self):
        if self.training and self.iter == 1:
            self.learn.pid = os.fork()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("how", ["record", "run", "twice"])
def test_a_forked_child_never_writes(make, how, tmp_path, capfd):
    """A child forked in a handler trains on to its end and stops its recording: it leaves no trace in the file."""
    learn = make()
    learn.remove_cb(cb.ProgressCallback)
    learn.logger = lambda _: None
    learn.add_cb(Forks())
    parent = os.getpid()
    try:
        with attached(how, learn, tmp_path):
            learn.fit(1)
            if learn.pid == 0:
                learn.fit(3)
    finally:
        if os.getpid() != parent:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(learn.pid, 0)[1]) == 0
    for path in sorted(tmp_path.iterdir()):
        report = reported(path)
        assert (report.state, report.unexpected_count, report.losses) == ("closed", 0, ())
        assert events(path).count("before_fit") == 1
        assert [one.how for one in report.endings] == ["finished"]
    assert "loopscope" not in "".join(capfd.readouterr())


def test_a_child_may_record_by_itself(tmp_path):
    """A forked child that starts a recording of its own gets a file of its own, whole."""
    learn = learner()
    learn.remove_cb(cb.ProgressCallback)
    learn.logger = lambda _: None
    with loopscope.record(learn, tmp_path / "parent.loop"):
        learn.fit(1)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                with loopscope.record(learn, tmp_path / "child.loop"):
                    learn.fit(2)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        learn.fit(1)
    assert events(tmp_path / "parent.loop").count("before_fit") == 2
    assert reported(tmp_path / "parent.loop").unexpected_count == 0
    assert events(tmp_path / "child.loop").count("before_epoch") == 2
    assert reported(tmp_path / "child.loop").unexpected_count == 0


# -- another fastai ------------------------------------------------------------------------------------

CHANGED = {
    "another loop": "does not end with a loop over self.cbs.sorted('order')",
    "more in the loop": "does not end with a loop over self.cbs.sorted('order')",
    "other arguments": "does not just call each callback",
    "another rule": "Callback.__call__ calls a handler under other conditions",
    "no reset": "Callback.__call__ does not set run back after a fit",
    "past _call_one": "where two callbacks were due",
}


def test_a_fastai_of_another_shape_is_refused(tmp_path):
    """Attaching names the version and what differs, leaves no file, and fastai's classes as they were."""
    done = process("record_changed.py", *CHANGED, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, 2 * len(CHANGED)), done
    for (what, missing), line, left in zip(CHANGED.items(), lines[::2], lines[1::2], strict=True):
        assert line.startswith(f"{what}: fastai ")
        assert " cannot be recorded: " in line
        assert missing in line
        assert left == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["_call_one", "__call__"])
def test_a_patched_dispatch_is_refused(name, tmp_path, monkeypatch):
    """Where somebody else has put a function of their own in the dispatch's place, attaching says so; theirs stays."""
    cls = Learner if name == "_call_one" else Callback
    theirs = vars(cls)[name]

    def patch(self, event_name):
        return theirs(self, event_name)

    learn = learner()
    monkeypatch.setattr(cls, name, patch)
    with pytest.raises(UnknownVersion, match=rf"fastai .*{cls.__name__}\.{name} was replaced by something else"):
        loopscope.record(learn, tmp_path / "a.loop").__enter__()
    assert vars(cls)[name] is patch
    assert list(tmp_path.iterdir()) == []


def test_a_patch_that_comes_while_recording_stays(tmp_path, monkeypatch):
    """A function that somebody puts in the dispatch's place during a recording is still there after it."""
    stock = vars(Learner)["_call_one"]
    learn = learner()
    seen = []
    with loopscope.record(learn, tmp_path / "a.loop"):
        ours = vars(Learner)["_call_one"]

        def patch(self, event_name):
            seen.append(event_name)
            return ours(self, event_name)

        monkeypatch.setattr(Learner, "_call_one", patch)
        learn.fit(1)
    assert vars(Learner)["_call_one"] is patch
    count = len(seen)
    learn.fit(1)
    assert len(seen) == 2 * count > 0
    monkeypatch.setattr(Learner, "_call_one", stock)


# -- where an exception left ---------------------------------------------------------------------------


def lines_of(capsys: Any) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("loopscope")]


class Raises(Callback):
    """Raises in the third training batch of the second epoch."""

    order = 55

    def __init__(self, error: BaseException, at: str = "after_batch") -> None:
        self.error = error
        setattr(self, at, self.throw)

    def throw(self) -> None:
        if self.epoch == 1 and self.iter == 2 and self.training:
            raise self.error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(2), CancelBatchException()])
@pytest.mark.parametrize("make", [learner, override(OwnCallOne), override(OwnCall)], ids=["stock", "one", "call"])
def test_one_line_says_where_an_exception_left(make, error, tmp_path, capsys):
    """Uncaught out of a recorded fit: one line with exception, call, callback, event, epoch, batch and the file."""
    learn = make()
    learn.add_cb(Raises(error))
    path = tmp_path / "a.loop"
    with pytest.raises(type(error)) as raised, loopscope.record(learn, path):
        learn.fit(2)
    assert raised.value is error
    assert lines_of(capsys) == [
        f"loopscope: {type(error).__name__} left learn.fit(2) at Raises.after_batch (event after_batch, epoch 1, "
        f"batch 2); the calls before it: loopscope report {path}"
    ]


def test_an_exception_from_outside_of_every_event(tmp_path, capsys):
    """What the model raises left at no callback: the line says so, with epoch and batch."""

    class Breaks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.zeros(1))
            self.count = 0

        def forward(self, x):
            self.count += 1
            if self.count == 8:
                raise RuntimeError("no")
            return x * self.a

    learn = learner(model=Breaks())
    with pytest.raises(RuntimeError), loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(2)
    (line,) = lines_of(capsys)
    assert "RuntimeError left learn.fit(2) outside of every event (epoch 1, batch 2); " in line


def test_an_error_after_others_that_were_caught(tmp_path, capsys):
    """Batches that were cancelled before do not lend their place to the exception that leaves."""

    class Own(Exception):
        pass

    class CancelsOften(Callback):
        order = 10

        def after_pred(self):
            if self.training and (self.epoch, self.iter) != (1, 2):
                raise CancelBatchException

    learn = learner(CancelsOften(), Raises(Own()))
    learn.raises.error = None

    def throw(self=learn.raises):
        if self.epoch == 1 and self.iter == 2 and self.training:
            raise Own("made when it is raised")

    learn.raises.after_batch = throw
    with pytest.raises(Own), loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(2)
    (line,) = lines_of(capsys)
    assert "Own left learn.fit(2) at Raises.after_batch (event after_batch, epoch 1, batch 2); " in line


def test_the_same_class_of_exception_again(tmp_path, capsys):
    """A cancelled batch in each batch, and one that escapes: the line names the last, not the first."""

    class Cancels(Callback):
        def after_pred(self):
            if self.training:
                raise CancelBatchException

        def after_batch(self):
            if (self.epoch, self.iter, self.training) == (1, 2, True):
                raise CancelBatchException

    learn = learner(Cancels())
    with pytest.raises(CancelBatchException), loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(2)
    (line,) = lines_of(capsys)
    assert "left learn.fit(2) at Cancels.after_batch (event after_batch, epoch 1, batch 2); " in line


def test_nothing_is_said_of_an_exception_that_is_caught(tmp_path, capsys):
    """Caught inside of the `with` block: no line; nor for another exception that leaves the block afterwards."""
    learn = learner(Raises(ValueError("x")))
    with loopscope.record(learn, tmp_path / "a.loop"), contextlib.suppress(ValueError):
        learn.fit(2)
    assert lines_of(capsys) == []
    learn = learner(At("after_pred", ValueError))
    with pytest.raises(ValueError, match="unrelated"), loopscope.record(learn, tmp_path / "b.loop"):
        fails_otherwise(learn)
    assert lines_of(capsys) == []
    assert [one.how for one in reported(tmp_path / "b.loop").endings] == ["raised"]


def fails_otherwise(learn: Learner) -> None:
    with contextlib.suppress(ValueError):
        learn.fit(2)
    raise ValueError("unrelated")


def test_an_inner_run_that_fails(tmp_path, capsys):
    """An error in a validation that a handler runs left at the innermost handler; there is still one line."""
    learn = learner(Nested(), At("after_validate", LookupError))
    with pytest.raises(LookupError), loopscope.record(learn, tmp_path / "a.loop"):
        learn.fit(2)
    (line,) = lines_of(capsys)
    assert "LookupError left learn.fit(2) at At.after_validate (event after_validate, epoch 0" in line


def test_two_recordings_say_it_each_for_its_file(tmp_path, capsys):
    """Recorded twice, an exception that leaves both is told once for each file, innermost first."""
    learn = learner(Raises(ValueError("x")))
    with (
        pytest.raises(ValueError, match="x"),
        loopscope.record(learn, tmp_path / "a.loop"),
        loopscope.record(learn, tmp_path / "b.loop"),
    ):
        learn.fit(2)
    assert [line.rpartition("/")[2] for line in lines_of(capsys)] == ["b.loop", "a.loop"]


def test_a_closed_stderr_is_no_obstacle(tmp_path, monkeypatch):
    """With no stderr at all, or one that is closed, the exception leaves as it is."""
    for stderr in (None, (SCRIPTS / "record_train.py").open()):
        learn = learner(Raises(ValueError("x")))
        if stderr is not None:
            stderr.close()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            with pytest.raises(ValueError, match="x"), loopscope.record(learn, tmp_path / f"{id(stderr)}.loop"):
                learn.fit(2)


# -- as python runs it ---------------------------------------------------------------------------------


def process(script: str, *arguments: str, loop: Path | None = None, cwd: Path | None = None) -> Any:
    """Run a script as it is, or recorded into `loop`."""
    return ended(start(script, *arguments, loop=loop, cwd=cwd))


def ended(started: subprocess.Popen[str]) -> Any:
    out, err = started.communicate(timeout=300)
    return subprocess.CompletedProcess(started.args, started.returncode, out, err)


def start(script: str, *arguments: str, loop: Path | None = None, cwd: Path | None = None) -> subprocess.Popen[str]:
    recorded = [] if loop is None else ["-m", "loopscope", "run", "-q", "-o", str(loop)]
    return subprocess.Popen(
        [sys.executable, *recorded, str(SCRIPTS / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd or SCRIPTS,
        env=ENVIRONMENT,
    )


ENDS = {
    "exits": (3, "SystemExit left learn.fit(2) at Ends.after_batch (event after_batch, epoch 1, batch 2)"),
    "raises": (1, "ValueError left learn.fit(2) at Ends.after_batch (event after_batch, epoch 1, batch 2)"),
    "interrupted": (
        -2,
        "KeyboardInterrupt left learn.fit(2) at Ends.after_batch (event after_batch, epoch 1, batch 2)",
    ),
    "leaves": (4, None),
    "forks": (0, "recorded in"),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any, Path]]:
    """What `record_train.py` did for each way to end, as python runs it and recorded: run once, two at a time."""
    folder = tmp_path_factory.mktemp("both")
    done: dict[str, tuple[Any, Any, Path]] = {}

    def run(way: str) -> tuple[Any, Any, Path]:
        if way not in done:
            pair = start("record_train.py", way), start("record_train.py", way, loop=folder / way)
            done[way] = ended(pair[0]), ended(pair[1]), folder / way
        return done[way]

    return run


@pytest.mark.parametrize("way", ENDS)
def test_a_program_ends_as_it_does_without_recording(way, both):
    """The same output, exit status and traceback; on stderr one line more, behind all that python says."""
    plain, recorded, loop = both(way)
    status, said = ENDS[way]
    assert plain.returncode == recorded.returncode == status
    assert plain.stdout == recorded.stdout
    lines = recorded.stderr.splitlines(keepends=True)
    ours = [line for line in lines if line.startswith("loopscope:")]
    assert "".join(line for line in lines if line not in ours) == plain.stderr
    if said is None:
        assert ours == []
    else:
        assert len(ours) == 1
        assert lines[-1] == ours[0]
        assert said in ours[0]
        assert str(loop) in ours[0]


@pytest.mark.parametrize(
    ("way", "state", "how"),
    [
        ("exits", "closed", "raised"),
        ("raises", "closed", "raised"),
        ("interrupted", "closed", "interrupted"),
        ("leaves", "killed", "killed"),
        ("forks", "closed", "finished"),
    ],
)
def test_its_recording_says_how_it_ended(way, state, how, both):
    """The file that such a program leaves behind is whole, placed, and says how the run ended and where."""
    report = reported(both(way)[2])
    assert (report.state, report.unexpected_count) == (state, 0)
    assert [one.how for one in report.endings] == [how]
    (ending,) = report.endings
    if how != "finished":
        at = ending.at
        assert (at.epoch, at.batch, at.event, at.handler) == (1, 2, "after_batch", "Ends.after_batch")
    if how == "killed":
        assert [(one.event, one.handler) for one in ending.open][-1] == ("after_batch", "Ends.after_batch")


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [None, 7, "learn", Learner, torch.nn.Linear(1, 1), object()], ids=lambda one: type(one).__name__
)
def test_what_is_no_learner(given, tmp_path):
    """An object that is no learner, or a class, is refused with what it is, before there is a file."""
    with pytest.raises(UnknownObject, match="is no learner, trainer, model or engine that loopscope knows"):
        loopscope.record(given, tmp_path / "a.loop").__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trained() -> Learner:
    return learner()


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        ("missing/a.loop", BadPath, "mkdir -p"),
        ("", BadPath, "is a folder|names no file"),
        (".", BadPath, "is a folder"),
        ("there.loop", BadPath, "exists already.*force=True"),
        ("there.loop/a.loop", BadPath, "is not a folder"),
        (None, BadPath, "is no path"),
        (7, BadPath, "is no path|exists|is a folder"),
        ("nul\0.loop", BadPath, "is no path"),
    ],
)
def test_a_path_that_cannot_be_written(path, error, said, trained, tmp_path, monkeypatch):
    """A missing folder, a folder, a file that is there: said before anything is attached, and nothing is touched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.loop").write_text("kept")
    before = dict(vars(Learner))
    with pytest.raises(error, match=said):
        loopscope.record(trained, path).__enter__()  # type: ignore[arg-type]
    assert dict(vars(Learner)) == before
    assert [one.name for one in tmp_path.iterdir()] == ["there.loop"]
    assert (tmp_path / "there.loop").read_text() == "kept"


def test_force_overwrites(trained, tmp_path):
    """With `force=True` a file that is there is replaced."""
    (tmp_path / "a.loop").write_text("old")
    with loopscope.record(trained, tmp_path / "a.loop", force=True):
        trained.validate()
    assert reported(tmp_path / "a.loop").unexpected_count == 0


def test_a_limit_that_is_too_small(trained, tmp_path):
    """A limit below what any recording needs is refused, with the least that is accepted."""
    with pytest.raises(LoopscopeError, match=r"limit=10 bytes is too small. Give at least \d+"):
        loopscope.record(trained, tmp_path / "a.loop", limit=10).__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_path_that_is_being_recorded(force, trained, tmp_path):
    """A file that a recording of this process writes is refused, with and without force, and stays whole."""
    path = tmp_path / "a.loop"
    with loopscope.record(trained, path):
        with pytest.raises(BusyRecording, match=f"being written by pid {os.getpid()}"):
            loopscope.record(trained, path, force=force).__enter__()
        trained.validate()
    assert (reported(path).state, reported(path).unexpected_count) == ("closed", 0)


def test_a_path_that_another_process_records(trained, tmp_path):
    """A file that another process writes is refused too, and names that process."""
    path = tmp_path / "a.loop"
    with loopscope.record(trained, path):
        done = process("record_train.py", "finishes", loop=path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"is being written by pid {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_recording_is_used_once(trained, tmp_path):
    """Entering a recording again is refused, with what to type instead."""
    rec = loopscope.record(trained, tmp_path / "a.loop")
    with rec:
        trained.validate()
    with pytest.raises(LoopscopeError, match="is recorded already"), rec:
        pass


def test_asked_before_it_was_made(trained, tmp_path):
    """A recording that was never started says that there is no file."""
    with pytest.raises(LoopscopeError, match="there is no file"):
        str(loopscope.record(trained, tmp_path / "a.loop"))


def test_a_full_size_limit_stops_the_recording_and_not_the_training(tmp_path, capsys):
    """At the limit there is one warning, the training goes on to its end, and the file says what it lacks."""
    learn = learner(n_trn=60, n_val=20)
    stock = vars(Learner)["_call_one"]
    with loopscope.record(learn, tmp_path / "a.loop", limit=340_000):
        learn.fit(20)
        assert vars(Learner)["_call_one"] is stock
    assert learn.epoch == 19
    (line,) = lines_of(capsys)
    assert "stopped: size limit" in line
    report = reported(tmp_path / "a.loop")
    assert report.unexpected_count == 0
    assert len(report.losses) == 1
    assert [one.how for one in report.endings] == ["detached"]
