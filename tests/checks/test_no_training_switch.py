"""no-training-switch: without TrainEvalCallback fastai computes losses and trains nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import torch
from fastai.callback.core import Callback, TrainEvalCallback
from fastai.learner import Learner
from fastai.test_utils import synth_learner

import loopscope

RULE = "no-training-switch"


class Watch(Callback):
    def after_batch(self) -> None: ...


class Switch(Callback):
    def before_train(self) -> None:
        self.learn.training = True

    def before_validate(self) -> None:
        self.learn.training = False


class Direct(Learner):
    def _do_one_batch(self) -> None:
        self.pred = self.model(*self.xb)
        self.loss_grad = self.loss_func(self.pred, *self.yb)
        if torch.is_grad_enabled():
            self.loss_grad.backward()
            self.opt.step()


def learner(*cbs: Callback, cls: type[Learner] = Learner) -> Learner:
    made = synth_learner()
    return cls(made.dls, made.model, loss_func=made.loss_func, cbs=list(cbs), default_cbs=False)


def weights(learn: Learner) -> Any:
    return torch.cat([one.detach().flatten().clone() for one in learn.model.parameters()])


def test_fires() -> None:
    """A learner without TrainEvalCallback: the finding names the call, and fastai really leaves the weights alone."""
    learn = learner(Watch())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.severity, found.callback) == ("error", "")
    assert "learn.fit(1)" in found.message
    before = weights(learn)
    learn.fit(1)
    assert torch.equal(weights(learn), before)


def test_fires_where_it_is_switched_off() -> None:
    """TrainEvalCallback with run = False: fastai really trains nothing, and its Recorder fails on the first batch."""
    learn = synth_learner()
    learn.train_eval.run = False
    assert loopscope.check(learn, n_epoch=1, select=[RULE]).failed
    before = weights(learn)
    with learn.no_bar(), pytest.raises(AttributeError, match="Recorder"):
        learn.fit(1)
    assert torch.equal(weights(learn), before)


def test_silent() -> None:
    """With TrainEvalCallback, with a callback that sets learn.training itself, and where nothing is to be trained."""
    for learn in (learner(TrainEvalCallback()), learner(Switch()), synth_learner()):
        assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert not loopscope.check(learner(Watch()), "validate", select=[RULE]).findings
    learn = learner(Switch())
    before = weights(learn)
    learn.fit(1)
    assert not torch.equal(weights(learn), before)


def test_silent_for_an_own_loop() -> None:
    """A learner whose own batch trains whatever learn.training says."""
    learn = learner(cls=Direct)
    assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    before = weights(learn)
    learn.fit(1)
    assert not torch.equal(weights(learn), before)
