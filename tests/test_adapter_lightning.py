"""The Lightning adapter: what it says of a trainer, what it refuses, and that it never changes what it looks at."""

from __future__ import annotations

import random
import re
import sys
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("lightning")

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LambdaCallback,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

import loopscope
from loopscope import adapters
from loopscope.adapters import lightning as adapter
from loopscope.adapters.lightning.optimizers import Optimizers, Schedule, gives_loss, may_skip, optimizers
from loopscope.errors import BadCallback, BadValue, UnknownChoice, UnknownObject
from loopscope.model import Handler, Loop, Repeat, Scope
from loopscope.views import Row, tree
from tests.adapters.cases import lightning_models as models
from tests.adapters.cases.lightning_models import Data, Everywhere, Hooked, Net, Twin, Valid, loader, stream, trainer_in


def described(trainer: Any, run: str = "fit", *, cbs: object = None, **arguments: Any) -> Loop:
    given: dict[str, Any] = {"train_dataloaders": loader(2), "val_dataloaders": loader(1)}
    if run != "fit":
        given = {"dataloaders": loader(2)}
    if "model" not in arguments:
        given["model"] = Valid()
    return adapter.describe(trainer, run, cbs=cbs, arguments={**given, **arguments})


def called(loop: Loop, event: str) -> list[str]:
    return [handler.id for handler in loop.binding.at(event)]


def the(loop: Loop, id_: str, event: str) -> Handler:
    return next(handler for handler in loop.binding.at(event) if handler.id == id_)


def rows(loop: Loop, kind: str, name: str) -> list[Row]:
    return [row for _, row in tree(loop).walk() if row.kind == kind and row.name == name]


def scopes(loop: Loop, name: str) -> list[Scope]:
    def below(scope: Scope) -> Any:
        yield scope
        for node in scope.nodes():
            if isinstance(node, Scope):
                yield from below(node)

    return [scope for scope in below(loop.root) if scope.name == name]


# -- which objects -----------------------------------------------------------------------------------------


def test_trainers_of_both_packages_are_accepted(tmp_path):
    """Each package has a Trainer of its own, and both are known; nothing else is."""
    import pytorch_lightning

    class Own(pl.Trainer):
        pass

    assert adapter.accepts(trainer_in(tmp_path))
    assert adapter.accepts(Own(logger=False, accelerator="cpu", default_root_dir=tmp_path))
    assert adapter.accepts(pytorch_lightning.Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path))
    assert not adapter.accepts(Valid())
    assert not adapter.accepts(pl.Trainer)
    assert adapters.find(trainer_in(tmp_path)) is adapter
    with pytest.raises(UnknownObject):
        loopscope.inspect(Valid())


def test_versions_and_facts(tmp_path):
    """What was imported is named with its version; a trainer says its class, its model's and the device."""
    import pytorch_lightning

    assert adapter.versions()["lightning"] == pl.__version__
    assert adapter.versions()["pytorch_lightning"] == pytorch_lightning.__version__
    trainer = trainer_in(tmp_path)
    assert adapter.facts(trainer) == {"cls": "Trainer", "model": "", "device": "cpu", "framework": "lightning"}
    trainer.strategy._lightning_module = Valid()
    assert adapter.facts(trainer)["model"] == "Valid"


# -- nothing is changed ------------------------------------------------------------------------------------


def snapshot(trainer: Any, model: Any) -> dict[str, object]:
    return {
        "trainer": {name: id(value) for name, value in vars(trainer).items()},
        "callbacks": [id(one) for one in trainer.callbacks],
        "each": [{name: id(value) for name, value in vars(one).items()} for one in trainer.callbacks],
        "strategy": {name: id(value) for name, value in vars(trainer.strategy).items()},
        "sources": id(trainer.fit_loop._data_source.instance),
        "model": {name: id(value) for name, value in vars(model).items()},
        "parts": {name: id(value) for name, value in model._modules.items()},
        "held": list(getattr(model, "held", [])),
        "weights": {name: value.tolist() for name, value in model.state_dict().items()},
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "random": random.getstate(),
    }


class Bringing(Valid):
    """Changes itself where it is asked for callbacks, and throws dice."""

    asked = 0

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Any] = [1]

    def configure_callbacks(self) -> Any:
        type(self).asked += 1
        self.held.append(2)
        self.own = Twin()
        self.extra = nn.Linear(1, 1)
        random.random()
        return [self.own, EarlyStopping("val_loss"), Twin(str(self.trainer.max_epochs))]


