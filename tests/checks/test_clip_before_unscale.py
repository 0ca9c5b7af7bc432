"""clip-before-unscale: what is clipped while it is multiplied by the loss scale is clipped far too hard."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.frameworks import need_torch

need_torch()

import torch
from torch.nn.utils import clip_grad_norm_

from tests.checks import stepping
from tests.checks.stepping import SCALE, fit, learner, lightning_base, lightning_fit, lightning_trainer, norm

found = functools.partial(stepping.found, "clip-before-unscale")
LIMIT = 1e-3


def stepped(*, early: bool) -> tuple[float, float]:
    """Train one batch in fastai with a loss scale; return the norm of the gradients, and of what was stepped."""
    from fastai.callback.core import Callback
    from fastai.callback.fp16 import MixedPrecision

    class Scaled(MixedPrecision):
        """MixedPrecision with a scaler that works without a GPU."""

        def before_fit(self) -> None:
            super().before_fit()
            self.learn.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)

    class Clip(Callback):
        order = MixedPrecision.order + (-1 if early else 1)

        def before_step(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    class Norms(Callback):
        order = 99

        def before_backward(self) -> None:
            parameters = list(self.learn.model.parameters())
            gradients = torch.autograd.grad(self.learn.loss, parameters, retain_graph=True)
            self.own = float(torch.nn.utils.get_total_norm(gradients))

        def before_step(self) -> None:
            self.stepped = norm(self.learn.model.parameters())

    norms = Norms()
    learn = learner(Scaled(), Clip(), norms)
    assert found(learn) == ([("Clip", "before_step", "error")] if early else [])
    fit(learn)
    return norms.own, norms.stepped


@pytest.mark.framework("fastai")
def test_fires_fastai() -> None:
    """A handler that clips before MixedPrecision's order: what is stepped is the limit over the loss scale."""
    own, stepped_ = stepped(early=True)
    assert own > 10 * LIMIT
    assert stepped_ == pytest.approx(LIMIT / SCALE, rel=1e-3)


@pytest.mark.framework("fastai")
def test_silent_fastai() -> None:
    """One that clips behind it: what is stepped has the limit's norm."""
    own, stepped_ = stepped(early=False)
    assert own > 10 * LIMIT
    assert stepped_ == pytest.approx(LIMIT, rel=1e-3)


@pytest.mark.framework("fastai")
def test_fires_fastai_elsewhere() -> None:
    """after_backward is before all of before_step; a helper is followed; a moved GradientClip is one as well."""
    from fastai.callback.core import Callback
    from fastai.callback.fp16 import MixedPrecision
    from fastai.callback.training import GradientClip

    class Clip(Callback):
        def after_backward(self) -> None:
            self.limit()

        def limit(self) -> None:
            for one in self.learn.model.parameters():
                if one.grad is not None:
                    one.grad.data.clamp_(-1, 1)

    class Early(GradientClip):
        order = 0

    class Assigns(Callback):
        def after_backward(self) -> None:
            for one in self.learn.model.parameters():
                one.grad = one.grad.clamp(-1, 1)

    learn = learner(MixedPrecision(), Clip(), Early(0.1))
    assert found(learn) == [("Clip", "after_backward", "error"), ("Early", "before_step", "error")]
    assert found(learner(MixedPrecision(), Assigns())) == [("Assigns", "after_backward", "error")]


@pytest.mark.framework("fastai")
def test_silent_fastai_elsewhere() -> None:
    """GradientClip as it comes, bf16, no mixed precision, who unscales first, and who only asks for the norm."""
    from fastai.callback.core import Callback
    from fastai.callback.fp16 import AMPMode, MixedPrecision
    from fastai.callback.training import GradientClip

    class Clip(Callback):
        def after_backward(self) -> None:
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    class Unscales(Callback):
        def before_step(self) -> None:
            self.learn.scaler.unscale_(self.learn.opt)
            clip_grad_norm_(self.learn.model.parameters(), LIMIT)

    class Asks(Callback):
        def after_backward(self) -> None:
            self.norm = clip_grad_norm_(self.learn.model.parameters(), float("inf"))

    class Own(MixedPrecision):
        def before_step(self) -> None:
            super().before_step()

    assert not found(learner(MixedPrecision(), GradientClip()))
    assert found(learner(MixedPrecision(), Clip()))
    assert not found(learner(MixedPrecision(AMPMode.BF16), Clip()))
    assert not found(learner(Clip()))
    assert not found(learner(MixedPrecision(), Unscales(), Asks()))
    assert not found(learner(Own(), Clip()))


@pytest.mark.framework("lightning")
def test_fires_lightning() -> None:
    """on_after_backward clips what the trainer unscales later: what is stepped is the limit over the loss scale."""
    from lightning.pytorch import Callback

    class Clip(Callback):
        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

    model, trainer = lightning_base()(), lightning_trainer(Clip(), scaled=True)
    assert found(trainer, model=model) == [("Clip", "on_after_backward", "error")]
    lightning_fit(trainer, model)
    assert model.norms == [pytest.approx(LIMIT / SCALE, rel=1e-3)]


@pytest.mark.framework("lightning")
def test_fires_lightning_by_hand() -> None:
    """So does a training step that steps by hand: the optimizer unscales in its own step."""

    class Module(lightning_base()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(self.layer(batch)))
            self.clip_gradients(optimizer, LIMIT, "norm")
            optimizer.step()

    model, trainer = Module(), lightning_trainer(scaled=True)
    assert found(trainer, model=model) == [("Module", "training_step", "error")]
    lightning_fit(trainer, model)
    assert model.norms == [pytest.approx(LIMIT / SCALE, rel=1e-3)]


@pytest.mark.framework("lightning")
def test_silent_lightning() -> None:
    """on_before_optimizer_step is behind the unscaling, and so is what the trainer clips; without fp16 all is well."""
    from lightning.pytorch import Callback

    class Late(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

    class Early(Callback):
        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            clip_grad_norm_(pl_module.parameters(), LIMIT)

    trainers = (
        lightning_trainer(Late(), scaled=True),
        lightning_trainer(scaled=True, gradient_clip_val=LIMIT),
        lightning_trainer(Early()),
    )
    for trainer in trainers:
        model = lightning_base()()
        assert not found(trainer, model=model)
        lightning_fit(trainer, model)
        assert model.norms == [pytest.approx(LIMIT, rel=1e-3)]


@pytest.mark.framework("lightning")
def test_silent_lightning_by_hand() -> None:
    """By hand, on_before_optimizer_step is the place to clip."""

    class Module(lightning_base()):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(self.layer(batch)))
            optimizer.step()

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.clip_gradients(optimizer, LIMIT, "norm")

    model, trainer = Module(), lightning_trainer(scaled=True)
    assert not found(trainer, model=model)
    lightning_fit(trainer, model)
    assert model.norms == [pytest.approx(LIMIT, rel=1e-3)]
