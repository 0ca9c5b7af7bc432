"""What rules read of a Keras run beside its loop: the callbacks with their methods and settings, and the model."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import keras
from keras.callbacks import Callback as Base
from keras.callbacks import LearningRateScheduler, ReduceLROnPlateau

from loopscope.adapters.keras.arguments import Arguments
from loopscope.adapters.keras.members import HOOKS, Member, static
from loopscope.adapters.keras.notes import backend
from loopscope.adapters.keras.reading import own
from loopscope.adapters.keras.vocabulary import VOCABULARY
from loopscope.callbacks import Callback, Examined, Method, Setting
from loopscope.examining import (
    PLAIN,
    Passed,
    Reader,
    may_write,
    plain_settings,
)

SETTINGS = (
    *("monitor", "mode", "patience", "min_delta", "start_from_epoch", "restore_best_weights", "save_best_only"),
    *("save_weights_only", "save_freq", "filepath", "filename", "append", "backup_dir", "delete_checkpoint", "log_dir"),
    *("histogram_freq", "update_freq", "factor", "cooldown", "min_lr", "swap_on_epoch", "async_safe"),
)
"""Attributes of callbacks that rules ask for."""

OPTIMIZER = ("gradient_accumulation_steps", "clipnorm", "clipvalue", "global_clipnorm", "use_ema")
"""Attributes of optimizers that rules ask for."""

CALL = (
    *("epochs", "initial_epoch", "batch_size", "steps_per_epoch", "verbose", "shuffle"),
    *("validation_split", "validation_freq", "validation_steps"),
)
"""Arguments of the call that rules ask for."""

NAMING = ("train_step", "test_step", "compute_metrics", "get_metrics_result", "metrics", "fit", "evaluate")
"""Methods of a model that decide under which names its figures go."""


def examine(model: Any, run: str, arguments: Arguments, members: Sequence[Member]) -> Examined:
    """Return the callbacks of a run, in the order of Keras's list, and what the model and the call are set to."""
    read = reader()
    callbacks = tuple(_callback(member, members[:at], read) for at, member in enumerate(members))
    return Examined(
        callbacks=callbacks,
        settings=_settings(model, run, arguments),
        events=HOOKS,
        figures=_figures(model, run, arguments, members, callbacks),
    )


def reader() -> Reader:
    """Return how Keras's callbacks are read: a handler is given a batch or epoch and the logs, or the logs alone."""
    return Reader(Base, (os.path.dirname(keras.__file__) + os.sep,), passed, VOCABULARY, _given)


def passed(event: str) -> Passed | None:
    """Return what Keras passes at an event: `CallbackList` names the logs behind a batch, and only there."""
    if event not in HOOKS:
        return None
    if "batch_" in event:
        return Passed(1, ("logs",))
    return Passed(2) if "_epoch_" in event else Passed(1)


def _given(event: str) -> Sequence[str]:
    if "batch_" in event:
        return ("batch",)
    return ("epoch", "logs") if "_epoch_" in event else ("logs",)


def _callback(member: Member, earlier: Sequence[Member], read: Reader) -> Callback:
    cls, attributes = member.cls, member.attributes
    first = next((one for one in earlier if one.obj is member.obj and member.obj is not None), None)
    return read.callback(
        member.id,
        cls,
        attributes,
        origin=member.origin,
        mine=member.mine,
        same_as="" if first is None else first.id,
        settings=plain_settings(SETTINGS, attributes, cls),
    )


# -- the model and the call ----------------------------------------------------------------------------------


def _settings(model: Any, run: str, arguments: Arguments) -> Mapping[str, Setting]:
    held = vars(model)
    found: dict[str, Setting] = {
        "compiled": bool(held.get("compiled", False)),
        "backend": backend(),
        "jit_compile": bool(held.get("_jit_compile")),
        "run_eagerly": bool(held.get("_run_eagerly")),
        "validation_data": run == "fit" and _validates(arguments),
        **{f"own_{name}": own(model, name) is not None for name in ("train_step", "test_step")},
        **dict(_of_optimizer(held.get("optimizer"))),
        **{name: arguments[name] for name in CALL if isinstance(arguments[name], PLAIN)},
    }
    policy = getattr(held.get("_dtype_policy"), "name", None)
    if isinstance(policy, str):
        found["dtype_policy"] = policy
    names = _metrics(model)
    if names is not None:
        found["metrics"] = names
    return found


