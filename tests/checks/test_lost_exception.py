"""lost-exception: StopIteration is dropped, and an error without arguments becomes an IndexError."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.test_utils import synth_learner

import loopscope

RULE = "lost-exception"

GUARDED = """
from fastai.callback.core import Callback

class Guard(Callback):
    def before_fit(self):
        assert self.n_epoch == 2
"""


def test_fires_without_arguments() -> None:
    """An error without arguments ends the run as IndexError."""

    class Guard(Callback):
        def after_batch(self) -> None:
            if self.loss is not None:
                raise ValueError

    learn = synth_learner(cbs=Guard())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity) == ("Guard", "after_batch", "warning")
    assert found.message == (
        "raise ValueError in Guard.after_batch is lost: the run ends with IndexError: tuple index out of range in its "
        "place"
    )
    with pytest.raises(IndexError, match="tuple index out of range"):
        learn.fit(1)


def test_fires_for_an_assert(tmp_path: Path) -> None:
    """An assert without words is a note: most hold. (In a module of its own: pytest gives words to those of tests.)"""
    file = tmp_path / "guarded.py"
    file.write_text(GUARDED)
    learn = synth_learner(cbs=runpy.run_path(str(file))["Guard"]())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert found.severity == "note"
    assert found.message.startswith("assert self.n_epoch == 2 in Guard.before_fit is lost: where it does not hold, ")
    with pytest.raises(IndexError):
        learn.fit(1)


def test_fires_for_stop_iteration() -> None:
    """StopIteration with an argument ends nothing: the callbacks behind it are skipped, and fit runs to its end."""

    class Stop(Callback):
        def after_batch(self) -> None:
            raise StopIteration("enough")

    learn = synth_learner(cbs=Stop())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.severity, found.event) == ("error", "after_batch")
    assert "fastai skips the other callbacks of that event and goes on" in found.message
    learn.fit(1)
    assert learn.recorder.losses == []


def test_silent() -> None:
    """With words nothing is lost, and what is caught on the spot never gets to fastai."""

    class Guard(Callback):
        def after_batch(self) -> None:
            assert self.loss is not None, "no loss"
            try:
                raise KeyError
            except LookupError:
                pass
            except KeyError:
                pass

        def after_epoch(self) -> None:
            if self.epoch > 5:
                raise KeyboardInterrupt
            if self.epoch > 6:
                raise ValueError("too long")

    learn = synth_learner(cbs=Guard())
    assert not loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    learn.fit(1)
