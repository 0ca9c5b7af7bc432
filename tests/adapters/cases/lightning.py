"""Tiny trainings with Lightning, of every kind that its loops know, for the conformance suite."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
    TQDMProgressBar,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.adapters.cases.lightning_watch import Watch
from tests.conformance import Case

warnings.filterwarnings("ignore", module="lightning")

# -- data and models ---------------------------------------------------------------------------------------


def loader(batches: int = 2, size: int = 2, **more: Any) -> DataLoader[Any]:
    x = torch.arange(batches * size * 3, dtype=torch.float32).reshape(-1, 3) / 10
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=size, **more)


class Stream(IterableDataset[Any]):
    """Batches without a length."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.batches):
            yield torch.full((2, 3), number / 10), torch.zeros(2, 1)


def stream(batches: int) -> DataLoader[Any]:
    return DataLoader(Stream(batches), batch_size=None)


class Net(pl.LightningModule):
    """The least that trains and validates."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def loss(self, batch: Any) -> torch.Tensor:
        return F.mse_loss(self.layer(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = F.mse_loss(self.layer(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Valid(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0])


class Hooked(Valid):
    """A module with hooks of its own, and data of its own."""

    def setup(self, stage: str) -> None:
        self.seen: list[str] = []

    def prepare_data(self) -> None:
        pass

    def configure_model(self) -> None:
        pass

    def train_dataloader(self) -> Any:
        return loader(3)

    def val_dataloader(self) -> Any:
        return loader(2)

    def test_dataloader(self) -> Any:
        return loader(1)

    def predict_dataloader(self) -> Any:
        return loader(2)

    def on_fit_start(self) -> None:
        self.seen.append("on_fit_start")

    def on_train_epoch_end(self) -> None:
        self.log("epoch_end", 1.0)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.seen.append("on_train_batch_start")

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.seen.append("on_before_zero_grad")

    def on_after_backward(self) -> None:
        self.seen.append("on_after_backward")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad()

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()

    def on_validation_model_train(self) -> None:
        self.train()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = 1

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.found = checkpoint.get("mine")

    def teardown(self, stage: str) -> None:
        pass


class Stepping(Valid):
    """An `optimizer_step` of its own, which does what Lightning's does."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


class EverySecond(Valid):
    """Steps in every second batch only, and computes gradients in all."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if batch_idx % 2:
            optimizer.step(closure=optimizer_closure)
        else:
            optimizer_closure()


class Scheduled(Valid):
    """Two schedulers: one for each step, one for each epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        by_step = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return [optimizer], [{"scheduler": by_step, "interval": "step"}, by_epoch]


class Plateau(Valid):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "val_loss"}


class Hidden(Valid):
    """What `configure_optimizers` gives cannot be read from its source."""

    def configure_optimizers(self) -> Any:
        return hidden(self)


def hidden(model: Any) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Lbfgs(Valid):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=3)


class Manual(Valid):
    """Two optimizers, stepped by hand; one of them with a closure, the other in some batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        loss = self.loss(batch)
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        if batch_idx % 2 == 0:

            def closure() -> torch.Tensor:
                inner = self.other(batch[0]).mean()
                second.zero_grad()
                self.manual_backward(inner)
                return inner

            second.step(closure=closure)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.01) for part in (self.layer, self.other)]


class Nones(Valid):
    """Gives no loss in its first batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx == 0 else self.loss(batch)


class Skipping(Valid):
    """Leaves out what is left of the epoch behind its first batch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 1 else None


class Taking(Valid):
    """Draws its batches itself."""

    def training_step(self, dataloader_iter: Iterator[Any]) -> torch.Tensor:
        batch, _, _ = next(dataloader_iter)
        return self.loss(batch)


class Saving(Valid):
    """Saves by itself, in the middle of a step."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        if batch_idx == 0:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "mine.ckpt")
        return loss


class Configuring(Valid):
    """Brings callbacks along: one replaces that of the trainer, one is moved behind all others."""

    def configure_callbacks(self) -> list[pl.Callback]:
        return [Twin("of the model"), ModelCheckpoint(self.folder), Twin("another")]


class Data(pl.LightningDataModule):
    """Loaders, the move of a batch, and a state to save."""

    def prepare_data(self) -> None:
        pass

    def setup(self, stage: str) -> None:
        self.stage = stage

    def train_dataloader(self) -> Any:
        return loader(2)

    def val_dataloader(self) -> Any:
        return [loader(1), loader(2)]

    def test_dataloader(self) -> Any:
        return loader(1)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {"stage": self.stage}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict

    def on_exception(self, exception: BaseException) -> None:
        self.failed = exception

    def teardown(self, stage: str) -> None:
        pass


