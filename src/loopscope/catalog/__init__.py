"""The same moment in every framework, and every event in a sentence: plain data, no framework is imported for it.

One file per framework: `EVENTS` says of each event what it is for, `MOMENTS` which events are at which of the moments
below, in the order in which they fire there. A moment at which a framework calls nobody is in `ABSENT`, with what to
do there instead. The tests hold all of it against the loop that the adapter reads from the installed framework.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loopscope.errors import UnknownChoice

FRAMEWORKS = ("fastai", "lightning", "transformers", "keras", "ignite")

MOMENTS: Mapping[str, str] = MappingProxyType(
    {
        "run begins": "Training has been asked for, and the first epoch has not begun.",
        "epoch begins": "A pass over the training data is about to start.",
        "batch drawn": "The training batch is there, and the model has not seen it.",
        "after the forward": "The model has answered, and there is no loss yet.",
        "after the loss": "The loss is known, and backward has not begun.",
        "after backward": "The gradients are there, and the optimizer has not used them.",
        "after the optimizer step": "The parameters have changed, and the gradients are still there.",
        "batch ends": "All that belongs to one training batch is done.",
        "accumulated": "The batch is done, and its gradients only add up for a later optimizer step.",
        "epoch's training ends": "The last training batch of an epoch is done.",
        "validation begins": "A pass over the validation data is about to start.",
        "validation batch begins": "A validation batch is about to be given to the model.",
        "validation batch ends": "All that belongs to one validation batch is done.",
        "validation ends": "The pass over the validation data is over, and its metrics are known.",
        "epoch ends": "The epoch is over, its validation included where it has one.",
        "metrics logged": "Figures are handed to the loggers.",
        "checkpoint saved": "The state of the run is being written, or just was.",
        "run ends": "The run came to its end.",
        "run raised": "An exception is about to leave the run.",
        "prediction begins": "A pass over data without a loss is about to start.",
        "prediction ends": "That pass is over.",
    }
)
"""Moment -> what is so at that moment, and not yet."""


@dataclass(frozen=True, slots=True)
class Framework:
    """What a framework calls its moments: `framework("keras").moments["epoch ends"]` -> `("on_epoch_end",)`."""

    name: str
    events: Mapping[str, str]
    moments: Mapping[str, tuple[str, ...]]
    absent: Mapping[str, str]


def framework(name: str) -> Framework:
    """Return the catalogue of one framework; raises `UnknownChoice` for a name that is not in `FRAMEWORKS`."""
    if name not in FRAMEWORKS:
        raise UnknownChoice.of("framework", name, FRAMEWORKS)
    module = importlib.import_module(f"loopscope.catalog.{name}")
    return Framework(name, module.EVENTS, module.MOMENTS, module.ABSENT)


def described(events: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return name -> description for each of `names`; one that a newer framework has added says so.

    >>> described({"on_save": "The state is on the disk."}, ["on_save", "on_push_begin"])["on_push_begin"]
    'on push begin: loopscope has no description of it yet.'
    """
    return {
        name: events.get(name, f"{name.replace('_', ' ')}: loopscope has no description of it yet.") for name in names
    }
