"""More fastai runs for recordings: nested, cancelled, changed on the way; what a recording says of one, as plain data.

A `Case` here is the same as in `fastai.py`: a learner and what is done with it, any number of fit-like calls.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fastai.callback.all as cb
import torch
from fastai.callback.core import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CancelTrainException,
)
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner

import loopscope
from loopscope.placing import Placed, place
from loopscope.recording import Recording, read
from loopscope.report import Report
from loopscope.timing import reported
from tests.adapters.cases.fastai import At, Case, Shadowed, ValidatesInTheMiddle, fit2, learner
from tests.adapters.cases.fastai_watch import Watch

# -- making a recording, and what it says ------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def seeded(make: Callable[[], Learner]) -> Learner:
    """fastai shuffles with Python's generator: two learners are only the same with the same seed."""
    random.seed(0)
    torch.manual_seed(0)
    return make()


def recorded(case: Case, path: Path) -> tuple[Recording, BaseException | None]:
    """Run a case recorded; return the recording and what left the run."""
    learn = seeded(case.make)
    left = None
    with quiet():
        try:
            with loopscope.record(learn, path, force=True):
                case.call(learn)
        except BaseException as error:
            left = error
    return read(path), left


def witnessed(case: Case) -> Watch:
    """Run a second, identical learner under the witness that patches nothing."""
    watch = Watch(seeded(case.make))
    for one in watch.learn.cbs:  # numbered as they stand at the start, whoever is removed on the way
        watch.id(one)
    with watch(), quiet():
        case.call(watch.learn)
    return watch


def everything(path: Path) -> tuple[Placed, Report]:
    placed = place(read(path))
    return placed, reported(placed)


# -- callbacks that do much --------------------------------------------------------------------------------


class Does(Callback):
    """Calls `what(learn)` at the `at`-th time that `event` fires (from 0), or each time if `at` is None."""

    def __init__(self, event: str, what: Callable[[Learner], Any], at: int | None = 0, order: int = 70) -> None:
        self.event, self.what, self.at, self.order, self.count, self.inside = event, what, at, order, 0, False
        setattr(self, event, self.do)

    def do(self) -> None:
        now = self.count
        if self.inside or (self.at is not None and now != self.at):
            self.count += not self.inside
            return
        self.count += 1
        self.inside = True
        try:
            self.what(self.learn)
        finally:
            self.inside = False


def does(event: str, what: Callable[[Learner], Any], at: int | None = 0, order: int = 70) -> Callable[[], Learner]:
    return lambda: learner(Does(event, what, at, order), n_trn=3, n_val=2)


class Marks(Callback):
    """One with handlers of its own at several events."""

    order = 20

    def before_batch(self):
        pass

    def after_batch(self):
        pass

    def after_train(self):
        pass

    def after_fit(self):
        pass


class Sometimes(Callback):
    """Raises `exception` at `event`, at the times in `when`."""

    order = 65

    def __init__(self, event: str, exception: type[BaseException], when: Sequence[int]) -> None:
        self.exception, self.when, self.count = exception, frozenset(when), 0
        setattr(self, event, self.throw)

    def throw(self) -> None:
        self.count += 1
        if self.count - 1 in self.when:
            raise self.exception("now and then")


class FindsFirst(Learner):
    """Looks for a learning rate inside its own fine_tune."""

    def fine_tune(self, epochs, **kwargs):
        self.lr_find(num_it=7, stop_div=False, show_plot=False)
        self.fit_one_cycle(epochs, **kwargs)
        self.validate()


def finds_first() -> Learner:
    base = learner()
    return FindsFirst(base.dls, base.model, loss_func=base.loss_func, opt_func=base.opt_func)


class SwapsData(Callback):
    """Progressive resizing, say: other data from the second epoch on, as its source shows."""

    def __init__(self, other: DataLoaders) -> None:
        self.other = other

    def before_epoch(self):
        if self.epoch == 1:
            self.learn.dls = self.other


class MoreEpochs(Callback):
    def before_fit(self):
        self.learn.n_epoch = 3


def swaps_data_visibly() -> Learner:
    return learner(SwapsData(learner(n_trn=5, n_val=4).dls))


def swaps_data() -> Learner:
    larger = learner(n_trn=5, n_val=4).dls
    return learner(Does("before_epoch", lambda learn: setattr(learn, "dls", larger), 1))


def set_attr(path: str, value: Any) -> Callable[[Learner], None]:
    *first, last = path.split(".")

    def change(learn: Learner) -> None:
        target: Any = learn
        for name in first:
            target = getattr(target, name)
        setattr(target, last, value)

    return change


def without_validation() -> Learner:
    learn = learner()
    learn.dls = DataLoaders(learn.dls[0])
    return learn


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(1)
        for _ in range(40):
            x = torch.randn(1, generator=generator)
            yield x, 2 * x + 3


