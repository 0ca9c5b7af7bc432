"""nested-validate: a run inside the run waits for itself, or changes the run around it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.test_utils import synth_learner

import loopscope

RULE = "nested-validate"
SEEN: list[object] = []


class Check(Callback):
    """Validates once more after each epoch."""

    def after_epoch(self) -> None:
        SEEN.append(self.learn.validate())


def test_fires() -> None:
    """A validation in after_epoch is called again inside itself, and waits for ever."""
    (found,) = loopscope.check(synth_learner(cbs=Check()), n_epoch=1, select=[RULE]).findings
    assert (found.callback.partition("#")[0], found.event, found.severity) == ("Check", "after_epoch", "error")
    assert found.message == (
        "Check.after_epoch calls learn.validate(), a whole run inside the run: it is called again inside, and waits "
        "for ever"
    )


def test_it_waits() -> None:
    """fastai really gets no further: the second validation asks for a lock that the first one holds."""
    program = """
        from fastai.callback.core import Callback
        from fastai.test_utils import synth_learner

        class Check(Callback):
            def after_epoch(self):
                if self.learn.lock.locked():
                    print("locked", flush=True)
                    raise SystemExit(self.learn.lock.acquire(timeout=1))
                self.learn.validate()

        synth_learner(cbs=Check()).fit(1)
        """
    made = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "locked" in made.stdout
    assert made.returncode == 0  # SystemExit(False): nobody gave the lock back


def test_fires_before_train() -> None:
    """A validation in before_train makes validation of the training: nothing is trained."""

    class Look(Callback):
        def before_train(self) -> None:
            self.learn._do_epoch_validate()

    learn = synth_learner(cbs=Look())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.severity, found.event) == ("error", "before_train")
    assert "the rest of the epoch trains nothing" in found.message
    learn.fit(1)
    assert learn.recorder.losses == []


def test_fires_around() -> None:
    """A validation in after_train sets the run's counters back."""

    class Look(Callback):
        def after_train(self) -> None:
            self.learn.validate()

    learn = synth_learner(cbs=Look())
    (found,) = loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    assert (found.severity, found.event) == ("warning", "after_train")
    assert "sets learn.epoch and learn.train_iter to 0" in found.message
    learn.fit(2)
    assert (learn.train_iter, learn.recorder.losses) == (0, [])


def test_fires_for_a_fit() -> None:
    """A fit inside of fit calls itself until Python's stack is full."""

    class Again(Callback):
        def after_epoch(self) -> None:
            self.learn.fit(1)

    learn = synth_learner(cbs=Again())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert (found.severity, found.event) == ("error", "after_epoch")
    with pytest.raises(RecursionError):
        learn.fit(1)


def test_a_condition_is_named() -> None:
    """What only happens under a condition is a warning: the condition may keep it from calling itself."""

    class Once(Callback):
        done = False

        def after_epoch(self) -> None:
            if not self.done:
                self.done = True
                self.learn.validate()

    learn = synth_learner(cbs=Once())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert found.severity == "warning"
    assert found.evidence == ("Once.after_epoch calls learn.validate() under a condition",)
    assert found.message.endswith("and never comes to an end unless its condition keeps it from calling itself")
    learn.fit(1)
    assert learn.recorder.losses == []


def test_fires_without_itself() -> None:
    """Who takes itself out of the loop comes back from it, to a run whose figures are gone."""

    class Alone(Callback):
        def after_epoch(self) -> None:
            learn = self.learn
            with learn.removed_cbs(self):
                learn.validate()

    learn = synth_learner(cbs=Alone())
    (found,) = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert found.severity == "warning"
    assert found.message.endswith("it sets learn.epoch and learn.train_iter to 0 and empties Recorder's lists")
    learn.fit(1)
    assert learn.recorder.losses == []


def test_silent() -> None:
    """Predictions by the inner way change nothing that the run needs, and reading the figures is no run."""

    class Look(Callback):
        order = 70

        def after_epoch(self) -> None:
            self.learn.get_preds(inner=True)
            SEEN.append(self.learn.recorder.values[-1])

    learn = synth_learner(cbs=Look())
    assert not loopscope.check(learn, n_epoch=2, select=[RULE]).findings
    learn.fit(2)
    assert len(learn.recorder.losses) == 20
