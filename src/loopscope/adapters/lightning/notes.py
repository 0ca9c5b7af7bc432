"""What a reader of a Lightning map must know beside the tree: overrides, misspelt hooks, what is left out and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from loopscope.adapters.lightning.binding import CHANGING, Bound
from loopscope.adapters.lightning.given import STEPS, Given
from loopscope.adapters.lightning.hooks import HOOKS
from loopscope.adapters.lightning.loaders import batches
from loopscope.adapters.lightning.members import Member
from loopscope.adapters.lightning.packages import Package
from loopscope.adapters.lightning.plan import Plan
from loopscope.adapters.lightning.stops import Stops
from loopscope.source import place

TESTED = ("2.6", "2.7")
"""The versions that the conformance suite ran on: from the first on, below the second."""

CLOSE = 0.84
"""How much alike two names must be for one to be taken for a misspelling of the other."""

REMOVED = ("training_epoch_end", "validation_epoch_end", "test_epoch_end", "training_step_end", "on_epoch_end")
"""Hooks that older versions had."""


def version_notes(package: Package) -> Iterator[str]:
    """Say so where the installed version is not one that was tested."""
    least, below = TESTED
    if not _numbers(least) <= _numbers(package.version) < _numbers(below):
        yield (
            f"{package.distribution} {package.version} is not among the tested versions "
            f"(from {least} on, below {below}): what is fired may differ from this map"
        )


def notes(given: Given, members: Iterable[Member], bound: Bound) -> Iterator[str]:
    """Yield the notes that hold for any run; `bound` are the handlers of the events that fire in it."""
    yield from version_notes(given.package)
    yield from _foreign(given)
    for found in bound.all():
        changes = found.changes()
        if changes and not _is_known(given, found.owner):
            where = f"{found.handler.callback}.{found.handler.method}"
            yield f"{where} {CHANGING}: {', '.join(changes)}; from there on the map may not hold"
    yield from misspelt(given, members)
    for member in members:
        if member.mine and not any(one.handler.id == member.id for one in bound.all()):
            yield f"nothing in this run calls {member.id}: it handles none of the events that fire"


def fit_notes(given: Given, plan: Plan, stops: Stops) -> Iterator[str]:
    """Yield the notes on how long a fit is, and on what it leaves out."""
    trainer = given.trainer
    if plan.skipped:
        yield f"there will be no training: {plan.skipped}"
    if stops.any:
        yield f"the training may end sooner: {', '.join(stops.who)} may set trainer.should_stop"
    source = given.sources["val"]
    if given.overrides(STEPS["val"]) and (not source.defined or trainer.limit_val_batches == 0):
        why = "limit_val_batches is 0" if source.defined else "there is no validation data"
        yield f"{type(given.model).__name__}.validation_step is not called: {why}"
    if source.defined and not given.overrides(STEPS["val"]):
        yield f"there is validation data, but {type(given.model).__name__} has no validation_step: no validation is run"
    total, interval = batches(given, "train").total, getattr(trainer, "val_check_interval", None)
    too_long = isinstance(interval, int) and total is not None and interval > total
    if too_long and trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches > 0:
        yield (
            f"Lightning refuses this fit with a ValueError: val_check_interval={interval} is more than the "
            f"{total} batches of an epoch. Set check_val_every_n_epoch=None to count batches across epochs."
        )
    if given.overrides("backward") and given.automatic:
        where = _short(str(place(type(given.model).backward)))
        yield (
            f"{type(given.model).__name__} has its own backward ({where}): it is called between on_before_backward and "
            f"on_after_backward"
        )
    if plan.epochs and getattr(plan.epochs[0].item, "resumed", False):
        yield "the checkpoint may have been saved inside an epoch: where training goes on in it is found out by the run"


def misspelt(given: Given, members: Iterable[Member]) -> Iterator[str]:
    """Yield a note for each method that looks like a hook and is none: Lightning ignores it without a word."""
    classes = given.package.part()
    asked = [(one.obj, classes.Callback) for one in members]
    asked += [(given.model, classes.LightningModule)]
    asked += [(given.datamodule, classes.LightningDataModule)] if given.datamodule is not None else []
    for obj, base in asked:
        for name in _own_methods(obj, base):
            text = _misspelt(name, base)
            if text:
                yield f"{type(obj).__name__}.{name} is never called: {text}"


def _misspelt(name: str, base: type) -> str:
    if name in REMOVED:
        return "Lightning 2 has no such hook any more"
    hooks = [hook.method or event for event, hook in HOOKS.items()]
    known = [hook for hook in dict.fromkeys(hooks) if hasattr(base, hook)]
    if name in hooks:
        return f"a {base.__name__} has no such hook"
    near = get_close_matches(name, known, 1, CLOSE)
    if near:
        return f"did you mean {near[0]}?"
    near = get_close_matches(name, known, 1) if name.startswith("on_") else []
    return f"there is no such hook (the nearest is {near[0]})" if near else ""


def _own_methods(obj: Any, base: type) -> Iterator[str]:
    """Yield the public methods that the user's classes add to the framework's."""
    seen: set[str] = set()
    root = base.__module__.partition(".")[0]
    for cls in type(obj).__mro__:
        if cls.__module__.partition(".")[0] == root or cls is object:
            continue
        for name, value in vars(cls).items():
            if callable(value) and not name.startswith("_") and not hasattr(base, name) and name not in seen:
                seen.add(name)
                yield name


STOCK = {
    "fit_loop": "loops.fit_loop._FitLoop",
    "fit_loop.epoch_loop": "loops.training_epoch_loop._TrainingEpochLoop",
    "fit_loop.epoch_loop.val_loop": "loops.evaluation_loop._EvaluationLoop",
    "fit_loop.epoch_loop.automatic_optimization": "loops.optimization.automatic._AutomaticOptimization",
    "fit_loop.epoch_loop.manual_optimization": "loops.optimization.manual._ManualOptimization",
    "validate_loop": "loops.evaluation_loop._EvaluationLoop",
    "test_loop": "loops.evaluation_loop._EvaluationLoop",
    "predict_loop": "loops.prediction_loop._PredictionLoop",
}
"""Attribute of the trainer -> the class that this map was read from."""

LOOPS = ("fit", "validate", "test", "predict", "_run", "_run_stage", "_run_sanity_check", "save_checkpoint")
STRATEGY = ("backward", "optimizer_step", "setup", *STEPS.values(), "batch_to_device")
PRECISION = ("backward", "pre_backward", "post_backward", "optimizer_step")


def _foreign(given: Given) -> Iterator[str]:
    """Say where the loop is not Lightning's own."""
    trainer, package = given.trainer, given.package
    for path, name in STOCK.items():
        found = trainer
        for part in path.split("."):
            found = getattr(found, part)
        if type(found) is not package.cls(name):
            yield f"trainer.{path} is a {type(found).__name__}: this map shows what Lightning's own loop runs"
    asked = (
        (trainer, package.part().Trainer, LOOPS),
        (trainer.strategy, package.part("strategies").Strategy, STRATEGY),
        (trainer.precision_plugin, package.part("plugins").Precision, PRECISION),
    )
    for obj, base, names in asked:
        own = [name for name in names if package.is_overridden(name, obj, base)]
        theirs = [name for name in own if not _is_of(package, getattr(type(obj), name))]
        if theirs:
            yield f"{type(obj).__name__} has its own {', '.join(theirs)}: this map shows what Lightning's own does"


def _is_of(package: Package, function: Any) -> bool:
    where = place(function)
    return where is not None and where.file.startswith(package.home + os.sep)


def _is_known(given: Given, owner: Any) -> bool:
    """Return whether a callback changes the loop in a way that the map takes account of."""
    return isinstance(owner, given.package.part("callbacks").GradientAccumulationScheduler)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2])


def _short(path: str) -> str:
    """Return a path below the current folder without that folder."""
    return path.removeprefix(os.getcwd() + os.sep)
