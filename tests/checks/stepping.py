"""Small real trainings that say what their optimizer stepped, for the rules about gradients.

Constraint: imports no framework but torch at its head.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

import loopscope

SCALE = 1024.0
"""The loss scale."""


def found(rule: str, obj: Any, run: str = "fit", **arguments: Any) -> list[tuple[str, str, str]]:
    """Return who is found, where, and how bad it is: `[("Clip", "before_step", "error")]`."""
    with quiet():
        checked = loopscope.check(obj, run, select=[rule], **arguments)
    return [(one.callback.partition("#")[0], one.event, one.severity) for one in checked.findings]


def norm(parameters: Iterable[torch.nn.Parameter]) -> float:
    """Return the norm of all gradients."""
    return float(torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what a framework prints, and the warnings that it causes by itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def learner(*callbacks: Any, batches: int = 1) -> Any:
    """Return fastai's small learner, with 16 items in a batch."""
    from fastai.test_utils import synth_dbunch, synth_learner

    return synth_learner(data=synth_dbunch(n_train=batches, n_valid=1), cbs=list(callbacks))


def fit(learn: Any) -> None:
    """Train for an epoch."""
    with quiet(), learn.no_bar(), learn.no_logging():
        learn.fit(1)


def lightning_trainer(*callbacks: Any, scaled: bool = False, batches: int = 1, **more: Any) -> Any:
    """Return a Lightning trainer for an epoch; `scaled` has a loss scale, without a GPU."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.plugins import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    quiet_ = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    return Trainer(
        max_epochs=1,
        limit_train_batches=batches,
        accelerator="cpu",
        callbacks=list(callbacks),
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)] if scaled else None,
        enable_model_summary=False,
        **quiet_,
        **more,
    )


def lightning_fit(trainer: Any, model: Any) -> None:
    """Train it, if there is nothing to stop it."""
    with quiet():
        trainer.fit(model)


def lightning_base() -> Any:
    """Return a class of modules that note in `norms` what they stepped by."""
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Base(BoringModel):
        def __init__(self) -> None:
            super().__init__()
            self.norms: list[float] = []

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            optimizer.register_step_post_hook(lambda *_: self.norms.append(norm(self.parameters())))
            return optimizer

    return Base


def ignite_trainer(accumulate: int = 1) -> tuple[Any, Any, list[float]]:
    """Return an ignite trainer, its model, and a list of the norms of what it will step by."""
    from ignite.engine import create_supervised_trainer

    model, norms = torch.nn.Linear(2, 1), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: norms.append(norm(model.parameters())))
    loss = torch.nn.functional.mse_loss
    return create_supervised_trainer(model, optimizer, loss, gradient_accumulation_steps=accumulate), model, norms


def pairs(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return so many batches that are far from what a model says at first."""
    return [(torch.ones(1, 2), torch.full((1, 1), 100.0))] * count
