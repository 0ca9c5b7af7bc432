"""Events of older versions: plain data, what each was called and what has taken its place.

fastai 2's `begin_...` became `before_...` in 2.0 (fastbook#458); those of fastai 1 are from its `callback.py`.
Lightning: its upgrade guides (1.4 to 1.7, advanced) and pytorch-lightning#14834; `..._epoch_end` of the module ended
with 2.0, whose trainer refuses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Older:
    """An event that is none any more: `until` is the version up to which it was one, `names` what is one now."""

    names: tuple[str, ...]
    until: str


def _all(until: str, **names: str) -> dict[str, Older]:
    return {old: Older(tuple(new.split()), until) for old, new in names.items()}


OLDER: Mapping[str, Mapping[str, Older]] = MappingProxyType(
    {
        "fastai": {
            **_all(
                "the betas of fastai 2",
                begin_fit="before_fit",
                begin_epoch="before_epoch",
                begin_train="before_train",
                begin_batch="before_batch",
                begin_validate="before_validate",
            ),
            **_all(
                "fastai 1",
                on_train_begin="before_fit",
                on_epoch_begin="before_epoch",
                on_batch_begin="before_batch",
                on_loss_begin="after_pred",
                on_backward_begin="after_loss before_backward",
                on_backward_end="after_backward before_step",
                on_step_end="after_step",
                on_batch_end="after_batch",
                on_epoch_end="after_epoch",
                on_train_end="after_fit",
            ),
        },
        "lightning": {
            **_all(
                "Lightning 1.7",
                on_batch_start="on_train_batch_start",
                on_batch_end="on_train_batch_end",
                on_epoch_start="on_train_epoch_start on_validation_epoch_start on_test_epoch_start",
                on_epoch_end="on_train_epoch_end on_validation_epoch_end on_test_epoch_end",
                on_pretrain_routine_start="on_fit_start",
                on_pretrain_routine_end="on_fit_start",
                on_before_accelerator_backend_setup="setup",
                on_configure_sharded_model="setup",
                on_init_start="on_train_start",
                on_init_end="on_train_start",
                on_hpc_save="on_save_checkpoint",
                on_hpc_load="on_load_checkpoint",
            ),
            **_all("Lightning 1.6", on_keyboard_interrupt="on_exception"),
            **_all(
                "Lightning 1.9",
                training_epoch_end="on_train_epoch_end",
                validation_epoch_end="on_validation_epoch_end",
                test_epoch_end="on_test_epoch_end",
                training_step_end="training_step",
                validation_step_end="validation_step",
                test_step_end="test_step",
            ),
        },
    }
)
"""Framework -> name of an event that it had -> what became of it."""
