"""metric-not-logged: a watcher of a figure that is not there fails, or does nothing."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need_torch

need_torch()

import torch

from tests.checks.trainings import (
    findings,
    keras_data,
    keras_model,
    lightning_trainer,
    quiet,
    transformers_trainer,
)

RULE = "metric-not-logged"


def said(obj: Any, run: str = "", **arguments: Any) -> list[tuple[str, str]]:
    return [(one.callback.partition("#")[0], one.severity) for one in findings(RULE, obj, run, **arguments)]


# -- fastai ----------------------------------------------------------------------------------------------------


def learner(**more: Any) -> Any:
    from fastai.metrics import mae, mse
    from fastai.test_utils import synth_learner

    return synth_learner(metrics=[mae, mse], **more)


def fitted(learn: Any, **arguments: Any) -> Any:
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, **arguments)
    return learn


@pytest.mark.framework("fastai")
def test_fires_fastai(tmp_path: Path) -> None:
    """A tracker of a figure that Recorder does not keep: fit fails before the first batch."""
    from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback

    stop, save = EarlyStoppingCallback(monitor="val_loss"), SaveModelCallback(monitor="accuracy", every_epoch=True)
    learn = learner(path=tmp_path)
    first, second = findings(RULE, learn, cbs=[stop, save])
    assert (first.severity, first.trust) == ("error", "inferred")
    assert "watches 'val_loss', which this run does not log: the run fails in before_fit" in first.message
    assert first.do == "Watch 'valid_loss', or log 'val_loss'."
    assert first.evidence[1] == "this run logs train_loss, valid_loss, mae, mse, time"
    assert second.callback.startswith("SaveModelCallback#")
    for one in (stop, save):
        with pytest.raises(IndexError):  # a bare assert, of which fastai's own message finds no argument
            fitted(learn, cbs=one)


@pytest.mark.framework("fastai")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train_metrics": True},
        {"train_metrics": True, "valid_metrics": False},
        {"valid_metrics": False},
        {"add_time": False},
        {"train_metrics": True, "add_time": False},
    ],
)
def test_figures_of_fastai(settings: dict[str, bool]) -> None:
    """The figures are Recorder's names, whatever it is set to."""
    from loopscope.adapters import fastai

    learn = learner()
    for name, value in settings.items():
        setattr(learn.recorder, name, value)
    figures = fastai.examined(learn, "fit", {"n_epoch": 1}).figures
    assert figures == tuple(fitted(learn).recorder.metric_names[1:])


@pytest.mark.framework("fastai")
def test_silent_fastai() -> None:
    """A figure that is there; a tracker that is switched off; names that a callback of one's own adds."""
    from fastai.callback.core import Callback
    from fastai.callback.tracker import EarlyStoppingCallback

    class Names(Callback):
        order = 51

        def before_fit(self) -> None:
            self.recorder.metric_names = [*self.recorder.metric_names, "f1"]

    missing = EarlyStoppingCallback(monitor="f1")
    assert said(learner(), cbs=[EarlyStoppingCallback(monitor="mae")]) == []
    assert said(learner(), cbs=[Names(), missing]) == []
    missing.run = False
    fitted(learn := learner(cbs=missing))
    missing.run = False
    assert said(learn) == []
    fitted(learner(), cbs=[Names(), EarlyStoppingCallback(monitor="mae")])


# -- Keras -----------------------------------------------------------------------------------------------------


@pytest.mark.framework("keras")
def test_fires_keras(tmp_path: Path) -> None:
    """Without validation data there is no val_loss: Keras warns, and neither stops nor picks the best."""
    import keras

    stop = keras.callbacks.EarlyStopping(patience=0, min_delta=1e9)
    best = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", save_best_only=True)
    model, given = keras_model("mae"), keras_data(stop, best, validated=False, epochs=3)
    first, second = findings(RULE, model, **given)
    assert (first.callback.partition("#")[0], first.severity) == ("EarlyStopping", "warning")
    assert first.do == "Give fit validation data, or watch 'loss'."
    assert "it saves every epoch, the best or not" in second.message
    with pytest.warns(UserWarning, match="val_loss"):
        history = model.fit(**given)
    assert len(history.epoch) == 3
    assert sorted(one.name for one in tmp_path.iterdir()) == ["1.keras", "2.keras", "3.keras"]