# -- callbacks ---------------------------------------------------------------------------------------------


class Everywhere(pl.Callback):
    """Has every hook that a callback can have."""

    def __init__(self) -> None:
        self.seen: list[str] = []


def _noting(name: str) -> Callable[..., None]:
    def hook(self: Any, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        self.seen.append(name)

    return hook


HOOKS = [name for name in vars(pl.Callback) if name.startswith("on_") or name in ("setup", "teardown")]
for _name in HOOKS:
    setattr(Everywhere, _name, _noting(_name))


class Twin(pl.Callback):
    """Two of one class, told apart only by where they stand."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.seen: list[str] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append("on_train_batch_end")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append("on_train_epoch_end")


class Gone(pl.Callback):
    """Takes itself off the list while that is gone through: the next one is passed over."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        trainer.callbacks.remove(self)


class StopAt(pl.Callback):
    """Asks for the end of training in a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= self.batch:
            trainer.should_stop = True


class StopEarly(pl.Callback):
    """Asks for the end before training has begun."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = True


class At(pl.Callback):
    """Raises an exception at the first time that an event fires."""

    def __init__(self, event: str, exception: type[BaseException]) -> None:
        def hook(*args: Any, **kwargs: Any) -> None:
            raise exception(f"at {event}")

        setattr(self, event, hook)


class Exploring(pl.Callback):
    """Trains another model with another trainer, inside an event of the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        other = Trainer(self.folder, max_epochs=1, callbacks=[Twin()])
        other.fit(Valid(), loader(2), loader(1))


class Halting(IterableDataset[Any]):
    """Data that fails in its second batch."""

    def __iter__(self) -> Iterator[Any]:
        yield torch.zeros(2, 3), torch.zeros(2, 1)
        raise OSError("the disk is gone")


# -- runs --------------------------------------------------------------------------------------------------


def Trainer(folder: Path, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:  # noqa: N802 - stands in for the class
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "max_epochs": 2,
    }
    settings.setdefault("callbacks", list(callbacks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(**{**quiet, **settings})


def fit(
    name: str,
    kind: str,
    model: Callable[[], Any] = Valid,
    train: Callable[[], Any] | None = loader,
    val: Callable[[], Any] | None = lambda: loader(1),
    *callbacks: Callable[[Path], pl.Callback],
    raises: str | None = None,
    before: Callable[[Any, dict[str, Any], Path], None] | None = None,
    more: Callable[[Path], dict[str, Any]] = lambda folder: {},
    **settings: Any,
) -> Case:
    """A case of `trainer.fit`; what it is given hangs on the trainer, so that its map can be asked for it."""

    def make(folder: Path) -> pl.Trainer:
        trainer = Trainer(folder, *(one(folder) for one in callbacks), **settings)
        net = model()
        net.folder = folder
        given = {"model": net, "train_dataloaders": train and train(), "val_dataloaders": val and val(), **more(folder)}
        given = {key: value for key, value in given.items() if value is not None}
        if before is not None:
            before(trainer, given, folder)
        trainer.given = given
        return trainer

    return Case(name, kind, make, lambda trainer: trainer.fit(**trainer.given), "fit", asked, raises)


def asked(trainer: Any) -> Mapping[str, Any]:
    return dict(trainer.given)


def other(name: str, kind: str, run: str, model: Callable[[], Any], data: Callable[[], Any] | None, **settings: Any) -> Case:
    """A case of validate, test or predict."""

    def make(folder: Path) -> pl.Trainer:
        trainer = Trainer(folder, Everywhere(), **settings)
        trainer.given = {"model": model(), **({"dataloaders": data()} if data is not None else {})}
        return trainer

    return Case(name, kind, make, lambda trainer: getattr(trainer, run)(**trainer.given), run, asked)


def saved(trainer: Any, given: dict[str, Any], folder: Path, **settings: Any) -> None:
    """Train for a while first, and go on from that checkpoint."""
    first = Trainer(folder, **{"max_epochs": 1, **settings})
    first.fit(Valid(), loader(2), loader(1))
    first.save_checkpoint(folder / "first.ckpt")
    given["ckpt_path"] = str(folder / "first.ckpt")


def in_epoch(trainer: Any, given: dict[str, Any], folder: Path) -> None:
    """Go on from a checkpoint that was saved in the middle of an epoch."""
    checkpoint = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    Trainer(folder, checkpoint, max_epochs=1).fit(Valid(), loader(3), loader(1))
    given["ckpt_path"] = str(folder / "step=2.ckpt")


def again(trainer: Any, given: dict[str, Any], folder: Path) -> None:
    """Fit twice with one trainer: the second time goes on where the first one ended."""
    trainer.fit(**given)
    trainer.fit_loop.max_epochs += 1


def everywhere(folder: Path) -> pl.Callback:
    return Everywhere()


def checkpoint(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "checkpoints")


CASES = [
    fit("normal", "normal", Valid, loader, lambda: loader(1), everywhere, lambda _: Twin(), lambda _: Twin()),
    fit("early stopping at the end of an epoch", "early stop", Valid, loader, lambda: loader(1), everywhere,
        lambda _: EarlyStopping("val_loss", patience=1, mode="max"), max_epochs=6),
    fit("early stopping on the training loss", "", Net, loader, None,
        lambda _: EarlyStopping("loss", patience=1, mode="max", check_on_train_epoch_end=True), max_epochs=6),
    fit("stopped in the middle of an epoch", "", Valid, lambda: loader(4), lambda: loader(1), lambda _: StopAt(3), max_epochs=4),
    fit("stopped too soon", "", Valid, lambda: loader(2), lambda: loader(1), lambda _: StopAt(1), max_epochs=4, min_epochs=2),
    fit("stopped amid validations", "", Valid, lambda: loader(6), lambda: loader(1),
        lambda _: EarlyStopping("val_loss", patience=0, mode="max"), val_check_interval=2, max_epochs=3),
    fit("stopped before training", "", Valid, loader, lambda: loader(1), lambda _: StopEarly(), everywhere),
    fit("exception in a callback", "exception in a callback", Valid, loader, lambda: loader(1), everywhere,
        lambda _: At("on_before_backward", ValueError), raises="ValueError"),
    fit("exception in the model", "", lambda: Failing(ValueError), loader, None, everywhere, raises="ValueError"),
    fit("exception in the data", "", Valid, lambda: DataLoader(Halting(), batch_size=None), None, everywhere, raises="OSError"),
    fit("KeyboardInterrupt", "KeyboardInterrupt", Valid, loader, lambda: loader(1), everywhere,
        lambda _: At("on_train_batch_end", KeyboardInterrupt), raises="SystemExit"),
    fit("StopIteration in a batch", "", Valid, lambda: loader(3), lambda: loader(1), lambda _: At("on_train_batch_end", StopIteration)),
    fit("StopIteration in a validation", "", Valid, loader, lambda: loader(2), lambda _: At("on_validation_batch_end", StopIteration)),
    fit("StopIteration in an epoch", "", Valid, loader, lambda: loader(2), lambda _: At("on_train_epoch_end", StopIteration)),
    fit("StopIteration by hand", "", lambda: ManualFailing(StopIteration), loader, lambda: loader(1)),
    fit("accumulation", "accumulation", Valid, lambda: loader(5), lambda: loader(1), everywhere, accumulate_grad_batches=2),
    fit("accumulation that divides", "", Valid, lambda: loader(6), lambda: loader(1), everywhere, accumulate_grad_batches=3),
    fit("accumulation of more than there is", "", Valid, lambda: loader(2), None, everywhere, accumulate_grad_batches=4),
    fit("accumulation scheduled", "", Valid, lambda: loader(4), None, everywhere,
        lambda _: GradientAccumulationScheduler({1: 2, 2: 3}), max_epochs=3),
    fit("accumulation with a clipped gradient", "", Valid, lambda: loader(3), None, accumulate_grad_batches=2, gradient_clip_val=0.5),
    fit("validation in the middle of an epoch", "validation in the middle of an epoch", Valid, lambda: loader(4),
        lambda: loader(2), everywhere, val_check_interval=2),
    fit("validation in a fraction of an epoch", "", Valid, lambda: loader(5), lambda: loader(1), val_check_interval=0.5),
    fit("validation across epochs", "", Valid, lambda: loader(3), lambda: loader(1), everywhere, val_check_interval=2,
        check_val_every_n_epoch=None, max_epochs=3),
    fit("validation amid accumulation", "", Valid, lambda: loader(7), lambda: loader(1), everywhere, val_check_interval=3,
        accumulate_grad_batches=2),
    fit("validation in every second epoch", "", Valid, loader, lambda: loader(1), everywhere, check_val_every_n_epoch=2, max_epochs=5),
    fit("validation in every second epoch, loaders of the module", "", Hooked, None, None, everywhere,
        check_val_every_n_epoch=2, max_epochs=5, num_sanity_val_steps=0),
    fit("validation by time", "", Valid, lambda: loader(3), lambda: loader(1), val_check_interval="00:00:00:00"),
    fit("no validation", "no validation", Net, loader, None, everywhere),
    fit("no validation batches", "", Valid, loader, lambda: loader(2), everywhere, limit_val_batches=0),
    fit("an empty validation loader", "", Valid, loader, lambda: DataLoader([]), everywhere),
    fit("two validation loaders", "two validation loaders", Valid, loader, lambda: [loader(1), loader(2)], everywhere),
    fit("two training loaders", "", lambda: Pair(), lambda: [loader(1), loader(3)], None, everywhere),
    fit("no check first", "", Valid, loader, lambda: loader(2), everywhere, num_sanity_val_steps=0),
    fit("the whole check first", "", Valid, loader, lambda: loader(3), num_sanity_val_steps=-1),
    fit("max_steps in an epoch", "", Valid, lambda: loader(3), lambda: loader(1), everywhere, max_steps=4, max_epochs=-1),
    fit("max_steps with accumulation", "", Valid, lambda: loader(5), lambda: loader(1), max_steps=4, accumulate_grad_batches=2),
    fit("max_steps at the end of an epoch", "", Valid, lambda: loader(2), lambda: loader(1), max_steps=4, max_epochs=5),
    fit("limited batches", "", Valid, lambda: loader(5), lambda: loader(4), everywhere, limit_train_batches=3, limit_val_batches=0.5),
    fit("no training batches", "", Valid, loader, lambda: loader(1), everywhere, limit_train_batches=0),
    fit("fast_dev_run", "", Valid, lambda: loader(3), lambda: loader(3), everywhere, fast_dev_run=2),
    fit("overfit_batches", "", Valid, lambda: loader(3), lambda: loader(3), overfit_batches=1),
    fit("a stream", "", Valid, lambda: stream(3), lambda: stream(2), everywhere),
    fit("a stream with a limit", "", Valid, lambda: stream(5), lambda: stream(5), everywhere, limit_train_batches=3, limit_val_batches=2),
    fit("a stream that ends before its limit", "", Valid, lambda: stream(2), lambda: stream(1), limit_train_batches=3, limit_val_batches=2),
    fit("a stream with validations", "", Valid, lambda: stream(5), lambda: loader(1), val_check_interval=2),
    fit("a stream with accumulation", "", Valid, lambda: stream(5), lambda: loader(1), accumulate_grad_batches=2),
    fit("hooks of the module", "", Hooked, None, None, everywhere, checkpoint),
    fit("loaders asked for again", "", Hooked, None, None, everywhere, reload_dataloaders_every_n_epochs=1, max_epochs=3),
    fit("a data module", "", Valid, None, None, everywhere, checkpoint, more=lambda _: {"datamodule": Data()}),
    fit("an exception with a data module", "", Valid, None, None, lambda _: At("on_train_start", RuntimeError),
        more=lambda _: {"datamodule": Data()}, raises="RuntimeError"),
    fit("an optimizer_step of its own", "", Stepping, loader, None, everywhere),
    fit("an optimizer_step that does not always step", "", EverySecond, lambda: loader(3), None, everywhere),
    fit("schedulers", "", Scheduled, loader, lambda: loader(1), everywhere),
    fit("schedulers with accumulation", "", Scheduled, lambda: loader(3), lambda: loader(1), accumulate_grad_batches=2),
    fit("a scheduler on a plateau", "", Plateau, loader, lambda: loader(1)),
    fit("schedulers that cannot be read", "", Hidden, loader, lambda: loader(1)),
    fit("an optimizer that asks several times", "", Lbfgs, loader, None, everywhere),
    fit("by hand", "", Manual, lambda: loader(3), lambda: loader(1), everywhere),
    fit("by hand with max_steps", "", Manual, lambda: loader(3), lambda: loader(1), everywhere, max_steps=4),
    fit("a step without a loss", "", Nones, loader, None, everywhere),
    fit("the rest of an epoch left out", "", Skipping, lambda: loader(4), lambda: loader(1), everywhere),
    fit("a step that draws by itself", "", Taking, loader, lambda: loader(1), everywhere),
    fit("a step that saves", "", Saving, loader, None, everywhere),
    fit("callbacks of the model", "", Configuring, loader, lambda: loader(1), lambda _: Twin("of the trainer"), checkpoint, everywhere),
    fit("a callback that goes", "", Valid, loader, lambda: loader(1), lambda _: Gone(), lambda _: Twin(), everywhere),
    fit("a lambda", "", Valid, loader, None, lambda _: LambdaCallback(on_train_epoch_end=lambda trainer, pl_module: None)),
    fit("checkpoints", "", Valid, loader, lambda: loader(1), everywhere, checkpoint,
        lambda folder: ModelCheckpoint(folder / "best", monitor="val_loss", save_weights_only=True)),
    fit("checkpoints in the middle", "", Valid, lambda: loader(3), lambda: loader(1), everywhere,
        lambda folder: ModelCheckpoint(folder / "steps", every_n_train_steps=2, save_top_k=-1)),
    fit("a progress bar", "", Valid, loader, lambda: loader(1), lambda _: TQDMProgressBar(), enable_progress_bar=True,
        enable_model_summary=True),
    fit("resumed from a checkpoint", "resumed from a checkpoint", Valid, loader, lambda: loader(1), everywhere, before=saved),
    fit("resumed with max_steps", "", Valid, loader, lambda: loader(1), everywhere, max_steps=5, max_epochs=-1,
        before=saved),
    fit("resumed inside an epoch", "", Valid, lambda: loader(3), lambda: loader(1), everywhere, before=in_epoch),
    fit("resumed at the end", "", Valid, loader, lambda: loader(1), everywhere, max_epochs=1, before=saved),
    fit("fitted before", "", Valid, loader, lambda: loader(1), everywhere, before=again),
    fit("nested run", "nested run", Valid, loader, lambda: loader(1), lambda folder: Exploring(folder)),
    other("validation alone", "validation alone", "validate", Valid, lambda: loader(2)),
    other("validation of two loaders alone", "", "validate", Hooked, None),
    other("test alone", "", "test", Valid, lambda: loader(2)),
    other("prediction alone", "prediction alone", "predict", Valid, lambda: loader(2)),
    other("prediction with hooks of the module", "", "predict", Hooked, None),
]  # fmt: skip


class Pair(Net):
    """Takes a batch of each of two loaders at a time."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.loss(batch[0]) + self.loss(batch[1])


class Failing(Net):
    def __init__(self, exception: type[BaseException]) -> None:
        super().__init__()
        self.exception = exception

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise self.exception("in the model")


class ManualFailing(Manual):
    """Raises in the middle of what it does by hand, in its first batch."""

    def __init__(self, exception: type[BaseException]) -> None:
        super().__init__()
        self.exception = exception

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        if batch_idx == 0:
            raise self.exception("by hand")


IMPOSSIBLE: Mapping[str, str] = {}

EQUIVALENT: frozenset[tuple[str, str]] = frozenset()

EVENTS_THAT_RAISE = [name for name in HOOKS if name not in ("on_exception", "on_load_checkpoint", "on_save_checkpoint")
                     and "test" not in name and "predict" not in name]  # fmt: skip


def watch(obj: Any) -> Watch:
    return Watch(obj)


def thrower(
    event: str, exception: type[BaseException]
) -> tuple[Callable[[Path], Any], Callable[[Any], object], str, Any]:
    case = fit("thrown", "", Valid, loader, lambda: loader(1), everywhere, lambda _: At(event, exception))
    return case.make, case.call, case.run, case.inspect


def state(obj: Any) -> Mapping[str, Any]:
    """Weights, what was logged, and the random states."""
    model = obj.lightning_module
    found: dict[str, Any] = {f"model.{name}": value for name, value in model.state_dict().items()}
    found.update({f"logged.{name}": value for name, value in obj.logged_metrics.items()})
    for number, optimizer in enumerate(obj.optimizers):
        tensors = [value for values in optimizer.state.values() for value in values.values()]
        found.update({f"optimizer.{number}.{n}": value for n, value in enumerate(tensors)})
    seen = list(itertools.chain(*(getattr(one, "seen", []) for one in obj.callbacks)))
    return {
        **found,
        "seen": seen,
        "steps": (obj.global_step, obj.current_epoch),
        "torch": torch.get_rng_state(),
        "numpy": str(np.random.get_state()),
        "random": random.getstate(),
    }
