"""run-off: fastai sets `run` to True after every fit, so False lasts for one."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.callback.tracker import SaveModelCallback
from fastai.test_utils import synth_learner

import loopscope

RULE = "run-off"


class Watch(Callback):
    def __init__(self) -> None:
        self.seen = 0

    def after_epoch(self) -> None:
        self.seen += 1


class Off(Watch):
    run = False


class Sleeping(Watch):
    def __init__(self) -> None:
        super().__init__()
        self.run = False


def test_fires_on_a_class() -> None:
    """A class that is switched off runs from the second fit on, as fastai really has it."""
    for cls in (Off, Sleeping):
        watch = cls()
        learn = synth_learner(cbs=[watch])
        (found,) = loopscope.check(learn, select=[RULE]).findings
        assert (found.callback, found.severity, found.trust) == (f"{cls.__name__}#5", "warning", "declared")
        with learn.no_bar(), learn.no_logging():
            learn.fit(1)
            assert watch.seen == 0
            learn.fit(1)
        assert watch.seen == 1


def test_fires_on_an_instance() -> None:
    """A callback that is switched off by hand may be meant so: it is a note."""
    watch = Watch()
    watch.run = False
    (found,) = loopscope.check(synth_learner(cbs=[watch]), select=[RULE]).findings
    assert (found.callback, found.severity) == ("Watch#5", "note")
    assert "from the next one on it runs" in found.message


def test_fires_where_one_call_makes_two_fits() -> None:
    """fine_tune fits twice: what is switched off sits out the first one, and fastai really runs it in the second."""
    watch = Watch()
    watch.run = False
    learn = synth_learner(cbs=[watch])
    (found,) = loopscope.check(learn, "fine_tune", epochs=1, select=[RULE]).findings
    assert "it sits out the first fit of this call" in found.message
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(1)
    assert watch.seen == 1


def test_silent() -> None:
    """A callback that runs, and one of fastai's that switches itself off in its own handlers."""
    learn = synth_learner(cbs=[Watch(), SaveModelCallback()])
    assert not loopscope.check(learn, select=[RULE]).findings
    assert not loopscope.check(learn, "lr_find", select=[RULE]).findings
