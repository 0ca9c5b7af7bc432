"""What is said of handlers of Lightning: callbacks as its users write them, modules' own hooks, and those it ships."""

from __future__ import annotations

import inspect
from typing import Any

from tests.frameworks import need

pytestmark = need("lightning")

import lightning.pytorch as pl
import pytest
import torch

from loopscope.adapters.lightning.packages import Package
from loopscope.adapters.lightning.vocabulary import vocabularies
from loopscope.effects import Effects, effects

# mypy: ignore-errors

WORDS = vocabularies(Package("lightning.pytorch"))
BATCH_END = ("trainer", "pl_module", "outputs", "batch", "batch_idx")


def read(cls: type, hook: str, *passed: str, words: Any = WORDS.callback) -> Effects:
    return effects(inspect.getattr_static(cls, hook), cls, words, passed=passed or ("trainer", "pl_module"))


class Mine(pl.Callback):
    """What people do in callbacks."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.losses = loader, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())
        pl_module.log("mine", outputs["loss"])
        if torch.isnan(outputs["loss"]):
            trainer.should_stop = True

    def on_fit_start(self, t, m):
        t.validate(m, self.loader)

    def on_train_epoch_end(self, trainer, pl_module):
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= 0.5
        pl_module.backbone.eval()

    def on_test_end(self, trainer, pl_module):
        trainer.callback_metrics["x"] = 1
        if trainer.is_global_zero:
            torch.save(pl_module.state_dict(), "x")

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step % 25 == 0:
            trainer.logger.experiment.add_scalar("norm", pl_module.norm())


class Net(pl.LightningModule):
    """What people do in a module's own hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.seen = torch.nn.Linear(1, 1), []

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.log("loss", outputs["loss"])
        self.seen.append(outputs)
        if self.trainer.current_epoch > 3:
            self.trainer.should_stop = True

    def on_train_epoch_end(self):
        self.lr_schedulers().step()
        self.optimizers().param_groups[0]["lr"] = 0.1
        self.seen.clear()

    def on_fit_start(self):
        super().on_fit_start()
        self.freeze_body()

    def freeze_body(self):
        self.body.requires_grad_(False)


def test_callbacks_as_people_write_them() -> None:
    """What is done to trainer, module and optimizer is told under the names that the callback gives them."""
    assert read(Mine, "on_train_batch_end", *BATCH_END).summary == (
        "sets trainer.should_stop = True if torch.isnan(outputs['loss']); calls pl_module.log(…); …"
    )
    assert read(Mine, "on_train_epoch_end").summary == (
        "changes group['lr'] *= 0.5 for group in trainer.optimizers[0].param_groups; calls pl_module.backbone.eval()"
    )
    assert read(Mine, "on_test_end").summary == (
        "sets trainer.callback_metrics['x'] = 1; calls torch.save(…) if trainer.is_global_zero"
    )
    assert read(Mine, "on_after_backward").summary == (
        "calls trainer.logger.experiment.add_scalar('norm', pl_module.norm()) if trainer.global_step % 25 == 0"
    )
    started = read(Mine, "on_fit_start")
    assert (started.summary, started.nested(WORDS.callback.loops)) == ("runs t.validate(m, self.loader)", ("validate",))


def test_hooks_of_a_module() -> None:
    """The module's framework is told by name, its own methods are followed, its trainer is the trainer."""
    ends = read(Net, "on_train_batch_end", "outputs", "batch", "batch_idx", words=WORDS.module)
    assert ends.summary == (
        "sets trainer.should_stop = True if trainer.current_epoch > 3; calls self.log(…); appends outputs to self.seen"
    )
    assert read(Net, "on_train_epoch_end", "", words=WORDS.module).summary == (
        "sets self.optimizers().param_groups[0]['lr'] = 0.1; calls self.lr_schedulers().step(), self.seen.clear()"
    )
    assert read(Net, "on_fit_start", "", words=WORDS.module).summary == "calls self.body.requires_grad_(False)"


def test_a_function_that_lambda_callback_keeps() -> None:
    """It is called without `self`: its first argument is the trainer."""
    callback = pl.callbacks.LambdaCallback(on_train_start=lambda t, m: m.eval())
    done = effects(callback.on_train_start, type(callback), WORDS.callback, passed=("trainer", "pl_module"))
    assert done.summary == "calls m.eval()"


@pytest.mark.parametrize(
    ("name", "hook", "on", "target"),
    [
        ("EarlyStopping", "on_validation_end", "learner", "trainer.should_stop"),
        ("Timer", "on_train_batch_end", "learner", "trainer.should_stop"),
        ("ModelCheckpoint", "on_validation_end", "learner", "trainer.save_checkpoint(…)"),
        ("GradientAccumulationScheduler", "on_train_epoch_start", "learner", "trainer.accumulate_grad_batches"),
        ("LearningRateMonitor", "on_train_epoch_start", "outside", "logger.log_metrics(…)"),
        ("StochasticWeightAveraging", "on_train_epoch_start", "optimizer", "group['initial_lr']"),
        ("WeightAveraging", "on_validation_epoch_start", "model", "current_param.data.copy_(…)"),
    ],
)
def test_what_shipped_callbacks_are_for_is_found(name: str, hook: str, on: str, target: str) -> None:
    """Through their own helpers, for the right one of trainer, module, optimizer and logger."""
    items = read(getattr(pl.callbacks, name), hook).items
    done = {(item.on, item.target.partition("(")[0]) for item in items if item.kind != "reads"}
    assert (on, target.partition("(")[0]) in done
