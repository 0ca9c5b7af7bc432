"""never-fires: a handler of one's own at an event to which this run never comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import loopscope
from loopscope.findings import Finding

RULE = "never-fires"

fastai = pytest.mark.framework("fastai")
lightning = pytest.mark.framework("lightning")
ignite = pytest.mark.framework("ignite")
keras = pytest.mark.framework("keras")
transformers = pytest.mark.framework("transformers")
quiet = pytest.mark.filterwarnings("ignore")  # Lightning warns of small runs, and torch of Lightning


def found(obj: Any, run: str = "", **arguments: Any) -> tuple[Finding, ...]:
    return loopscope.check(obj, run, select=[RULE], **arguments).findings


# -- fastai ----------------------------------------------------------------------------------------------


def watching(**settings: bool) -> Any:
    """A fastai callback that counts: after_backward comes while training only, after_pred in both."""
    from fastai.callback.core import Callback

    class Watch(Callback):
        backward = answers = 0

        def after_backward(self) -> None:
            self.backward += 1

        def after_pred(self) -> None:
            self.answers += 1

    made = Watch()
    for name, value in settings.items():
        setattr(made, name, value)
    return made


@fastai
def test_fires_in_fastai() -> None:
    """A handler of the backward pass with run_train=False: fastai really never calls it."""
    from fastai.test_utils import synth_learner

    watch = watching(run_train=False)
    learn = synth_learner(cbs=[watch])
    (one,) = found(learn)
    assert (one.callback, one.method, one.severity) == ("Watch#5", "after_backward", "warning")
    assert "Watch.after_backward is never called" in one.message
    with learn.no_bar():
        learn.fit(1)
    assert watch.backward == 0
    assert watch.answers > 0


@fastai
def test_fires_in_fastai_for_all_of_a_callback() -> None:
    """run_train and run_valid both False: nothing calls it, and fastai does not set them back."""
    from fastai.test_utils import synth_learner

    watch = watching(run_train=False, run_valid=False)
    learn = synth_learner(cbs=[watch])
    (one,) = found(learn)
    assert "nothing in this run calls Watch" in one.message
    with learn.no_bar():
        learn.fit(1)
    assert (watch.backward, watch.answers) == (0, 0)


@fastai
def test_silent_in_fastai() -> None:
    """What runs in one of the two; what another run is for; what a finder ends early."""
    from fastai.test_utils import synth_learner

    learn = synth_learner(cbs=[watching(run_valid=False)])
    assert not found(learn)
    assert not found(learn, "validate")
    assert not found(learn, "lr_find")


# -- Lightning -------------------------------------------------------------------------------------------


def net(**more: Any) -> Any:
    """A module that has no data of its own."""
    from lightning.pytorch import LightningModule
    from lightning.pytorch.demos.boring_classes import BoringModel

    own = {f"{kind}_dataloader": getattr(LightningModule, f"{kind}_dataloader") for kind in ("train", "val")}
    return type("Net", (BoringModel,), {**own, **more})()


def data() -> Any:
    from lightning.pytorch.demos.boring_classes import BoringModel

    return BoringModel().train_dataloader()


def trainer(*callbacks: Any, **settings: Any) -> Any:
    from lightning.pytorch import Trainer

    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    more = {"max_epochs": 2, "enable_checkpointing": False, "limit_train_batches": 2, "limit_val_batches": 2}
    return Trainer(callbacks=list(callbacks), **{**silent, **more, **settings})


def validating() -> Any:
    """A Lightning callback that counts validations, and has handlers for other runs too."""
    from lightning.pytorch import Callback

    class Watch(Callback):
        seen = 0

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.seen += not trainer.sanity_checking

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...

        def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...

        def on_predict_end(self, trainer: Any, pl_module: Any) -> None: ...

    return Watch()


@lightning
@quiet
def test_fires_in_lightning() -> None:
    """Validation handlers in a fit without validation data: Lightning really never calls them."""
    watch = validating()
    held = trainer(watch)
    (one,) = found(held, "fit", model=net(), train_dataloaders=data())
    assert (one.callback, one.method, one.severity) == ("Watch#1", "on_validation_epoch_end", "note")
    assert one.message == "Watch.on_validation_epoch_end is never called: this fit has no validation data"
    held.fit(net(), train_dataloaders=data())
    assert watch.seen == 0


@lightning
@quiet
def test_fires_in_lightning_when_validation_is_not_due() -> None:
    """With check_val_every_n_epoch beyond max_epochs Lightning really never validates."""
    watch = validating()
    held = trainer(watch, check_val_every_n_epoch=5, num_sanity_val_steps=0)
    given = {"train_dataloaders": data(), "val_dataloaders": data()}
    (one,) = found(held, "fit", model=net(), **given)
    assert "it would validate after 5 epochs, and there are 2" in one.message
    (one,) = found(held, "fit", model=net(), epochs=3, **given)
    assert "and there are 3" in one.message
    held.fit(net(), **given)
    assert watch.seen == 0


@lightning
@quiet
def test_fires_in_lightning_on_the_module_and_for_all_of_a_callback() -> None:
    """A module's own validation hooks; a callback that has no other handlers; a limit that was asked for is a note."""
    from lightning.pytorch import Callback

    class Alone(Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None: ...

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None: ...

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None: ...

    model = net(validation_step=validation_step)
    alone, module = found(trainer(Alone()), "fit", model=model, train_dataloaders=data())
    assert alone.message == "nothing in this run calls Alone: this fit has no validation data"
    assert (module.callback, module.method) == ("Net#0", "validation_step")
    assert (alone.severity, module.severity) == ("warning", "note")  # trainer.validate may call the module's own
    held = trainer(validating(), limit_val_batches=0)
    (one,) = found(held, "fit", model=net(), train_dataloaders=data(), val_dataloaders=data())
    assert (one.severity, "limit_val_batches is 0" in one.message) == ("note", True)


@lightning
@quiet
def test_silent_in_lightning_for_handlers_that_are_meant_so() -> None:
    """A comment on each dead handler silences them all, one on some of them leaves the others."""
    from lightning.pytorch import Callback

    class All(Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None: ...  # loopscope: ignore[never-fires]

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None: ...  # loopscope: ignore[never-fires]

    class Some(Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None: ...  # loopscope: ignore[never-fires]

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None: ...

    class Whole(Callback):  # loopscope: ignore[never-fires]
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None: ...

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None: ...

    (one,) = found(trainer(All(), Some(), Whole()), "fit", model=net(), train_dataloaders=data())
    assert (one.callback, one.method) == ("Some#2", "on_validation_end")


@lightning
@quiet
def test_fires_in_lightning_without_automatic_optimization() -> None:
    """on_before_zero_grad in manual optimization: Lightning really does not call it."""
    from lightning.pytorch import Callback

    class Watch(Callback):
        seen = 0

        def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            self.seen += 1

    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self(batch).sum())
        optimizer.step()

    watch = Watch()
    model = net(training_step=training_step, automatic_optimization=False)
    (one,) = found(trainer(watch), "fit", model=model, train_dataloaders=data())
    assert "automatic_optimization is False" in one.message
    trainer(watch).fit(model, data())
    assert watch.seen == 0


@lightning
@quiet
def test_silent_in_lightning() -> None:
    """With validation data, in other runs, and for what Lightning ships."""
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    watch = validating()
    held = trainer(watch)
    given = {"train_dataloaders": data(), "val_dataloaders": data()}
    assert not found(held, "fit", model=net(), **given)
    held.fit(net(), **given)
    assert watch.seen == 2
    assert not found(held, "test", model=net(), dataloaders=data())
    assert not found(held, "predict", model=net(), dataloaders=data())
    shipped = trainer(EarlyStopping("x"), ModelCheckpoint(monitor="x"), enable_checkpointing=True)
    assert not found(shipped, "fit", model=net(), train_dataloaders=data())


# -- ignite ----------------------------------------------------------------------------------------------


@ignite
def test_fires_in_ignite() -> None:
    """An own event that nobody fires, and a count that the run does not reach: ignite really calls neither."""
    from ignite.engine import Engine, EventEnum, Events

    class Mine(EventEnum):
        SAVED = "saved"

    engine = Engine(lambda engine, batch: batch)
    engine.register_events(*Mine)
    seen: list[str] = []

    def waits() -> None:
        seen.append("waits")

    def late() -> None:
        seen.append("late")

    engine.add_event_handler(Mine.SAVED, waits)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=5), late)
    one, two = found(engine, data=[1, 2], max_epochs=3)
    assert (one.callback, one.event, one.severity) == ("waits#1", "SAVED", "note")
    assert (two.callback, two.event, two.severity) == ("late#2", "EPOCH_COMPLETED", "note")
    assert "only every 5 epochs" in two.message
    assert len(found(engine, data=[1, 2], epochs=3)) == 2
    engine.run([1, 2], max_epochs=3)
    assert not seen


