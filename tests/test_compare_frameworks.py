"""`diff` on Lightning, Transformers, Keras and Ignite: a callback more, another order, more epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import loopscope


def told(a: object, b: object) -> set[tuple[str, str, str]]:
    return {(one.kind, one.what, one.name) for one in loopscope.diff(a, b).changes}


@pytest.mark.framework("lightning")
def test_lightning(tmp_path: Path) -> None:
    """Two trainers made alike do not differ; one with a callback more and another number of epochs does, in these."""
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    from tests.adapters.cases.lightning_models import Valid, loader, trainer_in

    def loop(*callbacks: Any, epochs: int = 1) -> loopscope.api.LoopMap:
        trainer = trainer_in(tmp_path, *callbacks, max_epochs=epochs)
        loaders = {"train_dataloaders": loader(2), "val_dataloaders": loader(1)}
        return loopscope.inspect(trainer, "fit", model=Valid(), **loaders)

    scheduler = GradientAccumulationScheduler({0: 1})
    assert told(loop(), loop()) == set()
    assert told(loop(), loop(scheduler, epochs=2)) == {
        ("changed", "scope", "epoch"),
        ("added", "handler", "GradientAccumulationScheduler.on_train_start"),
        ("added", "handler", "GradientAccumulationScheduler.on_train_epoch_start"),
    }


@pytest.mark.framework("transformers")
def test_transformers(tmp_path: Path) -> None:
    """Callbacks show themselves with their address, which is no difference; one that was added is."""
    from transformers.trainer_callback import EarlyStoppingCallback

    from tests.adapters.cases.transformers import trainer

    a, b, more = (trainer(tmp_path) for _ in range(3))
    more.add_callback(EarlyStoppingCallback())
    assert told(a, b) == set()
    assert told(a, more) == {("added", "handler", "EarlyStoppingCallback.on_train_begin")}


@pytest.mark.framework("keras")
def test_keras() -> None:
    """Keras calls callbacks as they were given: the other way round they have moved, past each other."""
    from keras.callbacks import CSVLogger, EarlyStopping

    from tests.adapters.cases.keras import X, Y, model

    def loop(*callbacks: Any, epochs: int = 1) -> loopscope.api.LoopMap:
        return loopscope.inspect(model(), "fit", x=X, y=Y, batch_size=4, callbacks=list(callbacks), epochs=epochs)

    log, stop = CSVLogger("log.csv"), EarlyStopping()
    assert told(loop(log, stop), loop(log, stop)) == set()
    found = [one for one in loopscope.diff(loop(log, stop), loop(stop, log)).changes if one.event == "on_epoch_end"]
    (moved,) = found
    assert (moved.kind, moved.callback) in [("moved", "CSVLogger"), ("moved", "EarlyStopping")]
    assert moved.now_before + moved.now_after == tuple({"CSVLogger", "EarlyStopping"} - {moved.callback})
    assert ("changed", "scope", "epoch") in told(loop(log), loop(log, epochs=2))


@pytest.mark.framework("ignite")
def test_ignite() -> None:
    """A handler that was attached to another event was removed here and added there."""
    from ignite.engine import Engine, Events

    def log(engine: Engine) -> None: ...

    def loop(event: Any) -> loopscope.api.LoopMap:
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(event, log)
        return loopscope.inspect(engine, data=[1, 2, 3])

    assert told(loop(Events.STARTED), loop(Events.STARTED)) == set()
    found = loopscope.diff(loop(Events.STARTED), loop(Events.COMPLETED)).changes
    assert [(one.kind, one.what, one.event) for one in found] == [
        ("removed", "handler", "STARTED"),
        ("added", "handler", "COMPLETED"),
    ]
