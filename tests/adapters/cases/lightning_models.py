"""Models, data and callbacks for tiny trainings: each does one thing that the map of its loop could be wrong about."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

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


class Tunable(Valid):
    """Has the learning rate where a tuner looks for it, and brings its loaders along."""

    def __init__(self) -> None:
        super().__init__()
        self.lr = 0.01
        self.batch_size = 2

    def train_dataloader(self) -> Any:
        return loader(4, self.batch_size)

    def val_dataloader(self) -> Any:
        return loader(1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


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


def halting() -> DataLoader[Any]:
    return DataLoader(Halting(), batch_size=None)


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
        other = trainer_in(self.folder, Twin(), max_epochs=1)
        other.fit(Valid(), loader(2), loader(1))


class Halting(IterableDataset[Any]):
    """Data that fails in its second batch."""

    def __iter__(self) -> Iterator[Any]:
        yield torch.zeros(2, 3), torch.zeros(2, 1)
        raise OSError("the disk is gone")


def trainer_in(folder: Path, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    """A trainer on the CPU that says nothing and writes below `folder` only."""
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "max_epochs": 2,
        "callbacks": list(callbacks),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(**{**quiet, **settings})
