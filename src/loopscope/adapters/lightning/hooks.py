"""Every hook and profiled action of a run: who is called at it, in which order, and which line calls it.

Verified against Lightning 2.6.6 by the conformance suite. Constraint: plain data, the same for every trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from loopscope.adapters.lightning.sites import Site

Who = Literal["callbacks", "others", "monitors", "module", "strategy", "datamodule", "data", "step"]
"""Who is called: all callbacks, those that monitor no metric, those that do, the module, the strategy, the data module,
the module or the data module (whichever has the hook), the module through the strategy (if that is Lightning's)."""

FIT_LOOP, EPOCH_LOOP = "loops.fit_loop", "loops.training_epoch_loop"
EVALUATION_LOOP, PREDICTION_LOOP = "loops.evaluation_loop", "loops.prediction_loop"
OPTIMIZATION, PRECISION = "loops.optimization.automatic", "plugins.precision.precision"
CHECKPOINTS = "trainer.connectors.checkpoint_connector"
MODULE = "core.module"

LOADED = "LightningModule.on_load_checkpoint"
"""The module's own hook comes before the state is loaded, the callbacks' one of that name after it."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One event: `called` in this order, by the line of `site` that holds its name, or a call of `by` if that is given.

    `method` is what is called, where that is not the event's own name.
    """

    called: tuple[Who, ...]
    site: Site
    by: str = ""
    method: str = ""


def _hook(module: str, function: str, *called: Who, by: str = "", method: str = "") -> Hook:
    return Hook(called, Site(module, function), by, method)


_LOADER = _hook(
    "trainer.connectors.data_connector", "_DataLoaderSource.dataloader", "data", by="_call_lightning_module_hook"
)


def _evaluation(name: str) -> dict[str, Hook]:
    loop = "_EvaluationLoop"
    return {
        f"on_{name}_model_eval": _hook(EVALUATION_LOOP, f"{loop}._on_evaluation_model_eval", "module"),
        f"on_{name}_start": _hook(EVALUATION_LOOP, f"{loop}._on_evaluation_start", "callbacks", "module", "strategy"),
        f"on_{name}_epoch_start": _hook(EVALUATION_LOOP, f"{loop}._on_evaluation_epoch_start", "callbacks", "module"),
        f"on_{name}_batch_start": _hook(EVALUATION_LOOP, f"{loop}._evaluation_step", "callbacks", "module"),
        f"{name}_step": _hook(EVALUATION_LOOP, f"{loop}._evaluation_step", "strategy", "step"),
        f"on_{name}_batch_end": _hook(EVALUATION_LOOP, f"{loop}._evaluation_step", "callbacks", "module"),
        f"on_{name}_epoch_end": _hook(EVALUATION_LOOP, f"{loop}._on_evaluation_epoch_end", "callbacks", "module"),
        f"on_{name}_end": _hook(EVALUATION_LOOP, f"{loop}._on_evaluation_end", "callbacks", "module", "strategy"),
        f"on_{name}_model_train": _hook(EVALUATION_LOOP, f"{loop}._on_evaluation_model_train", "module"),
    }


HOOKS: Mapping[str, Hook] = MappingProxyType(
    {
        "configure_callbacks": _hook(
            "trainer.connectors.callback_connector", "_CallbackConnector._attach_model_callbacks", "module"
        ),
        "prepare_data": _hook(
            "trainer.connectors.data_connector", "_DataConnector.prepare_data", "datamodule", "module"
        ),
        "setup": _hook("trainer.call", "_call_setup_hook", "datamodule", "callbacks", "module"),
        "configure_sharded_model": _hook("trainer.call", "_call_configure_model", "module"),
        "configure_model": _hook("trainer.call", "_call_configure_model", "module"),
        LOADED: _hook(CHECKPOINTS, "_CheckpointConnector.restore_model", "module", method="on_load_checkpoint"),
        "load_state_dict": _hook(CHECKPOINTS, "_CheckpointConnector.restore_datamodule", "datamodule"),
        "on_load_checkpoint": _hook(
            CHECKPOINTS, "_CheckpointConnector.restore_callbacks", "callbacks", by="_call_callbacks_on_load_checkpoint"
        ),
        "configure_optimizers": _hook("core.optimizer", "_init_optimizers_and_lr_schedulers", "module"),
        "on_fit_start": _hook("trainer.trainer", "Trainer._run", "callbacks", "module"),
        "on_sanity_check_start": _hook("trainer.trainer", "Trainer._run_sanity_check", "callbacks"),
        "on_sanity_check_end": _hook("trainer.trainer", "Trainer._run_sanity_check", "callbacks"),
        **{f"{kind}_dataloader": _LOADER for kind in ("train", "val", "test", "predict")},
        "on_train_start": _hook(FIT_LOOP, "_FitLoop.on_run_start", "callbacks", "module", "strategy"),
        "on_train_epoch_start": _hook(FIT_LOOP, "_FitLoop.on_advance_start", "callbacks", "module"),
        "run_training_epoch": _hook(FIT_LOOP, "_FitLoop.advance", by="profile"),
        "train_dataloader_next": _hook(EPOCH_LOOP, "_TrainingEpochLoop.advance", by="next"),
        "val_next": _hook(EVALUATION_LOOP, "_EvaluationLoop.run", by="next"),
        "test_next": _hook(EVALUATION_LOOP, "_EvaluationLoop.run", by="next"),
        "predict_next": _hook(PREDICTION_LOOP, "_PredictionLoop.run", by="next"),
        "on_before_batch_transfer": _hook(MODULE, "LightningModule._on_before_batch_transfer", "data"),
        "batch_to_device": _hook(EPOCH_LOOP, "_TrainingEpochLoop.advance", "strategy"),
        "transfer_batch_to_device": _hook(MODULE, "LightningModule._apply_batch_transfer_handler", "data"),
        "on_after_batch_transfer": _hook(MODULE, "LightningModule._apply_batch_transfer_handler", "data"),
        "on_train_batch_start": _hook(EPOCH_LOOP, "_TrainingEpochLoop.advance", "callbacks", "module", "strategy"),
        "run_training_batch": _hook(EPOCH_LOOP, "_TrainingEpochLoop.advance", by="profile"),
        "optimizer_step": _hook(OPTIMIZATION, "_AutomaticOptimization._optimizer_step", "module"),
        "training_step": _hook(OPTIMIZATION, "_AutomaticOptimization._training_step", "strategy", "step"),
        "on_before_zero_grad": _hook(
            OPTIMIZATION, "_AutomaticOptimization._on_before_zero_grad", "callbacks", "module"
        ),
        "optimizer_zero_grad": _hook(OPTIMIZATION, "_AutomaticOptimization._optimizer_zero_grad", "module"),
        "backward": _hook(OPTIMIZATION, "_AutomaticOptimization._make_backward_fn", "strategy"),
        "on_before_backward": _hook(PRECISION, "Precision.pre_backward", "callbacks", "module"),
        "on_after_backward": _hook(PRECISION, "Precision.post_backward", "callbacks", "module"),
        "on_before_optimizer_step": _hook(PRECISION, "Precision._after_closure", "callbacks", "module"),
        "configure_gradient_clipping": _hook(PRECISION, "Precision._clip_gradients", "module"),
        "lr_scheduler_step": _hook(EPOCH_LOOP, "_TrainingEpochLoop._update_learning_rates", "module"),
        "on_train_batch_end": _hook(EPOCH_LOOP, "_TrainingEpochLoop.advance", "callbacks", "module"),
        "on_validation_model_zero_grad": _hook(EPOCH_LOOP, "_TrainingEpochLoop.on_advance_end", "module"),
        **_evaluation("validation"),
        **_evaluation("test"),
        "on_predict_model_eval": _hook(PREDICTION_LOOP, "_PredictionLoop._on_predict_model_eval", "module"),
        "on_predict_start": _hook(
            PREDICTION_LOOP, "_PredictionLoop._on_predict_start", "callbacks", "module", "strategy"
        ),
        "on_predict_epoch_start": _hook(
            PREDICTION_LOOP, "_PredictionLoop._on_predict_epoch_start", "callbacks", "module"
        ),
        "on_predict_batch_start": _hook(PREDICTION_LOOP, "_PredictionLoop._predict_step", "callbacks", "module"),
        "predict_step": _hook(PREDICTION_LOOP, "_PredictionLoop._predict_step", "strategy", "step"),
        "on_predict_batch_end": _hook(PREDICTION_LOOP, "_PredictionLoop._predict_step", "callbacks", "module"),
        "on_predict_epoch_end": _hook(PREDICTION_LOOP, "_PredictionLoop._on_predict_epoch_end", "callbacks", "module"),
        "on_predict_end": _hook(PREDICTION_LOOP, "_PredictionLoop._on_predict_end", "callbacks", "module", "strategy"),
        "on_train_epoch_end": _hook(FIT_LOOP, "_FitLoop.on_advance_end", "others", "module", "monitors"),
        "on_train_end": _hook(FIT_LOOP, "_FitLoop.on_run_end", "callbacks", "module", "strategy"),
        "on_fit_end": _hook("trainer.trainer", "Trainer._run", "callbacks", "module"),
        "teardown": _hook("trainer.call", "_call_teardown_hook", "datamodule", "callbacks", "module"),
        "on_exception": _hook("trainer.call", "_interrupt", "callbacks", "datamodule", "strategy"),
        "save_checkpoint": _hook("trainer.trainer", "Trainer.save_checkpoint", by="profile"),
        "state_dict": _hook(CHECKPOINTS, "_CheckpointConnector.dump_checkpoint", "datamodule"),
        "on_save_checkpoint": _hook(CHECKPOINTS, "_CheckpointConnector.dump_checkpoint", "callbacks", "module"),
    }
)
"""Event -> hook, in the order in which a run comes to them."""

ENCLOSING = frozenset(
    {
        "run_training_epoch",
        "run_training_batch",
        "train_dataloader_next",
        "val_next",
        "test_next",
        "predict_next",
        "batch_to_device",
        "transfer_batch_to_device",
        "optimizer_step",
        "training_step",
        "validation_step",
        "test_step",
        "predict_step",
        "optimizer_zero_grad",
        "backward",
        "configure_gradient_clipping",
        "lr_scheduler_step",
        "save_checkpoint",
    }
)
"""The events that are calls around something: other events, or a step of the framework's own."""

QUIET = frozenset({"on_sanity_check_start", "on_sanity_check_end", "on_load_checkpoint", "on_exception"})
"""The events at which only callbacks are called (and a data module, if there is one)."""
