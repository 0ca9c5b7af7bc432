"""What rules are told of a Keras run: its callbacks by the ids of the loop, their settings, and the names in `logs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("keras")

import keras
from keras.callbacks import Callback

import loopscope
from loopscope.adapters import keras as adapter
from loopscope.adapters.keras.examining import passed
from loopscope.callbacks import Examined
from tests.adapters.cases.keras import X, Y, model


def examined(net: keras.Model, run: str = "fit", **arguments: Any) -> Examined:
    return adapter.examined(net, run, {"x": X, **({} if run == "predict" else {"y": Y}), **arguments})


class Keeps(Callback):  # type: ignore[misc]
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.kept = dict(logs)


class Adds(Callback):  # type: ignore[misc]
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["mine"] = 1.0


def test_the_ids_are_those_of_the_loop() -> None:
    """Every handler's id is that of an examined callback, the defaults included; one that stands twice says so."""
    twice = Keeps()
    callbacks = [keras.callbacks.EarlyStopping("loss"), twice, twice]
    loop = loopscope.inspect(model(), "fit", x=X, y=Y, callbacks=callbacks).loop
    found = examined(model(), callbacks=callbacks)
    assert [one.id for one in found.callbacks] == [
        "EarlyStopping#1",
        "Keeps#2",
        "Keeps#2",
        "History#4",
        "ProgbarLogger#5",
    ]
    assert [one.same_as for one in found.callbacks] == ["", "", "Keeps#2", "", ""]
    handlers = {handler.id for at in loop.binding.handlers.values() for handler in at}
    assert handlers <= {one.id for one in found.callbacks}


def test_settings() -> None:
    """What the callbacks, the optimizer and the call are set to is told by Keras's own names."""
    optimizer = keras.optimizers.SGD(clipnorm=1.0, gradient_accumulation_steps=2)
    net = model(optimizer=optimizer, metrics=["mae"])
    found = examined(net, callbacks=[keras.callbacks.EarlyStopping("val_mae", patience=3)], epochs=2)
    stopping = found.callbacks[0].settings
    assert (stopping["monitor"], stopping["patience"]) == ("val_mae", 3)
    expected = {"clipnorm": 1.0, "gradient_accumulation_steps": 2, "loss_scaled": False, "epochs": 2}
    assert {name: found.settings[name] for name in expected} == expected
    assert (found.settings["metrics"], found.settings["validation_data"]) == (("mae",), False)


def test_a_scaled_loss_shows_both_optimizers() -> None:
    """Under mixed_float16 the optimizer is wrapped: the one inside is the one that clips."""
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(clipvalue=0.5))
    settings = examined(model(optimizer=scaled)).settings
    assert (settings["optimizer"], settings["loss_scaled"], settings["inner_clipvalue"]) == (
        "LossScaleOptimizer",
        True,
        0.5,
    )


class Steps(keras.Sequential):  # type: ignore[misc]
    def train_step(self, data: Any) -> Any:
        return {"own": super().train_step(data)["loss"]}


@pytest.mark.parametrize("metrics", [None, ["mae"], ["accuracy", keras.metrics.MeanSquaredError(name="mse")]])
@pytest.mark.parametrize("valid", [False, True])
def test_figures_are_the_names_in_logs(metrics: Any, valid: bool) -> None:
    """What is told beforehand is exactly what the last on_epoch_end is given."""
    arguments: dict[str, Any] = {"validation_data": (X, Y)} if valid else {}
    net, keeps = model(metrics=metrics), Keeps()
    given = {**arguments, "callbacks": [keras.callbacks.ReduceLROnPlateau("loss"), keeps], "verbose": 0}
    found = examined(net, **given)
    net.fit(X, Y, **given)
    assert found.figures is not None
    assert set(keeps.kept) == set(found.figures)


def test_figures_are_left_open_where_others_have_a_say() -> None:
    """A callback that writes to logs, a train_step of one's own, a metric of a layer: nothing is told."""
    assert examined(model(), callbacks=[Adds()]).figures is None
    net = Steps([keras.Input((3,)), keras.layers.Dense(1)])
    net.compile("sgd", "mse")
    assert examined(net).figures is None
    inputs = keras.Input((3,))
    two = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])
    two.compile("sgd", ["mse", "mse"], metrics=[["mae"], ["mae"]])
    assert examined(two, y=[Y, Y]).figures is None
    assert examined(model(), "predict").figures is None


def test_passed_is_what_keras_passes() -> None:
    """At every event a handler is given so many things by place, and the logs by that name where it says so."""
    seen: dict[str, tuple[int, tuple[str, ...]]] = {}

    def spying(name: str) -> Any:
        def spy(self: Any, *given: Any, **named: Any) -> None:
            seen[name] = len(given), tuple(named)

        return spy

    cls = type("Spy", (Callback,), {name: spying(name) for name in adapter.examining.HOOKS})
    forwards = type("Forwards", (Callback,), {name: spying(name) for name in ("on_batch_begin", "on_batch_end")})
    net = model()
    net.fit(X, Y, validation_data=(X, Y), callbacks=[cls(), forwards()], verbose=0)
    net.predict(X, callbacks=[cls()], verbose=0)
    assert set(seen) == set(adapter.examining.HOOKS)
    for name, (count, words) in seen.items():
        told = passed(name)
        assert told is not None
        assert (told.count, told.words) == (count, words), name
    assert passed("on_batch") is None


def test_nothing_is_touched(tmp_path: Path) -> None:
    """Examining tells no callback its model, and writes nothing."""
    saves = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss", save_best_only=True)
    before = dict(vars(saves))
    found = examined(model(), callbacks=[saves])
    assert vars(saves) == before
    assert found.callbacks[0].settings["save_best_only"] is True
    assert not list(tmp_path.iterdir())
