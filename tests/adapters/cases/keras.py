"""Keras's cases for the conformance suite: small real models, and the call that is made on each."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import functools
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from keras.callbacks import (
    BackupAndRestore,
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgbarLogger,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

from tests.adapters.cases.keras_watch import HOOKS, Watch
from tests.conformance import Case

EVENTS = [name for name in HOOKS if name not in ("on_batch_begin", "on_batch_end")]


@functools.cache
def numbers(count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(count, 3)).astype("float32")
    return x, x.sum(1, keepdims=True)


X, Y = numbers()


def model(*, cls: type[keras.Model] | None = None, built: bool = True, **compiled: Any) -> keras.Model:
    """A regression model of four numbers."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(1)]
    made = keras.Sequential([keras.Input((3,)), *layers] if built else layers) if cls is None else cls()
    made.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    return made


class Counts(Callback):
    """Handles every event, so that nothing runs in the pool of threads."""


class Safe(Callback):
    """Handles every event, and says that threads may."""

    async_safe = True


def counting(name: str) -> Callable[..., None]:
    def hook(self: Any, *args: Any, **kwargs: Any) -> None:
        self.counted = getattr(self, "counted", 0) + 1

    hook.__name__ = name
    return hook


for name in EVENTS:
    setattr(Counts, name, counting(name))
    setattr(Safe, name, counting(name))


class Old(Callback):
    """Has the older names of the batch's hooks, which the base class calls."""

    def on_batch_begin(self, batch, logs=None):
        self.batch = batch

    def on_batch_end(self, batch, logs=None):
        self.batch = None


class Both(Old):
    """Has both names: the newer one calls the older one itself."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)


class StopsAt(Callback):
    """Sets `stop_training` at one event, at the nth time that it comes."""

    def __init__(self, at: str, nth: int = 1, stop: str = "stop_training") -> None:
        super().__init__()
        self.nth, self.stop = nth, stop
        setattr(self, at, self.count)

    def count(self, *args: Any, **kwargs: Any) -> None:
        self.nth -= 1
        if not self.nth:
            setattr(self.model, self.stop, True)


class Throws(Callback):
    """Raises at one event, the first time that it comes."""

    def __init__(self, at: str, exception: type[BaseException]) -> None:
        super().__init__()
        self.exception, self.raised = exception, False
        setattr(self, at, self.throw)

    def throw(self, *args: Any, **kwargs: Any) -> None:
        if not self.raised:
            self.raised = True
            raise self.exception("on purpose")


class PoolThrows(Callback):
    """Raises in a thread of the pool, at the first batch; at the second it waits until that has happened.

    `held` is the list that hands its handlers to the pool.
    """

    async_safe = True
    held: Any = None

    def on_train_batch_begin(self, batch, logs=None):
        if batch:
            concurrent.futures.wait(self.held._futures)

    def on_train_batch_end(self, batch, logs=None):
        raise ValueError("on purpose")


class Leaves(Callback):
    """Takes itself out of the list that calls it, and leaves the one behind it out of that event."""

    def __init__(self, held: list[Any]) -> None:
        super().__init__()
        self.held = held

    def on_epoch_begin(self, epoch, logs=None):
        pass


class Evaluates(Callback):
    """Runs a whole evaluation inside of a handler."""

    def __init__(self, at: str, **arguments: Any) -> None:
        super().__init__()
        self.arguments = {"verbose": 0, "batch_size": 4, **arguments}
        setattr(self, at, self.evaluate)

    def evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.model.evaluate(X, Y, **self.arguments)


class Predicts(Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.predict(X, batch_size=4, verbose=0, callbacks=[Old()])


class FitsAgain(Callback):
    """Runs another fit of the same model inside of a handler, once."""

    done = False

    def on_epoch_end(self, epoch, logs=None):
        if not self.done:
            self.done = True
            self.model.fit(X, Y, batch_size=4, verbose=0)


class OwnStep(keras.Model):
    """A model with a `train_step` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        answer = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=answer)
        loss.backward()
        weights = list(self.trainable_weights)
        with torch.no_grad():
            self.optimizer.apply([one.value.grad for one in weights], weights)
        return {"loss": loss}


class StopsItself(OwnStep):
    """A model whose own step ends the training at the third batch."""

    steps = 0

    def train_step(self, data):
        self.steps += 1
        if self.steps == 3:
            self.stop_training = True
        return super().train_step(data)


