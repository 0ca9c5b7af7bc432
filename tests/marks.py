"""What a framework really did between the events of a run: when it drew a batch, ran forward, backward and so on.

`with marked(watch.fired) as marks: ...` notes each of these with how many events had fired by then, so that both can be
put into one line: `marks.line()`. They are seen at the bottom, in torch and in the optimizers, where none can pass by.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.nn.modules.loss import _Loss
from torch.optim.optimizer import register_optimizer_step_post_hook


@dataclass(frozen=True)
class Mark:
    """Something that was done: `Mark("forward", True)`; `drawn_from` tells one pass over the data from another."""

    kind: str
    training: bool = True
    drawn_from: int = 0


Item = str | Mark
"""The name of an event, or what was done."""

KERAS_TORCH = "keras.src.backend.torch.optimizers.torch_parallel_optimizer"

PLACES = (
    ("draw", "torch.utils.data.dataloader", "_BaseDataLoaderIter", "__next__"),
    ("forward", "torch.nn", "Module", "__call__"),
    ("forward", "keras.src.layers.layer", "Layer", "__call__"),
    ("loss", "torch.nn", "functional", "mse_loss"),
    ("loss", "torch.nn", "functional", "cross_entropy"),
    ("loss", "keras.src.trainers.trainer", "Trainer", "_compute_loss"),
    ("backward", "torch", "autograd", "backward"),
    ("step", "fastai.optimizer", "Optimizer", "step"),
    ("step", "keras.src.optimizers.base_optimizer", "BaseOptimizer", "_backend_update_step"),
    ("step", KERAS_TORCH, "TorchParallelOptimizer", "_backend_update_step"),
    ("zero", "torch.optim", "Optimizer", "zero_grad"),
    ("zero", "torch.nn", "Module", "zero_grad"),
    ("zero", "fastai.optimizer", "Optimizer", "zero_grad"),
    ("log", "transformers", "Trainer", "log"),
    ("save", "torch", "", "save"),
)
"""What is done, and where: a module, something in it, and its function; torch's optimizers have a hook for a step."""


@contextmanager
def marked(fired: Sequence[Any]) -> Iterator[Marks]:
    """Note what is done while `fired` grows; only modules that are imported are looked at."""
    marks = Marks(fired)
    with ExitStack() as stack:
        for kind, module, owner, name in PLACES:
            if module in sys.modules:
                place = getattr(sys.modules[module], owner) if owner else sys.modules[module]
                stack.enter_context(mock.patch.object(place, name, marks.around(kind, getattr(place, name))))
        stack.callback(register_optimizer_step_post_hook(lambda *_: marks.note("step")).remove)
        yield marks


class Marks:
    """What was done, each with the number of events before it."""

    def __init__(self, fired: Sequence[Any]) -> None:
        self.fired = fired
        self.seen: list[tuple[int, Mark]] = []
        self.depth: dict[str, int] = {}
        self.kept: list[Any] = []  # so that no two passes have one identity

    def note(self, kind: str, drawn_from: object = None) -> None:
        self.kept.append(drawn_from)
        mark = Mark(kind, torch.is_grad_enabled(), 0 if drawn_from is None else id(drawn_from))
        self.seen.append((len(self.fired), mark))

    def around(self, kind: str, done: Callable[..., Any]) -> Callable[..., Any]:
        """`done`, noted each time when it has returned; what it calls of the same kind counts as one with it."""

        @functools.wraps(done)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if args and isinstance(args[0], _Loss):
                return done(*args, **kwargs)
            outer = self.depth.get(kind, 0)
            part = kind == "loss" and self.depth.get("forward")  # of the model's own forward
            self.depth[kind] = outer + 1
            try:
                result = done(*args, **kwargs)
            finally:
                self.depth[kind] = outer
            if not outer and not part and not symbolic():
                self.note(kind, args[0] if kind == "draw" else None)
            return result

        return wrapper

    def line(self) -> list[Item]:
        """The events and what was done, in one order."""
        items: list[Item] = []
        for number, one in enumerate([*self.fired, None]):
            items += [mark for at, mark in self.seen if at == number]
            items += [one.event] if one is not None else []
        return items


def symbolic() -> bool:
    """Whether Keras only works out shapes."""
    keras: Any = sys.modules.get("keras.src.backend.common.symbolic_scope")
    return keras is not None and bool(keras.in_symbolic_scope())
