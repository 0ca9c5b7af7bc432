"""The catalogue has exactly the events of the installed Keras."""

from __future__ import annotations

import re

from tests.frameworks import need

pytestmark = need("keras")

import keras
import numpy as np
from keras.callbacks import Callback, CallbackList

from loopscope.catalog.keras import ABSENT, EVENTS

ALIASES = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}
"""Older names, which a callback may use for a batch of training -> the events that they belong to."""


def hooks(cls: type) -> set[str]:
    return {name for name in vars(cls) if name.startswith("on_")}


def test_every_event_of_the_installed_keras_is_there():
    """The events are the methods of Callback but for two older names: a new one, or one that is gone, is noticed."""
    assert set(EVENTS) == hooks(Callback) - set(ALIASES)
    assert hooks(CallbackList) >= set(EVENTS)  # which is what the model calls


def test_the_older_names_are_no_events_of_their_own():
    """A callback that has `on_batch_begin` or `on_batch_end` is called at the events of a training batch."""
    for alias, event in ALIASES.items():
        seen: list[int] = []
        callback = type("Old", (Callback,), {alias: lambda self, batch, logs=None, seen=seen: seen.append(batch)})()
        getattr(CallbackList([callback]), event)(7)
        assert seen == [7]


def test_what_the_advice_names_is_there():
    """Each method of the model and the optimizer that is to be used where nobody is called exists."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(gradient_accumulation_steps=2, clipnorm=1.0), loss="mse")
    text = " ".join(ABSENT.values())
    names = set(re.findall(r"[Mm]odel\.(\w+)", text))
    assert names >= {"train_step", "compute_loss", "fit", "optimizer"}
    assert [name for name in names if not hasattr(model, name)] == []


def test_iterations_count_the_steps_of_the_optimizer():
    """The advice for accumulated gradients: `optimizer.iterations` stands still where they only add up."""
    seen: list[int] = []
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(gradient_accumulation_steps=2), loss="mse")

    class Counts(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(int(self.model.optimizer.iterations))

    model.fit(np.ones((8, 1)), np.ones((8, 1)), batch_size=2, verbose=0, callbacks=[Counts()])
    assert "model.optimizer.iterations" in ABSENT["accumulated"]
    assert seen == [0, 1, 1, 2]
