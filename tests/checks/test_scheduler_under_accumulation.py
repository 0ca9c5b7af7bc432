"""scheduler-under-accumulation: a schedule of steps that is stepped at each batch runs too fast."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need_torch

need_torch()

import torch
from torch.optim.lr_scheduler import LambdaLR

from tests.checks import stepping
from tests.checks.stepping import (
    fit,
    ignite_trainer,
    learner,
    lightning_base,
    lightning_fit,
    lightning_trainer,
    pairs,
    quiet,
)

found = functools.partial(stepping.found, "scheduler-under-accumulation")


def schedule() -> LambdaLR:
    """Return a scheduler that counts its steps in `last_epoch`."""
    return LambdaLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), lambda step: 1 / (1 + step))


@pytest.mark.framework("fastai")
def test_fires_fastai() -> None:
    """after_batch comes at each batch, 8 of which make 2 steps."""
    from fastai.callback.core import Callback
    from fastai.callback.training import GradientAccumulation

    class Schedule(Callback):
        def before_fit(self) -> None:
            self.scheduler, self.steps = schedule(), 0

        def after_batch(self) -> None:
            if self.training:
                self.scheduler.step()

        def after_step(self) -> None:
            self.steps += 1

    mine = Schedule()
    learn = learner(GradientAccumulation(64), mine, batches=8)
    assert found(learn) == [("Schedule", "after_batch", "warning")]
    fit(learn)
    assert (mine.scheduler.last_epoch, mine.steps) == (8, 2)


@pytest.mark.framework("fastai")
def test_silent_fastai() -> None:
    """after_step comes with the step; fastai's own schedules go by the share of the training that is done."""
    from fastai.callback.core import Callback
    from fastai.callback.schedule import ParamScheduler, SchedLin
    from fastai.callback.training import GradientAccumulation

    class Schedule(Callback):
        def before_fit(self) -> None:
            self.scheduler, self.steps = schedule(), 0

        def after_step(self) -> None:
            self.scheduler.step()
            self.steps += 1

    class Each(Callback):
        def before_fit(self) -> None:
            self.scheduler = schedule()

        def after_batch(self) -> None:
            self.scheduler.step()

    mine = Schedule()
    learn = learner(GradientAccumulation(64), mine, ParamScheduler({"lr": SchedLin(0.1, 0.01)}), batches=8)
    assert not found(learn)
    fit(learn)
    assert (mine.scheduler.last_epoch, mine.steps) == (2, 2)
    assert not found(learner(Each()))


@pytest.mark.framework("lightning")
def test_fires_lightning() -> None:
    """on_train_batch_end comes at each batch, 8 of which make 2 steps; in a module as in a callback."""
    from lightning.pytorch import Callback

    class Schedule(Callback):
        def __init__(self) -> None:
            self.scheduler = schedule()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.scheduler.step()

    class Module(lightning_base()):  # type: ignore[misc]
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            scheduler = self.lr_schedulers()
            scheduler.step()

    mine, model = Schedule(), lightning_base()()
    trainer = lightning_trainer(mine, batches=8, accumulate_grad_batches=4)
    assert found(trainer, model=model) == [("Schedule", "on_train_batch_end", "warning")]
    lightning_fit(trainer, model)
    assert (mine.scheduler.last_epoch, len(model.norms)) == (8, 2)
    trainer = lightning_trainer(batches=8, accumulate_grad_batches=4)
    assert found(trainer, model=Module()) == [("Module", "on_train_batch_end", "warning")]


@pytest.mark.framework("lightning")
def test_silent_lightning() -> None:
    """What configure_optimizers returns is stepped with the optimizer; one's own condition is believed."""
    from lightning.pytorch import Callback

    class Module(lightning_base()):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            self.mine = LambdaLR(optimizer, lambda step: 1 / (1 + step))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.mine, "interval": "step"}}

    class Guarded(Callback):
        def __init__(self) -> None:
            self.scheduler = schedule()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
                self.scheduler.step()

    class Each(Callback):
        def __init__(self) -> None:
            self.scheduler = schedule()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.scheduler.step()

    guarded, model = Guarded(), Module()
    trainer = lightning_trainer(guarded, batches=8, accumulate_grad_batches=4)
    assert not found(trainer, model=model)
    lightning_fit(trainer, model)
    assert (model.mine.last_epoch, guarded.scheduler.last_epoch, len(model.norms)) == (2, 2, 2)
    assert not found(lightning_trainer(Each()), model=lightning_base()())


@pytest.mark.framework("transformers")
def test_fires_transformers(tmp_path: Path) -> None:
    """on_substep_end comes at the batches that make no step: the trainer's own scheduler is ahead of its steps."""
    from transformers import TrainerCallback

    from tests.adapters.cases.transformers import trainer

    class Schedule(TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> None:
            lr_scheduler.step()

    made = trainer(tmp_path, Schedule(), gradient_accumulation_steps=4, num_train_epochs=1)
    assert found(made, "train") == [("Schedule", "on_substep_end", "warning")]
    with quiet():
        made.train()
    assert (made.lr_scheduler.last_epoch, made.state.global_step) == (4, 1)


@pytest.mark.framework("transformers")
def test_silent_transformers(tmp_path: Path) -> None:
    """The trainer steps its scheduler once for each step, whatever it accumulates."""
    from tests.adapters.cases.transformers import trainer

    made = trainer(tmp_path, gradient_accumulation_steps=4, num_train_epochs=1)
    assert not found(made, "train")
    with quiet():
        made.train()
    assert (made.lr_scheduler.last_epoch, made.state.global_step) == (1, 1)


@pytest.mark.framework("ignite")
def test_fires_ignite() -> None:
    """ITERATION_COMPLETED comes at each batch, 8 of which make 2 steps."""
    from ignite.engine import Events

    trainer, _, norms = ignite_trainer(accumulate=4)
    scheduler = schedule()

    @trainer.on(Events.ITERATION_COMPLETED)  # type: ignore[untyped-decorator]
    def advance() -> None:
        scheduler.step()

    assert found(trainer, "run", data=pairs(8), max_epochs=1) == [("advance", "ITERATION_COMPLETED", "warning")]
    with quiet():
        trainer.run(pairs(8), max_epochs=1)
    assert (scheduler.last_epoch, len(norms)) == (8, 2)


@pytest.mark.framework("ignite")
def test_silent_ignite() -> None:
    """A filter lets it step with the optimizer; ignite's own schedules count iterations, and say so."""
    from ignite.engine import Events
    from ignite.handlers import LRScheduler

    trainer, _, norms = ignite_trainer(accumulate=4)
    scheduler = schedule()

    @trainer.on(Events.ITERATION_COMPLETED(every=4))  # type: ignore[untyped-decorator]
    def advance() -> None:
        scheduler.step()

    trainer.add_event_handler(Events.ITERATION_STARTED, LRScheduler(schedule()))
    assert not found(trainer, "run", data=pairs(8), max_epochs=1)
    with quiet():
        trainer.run(pairs(8), max_epochs=1)
    assert (scheduler.last_epoch, len(norms)) == (2, 2)


@pytest.mark.framework("fastai")
def test_silent_noise() -> None:
    """A scheduler of noise has a step too, which takes more than none."""
    from fastai.callback.core import Callback
    from fastai.callback.training import GradientAccumulation

    class Samples(Callback):
        def after_batch(self) -> None:
            self.scheduler.step(self.pred, 1, self.x)

    class Noise(Callback):
        def after_batch(self) -> None:
            self.noise_scheduler.step()

    assert not found(learner(GradientAccumulation(64), Samples(), Noise()))