class Fails(OwnStep):
    """A model whose own step fails in the second batch."""

    def train_step(self, data):
        if self.optimizer.iterations.value.item():
            raise ZeroDivisionError("on purpose")
        return super().train_step(data)


class OwnFit(keras.Sequential):
    """A model whose own `fit` calls Keras's."""

    def fit(self, *args, **kwargs):
        return super().fit(*args, **kwargs)


class Rows(keras.utils.PyDataset):
    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, at: int) -> tuple[Any, Any]:
        return X[:2], Y[:2]


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, at: int) -> tuple[Any, Any]:
        return X[:2], Y[:2]


class Stream(torch.utils.data.IterableDataset):
    """Torch data without a length."""

    def __iter__(self):
        return iter([(X[at], Y[at]) for at in range(6)])


def loader(batch_size: int = 2, data: Any = None) -> Any:
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)) if data is None else data
    return torch.utils.data.DataLoader(data, batch_size=batch_size)


def generator(batches: int) -> Any:
    return ((X[:2], Y[:2]) for _ in range(batches))


def failing() -> Any:
    """Batches of which the fourth cannot be read: two are looked at before the first epoch."""
    yield from generator(3)
    raise OSError("on purpose")


def run(  # noqa: PLR0913 - all that cases differ in
    name: str,
    arguments: Callable[[], Mapping[str, Any]] | Mapping[str, Any],
    *callbacks: Callable[[Path], Any],
    kind: str = "",
    run: str = "fit",
    make: Callable[[], Any] = model,
    raises: str | None = None,
    wrap: Callable[[list[Any], Any], Any] = lambda held, model: held,
) -> Case:
    """A case of one run with these arguments; `callbacks` make the callbacks, `wrap` what is passed as `callbacks`."""

    def made(folder: Path) -> Any:
        one = make()
        given = dict(arguments() if callable(arguments) else arguments)
        given = {"batch_size": 4, "verbose": 0, **({"x": X, "y": Y} if run != "predict" else {"x": X}), **given}
        given = {name: value for name, value in given.items() if value is not Ellipsis}
        if callbacks:
            given["callbacks"] = wrap([callback(folder) for callback in callbacks], one)
        ARGUMENTS[id(one)] = one, given
        return one

    def call(one: Any) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(one, run)(**ARGUMENTS[id(one)][1])

    return Case(name, kind, made, call, run, lambda one: ARGUMENTS[id(one)][1], raises)


ARGUMENTS: dict[int, tuple[Any, dict[str, Any]]] = {}
"""Identity of a model that was made for a case -> it, and the arguments of its run: a generator is used only once."""


def the(cls: Any, *args: Any, **kwargs: Any) -> Callable[[Path], Any]:
    """What makes a callback for a case."""
    return lambda folder: cls(*args, **kwargs)


def backup(folder: Path, epoch: int) -> Any:
    """A BackupAndRestore that finds the backup of a run that was killed in an epoch."""
    before = model()

    class Killed(Callback):
        def on_epoch_begin(self, at, logs=None):
            if at == epoch:
                raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callbacks = [BackupAndRestore(str(folder / "backup")), Killed()]
        with contextlib.suppress(KeyboardInterrupt):
            before.fit(X, Y, epochs=epoch + 1, verbose=0, callbacks=callbacks)
    return BackupAndRestore(str(folder / "backup"))


def known(held: list[Any], model: Any) -> Any:
    """A CallbackList, which its first callback knows."""
    held[0].held = CallbackList(held, add_history=True, model=model)
    return held[0].held


VALID = {"validation_data": (X, Y), "epochs": 2}

