"""Trains a small learner that always learns the same, and then does what its arguments say, one after the other."""

import concurrent.futures
import os
import signal
import sys
import threading
import time

from fastai.callback.all import Callback
from fastai.test_utils import synth_learner
from fastai.torch_core import set_seed

set_seed(0)
print("begun", sys.argv[1:])


class Trouble(Callback):
    "Does at batch 3 of epoch 1 what it is told"

    def __init__(self, what=None):
        self.what = what

    def after_batch(self):
        if self.what and self.training and (self.epoch, self.iter) == (1, 3):
            self.what()


def fail(error):
    raise error


def fit(what=None, epochs=2, size=10):
    learn = synth_learner(n_trn=size, cbs=Trouble(what))
    with learn.no_bar():
        learn.fit(epochs)
    return learn


def hang():
    print("hangs", flush=True)
    time.sleep(60)


def model_hangs():
    learn = synth_learner(cbs=Trouble())
    learn.model.register_forward_pre_hook(lambda *_: hang() if (learn.epoch, learn.iter) == (1, 3) else None)
    with learn.no_bar():
        learn.fit(2)


def wait():
    signal.signal(signal.SIGUSR1, lambda *_: None)
    print("waits", flush=True)
    signal.pause()


def slowly():
    learn = synth_learner(n_trn=400, cbs=Trouble())
    learn.cbs[-1].after_pred = lambda: time.sleep(0.01)
    with learn.no_bar():
        print("slow", flush=True)
        learn.fit(50)


def elsewhere():
    os.chdir("/")
    fit()


def replace():
    for name in os.listdir("."):
        if name.endswith(".loop"):
            os.remove(name)
            if "replace" in sys.argv:
                open(name, "w").write("mine")


def nested():
    import loopscope

    learn = synth_learner()
    with loopscope.record(learn, "inner.loop"), learn.no_bar():
        learn.fit(1)
    print(loopscope.load("inner.loop").report().unexpected_count, "unexpected inside")


def forked():
    learn = fit()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        learn.fit(1)
        raise SystemExit(5)
    print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def thread():
    other = threading.Thread(target=fit, name="trainer")
    other.start()


def pool():
    """Leave a pool of threads open, which python ends at its own end."""
    global kept
    kept = concurrent.futures.ThreadPoolExecutor(2)
    kept.submit(print, "saved").result()
    fit()


def several():
    one = fit(epochs=1)
    two = fit(epochs=1)
    with one.no_bar(), two.no_bar(), one.no_logging(), two.no_logging():
        one.lr_find(num_it=12, show_plot=False)
        two.fine_tune(1)


ORDERS = {
    "fit": fit,
    "none": lambda: None,
    "raise": lambda: fit(lambda: fail(ValueError("no [more] of this"))),
    "interrupt": lambda: fit(lambda: fail(KeyboardInterrupt)),
    "leave": lambda: fit(lambda: sys.exit(7)),
    "exit 3": lambda: sys.exit(3),
    "exit text": lambda: sys.exit("a last word"),
    "_exit 4": lambda: (sys.stdout.flush(), os._exit(4)),
    "kill": lambda: os.kill(os.getpid(), 9),
    "hang": lambda: fit(hang),
    "model hangs": model_hangs,
    "wait": wait,
    "slowly": slowly,
    "long": lambda: fit(size=1100, epochs=1),
    "elsewhere": elsewhere,
    "remove": replace,
    "replace": replace,
    "nested": nested,
    "forked": forked,
    "thread": thread,
    "pool": pool,
    "several": several,
    "close stderr": lambda: sys.stderr.close(),
    "no stderr": lambda: setattr(sys, "stderr", None),
    "close stdout": lambda: sys.stdout.close(),
}
if __name__ == "__main__":
    for order in sys.argv[1:]:
        ORDERS[order]()
    sys.stdout.closed or print("the end")
