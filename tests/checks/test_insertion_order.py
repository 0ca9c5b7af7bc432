"""insertion-order: of two callbacks with one order, the one that was added last has the last word."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.callback.rnn import RNNCallback, RNNRegularizer
from fastai.learner import Learner
from fastai.test_utils import synth_learner

import loopscope

RULE = "insertion-order"


class Double(Callback):
    def after_pred(self) -> None:
        self.learn.pred = self.pred * 2


class Zero(Callback):
    def after_pred(self) -> None:
        self.learn.pred = self.model.a * self.x * 0


class Ones(Callback):
    def after_pred(self) -> None:
        self.learn.pred = self.model.a * self.x * 0 + 1


def last_pred(*callbacks: Callback) -> float:
    """Return what the loss is given, with these callbacks in this order."""
    seen: list[float] = []
    watch = Callback(after_loss=lambda cb: seen.append(float(cb.learn.pred.detach().mean())))
    learn = synth_learner(cbs=[*callbacks, watch])
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    return seen[0]


def checked(learn: Learner) -> list[tuple[str, str, str]]:
    found = loopscope.check(learn, select=[RULE]).findings
    return [(one.callback.partition("#")[0], one.event, one.severity) for one in found]


def test_fires() -> None:
    """Of two that write learn.pred at one order the last one wins; in another list it is the other."""
    learn = synth_learner(cbs=[Zero(), Ones()])
    (found,) = loopscope.check(learn, select=[RULE]).findings
    assert (found.event, found.severity, found.trust) == ("after_pred", "warning", "inferred")
    assert found.callback.startswith("Ones#")
    assert "both write learn.pred in after_pred, and both have order 0" in found.message
    assert (last_pred(Zero(), Ones()), last_pred(Ones(), Zero())) == (1.0, 0.0)


def test_fires_as_a_note_where_one_builds_on_the_other() -> None:
    """What each makes of the other's result is not lost, but another list gives another result."""

    class More(Callback):
        def after_pred(self) -> None:
            self.learn.pred = self.learn.pred + 1

    assert checked(synth_learner(cbs=[Double(), More()])) == [("More", "after_pred", "note")]


def test_silent() -> None:
    """An order that is set, another event, or factors that may be multiplied in any order say nothing."""

    class Later(Zero):
        order = 1

    class Elsewhere(Callback):
        def after_loss(self) -> None:
            self.learn.pred = self.pred + 1

    class Half(Callback):
        def after_loss(self) -> None:
            self.learn.loss_grad *= 0.5

    class Third(Callback):
        def after_loss(self) -> None:
            self.learn.loss_grad *= 0.3

    assert checked(synth_learner(cbs=[Double(), Later(), Elsewhere(), Half(), Third()])) == []


def test_silent_on_shipped_ones() -> None:
    """What fastai ships side by side is meant to stand in that order."""
    assert checked(synth_learner(cbs=[RNNCallback(), RNNRegularizer(alpha=2, beta=1)])) == []