CASES = [
    run("fit", {**VALID}, the(Counts), kind="normal"),
    run("fit by the pool", {**VALID}, the(Safe)),
    run("fit without callbacks", {**VALID}),
    run("fit with the progress bar", {"epochs": 2, "verbose": 2}),
    run(
        "early stopping",
        {**VALID, "epochs": 6},
        the(EarlyStopping, "loss", mode="max"),
        kind="early stop",
    ),
    run("stopped in the first batch", {**VALID, "epochs": 3}, the(StopsAt, "on_train_batch_end")),
    run("stopped in the second epoch", {"epochs": 3, "batch_size": 2}, the(StopsAt, "on_batch_end", 6)),
    run("stopped at the begin of an epoch", {**VALID, "epochs": 3}, the(StopsAt, "on_epoch_begin", 2)),
    run("stopped while validating", {**VALID, "epochs": 3}, the(StopsAt, "on_test_batch_end")),
    run(
        "validation is ended early",
        {**VALID, "validation_batch_size": 2},
        the(StopsAt, "on_test_batch_end", 2, "stop_evaluating"),
    ),
    run("stopped by the model", {**VALID, "epochs": 3, "validation_freq": 2}, make=lambda: model(cls=StopsItself)),
    run(
        "stopped where epochs validate in turn",
        {**VALID, "epochs": 6, "validation_freq": 2},
        the(StopsAt, "on_epoch_end", 3),
    ),
    run(
        "a handler raises",
        {**VALID},
        the(Throws, "on_epoch_end", ValueError),
        kind="exception in a callback",
        raises="ValueError",
    ),
    run("a handler of the pool raises", {"batch_size": 2}, the(PoolThrows), the(Safe), raises="ValueError", wrap=known),
    run("the last handler of the pool raises", {"batch_size": 8}, the(PoolThrows), raises="ValueError"),
    run("the model raises", {**VALID}, the(Counts), make=lambda: model(cls=Fails), raises="ZeroDivisionError"),
    run("the data raises", lambda: {"x": failing(), "y": ..., "batch_size": ...}, the(Counts), raises="OSError"),
    run(
        "interrupted",
        {"batch_size": 2},
        the(Counts),
        the(Throws, "on_train_batch_begin", KeyboardInterrupt),
        kind="KeyboardInterrupt",
        raises="KeyboardInterrupt",
    ),
    run(
        "gradients are accumulated",
        {"batch_size": 2, "epochs": 2, **VALID},
        the(Counts),
        kind="accumulation",
        make=lambda: model(optimizer=keras.optimizers.SGD(gradient_accumulation_steps=2)),
    ),
    run(
        "a handler evaluates in the middle of an epoch",
        {"epochs": 2},
        the(Counts),
        the(Evaluates, "on_train_batch_end"),
        kind="validation in the middle of an epoch",
    ),
    run("no validation", {"epochs": 2}, the(Counts), kind="no validation"),
    run("evaluate", {"batch_size": 2}, the(Counts), kind="validation alone", run="evaluate"),
    run("evaluate by the pool", {"batch_size": 2, "verbose": 2}, run="evaluate"),
    run("predict", {}, the(Counts), kind="prediction alone", run="predict"),
    run("predict by the pool", {"verbose": 2}, the(Safe), run="predict"),
    run(
        "predict is ended early",
        {"batch_size": 2},
        the(StopsAt, "on_predict_batch_end", 2, "stop_predicting"),
        run="predict",
    ),
    run(
        "resumed from a backup",
        {**VALID, "epochs": 5},
        lambda folder: backup(folder, 2),
        kind="resumed from a checkpoint",
    ),
    run("no epoch", {"epochs": 2, "initial_epoch": 2}, the(Counts)),
    run("predicts inside", {"epochs": 2}, the(Predicts), the(Counts), kind="nested run"),
    run("evaluates inside, by the pool", {"epochs": 2, "verbose": 0}, the(Evaluates, "on_epoch_end")),
    run("fits inside", {"epochs": 2}, the(FitsAgain)),
    run("the older hooks", {"epochs": 2}, the(Old), the(Both)),
    run("two of one class", {"epochs": 2}, the(Old), the(Counts), the(Old)),
    run(
        "lambdas",
        {**VALID},
        lambda folder: LambdaCallback(
            on_epoch_begin=lambda epoch, logs: None,
            on_train_batch_end=lambda batch, logs: None,
            on_test_end=lambda logs: None,
        ),
    ),
    run("a single callback, not in a list", {"epochs": 2}, the(Old), wrap=lambda held, model: held[0]),
    run(
        "a CallbackList",
        {"verbose": 2},
        the(Old),
        wrap=lambda held, model: CallbackList(held, add_history=True, model=model),
    ),
    run(
        "what Keras brings along",
        {**VALID, "epochs": 3},
        lambda folder: ModelCheckpoint(str(folder / "a.keras"), save_freq=3),
        lambda folder: CSVLogger(str(folder / "log.csv")),
        the(ReduceLROnPlateau, patience=1, cooldown=1),
        the(LearningRateScheduler, lambda epoch, rate: rate),
        the(TerminateOnNaN),
    ),
    run("NaN ends it", {"x": X * np.nan, "epochs": 3, "batch_size": 2, **VALID}, the(TerminateOnNaN)),
    run("every third epoch validates, begun later", {**VALID, "epochs": 6, "initial_epoch": 1, "validation_freq": 3}),
    run(
        "steps that leave a rest, some validate",
        {**VALID, "steps_per_epoch": 3, "batch_size": 2, "epochs": 7, "validation_freq": 3},
        the(Counts),
    ),
    run(
        "a generator that runs dry",
        lambda: {"x": generator(5), "y": ..., "batch_size": ..., "steps_per_epoch": 2, "epochs": 3},
        the(Counts),
    ),
    run("a step of one's own", {**VALID}, the(Counts), make=lambda: model(cls=OwnStep)),
]

