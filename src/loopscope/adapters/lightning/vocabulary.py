"""What Lightning calls its parts, for the reader of handlers: which names lead to the trainer, and whose they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from torch import nn
from torch.optim import Optimizer

from loopscope.adapters.lightning.packages import Package
from loopscope.effects import On, Vocabulary

NESTING = ("fit", "validate", "test", "predict", "save_checkpoint")
"""Methods of the trainer that call hooks: a handler that calls one runs a part of a loop inside itself."""

STOP = "should_stop"
"""The attribute of the trainer with which a handler ends the training."""

PARAMETERS: Mapping[str, On] = MappingProxyType(
    {
        "trainer": "learner",
        "pl_module": "model",
        "batch": "data",
        "outputs": "data",
        "checkpoint": "data",
        "optimizer": "optimizer",
        "loss": "loss",
    }
)

ROOTS: Mapping[str, On] = MappingProxyType(
    {
        "optimizers": "optimizer",
        "lr_schedulers": "optimizer",
        "lr_scheduler_configs": "optimizer",
        "model": "model",
        "lightning_module": "model",
        "datamodule": "data",
        "train_dataloader": "data",
        "val_dataloaders": "data",
        "logger": "outside",
        "loggers": "outside",
    }
)


@dataclass(frozen=True, slots=True)
class Vocabularies:
    """The same words for handlers of callbacks (and strategies), of the module, and of the data module."""

    callback: Vocabulary
    module: Vocabulary
    datamodule: Vocabulary


@functools.lru_cache(maxsize=4)
def vocabularies(package: Package) -> Vocabularies:
    """Return how handlers of this package reach the trainer (`trainer`, `self.trainer`) and what its parts are."""
    classes = package.part()
    callback = Vocabulary(
        learner=frozenset({"trainer", "_trainer"}),
        roots=ROOTS,
        loops=frozenset(NESTING),
        pure=frozenset({"optimizers", "lr_schedulers"}),
        parameters=PARAMETERS,
        word="trainer",
        steers=frozenset({STOP}),
        errors=frozenset({"MisconfigurationException"}),
        kinds=(("learner", classes.Trainer), ("model", nn.Module), ("optimizer", Optimizer)),
        named=(classes.LightningModule, classes.LightningDataModule),
    )
    returned = replace(callback, returns=True)  # -1 from on_train_batch_start, say, ends the epoch
    return Vocabularies(callback, replace(returned, owner_is="model"), replace(returned, owner_is="data"))


WAITING = MappingProxyType(
    {
        "save_checkpoint": "copies every weight to the CPU",
        "reduce_boolean_decision": "copies to the CPU",
    }
)
"""Functions of Lightning that make the host wait for the device -> how."""
