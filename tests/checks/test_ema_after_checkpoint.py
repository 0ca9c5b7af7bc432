"""ema-after-checkpoint: what is saved before the averaged weights are in the model are the raw ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.frameworks import need_torch

need_torch()

import torch

import loopscope
from tests.checks.trainings import findings, quiet

RULE = "ema-after-checkpoint"


# -- Keras -----------------------------------------------------------------------------------------------------


def keras_trained(*callbacks: Any) -> tuple[Any, dict[str, Any]]:
    """Return a model with an optimizer that averages, and what fit is given."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
    x, y = torch.ones(8, 2), torch.ones(8, 1)
    more = {"batch_size": 2, "epochs": 2, "verbose": 0, "validation_data": (x, y)}
    return model, {"x": x, "y": y, "callbacks": list(callbacks), **more}


def keras_saved(path: Path, *callbacks: Any) -> str:
    """Train, and return which weights are in the checkpoint: "raw" or "averaged"."""
    import keras

    held: dict[str, Any] = {}

    class Peek(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            average = self.model.optimizer._model_variables_moving_average
            held["raw"] = np.array(self.model.get_weights()[0])
            held["averaged"] = np.array(keras.ops.convert_to_numpy(average[0]))

    model, given = keras_trained(Peek(), *callbacks)
    model.fit(**given)
    saved = keras.saving.load_model(path).get_weights()[0]
    (which,) = (name for name, weights in held.items() if np.allclose(saved, weights))
    return which


@pytest.mark.framework("keras")
def test_fires_keras(tmp_path: Path) -> None:
    """Where ModelCheckpoint comes before SwapEMAWeights, it saves what training left."""
    from keras.callbacks import ModelCheckpoint, SwapEMAWeights

    path = tmp_path / "model.keras"
    model, given = keras_trained(ModelCheckpoint(path), SwapEMAWeights(swap_on_epoch=True))
    (found,) = findings(RULE, model, **given)
    assert (found.callback.partition("#")[0], found.event) == ("SwapEMAWeights", "on_epoch_end")
    assert (found.severity, found.trust) == ("warning", "declared")
    assert keras_saved(path, ModelCheckpoint(path), SwapEMAWeights(swap_on_epoch=True)) == "raw"


@pytest.mark.framework("keras")
def test_fires_keras_on_a_callback_of_ones_own(tmp_path: Path) -> None:
    """So it is for one's own that puts them in with set_weights, and nobody does so elsewhere."""
    from keras.callbacks import Callback, ModelCheckpoint

    class Averaged(Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            self.shadow = self.model.get_weights()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.set_weights(self.shadow)

    class Back(Averaged):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.model.set_weights(self.shadow)

        def on_test_begin(self, logs: Any = None) -> None:
            self.model.set_weights(self.shadow)

    path = tmp_path / "model.keras"
    model, given = keras_trained(ModelCheckpoint(path), Averaged())
    (found,) = findings(RULE, model, **given)
    assert (found.callback.partition("#")[0], found.trust) == ("Averaged", "inferred")
    for callbacks in ([Averaged(), ModelCheckpoint(path)], [ModelCheckpoint(path), Back()]):
        model, given = keras_trained(*callbacks)
        assert not findings(RULE, model, **given)


@pytest.mark.framework("keras")
def test_silent_keras(tmp_path: Path) -> None:
    """Behind it they are averaged; what swaps for the evaluation only, or saves every few batches, has no order."""
    from keras.callbacks import ModelCheckpoint, SwapEMAWeights

    path = tmp_path / "model.keras"
    assert keras_saved(path, SwapEMAWeights(swap_on_epoch=True), ModelCheckpoint(path)) == "averaged"
    for callbacks in (
        [SwapEMAWeights(swap_on_epoch=True), ModelCheckpoint(path)],
        [ModelCheckpoint(path), SwapEMAWeights()],
        [ModelCheckpoint(path, save_freq=3), SwapEMAWeights(swap_on_epoch=True)],
    ):
        model, given = keras_trained(*callbacks)
        assert not findings(RULE, model, **given)


# -- fastai ----------------------------------------------------------------------------------------------------


def averaging(place: int) -> Any:
    """Return a callback of an order that trains on, and has zeros for averaged weights."""
    from fastai.callback.core import Callback

    class Averaged(Callback):
        order = place

        def before_fit(self) -> None:
            self.shadow = {name: torch.zeros_like(value) for name, value in self.model.state_dict().items()}

        def after_epoch(self) -> None:
            self.model.load_state_dict(self.shadow)

    return Averaged()


def fastai_learner(folder: Path, *callbacks: Any) -> Any:
    from fastai.callback.tracker import SaveModelCallback
    from fastai.test_utils import synth_learner

    return synth_learner(path=folder, cbs=[SaveModelCallback(every_epoch=True), *callbacks])


@pytest.mark.framework("fastai")
@pytest.mark.parametrize(("order", "fires"), [(70, True), (0, False)])
def test_fires_fastai_behind_the_checkpoint(tmp_path: Path, order: int, fires: bool) -> None:
    """SaveModelCallback has order 61: what is put in later is not in its file, what is put in earlier is."""
    learn = fastai_learner(tmp_path, averaging(order))
    with quiet():
        found = loopscope.check(learn, n_epoch=1, select=[RULE]).findings
    assert [(one.callback.partition("#")[0], one.trust) for one in found] == [("Averaged", "inferred")] * fires
    with quiet(), learn.no_bar(), learn.no_logging():
        learn.fit(1)
    saved = torch.load(next(tmp_path.rglob("model_0.pth")))
    assert any(bool(value.any()) for value in saved.values()) == fires


@pytest.mark.framework("fastai")
def test_silent_fastai(tmp_path: Path) -> None:
    """What was put in for the validation is taken out there: that is no fault. Nor is a condition one."""
    from fastai.callback.core import Callback

    class Swap(Callback):
        order = 70
        shadow: Any = None
        raw: Any = None

        def before_validate(self) -> None:
            self.model.load_state_dict(self.shadow)

        def after_epoch(self) -> None:
            self.model.load_state_dict(self.raw)

    class Sometimes(Callback):
        order = 70
        shadow: Any = None

        def after_epoch(self) -> None:
            if self.shadow:
                self.model.load_state_dict(self.shadow)

    for callback in (Swap(), Sometimes()):
        assert not findings(RULE, fastai_learner(tmp_path, callback), n_epoch=1)
