"""validate-after-early-stop: a tracker of the learner looks for its figure where validate() has none."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.metrics import mse
from fastai.test_utils import synth_learner

import loopscope

RULE = "validate-after-early-stop"


def test_fires() -> None:
    """What fit notes beforehand, validate then fails with."""
    learn = synth_learner(cbs=EarlyStoppingCallback())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity) == (
        "EarlyStoppingCallback",
        "after_epoch",
        "note",
    )
    assert found.message == (
        "EarlyStoppingCallback watches valid_loss, figure 2 of those that fit logs; a learn.validate() after this run "
        "logs 1, and fails with IndexError"
    )
    learn.fit(1)
    (found,) = loopscope.check(learn, "validate", select=[RULE]).findings
    assert found.severity == "error"
    with pytest.raises(IndexError, match="EarlyStoppingCallback"):
        learn.validate()


def test_fires_for_the_last_metric() -> None:
    """With a metric it is the metric that is not found."""
    learn = synth_learner(cbs=EarlyStoppingCallback(monitor="mse"), metrics=[mse])
    (found,) = loopscope.check(learn, "validate", select=[RULE]).findings
    assert "watches mse, figure 3 of those that fit logs; this validate() logs 2" in found.message
    with pytest.raises(IndexError):
        learn.validate()


@pytest.mark.parametrize(
    "tracker",
    [
        None,
        partial(EarlyStoppingCallback, monitor="train_loss"),
        partial(SaveModelCallback, every_epoch=True),
    ],
)
def test_silent(tracker: Any, tmp_path: Any) -> None:
    """A tracker that is given to fit, one whose figure has a place, and one that asks for none."""
    learn = synth_learner(cbs=None if tracker is None else tracker(), path=tmp_path)
    given = EarlyStoppingCallback() if tracker is None else None
    assert not loopscope.check(learn, cbs=given, n_epoch=1, select=[RULE]).findings
    learn.fit(1, cbs=given)
    assert not loopscope.check(learn, "validate", select=[RULE]).findings
    learn.validate()
