"""Recording changes nothing: real fastai runs with and without it end in the same bits, calls, errors and objects."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import itertools
import multiprocessing
import pickle
import random
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.all as cb
import fastai.callback.core as core
import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner, load_learner

import loopscope
from loopscope.recording import read
from loopscope.session import Session
from tests.adapters.cases.fastai import CASES, At, Case, Silent, learner, override, tabular
from tests.adapters.cases.fastai_watch import CALLBACK_CALL, NOT_HANDLERS

OURS = str(Path(loopscope.__file__).parent)
RECORDED = pytest.mark.parametrize("how", ["record", "run"])
"""`record(learn, path)` records one object; `run` is what `loopscope run` does: every learner of the program."""


@contextlib.contextmanager
def recording(how: str, learn: Learner, path: Path) -> Iterator[None]:
    """Record as `how` says: not at all, this learner, this learner twice at once, or every one of the process."""
    if how == "not":
        yield
    elif how == "record":
        with loopscope.record(learn, path):
            yield
    elif how == "twice":
        with loopscope.record(learn, path), loopscope.record(learn, path.with_suffix(".second")):
            yield
    else:
        session = Session(None, path).start()
        try:
            yield
        finally:
            session.stop()


# -- what is compared ----------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to the last bit, of the same types all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and bool(same_bits(one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one.hex() == other.hex()
    return bool(one == other)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """`torch.equal`, where NaN equals NaN: a run that diverges must diverge in the same bits."""
    return torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)) and torch.equal(one.isnan(), other.isnan())


def test_the_comparison_can_fail():
    """One bit of one weight, the type of a number, an order of keys, or a state of a generator is a difference."""
    weights = {"a": torch.tensor([1.0, float("nan")]), "b": [1.0, (2, None)]}
    changed = torch.tensor([1.0000001, float("nan")])
    assert same(weights, copy.deepcopy(weights))
    assert not same(weights, {**weights, "a": changed})
    assert not same(weights, dict(reversed(weights.items())))
    assert not same(weights, {**weights, "b": [1, (2, None)]})
    assert not same({"a": weights["a"].double()}, {"a": weights["a"]})
    before = generators()
    torch.rand(1)
    assert not same(before, generators())


def generators() -> dict[str, Any]:
    return {"random": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}


def seed() -> None:
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)


def outcome_of(learn: Learner) -> dict[str, Any]:
    """All that training leaves behind, the clock's column of the log apart."""
    recorder = next((one for one in learn.cbs if type(one).__name__ == "Recorder"), None)
    names = ("values", "losses", "lrs", "iters")
    return {
        "weights": {name: value.clone() for name, value in learn.model.state_dict().items()},
        "optimizer": copy.deepcopy(learn.opt.state_dict()) if learn.opt is not None else None,
        "hypers": copy.deepcopy(learn.opt.hypers) if learn.opt is not None else None,
        "recorder": {name: listed(getattr(recorder, name, None)) for name in names},
        "learner": sorted(learn.__dict__),
        "callbacks": [(type(one).__name__, attributes_of(one)) for one in learn.cbs],
        "generators": generators(),
    }


def attributes_of(one: Callback) -> dict[str, Any]:
    """Return the attributes that can be compared; of any other, and of a moment, only that it is there."""
    known = int, float, str, torch.Tensor, type(None)
    return {
        key: value if isinstance(value, known) and key != "start_epoch" else type(value).__name__
        for key, value in one.__dict__.items()
    }


def listed(values: Any) -> Any:
    return [listed(one) for one in values] if isinstance(values, (list, tuple)) or hasattr(values, "items") else values


DISPATCH = {Learner._call_one.__code__.co_filename, CALLBACK_CALL.co_filename}


