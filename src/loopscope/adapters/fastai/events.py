"""What each fastai event is for, in a sentence or two; an event that is not listed here is described by its name."""

from __future__ import annotations

from collections.abc import Iterable

DESCRIPTIONS = {
    "after_create": "The learner has just been built. Runs once, outside every fit.",
    "before_fit": "A fit, a validation or a prediction is about to start: prepare what has to last until after_fit.",
    "before_epoch": "A new pass over the data begins: reset what counts per epoch.",
    "before_train": "The training half of the epoch begins; learn.dl is the training data from here on.",
    "before_batch": (
        "A batch has been drawn, moved to the model's device and split into xb and yb: "
        "the last chance to change inputs or targets before the model sees them."
    ),
    "after_pred": "The model has answered: learn.pred can be changed before the loss is computed from it.",
    "after_loss": (
        "The loss is known (when the batch has targets): add a penalty to learn.loss_grad, "
        "the tensor that will be differentiated. Also fires in validation."
    ),
    "before_backward": "Training only: learn.loss_grad is about to be differentiated.",
    "after_cancel_backward": "A CancelBackwardException stopped the backward pass; the optimizer step still follows.",
    "after_backward": "The gradients are computed, or the backward pass was cancelled.",
    "before_step": "The gradients are there and the optimizer has not used them yet: clip, scale, inspect or skip.",
    "after_cancel_step": "A CancelStepException kept the optimizer from stepping; zero_grad follows all the same.",
    "after_step": "The parameters have been updated, or the step was cancelled; the gradients are not zeroed yet.",
    "after_cancel_batch": "A CancelBatchException ended the batch early, so nothing that was left of it ran.",
    "after_batch": "The batch is over, gradients included: count, log, update the progress bar.",
    "after_cancel_train": "A CancelTrainException ended training for this epoch; validation still follows.",
    "after_train": "The training half of the epoch is over, normally or cancelled.",
    "before_validate": "Validation begins, as half of an epoch or by itself, or a prediction; gradients are off.",
    "after_cancel_validate": "A CancelValidException ended the validation early.",
    "after_validate": "The validation is over, normally or cancelled: its losses and metrics are complete.",
    "after_cancel_epoch": "A CancelEpochException ended the epoch early; the next one still follows.",
    "after_epoch": "The epoch is over, normally or cancelled: the place to log, to save and to stop early.",
    "after_cancel_fit": "A CancelFitException ended the whole run early.",
    "after_fit": "The run is over, normally or cancelled: close files, put back what before_fit changed.",
}


def describe(names: Iterable[str]) -> dict[str, str]:
    """Return name -> description for each of `names`; one that a newer fastai has added says so."""
    return {
        name: DESCRIPTIONS.get(name, f"{name.replace('_', ' ')}: loopscope has no description of it yet.")
        for name in names
    }
