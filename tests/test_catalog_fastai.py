"""The catalogue has exactly the events of the installed fastai."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import _events

from loopscope.catalog.fastai import EVENTS


def test_every_event_of_the_installed_fastai_is_there():
    """The events are fastai's own list of them, in its order: one that a new version adds or drops is noticed."""
    assert list(EVENTS) == list(_events)
