"""ignite's events and moments; verified against pytorch-ignite 0.5.5 by the tests."""

from __future__ import annotations

EVENTS = {
    "STARTED": "The engine has its state and nothing has been drawn: reset what lasts for the whole run.",
    "EPOCH_STARTED": "engine.state.epoch has just been raised: reset what counts per epoch. The data is opened next.",
    "GET_BATCH_STARTED": (
        "The next batch is about to be asked for; engine.state.iteration still counts the one before. "
        "Does not fire where run has no data."
    ),
    "DATALOADER_STOP_ITERATION": (
        "The data gave all it had and the epoch, or the run, wants more: ignite starts it again next. "
        "Change a sampler's seed here."
    ),
    "GET_BATCH_COMPLETED": "engine.state.batch is the batch that was drawn, and engine.state.output is None again.",
    "ITERATION_STARTED": (
        "engine.state.iteration has been raised, the process function comes next: "
        "the last chance to change engine.state.batch."
    ),
    "ITERATION_COMPLETED": (
        "The process function has returned, and engine.state.output is what it gave: "
        "update metrics, log, step a scheduler."
    ),
    "TERMINATE_SINGLE_EPOCH": (
        "terminate_epoch() was called and this epoch is left; EPOCH_COMPLETED follows. "
        "Handlers are also given iter_counter, by that name."
    ),
    "EPOCH_COMPLETED": (
        "The last batch of the epoch is done: the place to run an evaluator, to save and to log what an epoch gave. "
        "terminate() in an earlier event skips it."
    ),
    "INTERRUPT": "interrupt() was called: run returns behind this event, and the next run goes on from the same batch.",
    "TERMINATE": "terminate() was called, or max_iters reached within an epoch: the run is left, COMPLETED follows.",
    "COMPLETED": (
        "The run is over, terminated or not: an evaluator's metrics are computed by now. "
        "An exception or an interruption skips it."
    ),
    "EXCEPTION_RAISED": (
        "An exception came out of a handler, the data or the process function. As soon as somebody handles this event, "
        "it only goes on if a handler raises it again."
    ),
    "SAVED_CHECKPOINT": "Checkpoint has just written a file; it fires this from inside its own handler.",
    "TIME_ITERATION_STARTED": "Truncated backpropagation through time: the next chunk of a sequence is there.",
    "TIME_ITERATION_COMPLETED": "Truncated backpropagation through time: a chunk was trained on, its step included.",
}

MOMENTS = {
    "run begins": ("STARTED",),
    "epoch begins": ("EPOCH_STARTED",),
    "batch drawn": ("GET_BATCH_COMPLETED", "ITERATION_STARTED"),
    "after the optimizer step": ("ITERATION_COMPLETED",),
    "batch ends": ("ITERATION_COMPLETED",),
    "epoch's training ends": ("EPOCH_COMPLETED",),
    "validation begins": ("STARTED", "EPOCH_STARTED"),
    "validation batch begins": ("GET_BATCH_COMPLETED", "ITERATION_STARTED"),
    "validation batch ends": ("ITERATION_COMPLETED",),
    "validation ends": ("EPOCH_COMPLETED", "COMPLETED"),
    "epoch ends": ("EPOCH_COMPLETED",),
    "checkpoint saved": ("SAVED_CHECKPOINT",),
    "run ends": ("COMPLETED",),
    "run raised": ("EXCEPTION_RAISED",),
    "prediction begins": ("STARTED", "EPOCH_STARTED"),
    "prediction ends": ("EPOCH_COMPLETED", "COMPLETED"),
}

_FIRE = "register an event of your own with engine.register_events, and fire it there with engine.fire_event."

ABSENT = {
    "after the forward": f"The process function is yours, so call what you like in it; or {_FIRE}",
    "after the loss": f"The loss is made in your own process function: {_FIRE}",
    "after backward": f"Only your process function knows when the gradients are there: {_FIRE}",
    "accumulated": (
        "ITERATION_COMPLETED comes with every batch, whether the optimizer stepped or not: attach with a filter, "
        "or compare engine.state.iteration with the number of steps."
    ),
    "metrics logged": (
        "A logger writes in a handler that its own attach made: attach yours behind it at the same event, "
        "and read engine.state.metrics."
    ),
}
