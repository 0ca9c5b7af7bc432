"""A fastai training whose callbacks ask for their place in a way that fastai does not read; arguments change it."""

import sys

from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.test_utils import synth_learner


class Scale(Callback):
    run_after = MixedPrecision

    def after_backward(self):
        pass


class Quiet(Callback):  # loopscope: ignore[dead-order]
    run_after = MixedPrecision

    def after_batch(self):
        print("really trained")


class Wrong(Callback):  # loopscope: ignore[dead-odrer]
    def after_batch(self):
        print("really trained")


if __name__ == "__main__":
    callbacks = {"scale": Scale, "quiet": Quiet, "wrong": Wrong}
    synth_learner(cbs=[callbacks[name]() for name in sys.argv[1:]]).fit(2)