@dataclass
class Witness:
    """Events and handler calls as they are really made, by `sys.settrace`: whatever stands in for fastai's dispatch.

    `told` has (event, "") for a frame named `_call_one`, and (event, "Class#n") for what is called by a frame of
    `Callback.__call__`, or for a `__call__` of a callback's own; `ran` says which code that was.
    """

    learn: Learner
    told: list[tuple[str, str]] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.learn.cbs:
            self.label(one)

    def label(self, one: Callback) -> str:
        number = next((n for n, other in enumerate(self.learn.cbs, 1) if other is one), 0)
        return self.labels.setdefault(id(one), f"{type(one).__name__}#{number}")

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(before)

    def trace(self, frame: FrameType, kind: str, arg: object) -> None:
        code, caller = frame.f_code, theirs(frame.f_back)
        if code.co_filename.startswith(OURS) or caller is None:
            return
        if code.co_name == "_call_one":
            if caller.f_code.co_name != "_call_one":  # not an override that hands its event on
                self.say(frame.f_locals["event_name"], "", code)
        elif is_callback_call(caller.f_code):
            if caller is frame.f_back and not is_asked(code) and not is_own_call(theirs(caller.f_back)):
                self.say(caller.f_locals["event_name"], self.label(caller.f_locals["self"]), code)
        elif is_own_call(frame):
            self.say(frame.f_locals["event_name"], self.label(frame.f_locals["self"]), code)

    def say(self, event: str, label: str, code: CodeType) -> None:
        self.told.append((event, label))
        self.ran.append(f"{code.co_filename}:{code.co_firstlineno}")