COUNTED = [
    run("stopped at the begin of training", {**VALID, "epochs": 3, "batch_size": 2}, the(StopsAt, "on_train_begin")),
    run("a backup that is not there", {"epochs": 2}, lambda folder: BackupAndRestore(str(folder / "none"))),
    run("callbacks in a dict", {}, the(Old), the(Safe), wrap=lambda held, model: {"b": held[0], "a": held[1]}),
    run("one's own History and bar", {"verbose": 2}, the(ProgbarLogger), the(History), the(Old)),
    run("a part is held out", {"validation_split": 0.25, "epochs": 2, "batch_size": 2}, the(Counts)),
    run("every third epoch validates", {**VALID, "epochs": 7, "validation_freq": 3}, the(Counts)),
    run("some epochs validate", {**VALID, "epochs": 5, "validation_freq": [1, 4]}, the(Counts)),
    run("validation of few batches", {**VALID, "validation_steps": 1, "validation_batch_size": 2}, the(Counts)),
    run("steps that leave a rest", {"steps_per_epoch": 3, "batch_size": 2, "epochs": 3}, the(Counts)),
    run("more steps than batches", {"steps_per_epoch": 6, "epochs": 2}, the(Counts)),
    run("steps without a batch size", {"steps_per_epoch": 3, "batch_size": ..., "epochs": 2}, the(Counts)),
    run("a torch loader", lambda: {"x": loader(3), "y": ..., "batch_size": ..., **VALID}, the(Counts)),
    run(
        "a torch loader without a length", lambda: {"x": loader(2, Stream()), "y": ..., "batch_size": ...}, the(Counts)
    ),
    run("rows by number", lambda: {"x": Rows(3), "y": ..., "batch_size": ..., "validation_data": Rows(2)}, the(Counts)),
    run(
        "endless rows",
        lambda: {"x": Endless(), "y": ..., "batch_size": ..., "steps_per_epoch": 3, "epochs": 2},
        the(Counts),
    ),
    run("a generator", lambda: {"x": generator(3), "y": ..., "batch_size": ...}, the(Counts)),
    run("a model that is not built", {**VALID}, the(Counts), make=lambda: model(built=False)),
]
"""Further runs, of which only what fires is compared with the map: how often, and who."""

IMPOSSIBLE = {
    "two validation loaders": "fit takes one set of validation data; a second one takes an evaluate in a handler.",
}

EQUIVALENT: frozenset[tuple[str, str]] = frozenset()


def watch(obj: Any) -> Watch:
    return Watch(obj)


EVENTS_THAT_RAISE = EVENTS


def thrower(
    event: str, exception: type[BaseException]
) -> tuple[Callable[[Path], Any], Callable[[Any], object], str, Any]:
    """Return what makes a model whose handler raises at the first `event`, the call, its run and `inspect`."""
    name = "predict" if "predict" in event else "fit"
    case = run("throws", {} if name == "predict" else VALID, the(Counts), the(Throws, event, exception), run=name)
    return case.make, case.call, case.run, case.inspect


def state(obj: Any) -> Mapping[str, Any]:
    """All that training left behind, to be compared bit for bit."""
    return {
        "weights": [one.value.detach().numpy().tobytes() for one in obj.variables],
        "optimizer": [one.value.detach().numpy().tobytes() for one in obj.optimizer.variables],
        "history": getattr(getattr(obj, "history", None), "history", None),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": np.random.get_state()[1].tobytes(),  # type: ignore[index]
        "random": random.getstate(),
    }
