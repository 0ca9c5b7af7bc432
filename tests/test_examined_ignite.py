"""What rules read of an ignite run: who is attached, what each is called with, how it is set, which metrics exist."""

from __future__ import annotations

from typing import Any

from tests.frameworks import need

pytestmark = need("ignite")

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, EarlyStopping
from ignite.metrics import Accuracy

import loopscope
from loopscope.adapters import ignite as adapter
from loopscope.callbacks import Examined


def step(engine: Engine, batch: Any) -> Any:
    return batch, batch


def examined(engine: Engine, cbs: Any = None) -> Examined:
    return adapter.examined(engine, "run", {"data": [1, 2]}, cbs)


def hello(engine: Engine, greeting: str) -> None: ...


class Counts:
    limit = 3

    def __call__(self, engine: Engine) -> None: ...

    def done(self) -> None: ...


def test_everybody_is_there() -> None:
    """Each object once, under the id of its handlers: functions, owners of bound methods, metrics."""
    engine = Engine(step)
    counts = Counts()
    engine.add_event_handler(Events.STARTED, hello, "hi")
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), counts)
    engine.add_event_handler(Events.COMPLETED, counts.done)
    Accuracy().attach(engine, "accuracy")
    found = examined(engine, (Events.COMPLETED, lambda: None))
    assert {one.id for one in found.callbacks} == {"hello#1", "Counts#2", "Accuracy#3", "lambda#4"}
    binding = loopscope.inspect(engine, data=[1], cbs=(Events.COMPLETED, lambda: None)).loop.binding
    assert {one.id for listed in binding.handlers.values() for one in listed} == {one.id for one in found.callbacks}
    by_id = {one.id: one for one in found.callbacks}
    assert [one.name for one in by_id["hello#1"].methods] == ["hello"]
    assert [one.name for one in by_id["Counts#2"].methods] == ["__call__", "done"]
    assert by_id["Counts#2"].settings["events"] == ("EPOCH_COMPLETED", "COMPLETED")
    assert "limit" in by_id["Counts#2"].attributes
    assert (by_id["Accuracy#3"].shipped, by_id["Counts#2"].shipped, by_id["lambda#4"].mine) == (True, False, True)
    assert not any(method.misfit for one in found.callbacks for method in one.methods)


def test_what_is_passed_is_what_ignite_passes() -> None:
    """A handler of TERMINATE_SINGLE_EPOCH is handed iter_counter by that name; one that cannot take it is a misfit."""
    engine = Engine(step)

    @engine.on(Events.TERMINATE_SINGLE_EPOCH)
    def left(engine: Engine, iter_count: int) -> None: ...

    @engine.on(Events.TERMINATE_SINGLE_EPOCH)
    def ended(engine: Engine, iter_counter: int) -> None: ...

    @engine.on(Events.EXCEPTION_RAISED)
    def failed(engine: Engine, error: Exception) -> None:
        raise error

    engine.add_event_handler(Events.ITERATION_COMPLETED, Engine.terminate_epoch)
    by_id = {one.id: one for one in examined(engine).callbacks}
    assert by_id["left#1"].methods[0].misfit
    assert not by_id["ended#2"].methods[0].misfit
    assert not by_id["failed#3"].methods[0].misfit
    raised = ""
    try:
        engine.run([1, 2], max_epochs=1)
    except TypeError as error:
        raised = str(error)
    assert "iter_counter" in raised


def test_settings_and_figures() -> None:
    """Metrics by the names of `attach`, what a handler's score reads of them, and which engine it stops."""
    trainer, evaluator = Engine(step), Engine(step)
    Accuracy().attach(evaluator, "accuracy")

    def score(engine: Engine) -> float:
        value: float = -engine.state.metrics["loss"]
        return value

    stopping = EarlyStopping(3, score, trainer)
    evaluator.add_event_handler(Events.COMPLETED, stopping)
    saving = Checkpoint({"net": torch.nn.Linear(1, 1)}, lambda *given: None, score_name="accuracy")
    evaluator.add_event_handler(Events.COMPLETED, saving)
    found = examined(evaluator)
    assert found.figures == ("accuracy",)
    settings = {one.cls: one.settings for one in found.callbacks}
    assert settings["EarlyStopping"]["reads_metrics"] == ("loss",)
    assert settings["EarlyStopping"]["stops"] == "another engine"
    assert settings["EarlyStopping"]["patience"] == 3
    assert settings["Checkpoint"]["reads_metrics"] == ("accuracy",)
    trainer.add_event_handler(Events.COMPLETED, stopping)
    assert examined(trainer).callbacks[0].settings["stops"] == "this engine"
    assert found.settings["epoch_length"] == 2
    assert {"STARTED", "EPOCH_COMPLETED"} <= set(found.events)


def test_figures_that_somebody_writes() -> None:
    """A handler, or the process function, that writes metrics of its own: no name is sure to be missing."""
    engine = Engine(step)

    @engine.on(Events.EPOCH_COMPLETED)
    def mine(engine: Engine) -> None:
        engine.state.metrics["mine"] = 1.0

    assert examined(engine).figures is None

    def steps(engine: Engine, batch: Any) -> None:
        engine.state.metrics["loss"] = 1.0

    assert examined(Engine(steps)).figures is None
    assert examined(Engine(step)).figures == ()
