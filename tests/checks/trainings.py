"""Small real trainings with a validation, for rules about figures and about who comes first.

Constraint: imports no framework but torch at its head.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import loopscope
from loopscope.findings import Finding


def findings(rule: str, obj: Any, run: str = "", **arguments: Any) -> list[Finding]:
    """Return what a rule finds."""
    with quiet():
        return list(loopscope.check(obj, run, select=[rule], **arguments).findings)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings of a framework about a training this small."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- Keras -----------------------------------------------------------------------------------------------------


def keras_model(*metrics: Any) -> Any:
    """Return a compiled model of one layer."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", metrics=list(metrics))
    return model


def keras_data(*callbacks: Any, validated: bool = True, epochs: int = 2) -> dict[str, Any]:
    """Return what fit is given."""
    x, y = torch.ones(8, 2), torch.ones(8, 1)
    more = {"validation_data": (x, y)} if validated else {}
    return {"x": x, "y": y, "epochs": epochs, "verbose": 0, "callbacks": list(callbacks), **more}


# -- Transformers ----------------------------------------------------------------------------------------------


class Linear(torch.nn.Module):
    """A model with a loss, as Transformers wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.layer(x)
        return {"loss": torch.nn.functional.mse_loss(out, labels), "logits": out}


def transformers_trainer(folder: Path, *callbacks: Any, compute_metrics: Any = None, **arguments: Any) -> Any:
    """Return a trainer of three epochs of two steps, with an evaluation behind each."""
    from transformers.trainer import Trainer
    from transformers.training_args import TrainingArguments

    logging.getLogger("accelerate").setLevel(logging.ERROR)
    data = [{"x": torch.tensor([1.0, float(at)]), "labels": torch.tensor([1.0])} for at in range(4)]
    args = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=2,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **{"save_strategy": "no", "eval_strategy": "epoch", "logging_strategy": "epoch", **arguments},
    )
    return Trainer(
        model=Linear(),
        args=args,
        train_dataset=data,
        eval_dataset=data,
        callbacks=list(callbacks),
        compute_metrics=compute_metrics,
    )


# -- Lightning -------------------------------------------------------------------------------------------------


def lightning_trainer(*callbacks: Any, **more: Any) -> Any:
    """Return a trainer of two epochs, two batches each, that writes nothing of its own."""
    from lightning.pytorch import Trainer

    given = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    with quiet():
        return Trainer(
            max_epochs=2,
            limit_train_batches=2,
            accelerator="cpu",
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            **{**given, **more},
        )


# -- ignite ----------------------------------------------------------------------------------------------------


def ignite_engines() -> tuple[Any, Any]:
    """Return a trainer, and an evaluator with one metric, `average`."""
    from ignite.engine import Engine
    from ignite.metrics import Average

    trainer, evaluator = Engine(lambda _, batch: batch), Engine(lambda _, batch: float(batch))
    Average().attach(evaluator, "average")
    return trainer, evaluator
