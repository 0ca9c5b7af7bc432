"""clip-without-effect: what is clipped before the backward pass, or after the step, is not what is stepped."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need_torch

need_torch()

from torch.nn.utils import clip_grad_norm_

from tests.checks import stepping
from tests.checks.stepping import (
    fit,
    ignite_trainer,
    learner,
    lightning_base,
    lightning_fit,
    lightning_trainer,
    norm,
    pairs,
    quiet,
)

found = functools.partial(stepping.found, "clip-without-effect")
LIMIT = 1e-3


@pytest.mark.framework("fastai")
def test_fires_fastai() -> None:
    """A limit at all six events leaves what is stepped as it is."""
    from fastai.callback.core import Callback

    class Clip(Callback):
        def before_batch(self) -> None:
            self.limit()

        def after_pred(self) -> None:
            self.limit()

        def after_loss(self) -> None:
            self.limit()

        def before_backward(self) -> None:
            self.limit()

        def after_step(self) -> None:
            self.limit()

        def after_batch(self) -> None:
            self.limit()

        def limit(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    class Norms(Callback):
        def before_fit(self) -> None:
            self.norms: list[float] = []

        def before_step(self) -> None:
            self.norms.append(norm(self.learn.model.parameters()))

    norms = Norms()
    learn = learner(Clip(), norms, batches=2)
    events = ["before_batch", "after_pred", "after_loss", "before_backward", "after_step", "after_batch"]
    assert found(learn) == [("Clip", event, "error") for event in events]
    fit(learn)
    assert len(norms.norms) == 2
    assert min(norms.norms) > 10 * LIMIT


@pytest.mark.framework("fastai")
def test_silent_fastai() -> None:
    """before_step and after_backward are between backward pass and step; accumulated gradients outlast their batch."""
    from fastai.callback.core import Callback
    from fastai.callback.training import GradientAccumulation, GradientClip

    class Clip(Callback):
        def after_backward(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    class Late(Callback):
        def after_batch(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    class Asks(Callback):
        def after_step(self) -> None:
            self.norm = clip_grad_norm_(self.learn.model.parameters(), 1e9)

    assert not found(learner(Clip(), GradientClip(), Asks()))
    assert found(learner(Late()))
    assert not found(learner(Late()), "validate")
    assert not found(learner(GradientAccumulation(64), Late()))


@pytest.mark.framework("lightning")
def test_fires_lightning() -> None:
    """A training step, and what comes around it, clip the gradients of the step before."""
    from lightning.pytorch import Callback

    class Clip(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

        def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

    class Module(lightning_base()):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(self.layer(batch))
            clip_grad_norm_(self.parameters(), LIMIT)
            return loss

    model, trainer = Module(), lightning_trainer(Clip(), batches=3)
    events = ["on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_train_batch_end"]
    assert set(found(trainer, model=model)) == {
        ("Module", "training_step", "error"),
        *(("Clip", event, "error") for event in events),
    }
    lightning_fit(trainer, model)
    assert len(model.norms) == 3
    assert min(model.norms) > 10 * LIMIT


@pytest.mark.framework("lightning")
def test_silent_lightning() -> None:
    """on_after_backward and on_before_optimizer_step are in time; by hand, a training step holds all of it."""
    from lightning.pytorch import Callback

    class Clip(Callback):
        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

    class Module(lightning_base()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(self.layer(batch)))
            clip_grad_norm_(self.parameters(), LIMIT)
            optimizer.step()

    for model, trainer in (
        (lightning_base()(), lightning_trainer(Clip(), batches=3)),
        (Module(), lightning_trainer(batches=3)),
    ):
        assert not found(trainer, model=model)
        lightning_fit(trainer, model)
        assert model.norms == [pytest.approx(LIMIT, rel=1e-3)] * 3


@pytest.mark.framework("transformers")
def test_fires_transformers(tmp_path: Path) -> None:
    """The model moves as far as it does without the callback."""
    from transformers import TrainerCallback

    from tests.adapters.cases.transformers import trainer

    class Clip(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            clip_grad_norm_(model.parameters(), LIMIT)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            clip_grad_norm_(model.parameters(), LIMIT)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            clip_grad_norm_(model.parameters(), LIMIT)

    clipped, plain = trainer(tmp_path, Clip()), trainer(tmp_path)
    events = ["on_step_begin", "on_optimizer_step", "on_step_end"]
    assert found(clipped, "train") == [("Clip", event, "error") for event in events]
    with quiet():
        clipped.train()
        plain.train()
    assert [one.tolist() for one in clipped.model.parameters()] == [one.tolist() for one in plain.model.parameters()]


@pytest.mark.framework("transformers")
def test_silent_transformers(tmp_path: Path) -> None:
    """on_pre_optimizer_step is in time: the model moves less."""
    from transformers import TrainerCallback

    from tests.adapters.cases.transformers import trainer

    class Clip(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            clip_grad_norm_(model.parameters(), LIMIT)

    clipped, plain = trainer(tmp_path, Clip()), trainer(tmp_path)
    assert not found(clipped, "train")
    with quiet():
        clipped.train()
        plain.train()
    assert [one.tolist() for one in clipped.model.parameters()] != [one.tolist() for one in plain.model.parameters()]


@pytest.mark.framework("ignite")
def test_fires_ignite() -> None:
    """ignite's own training step has made its step, and zeroes the gradients at its next start."""
    from ignite.engine import Events

    trainer, model, norms = ignite_trainer()

    @trainer.on(Events.ITERATION_STARTED)  # type: ignore[untyped-decorator]
    def early() -> None:
        clip_grad_norm_(model.parameters(), LIMIT)

    @trainer.on(Events.ITERATION_COMPLETED)  # type: ignore[untyped-decorator]
    def late() -> None:
        clip_grad_norm_(model.parameters(), LIMIT)

    events = [("early", "ITERATION_STARTED", "error"), ("late", "ITERATION_COMPLETED", "error")]
    assert found(trainer, "run", data=pairs(3), max_epochs=1) == events
    trainer.run(pairs(3), max_epochs=1)
    assert len(norms) == 3
    assert min(norms) > 10 * LIMIT


@pytest.mark.framework("ignite")
def test_silent_ignite() -> None:
    """Of a process function of one's own, nobody knows when it steps."""
    from ignite.engine import Engine, Events

    _, model, _ = ignite_trainer()
    trainer = Engine(lambda engine, batch: model(batch[0]).sum().backward())

    @trainer.on(Events.ITERATION_COMPLETED)  # type: ignore[untyped-decorator]
    def late() -> None:
        clip_grad_norm_(model.parameters(), LIMIT)

    assert not found(trainer, "run", data=pairs(3), max_epochs=1)
