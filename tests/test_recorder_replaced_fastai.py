"""Callbacks that take the place of others while a run goes on, and what is counted as placed then."""

from __future__ import annotations

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback

import loopscope
from tests.adapters.cases.fastai import learner


class Same(Callback):
    """Equal to every other of its class, and counts how often that was asked."""

    asked = 0
    __hash__ = Callback.__hash__

    def __eq__(self, other):
        Same.asked += 1
        return isinstance(other, Same)

    def after_batch(self):
        pass


class Swaps(Callback):
    """Puts another callback of the same class, with another `run_valid`, into the place of the first in epoch 1."""

    def __init__(self, run_valid: bool) -> None:
        self.other = run_valid

    def before_epoch(self):
        if self.epoch != 1:
            return
        cbs = self.learn.cbs
        at = next(n for n in range(len(cbs)) if type(cbs[n]) is Same)
        new = Same()
        new.run_valid, new.learn = self.other, self.learn
        cbs[at] = new


def run_with(tmp_path, first: bool, then: bool) -> loopscope.api.LoopRecording:
    same = Same()
    same.run_valid = first
    learn = learner(same, Swaps(then))
    with learn.no_bar(), learn.no_logging(), loopscope.record(learn, tmp_path / "run.loop") as rec:
        learn.fit(2)
    return rec


@pytest.mark.parametrize(("first", "then"), [(True, True), (True, False), (False, True), (False, False)])
def test_one_of_the_same_class_with_other_switches_is_placed(tmp_path, first, then):
    """A callback that takes the place of another of its class is followed by its own switches."""
    report = run_with(tmp_path, first, then).report()
    assert [one.message for one in report.unexpected] == []


def test_recording_asks_no_callback_whether_it_is_equal(tmp_path):
    """A callback's own `__eq__` is not run by recording: the callbacks are told apart by identity."""
    Same.asked = 0
    run_with(tmp_path, True, False)
    assert Same.asked == 0


class Fires(Callback):
    """Fires an event by itself, in the second training batch."""

    def after_pred(self):
        if self.training and self.iter == 1:
            self.learn("after_loss")


def test_what_a_handler_fires_by_itself_is_listed_where_the_handler_is(tmp_path):
    """It has the epoch and the batch of the handler that fired it, and its calls are not counted as placed."""
    learn = learner(Fires())
    with learn.no_bar(), learn.no_logging(), loopscope.record(learn, tmp_path / "run.loop") as rec:
        learn.fit(1)
    (one,) = rec.report().unexpected
    assert (one.message, one.at.epoch, one.at.batch) == ("after_loss fired inside a handler", 0, 1)
    assert (one.at.event, one.at.handler) == ("after_loss", "Fires.after_pred")
