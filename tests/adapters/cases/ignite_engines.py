"""The engines of ignite's cases: a trainer of a linear model, evaluators, and handlers that do what a case is about."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, EventEnum, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import MeanSquaredError
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

CORE = [event.name for event in Events]

ARGUMENTS: Mapping[str, tuple[Any, ...]] = {"EXCEPTION_RAISED": (ValueError(),), "TERMINATE_SINGLE_EPOCH": (0,)}


class Backprop(EventEnum):
    """Events that a process function fires."""

    LOSS_COMPUTED = "loss_computed"
    BACKWARD_COMPLETED = "backward_completed"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: Any) -> Any:
        return self.linear(x)


def data(batches: int = 3) -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    xs = torch.randn(2 * batches, 2, generator=generator)
    return DataLoader(TensorDataset(xs, xs.sum(1, keepdim=True)), batch_size=2)


class Stream:
    """Batches without a number that one can ask for; they can be had again and again."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(list(data(self.batches)))


def trainer(**more: Any) -> Engine:
    """A supervised trainer whose parts can be asked for: `engine.model`, `engine.optimizer`."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    engine = create_supervised_trainer(model, optimizer, mse_loss, **more)
    return keep(engine, model, optimizer)


def keep(engine: Engine, model: nn.Module, optimizer: Any = None) -> Engine:
    engine.model, engine.optimizer, engine.log = model, optimizer, []  # type: ignore[attr-defined]
    return engine


def stepped(step: Callable[[Engine, Any], Any] | None = None, kind: type[Engine] = Engine) -> Engine:
    """A trainer with a process function of its own, which fires no events unless `step` does."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train_step(engine: Engine, batch: Any) -> float:
        optimizer.zero_grad()
        x, y = batch
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return keep(kind(step or train_step), model, optimizer)


def evaluator(model: nn.Module | None = None, *names: str) -> Engine:
    model = model or Net()
    engine = create_supervised_evaluator(model, metrics={name: MeanSquaredError() for name in names or ("mse",)})
    return keep(engine, model)


def log(engine: Engine) -> None:
    """Note what was fired."""
    engine.log.append((engine.last_event_name, engine.state.epoch, engine.state.iteration))


def log_more(engine: Engine, *more: Any, **iter_counter: Any) -> None:
    engine.log.append((engine.last_event_name, *map(str, more)))


class Counter:
    """An object that handles several events."""

    def __init__(self) -> None:
        self.begun, self.done = 0, 0

    def begin(self) -> None:
        self.begun += 1

    def end(self, engine: Engine, by: int) -> None:
        self.done += by

    def __call__(self, engine: Engine) -> None:
        self.done += engine.state.epoch


def everywhere(engine: Engine, *events: str) -> Engine:
    """Attach something to every event but EXCEPTION_RAISED, where that changes what an error does."""
    for name in events or [name for name in CORE if name != "EXCEPTION_RAISED"]:
        engine.add_event_handler(getattr(Events, name), log_more)
    return engine


def with_validation(engine: Engine, *loaders: DataLoader, at: Any = Events.EPOCH_COMPLETED) -> Engine:
    """Run an evaluator for each loader inside one handler of the trainer."""
    engines = [evaluator(engine.model) for _ in loaders]

    @engine.on(at)
    def validate() -> None:
        for one, loader in zip(engines, loaders, strict=True):
            one.run(loader)

    engine.evaluators = engines
    return engine


def state(engine: Engine) -> Mapping[str, Any]:
    """All that training left behind: weights, the optimizer's memory, metrics, counts, random states."""
    found: dict[str, Any] = {f"weight {k}": v for k, v in engine.model.state_dict().items()}
    if engine.optimizer is not None:
        for number, one in enumerate(engine.optimizer.state_dict()["state"].values()):
            found |= {f"optimizer {number} {k}": v for k, v in one.items() if v is not None}
    counts = ("iteration", "epoch", "epoch_length", "max_epochs", "max_iters", "output", "metrics")
    return {
        **found,
        **{name: str(getattr(engine.state, name)) for name in counts},
        "log": [str(one) for one in engine.log],
        "torch": torch.get_rng_state(),
        "random": str(random.getstate()),
        "numpy": str(np.random.get_state()),
    }
