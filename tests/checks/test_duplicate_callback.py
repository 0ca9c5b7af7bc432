"""duplicate-callback: what stands in a list twice is called twice."""

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

RULE = "duplicate-callback"


def said(obj: Any, run: str = "", **arguments: Any) -> list[tuple[str, str]]:
    return [(one.callback.partition("#")[0], one.severity) for one in findings(RULE, obj, run, **arguments)]


# -- fastai ----------------------------------------------------------------------------------------------------


def fitted(learn: Any, epochs: int = 1, **arguments: Any) -> Any:
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs, **arguments)
    return learn


@pytest.mark.framework("fastai")
def test_fires_fastai() -> None:
    """One object twice counts each batch twice; when a fit takes it out again, the one that stays has no learner."""
    from fastai.callback.core import Callback
    from fastai.test_utils import synth_learner

    class Count(Callback):
        n = 0

        def after_step(self) -> None:
            self.n += 1

    one = Count()
    learn = synth_learner(cbs=one)
    (found,) = findings(RULE, learn, cbs=one)
    assert (found.severity, found.trust) == ("error", "declared")
    assert "is there twice, as one object" in found.message
    batches = len(learn.dls.train)
    fitted(learn, cbs=one)
    assert one.n == 2 * batches
    assert (one in learn.cbs, one.learn) == (True, None)


@pytest.mark.framework("fastai")
def test_fires_fastai_on_shipped_twins(tmp_path: Path) -> None:
    """Two that fastai ships undo or repeat each other's work, each as the finding says."""
    from fastai.callback.core import Callback, TrainEvalCallback
    from fastai.callback.progress import ProgressCallback
    from fastai.callback.tracker import ReduceLROnPlateau, SaveModelCallback
    from fastai.callback.training import GradientAccumulation
    from fastai.learner import Recorder
    from fastai.metrics import mae
    from fastai.test_utils import synth_learner

    learn = synth_learner(cbs=TrainEvalCallback())
    assert said(learn) == [("TrainEvalCallback", "error")]
    assert fitted(learn).pct_train == pytest.approx(2)

    shares: list[float] = []
    share = Callback(before_backward=lambda cb: shares.append(float(cb.learn.loss_grad / cb.learn.loss)))
    learn = synth_learner(cbs=[GradientAccumulation(64), GradientAccumulation(64), share])
    assert said(learn) == [("GradientAccumulation", "error")]
    with quiet():
        fitted(learn)
    assert shares[0] == pytest.approx((16 / 64) ** 2)

    never = 1e6
    learn = synth_learner(cbs=[ReduceLROnPlateau(min_delta=never), ReduceLROnPlateau(min_delta=never)], lr=1.0)
    assert said(learn) == [("ReduceLROnPlateau", "error")]
    fitted(learn, 2)
    assert learn.opt.hypers[-1]["lr"] == pytest.approx(0.01)

    rows: list[Any] = []
    learn = synth_learner(cbs=Recorder(train_metrics=True))
    learn.logger = rows.append
    assert said(learn) == [("Recorder", "warning")]
    with learn.no_bar():
        learn.fit(1)
    assert len([row for row in rows if row[0] == 0]) == 2

    learn = synth_learner(cbs=ProgressCallback())
    assert said(learn) == [("ProgressCallback", "warning")]
    learn.fit(1)
    assert learn.logger.__self__ in learn.cbs

    learn = synth_learner(path=tmp_path, metrics=mae, cbs=[SaveModelCallback(), SaveModelCallback(monitor="mae")])
    assert said(learn) == [("SaveModelCallback", "error")]


@pytest.mark.framework("fastai")
def test_silent_fastai(tmp_path: Path) -> None:
    """Two of one class that do not meet: two schedules, two patiences, two files."""
    from fastai.callback.schedule import ParamScheduler, SchedLin
    from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
    from fastai.test_utils import synth_learner

    apart = [
        *(ParamScheduler({"lr": SchedLin(0.1, 0.2)}), ParamScheduler({"mom": SchedLin(0.9, 0.8)})),
        *(EarlyStoppingCallback(patience=2), EarlyStoppingCallback(monitor="train_loss", patience=5)),
        *(SaveModelCallback(fname="best"), SaveModelCallback(monitor="train_loss", fname="fit")),
    ]
    assert said(synth_learner(path=tmp_path, cbs=apart)) == []


