"""What recording adds to a Trainer of Transformers: to a training with the usual callbacks, and to one handler call.

Each round trains a new Trainer four times, unrecorded, recorded, recorded, unrecorded; the two sums make one ratio.
What counts is the process time from the draw of the first training batch to that of the last. Transformers has no
profiler of its own, so that general ones stand beside it. A handler call's cost is the least of many turns of
`CallbackHandler.call_event` with few and with many callbacks, as it is and recorded.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import gc
import io
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import part
import torch
import transformers
from measure import Figure, bootstrap
from torch import nn
from transformers.trainer import Trainer
from transformers.trainer_callback import CallbackHandler, TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

import loopscope

transformers.logging.set_verbosity_error()
logging.getLogger("accelerate").setLevel(logging.ERROR)
torch.set_num_threads(1)

BATCH, FEW, MANY = 16, 4, 44
TARGET, TARGET_CALL = 1.02, 0.35

Around = Callable[[Any], contextlib.AbstractContextManager[Any]]


class Net(nn.Module):
    """A small network that computes its loss itself."""

    def __init__(self) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Linear(64, 64), nn.ReLU())]
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), *layers, nn.Linear(64, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.layers(x)
        return {"loss": nn.functional.mse_loss(logits, labels), "logits": logits}


class Samples(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Random samples, which note the process time at which the first and the last batch begin to be drawn."""

    def __init__(self, batches: int) -> None:
        self.x = torch.randn(BATCH * batches, 32)
        self.drawn = 0
        self.first = self.last = 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        if self.drawn == 0:
            self.first = time.process_time_ns()
        if self.drawn == len(self) - BATCH:
            self.last = time.process_time_ns()
        self.drawn += 1
        return {"x": self.x[at], "labels": self.x[at].sum(0, keepdim=True)}


class Norms(TrainerCallback):
    """Handlers at each step, as many users have them: here they only count."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps += 1

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps += 1


def train(bar: bool, around: Around, batches: int, folder: Path) -> int:
    """Train a new Trainer, the same at each call, inside `around(trainer)`; return the ns of its batches."""
    torch.manual_seed(0)
    data = Samples(batches)
    args = TrainingArguments(
        str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        disable_tqdm=not bar,
        use_cpu=True,
        dataloader_pin_memory=False,
        log_level="error",
    )
    with quiet():
        trainer = Trainer(Net(), args, train_dataset=data, callbacks=[Norms()])
        gc.collect()
        with around(trainer):
            trainer.train()
    return data.last - data.first


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Take what is printed: the progress bar is drawn all the same."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def bare(_: Any) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def recorded(file: Path) -> Around:
    return lambda trainer: loopscope.record(trainer, file, force=True)


@contextlib.contextmanager
def under_cprofile(_: Any) -> Iterator[None]:
    profiler = cProfile.Profile()
    profiler.enable()
    yield
    profiler.disable()


@contextlib.contextmanager
def under_torch_profiler(_: Any) -> Iterator[None]:
    """CPU activities, no export. It knows operations, not callbacks."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        yield


PEERS: dict[str, Around] = {"cProfile": under_cprofile, "torch.profiler": under_torch_profiler}
BARS = (("with the progress bar", True), ("without it", False))


# -- one handler call ------------------------------------------------------------------------------------------


class Idle(TrainerCallback):
    """A handler that does nothing."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pass


def least(turns: dict[str, Callable[[], object]], rounds: int, times: int = 20) -> dict[str, float]:
    """Return the least time (ns) that one call of each took, all in turn, each `times` times in a row."""
    found = dict.fromkeys(turns, float("inf"))
    for _ in range(rounds):
        for name, call in turns.items():
            start = time.perf_counter_ns()
            for _ in range(times):
                call()
            found[name] = min(found[name], (time.perf_counter_ns() - start) / times)
    return found


def calls(folder: Path, rounds: int) -> dict[str, float]:
    """Return what one handler call takes, in ns, as Transformers makes it and recorded, and an event without any."""
    stock = vars(CallbackHandler)["call_event"]
    turns: dict[str, Callable[[], object]] = {"nothing": lambda: None}
    state, control = TrainerState(), TrainerControl()
    with contextlib.ExitStack() as stack:
        for number in (0, FEW, MANY):
            args = TrainingArguments(str(folder), report_to="none", use_cpu=True, disable_tqdm=True, log_level="error")
            trainer = Trainer(Net(), args)
            held = trainer.callback_handler
            held.callbacks[:] = [Idle() for _ in range(number)]
            stack.enter_context(loopscope.record(trainer, folder / f"{number}.loop", force=True))
            given = (held, "on_step_begin", args, state, control)
            turns[f"transformers {number}"] = lambda given=given: stock(*given)
            turns[f"recorded {number}"] = lambda given=given: given[0].call_event(*given[1:])
        found = least(turns, rounds)
    kinds = ("transformers", "recorded")
    each = {kind: (found[f"{kind} {MANY}"] - found[f"{kind} {FEW}"]) / (MANY - FEW) for kind in kinds}
    return {**each, **{f"{kind} event": found[f"{kind} 0"] - found["nothing"] for kind in kinds}}


# -- the table -------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    rounds = int(given.rounds or (1 if given.quick else 16))
    batches = 12 if given.quick else 250
    ratios: dict[str, list[float]] = {}
    plain: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "train.loop"
        for number in range(0 if given.quick else -1, rounds):  # round -1 warms up, and does not count
            for what, bar in BARS:
                sides: dict[str, list[int]] = {"bare": [], "recorded": []}
                for side in ("bare", "recorded", "recorded", "bare"):
                    around = bare if side == "bare" else recorded(file)
                    sides[side].append(train(bar, around, batches, folder / "out"))
                if number >= 0:
                    ratio = sum(sides["recorded"]) / sum(sides["bare"])
                    ratios.setdefault(f"{what}: recorded / unrecorded", []).append(ratio)
                    plain.setdefault(what, []).append(sum(sides["bare"]) / 2 / batches)
            for peer, around in PEERS.items() if number % 4 == 0 else ():
                before = train(False, bare, batches, folder / "out")
                took = train(False, around, batches, folder / "out")
                mean = (before + train(False, bare, batches, folder / "out")) / 2
                ratios.setdefault(f"without it: {peer} / nothing", []).append(took / mean)
        one = calls(folder, 5 if given.quick else 1500)
    figures = [*of_trainings(ratios, plain), *of_calls(one)]
    return figures, {"batches": batches, "ratios": ratios, "batch_ns": plain, "calls_ns": one}


def of_trainings(ratios: dict[str, list[float]], plain: dict[str, list[float]]) -> Iterator[Figure]:
    for what, found in ratios.items():
        value, low, high = bootstrap(found)
        yield Figure(f"Transformers, {what}", value, "×", TARGET if what.endswith("unrecorded") else None, low, high)
    for name, found in plain.items():
        yield Figure(f"Transformers, {name}: an unrecorded batch", statistics.median(found) / 1e6, "ms")


def of_calls(took: dict[str, float]) -> Iterator[Figure]:
    yield Figure("Transformers, one event without callbacks: its own", took["transformers event"] / 1e3, "µs")
    yield Figure("Transformers, one event without callbacks: recorded", took["recorded event"] / 1e3, "µs")
    yield Figure("Transformers, one handler call: its own", took["transformers"] / 1e3, "µs")
    yield Figure("   added by recording", (took["recorded"] - took["transformers"]) / 1e3, "µs", TARGET_CALL)


if __name__ == "__main__":
    part.run("recording-transformers", __doc__, measure, rounds="rounds of the whole (default: 16)")
