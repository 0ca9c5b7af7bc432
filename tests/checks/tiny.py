"""The same tiny training in four frameworks, with one callback: to be checked, and to be run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import loopscope
from loopscope.findings import Finding

FOUR = ("fastai", "lightning", "transformers", "keras")


def each(*rows: tuple[Any, ...]) -> list[Any]:
    """Parameters whose first is a framework: `each(("keras", "on_epoch_ends"))`; skipped where it is not installed."""
    return [pytest.param(*row, marks=pytest.mark.framework(row[0])) for row in rows]


@dataclass
class Tiny:
    """A learner, trainer or model, and how it trains: what the frameworks warn of is not ours."""

    obj: Any
    train: Callable[[], object]
    run: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)

    def fit(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.train()

    def findings(self, rule: str) -> tuple[Finding, ...]:
        return loopscope.check(self.obj, self.run, select=[rule], **self.given).findings


def base(framework: str) -> type:
    """The class that callbacks derive from."""
    if framework == "fastai":
        from fastai.callback.core import Callback as Fastai

        return Fastai  # type: ignore[no-any-return,unused-ignore]
    if framework == "lightning":
        from lightning.pytorch import Callback as Lightning

        return Lightning
    if framework == "transformers":
        from transformers.trainer_callback import TrainerCallback

        return TrainerCallback
    from keras.callbacks import Callback as Keras

    return Keras  # type: ignore[no-any-return,unused-ignore]


def made(framework: str, methods: Mapping[str, Any], of: type | None = None) -> Any:
    """A callback `Mine` with these methods."""
    return type("Mine", (of or base(framework),), dict(methods))()


def tiny(framework: str, folder: Path, *callbacks: Any) -> Tiny:
    """Two epochs of a linear model with these callbacks, validation included."""
    return {"fastai": _fastai, "lightning": lightning, "transformers": _transformers, "keras": _keras}[framework](
        folder, *callbacks
    )


def _fastai(folder: Path, *callbacks: Any) -> Tiny:
    from fastai.test_utils import synth_learner

    learn = synth_learner(n_trn=2, n_val=1, cbs=list(callbacks))
    learn.remove_cbs([one for one in learn.cbs if type(one).__name__ == "ProgressCallback"])
    return Tiny(learn, lambda: learn.fit(2))


def lightning(folder: Path, *callbacks: Any, model: Any = None) -> Tiny:
    from tests.adapters.cases.lightning_models import Valid, loader, trainer_in

    trainer = trainer_in(folder, *callbacks)
    net, data = model or Valid(), {"train_dataloaders": loader(), "val_dataloaders": loader()}
    return Tiny(trainer, lambda: trainer.fit(net, **data), "fit", {"model": net, **data})


def _transformers(folder: Path, *callbacks: Any) -> Tiny:
    from tests.adapters.cases.transformers import trainer

    made = trainer(folder, *callbacks, eval_strategy="epoch", logging_steps=1, save_strategy="no")
    return Tiny(made, made.train, "train")


def _keras(folder: Path, *callbacks: Any) -> Tiny:
    from tests.adapters.cases.keras import X, Y, model

    net = model()
    given = {"x": X, "y": Y, "validation_data": (X, Y), "epochs": 2, "verbose": 0, "callbacks": list(callbacks)}
    return Tiny(net, lambda: net.fit(**given), "fit", given)
