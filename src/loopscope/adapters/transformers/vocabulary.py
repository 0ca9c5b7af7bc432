"""What Transformers calls its parts, for the reader of handlers: what the arguments of a callback's methods are."""

from __future__ import annotations

from types import MappingProxyType

from torch import nn
from transformers.trainer import Trainer
from transformers.trainer_callback import TrainerCallback

from loopscope.effects import Vocabulary

EVENT_NAMES = tuple(name for name in vars(TrainerCallback) if name.startswith("on_"))
"""The events of the installed Transformers: the methods of its base class of callbacks."""

PASSED = ("args", "state", "control")
"""What `CallbackHandler.call_event` gives by place."""

NESTING = ("train", "evaluate", "predict")
"""Methods of the trainer that call callbacks: a handler that calls one runs a loop inside the loop."""

STOP, STOP_EPOCH = "should_training_stop", "should_epoch_stop"
LOG, EVALUATE, SAVE = "should_log", "should_evaluate", "should_save"
FLAGS = (STOP, STOP_EPOCH, LOG, EVALUATE, SAVE)
"""The fields of `TrainerControl`, with which handlers change the loop."""

VOCABULARY = Vocabulary(
    learner=frozenset({"trainer", "_trainer"}),
    roots=MappingProxyType(
        {
            "model": "model",
            "model_wrapped": "model",
            "optimizer": "optimizer",
            "lr_scheduler": "optimizer",
            "train_dataset": "data",
            "eval_dataset": "data",
            "compute_loss_func": "loss",
        }
    ),
    loops=frozenset(NESTING),
    pure=frozenset({"is_world_process_zero", "is_local_process_zero"}),
    parameters=MappingProxyType(
        {
            "args": "learner",
            "state": "learner",
            "control": "learner",
            "model": "model",
            "optimizer": "optimizer",
            "lr_scheduler": "optimizer",
            "train_dataloader": "data",
            "eval_dataloader": "data",
            "processing_class": "data",
            "logs": "learner",
            "metrics": "learner",
        }
    ),
    word="trainer",
    steers=frozenset(FLAGS),
    kinds=(("learner", Trainer), ("model", nn.Module)),
)
"""How a callback of Transformers reaches the loop: by what its methods are given, or by a trainer that it holds."""

WAITING = MappingProxyType(
    {
        "nested_numpify": "copies to the CPU",
        "nested_gather": "waits for every process",
        "numpify": "copies to the CPU",
        "save_model": "copies every weight to the CPU",
        "save_pretrained": "copies every weight to the CPU",
    }
)
"""Functions of Transformers that make the host wait for the device -> how."""
