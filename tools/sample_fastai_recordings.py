"""Write the recordings of small real fastai trainings that tests read: `sample_fastai_recordings.py [FOLDER]`.

`closed.loop` has several runs, one inside another's callback, and cancels; `raised.loop` one that a
callback's exception left, and `killed.loop` one that was killed inside a callback. Blocks are small here, so
that the killed one is small too. Tests read what these files say: make them anew only when the format changes, and
look at the differences. The script that was recorded is not kept: a report must do without it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

RECORDINGS = Path(__file__).resolve().parent.parent / "tests" / "fastai_recordings"
SCRIPT = """
import os, sys
from fastai.callback.all import Callback, CancelBatchException
from fastai.test_utils import synth_learner
from fastai.torch_core import set_seed


class Checks(Callback):
    "Validates in between, leaves out a batch, and does what the file is about"

    def after_pred(self):
        if self.training and self.iter == 2:
            raise CancelBatchException()

    def after_batch(self):
        if self.training and (self.epoch, self.iter) == (1, 4):
            if what == "raised":
                raise ValueError("no more of this")
            if what == "killed":
                os.kill(os.getpid(), 9)

    def after_epoch(self):
        if what == "closed" and self.learn.n_epoch == 2 and self.epoch == 1:
            inner = synth_learner(n_trn=2, n_val=1)
            with inner.no_bar(), inner.no_logging():
                inner.fit(1)


what = sys.argv[1]
set_seed(0)
learn = synth_learner(n_trn=6, n_val=2, cbs=Checks())
with learn.no_bar(), learn.no_logging():
    learn.fit(2)
    learn.lr_find(num_it=5, show_plot=False)
    learn.fine_tune(1)
"""


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDINGS
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("train.py").write_text(SCRIPT)
        for what in ("closed", "raised", "killed"):
            path = folder.resolve() / f"{what}.loop"
            subprocess.run([sys.executable, __file__, "--record", what, str(path)], check=False)
            print(path, path.stat().st_size, "bytes")


def record(what: str, path: str) -> None:
    """Be `loopscope run -o PATH train.py WHAT`, on a nameless host and with small blocks."""
    from loopscope import cli
    from loopscope.recording import writer
    from loopscope.recording.layout import PAGE

    writer.FIRST_ROWS = writer.MOST_ROWS = writer.META_SIZE = PAGE
    writer.SPARED = 512
    platform.node = lambda: "node1"
    sys.orig_argv = [sys.executable, str(Path(sys.executable).with_name("loopscope")), "run", "train.py", what]
    sys.argv = ["loopscope", "run", "--force", "-q", "-o", path, "train.py", what]
    cli.main()


if __name__ == "__main__":
    record(*sys.argv[2:]) if sys.argv[1:2] == ["--record"] else main()
