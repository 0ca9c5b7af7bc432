"""Recording Keras: it changes nothing, what a pool of threads calls stays there, and every call has its name."""

from __future__ import annotations

import collections
import contextlib
import copy
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = [need("keras"), pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
os.environ.setdefault("KERAS_BACKEND", "torch")

from keras.callbacks import Callback, CallbackList, EarlyStopping
from keras.src.utils import is_default

import loopscope
from loopscope.adapters import keras as adapter
from loopscope.adapters.keras.dispatch import DISPATCH, POINTS
from loopscope.errors import UnknownVersion
from loopscope.placing import place
from loopscope.recording import read
from loopscope.report import Report
from loopscope.session import Session, where
from loopscope.timing import reported
from tests.adapters.cases import keras as cases
from tests.adapters.cases.keras import Counts, Old, Safe, X, Y, model
from tests.told import apart, sums, told

FIT = {"x": X, "y": Y, "batch_size": 4, "verbose": 0}
SCRIPT = Path(__file__).parent / "scripts" / "keras_train.py"


@contextlib.contextmanager
def every_model(path: Path) -> Iterator[Session]:
    """Record as `loopscope run` does: every model of the program."""
    session = Session(None, path).start()
    try:
        yield session
    finally:
        session.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.loop"


def placed(path: Path, *unexpected: str) -> tuple[list[str], Report]:
    """The calls of a recording as `event: handlers`, and its report, in which all others must have a place."""
    found = place(read(path))
    report = reported(found)
    assert [one.message for one in report.unexpected] == list(unexpected)
    assert sums(report) == []
    lines = [f"{one.event}: {' '.join(call.handler for call in one.calls)}" for one in told(found) if one.calls]
    return lines, report


# -- it changes nothing ------------------------------------------------------------------------------------


def test_nothing_stays_in_place(path):
    """While it records, the methods of CallbackList are others; afterwards they are Keras's own. No hook is touched."""
    hooks = dict(vars(Callback))
    before = {point.name: vars(CallbackList)[point.name] for point in POINTS}
    one = model()
    with loopscope.record(one, path):
        during = {point.name: vars(CallbackList)[point.name] for point in POINTS}
        assert not any(during[name] is before[name] for name in before)
        assert dict(vars(Callback)) == hooks
        assert is_default(Callback().on_train_batch_end)
        one.fit(**FIT)
    assert {point.name: vars(CallbackList)[point.name] for point in POINTS} == before


def test_a_model_is_not_touched(path):
    """Nothing is put on the model, its layers or its class, and no hooks of torch are registered."""
    one = model()
    one.fit(**FIT)

    def looked() -> list[Any]:
        modules = [(sorted(vars(part)), len(part._forward_hooks), len(part._backward_hooks)) for part in one.modules()]
        return [modules, sorted(vars(type(one))), one.train_function]

    before = looked()
    with loopscope.record(one, path):
        assert looked()[0] == before[0]
        one.fit(**FIT, callbacks=[Counts()])
        assert looked()[0] == before[0]
    assert looked() == before


class Copies(Callback):
    """Pickles and copies the model while it is trained."""

    def on_epoch_end(self, epoch, logs=None):
        self.pickled = pickle.dumps(self.model)
        self.copied = copy.deepcopy(self.model)


def test_a_model_is_pickled_and_copied_meanwhile(path):
    """What comes out of a recorded run is a model like any other, which is trained on its own."""
    one, copies = model(), Copies()
    with loopscope.record(one, path):
        one.fit(**FIT, callbacks=[copies])
        weights = one.get_weights()
        for other in (pickle.loads(copies.pickled), copies.copied):
            assert all((a == b).all() for a, b in zip(other.get_weights(), weights, strict=True))
            other.fit(**FIT)
    assert placed(path)[1].events == 8
    pickle.loads(pickle.dumps(one))


class Threads(Callback):
    """Notes in which thread it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def on_train_batch_end(self, batch, logs=None):
        self.names.add(threading.current_thread().name)


class SafeThreads(Threads):
    async_safe = True


@pytest.mark.parametrize("how", ["record", "run"])
@pytest.mark.parametrize(("cls", "thread"), [(Threads, "MainThread"), (SafeThreads, "ThreadPoolExecutor")])
def test_what_the_pool_calls_stays_there(cls, thread, how, path):
    """A callback that is safe for threads is called by the pool, recorded or not; another one by the main thread."""
    one, callback = model(), cls()
    with loopscope.record(one, path) if how == "record" else every_model(path):
        one.fit(**FIT, callbacks=[callback], epochs=2)
    assert {name.partition("-")[0] for name in callback.names} == {thread}
    found = place(read(path))
    report = reported(found)
    assert [one.message for one in report.unexpected] == []
    calls = [call.handler for fired in [*told(found), *apart(found)] for call in fired.calls if "batch" in fired.event]
    assert calls == [f"{cls.__name__}#1"] * 4
    assert len(report.tracks) == (1 if cls is Threads else len({lane.number for lane, _ in found.lanes}))


def test_an_exception_of_the_pool_is_the_same(path):
    """It surfaces where Keras meets it, as the very object that the handler raised, and the row of the call has it."""
    one = model()
    with pytest.raises(ValueError, match="on purpose") as caught, loopscope.record(one, path):
        one.fit(**{**FIT, "batch_size": 8}, callbacks=[cases.PoolThrows()])
    assert type(caught.value) is ValueError
    found = place(read(path))
    assert [(one.event, [call.raised for call in one.calls]) for one in apart(found)] == [
        ("on_train_batch_end", ["ValueError"])
    ]
    assert reported(found).endings[-1].how == "raised"
    assert [one.message for one in reported(found).unexpected] == []


# -- everything has its name -------------------------------------------------------------------------------


class Leaves(Callback):
    """Takes itself out of the list that calls it: the one behind it is then passed over, once."""

    held: Any = None

    def on_epoch_begin(self, epoch, logs=None):
        self.held.callbacks.remove(self)


class Brings(Callback):
    """Puts another callback into the list that calls it."""

    held: Any = None

    def on_epoch_begin(self, epoch, logs=None):
        if len(self.held.callbacks) == 3:
            self.held.callbacks.append(Old())


def listed(one: Any, *callbacks: Any) -> Any:
    held = CallbackList(list(callbacks), add_history=True, model=one)
    for callback in callbacks:
        callback.held = held
    return held


@pytest.mark.parametrize("twice", [False, True])
def test_callbacks_that_leave_and_come_keep_their_names(twice, path):
    """Who is called from then on is written down, under the names that the others had; the calls are as without it."""

    def calls(record: bool) -> list[int]:
        one = model()
        callbacks = [Leaves(), Counts(), Brings()]
        with contextlib.ExitStack() as stack:
            for number in range(record + (record and twice)):
                stack.enter_context(loopscope.record(one, path.with_suffix(f".{number}")))
            one.fit(**FIT, epochs=2, callbacks=listed(one, *callbacks))
        return [callbacks[1].counted]

    assert calls(False) == calls(True)
    for number in range(1 + twice):
        lines, _ = placed(path.with_suffix(f".{number}"), "on_epoch_begin: expected Counts#2, but Brings#3 was called")
        assert [line for line in lines if line.startswith("on_epoch_begin")] == [
            "on_epoch_begin: Leaves#1 Brings#3",
            "on_epoch_begin: Counts#2 Brings#3",
        ]
        assert lines[-3:] == [
            "on_train_batch_end: Counts#2 Old#5",
            "on_epoch_end: Counts#2 History#4",
            "on_train_end: Counts#2",
        ]


def test_a_callback_that_stands_there_twice_has_one_name(path):
    """It is called twice, and is one callback."""
    one, twice = model(), Old()
    loop = adapter.describe(one, "fit", arguments={**FIT, "callbacks": [twice, twice]})
    assert [handler.id for handler in loop.binding.at("on_train_batch_end")] == ["Old#1", "Old#1"]
    with loopscope.record(one, path):
        one.fit(**FIT, callbacks=[twice, twice])
    assert placed(path)[0].count("on_train_batch_end: Old#1 Old#1") == 2


class Shares(Callback):
    """Evaluates with a callback of the training, which stands elsewhere in that list."""

    def __init__(self, other: Any) -> None:
        super().__init__()
        self.other = other

    def on_epoch_end(self, epoch, logs=None):
        self.model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[self.other])


def test_a_callback_in_two_runs_has_the_name_of_each(path):
    """Numbers are places in a list: the second of the training is the first of an evaluation inside of it."""
    one, other = model(), Counts()
    with loopscope.record(one, path):
        one.fit(**FIT, epochs=2, callbacks=[Shares(other), other], validation_data=(X, Y))
    found = place(read(path))
    assert [one.message for one in reported(found).unexpected] == []
    ends = [fired for fired in told(found) if fired.event == "on_epoch_end"]
    for fired in ends:
        assert [call.handler for call in fired.calls] == ["Shares#1", "Counts#2", "History#3"]
        inner = {call.handler for event in fired.calls[0].inner for call in event.calls}
        assert inner == {"Counts#1"}


def test_a_list_that_does_not_know_its_model_is_recorded(path):
    """CallbackList([...]) without a model: the fit that calls it tells whose it is, for the pool's threads as well."""
    one = model()
    one.fit(**FIT)
    with every_model(path):
        one.fit(**FIT, callbacks=CallbackList([Safe()]))
    found = place(read(path))
    assert [one.message for one in reported(found).unexpected] == []
    assert {call.handler for fired in told(found) for call in fired.calls} == {"Safe#1"}
    assert [fired.event for fired in apart(found)] == ["on_train_batch_end"] * 2


def test_two_models_at_once_are_told_apart(path):
    """A handler of one model trains another one: both are recorded, each by itself."""
    inner = model()

    class TrainsAnother(Callback):
        def on_epoch_end(self, epoch, logs=None):
            inner.fit(**FIT, callbacks=[Counts()])

    outer = model()
    with every_model(path):
        outer.fit(**FIT, callbacks=[TrainsAnother(), Counts()])
    _, report = placed(path)
    assert len({block.run["object"] for block in place(read(path)).blocks() if block.run is not None}) == 2
    assert (report.events, report.calls) == (2 * 8, (1 + 8 + 2) + (8 + 2))


def test_only_the_model_that_was_given_is_recorded(path):
    """`record(model)` leaves others alone."""
    one, other = model(), model()
    with loopscope.record(one, path):
        other.fit(**FIT, callbacks=[Counts()])
    assert reported(place(read(path))).events == 0


def test_where_an_exception_left_is_told(path):
    """The one line on stderr names the handler, the event, the epoch and the batch, from Keras's own counting."""
    one = model()
    throws = cases.Throws("on_train_batch_begin", ValueError)
    throws.on_train_batch_begin = lambda batch, logs=None: throws.throw() if batch == 1 else None
    with every_model(path) as session:
        with pytest.raises(ValueError, match="on purpose") as caught:
            one.fit(**FIT, epochs=3, initial_epoch=1, callbacks=[throws])
        left = session.left_by(caught.value)
    assert left is not None
    assert where(left, "run.loop") == (
        "loopscope: ValueError left model.fit(x, y, batch_size=4, epochs=3, verbose=0, initial_epoch=1, "
        "callbacks=[...]) at Throws.on_train_batch_begin (event on_train_batch_begin, epoch 1, batch 1); "
        "the calls before it: loopscope report run.loop"
    )


def test_the_report_tells_data_from_the_rest(path):
    """Drawing a batch, the step, and handing over to the pool have rows of their own; so have the pool's threads."""
    one = model()
    with loopscope.record(one, path):
        one.fit(**FIT, epochs=2, validation_data=(X, Y), callbacks=[EarlyStopping()])
    _, report = placed(path)
    names = collections.Counter()
    for _, line in report.tracks[0].root.walk():
        names[line.name] += line.stats.count
    assert (names["data"], names["hand over"]) == (8, 8)
    assert names["on_train_batch_begin → on_train_batch_end handed over"] == 4
    assert all("on_train_batch_end" not in line.name or line.stats.count for _, line in report.tracks[1].root.walk())


# -- versions ----------------------------------------------------------------------------------------------


def test_another_shape_is_refused(monkeypatch, path):
    """Where CallbackList is not what it was, recording says so before anything is put in place."""
    monkeypatch.setattr(CallbackList, "on_epoch_end", lambda self, epoch, logs=None: None)
    with pytest.raises(UnknownVersion, match=r"keras 3.*CallbackList\.on_epoch_end was replaced since it was imported"):
        loopscope.record(model(), path).__enter__()
    assert not DISPATCH.watched


def test_what_recording_costs_is_measured():
    """`calibrate` measures on objects of its own."""
    cost = adapter.calibrate()
    assert {"per_event", "per_call", "clock"} <= set(cost)
    assert 0 < cost["dispatch"] < 1e6
    assert 0 < cost["framework_dispatch"] < 1e6
    assert not DISPATCH.watched


# -- an unchanged script -----------------------------------------------------------------------------------


def command(*args: object, cwd: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "loopscope", *map(str, args)],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "110"},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_script_is_shown(tmp_path):
    """`loopscope show` stops at the first fit and shows its loop, with nothing trained."""
    status, out, err = command("show", SCRIPT, cwd=tmp_path)
    assert status == 0, err
    assert "model.fit(x, y, batch_size=8, epochs=3, verbose=2, validation_split=0.25, callbacks=[...])" in out
    assert re.search(r"epoch × 1–3\n.*· reset metrics", out)
    assert "on_epoch_end    EarlyStopping [2] → Checks [3] → History → ProgbarLogger" in out
    assert "predictions" not in out


@pytest.mark.slow
def test_a_script_is_recorded(tmp_path):
    """`loopscope run` records fit, evaluate and predict of an unchanged script, which prints what it always does."""
    status, out, err = command("run", "-o", "run.loop", SCRIPT, cwd=tmp_path)
    assert status == 0, err
    assert "6 predictions" in out
    assert "Epoch 3/3" in out
    found = place(read(tmp_path / "run.loop"))
    report = reported(found)
    assert [one.message for one in report.unexpected] == []
    assert [block.run["method"] for block in found.blocks() if block.run is not None and block.parent is None] == [
        *("fit", "evaluate", "predict")
    ]
    assert sums(report) == []
