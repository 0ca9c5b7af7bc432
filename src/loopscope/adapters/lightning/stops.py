"""Whether something may end the training before its settings do: a handler that sets `trainer.should_stop`."""

from __future__ import annotations

from dataclasses import dataclass

from loopscope.adapters.lightning.binding import Bound, Found
from loopscope.adapters.lightning.given import Given

INSIDE = frozenset(
    {
        "on_train_epoch_start",
        "on_before_batch_transfer",
        "transfer_batch_to_device",
        "on_after_batch_transfer",
        "on_train_batch_start",
        "optimizer_step",
        "training_step",
        "on_before_zero_grad",
        "optimizer_zero_grad",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "configure_gradient_clipping",
        "lr_scheduler_step",
        "on_train_batch_end",
        "on_save_checkpoint",
        "state_dict",
    }
)
"""Events of a training batch."""

VALIDATION = frozenset(
    {
        "val_dataloader",
        "on_validation_model_zero_grad",
        "on_validation_model_eval",
        "on_validation_start",
        "on_validation_epoch_start",
        "on_validation_batch_start",
        "validation_step",
        "on_validation_batch_end",
        "on_validation_epoch_end",
        "on_validation_end",
        "on_validation_model_train",
    }
)

AFTER = frozenset({"on_train_epoch_end", "on_train_end", "on_fit_end", "teardown", "on_exception"})
"""Events at which an epoch is over: what stops there ends the training with that epoch, or is too late."""


@dataclass(frozen=True, slots=True)
class Stops:
    """`any`: something may stop the training; `before`: before its first epoch; `inside`: in the middle of an epoch.

    `who` names the handlers: `EarlyStopping.on_validation_end`.
    """

    any: bool = False
    before: bool = False
    inside: bool = False
    who: tuple[str, ...] = ()


def stops(given: Given, bound: Bound, *, sanity: bool, amid: bool) -> Stops:
    """Return what may stop a fit; `sanity`: it validates before the training, `amid`: in the middle of an epoch."""
    found = [one for one in bound.all() if one.stops and not _never(given, one)]
    events = {one.handler.event for one in found}
    early = events & VALIDATION and sanity and any(not _is_stopping(given, one) for one in found)
    return Stops(
        any=bool(events - {"on_train_end", "on_fit_end", "teardown", "on_exception"}),
        before=bool(events - INSIDE - VALIDATION - AFTER) or bool(early),
        inside=bool(events & INSIDE) or bool(events & VALIDATION and amid) or "on_train_start" in events,
        who=tuple(dict.fromkeys(f"{one.handler.callback}.{one.handler.method}" for one in found)),
    )


def _is_stopping(given: Given, found: Found) -> bool:
    return isinstance(found.owner, given.package.part("callbacks").EarlyStopping)


def _never(given: Given, found: Found) -> bool:
    """Return whether EarlyStopping looks at its metric at the other one of its two events."""
    if not _is_stopping(given, found):
        return False
    stock = given.package.part("callbacks").EarlyStopping
    own = given.package.is_overridden(found.handler.method, found.owner, stock)
    own = own or given.package.is_overridden("_run_early_stopping_check", found.owner, stock)
    if own:
        return False
    trainer = given.trainer
    at_end = found.owner._check_on_train_epoch_end
    if at_end is None:  # it decides in its setup
        at_end = getattr(trainer, "val_check_interval", None) == 1.0 and trainer.check_val_every_n_epoch == 1
    return bool(trainer.fast_dev_run) or bool(at_end) is not (found.handler.method == "on_train_epoch_end")
