"""Lightning's callbacks, each alone and as they are combined, in every run; and trainers with its own settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import lightning.pytorch.callbacks as cb
import torch
from lightning.pytorch.demos.boring_classes import BoringModel, DemoModel, ManualOptimBoringModel
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from loopscope.adapters.lightning.given import RUNS
from tests.adapters.cases.lightning_models import Net, Stepping, Valid, loader
from tests.shipped.sweep import Use

for _name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
    logging.getLogger(_name).setLevel(logging.ERROR)

ABSTRACT = {
    "BaseFinetuning": "abstract: one writes freeze_before_training and finetune_function",
    "BasePredictionWriter": "abstract: one writes what it writes",
    "Callback": "the base of all",
    "Checkpoint": "the base of checkpoints",
    "ProgressBar": "the base of the two progress bars",
    "WeightAveraging": "its averaging is asked for by a method that one writes: EMAWeightAveraging has it",
}
"""What is derived from, and not used by itself."""

Make = Callable[[Path], Any]

ALONE: Mapping[str, Make] = {
    "BackboneFinetuning": lambda folder: cb.BackboneFinetuning(1),
    "BatchSizeFinder": lambda folder: cb.BatchSizeFinder(),
    "DeviceStatsMonitor": lambda folder: cb.DeviceStatsMonitor(),
    "EMAWeightAveraging": lambda folder: cb.EMAWeightAveraging(),
    "EarlyStopping": lambda folder: cb.EarlyStopping("val_loss"),
    "GradientAccumulationScheduler": lambda folder: cb.GradientAccumulationScheduler({0: 4, 1: 2}),
    "LambdaCallback": lambda folder: cb.LambdaCallback(on_train_epoch_end=lambda trainer, module: None),
    "LearningRateFinder": lambda folder: cb.LearningRateFinder(),
    "LearningRateMonitor": lambda folder: cb.LearningRateMonitor("step"),
    "ModelCheckpoint": lambda folder: cb.ModelCheckpoint(folder, monitor="val_loss"),
    "ModelPruning": lambda folder: cb.ModelPruning("l1_unstructured", amount=0.5),
    "ModelSummary": lambda folder: cb.ModelSummary(),
    "OnExceptionCheckpoint": cb.OnExceptionCheckpoint,
    "RichModelSummary": lambda folder: cb.RichModelSummary(),
    "RichProgressBar": lambda folder: cb.RichProgressBar(),
    "SpikeDetection": lambda folder: cb.SpikeDetection(exclude_batches_path=folder / "skipped.json"),
    "StochasticWeightAveraging": lambda folder: cb.StochasticWeightAveraging(0.01),
    "TQDMProgressBar": lambda folder: cb.TQDMProgressBar(),
    "ThroughputMonitor": lambda folder: cb.ThroughputMonitor(batch_size_fn=lambda batch: batch[0].size(0)),
    "Timer": lambda folder: cb.Timer("00:01:00:00"),
}

TOGETHER: Mapping[str, Callable[[Path], list[Any]]] = {
    "the trackers": lambda folder: [
        cb.EarlyStopping("val_loss", patience=2),
        cb.ModelCheckpoint(folder, monitor="val_loss", save_last=True),
        cb.LearningRateMonitor(),
    ],
    "the trackers, the other way round": lambda folder: [
        cb.ModelCheckpoint(folder, monitor="val_loss", mode="min", save_top_k=2),
        cb.EarlyStopping("val_loss", mode="min"),
    ],
    "the trackers, on training loss": lambda folder: [
        cb.EarlyStopping("loss", check_on_train_epoch_end=True),
        cb.ModelCheckpoint(folder, monitor="loss", save_on_train_epoch_end=True),
    ],
    "two checkpoints": lambda folder: [
        cb.ModelCheckpoint(folder, monitor="val_loss"),
        cb.ModelCheckpoint(folder, every_n_train_steps=10, save_top_k=-1),
        cb.ModelCheckpoint(folder, train_time_interval=timedelta(minutes=10)),
    ],
    "averages and checkpoints": lambda folder: [cb.EMAWeightAveraging(), cb.ModelCheckpoint(folder)],
    "stochastic averages and stopping": lambda folder: [
        cb.StochasticWeightAveraging(0.01),
        cb.EarlyStopping("val_loss"),
        cb.ModelCheckpoint(folder),
    ],
    "progress and time": lambda folder: [cb.RichProgressBar(), cb.RichModelSummary(), cb.Timer(duration={"hours": 1})],
    "pruning and a schedule": lambda folder: [
        cb.ModelPruning("l1_unstructured", amount=0.2),
        cb.GradientAccumulationScheduler({0: 2}),
        cb.LearningRateMonitor("epoch"),
    ],
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "bfloat16": {"precision": "bf16-mixed"},
    "accumulation": {"accumulate_grad_batches": 4},
    "clipping": {"gradient_clip_val": 0.5},
    "clipping by value, accumulation": {
        "gradient_clip_val": 0.5,
        "gradient_clip_algorithm": "value",
        "accumulate_grad_batches": 2,
    },
    "bfloat16, clipping, accumulation": {
        "precision": "bf16-mixed",
        "gradient_clip_val": 1.0,
        "accumulate_grad_batches": 2,
    },
    "short": {"limit_train_batches": 2, "limit_val_batches": 1, "num_sanity_val_steps": 0},
    "a fast development run": {"fast_dev_run": True},
    "every other epoch": {"check_val_every_n_epoch": 2},
    "by steps": {"max_steps": 10, "val_check_interval": 2, "max_epochs": -1},
    "one batch again and again": {"overfit_batches": 1},
    "anomalies": {"detect_anomaly": True, "deterministic": True},
}


class Backbone(Valid):
    """A module for BackboneFinetuning."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 3)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.layer.parameters(), lr=0.01)