@ignite
def test_silent_in_ignite() -> None:
    """An own event that is fired; a count that is reached; a run of which nobody said how long it is."""
    from ignite.engine import Engine, EventEnum, Events

    class Mine(EventEnum):
        SAVED = "saved"

    engine = Engine(lambda engine, batch: batch)
    engine.register_events(*Mine)
    seen: list[str] = []

    @engine.on(Events.EPOCH_COMPLETED)
    def fires(engine: Engine) -> None:
        engine.fire_event(Mine.SAVED)

    engine.add_event_handler(Mine.SAVED, lambda: seen.append("saved"))
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=5), lambda: seen.append("fifth"))
    assert not found(engine, data=[1, 2], max_epochs=5)
    assert not found(engine, data=[1, 2])
    engine.run([1, 2], max_epochs=5)
    assert seen.count("saved") == 5
    assert seen.count("fifth") == 1


# -- Keras -----------------------------------------------------------------------------------------------


def keras_parts() -> tuple[Any, Any]:
    """A Keras model, and a callback that counts the batches of a validation."""
    import keras

    class Watch(keras.callbacks.Callback):
        seen = 0

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen += 1

    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
    return model, Watch()


@keras
def test_fires_in_keras() -> None:
    """A callback of validations in a fit without validation_data: Keras really never calls it."""
    import numpy as np

    model, watch = keras_parts()
    x, y = np.zeros((4, 2)), np.zeros((4, 1))
    (one,) = found(model, "fit", x=x, y=y, cbs=watch)
    assert (one.severity, one.method) == ("warning", "on_test_batch_end")
    assert "nothing in this run calls Watch" in one.message
    model.fit(x, y, callbacks=[watch], verbose=0)
    assert watch.seen == 0


