"""What rules read of a Lightning run beside its loop: callbacks, module, data module and strategy, and the trainer."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from loopscope.adapters.lightning.binding import identity
from loopscope.adapters.lightning.figures import assigned, figures
from loopscope.adapters.lightning.given import STEPS, Given
from loopscope.adapters.lightning.hooks import HOOKS
from loopscope.adapters.lightning.loaders import batches
from loopscope.adapters.lightning.members import Member
from loopscope.adapters.lightning.vocabulary import vocabularies
from loopscope.callbacks import Callback, Examined, Setting
from loopscope.effects import Vocabulary
from loopscope.examining import PLAIN, Passed, Reader, class_ignores, class_place, classes, plain_settings

SETTINGS = (
    *("monitor", "mode", "patience", "min_delta", "strict", "check_finite", "save_top_k", "save_last", "dirpath"),
    *("filename", "save_weights_only", "scheduling", "logging_interval", "log_momentum", "write_interval"),
    *("_every_n_epochs", "_every_n_train_steps", "_save_on_train_epoch_end", "_check_on_train_epoch_end"),
    *("_swa_epoch_start", "_annealing_epochs", "unfreeze_backbone_at_epoch", "_log_rank_zero_only", "verbose"),
)
"""Attributes of callbacks that rules ask for; the underscore of a private one is left out in `settings`."""

TRAINER = (
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "max_epochs", "min_epochs"),
    *("max_steps", "min_steps", "check_val_every_n_epoch", "val_check_interval", "num_sanity_val_steps"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches"),
    *("log_every_n_steps", "enable_progress_bar", "precision", "world_size", "num_nodes", "enable_checkpointing"),
)
"""Attributes of a trainer that rules ask for, in its constructor's words."""

STATE = ("state_dict", "load_state_dict")
"""Methods of callbacks that Lightning calls for a checkpoint: without the trainer, and at no hook."""

CALLED = ("callbacks", "others", "monitors")

KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "setup": ("stage",),
    "teardown": ("stage",),
    "configure_gradient_clipping": ("gradient_clip_val", "gradient_clip_algorithm"),
}
"""Hooks of which Lightning passes something by name."""

BEYOND: Mapping[str, int] = {"optimizer_step": 1}
"""Hooks to which Lightning passes more by place than their base method cannot do without."""


def examine(asked: Given, members: Iterable[Member]) -> Examined:
    """Return who has hooks in a run: the callbacks in calling order, then module, data module and strategy."""
    package, words = asked.package, vocabularies(asked.package)
    read = _reader(asked, package.part().Callback, words.callback)
    found: list[Callback] = []
    first: dict[int, str] = {}
    for one in members:
        earlier = first.setdefault(id(one.obj), one.id)
        found.append(replace(_entry(one.obj, one.id, one.origin, read), same_as="" if earlier == one.id else earlier))
    others = (
        (asked.model, "model", package.part().LightningModule, words.module),
        (asked.datamodule, "model", package.part().LightningDataModule, words.datamodule),
        (asked.trainer.strategy, "trainer", package.part("strategies").Strategy, words.callback),
    )
    for obj, origin, base, vocabulary in others:
        if obj is not None:
            entry = _entry(obj, identity(asked, obj), origin, _reader(asked, base, vocabulary))
            found.append(replace(entry, settings={**entry.settings, **dict(_plateau(entry))}))
    settings = {**_settings(asked), **_stages(asked)}
    return Examined(tuple(found), settings, (*_events(), *STATE), figures=figures(asked, found))


def _events() -> Iterator[str]:
    return (name for name, hook in HOOKS.items() if any(who in hook.called for who in CALLED))


def _reader(asked: Given, base: type, vocabulary: Vocabulary) -> Reader:
    names = functools.partial(_names, base)
    return Reader(base, (asked.package.home + os.sep, *_fabric()), _Passes(asked, base), vocabulary, given=names)


def _fabric() -> Iterator[str]:
    """Yield the folder of Lightning's other half, which some bases come from."""
    for name in ("lightning.fabric", "lightning_fabric"):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            yield os.path.dirname(file) + os.sep


@dataclass(frozen=True, slots=True)
class _Passes:
    """What Lightning passes to a hook of one base class: by place what the base's own method cannot do without."""

    asked: Given
    base: type

    def __call__(self, event: str) -> Passed | None:
        if event not in HOOKS and event not in STATE:
            return None
        if event in STEPS.values() or event == "backward":  # what a step takes is looked up in its own signature
            return None
        function = getattr(self.base, event, None)
        if function is None:
            return None
        words = KEYWORDS.get(event, ())
        least = [one for one in _parameters(function) if one.name not in words and one.default is one.empty]
        several = self._several(event)
        return None if several is None else Passed(len(least) + several + BEYOND.get(event, 0), words)

    def _several(self, event: str) -> int | None:
        """Return 1 where the number of the loader is passed too: there are several; None where only the run knows."""
        kind = next((one for one in ("validation", "test", "predict") if event.startswith(f"on_{one}_batch")), None)
        if kind is None:
            return 0
        return _several(self.asked, kind)


