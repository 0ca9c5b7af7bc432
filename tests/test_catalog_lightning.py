"""The catalogue has exactly the hooks that the installed Lightning calls, and the spans that it shows its profiler."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = need("lightning")

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from loopscope.catalog.lightning import ABSENT, EVENTS, MOMENTS

CALLING = frozenset(
    (
        "_DataLoaderSource",
        "_call_batch_hook",
        "_call_callback_hooks",
        "_call_lightning_datamodule_hook",
        "_call_lightning_module_hook",
        "_call_strategy_hook",
    )
)
"""The functions with which Lightning calls a hook by its name."""

PREFIXED = {f"{kind}_dataloader" for kind in ("train", "val", "test", "predict")}
"""Hooks of which Lightning puts the name together."""

SPANS = ("run_training_epoch", "run_training_batch", "save_checkpoint", "train_dataloader_next")
SPANS_BY_STAGE = {f"{stage}_next" for stage in ("val", "test", "predict")}
"""What Lightning shows its profiler and calls nobody for, and those of which it puts the name together."""

TWICE = {"LightningModule.on_load_checkpoint"}
"""A hook that comes to the model at another time than to the callbacks."""

COPY = pytest.param("pytorch_lightning", marks=pytest.mark.framework("pytorch_lightning"))
packages = pytest.mark.parametrize("package", ["lightning.pytorch", COPY])


@functools.cache
def nodes(package: str) -> Sequence[ast.AST]:
    files = Path(str(importlib.import_module(package).__file__)).parent.rglob("*.py")
    return [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]


def texts(node: ast.AST) -> set[str]:
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def called(package: str) -> set[str]:
    """The names of the hooks that the package calls, as its source has them."""
    found: set[str] = set()
    for node in nodes(package):
        if isinstance(node, ast.Call) and name(node.func) in CALLING:
            found |= {one for argument in node.args if isinstance(argument, ast.Constant) for one in texts(argument)}
        if isinstance(node, ast.Assign) and [name(target) for target in node.targets] == ["hook_name"]:
            found |= texts(node.value)
    return found


def name(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


@packages
def test_every_hook_that_is_called_is_there(package):
    """The events are the hooks that Lightning's source calls, and its spans: one that is new or gone is noticed."""
    assert set(EVENTS) == called(package) | PREFIXED | {*SPANS, *SPANS_BY_STAGE} | TWICE


@packages
def test_the_spans_are_shown_to_the_profiler(package):
    """What is no hook stands in the source as the name of something that the profiler is told."""
    told = {
        text
        for node in nodes(package)
        if isinstance(node, ast.Call) and name(node.func) in ("profile", "start")
        for text in texts(node)
    }
    assert [span for span in SPANS if not any(text.endswith(span) for text in told)] == []
    assert any(text.endswith("_next") for text in told - {*SPANS})


def test_every_hook_of_a_callback_is_there():
    """What can be overridden in a Callback is an event, but for the state that a checkpoint keeps of it."""
    hooks = {name for name in vars(Callback) if not name.startswith("_")}
    assert hooks - set(EVENTS) == {"state_key"}
    assert {event for event in EVENTS if event.startswith("on_")} <= hooks | set(dir(LightningModule))
    assert set(EVENTS) & {"prepare_data", "setup", "teardown", "state_dict"} <= set(dir(LightningDataModule))


def test_on_save_checkpoint_comes_before_the_file_is_written(tmp_path, monkeypatch):
    """on_save_checkpoint fires inside of the handler that saves, and the file is written next."""
    seen: list[str] = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *args, **kwargs: (seen.append("written"), save(*args, **kwargs))[1])

    class Sees(Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            seen.append("on_save_checkpoint")

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Sees(), ModelCheckpoint(tmp_path, save_top_k=-1)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the number of workers
        trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(2, 1)))
    assert seen == ["on_save_checkpoint", "written"] * 2
    assert MOMENTS["checkpoint saved"] == ("on_save_checkpoint",)


def test_what_the_advice_names_is_there():
    """What tells a batch without a step, and the last batch of an epoch, is an attribute of the trainer."""
    names = set(re.findall(r"trainer\.(\w+)", " ".join(ABSENT.values())))
    assert names == {"accumulate_grad_batches", "is_last_batch"}
    assert [name for name in names if not hasattr(Trainer, name) and not hasattr(Trainer(logger=False), name)] == []
