"""shadowed-attribute: an assignment to self does not reach the learner."""

from __future__ import annotations

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.progress  # noqa: F401 - it gives learners their no_bar
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.test_utils import synth_learner

import loopscope

RULE = "shadowed-attribute"


class Zero(Callback):
    """Means to take the loss away."""

    def after_loss(self) -> None:
        self.loss_grad = self.loss_grad * 0


def weight_after(learn: Learner) -> tuple[float, float]:
    before = float(next(learn.model.parameters()).detach())
    with learn.no_bar():
        learn.fit(1, lr=0.1)
    return before, float(next(learn.model.parameters()).detach())


@pytest.mark.filterwarnings("ignore:You are shadowing an attribute")
def test_fires() -> None:
    """A callback that assigns self.loss_grad changes nothing: the learner still differentiates its own."""
    learn = synth_learner(cbs=Zero())
    (found,) = loopscope.check(learn, select=[RULE]).findings
    assert (found.method, found.severity, found.trust) == ("after_loss", "warning", "inferred")
    assert "Zero.after_loss sets self.loss_grad" in found.message
    before, after = weight_after(learn)
    assert before != after


def test_fires_as_fastai_warns() -> None:
    """fastai itself warns of the very same assignment, when it happens."""
    learn = synth_learner(cbs=Zero())
    with learn.no_bar(), pytest.warns(UserWarning, match=r"shadowing an attribute \(loss_grad\)"):
        learn.fit(1)


def test_fires_in_a_method_that_a_handler_calls() -> None:
    """The assignment may stand in a method that the handler calls."""

    class Swap(Callback):
        def before_fit(self) -> None:
            self.swap()

        def swap(self) -> None:
            self.model = None

    (found,) = loopscope.check(synth_learner(cbs=Swap()), select=[RULE]).findings
    assert (found.method, found.event) == ("before_fit", "before_fit")


def test_silent_on_the_learner() -> None:
    """self.learn.loss_grad is how it is done: the loss is gone, and no weight changes."""

    class Right(Callback):
        def after_loss(self) -> None:
            self.learn.loss_grad = self.loss_grad * 0

    learn = synth_learner(cbs=Right())
    assert not loopscope.check(learn, select=[RULE]).findings
    before, after = weight_after(learn)
    assert before == after


def test_silent_on_what_is_its_own() -> None:
    """What it keeps for itself, and what it is made with, is the callback's own: fastai says nothing, either."""

    class Keeps(Callback):
        def __init__(self, model: object = None) -> None:
            self.model, self.kept = model, 0

        def after_batch(self) -> None:
            self.kept += 1

    assert not loopscope.check(synth_learner(cbs=Keeps()), select=[RULE]).findings


@pytest.mark.filterwarnings("ignore:You are shadowing an attribute")
def test_fires_as_a_note_on_its_own_name() -> None:
    """self.ema in a class EMA works: learn.ema is the callback before and after, so that only the name is at fault."""

    class EMA(Callback):
        def before_fit(self) -> None:
            self.ema = {"kept": 0}

        def after_batch(self) -> None:
            self.ema["kept"] += 1

    learn = synth_learner(cbs=EMA())
    (found,) = loopscope.check(learn, select=[RULE]).findings
    assert (found.severity, found.do) == ("note", "Rename the attribute.")
    assert "learn.ema is the callback itself" in found.message
    weight_after(learn)
    assert isinstance(learn.ema, EMA)
    assert vars(learn.ema)["ema"]["kept"] > 0
