"""What Keras calls its parts, for the reader of handlers: how a callback reaches the model, and what is whose."""

from __future__ import annotations

from types import MappingProxyType

import keras

from loopscope.effects import Vocabulary

NESTING = ("fit", "evaluate", "predict")
"""Methods of the model that call callbacks: a handler that calls one runs a loop inside the loop."""

STOPS = MappingProxyType({"fit": "stop_training", "evaluate": "stop_evaluating", "predict": "stop_predicting"})
"""Run -> the attribute of the model with which a handler ends it."""

VOCABULARY = Vocabulary(
    learner=frozenset({"model", "_model"}),
    roots=MappingProxyType(
        {
            "optimizer": "optimizer",
            "loss": "loss",
            "layers": "model",
            "weights": "model",
            "variables": "model",
            "trainable_weights": "model",
            "trainable_variables": "model",
        }
    ),
    loops=frozenset(NESTING),
    pure=frozenset({"get_weights", "convert_to_numpy"}),
    parameters=MappingProxyType({"logs": "data"}),
    word="model",
    steers=frozenset({*STOPS.values(), "_initial_epoch"}),
    kinds=(("learner", keras.Model),),
)
"""How a Keras callback reaches the model (`self.model`), which is also what runs the loop."""

WAITING = MappingProxyType(
    {
        "convert_to_numpy": "copies to the CPU",
        "get_weights": "copies every weight to the CPU",
        "save": "copies every weight to the CPU",
        "save_weights": "copies every weight to the CPU",
    }
)
"""Functions of Keras that make the host wait for the device -> how."""
