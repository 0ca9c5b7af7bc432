"""Calls a hook of the user's once and leaves the objects that it can reach as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from loopscope.adapters.lightning.packages import Package

COPIED = 256 << 20
"""Weights of so many bytes in all are copied, to be put back if the hook changes them; more would cost memory."""


@contextmanager
def attached(package: Package, trainer: Any, model: Any) -> Iterator[None]:
    """Have the model and the trainer know each other, as they do while one of its runs begins; then no more.

    Attributes of model, trainer, strategy, loops and submodules that come, go or are replaced meanwhile are put back;
    so is what is added to or taken from the lists, sets and dictionaries that they hold, what is frozen or overwritten
    of the weights, and the random generators. Also when the hook raises.
    """
    with ExitStack() as stack:
        stack.enter_context(_same_random_numbers())
        stack.enter_context(_same_weights(model))
        for holder in (*model.modules(), trainer, trainer.strategy, *_loops(trainer)):
            stack.enter_context(_unchanged(holder))
        modules = [one for one in model.modules() if isinstance(one, package.part().LightningModule)]
        for module in modules:
            stack.callback(module.__dict__.__setitem__, "_trainer", module.__dict__.get("_trainer"))
            module.__dict__["_trainer"] = trainer
        trainer.strategy._lightning_module = model
        yield


def _loops(trainer: Any) -> Iterator[Any]:
    """Yield the trainer's loops and those inside them."""
    for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop"):
        loop = getattr(trainer, name, None)
        inner = getattr(loop, "epoch_loop", None)
        yield from (one for one in (loop, inner, getattr(inner, "val_loop", None)) if hasattr(one, "__dict__"))


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def _same_weights(model: nn.Module) -> Iterator[None]:
    tensors = [*model.parameters(), *model.buffers()]
    known = [one for one in tensors if not nn.parameter.is_lazy(one) and not one.is_inference()]
    small = sum(one.numel() * one.element_size() for one in known) <= COPIED
    before = [(one, one.data, one.requires_grad, one.detach().clone() if small else None) for one in known]
    try:
        yield
    finally:
        for one, held, wanted, copy in before:
            if (one.dtype, one.device, one.shape) != (held.dtype, held.device, held.shape):
                one.data = held
            if one.requires_grad != wanted:
                one.requires_grad_(wanted)
            if copy is not None and not held.is_meta and not torch.equal(held, copy):
                held.copy_(copy)


@contextmanager
def _unchanged(holder: Any) -> Iterator[None]:
    before = dict(vars(holder))
    held = [(value, _copied(value)) for value in before.values() if isinstance(value, (list, dict, set))]
    try:
        yield
    finally:
        vars(holder).clear()
        vars(holder).update(before)
        for value, copy in held:
            if _told(value) == _told(copy):  # a class of the user's may do more when it is filled than lists do
                continue
            value.clear()
            value.extend(copy) if isinstance(value, list) else value.update(copy)


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else set(value)


def _told(value: Any) -> list[tuple[int, int]]:
    """Return what a collection holds by identity: whether the user's objects or tensors are equal is not asked."""
    if isinstance(value, dict):
        return [(id(key), id(one)) for key, one in value.items()]
    return [(id(one), 0) for one in value]
