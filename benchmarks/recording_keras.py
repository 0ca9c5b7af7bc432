"""What recording adds to Keras: to a fit whose handlers a pool of threads calls, to one without it, and to one handler.

Each round fits a new model four times, unrecorded, recorded, recorded, unrecorded; the two sums make one ratio. What
counts is the process time, of all threads, from the draw of the first training batch to that of the last. Keras has
no profiler of its own on torch, so that general ones stand beside it. A handler call's cost is the least of many turns
of `CallbackList.on_train_batch_begin` with few and with many callbacks, as it is and recorded.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import argparse
import contextlib
import cProfile
import gc
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import part
import torch
from keras.callbacks import Callback, CallbackList, EarlyStopping, ReduceLROnPlateau, TerminateOnNaN
from measure import Figure, bootstrap

import loopscope

torch.set_num_threads(1)

BATCH, FEW, MANY = 16, 4, 44
TARGET, TARGET_CALL = 1.02, 0.35

Around = Callable[[Any], contextlib.AbstractContextManager[Any]]


class TimedLoader(torch.utils.data.DataLoader):
    """Measures the process time from the draw of its first batch to that of its last: Keras asks for no more."""

    took = 0

    def __iter__(self) -> Iterator[Any]:
        start = time.process_time_ns()
        for batch in super().__iter__():
            self.took = time.process_time_ns() - start
            yield batch


def callbacks(pool: bool) -> list[Callback]:
    """Return Keras's own: with TerminateOnNaN, which handles each batch, the main thread calls the handlers."""
    return [EarlyStopping("loss", patience=10**9), ReduceLROnPlateau("loss"), *([] if pool else [TerminateOnNaN()])]


def fit(pool: bool, around: Around, batches: int) -> int:
    """Fit a new model, the same at each call, inside `around(model)`; return the process time of its batches, in ns."""
    keras.utils.set_random_seed(0)
    x = torch.randn(BATCH * batches, 32)
    data = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
    loader = TimedLoader(data, batch_size=BATCH)
    hidden = [keras.layers.Dense(64, "relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((32,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    gc.collect()
    with quiet(), around(model):
        model.fit(loader, callbacks=callbacks(pool), shuffle=False)
    return loader.took


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Take what Keras prints: its progress bar is drawn all the same."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bare(_: Any) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext()


def recorded(file: Path) -> Around:
    return lambda model: loopscope.record(model, file, force=True)


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


PEERS: dict[str, Around] = {"cProfile, the main thread only": under_cprofile, "torch.profiler": under_torch_profiler}


# -- one handler call ------------------------------------------------------------------------------------------


class Idle(Callback):
    """A handler that does nothing."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
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
    """Return what one handler call takes, in ns, as Keras makes it and recorded, and an event without any."""
    stock = vars(CallbackList)["on_train_batch_begin"]
    turns: dict[str, Callable[[], object]] = {"nothing": lambda: None}
    with contextlib.ExitStack() as stack:
        for number in (0, FEW, MANY):
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            held = CallbackList([Idle() for _ in range(number)], model=model)
            stack.enter_context(loopscope.record(model, folder / f"{number}.loop", force=True))
            turns[f"keras {number}"] = lambda held=held: stock(held, 0)
            turns[f"recorded {number}"] = lambda held=held: held.on_train_batch_begin(0)
        found = least(turns, rounds)
    each = {kind: (found[f"{kind} {MANY}"] - found[f"{kind} {FEW}"]) / (MANY - FEW) for kind in ("keras", "recorded")}
    events = {f"{kind} event": found[f"{kind} 0"] - found["nothing"] for kind in ("keras", "recorded")}
    return {**each, **events}


# -- the table -------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    rounds = int(given.rounds or (1 if given.quick else 16))
    batches = 12 if given.quick else 250
    ratios: dict[str, list[float]] = {}
    plain: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fit.loop"
        for number in range(0 if given.quick else -1, rounds):  # round -1 warms up, and does not count
            for name, pool in (("handlers in the pool", True), ("handlers in the main thread", False)):
                sides: dict[str, list[int]] = {"bare": [], "recorded": []}
                for side in ("bare", "recorded", "recorded", "bare"):
                    sides[side].append(fit(pool, bare if side == "bare" else recorded(file), batches))
                if number >= 0:
                    ratios.setdefault(f"{name}: recorded / unrecorded", []).append(
                        sum(sides["recorded"]) / sum(sides["bare"])
                    )
                    plain.setdefault(name, []).append(sum(sides["bare"]) / 2 / batches)
            for peer, around in PEERS.items() if number % 4 == 0 else ():
                before = fit(True, bare, batches)
                took = fit(True, around, batches)
                mean = (before + fit(True, bare, batches)) / 2
                ratios.setdefault(f"handlers in the pool: {peer} / nothing", []).append(took / mean)
        one = calls(Path(folder), 5 if given.quick else 1500)
    figures = [*of_fits(ratios, plain), *of_calls(one)]
    return figures, {"batches": batches, "ratios": ratios, "batch_ns": plain, "calls_ns": one}


def of_fits(ratios: dict[str, list[float]], plain: dict[str, list[float]]) -> Iterator[Figure]:
    for what, found in ratios.items():
        value, low, high = bootstrap(found)
        yield Figure(f"Keras, {what}", value, "×", TARGET if what.endswith("unrecorded") else None, low, high)
    for name, found in plain.items():
        yield Figure(f"Keras, {name}: an unrecorded batch", statistics.median(found) / 1e6, "ms")


def of_calls(took: dict[str, float]) -> Iterator[Figure]:
    yield Figure("Keras, one event without callbacks: Keras's own", took["keras event"] / 1e3, "µs")
    yield Figure("Keras, one event without callbacks: recorded", took["recorded event"] / 1e3, "µs")
    yield Figure("Keras, one handler call: Keras's own", took["keras"] / 1e3, "µs")
    yield Figure("   added by recording", (took["recorded"] - took["keras"]) / 1e3, "µs", TARGET_CALL)


if __name__ == "__main__":
    part.run("recording-keras", __doc__, measure, rounds="rounds of the whole (default: 16)")
