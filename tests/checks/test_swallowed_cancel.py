"""swallowed-cancel: fastai's cancels are ordinary exceptions, and a broad except ends them."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback, CancelFitException
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.test_utils import synth_learner

import loopscope

RULE = "swallowed-cancel"
SEEN: list[object] = []


class Stop(Callback):
    """Ends the run after the first epoch, or so its author thought."""

    def after_epoch(self) -> None:
        try:
            raise CancelFitException
        except Exception:
            SEEN.append("no score yet")


def test_fires() -> None:
    """A cancel that a broad except catches ends nothing: fit runs all its epochs."""
    learn = synth_learner(cbs=Stop())
    (found,) = loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.method) == ("Stop", "after_epoch", "after_epoch")
    assert "raises CancelFitException inside a try whose except Exception catches it" in found.message
    learn.fit(2)
    assert len(learn.recorder.values) == 2


def test_fires_for_a_helper_and_for_super() -> None:
    """So it is with a cancel that a method of the callback raises, and with the one of early stopping."""

    class Asks(Callback):
        def after_epoch(self) -> None:
            try:  # noqa: SIM105
                self.stop()
            except:  # noqa: E722
                pass

        def stop(self) -> None:
            raise CancelFitException

    class Early(EarlyStoppingCallback):
        def after_epoch(self) -> None:
            try:  # noqa: SIM105
                super().after_epoch()
            except Exception:
                pass

    learn = synth_learner(cbs=[Asks(), Early(patience=0)])
    found = loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    assert [one.evidence[0] for one in found] == [
        "self.stop() raises CancelFitException",
        "EarlyStoppingCallback.after_epoch raises CancelFitException",
    ]
    learn.fit(2)
    assert len(learn.recorder.values) == 2


def test_silent() -> None:
    """A cancel behind the try, one that is let through or raised again, and one that is caught by its name."""

    class Lets(Callback):
        def after_epoch(self) -> None:
            try:
                raise CancelFitException
            except CancelFitException:
                raise
            except Exception:
                pass

        def after_train(self) -> None:
            try:
                SEEN.append(self.epoch)
            except Exception:
                return
            if self.epoch > 5:
                raise CancelFitException

        def after_batch(self) -> None:
            try:
                raise CancelFitException
            except BaseException:
                SEEN.append("ending")
                raise

    learn = synth_learner(cbs=Lets())
    assert not loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    learn.fit(2)
    assert learn.recorder.values == []
