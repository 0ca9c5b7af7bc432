"""The catalogue has exactly the events of the installed transformers."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("transformers")

from transformers.trainer_callback import CallbackHandler, TrainerCallback

from loopscope.catalog.transformers import EVENTS


def hooks(cls: type) -> list[str]:
    return sorted(name for name in vars(cls) if name.startswith("on_"))


def test_every_event_of_the_installed_transformers_is_there():
    """The events are the methods of TrainerCallback: one that a new version adds or drops is noticed."""
    assert sorted(EVENTS) == hooks(TrainerCallback)
    assert sorted(EVENTS) == hooks(CallbackHandler)  # which is what the Trainer calls
