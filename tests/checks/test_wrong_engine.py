"""wrong-engine: a handler sees the metrics of the engine that it is attached to, and of no other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("ignite")

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, EarlyStopping
from ignite.handlers.checkpoint import CheckpointEvents
from ignite.metrics import Accuracy

import loopscope

RULE = "wrong-engine"
DATA = [torch.tensor([0, 1]), torch.tensor([1, 1])]


def score(engine: Engine) -> float:
    value: float = engine.state.metrics["accuracy"]
    return value


def maybe(engine: Engine) -> float:
    if "accuracy" in engine.state.metrics:
        return score(engine)
    return 0.0


def engines() -> tuple[Engine, Engine]:
    trainer = Engine(lambda engine, batch: (batch, batch))
    evaluator = Engine(lambda engine, batch: (batch, batch))
    Accuracy().attach(evaluator, "accuracy")
    return trainer, evaluator


def test_fires_on_a_score_of_the_other_engine() -> None:
    """EarlyStopping on the trainer that reads the evaluator's metric: ignite really ends with a KeyError."""
    trainer, _ = engines()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, EarlyStopping(3, score, trainer))
    (found,) = loopscope.check(trainer, data=DATA, select=[RULE]).findings
    assert (found.callback, found.severity, found.trust) == ("EarlyStopping#1", "error", "inferred")
    assert 'engine.state.metrics["accuracy"]' in found.message
    with pytest.raises(KeyError):
        trainer.run(DATA)


def test_fires_on_a_checkpoint() -> None:
    """A Checkpoint that scores by a metric which this engine has not; ignite really fails on it."""
    trainer, _ = engines()
    net = torch.nn.Linear(1, 1)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"net": net}, lambda *a: None, score_name="accuracy"))
    (found,) = loopscope.check(trainer, data=DATA, select=[RULE]).findings
    assert (found.callback, found.event) == ("Checkpoint#1", "EPOCH_COMPLETED")
    with pytest.raises(KeyError):
        trainer.run(DATA)


def test_fires_when_there_is_nothing_to_stop() -> None:
    """EarlyStopping at its own engine's COMPLETED comes when that is done: it really stops nothing."""
    trainer, _ = engines()
    trainer.add_event_handler(Events.COMPLETED, EarlyStopping(1, lambda engine: 0.0, trainer))
    (found,) = loopscope.check(trainer, data=DATA, select=[RULE]).findings
    assert (found.severity, found.event) == ("warning", "COMPLETED")
    assert trainer.run(DATA, max_epochs=5).epoch == 5


def test_fires_for_a_checkpoint_elsewhere() -> None:
    """Who waits for SAVED_CHECKPOINT on an engine without a Checkpoint is not called when another engine has one."""
    trainer, evaluator = engines()
    seen: list[int] = []

    def saved() -> None:
        seen.append(1)

    trainer.register_events(*CheckpointEvents)
    trainer.add_event_handler(Checkpoint.SAVED_CHECKPOINT, saved)
    net = torch.nn.Linear(1, 1)
    evaluator.add_event_handler(Events.COMPLETED, Checkpoint({"net": net}, lambda *a: None, score_name="accuracy"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DATA))
    (found,) = loopscope.check(trainer, data=DATA, select=[RULE]).findings
    assert (found.callback, found.event) == ("saved#1", "SAVED_CHECKPOINT")
    trainer.run(DATA)
    assert not seen


def test_silent() -> None:
    """On the evaluator, as the documentation has it; on a trainer that has the metric itself, or looks first."""
    trainer, evaluator = engines()
    evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(3, score, trainer))
    net = torch.nn.Linear(1, 1)
    evaluator.add_event_handler(Events.COMPLETED, Checkpoint({"net": net}, lambda *a: None, score_name="accuracy"))
    assert not loopscope.check(evaluator, data=DATA, select=[RULE]).findings
    trainer.add_event_handler(Events.EPOCH_COMPLETED, EarlyStopping(3, maybe, trainer))
    assert not loopscope.check(trainer, data=DATA, select=[RULE]).findings
    Accuracy().attach(trainer, "accuracy")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, EarlyStopping(3, score, trainer))
    assert not loopscope.check(trainer, data=DATA, select=[RULE]).findings


def test_silent_where_a_handler_brings_the_metrics() -> None:
    """A handler that copies the evaluator's metrics: no name is sure to be missing."""
    trainer, evaluator = engines()

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine: Any) -> None:
        engine.state.metrics.update(evaluator.run(DATA).metrics)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, EarlyStopping(3, score, trainer))
    assert not loopscope.check(trainer, data=DATA, select=[RULE]).findings
    trainer.run(DATA)
