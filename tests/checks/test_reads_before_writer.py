"""reads-before-writer: who reads before the writer has written finds an older value, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need_torch

need_torch()

from tests.checks.trainings import (
    findings,
    ignite_engines,
    keras_data,
    keras_model,
    lightning_trainer,
    quiet,
    transformers_trainer,
)

RULE = "reads-before-writer"


def said(obj: Any, run: str = "", **arguments: Any) -> list[tuple[str, str]]:
    found = findings(RULE, obj, run, **arguments)
    assert {one.severity for one in found} <= {"warning"}
    return [(one.callback.partition("#")[0], one.event) for one in found]


# -- fastai ----------------------------------------------------------------------------------------------------


def fitted(learn: Any, epochs: int = 1) -> Any:
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs)
    return learn


@pytest.mark.framework("fastai")
def test_fires_fastai() -> None:
    """Order 0 is before Recorder: the first epoch has no values, and the second has those of the first."""
    from fastai.callback.core import Callback
    from fastai.test_utils import synth_learner

    class Last(Callback):
        def before_fit(self) -> None:
            self.seen: list[float] = []

        def after_epoch(self) -> None:
            self.seen.append(self.recorder.values[-1][1])

    class Patient(Last):
        def after_epoch(self) -> None:
            if self.epoch:
                self.seen.append(self.recorder.values[-1][1])

    (found,) = findings(RULE, synth_learner(cbs=Last()))
    assert (found.event, found.method, found.trust) == ("after_epoch", "after_epoch", "inferred")
    assert found.message == "Last reads learn.recorder.values in after_epoch, where Recorder writes it after it"
    assert found.do == "Set order = Recorder.order + 1 in Last, or more."
    with pytest.raises(IndexError):
        fitted(synth_learner(cbs=Last()))
    learn = synth_learner(cbs=Patient())
    assert said(learn) == [("Patient", "after_epoch")]
    assert fitted(learn, 2).patient.seen == [learn.recorder.values[0][1]]


@pytest.mark.framework("fastai")
def test_fires_fastai_on_an_attribute_that_is_made_there() -> None:
    """learn.smooth_loss is there only behind Recorder's first after_batch."""
    from fastai.callback.core import Callback
    from fastai.test_utils import synth_learner

    class Smooth(Callback):
        def after_batch(self) -> None:
            self.last = self.learn.smooth_loss

    learn = synth_learner(cbs=Smooth())
    assert said(learn) == [("Smooth", "after_batch")]
    with pytest.raises(AttributeError, match="smooth_loss"):
        fitted(learn)


@pytest.mark.framework("fastai")
def test_silent_fastai() -> None:
    """Behind the writer, at another event, asked for first, or of what is there before the run and anyway."""
    from fastai.callback.core import Callback
    from fastai.learner import Recorder
    from fastai.test_utils import synth_learner

    class Behind(Callback):
        order = Recorder.order + 1

        def after_epoch(self) -> None:
            self.last = self.recorder.values[-1]

    class Later(Callback):
        def after_train(self) -> None:
            self.last = self.recorder.losses[-1]

    class Own(Callback):
        def after_pred(self) -> None:
            self.mean = self.learn.pred.mean()

    class Double(Callback):
        order = 1

        def after_pred(self) -> None:
            self.learn.pred = self.learn.pred * 2

    class Asks(Callback):
        def after_batch(self) -> None:
            if hasattr(self.learn, "smooth_loss"):
                self.last = self.learn.smooth_loss

    class Reads(Callback):
        def after_batch(self) -> None:
            self.last = self.learn.scale

    class Grows(Callback):
        order = 1

        def after_batch(self) -> None:
            self.learn.scale = self.learn.scale * 2

    learn = synth_learner(cbs=[Behind(), Later(), Own(), Double(), Asks(), Reads(), Grows()])
    learn.scale = 1.0
    assert said(learn) == []
    fitted(learn)


# -- Keras -----------------------------------------------------------------------------------------------------


