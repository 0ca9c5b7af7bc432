"""What is said of handlers of Keras: callbacks as its users write them, and those that it ships."""

from __future__ import annotations

import inspect
from typing import Any

from tests.frameworks import need

pytestmark = need("keras")

import keras
import pytest

from loopscope.adapters.keras.vocabulary import VOCABULARY
from loopscope.effects import Effects, effects

# mypy: ignore-errors


def read(cls: type, hook: str) -> Effects:
    function = inspect.getattr_static(cls, hook)
    return effects(function, cls, VOCABULARY, passed=tuple(inspect.signature(function).parameters)[1:])


class Mine(keras.callbacks.Callback):
    """What people do in callbacks."""

    def __init__(self, val: Any) -> None:
        super().__init__()
        self.val, self.losses = val, []

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if logs.get("loss") < 0.1:
            self.model.stop_training = True
        self.model.evaluate(*self.val)
        logs["mine"] = 3

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])
        print(f"batch {batch}")  # noqa: T201

    def on_train_begin(self, logs=None):
        self.best = self.model.get_weights()
        self.model.layers[0].trainable = False
        self.model.optimizer.learning_rate = 0.1

    def on_train_end(self, logs=None):
        self.model.set_weights(self.best)


def test_callbacks_as_people_write_them() -> None:
    """The model steers, is trained, and is told as it is written: `model.stop_training`, `model.optimizer`."""
    ended = read(Mine, "on_epoch_end")
    assert ended.summary == (
        "sets model.stop_training = True if logs.get('loss') < 0.1; runs model.evaluate(*self.val); sets logs['mine']"
    )
    assert ended.nested(VOCABULARY.loops) == ("evaluate",)
    assert read(Mine, "on_train_batch_end").summary == "appends logs['loss'] to self.losses; prints a message"
    assert read(Mine, "on_train_begin").summary == (
        "sets model.layers[0].trainable = False, model.optimizer.learning_rate = 0.1; sets self.best"
    )
    assert read(Mine, "on_train_end").summary == "calls model.set_weights(self.best)"


def test_a_function_that_lambda_callback_keeps() -> None:
    """It is called without `self`."""
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.clear())
    done = effects(callback.on_epoch_end, type(callback), VOCABULARY, passed=("epoch", "logs"))
    assert done.summary == "calls logs.clear()"


@pytest.mark.parametrize(
    ("name", "hook", "targets"),
    [
        ("EarlyStopping", "on_epoch_end", {"model.stop_training"}),
        ("EarlyStopping", "on_train_end", {"model.set_weights(self.best_weights)"}),
        ("TerminateOnNaN", "on_batch_end", {"model.stop_training"}),
        ("LearningRateScheduler", "on_epoch_begin", {"model.optimizer.learning_rate"}),
        ("LearningRateScheduler", "on_epoch_end", {"logs['learning_rate']"}),
        ("History", "on_epoch_end", {"model.history", "self.epoch"}),
    ],
)
def test_what_shipped_callbacks_are_for_is_found(name: str, hook: str, targets: set[str]) -> None:
    """Stopping, the learning rate, and what they put into the logs of those who come later."""
    items = read(getattr(keras.callbacks, name), hook).items
    assert targets <= {item.target for item in items if item.kind in ("writes", "calls")}
