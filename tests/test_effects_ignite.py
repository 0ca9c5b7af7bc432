"""What is said of handlers of ignite: functions as its users write them, and the handlers that it ships."""

from __future__ import annotations

from typing import Any

import pytest

from tests.frameworks import need

pytestmark = [need("ignite"), pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ignite.handlers
    from ignite.engine import Engine, Events
    from ignite.metrics import Accuracy

import torch

from loopscope.adapters.ignite.vocabulary import VOCABULARY
from loopscope.effects import Effects, effects

# mypy: ignore-errors

trainer = Engine(lambda engine, batch: batch)
evaluator = Engine(lambda engine, batch: batch)
model = torch.nn.Linear(1, 1)
loader = [1, 2]


def read(handler: Any, owner: type | None = None) -> Effects:
    return effects(handler, owner, VOCABULARY, passed=("engine",))


def validate(e):
    evaluator.run(loader)
    trainer.state.best = evaluator.state.metrics["acc"]


def stop(engine):
    if engine.state.output > 3:
        engine.terminate()


def change():
    model.eval()
    trainer.add_event_handler(Events.STARTED, stop)


class Validates:
    """A handler that is an object."""

    def __init__(self, other: Engine) -> None:
        self.other = other

    def __call__(self, engine):
        self.other.run(loader)


def test_functions_as_people_write_them() -> None:
    """What they are given may have any name; engines and models that they use are known by what they are."""
    assert read(stop).summary == "calls engine.terminate() if engine.state.output > 3"
    assert read(change).summary == "calls model.eval(), trainer.add_event_handler(Events.STARTED, stop)"
    assert read(validate).summary == (
        "runs evaluator.run(loader); sets trainer.state.best = evaluator.state.metrics['acc']"
    )
    assert read(lambda engine: print(engine.state.output)).summary == "prints a message"  # noqa: T201


def test_an_engine_run_in_a_handler_is_nested() -> None:
    """By a global name, a closure, an attribute, or where the handler is the engine's own `run`."""
    inner = Engine(lambda engine, batch: batch)

    def closes(engine):
        inner.run(loader)

    held = Validates(inner)
    for handler, owner in ((validate, None), (closes, None), (held, Validates), (evaluator.run, Engine)):
        assert read(handler, owner).nested(VOCABULARY.loops) == ("run",), handler
    assert read(lambda _: evaluator.run(loader)).nested(VOCABULARY.loops) == ("run",)
    assert read(stop).nested(VOCABULARY.loops) == ()


def test_what_shipped_handlers_are_for_is_found() -> None:
    """Early stopping, a learning rate, a metric's result."""
    stopping = ignite.handlers.EarlyStopping(3, lambda engine: 1, trainer)
    assert read(stopping, type(stopping)).summary.startswith("calls trainer.terminate() if ")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = ignite.handlers.LinearCyclicalScheduler(optimizer, "lr", 0.1, 0.2, 4)
    done = {(item.kind, item.on, item.target) for item in read(schedule, type(schedule)).items}
    assert ("writes", "optimizer", "param_group[self.param_name]") in done
    accuracy = Accuracy()
    done = {(item.kind, item.on, item.target) for item in read(accuracy.completed, Accuracy).items}
    assert ("writes", "learner", "engine.state.metrics[name]") in done