@keras
def test_silent_in_keras() -> None:
    """With validation data; and where the callback handles something of the training too."""
    import numpy as np

    model, watch = keras_parts()
    x, y = np.zeros((4, 2)), np.zeros((4, 1))
    assert not found(model, "fit", x=x, y=y, validation_data=(x, y), cbs=watch)
    model.fit(x, y, validation_data=(x, y), callbacks=[watch], verbose=0)
    assert watch.seen == 1

    class Both(type(watch)):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...

    assert not found(model, "fit", x=x, y=y, cbs=Both())
    assert not found(model, "evaluate", x=x, y=y, cbs=watch)


@keras
def test_fires_in_keras_for_what_gets_ready_in_vain() -> None:
    """A callback that begins with the training and then waits for tests: a note, Keras never calls the rest of it."""
    import numpy as np

    model, watch = keras_parts()

    class Ready(type(watch)):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            self.seen = 0

        def on_test_end(self, logs: Any = None) -> None:
            self.seen += 1

    x, y = np.zeros((4, 2)), np.zeros((4, 1))
    ready = Ready()
    (one,) = found(model, "fit", x=x, y=y, cbs=ready)
    assert (one.severity, one.method) == ("note", "")
    assert one.message == "2 handlers of Ready are never called: this fit has no validation data"
    model.fit(x, y, callbacks=[ready], verbose=0)
    assert ready.seen == 0
    assert not found(model, "fit", x=x, y=y, validation_data=(x, y), cbs=ready)
    assert not found(model, "evaluate", x=x, y=y, cbs=ready)


# -- Transformers ----------------------------------------------------------------------------------------


@transformers
def test_fires_in_transformers(tmp_path: Path) -> None:
    """A callback of evaluations in a training that never evaluates: a note, since trainer.evaluate() calls it too."""
    watch = evaluating()
    held = transformers_trainer(tmp_path, watch, eval_strategy="no")
    (one,) = found(held, "train")
    assert (one.severity, one.method) == ("note", "on_evaluate")
    assert "nothing in this run calls Watch" in one.message
    held.train()
    assert watch.seen == 0


@transformers
def test_silent_in_transformers(tmp_path: Path) -> None:
    """A training that evaluates."""
    watch = evaluating()
    held = transformers_trainer(tmp_path, watch, eval_strategy="epoch")
    assert not found(held, "train")
    held.train()
    assert watch.seen == 1


def evaluating() -> Any:
    from transformers.trainer_callback import TrainerCallback

    class Watch(TrainerCallback):
        seen = 0

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.seen += 1

    return Watch()


def transformers_trainer(folder: Path, watch: Any, **settings: Any) -> Any:
    import torch
    from transformers.trainer import Trainer
    from transformers.training_args import TrainingArguments

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: Any, labels: Any = None) -> dict[str, Any]:
            return {"loss": self.layer(x).pow(2).mean()}

    more = {"num_train_epochs": 1, "save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True}
    data = [{"x": [1.0, 2.0]} for _ in range(4)]
    args = TrainingArguments(str(folder), **{**more, **settings})
    return Trainer(Net(), args, train_dataset=data, eval_dataset=data, callbacks=[watch])
