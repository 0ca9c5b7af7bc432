"""Trains a small fastai learner; the first argument says how it ends."""

import os
import sys

from fastai.callback.all import Callback
from fastai.test_utils import synth_learner


class Ends(Callback):
    order = 55

    def __init__(self, way):
        self.way = way

    def after_batch(self):
        if self.epoch == 1 and self.iter == 2 and self.training:
            print("reached", self.way)
            self.end()

    def end(self):
        if self.way == "raises":
            raise ValueError("on purpose")
        if self.way == "interrupted":
            raise KeyboardInterrupt
        if self.way == "exits":
            sys.exit(3)
        if self.way == "leaves":
            sys.stdout.flush()
            os._exit(4)
        if self.way == "forks":
            self.fork()

    def fork(self):
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            learn = synth_learner(n_trn=3, n_val=1)
            with learn.no_bar(), learn.no_logging():
                learn.fit(1)
            print("the child trained")
            sys.exit(5)
        print("the child's status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    learn = synth_learner(n_trn=4, n_val=1, cbs=Ends(sys.argv[1]))
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
    print("trained")