@pytest.mark.parametrize("run", adapter.RUNS)
def test_nothing_is_changed(run, tmp_path):
    """Trainer, model, callbacks and random generators are what they were; configure_callbacks was called once."""
    trainer, model = trainer_in(tmp_path, Everywhere(), Twin()), Bringing()
    before = snapshot(trainer, model)
    Bringing.asked = 0
    loop = described(trainer, run, model=model)
    assert snapshot(trainer, model) == before
    assert Bringing.asked == 1
    assert not hasattr(model, "own")
    assert called(loop, "setup")[:1] == ["Everywhere#1"]


def weighed(model: pl.LightningModule) -> list[Any]:
    return [(name, one.dtype, one.requires_grad, one.tolist()) for name, one in model.named_parameters()]


@pytest.mark.parametrize("fails", [False, True])
def test_weights_that_configure_callbacks_changes_are_put_back(tmp_path, fails):
    """Values, by whatever way they were overwritten, what is frozen, and the type; also when the hook raises."""

    class Changing(Valid):
        def configure_callbacks(self) -> Any:
            with torch.no_grad():
                self.layer.weight.mul_(2)
            self.layer.bias.data.add_(1)
            self.freeze()
            self.half()
            if fails:
                raise RuntimeError("after all that")
            return []

    model = Changing()
    before = weighed(model)
    described(trainer_in(tmp_path), model=model)
    assert weighed(model) == before


def test_a_model_whose_callbacks_cannot_be_asked_for_is_shown_without_them(tmp_path):
    """An error of configure_callbacks is said, and the rest of the map is there."""

    class Failing(Valid):
        def configure_callbacks(self) -> Any:
            raise RuntimeError("not yet")

    loop = described(trainer_in(tmp_path, Twin()), model=Failing())
    assert any("Failing.configure_callbacks raises RuntimeError (not yet)" in note for note in loop.notes)
    assert called(loop, "on_train_batch_end") == ["Twin#1"]


# -- who is called, and why there --------------------------------------------------------------------------


def test_callbacks_come_in_the_order_into_which_lightning_puts_them(tmp_path):
    """Tuners first, then in the order of the list, Checkpoints last; each says why it stands there."""
    checkpoint = ModelCheckpoint(tmp_path)
    loop = described(trainer_in(tmp_path, checkpoint, Twin(), Twin("b")))
    assert called(loop, "on_train_batch_end") == ["Twin#1", "Twin#2", "ModelCheckpoint#3"]
    assert the(loop, "Twin#2", "on_train_batch_end").reason == "2nd in trainer.callbacks"
    assert the(loop, "ModelCheckpoint#3", "on_train_batch_end").reason == (
        "3rd in trainer.callbacks; Checkpoints are moved to the end"
    )
    assert any("Twin#1 and Twin#2 have the same state_key (Twin)" in note for note in loop.notes)


def test_what_monitors_comes_after_the_model_at_the_end_of_an_epoch(tmp_path):
    """on_train_epoch_end: ordinary callbacks, the model, then EarlyStopping and Checkpoints."""
    loop = described(
        trainer_in(tmp_path, EarlyStopping("val_loss"), Twin(), ModelCheckpoint(tmp_path)),
        model=Hooked(),
        train_dataloaders=None,
        val_dataloaders=None,
    )
    assert called(loop, "on_train_epoch_end") == ["Twin#2", "Hooked#0", "EarlyStopping#1", "ModelCheckpoint#3"]
    assert "after the module here" in the(loop, "EarlyStopping#1", "on_train_epoch_end").reason
    assert the(loop, "Hooked#0", "on_train_epoch_end").reason.endswith("after the callbacks that monitor nothing")


def test_the_callbacks_of_the_model_replace_those_of_their_class(tmp_path):
    """configure_callbacks: those of a class that the model gives go, the model's stand behind, Checkpoints last."""
    trainer = trainer_in(tmp_path, Twin(), LearningRateMonitor(), ModelCheckpoint(tmp_path))
    loop = described(trainer, model=Bringing())
    assert called(loop, "on_train_batch_end") == ["Twin#2", "Twin#4", "ModelCheckpoint#5"]
    assert the(loop, "Twin#2", "on_train_batch_end").origin == "configure_callbacks"
    assert any("Bringing.configure_callbacks replaces Twin" in note for note in loop.notes)
    assert any("was called once" in note for note in loop.notes)


