"""Lightning's hooks and moments; verified against Lightning 2.6.6 by the tests."""

from __future__ import annotations

EVENTS = {
    "configure_callbacks": "The model may add callbacks of its own; those of a class it gives replace the trainer's.",
    "prepare_data": "Download or convert the data: in one process only, so assign nothing to self here.",
    "setup": (
        "The run begins in this process, the model is not on its device yet: split the data, build what depends on it."
    ),
    "configure_sharded_model": "The old name of configure_model.",
    "configure_model": "Build large layers here, on the device and in the precision in which they are wanted.",
    "LightningModule.on_load_checkpoint": (
        "The model's turn: a checkpoint was read, and its weights are not loaded yet. Change it here where layers "
        "differ."
    ),
    "load_state_dict": "The data module gets back what its state_dict put into the checkpoint.",
    "on_load_checkpoint": "The callbacks' turn: the weights of the checkpoint are loaded, their own state follows.",
    "configure_optimizers": "The model gives its optimizers and schedulers; it is on its device by now.",
    "on_fit_start": "A fit is set up, optimizers included, and nothing has been checked or trained.",
    "on_sanity_check_start": "Before any training a few validation batches are run, to find mistakes early.",
    "on_sanity_check_end": "That check is over; the metrics logged in it are thrown away.",
    "train_dataloader": "The training loaders are asked for.",
    "val_dataloader": "The validation loaders are asked for.",
    "test_dataloader": "The test loaders are asked for.",
    "predict_dataloader": "The loaders to predict for are asked for.",
    "on_train_start": "Training proper begins: the check is over, the loaders are there.",
    "on_train_epoch_start": "A new pass over the training data begins: reset what counts per epoch.",
    "run_training_epoch": "Encloses all batches of an epoch and the validations among them.",
    "train_dataloader_next": (
        "Encloses the drawing of a training batch: how long it takes is how long the data lets wait."
    ),
    "val_next": "Encloses the drawing of a validation batch.",
    "test_next": "Encloses the drawing of a test batch.",
    "predict_next": "Encloses the drawing of a batch to predict for.",
    "on_before_batch_transfer": "A batch was drawn and is still on the CPU: change it there.",
    "batch_to_device": "Encloses the move of a batch to the device and what is done to it there.",
    "transfer_batch_to_device": (
        "Moves a batch to the device; override it for data that Lightning cannot move by itself."
    ),
    "on_after_batch_transfer": "A batch is on the device: augment it there.",
    "on_train_batch_start": (
        "A training batch is about to be used; the model's own hook may return -1 to skip the rest of the epoch."
    ),
    "run_training_batch": "Encloses the forward and backward pass of a training batch and its optimizer step.",
    "optimizer_step": (
        "Encloses the optimizer's step and what it needs: training_step, backward and clipping run inside it. Does "
        "not come while gradients only accumulate."
    ),
    "training_step": (
        "The model computes its loss here; with manual optimization it also runs backward and the optimizers."
    ),
    "on_before_zero_grad": "The loss is known, and the gradients of the step before are about to be zeroed.",
    "optimizer_zero_grad": "Zeroes the gradients, in the first batch of each optimizer step.",
    "backward": "Encloses the backward pass.",
    "on_before_backward": (
        "The loss is about to be differentiated; it is divided by the number of accumulated batches already."
    ),
    "on_after_backward": "This batch's gradients are there, not clipped yet: look at them or add noise.",
    "on_before_optimizer_step": (
        "All gradients of this step are there, unscaled and not clipped: the place to log their norms."
    ),
    "configure_gradient_clipping": "Clips the gradients as the trainer is told to; override it to clip in another way.",
    "lr_scheduler_step": "A scheduler changes the learning rate, once for each scheduler that is due.",
    "on_train_batch_end": "A training batch is over, the optimizer step included if it had one: count, log, stop.",
    "on_validation_model_zero_grad": "The gradients are dropped before a validation inside an epoch, to save memory.",
    "on_validation_model_eval": "The model is put into evaluation mode for a validation.",
    "on_validation_start": "A validation begins, the check before training included: see trainer.sanity_checking.",
    "on_validation_epoch_start": "The pass over the validation data begins, once for all of its loaders.",
    "on_validation_batch_start": "A validation batch is about to be given to the model.",
    "validation_step": "The model judges a validation batch; gradients are off.",
    "on_validation_batch_end": "The model has judged a validation batch: collect what it returned.",
    "on_validation_epoch_end": (
        "All validation batches are done: metrics of the whole pass are computed and logged here."
    ),
    "on_validation_end": (
        "The validation is over and its metrics are logged: EarlyStopping and ModelCheckpoint may look at them."
    ),
    "on_validation_model_train": "The model is put back into the mode that it was in before the validation.",
    "on_test_model_eval": "The model is put into evaluation mode for a test.",
    "on_test_start": "A test begins.",
    "on_test_epoch_start": "The pass over the test data begins, once for all of its loaders.",
    "on_test_batch_start": "A test batch is about to be given to the model.",
    "test_step": "The model judges a test batch; gradients are off.",
    "on_test_batch_end": "The model has judged a test batch: collect what came out.",
    "on_test_epoch_end": "All test batches are done: compute and log metrics of the whole test here.",
    "on_test_end": "The test is over and its metrics are logged.",
    "on_test_model_train": "The model is put back into the mode that it was in before the test.",
    "on_predict_model_eval": "The model is put into evaluation mode for predictions.",
    "on_predict_start": "Predictions are about to begin.",
    "on_predict_epoch_start": "The pass over the data to predict for begins.",
    "on_predict_batch_start": "A batch is about to be predicted.",
    "predict_step": "The model predicts a batch; gradients are off.",
    "on_predict_batch_end": "A batch is predicted: write the predictions out before they pile up.",
    "on_predict_epoch_end": "All batches are predicted.",
    "on_predict_end": "The predictions are done and handed over.",
    "on_train_epoch_end": (
        "An epoch is over, its validation included. Callbacks come first, then the model, then those that watch a "
        "metric (EarlyStopping, Checkpoints), so that they see what the model logs here."
    ),
    "on_train_end": "The training came to its end, early stopping included; not after an exception.",
    "on_fit_end": "The fit is over and the model is back on the CPU.",
    "teardown": "The run is over in this process: close what setup opened. Not called after an exception.",
    "on_exception": (
        "An exception is about to leave the run; after Ctrl-C, SystemExit leaves it in place of KeyboardInterrupt."
    ),
    "save_checkpoint": "Encloses the writing of a checkpoint: its events fire inside of the handler that saves.",
    "state_dict": "The data module gives what shall be saved of it.",
    "on_save_checkpoint": "A checkpoint has been put together and is about to be written: add to it or take from it.",
}