def theirs(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame from here on that is not loopscope's."""
    while frame is not None and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    return frame


def is_callback_call(code: CodeType) -> bool:
    return (code.co_name, code.co_filename) == ("__call__", CALLBACK_CALL.co_filename)


def is_asked(code: CodeType) -> bool:
    """Whether it decides about a handler, or finds it: a property, a look-up."""
    return code in NOT_HANDLERS or code.co_name in ("run", "run_train", "run_valid", "__getattr__")


def is_own_call(frame: FrameType | None) -> bool:
    """Whether this is a `__call__` that a callback has of its own."""
    code = None if frame is None else frame.f_code
    return (
        code is not None
        and frame is not None
        and code.co_name == "__call__"
        and code.co_filename not in DISPATCH
        and isinstance(frame.f_locals.get("self"), Callback)
    )


@dataclass
class Ran:
    """One run and what came of it."""

    outcome: dict[str, Any]
    seen: list[tuple[tuple[str, str], str]]
    error: BaseException | None


def ran(make: Callable[[], Learner], call: Callable[[Learner], object], how: str, path: Path) -> Ran:
    seed()
    learn = make()
    witness, error = Witness(learn), None
    with recording(how, learn, path), contextlib.redirect_stdout(io.StringIO()):
        try:
            with witness():
                call(learn)
        except BaseException as raised:
            error = raised
    return Ran(outcome_of(learn), list(zip(witness.told, witness.ran, strict=True)), error)


# -- the same results ----------------------------------------------------------------------------------


class OwnCallOne(Learner):
    """Calls each callback by itself, and not those named `Unwanted`."""

    def _call_one(self, event_name):
        for one in self.cbs.sorted("order"):
            if type(one).__name__ != "Unwanted":
                one(event_name)


class CallsSuperOne(Learner):
    def _call_one(self, event_name):
        self.count = getattr(self, "count", 0) + 1
        return super()._call_one(event_name)


class OwnCall(Learner):
    def __call__(self, event_name):
        self.names = [*getattr(self, "names", []), event_name]
        return super().__call__(event_name)


class OnlyCall(Learner):
    """Has no use for `_call_one`."""

    def __call__(self, event_name):
        for one in self.cbs.sorted("order"):
            one(event_name)


class Unwanted(Callback):
    def after_batch(self):
        raise AssertionError("never called")


class Draws(Callback):
    """Takes random numbers in its handlers, and decides by chance in its own `__call__`."""

    def __call__(self, event_name):
        if random.random() < 0.5:
            super().__call__(event_name)

    def after_batch(self):
        self.drawn = torch.rand(1).item() + np.random.rand()


class ByChance(Callback):
    """Takes part by chance: whether its flags are asked once or twice shows in the state of the generator."""

    @property
    def run(self):
        return random.random() < 0.5

    @run.setter
    def run(self, value):
        pass

    def after_batch(self):
        self.count = getattr(self, "count", 0) + 1


class LooksUp(Callback):
    """Makes its handlers when they are asked for, and counts how often that was."""

    asked = 0

    def __getattr__(self, name):
        if name == "after_pred":
            type(self).asked += 1
            self.__dict__["last"] = type(self).asked
            return lambda: None
        return super().__getattr__(name)


class Numbered(Callback):
    """Has an order that depends on where the run is."""

    @property
    def order(self):
        return 70 if self.training else 40

    def after_batch(self):
        pass


class Compared(Callback):
    """Counts how often it was compared."""

    def __eq__(self, other):
        self.__dict__["compared"] = self.__dict__.get("compared", 0) + 1
        return NotImplemented

    __hash__ = None

    def after_batch(self):
        pass


class Moves(Callback):
    """Adds, moves and removes callbacks while the run goes on."""

    order = 60

    def after_batch(self):
        if self.train_iter == 1:
            self.learn.add_cb(Late())
        elif self.train_iter == 2:
            self.learn.cbs[-1].order = 70
        elif self.train_iter == 3:
            self.learn.remove_cb(self.learn.cbs[-1])


class Late(Callback):
    def after_pred(self):
        pass

    def after_batch(self):
        pass


def reset(cls: type[Callback]) -> None:
    if cls is LooksUp:
        LooksUp.asked = 0


def many() -> Learner:
    return learner(cb.GradientAccumulation(32), cb.GradientClip(), Draws(), metrics=[accuracy_of], n_trn=5)


def accuracy_of(pred: torch.Tensor, targ: torch.Tensor) -> torch.Tensor:
    return (pred - targ).abs().mean()


def looking_up() -> Learner:
    LooksUp.asked = 0
    return learner(LooksUp())


OWN = [
    Case("metrics, accumulation, clipping, chance", many, lambda learn: learn.fit_one_cycle(2)),
    Case("saves the best", lambda: learner(cb.SaveModelCallback()), lambda learn: learn.fit(2)),
    Case("lowers the rate", lambda: learner(cb.ReduceLROnPlateau(min_delta=1e9)), lambda learn: learn.fit(3)),
    Case("an own _call_one", override(OwnCallOne, Unwanted()), lambda learn: learn.fit(2)),
    Case("an own _call_one that calls super", override(CallsSuperOne), lambda learn: learn.fit(2)),
    Case("an own __call__ that calls super", override(OwnCall), lambda learn: learn.fit(2)),
    Case("an own __call__ without _call_one", override(OnlyCall), lambda learn: learn.fit(2)),
    Case("own dispatch, own __call__", override(OwnCallOne, Draws()), lambda learn: learn.fit(2)),
    Case("run is a property that draws", lambda: learner(ByChance()), lambda learn: learn.fit(2)),
    Case("handlers from __getattr__", looking_up, lambda learn: learn.fit(2)),
    Case("order is a property", lambda: learner(Numbered()), lambda learn: learn.fit(2)),
    Case("a callback that compares itself", lambda: learner(Compared(), Moves()), lambda learn: learn.fit(2)),
    Case("callbacks come, move and go", lambda: learner(Moves()), lambda learn: learn.fit(2)),
    Case("an order that changes", lambda: learner(Late(), Moves()), lambda learn: learn.fit(2)),
]
FASTAIS = (
    *("fit from epoch 1", "fit_one_cycle", "fine_tune", "validate", "get_preds", "lr_find", "fit_sgdr", "tabular"),
    *("no default callbacks", "a callback that is switched off", "TrainEvalCallback switched off", "mixed precision"),
    *("clip, accumulate and mixed precision", "early stopping", "a short epoch", "SkipToEpoch by hand"),
    *("a whole validation after training", "a callback that prints every event", "a callback with its own __call__"),
    *("one_batch overridden", "_do_one_batch with an own event", "_do_one_batch patched on the instance"),
    *("decorated methods", "a callback removed on the way", "run_valid set in before_fit"),
    *("a model attribute shadows after_loss", "KeyboardInterrupt in a callback", "CancelFitException in validate"),
)
"""Those of the conformance suite's cases that differ in what a recording has to do with."""
BOTH_WAYS = ("metrics, accumulation, clipping, chance", "an own _call_one", "run is a property that draws")
SEVERAL = [*OWN, *(case for case in CASES if case.name in FASTAIS)]


@pytest.mark.parametrize("case", SEVERAL, ids=lambda case: case.name)
def test_a_recorded_run_ends_in_the_same_bits(case, tmp_path, monkeypatch):
    """Weights, optimizer, losses, metrics, rates and all generators are equal, and the same calls led there."""
    monkeypatch.chdir(tmp_path)
    plain = ran(case.make, case.call, "not", tmp_path / "not.loop")
    recorded = ran(case.make, case.call, "record", tmp_path / "run.loop")
    assert chain(plain.error) == chain(recorded.error)
    assert [key for key in plain.outcome if not same(plain.outcome[key], recorded.outcome[key])] == []
    assert plain.seen == recorded.seen
    assert plain.seen
    assert type(plain.error) is type(recorded.error)
    assert type(plain.error).__name__ == (case.raises or "NoneType")


OTHERWISE = [(case, how) for case in OWN for how in ("run", "twice") if case.name in BOTH_WAYS or how == "twice"]


@pytest.mark.parametrize(("case", "how"), OTHERWISE, ids=[f"{how}-{case.name}" for case, how in OTHERWISE])
def test_so_does_one_that_is_recorded_in_another_way(case, how, tmp_path, monkeypatch):
    """The same holds where every learner is recorded, and where one is recorded twice at the same time."""
    monkeypatch.chdir(tmp_path)
    plain = ran(case.make, case.call, "not", tmp_path / "not.loop")
    recorded = ran(case.make, case.call, how, tmp_path / "run.loop")
    assert chain(plain.error) == chain(recorded.error)
    assert [key for key in plain.outcome if not same(plain.outcome[key], recorded.outcome[key])] == []
    assert plain.seen == recorded.seen


def test_the_witness_can_tell_a_difference(tmp_path):
    """Another callback, or another order, is seen."""
    seen = [
        ran(lambda cbs=cbs: learner(*cbs), lambda learn: learn.fit(1), "not", tmp_path / "x").seen
        for cbs in ([], [Late()], [Late(), cb.GradientClip()], [cb.GradientClip(), Late()])
    ]
    assert all(one != other for one, other in itertools.combinations(seen, 2))


# -- the same errors -----------------------------------------------------------------------------------


class Prepared(Callback):
    """Raises this very object at `at`, once."""

    def __init__(self, at: str, error: BaseException, cause: BaseException | None = None) -> None:
        self.error, self.cause, self.raised = error, cause, False
        setattr(self, at, self.throw)

    def throw(self) -> None:
        if not self.raised:
            self.raised = True
            if self.cause is not None:
                raise self.error from self.cause
            try:
                raise KeyError("the context")
            except KeyError:
                raise self.error  # noqa: B904 - the context is what this is about


class Breaks(torch.nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1))
        self.error = error

    def forward(self, x):
        raise self.error