def _of_optimizer(optimizer: Any) -> Iterator[tuple[str, Setting]]:
    """Yield the settings of an optimizer; one that scales the loss hands its steps to another, which clips."""
    if optimizer is None:
        return
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    yield "optimizer", type(optimizer).__name__
    yield "loss_scaled", scaled
    for prefix, one in (("", optimizer), *((("inner_", optimizer.inner_optimizer),) if scaled else ())):
        held = getattr(one, "__dict__", {})
        yield from ((f"{prefix}{name}", held[name]) for name in OPTIMIZER if isinstance(held.get(name), PLAIN))


def _validates(arguments: Arguments) -> bool:
    return arguments["validation_data"] is not None or bool(arguments["validation_split"])


# -- the figures ---------------------------------------------------------------------------------------------


def _figures(
    model: Any, run: str, arguments: Arguments, members: Iterable[Member], callbacks: Iterable[Callback]
) -> tuple[str, ...] | None:
    """Return the names in `logs` at the end of an epoch or a test; None where anything but Keras has a say in them."""
    names = _metrics(model)
    if names is None or run == "predict" or any(_adds(method) for one in callbacks for method in one.methods):
        return None
    found = ("loss", *names)
    if run != "fit":
        return found
    rates = any(issubclass(one.cls, (LearningRateScheduler, ReduceLROnPlateau)) for one in members)
    return (*found, *(f"val_{name}" for name in found if _validates(arguments)), *(["learning_rate"] * rates))


def _adds(method: Method) -> bool:
    """Return whether a method that is not Keras's own may put figures into the `logs` that the next one is given.

    Whoever else gets hold of them may do so: a helper that is given `logs`, an attribute that keeps them.
    """
    if method.shipped or not method.name.startswith("on_"):
        return False
    if method.node is None:
        return True
    names, whole = _logs(method)
    if any(isinstance(node, ast.Name) and node.id in whole for node in ast.walk(method.node)):
        return True
    return may_write(
        method.node,
        lambda node: isinstance(node, ast.Name) and node.id in names,
        lambda call: _is_passed_on(call, method),
    )


def _logs(method: Method) -> tuple[set[str], set[str]]:
    """Return the parameters that may be `logs`, by whatever name, and those that may have it among others."""
    assert method.node is not None
    found = method.node.args
    listed = [*found.posonlyargs, *found.args][1 if method.owner else 0 :]
    names = {one.arg for one in (*listed, *found.kwonlyargs)} - {"self", "epoch", "batch"}
    return names, {one.arg for one in (found.vararg, found.kwarg) if one is not None}


def _is_passed_on(call: ast.Call, method: Method) -> bool:
    """Return whether a call is that of the same method of Keras's own: `super().on_epoch_end(epoch, logs)`."""
    parts = ast.unparse(call.func).split(".")
    return parts == ["super()", method.name] and (not method.hides or method.hides_shipped)


def _metrics(model: Any) -> tuple[str, ...] | None:
    """Return the names of the compiled metrics as they stand in `logs`; None where they are not sure before a run."""
    held = vars(model)
    if not held.get("compiled") or any(own(model, name) is not None for name in NAMING) or _has_others(model):
        return None
    compiled = held.get("_compile_metrics")
    if compiled is None:
        return () if _is_single(model) else None
    if not _is_single(model):
        return None
    listed = [compiled._user_metrics, compiled._user_weighted_metrics]
    names = [_metric(one) for group in listed for one in keras.tree.flatten(group) if one is not None]
    known = tuple(name for name in names if name is not None)
    return known if len(known) == len(names) == len(set(names)) else None


def _is_single(model: Any) -> bool:
    """Return whether the model has one output and one loss: figures of several are named after the outputs."""
    outputs = static(type(model), "outputs", None) is not None or "_outputs" in vars(model) or "outputs" in vars(model)
    listed = getattr(model, "outputs", None) if outputs else None
    return isinstance(listed, list) and len(listed) == 1 and not isinstance(vars(model).get("loss"), (list, dict))


def _has_others(model: Any) -> bool:
    """Return whether the model or its layers have metrics of their own, beside those it was compiled with."""
    layers = model._flatten_layers(include_self=False)
    return bool(vars(model).get("_metrics")) or any(vars(layer).get("_metrics") for layer in layers)


def _metric(one: Any) -> str | None:
    """Return the name that Keras gives a metric: a string's own, a metric's, a plain function's."""
    if isinstance(one, str):
        return one
    if isinstance(one, keras.metrics.Metric):
        return str(one.name) if type(one).__module__.partition(".")[0] == "keras" else None
    plain = isinstance(one, FunctionType) and one.__name__.isidentifier() and one.__name__.islower()
    return str(one.__name__) if plain else None