def test_own_callbacks_are_marked(tmp_path):
    """`cbs=` stand as if the trainer's list had been extended by them, and are one's own."""
    loop = described(trainer_in(tmp_path, Twin(), ModelCheckpoint(tmp_path)), cbs=[Everywhere, Twin()])
    assert called(loop, "on_train_batch_end") == ["Twin#1", "Everywhere#2", "Twin#3", "ModelCheckpoint#4"]
    assert [one.mine for one in loop.binding.at("on_train_batch_end")] == [False, True, True, False]


def test_only_methods_that_are_overridden_are_handlers(tmp_path):
    """The framework's own empty methods are left out, of callbacks, module and data module alike."""
    loop = described(trainer_in(tmp_path, Twin(), Callback()))
    assert called(loop, "on_train_epoch_start") == []
    assert called(loop, "on_train_batch_end") == ["Twin#1"]
    assert called(loop, "training_step") == ["Valid#0"]
    loop = described(trainer_in(tmp_path, LambdaCallback(on_fit_start=lambda trainer, pl_module: None)), model=Hooked())
    assert called(loop, "on_fit_start") == ["LambdaCallback#1", "Hooked#0"]
    assert called(loop, "on_before_batch_transfer") == ["Hooked#0"]


def test_a_data_module_has_the_hooks_of_data(tmp_path):
    """Its loaders, its move of batches and its state stand in the model's place; two of one name are told apart."""
    loop = described(
        trainer_in(tmp_path), model=Hooked(), train_dataloaders=None, val_dataloaders=None, datamodule=Data()
    )
    assert called(loop, "setup") == ["Data#0", "Hooked#0"]
    assert called(loop, "train_dataloader") == ["Data#0"]
    assert called(loop, "on_before_batch_transfer") == ["Hooked#0"]
    assert called(loop, "on_after_batch_transfer") == ["Data#0"]
    assert called(loop, "on_exception") == ["Data#0"]

    class Net(pl.LightningDataModule):  # as the model's class
        train_dataloader = Data.train_dataloader
        setup = Data.setup

    class Both(models.Net):
        def setup(self, stage: str) -> None:
            pass

    Both.__name__ = "Net"
    loop = described(trainer_in(tmp_path), model=Both(), train_dataloaders=None, val_dataloaders=None, datamodule=Net())
    assert called(loop, "setup") == ["Net#0b", "Net#0"]


