"""clip-without-step: to clip each part of an accumulated sum is not to clip the sum."""

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
    pairs,
    quiet,
)

found = functools.partial(stepping.found, "clip-without-step")
LIMIT = 1e-3


@pytest.mark.framework("fastai")
def test_fires_fastai() -> None:
    """after_backward, and before_step below GradientAccumulation's order, clip at batches that make no step."""
    from fastai.callback.core import Callback
    from fastai.callback.training import GradientAccumulation, GradientClip

    done: list[str] = []

    class Clip(Callback):
        def after_backward(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)
            done.append("clip")

        def after_step(self) -> None:
            done.append("step")

    class Early(GradientClip):
        order = GradientAccumulation.order - 1

    learn = learner(GradientAccumulation(64), Clip(), Early(LIMIT), batches=8)
    assert found(learn) == [("Clip", "after_backward", "warning"), ("Early", "before_step", "warning")]
    fit(learn)
    assert done == [*["clip"] * 4, "step"] * 2


@pytest.mark.framework("fastai")
def test_silent_fastai() -> None:
    """Behind GradientAccumulation a handler clips once for each step; and where each batch makes a step, so be it."""
    from fastai.callback.core import Callback
    from fastai.callback.training import GradientAccumulation, GradientClip

    done: list[str] = []

    class Clip(Callback):
        order = GradientAccumulation.order + 1

        def before_step(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)
            done.append("clip")

        def after_step(self) -> None:
            done.append("step")

    class Each(Callback):
        def after_backward(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    class Sometimes(Callback):
        def after_backward(self) -> None:
            if self.iter % 4 == 3:
                clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    learn = learner(GradientAccumulation(64), Clip(), GradientClip(), Sometimes(), batches=8)
    assert not found(learn)
    fit(learn)
    assert done == ["clip", "step"] * 2
    assert not found(learner(Each()))
    assert not found(learner(GradientAccumulation(16), Each()))  # a batch has 16 items


@pytest.mark.framework("lightning")
def test_fires_lightning() -> None:
    """on_after_backward comes at each batch, and what is stepped is the sum of a clipped sum and more."""
    from lightning.pytorch import Callback

    class Clip(Callback):
        done = 0

        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)
            self.done += 1

    clip, model = Clip(), lightning_base()()
    trainer = lightning_trainer(clip, batches=8, accumulate_grad_batches=4)
    assert found(trainer, model=model) == [("Clip", "on_after_backward", "warning")]
    lightning_fit(trainer, model)
    assert (clip.done, len(model.norms)) == (8, 2)


@pytest.mark.framework("lightning")
def test_silent_lightning() -> None:
    """on_before_optimizer_step comes with the step; without accumulation, each batch makes one."""
    from lightning.pytorch import Callback

    class Late(Callback):
        done = 0

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)
            self.done += 1

    class Early(Callback):
        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

    clip, model = Late(), lightning_base()()
    trainer = lightning_trainer(clip, batches=8, accumulate_grad_batches=4)
    assert not found(trainer, model=model)
    lightning_fit(trainer, model)
    assert (clip.done, len(model.norms)) == (2, 2)
    assert not found(lightning_trainer(Early()), model=lightning_base()())


@pytest.mark.framework("transformers")
def test_fires_transformers(tmp_path: Path) -> None:
    """on_substep_end comes at just those batches that make no step."""
    from transformers import TrainerCallback

    from tests.adapters.cases.transformers import trainer

    class Clip(TrainerCallback):
        done = 0

        def on_substep_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            clip_grad_norm_(model.parameters(), LIMIT)
            self.done += 1

    clip = Clip()
    made = trainer(tmp_path, clip, gradient_accumulation_steps=4, num_train_epochs=1)
    assert found(made, "train") == [("Clip", "on_substep_end", "warning")]
    with quiet():
        made.train()
    assert (clip.done, made.state.global_step) == (3, 1)


@pytest.mark.framework("transformers")
def test_silent_transformers(tmp_path: Path) -> None:
    """on_pre_optimizer_step comes with the step; without accumulation there are no other batches."""
    from transformers import TrainerCallback

    from tests.adapters.cases.transformers import trainer

    class Late(TrainerCallback):
        done = 0

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            clip_grad_norm_(model.parameters(), LIMIT)
            self.done += 1

    class Early(TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            clip_grad_norm_(model.parameters(), LIMIT)

    clip = Late()
    made = trainer(tmp_path, clip, gradient_accumulation_steps=4, num_train_epochs=1)
    assert not found(made, "train")
    with quiet():
        made.train()
    assert (clip.done, made.state.global_step) == (1, 1)
    assert not found(trainer(tmp_path, Early()), "train")


@pytest.mark.framework("ignite")
def test_fires_ignite() -> None:
    """ITERATION_COMPLETED comes at each batch, 8 of which make 2 steps."""
    from ignite.engine import Events

    trainer, model, norms = ignite_trainer(accumulate=4)
    done = []

    @trainer.on(Events.ITERATION_COMPLETED)  # type: ignore[untyped-decorator]
    def clip() -> None:
        done.append(clip_grad_norm_(model.parameters(), LIMIT))

    assert found(trainer, "run", data=pairs(8), max_epochs=1) == [("clip", "ITERATION_COMPLETED", "warning")]
    trainer.run(pairs(8), max_epochs=1)
    assert (len(done), len(norms)) == (8, 2)


@pytest.mark.framework("ignite")
def test_silent_ignite() -> None:
    """A filter chooses batches, and without accumulation there are no others."""
    from ignite.engine import Events

    def made(count: int, event: Any) -> Any:
        trainer, model, _ = ignite_trainer(accumulate=count)

        @trainer.on(event)  # type: ignore[untyped-decorator]
        def clip() -> None:
            clip_grad_norm_(model.parameters(), LIMIT)

        return trainer

    assert found(made(4, Events.ITERATION_COMPLETED), "run", data=pairs(8), max_epochs=1)
    assert not found(made(4, Events.ITERATION_COMPLETED(every=4)), "run", data=pairs(8), max_epochs=1)
    assert not found(made(1, Events.ITERATION_COMPLETED), "run", data=pairs(8), max_epochs=1)