def f1() -> Any:
    """Return a callback that adds a figure, always the same."""
    import keras

    class F1(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["f1"] = 0.5

    return F1()


@pytest.mark.framework("keras")
def test_fires_keras() -> None:
    """EarlyStopping in front of the callback that adds its figure never stops; behind it, it does."""
    import keras

    stop = keras.callbacks.EarlyStopping("f1", mode="max", patience=1)
    model, wrong, right = keras_model(), keras_data(stop, f1(), epochs=4), keras_data(f1(), stop, epochs=4)
    (found,) = findings(RULE, model, **wrong)
    assert found.message == "EarlyStopping reads 'f1' in on_epoch_end, where F1 writes it after it"
    assert found.do == "Put EarlyStopping behind F1 in the list of callbacks."
    with pytest.warns(UserWarning, match="f1"):
        assert len(model.fit(**wrong).epoch) == 4
    assert said(model, **right) == []
    assert len(model.fit(**right).epoch) == 2


@pytest.mark.framework("keras")
def test_fires_keras_on_own_readers() -> None:
    """A callback of one's own that reads what a later one adds does not find it."""
    import keras

    class Keeps(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.last = logs["f1"]

    model, given = keras_model(), keras_data(Keeps(), f1())
    assert said(model, **given) == [("Keeps", "on_epoch_end")]
    with pytest.raises(KeyError, match="f1"):
        model.fit(**given)


@pytest.mark.framework("keras")
def test_silent_keras() -> None:
    """What Keras itself hands over is there for all, and what is added at one event says nothing of another."""
    import keras

    class Scales(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["val_loss"] = logs["val_loss"] * 2

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            logs["f1"] = 1.0

    watchers = [keras.callbacks.EarlyStopping("val_loss"), keras.callbacks.EarlyStopping("f1", mode="max")]
    assert said(keras_model(), **keras_data(*watchers, Scales())) == []


# -- Transformers ----------------------------------------------------------------------------------------------


def evaluates() -> Any:
    """Return a callback that adds a figure to those of an evaluation, always the same."""
    from transformers.trainer_callback import TrainerCallback

    class F1(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
            metrics["eval_f1"] = 0.5

    return F1()


@pytest.mark.framework("transformers")
def test_fires_transformers(tmp_path: Path) -> None:
    """EarlyStoppingCallback in front of the callback that adds its figure never stops; behind it, it does."""
    from transformers.trainer_callback import EarlyStoppingCallback

    stop = EarlyStoppingCallback(early_stopping_patience=1)
    wrong = transformers_trainer(tmp_path, stop, evaluates(), metric_for_best_model="f1")
    assert said(wrong, "train") == [("EarlyStoppingCallback", "on_evaluate")]
    stop = EarlyStoppingCallback(early_stopping_patience=1)
    right = transformers_trainer(tmp_path, evaluates(), stop, metric_for_best_model="f1")
    assert said(right, "train") == []
    with quiet():
        wrong.train()
        right.train()
    assert (wrong.state.epoch, right.state.epoch) == (3, 2)


@pytest.mark.framework("transformers")
def test_silent_transformers(tmp_path: Path) -> None:
    """The loss of an evaluation is there for all."""
    from transformers.trainer_callback import EarlyStoppingCallback, TrainerCallback

    class Scales(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
            metrics["eval_loss"] = metrics["eval_loss"] * 2

    trainer = transformers_trainer(tmp_path, EarlyStoppingCallback(), Scales(), metric_for_best_model="loss")
    assert said(trainer, "train") == []


# -- Lightning -------------------------------------------------------------------------------------------------


@pytest.mark.framework("lightning")
def test_fires_lightning() -> None:
    """A module logs in on_validation_epoch_end behind all callbacks: what they read there is not there."""
    from lightning.pytorch import Callback
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Logs(BoringModel):
        def on_validation_epoch_end(self) -> None:
            self.log("val_acc", 0.5)

    class Reads(Callback):
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.last = trainer.callback_metrics["val_acc"]

    class Later(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            self.seen = float(trainer.callback_metrics["val_acc"])

    later = Later()
    model, trainer, right = Logs(), lightning_trainer(Reads()), lightning_trainer(later)
    (found,) = findings(RULE, trainer, "fit", model=model)
    assert found.message == "Reads reads 'val_acc' in on_validation_epoch_end, where Logs writes it after it"
    assert found.threads == ("pytorch-lightning#17131",)
    with pytest.raises(KeyError, match="val_acc"), quiet():
        trainer.fit(model)
    assert said(right, "fit", model=Logs()) == []
    with quiet():
        right.fit(Logs())
    assert later.seen == 0.5


@pytest.mark.framework("lightning")
def test_silent_lightning() -> None:
    """What a step has logged is there at the end of its epoch."""
    from lightning.pytorch import Callback
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Logs(BoringModel):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("val_loss", self.step(batch))

    class Reads(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            self.seen = float(trainer.callback_metrics["val_loss"])

    trainer = lightning_trainer(Reads())
    assert said(trainer, "fit", model=Logs()) == []
    with quiet():
        trainer.fit(Logs())


# -- ignite ----------------------------------------------------------------------------------------------------


def attached(first: str) -> tuple[Any, list[Any]]:
    """Return a trainer with a handler that runs an evaluator and one that reads its metrics, one of them `first`."""
    from ignite.engine import Events

    trainer, evaluator = ignite_engines()
    seen: list[Any] = []

    def evaluate(engine: Any) -> None:
        evaluator.run([1, 2, engine.state.epoch])

    def report(engine: Any) -> None:
        seen.append(evaluator.state.metrics.get("average"))

    for handler in (evaluate, report) if first == "evaluate" else (report, evaluate):
        trainer.add_event_handler(Events.EPOCH_COMPLETED, handler)
    return trainer, seen


@pytest.mark.framework("ignite")
def test_fires_ignite() -> None:
    """A report that is attached before the evaluation has the metrics of the epoch before."""
    trainer, seen = attached("report")
    (found,) = findings(RULE, trainer, "run", data=[1, 2], max_epochs=2)
    assert found.message == (
        "report reads evaluator.state.metrics in EPOCH_COMPLETED, where evaluate writes it after it"
    )
    trainer.run([1, 2], max_epochs=2)
    assert seen == [None, pytest.approx((1 + 2 + 1) / 3)]


@pytest.mark.framework("ignite")
def test_silent_ignite() -> None:
    """A report that is attached behind the evaluation has this epoch's metrics."""
    trainer, seen = attached("evaluate")
    assert said(trainer, "run", data=[1, 2], max_epochs=2) == []
    trainer.run([1, 2], max_epochs=2)
    assert seen == [pytest.approx(4 / 3), pytest.approx(5 / 3)]
