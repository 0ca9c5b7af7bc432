"""Tiny trainings with Lightning, of every kind that its loops know, for the conformance suite.

`CASES` go through the whole suite; `MORE` are followed along their maps only (test_protocol_lightning.py).
"""

from __future__ import annotations

import functools
import itertools
import logging
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    ModelCheckpoint,
    TQDMProgressBar,
)
from torch.utils.data import DataLoader

from tests.adapters.cases import lightning_models as made
from tests.adapters.cases.lightning_models import (
    HOOKS,
    At,
    Data,
    Everywhere,
    Exploring,
    Gone,
    Hooked,
    Net,
    StopAt,
    StopEarly,
    Twin,
    Valid,
    loader,
    stream,
    trainer_in,
)
from tests.adapters.cases.lightning_watch import Watch
from tests.conformance import Case

for _name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
    logging.getLogger(_name).setLevel(logging.ERROR)

Change = Callable[[Any, dict[str, Any], Path], None]
"""What is done before the run: to the trainer, to what the run is given, in its folder."""


def case(  # noqa: PLR0913 - what a run is given, and the settings of its trainer
    name: str,
    kind: str = "",
    model: Callable[[], Any] = Valid,
    *callbacks: Callable[[Path], pl.Callback],
    run: str = "fit",
    train: Any = 2,
    val: Any = 1,
    data: Any = None,
    raises: str | None = None,
    before: Change | None = None,
    **settings: Any,
) -> Case:
    """A case of one run; a number of batches stands for a loader with so many, None for none.

    What the run is given hangs on the trainer, so that its map can be asked for it.
    """

    @quietly
    def make(folder: Path) -> pl.Trainer:
        trainer = trainer_in(folder, *(one(folder) for one in callbacks), **settings)
        net = model()
        net.folder = folder
        given = {"model": net, "datamodule": data() if data is not None else None}
        if data is None and run == "fit":
            given |= {"train_dataloaders": loaders(train), "val_dataloaders": loaders(val)}
        elif data is None:
            given["dataloaders"] = loaders(val)
        trainer.given = {key: value for key, value in given.items() if value is not None}
        if before is not None:
            before(trainer, trainer.given, folder)
        return trainer

    @quietly
    def call(trainer: pl.Trainer) -> object:
        return getattr(trainer, run)(**trainer.given)

    return Case(name, kind, make, call, run, given_to, raises)


def quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let Lightning warn of what so small a training always has: no workers, no logger, a deprecated part of torch."""

    @functools.wraps(function)
    def quiet(*args: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args)

    return quiet


def loaders(of: Any) -> Any:
    return loader(of) if isinstance(of, int) else of() if callable(of) else of


def given_to(trainer: Any) -> Mapping[str, Any]:
    return dict(trainer.given)


def saved(trainer: Any, given: dict[str, Any], folder: Path) -> None:
    """Train one epoch first, and go on from that checkpoint."""
    first = trainer_in(folder, max_epochs=1)
    first.fit(Valid(), loader(2), loader(1))
    first.save_checkpoint(folder / "first.ckpt")
    given["ckpt_path"] = str(folder / "first.ckpt")


def saved_inside(trainer: Any, given: dict[str, Any], folder: Path) -> None:
    """Go on from a checkpoint that was saved in the middle of an epoch."""
    checkpoint = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    trainer_in(folder, checkpoint, max_epochs=1).fit(Valid(), loader(3), loader(1))
    given["ckpt_path"] = str(folder / "step=2.ckpt")


def fitted(trainer: Any, given: dict[str, Any], folder: Path) -> None:
    """Fit twice with one trainer: the second time goes on where the first one ended."""
    trainer.fit(**given)
    trainer.fit_loop.max_epochs += 1


def everywhere(folder: Path) -> pl.Callback:
    return Everywhere()


def twin(folder: Path) -> pl.Callback:
    return Twin()


def at(event: str, exception: type[BaseException]) -> Callable[[Path], pl.Callback]:
    return lambda folder: At(event, exception)


def stopping(patience: int, monitor: str = "val_loss", **more: Any) -> Callable[[Path], pl.Callback]:
    """Stops as soon as the loss has not grown for so long."""
    return lambda folder: EarlyStopping(monitor, patience=patience, mode="max", **more)


def stop_at(step: int) -> Callable[[Path], pl.Callback]:
    return lambda folder: StopAt(step)


def checkpoint(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "checkpoints")


def best(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "best", monitor="val_loss", save_weights_only=True)


def often(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "often", every_n_train_steps=2, save_top_k=-1)


def tuner(folder: Path) -> pl.Callback:
    return LearningRateFinder(num_training_steps=3, early_stop_threshold=None)


def sizes(folder: Path) -> pl.Callback:
    return BatchSizeFinder(steps_per_trial=1, max_trials=1)


CASES = [
    case("normal", "normal", Valid, everywhere, twin, twin),
    case("early stopping", "early stop", Valid, everywhere, stopping(1), max_epochs=6),
    case("stopped in the middle of an epoch", "", Valid, stop_at(3), train=4, max_epochs=4),
    case("stopped amid validations", "", Valid, stopping(0), train=6, val_check_interval=2, max_epochs=3),
    case(
        "exception in a callback",
        "exception in a callback",
        Valid,
        everywhere,
        at("on_before_backward", ValueError),
        raises="ValueError",
    ),
    case("exception in the model", "", lambda: made.Failing(ValueError), everywhere, val=None, raises="ValueError"),
    case("exception in the data", "", Valid, everywhere, train=made.halting, val=None, raises="OSError"),
    case(
        "KeyboardInterrupt",
        "KeyboardInterrupt",
        Valid,
        everywhere,
        at("on_train_batch_end", KeyboardInterrupt),
        raises="SystemExit",
    ),
    case("StopIteration in a batch", "", Valid, at("on_train_batch_end", StopIteration), train=3),
    case("accumulation", "accumulation", Valid, everywhere, train=5, accumulate_grad_batches=2),
    case(
        "validation in the middle of an epoch",
        "validation in the middle of an epoch",
        Valid,
        everywhere,
        train=4,
        val=2,
        val_check_interval=2,
    ),
    case(
        "validation amid accumulation", "", Valid, everywhere, train=7, val_check_interval=3, accumulate_grad_batches=2
    ),
    case("no validation", "no validation", Net, everywhere, val=None),
    case("two validation loaders", "two validation loaders", Valid, everywhere, val=lambda: [loader(1), loader(2)]),
    case("max_steps in an epoch", "", Valid, everywhere, train=3, max_steps=4, max_epochs=-1),
    case("a stream", "", Valid, everywhere, train=lambda: stream(3), val=lambda: stream(2)),
    case("hooks of the module", "", Hooked, everywhere, checkpoint, train=None, val=None),
    case("a data module", "", Valid, everywhere, checkpoint, data=Data),
    case("an optimizer_step of its own", "", made.Stepping, everywhere, val=None),
    case("schedulers", "", made.Scheduled, everywhere),
    case("by hand", "", made.Manual, everywhere, train=3),
    case("an exception by hand", "", lambda: made.ManualFailing(ValueError), train=2, raises="ValueError"),
    case("the rest of an epoch left out", "", made.Skipping, everywhere, train=4),
    case("callbacks of the model", "", made.Configuring, twin, checkpoint, everywhere),
    case("a callback that goes", "", Valid, lambda folder: Gone(), twin, everywhere),
    case("checkpoints", "", Valid, everywhere, checkpoint, best),
    case("resumed from a checkpoint", "resumed from a checkpoint", Valid, everywhere, before=saved),
    case("nested run", "nested run", Valid, Exploring),
    case("validation alone", "validation alone", Valid, everywhere, run="validate", val=2),
    case("prediction alone", "prediction alone", Valid, everywhere, run="predict", val=2),
    case("test alone", "", Valid, everywhere, run="test", val=2),
]

MORE = [
    case("early stopping on the training loss", "", Net, stopping(1, "loss", check_on_train_epoch_end=True), val=None),
    case("stopped too soon", "", Valid, stop_at(1), max_epochs=4, min_epochs=2),
    case("stopped before training", "", Valid, lambda folder: StopEarly(), everywhere),
    case("StopIteration in a validation", "", Valid, at("on_validation_batch_end", StopIteration), val=2),
    case("StopIteration in an epoch", "", Valid, at("on_train_epoch_end", StopIteration)),
    case("StopIteration by hand", "", lambda: made.ManualFailing(StopIteration)),
    case("accumulation that divides", "", Valid, everywhere, train=6, accumulate_grad_batches=3),
    case("accumulation of more than there is", "", Valid, everywhere, val=None, accumulate_grad_batches=4),
    case(
        "accumulation scheduled",
        "",
        Valid,
        everywhere,
        lambda folder: GradientAccumulationScheduler({1: 2, 2: 3}),
        train=4,
        val=None,
        max_epochs=3,
    ),
    case("clipping", "", Valid, train=3, val=None, accumulate_grad_batches=2, gradient_clip_val=0.5),
    case("validation in a fraction of an epoch", "", Valid, train=5, val_check_interval=0.5),
    case("validation across epochs", "", train=3, val_check_interval=2, check_val_every_n_epoch=None, max_epochs=3),
    case("validation in every second epoch", "", Valid, everywhere, check_val_every_n_epoch=2, max_epochs=5),
    case(
        "validation in every second epoch, loaders of the module",
        "",
        Hooked,
        everywhere,
        train=None,
        val=None,
        check_val_every_n_epoch=2,
        max_epochs=5,
        num_sanity_val_steps=0,
    ),
    case("validation by time", "", Valid, train=3, val_check_interval="00:00:00:00"),
    case("no validation batches", "", Valid, everywhere, limit_val_batches=0),
    case("an empty validation loader", "", Valid, everywhere, val=lambda: DataLoader([])),
    case("two training loaders", "", made.Pair, everywhere, train=lambda: [loader(1), loader(3)], val=None),
    case("no check first", "", Valid, everywhere, val=2, num_sanity_val_steps=0),
    case("the whole check first", "", Valid, val=3, num_sanity_val_steps=-1),
    case("max_steps with accumulation", "", Valid, train=5, max_steps=4, accumulate_grad_batches=2),
    case("max_steps at the end of an epoch", "", Valid, max_steps=4, max_epochs=5),
    case("limited batches", "", Valid, everywhere, train=5, val=4, limit_train_batches=3, limit_val_batches=0.5),
    case("no training batches", "", Valid, everywhere, limit_train_batches=0),
    case("fast_dev_run", "", Valid, everywhere, train=3, val=3, fast_dev_run=2),
    case("overfit_batches", "", Valid, train=3, val=3, overfit_batches=1),
    case(
        "a stream with a limit",
        "",
        train=lambda: stream(5),
        val=lambda: stream(5),
        limit_train_batches=3,
        limit_val_batches=2,
    ),
    case(
        "a stream that ends before its limit",
        "",
        train=lambda: stream(2),
        val=lambda: stream(1),
        limit_train_batches=3,
        limit_val_batches=2,
    ),
    case("a stream with validations", "", train=lambda: stream(5), val_check_interval=2),
    case("a stream with accumulation", "", train=lambda: stream(5), accumulate_grad_batches=2),
    case("loaders asked for again", "", Hooked, everywhere, train=None, val=None, reload_dataloaders_every_n_epochs=1),
    case(
        "an exception with a data module",
        "",
        Valid,
        at("on_train_start", RuntimeError),
        data=Data,
        raises="RuntimeError",
    ),
    case("an optimizer_step that does not always step", "", made.EverySecond, everywhere, train=3, val=None),
    case("schedulers with accumulation", "", made.Scheduled, train=3, accumulate_grad_batches=2),
    case("a scheduler on a plateau", "", made.Plateau),
    case("schedulers that cannot be read", "", made.Hidden),
    case("an optimizer that asks several times", "", made.Lbfgs, everywhere, val=None),
    case("by hand with max_steps", "", made.Manual, everywhere, train=3, max_steps=4),
    case("a step without a loss", "", made.Nones, everywhere, val=None),
    case("a step that draws by itself", "", made.Taking, everywhere),
    case("a step that saves", "", made.Saving, everywhere, val=None),
    case("a lambda", "", Valid, lambda folder: LambdaCallback(on_train_epoch_end=lambda trainer, pl_module: None)),
    case("checkpoints in the middle", "", Valid, everywhere, often, train=3),
    case("a progress bar", "", Valid, lambda folder: TQDMProgressBar(), enable_progress_bar=True),
    case("a tuner", "", made.Tunable, everywhere, tuner, train=None, val=None),
    case("a tuner of the batch size", "", made.Tunable, everywhere, sizes, train=None, val=None, max_epochs=1),
    case("resumed with max_steps", "", Valid, everywhere, before=saved, max_steps=5, max_epochs=-1),
    case("resumed inside an epoch", "", Valid, everywhere, before=saved_inside, train=3),
    case("resumed at the end", "", Valid, everywhere, before=saved, max_epochs=1),
    case("fitted before", "", Valid, everywhere, before=fitted),
    case("validation of a module's loaders alone", "", Hooked, everywhere, run="validate", val=None),
    case("prediction with hooks of the module", "", Hooked, everywhere, run="predict", val=None),
    case("validation of a checkpoint", "", Valid, everywhere, run="validate", before=saved),
]

IMPOSSIBLE: Mapping[str, str] = {}

EQUIVALENT = frozenset(
    {
        # a validation_step that raises StopIteration ends the pass without a word, and so without this event
        ("deleted", "on_validation_batch_end"),
    }
)

EVENTS_THAT_RAISE = [
    name
    for name in HOOKS
    if name not in ("on_exception", "on_load_checkpoint", "on_save_checkpoint")
    and "test" not in name
    and "predict" not in name
]


def watch(obj: Any) -> Watch:
    return Watch(obj)


def thrower(
    event: str, exception: type[BaseException]
) -> tuple[Callable[[Path], Any], Callable[[Any], object], str, Any]:
    found = case("thrown", "", Valid, everywhere, at(event, exception), train=1, max_epochs=1)
    return found.make, found.call, found.run, found.inspect


def state(obj: Any) -> Mapping[str, Any]:
    """Weights, what was logged and seen, and the random states."""
    model = obj.lightning_module
    found: dict[str, Any] = {f"model.{name}": value for name, value in model.state_dict().items()}
    found.update({f"logged.{name}": value for name, value in obj.logged_metrics.items()})
    for number, optimizer in enumerate(obj.optimizers):
        tensors = [value for values in optimizer.state.values() for value in values.values()]
        found.update({f"optimizer.{number}.{n}": value for n, value in enumerate(tensors)})
    return {
        **found,
        "seen": list(itertools.chain(*(getattr(one, "seen", []) for one in obj.callbacks))),
        "steps": (obj.global_step, obj.current_epoch),
        "torch": torch.get_rng_state(),
        "numpy": str(np.random.get_state()),
        "random": random.getstate(),
    }
