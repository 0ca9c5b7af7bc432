"""Small real runs in each framework, recorded, whose own handler and whose data take the time that a test says.

`run("keras", path, each=work, fetch=nothing, epochs=2, batches=8)`: `work()` is called at the end of each batch by a
callback of one's own, `Mine`; `done()` at the end of each epoch; `fetch()` where a batch is drawn. With `reads=True`
the callback, `Reads`, reads a value at the end of each batch, as its source shows, and that takes a millisecond.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Work = Callable[[], object]


def nothing() -> None:
    """Take no time."""


class Value:
    """Something whose value takes as long as a tensor's on a busy GPU."""

    def item(self) -> float:
        time.sleep(0.001)
        return 0.0


VALUE = Value()


@dataclass(frozen=True)
class Run:
    """What a run does, and how long it is."""

    each: Work = nothing
    done: Work = nothing
    fetch: Work = nothing
    epochs: int = 1
    batches: int = 12
    reads: bool = False


def run(framework: str, path: Path, **what: Any) -> Path:
    """Record a run of a framework to a file, and return that."""
    with quiet():
        RUNS[framework](path, Run(**what))
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def numbers(what: Run) -> Any:
    """A set of pairs, two in a batch, with `what.fetch` at every second one that is drawn."""
    import torch
    from torch.utils.data import Dataset

    class Pairs(Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 2 * what.batches

        def __getitem__(self, at: int) -> Any:
            if at % 2 == 0:
                what.fetch()
            x = torch.tensor([float(at % 5), float(at % 3)])
            return x, x.sum(0, keepdim=True)

    return Pairs()


def fastai(path: Path, what: Run) -> None:
    from fastai.callback import progress  # noqa: F401 - gives the learner its no_bar
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from torch import nn

    import loopscope

    class Mine(Callback):
        order = 90

        def after_batch(self) -> None:
            what.each()

        def after_epoch(self) -> None:
            what.done()

    class Reads(Mine):
        def after_batch(self) -> None:
            VALUE.item()

    loaders = [DataLoader(numbers(one), bs=2, num_workers=0) for one in (what, Run(batches=2))]
    learn = Learner(
        DataLoaders(*loaders), nn.Linear(2, 1), loss_func=nn.MSELoss(), cbs=[Reads() if what.reads else Mine()]
    )
    with learn.no_bar(), loopscope.record(learn, path):
        learn.fit(what.epochs, 0.01)


def lightning(path: Path, what: Run) -> None:
    import lightning.pytorch as pl
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    import loopscope

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.mse_loss(self.layer(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    class Mine(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            what.each()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            what.done()

    class Reads(Mine):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            VALUE.item()

    trainer = pl.Trainer(
        max_epochs=what.epochs,
        callbacks=[Reads() if what.reads else Mine()],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path.parent,
    )
    with loopscope.record(trainer, path):
        trainer.fit(Net(), DataLoader(numbers(what), batch_size=2))


def transformers(path: Path, what: Run) -> None:
    from transformers import TrainerCallback

    import loopscope
    from tests.adapters.cases.transformers import trainer

    class Mine(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            what.each()

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            what.done()

    class Reads(Mine):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            VALUE.item()

    class Named(type(numbers(what))):  # type: ignore[misc]
        def __getitem__(self, at: int) -> Any:
            x, y = super().__getitem__(at)
            return {"x": x, "labels": y}

    made = trainer(
        path.parent,
        Reads() if what.reads else Mine(),
        train=Named(),
        num_train_epochs=what.epochs,
        logging_strategy="no",
    )
    with loopscope.record(made, path):
        made.train()


def keras(path: Path, what: Run) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras as k
    import numpy as np

    import loopscope

    class Mine(k.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            what.each()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            what.done()

    class Reads(Mine):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            VALUE.item()

    class Pairs(k.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return what.batches

        def __getitem__(self, at: int) -> Any:
            what.fetch()
            x = np.ones((2, 2), "float32") * at
            return x, x.sum(1, keepdims=True)

    model = k.Sequential([k.Input((2,)), k.layers.Dense(1)])
    model.compile("sgd", "mse")
    with loopscope.record(model, path):
        model.fit(Pairs(), epochs=what.epochs, verbose=0, callbacks=[Reads() if what.reads else Mine()])


def ignite(path: Path, what: Run) -> None:
    from ignite.engine import Engine, Events
    from torch.utils.data import DataLoader

    import loopscope
    from tests.adapters.cases.ignite_engines import trainer

    engine = trainer()

    class Mine:
        def after(self, engine: Engine) -> None:
            what.each()

        def done(self, engine: Engine) -> None:
            what.done()

    class Reads(Mine):
        def after(self, engine: Engine) -> None:
            VALUE.item()

    mine = Reads() if what.reads else Mine()
    engine.add_event_handler(Events.ITERATION_COMPLETED, mine.after)
    engine.add_event_handler(Events.EPOCH_COMPLETED, mine.done)
    with loopscope.record(engine, path):
        engine.run(DataLoader(numbers(what), batch_size=2), max_epochs=what.epochs)


RUNS: dict[str, Callable[[Path, Run], None]] = {
    "fastai": fastai,
    "lightning": lightning,
    "transformers": transformers,
    "keras": keras,
    "ignite": ignite,
}

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.framework(name)) for name in RUNS]
"""For `@pytest.mark.parametrize("framework", FRAMEWORKS)`: one that is not installed is skipped."""
