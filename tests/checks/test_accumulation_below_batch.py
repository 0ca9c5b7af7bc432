"""accumulation-below-batch: n_acc counts items, and one that is below a batch's makes the gradients larger."""

from __future__ import annotations

import functools

import pytest

from tests.frameworks import need, need_torch

need_torch()

import torch

from tests.checks import stepping
from tests.checks.stepping import fit, learner, norm

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.callback.training import GradientAccumulation

found = functools.partial(stepping.found, "accumulation-below-batch")


class Norms(Callback):  # type: ignore[misc]
    """Notes for each step the norm of its gradients over that of the batch's loss."""

    order = 99

    def before_fit(self) -> None:
        self.times: list[float] = []

    def before_backward(self) -> None:
        gradients = torch.autograd.grad(self.learn.loss, list(self.learn.model.parameters()), retain_graph=True)
        self.own = float(torch.nn.utils.get_total_norm(gradients))

    def before_step(self) -> None:
        self.times.append(norm(self.learn.model.parameters()) / self.own)


def test_fires() -> None:
    """Four, where a batch has 16 items: each batch makes a step, with four times its gradients."""
    norms = Norms()
    learn = learner(GradientAccumulation(n_acc=4), norms, batches=3)
    assert found(learn) == [("GradientAccumulation", "", "error")]
    fit(learn)
    assert norms.times == [pytest.approx(4, rel=1e-3)] * 3


def test_silent() -> None:
    """As many as a batch has change nothing; more are what it is for."""
    norms = Norms()
    learn = learner(GradientAccumulation(n_acc=16), norms, batches=3)
    assert not found(learn)
    fit(learn)
    assert norms.times == [pytest.approx(1, rel=1e-3)] * 3
    assert not found(learner(GradientAccumulation(n_acc=64)))