class Scheduled(Valid):
    """A module with a schedule."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Plateau(Valid):
    """A module with a schedule that follows a figure."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


MODELS: Mapping[str, Callable[[], pl.LightningModule]] = {
    "Net": Net,
    "Valid": Valid,
    "Stepping": Stepping,
    "Scheduled": Scheduled,
    "Plateau": Plateau,
    "BoringModel": BoringModel,
    "DemoModel": DemoModel,
    "ManualOptimBoringModel": ManualOptimBoringModel,
}


def trainer(folder: Path, *callbacks: Any, **more: Any) -> pl.Trainer:
    """A trainer with what Lightning adds by itself: checkpoints, a progress bar, a summary, a logger."""
    given = {"accelerator": "cpu", "default_root_dir": folder, "max_epochs": 2, "log_every_n_steps": 1, **more}
    return pl.Trainer(callbacks=list(callbacks), logger=CSVLogger(folder), **given)


def uses() -> Iterator[Use]:
    for name, make in ALONE.items():
        yield Use(name, lambda folder, make=make: trainer(folder, make(folder)), "fit", asked(model_for(name)))
    for name in ("ModelSummary", "TQDMProgressBar", "RichProgressBar", "DeviceStatsMonitor", "Timer"):
        for run in RUNS[1:]:
            make = ALONE[name]
            yield Use(f"{name}, {run}", lambda folder, make=make: trainer(folder, make(folder)), run, asked(Valid, run))
    for name, several in TOGETHER.items():
        yield Use(name, lambda folder, several=several: trainer(folder, *several(folder)), "fit", asked(Scheduled))
    for name, settings in SETTINGS.items():
        yield Use(name, lambda folder, settings=settings: trainer(folder, **settings), "fit", asked(Scheduled))
    for name, model in MODELS.items():
        yield Use(f"the module {name}", trainer, "fit", asked(model))
    for run in RUNS:
        yield Use(f"a bare trainer, {run}", trainer, run, asked(Valid, run))
    yield Use("clipped in half precision", half, "fit", asked(Valid))


def half(folder: Path) -> pl.Trainer:
    scaler = torch.amp.GradScaler("cpu")
    return trainer(folder, plugins=MixedPrecision("16-mixed", "cpu", scaler), gradient_clip_val=0.5)


def model_for(name: str) -> Callable[[], pl.LightningModule]:
    return {"BackboneFinetuning": Backbone, "LearningRateMonitor": Scheduled}.get(name, Valid)


def asked(model: Callable[[], pl.LightningModule], run: str = "fit") -> Callable[[Any], Mapping[str, Any]]:
    """Return what a run is given: the module, and data of its kind."""
    if run != "fit":
        return lambda made: {"model": model(), "dataloaders": loader(2)}
    if model is Net:
        return lambda made: {"model": model(), "train_dataloaders": loader(4)}
    return lambda made: {"model": model(), "train_dataloaders": loader(4), "val_dataloaders": loader(2)}