class NoOrder(Callback):
    def before_fit(self):
        self.order = "first"


class NotCallable(Callback):
    after_pred = 7


class Asserts(Callback):
    """What a bare assert raises: fastai looks for args[0] in it."""

    def after_pred(self):
        raise AssertionError


class Nested(Callback):
    """Runs a whole validation in a handler, in which a handler raises."""

    def after_train(self):
        self.learn.validate()


class RaisesInValidation(Callback):
    def after_pred(self):
        if not self.training:
            raise LookupError("in validation")


class InOrder(Callback):
    """Raises where it is asked for its order, from the first event on."""

    @property
    def order(self):
        if "asked" in self.__dict__:
            raise OSError("no order")
        return 5

    def before_fit(self):
        self.__dict__["asked"] = True


def fit(learn: Learner) -> None:
    learn.fit(2)


PREPARED: list[BaseException] = []


def prepared(error: BaseException) -> BaseException:
    """An object of which the test checks that it, and no other, arrives."""
    PREPARED.append(error)
    return error


class OwnError(Exception):
    def __init__(self, one: int, two: str) -> None:
        super().__init__(one, two)


def no_opt_func() -> Learner:
    learn = learner()
    learn.opt_func = None
    return learn


ERRORS: dict[str, tuple[Callable[[], Learner], Callable[[Learner], object], str]] = {
    "in a handler": (lambda: learner(Prepared("after_pred", prepared(ValueError("why", 3)))), fit, "ValueError"),
    "with a cause": (
        lambda: learner(Prepared("after_loss", prepared(OwnError(1, "x")), prepared(OSError(2, "y")))),
        fit,
        "OwnError",
    ),
    "in the model": (lambda: learner(model=Breaks(prepared(RuntimeError("no")))), fit, "RuntimeError"),
    "CancelBatch in after_batch": (
        lambda: learner(Prepared("after_batch", prepared(core.CancelBatchException("late")))),
        fit,
        "CancelBatchException",
    ),
    "CancelFit in after_fit": (
        lambda: learner(Prepared("after_fit", prepared(core.CancelFitException()))),
        fit,
        "CancelFitException",
    ),
    "CancelFit in validate": (
        lambda: learner(Prepared("after_pred", prepared(core.CancelFitException()))),
        lambda learn: learn.validate(),
        "CancelFitException",
    ),
    "KeyboardInterrupt": (
        lambda: learner(Prepared("before_step", prepared(KeyboardInterrupt("stop")))),
        fit,
        "KeyboardInterrupt",
    ),
    "SystemExit": (lambda: learner(Prepared("before_step", prepared(SystemExit(3)))), fit, "SystemExit"),
    "GeneratorExit": (lambda: learner(Prepared("before_step", prepared(GeneratorExit()))), fit, "GeneratorExit"),
    "without arguments": (lambda: learner(At("after_pred", ValueError, "")), fit, "IndexError"),
    "a bare assert": (lambda: learner(Asserts()), fit, "IndexError"),
    "an order that cannot be compared": (lambda: learner(NoOrder()), fit, "TypeError"),
    "an order that raises": (lambda: learner(InOrder()), fit, "OSError"),
    "a handler that cannot be called": (lambda: learner(NotCallable()), fit, "TypeError"),
    "an unknown event": (learner, lambda learn: learn("nonsense"), "Exception"),
    "in a run inside": (lambda: learner(Nested(), RaisesInValidation()), fit, "LookupError"),
    "own _call_one": (override(OwnCallOne, Asserts()), fit, "IndexError"),
    "own _call_one, super": (override(CallsSuperOne, Asserts()), fit, "IndexError"),
    "own __call__": (override(OwnCall, Asserts()), fit, "IndexError"),
    "own __call__, unknown event": (override(OwnCall), lambda learn: learn("nonsense"), "Exception"),
    "wrong arguments": (learner, lambda learn: learn.fit(2, no_such=3), "TypeError"),
    "no opt_func": (no_opt_func, fit, "TypeError"),
}


