"""Keras's callbacks, each alone and as they are combined, in fit, evaluate and predict."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from keras import callbacks as cb

from loopscope.adapters.keras import RUNS
from tests.adapters.cases.keras import X, Y, model
from tests.shipped.sweep import Use

NOT_USED = {
    "Callback": "the base of all",
    "CallbackList": "what Keras keeps callbacks in",
    "OrbaxCheckpoint": "orbax-checkpoint is not installed",
    "SwapEMAWeights": "it needs the TensorFlow or JAX backend",
}
"""What is not built here, and why."""

ALONE: Mapping[str, Callable[[Path], Any]] = {
    "BackupAndRestore": lambda folder: cb.BackupAndRestore(str(folder / "backup")),
    "CSVLogger": lambda folder: cb.CSVLogger(str(folder / "log.csv")),
    "EarlyStopping": lambda folder: cb.EarlyStopping(),
    "History": lambda folder: cb.History(),
    "LambdaCallback": lambda folder: cb.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    "LearningRateScheduler": lambda folder: cb.LearningRateScheduler(lambda epoch, lr: lr * 0.9),
    "ModelCheckpoint": lambda folder: cb.ModelCheckpoint(str(folder / "model.keras"), save_best_only=True),
    "ProgbarLogger": lambda folder: cb.ProgbarLogger(),
    "ReduceLROnPlateau": lambda folder: cb.ReduceLROnPlateau(),
    "RemoteMonitor": lambda folder: cb.RemoteMonitor(),
    "TensorBoard": lambda folder: cb.TensorBoard(str(folder / "logs")),
    "TerminateOnNaN": lambda folder: cb.TerminateOnNaN(),
}

TOGETHER: Mapping[str, Callable[[Path], list[Any]]] = {
    "the trackers": lambda folder: [
        cb.EarlyStopping(patience=2, restore_best_weights=True),
        cb.ModelCheckpoint(str(folder / "{epoch:02d}.keras"), save_best_only=True),
        cb.ReduceLROnPlateau(patience=1),
    ],
    "the trackers, on a metric": lambda folder: [
        cb.EarlyStopping(monitor="val_mae", mode="min"),
        cb.ModelCheckpoint(str(folder / "best.keras"), monitor="val_mae", mode="min", save_best_only=True),
        cb.ReduceLROnPlateau(monitor="mae"),
    ],
    "the trackers, on training loss": lambda folder: [cb.EarlyStopping(monitor="loss"), cb.TerminateOnNaN()],
    "schedule and log": lambda folder: [
        cb.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1)),
        cb.CSVLogger(str(folder / "log.csv")),
        cb.BackupAndRestore(str(folder / "backup")),
    ],
    "weights alone, by batches": lambda folder: [
        cb.ModelCheckpoint(str(folder / "w.weights.h5"), save_weights_only=True, save_freq=2)
    ],
}

COMPILED: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "clipped": {"optimizer": "clipped"},
    "a schedule": {"optimizer": "scheduled"},
    "accumulation": {"optimizer": "accumulating"},
    "averages": {"optimizer": "averaging"},
    "loss scaling": {"auto_scale_loss": True, "optimizer": "scaled"},
}


def optimizer(name: str) -> Any:
    """An optimizer that is set as Keras's documentation does; another name is Keras's own."""
    match name:
        case "clipped":
            return keras.optimizers.Adam(clipnorm=1.0)
        case "scheduled":
            return keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9))
        case "accumulating":
            return keras.optimizers.SGD(gradient_accumulation_steps=4)
        case "averaging":
            return keras.optimizers.SGD(use_ema=True)
        case "scaled":
            return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
        case _:
            return name


def uses() -> Iterator[Use]:
    for name, make in {**{one: _listed(make) for one, make in ALONE.items()}, **TOGETHER}.items():
        yield Use(f"{name}, fit", compiled, "fit", fitted(make))
        yield Use(f"{name}, validation split", compiled, "fit", fitted(make, validation_split=0.5))
        for run in RUNS[1:]:
            yield Use(f"{name}, {run}", compiled, run, asked(run, make))
    for name, more in COMPILED.items():
        yield Use(f"a model, {name}", functools.partial(compiled, **more), "fit", fitted(lambda folder: []))
    for run in RUNS:
        yield Use(f"a bare model, {run}", compiled, run)


def compiled(folder: Path, **more: Any) -> keras.Model:
    made = model(**{"metrics": ["mae"], **more, "optimizer": optimizer(more.get("optimizer", "adam"))})
    FOLDERS[id(made)] = folder
    return made


FOLDERS: dict[int, Path] = {}


def folder_of(made: keras.Model) -> Path:
    return FOLDERS[id(made)]


def fitted(make: Callable[[Path], list[Any]], **more: Any) -> Callable[[Any], Mapping[str, Any]]:
    valid = more or {"validation_data": (X, Y)}
    return lambda made: {"x": X, "y": Y, "batch_size": 2, "epochs": 2, "callbacks": make(folder_of(made)), **valid}


def asked(run: str, make: Callable[[Path], list[Any]]) -> Callable[[Any], Mapping[str, Any]]:
    data = {"x": X, "y": Y} if run == "evaluate" else {"x": X}
    return lambda made: {"callbacks": make(folder_of(made)), **data}


def _listed(make: Callable[[Path], Any]) -> Callable[[Path], list[Any]]:
    return lambda folder: [make(folder)]
