"""What `loopscope demo` shows: a plain fastai script, which knows nothing of loopscope."""

from __future__ import annotations

import sys

from fastai.callback.all import Callback, CancelBatchException, EarlyStoppingCallback, GradientClip
from fastai.test_utils import synth_learner


class SkipWildBatch(Callback):
    "Leave out a batch whose loss is far above that of the one before"

    run_valid = False

    def before_fit(self) -> None:
        self.usual = None

    def after_loss(self) -> None:
        if self.usual is not None and self.loss > 10 * self.usual:
            raise CancelBatchException

    def after_batch(self) -> None:
        self.usual = self.loss.item()


learn = synth_learner(cbs=[GradientClip(), EarlyStoppingCallback(patience=2)])
calls = {
    "fit": lambda: learn.fit(5),
    "fit_one_cycle": lambda: learn.fit_one_cycle(5),
    "fine_tune": lambda: learn.fine_tune(4),
    "validate": learn.validate,
    "get_preds": learn.get_preds,
    "lr_find": learn.lr_find,
}

if __name__ == "__main__":
    calls[sys.argv[1]]()