def test_a_handler_says_what_it_does(tmp_path):
    """Docstring, effects, what it may raise, and the runs inside of it."""

    class Talking(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            """Stop where the loss is no number."""
            if outputs["loss"].item() != outputs["loss"].item():
                trainer.should_stop = True

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint("x.ckpt")
            if trainer.current_epoch > 10:
                raise ValueError("too long")

    loop = described(trainer_in(tmp_path, Talking()))
    ends = the(loop, "Talking#1", "on_train_batch_end")
    assert ends.doc() == "Stop where the loss is no number."
    assert "trainer.should_stop = True" in (ends.effect() or "")
    assert [fact.text for fact in ends.facts if fact.kind == "wait"] != []
    epoch = the(loop, "Talking#1", "on_train_epoch_end")
    assert [(one.exception, one.certain) for one in epoch.raises] == [("ValueError", False)]
    assert [node.name for node in epoch.inside] == ["save_checkpoint"]
    assert called(loop, "on_save_checkpoint") == []
    assert "the training may end sooner: Talking.on_train_batch_end may set trainer.should_stop" in loop.notes


# -- how often ---------------------------------------------------------------------------------------------


def test_epochs_and_batches_are_counted(tmp_path):
    """What the settings and the lengths say is exact; what only the run knows is open, with its name."""
    loop = described(trainer_in(tmp_path, max_epochs=3), train_dataloaders=loader(5))
    assert [one.repeat for one in scopes(loop, "epoch")] == [Repeat(3, 3)]
    assert [one.repeat.most for one in scopes(loop, "batch")] == [1, 5, 1]
    loop = described(trainer_in(tmp_path), train_dataloaders=stream(3))
    assert scopes(loop, "batch")[1].repeat == Repeat(0, None, "the data has no length")
    loop = described(trainer_in(tmp_path), model=Hooked(), train_dataloaders=None)
    assert scopes(loop, "batch")[1].repeat == Repeat(0, None, "len(train_dataloader)")


def test_what_may_stop_the_training_opens_the_number_of_epochs(tmp_path):
    """With EarlyStopping there may be fewer epochs, but not fewer than min_epochs; without, they are exact."""
    stopping = EarlyStopping("val_loss")
    loop = described(trainer_in(tmp_path, stopping, max_epochs=9))
    assert [one.repeat for one in scopes(loop, "epoch")] == [Repeat(1, 9)]
    assert scopes(loop, "batch")[1].repeat == Repeat(2, 2)
    loop = described(trainer_in(tmp_path, stopping, max_epochs=9, min_epochs=4))
    assert [one.repeat for one in scopes(loop, "epoch")] == [Repeat(4, 9)]
    assert any("EarlyStopping.on_train_epoch_end may set trainer.should_stop" in note for note in loop.notes)


def test_epochs_may_be_asked_for(tmp_path):
    """`epochs=` counts instead of max_epochs, from `start_epoch` on."""
    loop = adapter.describe(
        trainer_in(tmp_path), "fit", epochs=7, start_epoch=2, arguments={"model": Net(), "train_dataloaders": loader(1)}
    )
    assert [one.repeat for one in scopes(loop, "epoch")] == [Repeat(7, 7)]


def test_an_endless_training(tmp_path):
    """max_epochs=-1: as many epochs as there are."""
    loop = described(trainer_in(tmp_path, max_epochs=-1))
    assert [one.repeat.most for one in scopes(loop, "epoch")] == [None]


def test_what_is_left_out_is_said(tmp_path):
    """No training, no validation, a refused setting: the map says why."""
    assert any("there will be no training" in note for note in described(trainer_in(tmp_path, max_epochs=0)).notes)
    loop = described(trainer_in(tmp_path), val_dataloaders=None)
    assert "Valid.validation_step is not called: there is no validation data" in loop.notes
    loop = described(trainer_in(tmp_path, limit_val_batches=0))
    assert "Valid.validation_step is not called: limit_val_batches is 0" in loop.notes
    loop = described(trainer_in(tmp_path), model=Net())
    assert any("Net has no validation_step" in note for note in loop.notes)
    loop = described(trainer_in(tmp_path, val_check_interval=5))
    assert any("val_check_interval=5 is more than the 2 batches" in note for note in loop.notes)


def test_a_training_that_is_done_already(tmp_path):
    """A trainer that has fitted goes on where it ended: with the same max_epochs, nowhere."""
    trainer = trainer_in(tmp_path, max_epochs=2)
    trainer.fit_loop.epoch_progress.current.processed = 2
    loop = described(trainer)
    assert "there will be no training: max_epochs=2 is reached already" in loop.notes
    assert scopes(loop, "epoch") == []


# -- what is misspelt or not Lightning's own -----------------------------------------------------------------


def test_an_object_in_the_list_that_is_no_callback(tmp_path):
    """The map shows the rest and names the object with what Lightning will fail on, as it does."""
    trainer = trainer_in(tmp_path)
    trainer.callbacks.append(object())
    (said,) = [note for note in described(trainer).notes if "which is no Callback" in note]
    assert said.startswith("trainer.callbacks holds <object object at ")
    assert "(object), which is no Callback: it has no state_key" in said
    with pytest.raises(AttributeError, match="'object' object has no attribute"):
        trainer.fit(Net(), loader())


def test_misspelt_hooks_are_named(tmp_path):
    """Lightning ignores a method that is almost a hook; the map says so, of callbacks, model and data module."""

    class Wrong(Callback):
        def on_train_batch_ends(self, trainer: Any, pl_module: Any) -> None:
            pass

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> None:
            pass

        def helper(self) -> None:
            pass

    class Old(Valid):
        def validation_epoch_end(self, outputs: Any) -> None:
            pass

        def on_epoch_started(self) -> None:
            pass

        def setups(self) -> None:
            pass

    said = described(trainer_in(tmp_path, Wrong()), model=Old()).notes
    assert "Wrong.on_train_batch_ends is never called: did you mean on_train_batch_end?" in said
    assert "Wrong.on_before_batch_transfer is never called: a Callback has no such hook" in said
    assert "Old.validation_epoch_end is never called: Lightning 2 has no such hook any more" in said
    assert any("Old.on_epoch_started is never called" in note for note in said)
    assert "Old.setups is never called: did you mean setup?" in said
    assert not any("helper" in note or "Old.loss" in note for note in said)


def test_loops_of_ones_own_are_named(tmp_path):
    """A trainer, strategy or loop that does not do what Lightning's does: the map says what it was read from."""

    class Own(pl.Trainer):
        def _run_sanity_check(self) -> None:
            pass

    class Loop(type(trainer_in(tmp_path).fit_loop)):  # type: ignore[misc]
        pass

    trainer = Own(logger=False, accelerator="cpu", default_root_dir=tmp_path, enable_checkpointing=False, max_epochs=1)
    trainer.fit_loop = Loop(trainer)
    trainer.fit_loop.max_epochs = 1
    said = described(trainer).notes
    assert any("Own has its own _run_sanity_check" in note for note in said)
    assert any("trainer.fit_loop is a Loop" in note for note in said)


def test_own_callbacks_that_nobody_calls_are_named(tmp_path):
    """A callback of one's own without a hook of this run is said to be idle."""
    said = described(trainer_in(tmp_path), cbs=[Callback()]).notes
    assert "nothing in this run calls Callback#1: it handles none of the events that fire" in said


def test_a_version_that_was_not_tested_is_named(tmp_path, monkeypatch):
    """Outside of what was tested the map says that it may be wrong."""
    assert not any("tested versions" in note for note in described(trainer_in(tmp_path)).notes)
    monkeypatch.setattr(sys.modules["loopscope.adapters.lightning.notes"], "TESTED", ("99", "100"))
    assert any("is not among the tested versions (from 99 on" in note for note in described(trainer_in(tmp_path)).notes)


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "arguments", "error", "said"),
    [
        ("fit", {}, BadValue, "this Trainer has no model yet"),
        ("test", {}, BadValue, 'loopscope.inspect(trainer, "test", model=net, dataloaders=loader)'),
        ("fit", {"model": Net}, BadValue, "Pass an instance, not the class"),
        ("fit", {"model": nn.Linear(1, 1)}, BadValue, "is no LightningModule of lightning.pytorch"),
        ("fit", {"model": Net()}, BadValue, "Net has no train_dataloader"),
        ("fit", {"model": pl.LightningModule()}, BadValue, "has no training_step"),
        ("test", {"model": Net(), "dataloaders": loader()}, BadValue, "Net has no test_step"),
        ("fit", {"model": Net(), "data": 1}, UnknownChoice, "argument of Trainer.fit 'data'"),
        ("fit", {"model": Net(), "datamodule": 1}, BadValue, "datamodule=int (builtins) is no LightningDataModule"),
        ("fit", {"model": Net(), "train_dataloaders": loader(), "datamodule": Data()}, BadValue, "was given both"),
        ("tune", {"model": Net()}, UnknownChoice, "Accepted: fit, validate, test, predict"),
    ],
)
def test_what_is_missing_or_wrong_is_said(run, arguments, error, said, tmp_path):
    """An error names what was given, what is accepted and what to type."""
    with pytest.raises(error, match=re.escape(said)):
        adapter.describe(trainer_in(tmp_path), run, arguments=arguments)


