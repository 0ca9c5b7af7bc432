"""dead-order: fastai sorts by `order` alone, whatever `run_after` and `run_before` say."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.test_utils import synth_learner

import loopscope

RULE = "dead-order"


def test_fires() -> None:
    """A callback with run_after runs where its order puts it, and the finding says so; fastai really runs it there."""

    class Scale(Callback):
        run_after = MixedPrecision

        def after_backward(self) -> None: ...

    learn = synth_learner(cbs=[MixedPrecision(), Scale()])
    (found,) = loopscope.check(learn, select=[RULE]).findings
    assert (found.callback, found.severity, found.trust) == ("Scale#6", "warning", "declared")
    assert "Scale sets run_after" in found.message
    order = [type(one).__name__ for one in learn.cbs.sorted("order")]
    assert order.index("Scale") < order.index("MixedPrecision")


def test_silent() -> None:
    """An order is what fastai reads."""

    class Scale(Callback):
        order = MixedPrecision.order + 1

        def after_backward(self) -> None: ...

    assert not loopscope.check(synth_learner(cbs=[MixedPrecision(), Scale()]), select=[RULE]).findings
