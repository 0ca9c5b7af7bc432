"""shared-name: the learner keeps one callback per name, whatever stands in its list."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

import re

import pytest
from fastai.callback.core import Callback
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.learner import Learner, Recorder
from fastai.test_utils import synth_learner

import loopscope

RULE = "shared-name"


def fit(learn: Learner, **arguments: object) -> None:
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, **arguments)


def test_fires() -> None:
    """Two plain callbacks are both learn.callback: the second is there, and taking out the first takes it away."""
    rung: list[str] = []
    first, second = (
        Callback(after_epoch=lambda _: rung.append("epoch")),
        Callback(after_fit=lambda _: rung.append("fit")),
    )
    learn = synth_learner(cbs=[first, second])
    (found,) = loopscope.check(learn, select=[RULE]).findings
    assert (found.severity, found.trust) == ("note", "declared")
    message = re.sub(r"#\d+", "", found.message)
    assert message == "Callback and Callback are both named 'callback': learn.callback is Callback"
    assert found.message.endswith(found.callback)
    assert learn.callback is second
    learn.remove_cb(first)
    assert second in learn.cbs
    assert not hasattr(learn, "callback")


def test_fires_on_what_others_read() -> None:
    """A callback that a call is given takes the learner's own recorder away when it leaves, which a tracker reads."""
    learn = synth_learner()
    given = [Recorder(train_metrics=True), EarlyStoppingCallback()]
    (found,) = loopscope.check(learn, cbs=given, select=[RULE]).findings
    assert (found.severity, found.callback.partition("#")[0]) == ("warning", "Recorder")
    assert f"learn.recorder is {found.callback} during this run, and gone behind it" in found.message
    assert any("EarlyStoppingCallback" in line and "reads learn.recorder" in line for line in found.evidence)
    fit(learn, cbs=given)
    with pytest.raises(AttributeError, match="recorder"):
        fit(learn, cbs=EarlyStoppingCallback())


def test_silent() -> None:
    """Callbacks of different classes have different names, and so has one that gives itself a name."""

    class Ring(Callback):
        name = "ring"

        def after_fit(self) -> None: ...

    learn = synth_learner(cbs=[Ring(), Callback(after_epoch=print), EarlyStoppingCallback()])
    assert not loopscope.check(learn, select=[RULE]).findings
