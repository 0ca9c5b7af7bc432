"""fastai's events and moments; verified against fastai 2.8.12 by the tests."""

from __future__ import annotations

EVENTS = {
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

MOMENTS = {
    "run begins": ("before_fit",),
    "epoch begins": ("before_epoch", "before_train"),
    "batch drawn": ("before_batch",),
    "after the forward": ("after_pred",),
    "after the loss": ("after_loss", "before_backward"),
    "after backward": ("after_backward", "before_step"),
    "after the optimizer step": ("after_step",),
    "batch ends": ("after_batch",),
    "accumulated": ("after_cancel_batch",),
    "epoch's training ends": ("after_train",),
    "validation begins": ("before_validate",),
    "validation batch begins": ("before_batch",),
    "validation batch ends": ("after_batch",),
    "validation ends": ("after_validate",),
    "epoch ends": ("after_epoch",),
    "run ends": ("after_fit",),
    "prediction begins": ("before_fit", "before_epoch", "before_validate"),
    "prediction ends": ("after_validate", "after_epoch", "after_fit"),
}

ABSENT = {
    "metrics logged": (
        "Recorder hands an epoch's figures to learn.logger in after_epoch: give your callback an order above its 50, "
        "and read learn.recorder.values[-1] there."
    ),
    "checkpoint saved": (
        "SaveModelCallback saves in after_epoch without telling anybody: give your callback a higher order, or "
        "override its _save."
    ),
    "run raised": "Only the Cancel exceptions have events: put learn.fit into a try statement, or override fit.",
}