def without_length() -> Learner:
    learn = learner(n_trn=2, n_val=1)
    valid = learn.dls[1]
    learn.dls = DataLoaders(DataLoader(Stream(), bs=8, num_workers=0), valid)
    learn.remove_cb(ProgressCallback)
    return learn


def twice(what: Callable[[Learner], Any]) -> Callable[[Learner], Any]:
    def both(learn: Learner) -> None:
        what(learn)
        what(learn)

    return both


def validates(learn: Learner) -> None:
    learn.validate()


def finds(learn: Learner) -> None:
    learn.lr_find(num_it=5, stop_div=False, show_plot=False)


def predicts(learn: Learner) -> None:
    learn.get_preds()


def several(learn: Learner) -> None:
    learn.fit(1)
    learn.fit_one_cycle(1)
    learn.validate()
    learn.fit(0)
    learn.get_preds()
    learn.fit(2, start_epoch=1)


def many_validations(learn: Learner) -> None:
    for _ in range(6):
        learn.validate()


def cancelled_and_on(learn: Learner) -> None:
    learn.fit(1)
    learn.add_cb(At("before_batch", CancelFitException))
    learn.fit(2)
    learn.fit(1)


def accumulates() -> Learner:
    return learner(cb.GradientAccumulation(n_acc=40), n_trn=7, n_val=2)


NESTED = [
    Case("validate twice in one handler", does("after_train", twice(validates), None), fit2),
    Case("validate in before_fit", does("before_fit", validates), fit2),
    Case("validate in after_fit", does("after_fit", validates), fit2),
    Case("get_preds in fine_tune's before_fit", does("before_fit", predicts, None), lambda learn: learn.fine_tune(1)),
    Case("lr_find in fine_tune's before_fit", does("before_fit", finds), lambda learn: learn.fine_tune(1)),
    Case("lr_find in before_fit of both fits", does("before_fit", finds, None), lambda learn: learn.fine_tune(1)),
    Case("lr_find in after_fit", does("after_fit", finds), fit2),
    Case("a fit in a fit", does("after_train", lambda learn: learn.fit(1)), fit2),
    Case("a validation inside an epoch", lambda: learner(ValidatesInTheMiddle()), fit2),
    Case("_do_epoch_validate in before_train", does("before_train", lambda learn: learn._do_epoch_validate()), fit2),
    Case("_do_epoch_train in after_train", does("after_train", lambda learn: learn._do_epoch_train()), fit2),
    Case(
        "a nested run that is cancelled",
        lambda: learner(
            Does("after_train", lambda learn: learn.fit(1)), Sometimes("after_batch", CancelFitException, [4])
        ),
        fit2,
    ),
    Case(
        "a nested run that fails and is caught",
        lambda: learner(
            Does("after_train", lambda learn: caught(learn.fit, 1)), Sometimes("after_batch", ValueError, [4])
        ),
        fit2,
    ),
    Case(
        "a nested run that fails",
        lambda: learner(Does("after_train", lambda learn: learn.fit(1)), Sometimes("after_batch", ValueError, [4])),
        fit2,
        raises="ValueError",
    ),
    Case(
        "a nested validation that fails",
        lambda: learner(Does("after_train", validates), Sometimes("after_loss", ValueError, [4])),
        fit2,
        raises="ValueError",
    ),
    Case("lr_find inside a subclass's fine_tune", finds_first, lambda learn: learn.fine_tune(2)),
]


def caught(call: Callable[..., Any], *args: Any) -> None:
    with contextlib.suppress(Exception):
        call(*args)


def no_bar(learn: Learner) -> None:
    with learn.no_bar():
        learn.fit(1)
    learn.fit(1)


def added(learn: Learner) -> None:
    with learn.added_cbs([Marks()]):
        learn.fit(1)
    learn.fit(1)


SEVERAL = [
    Case("several runs", learner, several),
    Case("validate six times", learner, many_validations),
    Case("a cancelled fit between others", learner, cancelled_and_on),
    Case(
        "a fit that fails between others",
        lambda: learner(Sometimes("after_step", ValueError, [1])),
        lambda learn: (caught(learn.fit, 1), learn.fit(1)),
    ),
    Case("tta", learner, lambda learn: learn.tta(n=2), raises="AttributeError"),
    Case("validate on the training data", learner, lambda learn: learn.validate(ds_idx=0)),
    Case("get_preds with losses and inputs", learner, lambda learn: learn.get_preds(with_loss=True, with_input=True)),
    Case("get_preds within", learner, lambda learn: learn.get_preds(inner=True), raises="AttributeError"),
    Case("no_bar", learner, no_bar),
    Case("callbacks passed to fit", learner, lambda learn: learn.fit(1, cbs=[Marks(), cb.GradientClip()])),
    Case("a callback added for a while", learner, added),
]


