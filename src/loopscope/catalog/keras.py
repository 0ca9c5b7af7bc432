"""Keras 3's events and moments; verified against keras 3.15.1 (backend torch) by the tests."""

from __future__ import annotations

EVENTS = {
    "on_train_begin": (
        "fit has its data and its built model, and no epoch has begun: open files, note the start, "
        "or set model._initial_epoch to begin later."
    ),
    "on_epoch_begin": "A pass over the training data begins; its metrics have just been reset.",
    "on_train_batch_begin": (
        "A training batch has been drawn, and the model has not seen it; the callback is told its number only. "
        "A callback that has on_batch_begin instead is called here as well."
    ),
    "on_train_batch_end": (
        "Forward, loss, backward and optimizer step of one batch are over, all in one call; logs are the metrics up to "
        "here, as Python floats. model.stop_training = True ends the epoch here. A callback that has on_batch_end "
        "instead is called here as well."
    ),
    "on_test_begin": "A pass over validation or test data begins: inside fit, or by evaluate. Metrics are reset next.",
    "on_test_batch_begin": "A validation batch has been drawn, and the model has not seen it.",
    "on_test_batch_end": (
        "The model has answered to a validation batch, and logs are the metrics up to here. "
        "model.stop_evaluating = True ends the pass here."
    ),
    "on_test_end": "The pass over the validation data is over; logs are its metrics.",
    "on_epoch_end": (
        "The epoch is over, its validation included; logs hold its metrics, those of the validation as val_...: "
        "the place to log, to save and to set model.stop_training."
    ),
    "on_train_end": "fit is about to return: every epoch is done, or training was stopped. An exception skips this.",
    "on_predict_begin": "predict has its data, and no batch has been drawn.",
    "on_predict_batch_begin": "A batch has been drawn, and the model has not seen it.",
    "on_predict_batch_end": (
        'The model has answered: logs["outputs"] is what it said. model.stop_predicting = True ends the pass here.'
    ),
    "on_predict_end": "Every batch has been predicted; the outputs are joined next.",
}

MOMENTS = {
    "run begins": ("on_train_begin",),
    "epoch begins": ("on_epoch_begin",),
    "batch drawn": ("on_train_batch_begin",),
    "after the optimizer step": ("on_train_batch_end",),
    "batch ends": ("on_train_batch_end",),
    "validation begins": ("on_test_begin",),
    "validation batch begins": ("on_test_batch_begin",),
    "validation batch ends": ("on_test_batch_end",),
    "validation ends": ("on_test_end",),
    "epoch ends": ("on_epoch_end",),
    "run ends": ("on_train_end",),
    "prediction begins": ("on_predict_begin",),
    "prediction ends": ("on_predict_end",),
}

_STEP = (
    "Forward, loss, backward and optimizer step of a batch are one call: override Model.train_step, and do it there."
)

ABSENT = {
    "after the forward": _STEP,
    "after the loss": f"{_STEP} For the loss alone, override Model.compute_loss.",
    "after backward": (f"{_STEP} To clip or change gradients only, give the optimizer clipnorm or override its apply."),
    "accumulated": (
        "The optimizer's gradient_accumulation_steps adds gradients up inside its apply, and on_train_batch_end comes "
        "all the same: compare model.optimizer.iterations there."
    ),
    "epoch's training ends": (
        "The last on_train_batch_end looks like any other: count batches up to self.params['steps'], or take "
        "on_test_begin."
    ),
    "metrics logged": "Every callback gets the metrics as logs: read them in on_epoch_end or on_train_batch_end.",
    "checkpoint saved": (
        "ModelCheckpoint saves in on_epoch_end or on_train_batch_end without telling anybody: put your callback behind "
        "it in the list."
    ),
    "run raised": "An exception leaves fit without calling anybody: put model.fit into a try statement.",
}
