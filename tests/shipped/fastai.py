"""fastai's 47 callbacks, each alone and as they are combined, in every run; and learners of its applications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastai.callback.all as cb
import numpy as np
import pandas as pd
import torch
from fastai.callback.core import FetchPredsCallback
from fastai.callback.progress import ProgressCallback
from fastai.learner import Learner, SkipToEpoch
from fastai.metrics import accuracy, mae, rmse
from fastai.optimizer import Adam
from fastai.test_utils import synth_dbunch, synth_learner

from loopscope.adapters.fastai import RUNS
from tests.fastai_all import callbacks
from tests.shipped.sweep import Use

ARGUMENTS: dict[str, Callable[[Path], tuple[Any, ...]]] = {
    "AzureMLCallback": lambda folder: ("a run",),
    "CSVLogger": lambda folder: (folder / "history.csv",),
    "ParallelTrainer": lambda folder: ([0],),
    "ParamScheduler": lambda folder: ({"lr": cb.SchedCos(1e-3, 1e-5)},),
    "SkipToEpoch": lambda folder: (1,),
}
"""What has no default, or one that writes here."""

NOT_ADDED = {
    "CometCallback": "it cannot be built: it sets keep_experiment_running, a name that it does not have",
    "CastToTensor": "every learner has it",
    "ProgressCallback": "every learner has it, unless it is taken away",
    "Recorder": "every learner has it",
    "TrainEvalCallback": "every learner has it",
    "MixHandler": "the base of MixUp and CutMix, of no use by itself",
    "TensorBoardBaseCallback": "the base of the two others",
}
"""Callbacks that nobody adds to a learner, and why: the other uses have them where they belong."""


def learner(*cbs: Any, **more: Any) -> Learner:
    return synth_learner(cbs=list(cbs), **more)


def uses() -> Iterator[Use]:
    for run in RUNS:
        yield Use(f"a bare learner, {run}", lambda folder: learner(), run)
        yield Use(f"a learner with metrics, {run}", lambda folder: learner(metrics=[mae, rmse]), run)
    for cls in callbacks():
        yield from alone(cls)
    for name, make in TOGETHER.items():
        for run in ("fit", "fit_one_cycle", "fine_tune", "validate"):
            yield Use(f"{name}, {run}", make, run)


def alone(cls: Any) -> Iterator[Use]:
    """Yield one callback as it is given to a run, and as the learner's own."""
    arguments = ARGUMENTS.get(cls.__name__, lambda folder: ())

    def added(folder: Path) -> Learner:
        return learner(cls(*arguments(folder)))

    if cls.__name__ not in NOT_ADDED:
        yield Use(
            f"{cls.__name__}, fit", lambda folder: learner(), "fit", lambda made: {"cbs": cls(*arguments(made.path))}
        )
        yield Use(f"{cls.__name__}, fit_one_cycle", added, "fit_one_cycle")


TOGETHER: dict[str, Callable[[Path], Learner]] = {
    "the trackers": lambda folder: learner(
        cb.SaveModelCallback(), cb.EarlyStoppingCallback(patience=3), cb.ReduceLROnPlateau(patience=2)
    ),
    "the trackers, on a metric": lambda folder: learner(
        cb.SaveModelCallback(monitor="mae", fname="best"),
        cb.EarlyStoppingCallback(monitor="mae", patience=3),
        cb.ReduceLROnPlateau(monitor="mae"),
        metrics=[mae],
    ),
    "the trackers, on training loss": lambda folder: learner(
        cb.SaveModelCallback(monitor="train_loss"), cb.EarlyStoppingCallback(monitor="train_loss")
    ),
    "mixed precision": lambda folder: learner().to_fp16(),
    "mixed precision, clipped": lambda folder: learner(cb.GradientClip(0.1)).to_fp16(),
    "mixed precision, added by hand": lambda folder: learner(cb.MixedPrecision(), cb.GradientClip()),
    "bfloat16": lambda folder: learner().to_bf16(),
    "non-native mixed precision": lambda folder: learner().to_non_native_fp16(),
    "accumulation": lambda folder: learner(cb.GradientAccumulation(n_acc=64)),
    "accumulation, mixed precision, clipping": lambda folder: learner(
        cb.GradientAccumulation(n_acc=64), cb.GradientClip()
    ).to_fp16(),
    "mixup": lambda folder: learner(cb.MixUp()),
    "cutmix, logged": lambda folder: learner(cb.CutMix(), cb.CSVLogger(folder / "history.csv")),
    "a recurrent model": lambda folder: learner(*cb.rnn_cbs(alpha=2.0, beta=1.0)),
    "a frozen one": lambda folder: learner(cb.BnFreeze(), cb.GradientClip()),
    "statistics": lambda folder: learner(cb.ActivationStats(with_hist=True), cb.CollectDataCallback()),
    "graphs": lambda folder: learner(cb.ShowGraphCallback(), cb.TerminateOnNaNCallback()),
    "schedules": lambda folder: learner(cb.ParamScheduler({"lr": cb.SchedCos(1e-3, 1e-5)}), cb.ShortEpochCallback()),
    "going on": lambda folder: learner(SkipToEpoch(1), cb.SaveModelCallback(every_epoch=True, with_opt=True)),
    "without a bar": lambda folder: _without_bar(),
    "channels last": lambda folder: learner().to_channelslast(),
    "several GPUs": lambda folder: learner(_named("ParallelTrainer")([0, 1])),
    "predictions": lambda folder: learner(FetchPredsCallback(), metrics=[mae]),
    "a table": lambda folder: tabular(folder),  # noqa: PLW0108 - it is defined below
    "collaborative filtering": lambda folder: collaborative(folder),  # noqa: PLW0108
    "a GAN": lambda folder: adversarial(folder),  # noqa: PLW0108
    "a GAN with rates of its own": lambda folder: _with_rates(adversarial(folder)),
    "training metrics": lambda folder: _training_metrics(),
}


def tabular(folder: Path) -> Learner:
    from fastai.tabular import all as tab

    rows = pd.DataFrame({"a": np.arange(20) % 3, "b": np.arange(20.0) + 1, "y": np.arange(20) % 2})
    dls = tab.TabularDataLoaders.from_df(
        rows,
        path=folder,
        procs=[tab.Categorify, tab.Normalize],
        cat_names=["a"],
        cont_names=["b"],
        y_names="y",
        y_block=tab.CategoryBlock(),
        bs=4,
        valid_idx=range(15, 20),
    )
    return tab.tabular_learner(dls, layers=[4], metrics=accuracy)


def collaborative(folder: Path) -> Learner:
    from fastai.collab import CollabDataLoaders, collab_learner

    rows = pd.DataFrame({"user": np.arange(40) % 5, "item": np.arange(40) % 7, "rating": np.arange(40) % 5 + 0.0})
    return collab_learner(CollabDataLoaders.from_df(rows, bs=8, path=folder), n_factors=2)


def adversarial(folder: Path) -> Learner:
    """A GAN, with what GANLearner adds."""
    from fastai.vision.gan import GANLearner

    return GANLearner.wgan(synth_dbunch(), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), opt_func=Adam)


def _named(name: str) -> Any:
    return next(cls for cls in callbacks() if cls.__name__ == name)


def _with_rates(made: Learner) -> Learner:
    made.add_cb(_named("GANDiscriminativeLR")())
    return made


def _without_bar() -> Learner:
    made = learner(cb.CSVLogger())
    made.remove_cb(ProgressCallback)
    return made


def _training_metrics() -> Learner:
    made = learner(metrics=[mae])
    made.recorder.train_metrics = True
    return made