CANCELLED = [
    Case(
        "batches cancelled at random",
        lambda: learner(Sometimes("before_batch", CancelBatchException, [1, 3, 4, 7]), n_trn=5),
        fit2,
    ),
    Case("steps cancelled by accumulation", accumulates, fit2),
    Case(
        "epochs cancelled",
        lambda: learner(Sometimes("before_train", CancelEpochException, [1])),
        lambda learn: learn.fit(3),
    ),
    Case(
        "training cancelled",
        lambda: learner(Sometimes("after_loss", CancelTrainException, [1, 9])),
        lambda learn: learn.fit(3),
    ),
    Case("StopIteration now and then", lambda: learner(Sometimes("after_pred", StopIteration, [1, 4])), fit2),
]

CHANGED = [
    Case("a callback added in before_train", does("before_train", lambda learn: learn.add_cb(Marks())), fit2),
    Case("a callback added in after_batch", does("after_batch", lambda learn: learn.add_cb(Marks()), 1), fit2),
    Case(
        "a callback added that comes before",
        does("before_batch", lambda learn: learn.add_cb(cb.GradientClip()), 1),
        fit2,
    ),
    Case(
        "a callback removed in after_batch",
        lambda: learner(Marks(), Does("after_batch", lambda learn: learn.remove_cb(Marks), 1)),
        fit2,
    ),
    Case(
        "added and removed again",
        lambda: learner(
            Does("before_batch", lambda learn: learn.add_cb(Marks()), 1),
            Does("after_batch", lambda learn: learn.remove_cb(Marks), 2),
        ),
        fit2,
    ),
    Case(
        "removed and the same one put back",
        lambda: learner(
            marks := Marks(),
            Does("before_train", lambda learn: learn.remove_cb(marks)),
            Does("before_validate", lambda learn: learn.add_cb(marks)),
        ),
        fit2,
    ),
    Case(
        "re-ordered on the way",
        lambda: learner(marks := Marks(), Does("after_batch", lambda learn: setattr(marks, "order", 90), 1)),
        fit2,
    ),
    Case(
        "re-ordered between two of one order",
        lambda: learner(Marks(), Does("after_batch", lambda learn: learn.cbs.items.reverse(), 1)),
        fit2,
    ),
    Case(
        "switched off in a batch", lambda: learner(Marks(), Does("after_batch", set_attr("marks.run", False), 1)), fit2
    ),
    Case(
        "switched off by before_fit", lambda: learner(Marks(), Does("before_fit", set_attr("marks.run", False))), fit2
    ),
    Case("Recorder switched off in a batch", does("before_batch", set_attr("recorder.run", False), 1), fit2),
    Case("ProgressCallback switched off in a batch", does("before_batch", set_attr("progress.run", False), 1), fit2),
    Case(
        "switched off and on again",
        lambda: learner(
            Marks(),
            Does("before_batch", set_attr("marks.run", False), 1),
            Does("before_validate", set_attr("marks.run", True)),
        ),
        fit2,
    ),
    Case(
        "run_valid switched off from outside",
        lambda: learner(Marks(), Does("before_train", set_attr("marks.run_valid", False))),
        fit2,
    ),
    Case(
        "run_train switched off from outside",
        lambda: learner(Marks(), Does("after_batch", set_attr("marks.run_train", False), 1)),
        fit2,
    ),
    Case("more epochs in before_fit", does("before_fit", set_attr("n_epoch", 3)), fit2),
    Case("no epoch at all", does("before_fit", set_attr("n_epoch", 0)), fit2),
    Case("more epochs in before_fit, as its source shows", lambda: learner(MoreEpochs()), fit2),
    Case("other data, as the source shows", swaps_data_visibly, fit2),
    Case("more epochs when it is too late", does("after_epoch", set_attr("n_epoch", 5)), fit2),
    Case("other data in before_epoch", swaps_data, fit2),
    Case(
        "another loader in before_train", does("before_train", lambda learn: setattr(learn, "dl", learn.dls[1])), fit2
    ),
    Case(
        "a shorter loader in before_train",
        lambda: learner(
            Does("before_train", lambda learn: setattr(learn, "dl", learn.dls[1]), None), n_trn=70, n_val=3
        ),
        fit2,
    ),
    Case("no validation data", without_validation, fit2, raises="IndexError"),
    Case("no length", without_length, fit2, raises="TypeError"),
    Case(
        "a model whose attribute shadows an event",
        lambda: learner(Does("after_train", validates), model=Shadowed()),
        fit2,
    ),
    Case(
        "training flag set by a handler",
        does("after_pred", set_attr("training", False), 1),
        fit2,
        raises="AttributeError",
    ),
]

CASES = [*NESTED, *SEVERAL, *CANCELLED, *CHANGED]
