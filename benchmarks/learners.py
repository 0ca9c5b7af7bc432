"""The fastai learners that the recording benchmarks train, and a clock that counts only while batches run.

One thread: torch's helpers would share the cores with whatever else the machine does.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from fastai.callback.all import (
    BnFreeze,
    Callback,
    EarlyStoppingCallback,
    GradientAccumulation,
    GradientClip,
    ParamScheduler,
    ReduceLROnPlateau,
    SchedCos,
    TerminateOnNaNCallback,
    TrackerCallback,
)
from fastai.data.core import DataLoaders, TfmdDL
from fastai.learner import Learner
from fastai.losses import MSELossFlat
from fastai.optimizer import SGD
from fastai.test_utils import RegModel
from torch import nn

torch.set_num_threads(1)

BATCH = 16
NEVER = 10**9
EVENTS = (
    "before_fit", "before_epoch", "before_train", "before_batch", "after_pred", "after_loss", "before_backward",
    "after_backward", "before_step", "after_step", "after_batch", "after_train", "before_validate", "after_validate",
    "after_epoch", "after_fit",
)  # fmt: skip


class TimedDL(TfmdDL):
    """A data loader that adds up the process time between the draw of its first batch and the end of its last.

    `first` is called before that: in the middle of a fit, while no event is being dispatched.
    """

    batches_ns = 0
    first: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self.first is not None:
            self.first()
        start = time.process_time_ns()
        yield from super().__iter__()
        self.batches_ns += time.process_time_ns() - start


def callbacks(count: int) -> list[Callback]:
    """Return fastai's own that make `count` together with its four defaults; nothing that writes files or draws."""
    return [
        GradientClip(),
        EarlyStoppingCallback(patience=NEVER),
        GradientAccumulation(n_acc=2 * BATCH),  # every other batch is cancelled before its step
        TerminateOnNaNCallback(),
        ReduceLROnPlateau(patience=NEVER),
        TrackerCallback(),
        BnFreeze(),
        ParamScheduler({"lr": SchedCos(1e-3, 1e-4)}),
    ][: count - 4]


def synthetic(count: int, batches: int) -> Learner:
    """Return what `fastai.test_utils.synth_learner` does, the same at each call, with `count` callbacks."""
    torch.manual_seed(0)

    def loader(many: int, shuffle: bool) -> TimedDL:
        x = torch.randn(BATCH * many, 1)
        data = torch.utils.data.TensorDataset(x, 2 * x + 3 + 0.1 * torch.randn(BATCH * many, 1))
        return TimedDL(data, bs=BATCH, shuffle=shuffle, num_workers=0)

    loaders = DataLoaders(loader(batches, True), loader(2, False))
    learn = Learner(
        loaders, RegModel(), lr=1e-3, loss_func=MSELossFlat(), opt_func=partial(SGD, mom=0.9), cbs=callbacks(count)
    )
    assert len(learn.cbs) == max(count, 4)
    return learn


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Take what fastai prints: its progress bar is drawn all the same."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


# -- long and cheap --------------------------------------------------------------------------------------------


class Repeated:
    """One tiny batch, again and again: what a loop needs of a data loader, and nothing else."""

    n_inp = bs = 1
    device = torch.device("cpu")

    def __init__(self, count: int) -> None:
        self.dataset = range(count)
        self.batch = torch.zeros(1, 1), torch.zeros(1, 1)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        for _ in self.dataset:
            yield self.batch

    def to(self, device: object) -> Repeated:
        return self


class Scale(nn.Module):
    """One number to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Any) -> Any:
        return self.factor * x


def idle(number: int) -> type[Callback]:
    """Return a new class of callback with a handler for every event, none of which does anything."""
    return type(f"Idle{number}", (Callback,), dict.fromkeys(EVENTS, lambda self: None))


def cheap(batches: int, handlers: int = 3) -> Learner:
    """Return a learner whose batches cost as little as fastai lets them; `handlers` idle ones at each event.

    With three a batch makes 36 rows: 8 events, 24 calls of the idle ones, 4 of fastai's own.
    """
    return Learner(
        DataLoaders(Repeated(batches), Repeated(1)),
        Scale(),
        loss_func=lambda predicted, _: predicted.sum(),
        opt_func=SGD,
        cbs=[idle(number)() for number in range(handlers)],
    )
