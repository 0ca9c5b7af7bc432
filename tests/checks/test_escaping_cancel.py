"""escaping-cancel: a cancel that nothing catches leaves fit, as fastai itself shows."""

from __future__ import annotations

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import (
    Callback,
    CancelBatchException,
    CancelFitException,
    CancelTrainException,
    CancelValidException,
)
from fastai.callback.training import ShortEpochCallback
from fastai.test_utils import synth_learner

import loopscope

RULE = "escaping-cancel"


def test_fires() -> None:
    """CancelBatchException in after_batch leaves fit as an error."""

    class Skip(Callback):
        def after_batch(self) -> None:
            raise CancelBatchException

    learn = synth_learner(cbs=Skip())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity, found.trust) == (
        "Skip",
        "after_batch",
        "error",
        "inferred",
    )
    assert found.message == (
        "Skip.after_batch raises CancelBatchException, which nothing catches there: it leaves fit as an error"
    )
    assert found.evidence[1].startswith("caught at after_batch: CancelTrainException")
    with pytest.raises(CancelBatchException):
        learn.fit(1)


def test_fires_under_a_condition() -> None:
    """What depends on a condition is a warning, with the condition."""

    class Stop(Callback):
        def after_fit(self) -> None:
            if self.loss is None:
                raise CancelFitException

    (found,) = loopscope.check(synth_learner(cbs=Stop()), n_epoch=1, select=[RULE]).findings
    assert found.severity == "warning"
    assert found.evidence[0] == "Stop.after_fit raises CancelFitException if learn.loss is None"


def test_fires_while_validating() -> None:
    """A cancel of the training that is raised in validation too is caught while training alone."""

    class Few(Callback):
        def before_batch(self) -> None:
            if self.iter >= 1:
                raise CancelTrainException

    learn = synth_learner(cbs=Few())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert "which nothing catches there while validating" in found.message
    with pytest.raises(CancelTrainException):
        learn.fit(1)


def test_silent() -> None:
    """Between before_X and after_X it is caught, whichever phase a condition asks for."""

    class Skip(Callback):
        def after_loss(self) -> None:
            if self.loss > 5:
                raise CancelBatchException

        def after_batch(self) -> None:
            if self.iter < 1:
                return
            if self.training:
                raise CancelTrainException
            raise CancelValidException

        def after_epoch(self) -> None:
            raise CancelFitException

    class Training(Callback):
        run_valid = False

        def before_batch(self) -> None:
            if self.iter >= 1:
                raise CancelTrainException

    learn = synth_learner(cbs=[Skip(), Training(), ShortEpochCallback()])
    assert not loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    learn.fit(2)
