"""The catalogue has exactly the events of the installed Keras."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("keras")

from keras.callbacks import Callback, CallbackList

from loopscope.catalog.keras import EVENTS

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