def _several(asked: Given, name: str) -> int | None:
    source = asked.sources.get("val" if name == "validation" else name)  # type: ignore[call-overload]
    if source is None or source.owner is not None:
        return None
    value = source.value
    return int(isinstance(value, (list, tuple, dict)) and len(value) > 1)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        found = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return []
    return [one for one in found if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]


def _names(base: type, event: str) -> tuple[str, ...]:
    function = getattr(base, event, None)
    return () if function is None else tuple(one.name for one in _parameters(function))


def _entry(obj: Any, id: str, origin: str, read: Reader) -> Callback:
    cls, own = type(obj), vars(obj)
    public = [name for name in own if not name.startswith("_")]
    return Callback(
        id=id,
        cls=cls.__name__,
        classes=classes(cls),
        origin=origin,
        mine=origin == "cbs",
        shipped=read.is_shipped(cls),
        place=class_place(cls),
        methods=read.methods(cls, own),
        attributes=tuple(dict.fromkeys([*public, *(name for one in read.owners(cls) for name in vars(one))])),
        settings={name.lstrip("_"): value for name, value in plain_settings(SETTINGS, own, cls).items()},
        ignores=class_ignores(cls),
    )


DEFAULTS: Mapping[str, Setting] = {"interval": "epoch", "frequency": 1, "strict": True, "reduce_on_plateau": True}
"""With these Lightning looks for the figure of a ReduceLROnPlateau after each epoch, and fails without it."""

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.Try, ast.BoolOp, ast.FunctionDef, ast.Lambda)


def _plateau(entry: Callback) -> Iterator[tuple[str, Setting]]:
    """Yield the figure that a ReduceLROnPlateau of the module is to follow, as `configure_optimizers` spells it.

    Nothing where its source leaves open whether it follows one at all.
    """
    method = entry.method("configure_optimizers")
    if method is None or method.shipped or method.node is None:
        return
    inside = [one for one in ast.walk(method.node) if one is not method.node]
    returns = [one for one in inside if isinstance(one, ast.Return)]
    if len(returns) != 1 or any(isinstance(one, BRANCHES) for one in inside):
        return
    given = _scheduled(method.node, returns[0].value)
    scheduler, monitor = _spelled(method.node, given.get("scheduler")), given.get("monitor")
    plain = all(_constant(given[name]) == value for name, value in DEFAULTS.items() if name in given)
    watches = isinstance(scheduler, ast.Call) and ast.unparse(scheduler.func).endswith("ReduceLROnPlateau")
    if plain and watches and isinstance(monitor, ast.Constant) and isinstance(monitor.value, str):
        yield "plateau_monitor", monitor.value


def _scheduled(tree: ast.AST, value: ast.expr | None) -> dict[str, ast.expr]:
    """Return what is said of the only scheduler: in a dict with the optimizer, or in the second of two lists."""
    value = _spelled(tree, value)
    if isinstance(value, ast.Tuple) and len(value.elts) == 2:
        second = _spelled(tree, value.elts[1])
        return _items(_spelled(tree, second.elts[0])) if isinstance(second, ast.List) and len(second.elts) == 1 else {}
    given = _items(value)
    scheduler = given.get("lr_scheduler")
    if scheduler is None:
        return {}
    inner = _spelled(tree, scheduler)
    return _items(inner) if isinstance(inner, ast.Dict) else {"scheduler": scheduler, **given}


def _constant(value: ast.expr) -> object:
    return getattr(value, "value", None)


def _spelled(tree: ast.AST, value: ast.expr | None) -> ast.expr | None:
    """Return what a name is given, where it is given something once; any other expression itself."""
    if not isinstance(value, ast.Name):
        return value
    found = assigned(tree, value.id)
    return found[0] if len(found) == 1 else None


def _items(value: ast.expr | None) -> dict[str, ast.expr]:
    """Return what a dict holds under the names that it spells out; nothing where it spells out another kind."""
    if not isinstance(value, ast.Dict) or not all(isinstance(one, ast.Constant) for one in value.keys):
        return {}
    return {str(getattr(key, "value", "")): one for key, one in zip(value.keys, value.values, strict=True)}


def _settings(asked: Given) -> dict[str, Setting]:
    trainer = asked.trainer
    found: dict[str, Setting] = {}
    for name in TRAINER:
        value = getattr(trainer, name, None)
        if isinstance(value, PLAIN):
            found[name] = value
    if asked.epochs is not None:
        found["max_epochs"] = asked.epochs
    found["logger"] = bool(trainer.loggers)
    found["enable_checkpointing"] = bool(trainer.checkpoint_callbacks)
    found["fast_dev_run"] = bool(trainer.fast_dev_run)
    found["strategy"] = type(trainer.strategy).__name__
    found["automatic_optimization"] = asked.automatic
    return found


def _stages(asked: Given) -> dict[str, Setting]:
    """Return what a fit has of a validation: `validates` says whether it has any, as far as that is known."""
    if asked.run != "fit":
        return {}
    source = asked.sources["val"]
    step, data = (
        asked.overrides(STEPS["val"]),
        source.defined and (source.owner is not None or source.value is not None),
    )
    counted = step and data and not batches(asked, "val").none
    return {"validation_step": step, "validation_data": data, "validates": counted}