# -- Keras -----------------------------------------------------------------------------------------------------


@pytest.mark.framework("keras")
def test_fires_keras() -> None:
    """One EarlyStopping twice counts each epoch twice: a patience of four stops after three epochs."""
    import keras

    def epochs(*names: str) -> tuple[int, list[tuple[str, str]]]:
        stop = keras.callbacks.EarlyStopping("loss", patience=4, min_delta=1e9)
        given = keras_data(*[stop for _ in names], epochs=9)
        model = keras_model()
        return len(model.fit(**given).epoch), said(model, **given)

    assert epochs("once") == (5, [])
    assert epochs("once", "twice") == (3, [("EarlyStopping", "error")])


@pytest.mark.framework("keras")
def test_fires_keras_on_shipped_twins(tmp_path: Path) -> None:
    """Two ReduceLROnPlateau of one figure reduce twice at once; two best models go into one file."""
    import keras

    def plateau() -> Any:
        return keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1e9)

    model, given = keras_model(), keras_data(plateau(), plateau())
    assert said(model, **given) == [("ReduceLROnPlateau", "error")]
    model.fit(**given)
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.01 * 0.1**2)
    file = tmp_path / "best.keras"
    two = [keras.callbacks.ModelCheckpoint(file, name, save_best_only=True) for name in ("loss", "val_loss")]
    assert said(model, **keras_data(*two)) == [("ModelCheckpoint", "error")]


