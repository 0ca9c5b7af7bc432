"""Where a fit begins: with the first epoch, where an earlier fit of the trainer ended, or where a checkpoint was saved.

A checkpoint is only looked at, and in a way that runs nothing of it: what it says of the loops' progress is plain
numbers, and Lightning's own loops, made anew, say what they would do with them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.members import Member


@dataclass(frozen=True, slots=True)
class Start:
    """The progress with which a fit begins: whole `epochs`, optimizer `steps` and `batches` done before.

    `known` is False where only the run knows; `restarting`: Lightning takes up an interrupted fit, so there is no check
    before it; `inside`: it goes on in the middle of an epoch, or at a point that depends on when it was saved.
    """

    epochs: int = 0
    steps: int = 0
    batches: int = 0
    known: bool = True
    restarting: bool = False
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The checkpoint that a run loads: `loads` is None where only the run knows whether there is one."""

    loads: bool | None = False
    path: str = ""
    note: str = ""


def checkpoint(given: Given, members: tuple[Member, ...]) -> Checkpoint:
    """Return the checkpoint that a run loads, by Lightning's own rules for `ckpt_path`."""
    asked = given.ckpt_path
    connector = given.trainer._checkpoint_connector
    if not asked and connector._user_managed:
        asked = connector._ckpt_path
    saves = given.package.part("callbacks").OnExceptionCheckpoint
    if asked is None and given.run == "fit" and any(isinstance(one.obj, saves) for one in members):
        asked = "last"
    if asked is None and given.run != "fit" and given.arguments.get("model") is None:
        asked = "best"
    if asked is None:
        return Checkpoint()
    if asked == "best":
        best = getattr(given.trainer.checkpoint_callback, "best_model_path", "")
        return Checkpoint(True, str(best), f"it loads {best or 'the best checkpoint'} (ckpt_path='best')")
    if asked == "last":
        return Checkpoint(None, "", "ckpt_path='last': whether there is a checkpoint to load is found out by the run")
    return Checkpoint(True, os.fspath(asked))


def start(given: Given, found: Checkpoint) -> Start:
    """Return where a fit begins."""
    loop = given.trainer.fit_loop
    if found.loads is None:
        return Start(known=False, restarting=False, inside=True)
    if found.loads:
        return _saved(given, found.path)
    done = loop.epoch_progress.current.processed if given.start_epoch == 0 else given.start_epoch
    return Start(done, _steps(given, loop), loop.epoch_loop.batch_progress.total.ready)


def _steps(given: Given, loop: Any) -> int:
    inner = loop.epoch_loop
    if given.automatic:
        return int(inner.automatic_optimization.optim_progress.optimizer_steps)
    return int(inner.manual_optimization.optim_step_progress.total.completed)


def _saved(given: Given, path: str) -> Start:
    """Return the progress that a checkpoint holds, as Lightning's own loop takes it up."""
    state = _loops(path)
    if state is None:
        return Start(known=False, restarting=False, inside=True)
    stock = given.package.cls("loops.fit_loop._FitLoop")
    loop = stock(given.trainer, given.trainer.fit_loop.min_epochs, given.trainer.fit_loop.max_epochs)
    try:
        loop.load_state_dict(state)
        restarting = bool(loop.restarting)
        done = int(loop.epoch_progress.current.processed)
        return Start(
            done, _steps(given, loop), loop.epoch_loop.batch_progress.total.ready, True, restarting, restarting
        )
    except Exception:  # a checkpoint of another version: the run may take it up nevertheless
        return Start(known=False, restarting=False, inside=True)


def _loops(path: str) -> Any:
    """Return what a checkpoint says of the fit's progress, None where it cannot be read without running anything."""
    if not os.path.isfile(path):
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return saved["loops"]["fit_loop"]
    except Exception:  # not such a file, or one that holds objects of a program's own
        return None
