"""The callbacks of Transformers, each alone and as they are combined, in every run; and trainers with its settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers.trainer_callback as core
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, integrations
from transformers.integrations import TensorBoardCallback

from loopscope.adapters.transformers import RUNS
from tests.adapters.cases.transformers import Net, Numbers, trainer
from tests.shipped.sweep import Use

NOT_ADDED = {
    "CallbackHandler": "what Transformers keeps callbacks in",
    "DefaultFlowCallback": "every trainer has it",
    "PrinterCallback": "every trainer without a bar has it",
    "ProgressCallback": "every trainer with a bar has it",
    "TrainerCallback": "the base of all",
}
"""Callbacks that nobody adds to a trainer, and why: the other uses have them where they belong."""

MISSING = (
    *("AzureMLCallback", "ClearMLCallback", "CodeCarbonCallback", "CometCallback", "DVCLiveCallback"),
    *("DagsHubCallback", "FlyteCallback", "KubeflowCallback", "MLflowCallback", "NeptuneCallback", "SwanLabCallback"),
    *("TrackioCallback", "WandbCallback"),
)
"""Callbacks for packages that are not installed: they are checked without their `__init__`, which asks for these."""

LEFT_BEHIND = {"_auto_end_run": False, "_run": None, "_initialized": False, "_volatile_checkpoints_dir": None}
"""What the `__del__` of some of them reads."""

ALONE: Mapping[str, Callable[[], Any]] = {
    "EarlyStoppingCallback": core.EarlyStoppingCallback,
    "TensorBoardCallback": TensorBoardCallback,
}

BEST = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
}
"""What EarlyStoppingCallback asks for."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "the best model": BEST,
    "evaluation by steps": {"eval_strategy": "steps", "eval_steps": 2, "logging_steps": 1},
    "saved by steps": {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1},
    "the best model is saved": {
        "eval_strategy": "epoch",
        "save_strategy": "best",
        "metric_for_best_model": "loss",
    },
    "accumulation": {"gradient_accumulation_steps": 4},
    "bfloat16, clipping, accumulation": {"bf16": True, "max_grad_norm": 0.5, "gradient_accumulation_steps": 2},
    "warm-up": {"lr_scheduler_type": "cosine", "warmup_steps": 2},
    "a plateau": {"lr_scheduler_type": "reduce_lr_on_plateau", **BEST},
    "by steps": {"max_steps": 3},
    "a bar, a first log": {"disable_tqdm": False, "logging_first_step": True, "logging_strategy": "epoch"},
    "evaluation at the start": {"eval_on_start": True, "eval_strategy": "epoch"},
}


def uses() -> Iterator[Use]:
    for name, make in ALONE.items():
        settings = BEST if name == "EarlyStoppingCallback" else {}
        for run in RUNS:
            yield Use(f"{name}, {run}", functools.partial(_with, make, settings), run, functools.partial(given, run))
    for name in MISSING:
        yield Use(name, trainer, "train", functools.partial(_unbuilt, name))
    for name, settings in SETTINGS.items():
        yield Use(f"a trainer, {name}", functools.partial(trainer, **settings), "train")
    for run in RUNS:
        yield Use(f"a bare trainer, {run}", trainer, run, functools.partial(given, run))
    yield Use("several", _several, "train")
    yield Use("from sequence to sequence", _sequences, "train")


def _with(make: Callable[[], Any], settings: Mapping[str, Any], folder: Path) -> Any:
    return trainer(folder, make(), **settings)


def _unbuilt(name: str, made: Any) -> Mapping[str, Any]:
    cls = getattr(integrations, name)
    callback = cls.__new__(cls)
    vars(callback).update(LEFT_BEHIND)
    return {"cbs": callback}


def _several(folder: Path) -> Any:
    return trainer(folder, core.EarlyStoppingCallback(3), TensorBoardCallback(), **BEST, disable_tqdm=False)


def _sequences(folder: Path) -> Any:
    args = Seq2SeqTrainingArguments(str(folder / "out"), report_to="none", use_cpu=True)
    return Seq2SeqTrainer(Net(), args, train_dataset=Numbers(8), eval_dataset=Numbers(6))


def given(run: str, made: Any) -> Mapping[str, Any]:
    return {"test_dataset": made.eval_dataset} if run == "predict" else {}
