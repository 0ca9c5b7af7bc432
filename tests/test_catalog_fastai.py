"""The catalogue has exactly the events of the installed fastai."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import _events
from fastai.callback.tracker import SaveModelCallback
from fastai.learner import Recorder

from loopscope.catalog.fastai import ABSENT, EVENTS


def test_every_event_of_the_installed_fastai_is_there():
    """The events are fastai's own list of them, in its order: one that a new version adds or drops is noticed."""
    assert list(EVENTS) == list(_events)


def test_what_the_advice_names_is_there():
    """The places that stand in for an event that fastai does not have are where the advice says."""
    assert "its 50" in ABSENT["metrics logged"]
    assert Recorder.order == 50
    assert "_save" in ABSENT["checkpoint saved"]
    assert callable(SaveModelCallback._save)
