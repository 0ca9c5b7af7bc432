"""What fastai calls its parts, for the reader of handlers: which attributes lead to the learner, and whose they are."""

from __future__ import annotations

from types import MappingProxyType

from fastai.learner import Learner
from torch import nn

from loopscope.effects import Vocabulary

NESTING = (
    "fit",
    "fit_one_cycle",
    "fit_flat_cos",
    "fit_sgdr",
    "fine_tune",
    "lr_find",
    "validate",
    "get_preds",
    "predict",
    "tta",
    "show_results",
    "_do_epoch_validate",
    "_do_epoch_train",
    "one_batch",
)
"""Methods of the learner that fire events: a handler that calls one runs a loop inside the loop."""

VOCABULARY = Vocabulary(
    learner=frozenset({"learn"}),
    roots=MappingProxyType(
        {
            "model": "model",
            "opt": "optimizer",
            "loss_func": "loss",
            "dls": "data",
            "dl": "data",
            "xb": "data",
            "yb": "data",
            "x": "data",
            "y": "data",
        }
    ),
    owners=(("learner", Learner), ("model", nn.Module)),
    loops=frozenset(NESTING),
    stores=frozenset({"store_attr"}),
    pure=frozenset({"to_detach", "ordered_cbs"}),
)
"""How a fastai callback reaches the learner (`self.learn`) and what the learner's attributes are."""

WAITING = MappingProxyType(
    {
        "to_detach": "copies to the CPU",
        "to_np": "copies to the CPU",
        "accumulate": "fastai's metrics copy to the CPU there",
    }
)
"""Functions of fastai that make the host wait for the device -> how."""