Where = tuple[str, str, int, Any]


def frames(trace: TracebackType | None) -> list[Where]:
    """The frames of a traceback without loopscope's: file, function, line, and the columns that python underlines."""
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(OURS):
            found.append((code.co_filename, code.co_name, trace.tb_lineno, columns(code, trace.tb_lasti)))
        trace = trace.tb_next
    return found


def columns(code: CodeType, instruction: int) -> Any:
    """(line, end line, column, end column), None before Python 3.11."""
    if not hasattr(code, "co_positions"):
        return None
    return next(itertools.islice(code.co_positions(), instruction // 2, None))


def chain(error: BaseException | None) -> list[tuple[Any, ...]]:
    """An exception with its causes and contexts: class, args, notes, and frames of each."""
    told: list[tuple[Any, ...]] = []
    seen: list[BaseException] = []
    pending = [error]
    while pending:
        one = pending.pop()
        if one is None or any(one is other for other in seen):
            told.append(())
            continue
        seen.append(one)
        told.append(
            (
                type(one),
                one.args,
                str(one),
                one.__suppress_context__,
                getattr(one, "__notes__", None),
                frames(one.__traceback__),
                sorted(vars(one)) if hasattr(one, "__dict__") else [],
            )
        )
        pending += [one.__cause__, one.__context__]
    return told


@pytest.mark.parametrize("how", ["record", "run", "twice"])
@pytest.mark.parametrize("name", ERRORS)
def test_an_exception_is_the_same(name, how, tmp_path):
    """Object, class, args, cause, context and frames, to the column, are what they are without recording."""
    make, call, expected = ERRORS[name]
    PREPARED.clear()
    plain, recorded = (raised(make, call, way, tmp_path / f"{way}.loop") for way in ("not", how))
    assert type(plain).__name__ == expected
    assert chain(plain) == chain(recorded)
    if PREPARED:
        assert plain is PREPARED[0]
        assert recorded is PREPARED[len(PREPARED) // 2]


def raised(make: Callable[[], Learner], call: Callable[[Learner], object], how: str, path: Path) -> BaseException:
    seed()
    learn = make()
    try:
        with recording(how, learn, path):
            call(learn)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def through(learn: Learner) -> None:
    fit(learn)


def test_the_comparison_of_exceptions_can_fail(tmp_path):
    """Other args, another cause, one frame more, or another column is a difference."""
    first = raised(lambda: learner(At("after_pred", ValueError, "a")), fit, "not", tmp_path)
    assert chain(first) != chain(raised(lambda: learner(At("after_pred", ValueError, "b")), fit, "not", tmp_path))
    assert chain(first) != chain(raised(lambda: learner(At("after_loss", ValueError, "a")), fit, "not", tmp_path))
    again = raised(lambda: learner(At("after_pred", ValueError, "a")), through, "not", tmp_path)
    assert chain(first) != chain(again)
    places = [frames(error.__traceback__)[-1] for error in (divided(0, 1), divided(1, 0))]
    assert places[0][:3] == places[1][:3]
    assert places[0] != places[1] or sys.version_info < (3, 11)


def divided(one: int, other: int) -> BaseException:
    try:
        return 1 / one + 1 / other  # type: ignore[return-value]
    except ZeroDivisionError as error:
        return error


def test_stop_iteration_is_swallowed_as_before(tmp_path):
    """StopIteration in a handler ends the event's handlers, and the run goes on, as fastai has it."""
    plain, recorded = (
        ran(lambda: learner(At("before_batch", StopIteration)), fit, how, tmp_path / f"{how}.loop")
        for how in ("not", "record")
    )
    assert plain.seen == recorded.seen
    assert (plain.error, recorded.error) == (None, None)
    assert same(plain.outcome, recorded.outcome)


# -- the same objects ----------------------------------------------------------------------------------

CLASSES = (Learner, Callback, OwnCallOne, CallsSuperOne, OwnCall, OnlyCall, Silent, cb.GradientAccumulation)


def attributes() -> list[dict[str, object]]:
    return [dict(vars(one)) for one in CLASSES]


def left_alone(before: list[dict[str, object]]) -> list[str]:
    """The names of class attributes that are no longer the very objects that they were."""
    return [
        f"{cls.__name__}.{name}"
        for cls, then in zip(CLASSES, before, strict=True)
        for name in {**then, **vars(cls)}
        if name not in ("__subclasshook__", "__static_attributes__") and vars(cls).get(name) is not then.get(name)
    ]


MAKERS = {
    "stock": learner,
    "own _call_one": override(OwnCallOne),
    "with an own __call__": override(OwnCallOne, Silent()),
    "super": override(CallsSuperOne),
    "own __call__": override(OwnCall),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("how", ["record", "run", "twice"])
def test_the_classes_are_as_they_were(make, how, tmp_path):
    """After a recording every attribute of the classes is the object it was, and the learner has no new one."""
    before = attributes()
    learn = make()
    names = [set(learn.__dict__), *(set(one.__dict__) for one in learn.cbs)]
    fit(learn)
    names_after = [set(learn.__dict__), *(set(one.__dict__) for one in learn.cbs)]
    with recording(how, learn, tmp_path / "run.loop"):
        assert left_alone(before) != []
        fit(learn)
        assert [set(learn.__dict__), *(set(one.__dict__) for one in learn.cbs)] == names_after
    assert left_alone(before) == []
    assert names[0] <= names_after[0]


def leave_by(way: str) -> Any:
    if way == "exception":
        raise ValueError("on the way")
    if way == "interrupt":
        raise KeyboardInterrupt
    if way == "exit":
        raise SystemExit(1)
    return way


def leaves(learn: Learner, path: Path, way: str) -> Any:
    with loopscope.record(learn, path):
        learn.fit(1)
        return leave_by(way)


def yields(learn: Learner, path: Path) -> Iterator[int]:
    with loopscope.record(learn, path):
        learn.fit(1)
        yield 1
        learn.fit(1)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("way", ["return", "exception", "interrupt", "exit", "generator", "dropped generator"])
def test_it_is_detached_on_every_way_out(make, way, tmp_path):
    """By return, exception, Ctrl-C, sys.exit, and a generator that is closed or dropped: nothing stays attached."""
    before = attributes()
    learn, path = make(), tmp_path / "run.loop"
    if "generator" in way:
        going = yields(learn, path)
        assert next(going) == 1
        if way == "generator":
            going.close()
        del going
        gc.collect()
    else:
        with contextlib.suppress(ValueError, KeyboardInterrupt, SystemExit):
            assert leaves(learn, path, way) == "return"
    assert left_alone(before) == []
    spans = read(path).spans
    assert read(path).state == "closed"
    learn.fit(1)
    assert read(path).spans == spans > 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, core.CancelBatchException])
@pytest.mark.parametrize("make", [learner, override(OwnCallOne), override(OwnCall)], ids=["stock", "own", "call"])
def test_it_is_detached_when_a_handler_raises(make, error, tmp_path):
    """An exception out of a handler, Ctrl-C and an escaping Cancel… included, leaves nothing attached either."""
    before = attributes()
    learn = make()
    learn.add_cb(At("after_batch", error))
    with pytest.raises(error), loopscope.record(learn, tmp_path / "run.loop"):
        learn.fit(1)
    assert left_alone(before) == []
    assert read(tmp_path / "run.loop").state == "closed"


# -- copies, files, workers ----------------------------------------------------------------------------

COPIES: dict[str, Callable[[Learner], Learner]] = {
    "pickle": lambda learn: pickle.loads(pickle.dumps(learn)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


class Copies(Callback):
    """Makes a copy of its learner in the middle of a run; in the middle of a batch torch only lets it be pickled."""

    def __init__(self, way: str) -> None:
        self.way, self.made = way, 0

    def before_epoch(self):
        self.made += len(COPIES[self.way](self.learn).__dict__) > 10

    def after_batch(self):
        self.made += self.way == "pickle" and len(COPIES[self.way](self.learn).__dict__) > 10


@RECORDED
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_whole_and_not_recorded(way, how, tmp_path):
    """pickle, deepcopy and copy work before, while and after it is recorded; with `record` no copy is recorded."""
    learn, path = learner(Copies(way)), tmp_path / "run.loop"
    with recording(how, learn, path):
        first = COPIES[way](learn)
        learn.fit(1)
        second = COPIES[way](learn)
        alone = read(path).spans
        if how == "record" and way != "copy":
            first.fit(1)
            second.fit(1)
            assert read(path).spans == alone > 0
    assert learn.copies.made == (6 if way == "pickle" else 1)
    for one in (first, second, COPIES[way](learn)):
        assert type(one) is Learner
        if way != "copy":  # a shallow copy shares its callbacks, which know the original alone
            one.fit(1)


@RECORDED
@pytest.mark.filterwarnings("ignore:load_learner:UserWarning:fastai")
def test_export_and_load_during_and_after(how, tmp_path):
    """`learn.export` and `load_learner` work while the learner is recorded and after; the file predicts the same."""
    learn = tabular()
    learn.path = tmp_path
    with recording(how, learn, tmp_path / "run.loop"):
        learn.fit(1)
        learn.export("during.pkl")
        during = load_learner(tmp_path / "during.pkl")
        expected = learn.get_preds()[0]
    learn.export("after.pkl")
    after = load_learner(tmp_path / "after.pkl")
    data = learn.dls.valid
    for one in (during, after):
        assert same(one.get_preds(dl=data)[0], expected)
    assert (tmp_path / "during.pkl").read_bytes().count(b"loopscope") == 0
    assert read(tmp_path / "run.loop").state == "closed"


@RECORDED
def test_saved_weights_load(how, tmp_path):
    """`learn.save` and `learn.load` work while the learner is recorded."""
    learn = learner(path=tmp_path)
    with recording(how, learn, tmp_path / "run.loop"):
        learn.fit(1)
        learn.save("w")
        weights = outcome_of(learn)["weights"]
        learn.fit(1)
        learn.load("w")
    assert same(outcome_of(learn)["weights"], weights)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(method, tmp_path, monkeypatch):
    """Worker processes, forked and spawned, feed a recorded learner the same batches, and never write to its file."""
    before, found = multiprocessing.get_start_method(allow_none=True), []
    multiprocessing.set_start_method(method, force=True)
    try:
        for how in ("not", "record", "run") if method == "fork" else ("not", "record"):
            seed()
            learn = learner(n_trn=2, n_val=1)
            learn.dls.train.fake_l.num_workers = 1
            with recording(how, learn, tmp_path / f"{how}.loop"):
                learn.fit(1)
            found.append(outcome_of(learn))
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert all(same(found[0], one) for one in found[1:])
    for path in sorted(tmp_path.glob("*.loop")):
        report = loopscope.load(path).report()
        assert (report.state, report.unexpected_count, report.losses) == ("closed", 0, ())
        assert report.events > 20


def test_a_recorded_learner_can_be_collected(tmp_path):
    """While every learner is recorded, a learner that the program lets go of dies, and so do its callbacks."""
    session = Session(None, tmp_path / "run.loop").start()
    try:
        for make in (learner, override(OwnCallOne), override(OwnCall)):
            learn = make()
            learn.add_cb(Late())
            learn.fit(1)
            alive = [weakref.ref(learn), weakref.ref(learn.model), *(weakref.ref(one) for one in learn.cbs)]
            del learn
            gc.collect()
            assert [one() for one in alive if one() is not None] == []
    finally:
        session.stop()
    assert loopscope.load(tmp_path / "run.loop").report().unexpected_count == 0


@pytest.mark.parametrize("make", [learner, override(OwnCallOne)], ids=["stock", "own _call_one"])
def test_after_an_error_too(make, tmp_path):
    """A learner whose run raised, or one that never ran, can be collected as soon as the exception is gone."""
    session = Session(None, tmp_path / "run.loop").start()
    try:
        learner().fit(1)
        learn, unused = make(), make()
        learn.add_cb(At("after_pred", ValueError))
        alive = [weakref.ref(one) for one in (learn, learn.model, *learn.cbs, unused, unused.model, *unused.cbs)]
        with contextlib.suppress(ValueError):
            learn.fit(1)
        with contextlib.suppress(KeyError):
            unused.add_cb(Prepared("after_create", KeyError("x")))
            unused("after_create")
        del learn, unused
        gc.collect()
        assert [one() for one in alive if one() is not None] == []
    finally:
        session.stop()


def test_nor_does_record_keep_a_learner_alive(tmp_path):
    """Once it is recorded, nothing but its own program holds a learner."""
    learn = learner()
    rec = loopscope.record(learn, tmp_path / "run.loop")
    with rec:
        learn.fit(1)
    alive = weakref.ref(learn)
    del learn
    gc.collect()
    assert (alive() is None, rec.report().unexpected_count) == (True, 0)
