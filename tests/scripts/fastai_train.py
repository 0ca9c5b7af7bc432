"""Small real fastai trainings: the first argument says which call comes first."""

import sys

from fastai.callback.all import Callback, EarlyStoppingCallback, GradientClip
from fastai.learner import Learner
from fastai.test_utils import synth_learner


class Mine(Callback):
    "Count the batches"

    def before_fit(self):
        self.batches = 0

    def after_batch(self):
        self.batches += 1


class Own(Learner):
    def fit(self, n_epoch=6, cbs=None):
        print("an own fit begins")
        super().fit(n_epoch, cbs=[GradientClip(), *(cbs or [])])


learn = synth_learner(cbs=GradientClip(), path="/nowhere")
calls = {
    "fit": lambda: learn.fit(3, cbs=[EarlyStoppingCallback(patience=2)]),
    "fit_one_cycle": lambda: learn.fit_one_cycle(4, lr_max=0.1),
    "fine_tune": lambda: learn.fine_tune(2, freeze_epochs=3, cbs=EarlyStoppingCallback()),
    "lr_find": lambda: learn.lr_find(num_it=30),
    "validate": lambda: learn.validate(cbs=EarlyStoppingCallback()),
    "get_preds": lambda: learn.get_preds(ds_idx=0),
    "own": lambda: Own(learn.dls, learn.model, learn.loss_func).fit(cbs=[Mine()]),
}
if __name__ == "__main__":
    calls[sys.argv[1]]()
    print("really trained")