def test_a_model_of_the_other_package_is_refused(tmp_path):
    """The two packages cannot be mixed, and the error says which is which."""
    import pytorch_lightning

    with pytest.raises(BadValue, match=r"no LightningModule of lightning\.pytorch"):
        adapter.describe(trainer_in(tmp_path), "fit", arguments={"model": pytorch_lightning.LightningModule()})


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"epochs": -1}, "negative"), ({"epochs": "2"}, "no whole number"), ({"start_epoch": 1.5}, "no whole number")],
)
def test_numbers_that_make_no_sense(settings, said, tmp_path):
    """epochs and start_epoch are whole numbers from 0 on, and of fit only."""
    given = {"model": Net(), "train_dataloaders": loader()}
    with pytest.raises(BadValue, match=said):
        adapter.describe(trainer_in(tmp_path), "fit", arguments=given, **settings)
    with pytest.raises(BadValue, match="has no epochs"):
        adapter.describe(trainer_in(tmp_path), "test", epochs=1, arguments={"model": Valid(), "dataloaders": loader()})


@pytest.mark.parametrize("bad", [3, "Twin", nn.Linear, lambda: None])
def test_what_is_no_callback_is_refused(bad, tmp_path):
    """`cbs=` takes callbacks, their classes, or a list of these."""
    with pytest.raises(BadCallback, match=r"is no Callback of lightning\.pytorch"):
        described(trainer_in(tmp_path), cbs=[bad])
    with pytest.raises(BadCallback, match="cannot be built without arguments"):
        described(trainer_in(tmp_path), cbs=EarlyStopping)


