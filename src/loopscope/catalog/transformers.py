"""Hugging Face Transformers' events and moments; verified against transformers 5.24.0 by the tests."""

from __future__ import annotations

EVENTS = {
    "on_init_end": (
        "The Trainer has just been built. Runs once, outside every run, and only for callbacks that it was given."
    ),
    "on_train_begin": (
        "Optimizer and scheduler are there and a checkpoint is loaded: the training begins. state is new, so what is "
        "noted in it belongs here."
    ),
    "on_epoch_begin": "A pass over the training data begins; control.should_epoch_stop has just been set to False.",
    "on_step_begin": (
        "All batches of an optimizer step have been drawn, and the model has seen none of them. "
        "control.should_log, should_evaluate and should_save have just been set to False."
    ),
    "on_substep_end": (
        "One batch of several that share an optimizer step is done: its gradients have been added up, and more batches "
        "follow before the optimizer steps."
    ),
    "on_pre_optimizer_step": "The gradients of the whole step are there, already clipped: look at them or change them.",
    "on_optimizer_step": (
        "The optimizer has stepped; the gradients are still there, the learning rate is not moved on yet."
    ),
    "on_step_end": (
        "The step is counted in state.global_step, its gradients are zeroed. The place to set control: should_log, "
        "should_evaluate and should_save are obeyed right behind it, and the stops as well."
    ),
    "on_prediction_step": (
        "The model has answered to one batch of an evaluation or of predict, and its outputs have been gathered."
    ),
    "on_log": (
        "Figures have been put into state.log_history and are given as logs: losses of training, metrics, the summary."
    ),
    "on_evaluate": (
        "An evaluation of one dataset is over; metrics are its figures. control.should_training_stop = True ends the "
        "training early here."
    ),
    "on_save": "A checkpoint has been written to the output directory.",
    "on_push_begin": "What was saved is about to be uploaded to the Hub.",
    "on_epoch_end": (
        "The last batch of the epoch is done. What is logged, evaluated and saved once per epoch still follows: set "
        "control here to ask for it."
    ),
    "on_train_end": (
        "The training is over, normally or stopped by control, and the best model is loaded where that was asked for. "
        "An exception skips this."
    ),
    "on_predict": "predict has seen all of its data; metrics are its figures.",
}

MOMENTS = {
    "run begins": ("on_train_begin",),
    "epoch begins": ("on_epoch_begin",),
    "batch drawn": ("on_step_begin",),
    "after backward": ("on_pre_optimizer_step",),
    "after the optimizer step": ("on_optimizer_step",),
    "batch ends": ("on_step_end",),
    "accumulated": ("on_substep_end",),
    "epoch's training ends": ("on_epoch_end",),
    "validation batch ends": ("on_prediction_step",),
    "validation ends": ("on_log", "on_evaluate"),
    "metrics logged": ("on_log",),
    "checkpoint saved": ("on_save",),
    "run ends": ("on_train_end",),
    "prediction ends": ("on_predict",),
}

ABSENT = {
    "after the forward": "Override Trainer.compute_loss, which calls the model: with return_outputs=True it has both.",
    "after the loss": (
        "Override Trainer.compute_loss and change the loss before you return it; backward is what comes next."
    ),
    "validation begins": (
        "Override Trainer.evaluation_loop, which evaluate and predict share; when control asks for an evaluation, "
        "on_step_end or on_epoch_end came before it."
    ),
    "validation batch begins": "Override Trainer.prediction_step, which is given each batch of an evaluation.",
    "epoch ends": (
        "on_epoch_end comes before the epoch's own evaluation: with eval_strategy='epoch' take on_evaluate, or the next"
        " on_epoch_begin."
    ),
    "run raised": (
        "An exception leaves Trainer.train without calling anybody, on_train_end included: use a try statement."
    ),
    "prediction begins": "Override Trainer.predict, or evaluation_loop, which it shares with evaluate.",
}
