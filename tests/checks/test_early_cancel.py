"""early-cancel: whoever sets things up behind it in before_X misses them in after_X."""

from __future__ import annotations

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback, CancelEpochException, CancelTrainException
from fastai.callback.progress import ProgressCallback
from fastai.test_utils import synth_learner

import loopscope

RULE = "early-cancel"
SEEN: list[object] = []


def test_fires_before_progress() -> None:
    """A training that is cancelled before the progress bar is made: ProgressCallback fails without it."""

    class Skip(Callback):
        def before_train(self) -> None:
            raise CancelTrainException

    learn = synth_learner(cbs=Skip())
    assert learn.progress.order == ProgressCallback.order > 0
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity) == ("Skip", "before_train", "error")
    assert "before ProgressCallback has set self.pbar there" in found.message
    with pytest.raises(AttributeError, match="pbar"):
        learn.fit(1)


def test_fires_before_recorder() -> None:
    """An epoch that is cancelled before Recorder has begun its row: Recorder fails without it."""

    class Skip(Callback):
        def before_epoch(self) -> None:
            if self.epoch == 0:
                raise CancelEpochException

    learn = synth_learner(cbs=Skip())
    (found,) = loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    assert found.severity == "warning"
    assert "before Recorder has set self.log" in found.message
    assert found.evidence[0] == "Skip (order 0) stands before Recorder (order 50) at before_epoch"
    with pytest.raises(AttributeError, match="log"):
        learn.fit(2)


def test_fires_before_ones_own() -> None:
    """A callback of one's own that measures from before_train on is no different."""

    class Skip(Callback):
        order = 70

        def before_train(self) -> None:
            raise CancelTrainException

    class Count(Callback):
        order = 80

        def before_train(self) -> None:
            self.tally = 0

        def after_train(self) -> None:
            SEEN.append(self.tally)

    learn = synth_learner(cbs=[Skip(), Count()])
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert "before Count has set self.tally" in found.message
    with pytest.raises(AttributeError, match="tally"):
        learn.fit(1)


def test_silent() -> None:
    """Behind those who set things up, and where they are there from elsewhere, nothing is missed."""

    class Skip(Callback):
        order = 70

        def before_train(self) -> None:
            raise CancelTrainException

        def before_epoch(self) -> None:
            if self.epoch == 0:
                raise CancelEpochException

    class Count(Callback):
        order = 80

        def before_fit(self) -> None:
            self.tally = 0

        def before_train(self) -> None:
            self.tally = 0

        def after_train(self) -> None:
            SEEN.append(self.tally)

    learn = synth_learner(cbs=[Skip(), Count()])
    assert not loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    learn.fit(2)


def test_silent_where_the_learner_answers() -> None:
    """A name that the learner has too is found there: Count is learn.count itself."""

    class Skip(Callback):
        order = 70

        def before_train(self) -> None:
            raise CancelTrainException

    class Count(Callback):
        order = 80

        def before_train(self) -> None:
            self.count = 0

        def after_train(self) -> None:
            SEEN.append(self.count)

    learn = synth_learner(cbs=[Skip(), Count()])
    assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    learn.fit(1)
    assert SEEN[-1] is learn.count