@pytest.mark.framework("keras")
def test_fires_keras_as_an_error() -> None:
    """Of a figure that is none of its metrics, Keras does not know whether less is better, and raises."""
    import keras

    model, given = keras_model("mae"), keras_data(keras.callbacks.EarlyStopping("val_f1"))
    (found,) = findings(RULE, model, **given)
    assert (found.severity, "raises ValueError" in found.message) == ("error", True)
    with pytest.raises(ValueError, match="automatically determine"):
        model.fit(**given)


@pytest.mark.framework("keras")
def test_silent_keras(tmp_path: Path) -> None:
    """Figures that are there; a checkpoint of every epoch, which watches none; a callback that adds its own."""
    import keras

    class F1(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["f1"] = 1.0

    each = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras", mode="min")
    there = [keras.callbacks.EarlyStopping("val_mae"), keras.callbacks.ReduceLROnPlateau()]
    assert said(keras_model("mae"), **keras_data(*there)) == []
    assert said(keras_model("mae"), **keras_data(each, validated=False)) == []
    assert said(keras_model("mae"), **keras_data(F1(), keras.callbacks.EarlyStopping("f1", mode="max"))) == []


@pytest.mark.framework("keras")
@pytest.mark.parametrize("kind", ["helper", "name", "update", "keeper", "star", "alias", "base"])
def test_silent_keras_when_logs_are_handed_on(kind: str) -> None:
    """Whoever gets hold of the logs may add a figure, under whatever name: Keras really finds it, and does not warn."""
    import keras

    class Helper(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.score(epoch, logs)

        def score(self, epoch: int, logs: Any) -> None:
            logs["f1"] = 1.0

    class Name(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, log: Any = None) -> None:
            log["f1"] = 1.0

    class Update(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs |= {"f1": 1.0}

    class Keeper(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.held = logs
            self.held["f1"] = 1.0

    class Star(keras.callbacks.Callback):
        def on_epoch_end(self, *given: Any) -> None:
            given[-1]["f1"] = 1.0

    class Alias(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            mine = logs or {}
            mine["f1"] = 1.0

    class Base(Name):
        def on_epoch_end(self, epoch: int, log: Any = None) -> None:
            super().on_epoch_end(epoch, log)

    classes = {"helper": Helper, "name": Name, "update": Update, "keeper": Keeper, "star": Star, "alias": Alias}
    adds = {**classes, "base": Base}[kind]()
    model, given = keras_model("mae"), keras_data(adds, keras.callbacks.EarlyStopping("f1", mode="max"))
    assert said(model, **given) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(**given)


@pytest.mark.framework("keras")
def test_fires_keras_beside_readers() -> None:
    """Who only reads the logs adds nothing."""
    import keras

    class Reads(keras.callbacks.EarlyStopping):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            logs = logs or {}
            self.told = [f"{epoch}: {logs}", dict(logs), *logs]
            for name, value in logs.items():
                self.last = {**logs, name: value}
            if logs and "loss" in logs and logs.get("loss") is not None:
                self.loss = logs["loss"]

    given = keras_data(Reads("mae", mode="min"), keras.callbacks.EarlyStopping("f1", mode="max"))
    (found,) = findings(RULE, keras_model("mae"), **given)
    assert (found.callback, found.severity) == ("EarlyStopping#2", "warning")
    model = keras_model("mae")
    with pytest.warns(UserWarning, match="f1"):
        model.fit(**given)


# -- Transformers ----------------------------------------------------------------------------------------------


@pytest.mark.framework("transformers")
def test_fires_transformers(tmp_path: Path) -> None:
    """The trainer looks for metric_for_best_model after its first evaluation, and raises KeyError."""
    trainer = transformers_trainer(tmp_path, metric_for_best_model="accuracy")
    (found,) = findings(RULE, trainer, "train")
    assert (found.callback, found.severity) == ("", "error")
    assert "metric_for_best_model is 'accuracy', and no evaluation gives eval_accuracy" in found.message
    with pytest.raises(KeyError, match="eval_accuracy"), quiet():
        trainer.train()


@pytest.mark.framework("transformers")
def test_silent_transformers(tmp_path: Path) -> None:
    """The loss is always there; what compute_metrics returns only the run knows."""
    there = transformers_trainer(tmp_path, metric_for_best_model="loss")
    computed = transformers_trainer(
        tmp_path, metric_for_best_model="accuracy", compute_metrics=lambda _: {"accuracy": 1.0}
    )
    assert said(there, "train") == []
    assert said(computed, "train") == []
    with quiet():
        there.train()
        computed.train()


# -- Lightning -------------------------------------------------------------------------------------------------


def module() -> Any:
    """Return a module that logs val_loss."""
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Logs(BoringModel):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("val_loss", self.step(batch))

    return Logs()


@pytest.mark.framework("lightning")
def test_fires_lightning(tmp_path: Path) -> None:
    """Lightning raises when it first looks for a figure that the module does not log."""
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    for watcher, error in (
        (EarlyStopping("val_acc"), RuntimeError),
        (ModelCheckpoint(tmp_path, monitor="val_acc"), MisconfigurationException),
    ):
        trainer = lightning_trainer(watcher, enable_checkpointing=isinstance(watcher, ModelCheckpoint))
        model = module()
        (found,) = findings(RULE, trainer, "fit", model=model)
        assert (found.callback.partition("#")[0], found.severity) == (type(watcher).__name__, "error")
        assert found.evidence[1] == "this run logs val_loss"
        with pytest.raises(error, match="val_acc"), quiet():
            trainer.fit(model)


@pytest.mark.framework("lightning")
def test_silent_lightning(tmp_path: Path) -> None:
    """A figure that is logged; one that need not be there; a dry run, which looks at nothing."""
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    best = ModelCheckpoint(tmp_path, monitor="val_loss")
    for trainer in (
        lightning_trainer(EarlyStopping("val_loss"), best, enable_checkpointing=True),
        lightning_trainer(EarlyStopping("val_acc", strict=False)),
        lightning_trainer(EarlyStopping("val_acc"), fast_dev_run=True),
    ):
        model = module()
        assert said(trainer, "fit", model=model) == []
        with quiet():
            trainer.fit(model)


def bare(**own: Any) -> Any:
    """Return a module with methods of one's own, and with no training_step that logs."""
    from lightning.pytorch.demos.boring_classes import BoringModel

    return type("Bare", (BoringModel,), own)()


def log_all(module: Any, name: str) -> None:
    module.log(name, 1.0)


class Helpers:
    """Functions that log for a module, as an attribute of something."""

    log_all = staticmethod(log_all)


def by_function(self: Any, batch: Any, batch_idx: int) -> None:
    Helpers.log_all(self, "acc")


def by_object(self: Any, batch: Any, batch_idx: int) -> None:
    helpers = Helpers()
    helpers.log_all(module=self, name="acc")


def by_trainer(self: Any, batch: Any, batch_idx: int) -> None:
    Helpers.log_all(self.trainer.lightning_module, "acc")


def by_alias(self: Any, batch: Any, batch_idx: int) -> None:
    figures = self.trainer.callback_metrics
    figures["acc"] = torch.tensor(1.0)


def by_numbers(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
    self.log("acc", 1.0)


def two_loaders(self: Any) -> Any:
    one = self.train_dataloader()
    return [one, one]


@pytest.mark.framework("lightning")
@pytest.mark.parametrize("step", [by_function, by_object, by_trainer, by_alias, by_numbers])
def test_silent_lightning_when_others_may_log(step: Any) -> None:
    """Code that is given the module, an alias of the figures, a number behind a name: Lightning finds the figure."""
    from lightning.pytorch.callbacks import EarlyStopping

    numbered = step is by_numbers
    watcher = EarlyStopping("acc/dataloader_idx_0" if numbered else "acc")
    model = bare(validation_step=step, **({"val_dataloader": two_loaders} if numbered else {}))
    trainer = lightning_trainer(watcher)
    assert said(trainer, "fit", model=model) == []
    with quiet():
        trainer.fit(model)


@pytest.mark.framework("lightning")
def test_silent_lightning_when_a_callback_hands_the_module_on() -> None:
    """A callback that gives the module away under a name of its own."""
    from lightning.pytorch import Callback
    from lightning.pytorch.callbacks import EarlyStopping

    class Logs(Callback):
        def on_validation_epoch_end(self, trainer: Any, net: Any) -> None:
            Helpers.log_all(net, "acc")

    class Tells(Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.tell(pl_module)

        def tell(self, net: Any) -> None:
            Helpers.log_all(net, "acc")

    for logs in (Logs(), Tells()):
        trainer, model = lightning_trainer(logs, EarlyStopping("acc")), module()
        assert said(trainer, "fit", model=model) == []
        with quiet():
            trainer.fit(model)


@pytest.mark.framework("lightning")
def test_fires_lightning_beside_harmless_calls() -> None:
    """What reads the figures, calls the module's own methods, or copies the module, logs nothing."""
    from lightning.pytorch import Callback
    from lightning.pytorch.callbacks import EarlyStopping
    from torch.utils.data import DataLoader

    class Reads(Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            figures = trainer.callback_metrics
            if "val_loss" in figures:
                self.tell(trainer, float(figures["val_loss"]))
            self.kept = copy.deepcopy(pl_module)

        def tell(self, trainer: Any, value: float) -> None:
            self.told = (isinstance(trainer, object), value)

    def val_dataloader(self: Any) -> Any:
        loader = DataLoader(torch.ones(4, 32))
        assert len(loader) == 4
        return loader

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.step(batch))

    trainer = lightning_trainer(EarlyStopping("val_acc"), Reads())
    model = bare(validation_step=validation_step, val_dataloader=val_dataloader)
    (found,) = findings(RULE, trainer, "fit", model=model)
    assert found.evidence[1] == "this run logs val_loss"
    with pytest.raises(RuntimeError, match="val_acc"), quiet():
        trainer.fit(model)


def in_one_dict(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": "val_los"}


def in_a_branch(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    if self.training is None:
        return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": "val_los"}
    return optimizer


def in_a_config(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": schedule, "monitor": "val_los", "interval": "epoch", "frequency": 1},
    }


def in_lists(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return [optimizer], [{"scheduler": schedule, "monitor": "val_los"}]


def not_strict(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return [optimizer], [{"scheduler": schedule, "monitor": "val_los", "strict": False}]


def no_plateau(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": "val_los"}


def that_is_there(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return {"optimizer": optimizer, "lr_scheduler": schedule, "monitor": "val_loss"}


@pytest.mark.framework("lightning")
@pytest.mark.parametrize("configured", [in_one_dict, in_a_config, in_lists])
def test_fires_lightning_on_a_schedule(configured: Any) -> None:
    """Lightning raises after the first epoch if a ReduceLROnPlateau follows what nobody logs."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    trainer, model = lightning_trainer(), scheduled(configured)
    (found,) = findings(RULE, trainer, "fit", model=model)
    assert (found.callback, found.method, found.severity) == ("Scheduled#0", "configure_optimizers", "error")
    assert found.do == "Watch 'val_loss', or log 'val_los'."
    with pytest.raises(MisconfigurationException, match="val_los "), quiet():
        trainer.fit(model)


@pytest.mark.framework("lightning")
@pytest.mark.parametrize("configured", [in_a_branch, not_strict, no_plateau, that_is_there])
def test_silent_lightning_on_a_schedule(configured: Any) -> None:
    """A figure that is there; one that need not be; a schedule that follows none; what only the run decides."""
    trainer, model = lightning_trainer(), scheduled(configured)
    assert said(trainer, "fit", model=model) == []
    with quiet():
        trainer.fit(model)


def scheduled(configured: Any) -> Any:
    return type("Scheduled", (type(module()),), {"configure_optimizers": configured})()