@pytest.mark.framework("keras")
def test_silent_keras(tmp_path: Path) -> None:
    """Two figures, two files, and one's own classes, whose settings cannot be compared."""
    import keras

    class Mine(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...

    apart = [
        *(keras.callbacks.ReduceLROnPlateau("loss"), keras.callbacks.ReduceLROnPlateau("val_loss")),
        *(keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", save_best_only=True) for name in "ab"),
        *(Mine(), Mine()),
    ]
    assert said(keras_model(), **keras_data(*apart)) == []


# -- Transformers ----------------------------------------------------------------------------------------------


@pytest.mark.framework("transformers")
def test_fires_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object twice runs twice; two printers print each line twice."""
    from transformers.trainer_callback import PrinterCallback, TrainerCallback

    class Count(TrainerCallback):
        n = 0

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.n += 1

    one = Count()
    trainer = transformers_trainer(tmp_path, one, one, PrinterCallback())
    assert sorted(said(trainer, "train")) == [("Count", "error"), ("PrinterCallback", "warning")]
    capsys.readouterr()
    with quiet():
        trainer.train()
    assert one.n == 2 * 3
    lines = [line for line in capsys.readouterr().out.splitlines() if "'eval_loss'" in line]
    assert len(lines) == 2 * 3


@pytest.mark.framework("transformers")
def test_silent_transformers(tmp_path: Path) -> None:
    """Callbacks of different classes, and two early stoppings, which do each other no harm."""
    from transformers.trainer_callback import EarlyStoppingCallback

    stops = [EarlyStoppingCallback(1), EarlyStoppingCallback(3)]
    assert said(transformers_trainer(tmp_path, *stops, metric_for_best_model="loss"), "train") == []


# -- Lightning -------------------------------------------------------------------------------------------------


@pytest.mark.framework("lightning")
def test_fires_lightning() -> None:
    """Lightning refuses two callbacks with one state; one without a state stands there twice, and runs twice."""
    from lightning.pytorch import Callback
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Count(Callback):
        n = 0

        def on_train_batch_end(self, *args: Any) -> None:
            self.n += 1

    one = Count()
    trainer, model = lightning_trainer(one, one), BoringModel()
    assert said(trainer, "fit", model=model) == [("Count", "error")]
    with quiet():
        trainer.fit(model)
    assert one.n == 2 * 4
    stop = EarlyStopping("x")
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        lightning_trainer(stop, stop)


@pytest.mark.framework("lightning")
def test_silent_lightning() -> None:
    """Two objects of one class are two callbacks."""
    from lightning.pytorch import Callback
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Count(Callback):
        def on_train_batch_end(self, *args: Any) -> None: ...

    assert said(lightning_trainer(Count(), Count()), "fit", model=BoringModel()) == []


# -- ignite ----------------------------------------------------------------------------------------------------


@pytest.mark.framework("ignite")
def test_fires_ignite() -> None:
    """A cell that attaches a handler and is run twice has it run twice."""
    from ignite.engine import Engine, Events

    trainer, _ = ignite_engines()
    ran: list[int] = []

    def report(engine: Engine) -> None:
        ran.append(engine.state.epoch)

    for _ in range(2):
        trainer.add_event_handler(Events.EPOCH_COMPLETED, report)
    (found,) = findings(RULE, trainer, "run", data=[1, 2])
    assert (found.severity, found.event) == ("error", "EPOCH_COMPLETED")
    assert found.message == "report is attached to EPOCH_COMPLETED 2 times: it runs as often"
    trainer.run([1, 2])
    assert ran == [1, 1]


@pytest.mark.framework("ignite")
def test_silent_ignite() -> None:
    """At another event, with other arguments or under another condition it is other work."""
    from ignite.engine import Events

    trainer, _ = ignite_engines()

    def report(engine: Any, what: str = "") -> None: ...

    trainer.add_event_handler(Events.EPOCH_COMPLETED, report)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, report, "loss")
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), report)
    trainer.add_event_handler(Events.COMPLETED, report)
    assert said(trainer, "run", data=[1, 2], max_epochs=4) == []


@pytest.mark.framework("fastai")
def test_fires_fastai_on_mixed_precision_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two share the scaler that the second one made: the loss is scaled twice, and the first step fails."""
    import torch
    from fastai.callback import fp16
    from fastai.callback.core import Callback
    from fastai.test_utils import synth_learner

    learn = synth_learner(cbs=[fp16.MixedPrecision(), fp16.MixedPrecision()])
    assert said(learn) == [("MixedPrecision", "warning")]
    both = [fp16.MixedPrecision(amp_mode="bf16"), fp16.MixedPrecision(amp_mode="bf16")]
    assert said(synth_learner(cbs=both)) == []  # which has no scaler

    shares: list[float] = []
    share = Callback(before_step=lambda cb: shares.append(float(cb.learn.loss_grad / cb.learn.loss)))
    share.order = 5
    monkeypatch.setattr(fp16, "GradScaler", lambda _, **more: torch.amp.GradScaler("cpu", init_scale=4.0, **more))
    monkeypatch.setattr(fp16, "autocast", lambda *_, **__: torch.autocast("cpu", enabled=False))
    learn.add_cb(share)
    with quiet(), pytest.raises(AssertionError, match="No inf checks were recorded"):
        fitted(learn)
    assert shares == [pytest.approx(4.0 * 4.0)]


@pytest.mark.framework("fastai")
def test_fires_fastai_on_two_schedules_of_one_hyper() -> None:
    """Of two that set the learning rate before each batch the later one is heard: fit_one_cycle's own."""
    from fastai.callback.schedule import ParamScheduler, SchedLin
    from fastai.test_utils import synth_learner

    def rates(*callbacks: Any) -> list[float]:
        learn = synth_learner(cbs=list(callbacks))
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(1, 0.1)
        return list(learn.recorder.lrs)

    def mine(name: str = "lr") -> Any:
        return ParamScheduler({name: SchedLin(0.5, 0.4)})

    assert said(synth_learner(cbs=mine()), "fit_one_cycle", n_epoch=1) == [("ParamScheduler", "warning")]
    assert said(synth_learner(cbs=[mine(), mine()])) == [("ParamScheduler", "warning")]
    assert rates(mine()) == rates()
    assert said(synth_learner(cbs=mine("wd")), "fit_one_cycle", n_epoch=1) == []
    assert said(synth_learner(cbs=mine())) == []
    assert said(synth_learner(), "fine_tune", epochs=1) == []
