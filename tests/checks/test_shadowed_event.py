"""shadowed-event: fastai calls an attribute of learner or model that has the name of an event."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

from typing import Any

import fastai.callback.progress  # noqa: F401 - it gives learners their no_bar
from fastai.callback.core import Callback
from fastai.test_utils import synth_learner
from torch import nn

import loopscope

RULE = "shadowed-event"


class Net(nn.Module):
    """A model that counts how often fastai calls its after_batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = nn.Linear(1, 1), 0

    def forward(self, x: Any) -> Any:
        return self.linear(x)

    def after_batch(self) -> None:
        self.calls += 1


def test_fires() -> None:
    """A model's after_batch is called by every callback without one, once per batch, as the finding says."""
    learn = synth_learner(model=Net(), n_trn=2, n_val=0, cbs=Callback())
    (found,) = loopscope.check(learn, select=[RULE], n_epoch=1).findings
    assert (found.severity, found.event, found.trust) == ("error", "after_batch", "declared")
    callers = int(found.message.split(": ")[1].split()[0])
    with learn.no_bar():
        learn.fit(1)
    assert learn.model.calls == callers * len(learn.dls.train)
    assert callers > 1


def test_silent_with_another_name() -> None:
    """A model's method with a name of its own is nobody's business: fastai does not call it."""

    class Other(nn.Linear):
        def finish(self) -> None:
            raise AssertionError("nobody calls it")

    learn = synth_learner(model=Other(1, 1), n_trn=2, n_val=0, cbs=Callback())
    assert not loopscope.check(learn, select=[RULE]).findings
    with learn.no_bar():
        learn.fit(1)
