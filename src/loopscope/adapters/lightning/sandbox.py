"""Calls a hook of the user's once and leaves the objects that it can reach as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from loopscope.adapters.lightning.packages import Package


@contextmanager
def attached(package: Package, trainer: Any, model: Any) -> Iterator[None]:
    """Have the model and the trainer know each other, as they do while one of its runs begins; then no more.

    Attributes that come, go or are replaced meanwhile are put back, and so is what is added to or taken from the
    lists, sets and dictionaries that they hold; the random generators too.
    """
    with ExitStack() as stack:
        stack.enter_context(package.part("utilities.seed").isolate_rng())
        for holder in (model, trainer, trainer.strategy):
            stack.enter_context(_unchanged(holder))
        modules = [one for one in model.modules() if isinstance(one, package.part().LightningModule)]
        for module in modules:
            stack.callback(module.__dict__.__setitem__, "_trainer", module.__dict__.get("_trainer"))
            module.__dict__["_trainer"] = trainer
        trainer.strategy._lightning_module = model
        yield


@contextmanager
def _unchanged(holder: Any) -> Iterator[None]:
    before = dict(vars(holder))
    held = [(value, value.copy()) for value in before.values() if type(value) in (list, dict, set)]
    try:
        yield
    finally:
        vars(holder).clear()
        vars(holder).update(before)
        for value, copy in held:
            value.clear()
            value.extend(copy) if isinstance(value, list) else value.update(copy)
