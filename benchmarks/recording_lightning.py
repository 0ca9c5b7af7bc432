"""What recording adds to Lightning: to a fit, beside what Lightning's own profilers add to it, and to one handler call.

Each round fits a new model four times, unrecorded, recorded, recorded, unrecorded; the two sums make one ratio. What
counts is the process time from the draw of the first training batch to that of the last. Unrecorded, the trainer has
the profiler that Lightning gives it, which does nothing and costs about a microsecond per call: a recording stands in
its place, so that less than nothing may be added. A handler call's cost is the least of many turns of Lightning's
`_call_callback_hooks` with few and with many callbacks.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import itertools
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import part
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, Timer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.profilers import AdvancedProfiler, PassThroughProfiler, SimpleProfiler
from lightning.pytorch.trainer import call
from measure import Figure, bootstrap
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils.data import DataLoader, TensorDataset

import loopscope

torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

BATCH, FEW, MANY = 16, 4, 44
TARGET, TARGET_CALL = 1.00, 0.35

Around = Callable[[Any], contextlib.AbstractContextManager[Any]]


class TimedLoader(DataLoader[Any]):
    """Measures the process time from the draw of its first batch to that of its last: Lightning asks for no more."""

    took = 0

    def __iter__(self) -> Iterator[Any]:
        start = time.process_time_ns()
        for batch in super().__iter__():
            type(self).took = time.process_time_ns() - start
            yield batch


class Net(pl.LightningModule):
    """About a millisecond per batch."""

    def __init__(self) -> None:
        super().__init__()
        widths = [32, 128, 128, 128, 1]
        layers = [torch.nn.Linear(*pair) for pair in itertools.pairwise(widths)]
        self.layers = torch.nn.Sequential(*[part for layer in layers for part in (layer, torch.nn.ReLU())][:-1])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.mse_loss(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


class Losses(Callback):
    """Notes the loss of each batch."""

    def __init__(self) -> None:
        self.losses: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].detach())


def fit(around: Around, batches: int, folder: Path) -> int:
    """Fit a new model, always the same, inside `around(trainer)`; return the process time of its batches, in ns."""
    torch.manual_seed(0)
    x = torch.randn(BATCH * batches, 32)
    loader = TimedLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=BATCH)
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=DummyLogger(),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[LearningRateMonitor("step"), Timer("01:00:00:00"), Losses()],
        )
        gc.collect()
        with around(trainer):
            trainer.fit(Net(), loader)
    return TimedLoader.took


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    streams = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with streams[0], streams[1], warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bare(_: Any) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def recorded(file: Path) -> Around:
    return lambda trainer: loopscope.record(trainer, file, force=True)


def with_profiler(make: Callable[..., Any], folder: Path) -> Around:
    @contextlib.contextmanager
    def around(trainer: Any) -> Iterator[None]:
        trainer.profiler = make(dirpath=folder, filename="peer")
        yield

    return around


PEERS: dict[str, Callable[..., Any]] = {"SimpleProfiler": SimpleProfiler, "AdvancedProfiler": AdvancedProfiler}


# -- one handler call ------------------------------------------------------------------------------------------


class Idle(Callback):
    """A handler that does nothing."""

    def __init__(self, number: int) -> None:
        self.number = number

    @property
    def state_key(self) -> str:
        return f"Idle{self.number}"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pass


def least(turns: dict[str, Callable[[], object]], rounds: int, times: int = 20) -> dict[str, float]:
    """Return the least time (ns) that one call of each took, all in turn, each `times` times in a row."""
    found = dict.fromkeys(turns, float("inf"))
    for _ in range(rounds):
        for name, one in turns.items():
            start = time.perf_counter_ns()
            for _ in range(times):
                one()
            found[name] = min(found[name], (time.perf_counter_ns() - start) / times)
    return found


def calls(folder: Path, rounds: int) -> dict[str, float]:
    """Return what one handler call takes, in ns: with Lightning's own profiler, recorded, and with SimpleProfiler."""
    turns: dict[str, Callable[[], object]] = {}
    with contextlib.ExitStack() as stack, quiet():
        for number in (FEW, MANY):
            for kind in ("lightning", "recorded", "SimpleProfiler"):
                trainer = pl.Trainer(
                    logger=False,
                    accelerator="cpu",
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                    default_root_dir=folder,
                    callbacks=[Idle(n) for n in range(number)],
                )
                trainer.strategy._lightning_module = Net()
                trainer.profiler = SimpleProfiler() if kind == "SimpleProfiler" else PassThroughProfiler()
                if kind == "recorded":
                    stack.enter_context(loopscope.record(trainer, folder / f"{number}.loop", force=True))
                turns[f"{kind} {number}"] = lambda trainer=trainer: call._call_callback_hooks(trainer, "on_train_start")
        found = least(turns, rounds)
    return {
        kind: (found[f"{kind} {MANY}"] - found[f"{kind} {FEW}"]) / (MANY - FEW)
        for kind in ("lightning", "recorded", "SimpleProfiler")
    }


# -- the table -------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    rounds = int(given.rounds or (1 if given.quick else 24))
    batches = 12 if given.quick else 500
    ratios: dict[str, list[float]] = {}
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(0 if given.quick else -1, rounds):  # round -1 warms up, and does not count
            sides: dict[str, list[int]] = {"bare": [], "recorded": []}
            for side in ("bare", "recorded", "recorded", "bare"):
                around = bare if side == "bare" else recorded(folder / "fit.loop")
                sides[side].append(fit(around, batches, folder))
            if number < 0:
                continue
            ratios.setdefault("recorded / unrecorded", []).append(sum(sides["recorded"]) / sum(sides["bare"]))
            plain.append(sum(sides["bare"]) / 2 / batches)
            for peer, make in PEERS.items() if number % 4 == 0 else ():
                before = fit(bare, batches, folder)
                took = fit(with_profiler(make, folder), batches, folder)
                mean = (before + fit(bare, batches, folder)) / 2
                ratios.setdefault(f"{peer} / unrecorded", []).append(took / mean)
        one = calls(folder, 5 if given.quick else 1500)
    figures = [*of_fits(ratios, plain), *of_calls(one)]
    return figures, {"batches": batches, "ratios": ratios, "batch_ns": plain, "calls_ns": one}


def of_fits(ratios: dict[str, list[float]], plain: list[float]) -> Iterator[Figure]:
    for what, found in ratios.items():
        value, low, high = bootstrap(found)
        yield Figure(f"Lightning, {what}", value, "×", TARGET if what.startswith("recorded") else None, low, high)
    yield Figure("Lightning, an unrecorded batch", statistics.median(plain) / 1e6, "ms")


def of_calls(took: dict[str, float]) -> Iterator[Figure]:
    yield Figure("Lightning, one handler call: with its PassThroughProfiler", took["lightning"] / 1e3, "µs")
    yield Figure("   added by recording", (took["recorded"] - took["lightning"]) / 1e3, "µs", TARGET_CALL)
    yield Figure("   added by SimpleProfiler", (took["SimpleProfiler"] - took["lightning"]) / 1e3, "µs")


if __name__ == "__main__":
    part.run("recording-lightning", __doc__, measure, rounds="rounds of the whole (default: 24)")