# -- what the source of a module says ------------------------------------------------------------------------


class Reading(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.MSELoss()


def reading(name: str, function: Any) -> Any:
    return type("Reading", (Reading,), {name: function})()


def plain(self: Any) -> Any:
    return torch.optim.Adam(self.parameters())


def newton(self: Any) -> Any:
    optimizer = torch.optim.LBFGS(self.parameters())
    return [optimizer]


def nobody(self: Any) -> Any:
    return None


def both(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2),
            "interval": "step",
            "frequency": 3,
        },
    }


def watching(self: Any) -> Any:
    optimizer = torch.optim.SGD(self.parameters(), 0.1)
    return {
        "optimizer": optimizer,
        "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        "monitor": "loss",
    }


def either(self: Any) -> Any:
    if self.training:
        return torch.optim.SGD(self.parameters(), 0.1)
    return torch.optim.Adam(self.parameters())


def somehow(self: Any) -> Any:
    return self.hparams.make()


def sometimes(self: Any) -> Any:  # noqa: RET503 - which is what is being tested
    if self.training:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (plain, Optimizers((), True)),
        (newton, Optimizers((), False)),
        (nobody, Optimizers((), True)),
        (both, Optimizers((Schedule("step", 3),), True)),
        (watching, Optimizers((Schedule(plateau=True),), True)),
        (either, Optimizers((), True)),
        (somehow, Optimizers()),
        (sometimes, Optimizers()),
    ],
)
def test_what_configure_optimizers_gives_is_read(function, expected):
    """Where the source says it for certain, schedulers and closures are known before; else they are open."""
    assert optimizers(reading("configure_optimizers", function)) == expected


def sums(self: Any, batch: Any, batch_idx: int) -> Any:
    return self(batch).sum()


def of_torch(self: Any, batch: Any, batch_idx: int) -> Any:
    loss = F.mse_loss(batch, batch)
    return {"loss": loss, "more": 1}


def of_a_module(self: Any, batch: Any, batch_idx: int) -> Any:
    return self.criterion(batch, batch) * 2 if batch_idx else self.criterion(batch, batch)


def from_elsewhere(self: Any, batch: Any, batch_idx: int) -> Any:
    return self.loss(batch)


def not_always(self: Any, batch: Any, batch_idx: int) -> Any:  # noqa: RET503 - which is what is being tested
    if batch_idx:
        return self.criterion(batch, batch)


@pytest.mark.parametrize(
    ("function", "certain"),
    [(sums, True), (of_torch, True), (of_a_module, False), (from_elsewhere, False), (not_always, False)],
)
def test_whether_a_step_gives_a_loss_is_read(function, certain):
    """Backward is certain where each way through training_step gives a loss, and open elsewhere."""
    assert gives_loss(reading("training_step", function)) is certain


def test_whether_a_batch_may_be_left_out_is_read():
    """An on_train_batch_start that gives nothing back cannot end the epoch."""
    assert not may_skip(Hooked(), "on_train_batch_start")
    assert may_skip(models.Skipping(), "on_train_batch_start")


# -- as it is shown ----------------------------------------------------------------------------------------


def test_the_map_as_text(golden, tmp_path):
    """A fit with validation, early stopping and a checkpoint, as a user sees it."""
    trainer = trainer_in(
        tmp_path, Twin(), EarlyStopping("val_loss"), ModelCheckpoint(tmp_path), ModelSummary(), max_epochs=3
    )
    shown = loopscope.inspect(
        trainer, model=models.Scheduled(), train_dataloaders=loader(4), val_dataloaders=[loader(1), loader(2)], cbs=Twin
    )
    golden("lightning-fit.txt", shown.render("text"))


def test_every_format_renders(tmp_path):
    """Enclosing calls, open repetitions and conditions come through every renderer."""
    trainer = trainer_in(tmp_path, Everywhere(), accumulate_grad_batches=2, check_val_every_n_epoch=2)
    shown = loopscope.inspect(
        trainer, "fit", model=models.Manual(), train_dataloaders=stream(2), val_dataloaders=loader(1)
    )
    for format in ("tree", "text", "markdown", "json", "html"):
        assert "on_train_batch_end" in shown.render(format)


def test_every_event_has_a_description():
    """`event_docs` knows every event that the adapter can name."""
    docs = adapter.event_docs()
    assert all("no description" not in text for text in docs.values())
    assert len(docs) > 60
