"""after-cancel-state: what a cancel skips is missed, or taken from the batch before."""

from __future__ import annotations

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback, CancelBatchException, CancelTrainException
from fastai.callback.tracker import EarlyStoppingCallback, TerminateOnNaNCallback
from fastai.callback.training import ShortEpochCallback
from fastai.metrics import mse
from fastai.test_utils import synth_learner

import loopscope

RULE = "after-cancel-state"
SEEN: list[object] = []


class Skip(Callback):
    """Leaves out every training batch, before it has a loss."""

    run_valid = False

    def before_batch(self) -> None:
        raise CancelBatchException


def test_fires() -> None:
    """Recorder counts a batch that was never computed, with the loss that fit begins with."""
    learn = synth_learner(cbs=Skip())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity) == ("Skip", "before_batch", "warning")
    assert "Recorder.after_batch still runs and counts the loss and the prediction of the batch before" in found.message
    assert found.threads == ("fastai#4029", "fastai#4030")
    learn.fit(1)
    assert [float(loss) for loss in learn.recorder.losses] == [0.0] * 10


def test_fires_for_a_metric() -> None:
    """In validation a metric fails on the prediction that is not there."""

    class All(Callback):
        def before_batch(self) -> None:
            raise CancelBatchException

    learn = synth_learner(cbs=All(), metrics=[mse])
    assert loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    with pytest.raises(AttributeError, match="pred"):
        learn.fit(1)


def test_fires_for_a_tracker() -> None:
    """A tracker does not find its figure in an epoch whose training was cancelled."""

    class Short(Callback):
        order = 70

        def before_train(self) -> None:
            raise CancelTrainException

    learn = synth_learner(cbs=[Short(), EarlyStoppingCallback()])
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert found.severity == "error"
    assert "EarlyStoppingCallback then looks for valid_loss where an epoch has valid_loss" in found.message
    with pytest.raises(IndexError, match="EarlyStoppingCallback"):
        learn.fit(1)


def test_fires_for_a_late_start() -> None:
    """Nor in the epochs that start_epoch skips, as fastai skips them by a cancel."""
    learn = synth_learner(cbs=EarlyStoppingCallback())
    (found,) = loopscope.check(learn, n_epoch=3, start_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.threads) == ("SkipToEpoch", ("fastai#3780",))
    with pytest.raises(IndexError, match="EarlyStoppingCallback"):
        learn.fit(3, start_epoch=1)


def test_fires_for_the_last_epoch() -> None:
    """Where the first epoch is not finished, there is no last one."""

    class Tell(Callback):
        def after_cancel_fit(self) -> None:
            SEEN.append(self.recorder.values[-1])

    learn = synth_learner(cbs=[TerminateOnNaNCallback(), Tell()], lr=float("inf"))
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity) == ("Tell", "after_cancel_fit", "warning")
    assert "where TerminateOnNaNCallback.after_batch ends the run in its first epoch" in found.message
    with pytest.raises(IndexError, match="Tell"):
        learn.fit(1)


def test_silent_for_the_last_epoch() -> None:
    """Who asks first, or where nothing ends the run early, may read it."""

    class Asks(Callback):
        def after_cancel_fit(self) -> None:
            if self.recorder.values:
                SEEN.append(self.recorder.values[-1])

    class Tell(Callback):
        def after_fit(self) -> None:
            SEEN.append(self.recorder.values[-1])

    learn = synth_learner(cbs=[TerminateOnNaNCallback(), Asks()], lr=float("inf"))
    assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    learn.fit(1)
    learn = synth_learner(cbs=[EarlyStoppingCallback("train_loss"), Tell()])
    assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    learn.fit(1)


def test_silent() -> None:
    """Behind the loss a batch may be cancelled, and a tracker of train_loss does not mind a short validation."""

    class Later(Callback):
        def after_loss(self) -> None:
            raise CancelBatchException

    class Sets(Callback):
        def before_batch(self) -> None:
            self.learn.yb = ()
            raise CancelBatchException

    for callback in (Later(), Sets()):
        learn = synth_learner(cbs=callback, metrics=[mse])
        assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
        learn.fit(1)
    learn = synth_learner(cbs=[ShortEpochCallback(0.2, short_valid=False), EarlyStoppingCallback("train_loss")])
    assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    learn.fit(1)


class First(Callback):
    """Leaves out the first three training batches, with their losses known."""

    run_valid = False

    def after_loss(self) -> None:
        if self.iter < 3:
            raise CancelBatchException


def test_fires_for_what_is_not_set_yet() -> None:
    """after_cancel_batch runs before the first after_batch, which was to set what it reads."""

    class Watch(Callback):
        def after_batch(self) -> None:
            self.seen = float(self.loss)

        def after_cancel_batch(self) -> None:
            SEEN.append(self.seen)

    learn = synth_learner(cbs=[First(), Watch()])
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity) == ("Watch", "after_cancel_batch", "warning")
    assert "reads self.seen, which after_batch sets: where First.after_loss cancels the first batch" in found.message
    with pytest.raises(AttributeError, match="seen"):
        learn.fit(1)


def test_fires_for_what_was_skipped() -> None:
    """after_batch runs behind a cancel, too; what it counts up in is not there, as after_step was left out."""

    class Count(Callback):
        def after_step(self) -> None:
            self.steps = 1

        def after_batch(self) -> None:
            self.steps += 1

    learn = synth_learner(cbs=[First(), Count()])
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert "Count.after_batch reads self.steps, which after_step sets" in found.message
    with pytest.raises(AttributeError, match="steps"):
        learn.fit(1)


def test_silent_for_what_is_there() -> None:
    """Set in __init__, in the class, before the cancel or asked for first: all of it is there."""

    class Holds(Callback):
        late = 0

        def __init__(self) -> None:
            self.made = 0

        def before_fit(self) -> None:
            self.fresh = 0

        def before_batch(self) -> None:
            self.batch = self.iter

        def after_batch(self) -> None:
            self.made = self.late = self.fresh = self.batch = self.seen = self.other = 1

        def after_cancel_batch(self) -> None:
            SEEN.append((self.made, self.late, self.fresh, self.batch))
            if hasattr(self, "seen"):
                SEEN.append(self.seen)
            SEEN.append(getattr(self, "other", None))

    class Late(Callback):
        run_valid = False

        def after_loss(self) -> None:
            if self.iter > 3:
                raise CancelBatchException

    class Watch(Callback):
        def after_batch(self) -> None:
            self.seen = 1

        def after_cancel_batch(self) -> None:
            SEEN.append(self.seen)

    for callbacks in ([First(), Holds()], [Late(), Watch()], [Watch()]):
        learn = synth_learner(cbs=callbacks)
        assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
        learn.fit(1)
