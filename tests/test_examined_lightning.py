"""What rules read of a Lightning run: who has hooks, what they are passed, how they are set, what is logged."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.frameworks import need

pytestmark = need("lightning")

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

import loopscope
from loopscope.adapters import lightning as adapter
from loopscope.callbacks import Examined

pytestmark = [pytestmark, pytest.mark.filterwarnings("ignore")]  # Lightning warns of small runs, and torch of Lightning


def trainer(*callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    more = {"max_epochs": 1, "enable_checkpointing": False, "limit_train_batches": 2, "limit_val_batches": 2}
    return pl.Trainer(callbacks=list(callbacks), **{**quiet, **more, **settings})


def fit(model: pl.LightningModule, *callbacks: pl.Callback, **settings: Any) -> Examined:
    return adapter.examined(trainer(*callbacks, **settings), "fit", {"model": model})


class Mine(pl.Callback):
    hello = 3

    def on_train_start(self, trainer: Any, pl_module: Any) -> None: ...

    def on_train_batch_end(self, trainer: Any, pl_module: Any) -> None: ...


def test_everybody_is_there() -> None:
    """Callbacks in calling order, then module, data module and strategy, under the ids of their handlers."""
    held = trainer(Mine(), ModelCheckpoint(monitor="val_loss", every_n_epochs=2), EarlyStopping("val_loss"),
                   enable_checkpointing=True)  # fmt: skip
    given = {"model": BoringModel(), "datamodule": BoringDataModule()}
    found = adapter.examined(held, "fit", given)
    ids = ["Mine#1", "EarlyStopping#2", "ModelCheckpoint#3", "BoringModel#0", "BoringDataModule#0"]
    assert [one.id for one in found.callbacks] == [*ids, "SingleDeviceStrategy#0"]
    binding = loopscope.inspect(held, "fit", **given).loop.binding
    assert {one.id for listed in binding.handlers.values() for one in listed} <= {one.id for one in found.callbacks}
    assert [one.shipped for one in found.callbacks] == [False, True, True, True, True, True]
    assert [one.origin for one in found.callbacks[2:5]] == ["trainer", "model", "model"]


def test_methods_are_those_below_the_base_class() -> None:
    """A callback's own methods, with why they cannot take what Lightning passes."""
    mine = fit(BoringModel(), Mine()).callbacks[0]
    assert [one.name for one in mine.methods] == ["on_train_start", "on_train_batch_end"]
    assert [one.misfit for one in mine.methods] == ["", "too many positional arguments"]
    assert "hello" in mine.attributes


def test_settings() -> None:
    """Of callbacks in their constructor's words, of the trainer as it has them."""
    found = fit(BoringModel(), EarlyStopping("x", patience=7, mode="max"), accumulate_grad_batches=4)
    assert dict(found.callbacks[0].settings) | {"monitor": "x", "patience": 7, "mode": "max"} == dict(
        found.callbacks[0].settings
    )
    assert found.settings["accumulate_grad_batches"] == 4
    assert (found.settings["max_epochs"], found.settings["logger"]) == (1, False)
    assert found.settings["validates"] is True
    assert {"setup", "on_train_batch_end", "on_exception", "state_dict"} <= set(found.events)
    assert "training_step" not in found.events


def spy(base: type, names: list[str], seen: dict[str, tuple[int, tuple[str, ...]]], first: int) -> type:
    """Return a subclass whose hooks note what they are passed: how many by place, and which by name."""

    def noting(name: str) -> Callable[..., Any]:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen[name] = (len(args), tuple(kwargs))
            return getattr(super(made, self), name)(*args, **kwargs)

        return hook

    made = type("Spy", (base,), {name: noting(name) for name in names})
    return made


def hooks(base: type, leave_out: tuple[str, ...] = ()) -> list[str]:
    from loopscope.adapters.lightning.hooks import HOOKS

    return [name for name in HOOKS if inspect.isfunction(getattr(base, name, None)) and name not in leave_out]


STEPS = ("training_step", "validation_step", "test_step", "predict_step", "backward", "configure_sharded_model")


def test_what_is_passed_is_what_lightning_passes(tmp_path: Path) -> None:
    """Each hook of a callback and of the module is called with as many arguments as a reader is told."""
    from loopscope.adapters.lightning.examining import _Passes
    from loopscope.adapters.lightning.given import given

    seen: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {"callback": {}, "module": {}}
    callback = spy(pl.Callback, hooks(pl.Callback), seen["callback"], 2)()
    module = spy(BoringModel, hooks(pl.LightningModule, STEPS), seen["module"], 0)()
    held = trainer(callback, gradient_clip_val=1.0, default_root_dir=tmp_path)
    held.fit(module, BoringModel().train_dataloader(), BoringModel().val_dataloader())
    held.save_checkpoint(tmp_path / "x.ckpt")
    held.test(module, BoringModel().test_dataloader())
    held.predict(module, BoringModel().predict_dataloader())
    package = adapter._package(held)
    loader = BoringModel().val_dataloader()
    for base, kind in ((pl.Callback, "callback"), (pl.LightningModule, "module")):
        assert len(seen[kind]) > 25
        for name, (count, words) in seen[kind].items():
            run = next((one for one in ("test", "predict") if f"_{one}_" in name), "fit")
            data = {"val_dataloaders": loader, "train_dataloaders": loader} if run == "fit" else {"dataloaders": loader}
            asked = given(package, held, run, {"model": module, **data})
            passed = _Passes(asked, base)(name)
            assert passed is not None, name
            assert (passed.count, passed.words) == (count, words), name


class Logs(BoringModel):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        found = super().training_step(batch, batch_idx)
        self.log("train_loss", found["loss"], on_epoch=True)
        self.log_dict({"a": 1.0, "b": 2.0})
        return found

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", 1.0)

    def on_test_epoch_end(self) -> None:
        self.log("tested", 1.0)


class LogsToo(pl.Callback):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("epochs", 1.0)


def test_figures_are_what_lightning_logs() -> None:
    """The names that a fit logs, as the trainer has them afterwards."""
    held, model = trainer(LogsToo()), Logs()
    found = adapter.examined(held, "fit", {"model": model}).figures
    held.fit(model)
    assert found is not None
    assert set(found) == set(held.callback_metrics)


def test_figures_without_validation() -> None:
    """Without data for it, nothing is logged while validating."""

    class Net(Logs):
        val_dataloader = pl.LightningModule.val_dataloader

    found = fit(Net())
    assert found.figures is not None
    assert "val_loss" not in found.figures
    assert found.settings["validates"] is False


class Named(BoringModel):
    def on_train_epoch_end(self) -> None:
        self.log(f"{self.__class__.__name__}_loss", 1.0)


class HandedOn(BoringModel):
    def on_train_epoch_end(self) -> None:
        report(self)


class Written(pl.Callback):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.callback_metrics["mine"] = 1.0


def report(module: pl.LightningModule) -> None:
    module.log("x", 1.0)


@pytest.mark.parametrize(
    ("model", "callbacks"),
    [(Named(), ()), (HandedOn(), ()), (Logs(), (Written(),)), (Logs(), (LearningRateMonitor(),))],
)
def test_figures_that_cannot_be_read(model: pl.LightningModule, callbacks: tuple[pl.Callback, ...]) -> None:
    """One name that only the run knows, and nothing is said of any."""
    assert fit(model, *callbacks, logger=True).figures is None