MOMENTS = {
    "run begins": ("setup", "on_fit_start", "on_sanity_check_start", "on_sanity_check_end", "on_train_start"),
    "epoch begins": ("on_train_epoch_start",),
    "batch drawn": ("on_before_batch_transfer", "on_after_batch_transfer", "on_train_batch_start"),
    "after the loss": ("on_before_zero_grad", "on_before_backward"),
    "after backward": ("on_after_backward", "on_before_optimizer_step", "configure_gradient_clipping"),
    "after the optimizer step": ("on_train_batch_end",),
    "batch ends": ("on_train_batch_end",),
    "validation begins": ("on_validation_start", "on_validation_epoch_start"),
    "validation batch begins": ("on_validation_batch_start",),
    "validation batch ends": ("on_validation_batch_end",),
    "validation ends": ("on_validation_epoch_end", "on_validation_end"),
    "epoch ends": ("on_train_epoch_end",),
    "checkpoint saved": ("on_save_checkpoint",),
    "run ends": ("on_train_end", "on_fit_end", "teardown"),
    "run raised": ("on_exception",),
    "prediction begins": ("setup", "on_predict_start", "on_predict_epoch_start"),
    "prediction ends": ("on_predict_epoch_end", "on_predict_end", "teardown"),
}

ABSENT = {
    "after the forward": "Forward and loss are one call, training_step: do it there.",
    "accumulated": (
        "No hook tells such a batch from one with a step: in on_train_batch_end, (batch_idx + 1) % "
        "trainer.accumulate_grad_batches is not 0, and trainer.is_last_batch is not True."
    ),
    "epoch's training ends": (
        "The validation is a part of the epoch: take the on_train_batch_end with trainer.is_last_batch."
    ),
    "metrics logged": "No callback is called: give the trainer a Logger of your own, whose log_metrics is.",
}
