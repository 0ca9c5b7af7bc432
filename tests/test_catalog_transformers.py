"""The catalogue has exactly the events of the installed transformers."""

from __future__ import annotations

import re

from tests.frameworks import need

pytestmark = need("transformers")

from transformers import Trainer
from transformers.trainer_callback import CallbackHandler, TrainerCallback

from loopscope.catalog.transformers import ABSENT, EVENTS


def hooks(cls: type) -> list[str]:
    return sorted(name for name in vars(cls) if name.startswith("on_"))


def test_every_event_of_the_installed_transformers_is_there():
    """The events are the methods of TrainerCallback: one that a new version adds or drops is noticed."""
    assert sorted(EVENTS) == hooks(TrainerCallback)
    assert sorted(EVENTS) == hooks(CallbackHandler)  # which is what the Trainer calls


def test_what_the_advice_names_is_there():
    """Each method of the Trainer that is to be overridden where nobody is called exists."""
    names = set(re.findall(r"Trainer\.(\w+)", " ".join(ABSENT.values())))
    assert names >= {"compute_loss", "evaluation_loop", "prediction_step"}
    assert [name for name in names if not hasattr(Trainer, name)] == []
