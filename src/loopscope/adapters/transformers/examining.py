"""What rules read of a Transformers run beside its loop: the callbacks with methods and settings, and the trainer."""

from __future__ import annotations

import ast
import enum
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from transformers.trainer_callback import TrainerCallback

from loopscope.adapters.transformers.control import HOME
from loopscope.adapters.transformers.members import Member
from loopscope.adapters.transformers.overrides import Overrides
from loopscope.adapters.transformers.vocabulary import EVENT_NAMES, PASSED, VOCABULARY
from loopscope.callbacks import Callback, Examined, Method, Setting
from loopscope.examining import PLAIN, Passed, Reader, plain_settings

SETTINGS = ("early_stopping_patience", "early_stopping_threshold", "monitor", "patience", "mode")
"""Attributes of callbacks that rules ask for."""

ARGUMENTS = (
    *("fp16", "bf16", "fp16_full_eval", "bf16_full_eval", "torch_compile", "gradient_checkpointing"),
    *("max_grad_norm", "gradient_accumulation_steps", "optim", "learning_rate", "lr_scheduler_type", "warmup_steps"),
    *("num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size"),
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "prediction_loss_only", "label_names"),
    *("save_strategy", "save_steps", "save_total_limit", "load_best_model_at_end", "metric_for_best_model"),
    *("greater_is_better", "logging_strategy", "logging_steps", "logging_first_step", "report_to", "disable_tqdm"),
    *("push_to_hub", "remove_unused_columns", "skip_memory_metrics", "auto_find_batch_size"),
    *("include_num_input_tokens_seen", "restore_callback_states_from_checkpoint"),
)
"""Fields of `TrainingArguments` that rules ask for."""

GIVEN = ("model", "processing_class", "optimizer", "lr_scheduler", "train_dataloader", "eval_dataloader")
"""What `CallbackHandler.call_event` gives by name, at every event."""

FIGURES: Mapping[str, str] = {"on_log": "logs", "on_evaluate": "metrics", "on_predict": "metrics"}
"""Event -> what is given there besides."""

NAMING = ("evaluate", "_evaluate", "evaluation_loop", "predict", "log", "_maybe_log_save_evaluate", "train")
"""Methods of a trainer that decide under which names figures go."""


def examine(
    trainer: Any, run: str, members: Sequence[Member], overridden: Overrides, given: Mapping[str, object]
) -> Examined:
    """Return the callbacks of a run in calling order, and what the trainer is set to; `given` are its arguments."""
    read = reader()
    callbacks = tuple(_callback(member, members[:at], read) for at, member in enumerate(members))
    asked = given.get("eval_dataset")
    data = vars(trainer).get("eval_dataset") if asked is None else asked
    renamed = given.get("metric_key_prefix", "eval") != "eval"
    return Examined(
        callbacks=callbacks,
        settings=_settings(trainer, data),
        events=EVENT_NAMES,
        figures=None if renamed else _figures(trainer, run, data, callbacks, overridden),
    )


def reader() -> Reader:
    """Return how callbacks of Transformers are read: args, state and control by place, everything else by name."""
    return Reader(TrainerCallback, (HOME + os.sep,), passed, VOCABULARY, lambda event: PASSED)


def passed(event: str) -> Passed | None:
    """Return what Transformers passes at an event: `passed("on_log").words` ends with `"logs"`."""
    if event not in EVENT_NAMES:
        return None
    more = (FIGURES[event],) if event in FIGURES else ()
    return Passed(len(PASSED), (*GIVEN, *more))


def _callback(member: Member, earlier: Sequence[Member], read: Reader) -> Callback:
    cls = member.cls
    attributes: Mapping[str, Any] = getattr(member.obj, "__dict__", {})
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


def _settings(trainer: Any, data: object) -> Mapping[str, Setting]:
    own = vars(trainer)
    return {
        **dict(_of_arguments(own.get("args"))),
        "compute_metrics": own.get("compute_metrics") is not None,
        "train_dataset": own.get("train_dataset") is not None,
        "eval_dataset": data is not None,
    }


def _of_arguments(args: Any) -> Iterator[tuple[str, Setting]]:
    held = getattr(args, "__dict__", {})
    for name in ARGUMENTS:
        value = held.get(name, enum)
        value = value.value if isinstance(value, enum.Enum) else value
        if isinstance(value, PLAIN):
            yield name, value
        elif isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
            yield name, tuple(value)


# -- the figures ---------------------------------------------------------------------------------------------

TRAINING = (
    *("loss", "grad_norm", "learning_rate", "epoch"),
    *("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss"),
)
"""What a training logs, the summary at its end included."""

EVALUATED = ("loss", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
"""What an evaluation gives behind its prefix, where nobody computes metrics."""


def _figures(
    trainer: Any, run: str, data: object, callbacks: Iterable[Callback], overridden: Overrides
) -> tuple[str, ...] | None:
    """Return the names of all figures; None where a function of the user's, or an override, may add others."""
    own = vars(trainer)
    args = own.get("args")
    if own.get("compute_metrics") is not None or any(name in overridden for name in NAMING):
        return None
    if not getattr(args, "skip_memory_metrics", True) or getattr(args, "include_num_input_tokens_seen", "no") != "no":
        return None
    if run == "predict" or any(_adds(method) for one in callbacks for method in one.methods):
        return None
    evaluates = run == "evaluate" or getattr(args, "eval_on_start", False) or _value(args, "eval_strategy") != "no"
    found = tuple(_evaluated(data)) if evaluates and data is not None else ()
    return (*TRAINING, *found) if run == "train" else (*found, "epoch")


def _value(args: Any, name: str) -> object:
    value = getattr(args, name, None)
    return value.value if isinstance(value, enum.Enum) else value


def _evaluated(data: object) -> Iterator[str]:
    """Yield the names of an evaluation's figures: those of a dict of data sets are told apart by its keys."""
    prefixes = [f"eval_{name}" for name in data] if isinstance(data, dict) else ["eval"]
    yield from (f"{prefix}_{name}" for prefix in prefixes for name in EVALUATED)


def _adds(method: Method) -> bool:
    """Return whether a method that is not Transformers' own may put figures into what the next one is given."""
    if method.shipped or method.name not in FIGURES:
        return False
    return method.node is None or any(_writes_item(node) for node in ast.walk(method.node))


def _writes_item(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in FIGURES.values()
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr in ("update", "setdefault") and ast.unparse(node.func.value) in FIGURES.values()
