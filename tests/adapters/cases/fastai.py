"""fastai's cases for the conformance suite: small real learners, and the call that is made on each."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fastai.callback.all as cb
import torch
from fastai.callback.core import (
    Callback,
    CancelBackwardException,
    CancelBatchException,
    CancelFitException,
    CancelStepException,
    TrainEvalCallback,
    event,
)
from fastai.callback.progress import ProgressCallback
from fastai.learner import Learner, SkipToEpoch
from fastai.test_utils import VerboseCallback, synth_learner


@dataclass(frozen=True)
class Case:
    """A learner, a call on it, and the arguments with which the loop of that call is inspected.

    `raises` is the class name of the exception that must leave the call, None where it must end normally.
    """

    name: str
    make: Callable[[], Learner]
    call: Callable[[Learner], object]
    run: str = "fit"
    inspect: dict[str, Any] = field(default_factory=dict)
    raises: str | None = None


def learner(*cbs: Any, n_trn: int = 3, n_val: int = 2, **kwargs: Any) -> Learner:
    """A regression learner with 3 training and 2 validation batches."""
    torch.manual_seed(0)
    return synth_learner(n_trn=n_trn, n_val=n_val, cbs=list(cbs), **kwargs)


class At(Callback):
    """Raises `exception` at `at`, once, at the end of that event's callbacks."""

    order = 100

    def __init__(self, at: str, exception: type[BaseException], message: str = "on purpose") -> None:
        self.at, self.exception, self.message, self.raised = at, exception, message, False
        setattr(self, at, self.throw)

    def throw(self) -> None:
        if not self.raised:
            self.raised = True
            raise self.exception(*([self.message] if self.message else []))


class Silent(Callback):
    """Overrides `__call__`: fastai's own rules do not apply to its handlers."""

    run_valid = False

    def __call__(self, event_name):
        if event_name == "after_batch":
            self.after_batch()

    def after_batch(self):
        pass

    def after_pred(self):
        raise AssertionError("never called")


class ValidatesAfterTrain(Callback):
    def after_train(self):
        self.learn.validate()


class ValidatesInTheMiddle(Callback):
    order = 55

    def after_batch(self):
        if self.training and self.iter == 1:
            self.learn._do_epoch_validate()


class OneBatch(Learner):
    """Overrides `one_batch`: two forward passes, no `after_backward`, an event where fastai has none."""

    def one_batch(self, i, b):
        self.iter = i
        self._split(self._set_device(b))
        self("before_batch")
        self.pred = self.model(*self.xb)
        self("after_pred")
        self.loss_grad = self.loss_func(self.pred, *self.yb)
        self.loss = self.loss_grad.clone()
        self("after_loss")
        if self.training:
            self("before_backward")
            self.loss_grad.backward()
            self("before_step")
            self.opt.step()
            self.opt.zero_grad()
        self("after_batch")


class OwnEvents(Learner):
    """Overrides `_do_one_batch` with an event of its own, fired in training only, and a loop of three inner passes."""

    def _do_one_batch(self):
        for _ in range(3):
            self.pred = self.model(*self.xb)
            self("after_pred")
        self.loss_grad = self.loss_func(self.pred, *self.yb)
        self.loss = self.loss_grad.clone()
        self("after_loss")
        if self.training:
            self("after_penalty")
        self._do_grad_opt() if self.training else None


class Penalty(Callback):
    def after_penalty(self):
        self.learn.loss_grad = self.learn.loss_grad * 2


class CallsSuper(Learner):
    """Overrides `_do_epoch_train` and calls fastai's own inside."""

    def _do_epoch_train(self):
        self.trained = False
        super()._do_epoch_train()
        self.trained = True


def own_events() -> Learner:
    event.after_penalty = "after_penalty"  # fastai refuses an event that this class does not have
    return override(OwnEvents, Penalty())()


def override(cls: type[Learner], *cbs: Any) -> Callable[[], Learner]:
    def make() -> Learner:
        base = learner()
        return cls(base.dls, base.model, loss_func=base.loss_func, opt_func=base.opt_func, cbs=list(cbs))

    return make


def patched() -> Learner:
    """A learner whose instance carries its own `_do_one_batch`, as many projects patch it."""
    learn = learner()

    def _do_one_batch():
        learn.pred = learn.model(*learn.xb)
        learn("after_pred")
        learn.loss_grad = learn.loss_func(learn.pred, *learn.yb)
        learn.loss = learn.loss_grad.clone()
        learn("after_loss")

    learn._do_one_batch = _do_one_batch
    return learn


def patched_with_arguments() -> Learner:
    """A learner whose instance carries a `one_batch` that is a plain function, and a partial bound to the learner."""
    learn = learner()

    def one_batch(i, b):
        learn.iter = i
        learn._split(learn._set_device(b))
        learn("before_batch")
        learn._do_one_batch()
        learn("after_batch")

    def _do_one_batch(me, extra):
        me.pred = me.model(*me.xb)
        me("after_pred")
        me.loss_grad = me.loss_func(me.pred, *me.yb)
        me.loss = me.loss_grad.clone()
        me("after_loss")
        if extra and me.training:
            me._do_grad_opt()

    learn.one_batch = one_batch
    learn._do_one_batch = functools.partial(_do_one_batch, learn, True)
    return learn


class HandsOn(Learner):
    """Hands its work on as a lambda, a local function, a partial, by `getattr`, and passes `*args` through."""

    def fit(self, *args, **kwargs):
        super().fit(*args, **kwargs)

    def one_batch(self, i, b):
        self.iter = i

        self._split(self._set_device(b))
        work = lambda: self._do_one_batch()  # noqa: E731, PLW0108 - a lambda is what this case is about
        self._with_events(work, "batch", CancelBatchException)

    def _do_one_batch(self):
        def inner():
            self._the_rest()

        inner()

    def _the_rest(self):
        super()._do_one_batch()

    def _do_grad_opt(self):
        self._with_events(functools.partial(self._backward), "backward", CancelBackwardException)
        self._with_events(self._step, "step", CancelStepException)
        self.opt.zero_grad()


def announced(function):
    """A decorator that fires an event of its own before the method."""

    @functools.wraps(function)
    def wrapper(self, *args, **kwargs):
        self("after_pred")
        return function(self, *args, **kwargs)

    return wrapper


class Decorated(Learner):
    @announced
    def _do_epoch_validate(self, *args, **kwargs):
        return super()._do_epoch_validate(*args, **kwargs)

    @torch.no_grad()
    def validate(self, *args, **kwargs):
        return super().validate(*args, **kwargs)

    def all_batches(self):
        self.n_iter = len(self.dl)
        [self.one_batch(i, b) for i, b in enumerate(self.dl)]


def kept_original() -> Learner:
    """A learner whose instance wraps its own original `one_batch`, and validates on the training data."""
    learn = learner()
    original = learn.one_batch

    def one_batch(i, b):
        original(i, b)
        learn("after_pred")

    learn.one_batch = one_batch
    learn._do_epoch_validate = functools.partial(Learner._do_epoch_validate, learn, ds_idx=0)
    return learn


class Removes(Learner):
    def fit(self, n, **kwargs):
        self.remove_cb(ProgressCallback)
        return super().fit(n, **kwargs)


class SwitchesItself(Callback):
    """Decides while it runs in which half it is called."""

    def before_fit(self):
        self.run_valid = False

    def after_batch(self):
        pass


class Shadowed(torch.nn.Module):
    """A model with an attribute that has the name of an event: every callback calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x * self.a

    def after_loss(self):
        pass


def off(learn: Learner, cls: type[Callback]) -> Learner:
    next(one for one in learn.cbs if isinstance(one, cls)).run = False
    return learn


def tabular() -> Learner:
    import pandas as pd
    from fastai.tabular.all import Categorify, CategoryBlock, Normalize, TabularDataLoaders, tabular_learner

    rng = random.Random(0)
    frame = pd.DataFrame(
        {"x": [rng.random() for _ in range(64)], "c": [rng.choice("ab") for _ in range(64)], "y": ["no", "yes"] * 32}
    )
    dls = TabularDataLoaders.from_df(
        frame,
        procs=[Categorify, Normalize],
        y_names="y",
        cat_names=["c"],
        cont_names=["x"],
        bs=16,
        y_block=CategoryBlock(),
        valid_idx=list(range(16)),
        num_workers=0,
    )
    return tabular_learner(dls, layers=[8], n_out=2)


def text() -> Learner:
    from fastai.text.all import (
        AWD_LSTM,
        CrossEntropyLossFlat,
        DataLoaders,
        LMDataLoader,
        LMLearner,
        LMTensorText,
        get_language_model,
    )

    rows = [LMTensorText(torch.randint(0, 20, (60,))) for _ in range(4)]
    dls = DataLoaders(
        LMDataLoader(rows, bs=2, seq_len=10, num_workers=0), LMDataLoader(rows[:2], bs=2, seq_len=10, num_workers=0)
    )
    config = {"emb_sz": 8, "n_hid": 8, "n_layers": 2, "pad_token": 1, "tie_weights": True, "out_bias": True}
    for part in ("output_p", "hidden_p", "input_p", "embed_p", "weight_p"):
        config[part] = 0.1
    model = get_language_model(AWD_LSTM, 20, config=config)
    learn = LMLearner(dls, model, loss_func=CrossEntropyLossFlat())
    learn.add_cbs(cb.rnn_cbs(alpha=2.0, beta=1.0)) if not any(
        isinstance(c, cb.RNNCallback) for c in learn.cbs
    ) else None
    return learn


def vision() -> Learner:
    import numpy as np
    from torch import nn

    from tests import fastai_all

    fastai_all.declare_operators()
    from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, RandomSplitter, vision_learner

    def small(pretrained: bool = False, **_: Any) -> nn.Module:
        first, second = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 8, 3, 2)
        return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    images = [np.full((24, 24, 3), n * 20, dtype=np.uint8) for n in range(12)]
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_x=lambda n: images[n],
        get_y=lambda n: "ab"[n % 2],
        splitter=RandomSplitter(seed=0),
    )
    dls = block.dataloaders(list(range(12)), bs=4, num_workers=0)
    return vision_learner(dls, small, pretrained=False, normalize=False)


FIT2 = {"epochs": 2}


def fit2(learn: Learner) -> None:
    learn.fit(2)


CASES = [
    Case("fit", learner, fit2, inspect=FIT2),
    Case("fit of no epoch", learner, lambda learn: learn.fit(0), inspect={"epochs": 0}),
    Case(
        "fit from epoch 1", learner, lambda learn: learn.fit(3, start_epoch=1), inspect={"epochs": 3, "start_epoch": 1}
    ),
    Case(
        "fit beyond the end",
        learner,
        lambda learn: learn.fit(2, start_epoch=5),
        inspect={"epochs": 2, "start_epoch": 5},
    ),
    Case("fit_one_cycle", learner, lambda learn: learn.fit_one_cycle(2), "fit_one_cycle", FIT2),
    Case(
        "fit_one_cycle from epoch 1",
        learner,
        lambda learn: learn.fit_one_cycle(2, start_epoch=1),
        "fit_one_cycle",
        {"epochs": 2, "start_epoch": 1},
    ),
    Case("fit_flat_cos", learner, lambda learn: learn.fit_flat_cos(2), "fit_flat_cos", FIT2),
    Case("fine_tune", learner, lambda learn: learn.fine_tune(2), "fine_tune", FIT2),
    Case("validate", learner, lambda learn: learn.validate(), "validate"),
    Case("get_preds", learner, lambda learn: learn.get_preds(), "get_preds"),
    Case("lr_find", learner, lambda learn: learn.lr_find(num_it=100, stop_div=False, show_plot=False), "lr_find"),
    Case(
        "lr_find that diverges",
        lambda: learner(lr=1.0),
        lambda learn: learn.lr_find(end_lr=1e6, show_plot=False),
        "lr_find",
    ),
    Case("no default callbacks", lambda: learner(default_cbs=False), fit2, inspect=FIT2),
    Case(
        "a callback that is switched off", lambda: off(learner(cb.GradientClip()), cb.GradientClip), fit2, inspect=FIT2
    ),
    Case(
        "TrainEvalCallback switched off",
        lambda: off(learner(), TrainEvalCallback),
        fit2,
        inspect=FIT2,
        raises="AttributeError",
    ),
    Case(
        "fine_tune with one switched off",
        lambda: off(learner(cb.GradientClip()), cb.GradientClip),
        lambda learn: learn.fine_tune(1),
        "fine_tune",
        {"epochs": 1},
    ),
    Case("gradient accumulation", lambda: learner(cb.GradientAccumulation(n_acc=32)), fit2, inspect=FIT2),
    Case("mixed precision", lambda: learner(cb.MixedPrecision()), fit2, inspect=FIT2),
    Case(
        "clip, accumulate and mixed precision",
        lambda: learner(cb.GradientClip(), cb.GradientAccumulation(32), cb.MixedPrecision()),
        fit2,
        inspect=FIT2,
    ),
    Case("early stopping", lambda: learner(cb.EarlyStoppingCallback(min_delta=1e9)), fit2, inspect=FIT2),
    Case("a short epoch", lambda: learner(cb.ShortEpochCallback(0.3)), fit2, inspect=FIT2),
    Case(
        "trackers during lr_find",
        lambda: learner(cb.EarlyStoppingCallback(), cb.ReduceLROnPlateau()),
        lambda learn: learn.lr_find(show_plot=False),
        "lr_find",
    ),
    Case(
        "no progress bar, CSV",
        lambda: learner(cb.CollectDataCallback(), cb.TerminateOnNaNCallback()),
        fit2,
        inspect=FIT2,
    ),
    Case("SkipToEpoch by hand", lambda: learner(SkipToEpoch(1)), fit2, inspect=FIT2),
    Case("a whole validation after training", lambda: learner(ValidatesAfterTrain()), fit2, inspect=FIT2),
    Case("a callback that prints every event", lambda: learner(VerboseCallback()), fit2, inspect=FIT2),
    Case("a callback with its own __call__", lambda: learner(Silent()), fit2, inspect=FIT2),
    Case("one_batch overridden", override(OneBatch), fit2, inspect=FIT2),
    Case("_do_one_batch with an own event", own_events, fit2, inspect=FIT2),
    Case("_do_epoch_train calls super", override(CallsSuper), fit2, inspect=FIT2),
    Case("_do_one_batch patched on the instance", patched, fit2, inspect=FIT2),
    Case("one_batch and _do_one_batch patched with arguments", patched_with_arguments, fit2, inspect=FIT2),
    Case("work handed on", override(HandsOn), fit2, inspect=FIT2),
    Case("decorated methods", override(Decorated), fit2, inspect=FIT2),
    Case("a decorated validate", override(Decorated), lambda learn: learn.validate(), "validate"),
    Case("a kept original", kept_original, fit2, inspect=FIT2),
    Case("a callback removed on the way", override(Removes), fit2, inspect=FIT2),
    Case("run_valid set in before_fit", lambda: learner(SwitchesItself()), fit2, inspect=FIT2),
    Case(
        "lr_find within one epoch",
        lambda: learner(n_trn=120),
        lambda learn: learn.lr_find(stop_div=False, show_plot=False),
        "lr_find",
    ),
    Case("fit_sgdr", learner, lambda learn: learn.fit_sgdr(2, 1), "fit_sgdr"),
    Case("a model attribute shadows after_loss", lambda: learner(model=Shadowed()), fit2, inspect=FIT2),
    Case("tabular", tabular, fit2, inspect=FIT2),
    Case("tabular predictions", tabular, lambda learn: learn.get_preds(), "get_preds"),
    Case("language model", text, fit2, inspect=FIT2),
    Case("vision", vision, lambda learn: learn.fine_tune(1), "fine_tune", {"epochs": 1}),
    Case(
        "KeyboardInterrupt in a callback",
        lambda: learner(At("after_batch", KeyboardInterrupt)),
        fit2,
        inspect=FIT2,
        raises="KeyboardInterrupt",
    ),
    Case(
        "an error in a callback", lambda: learner(At("after_pred", ValueError)), fit2, inspect=FIT2, raises="ValueError"
    ),
    Case(
        "an error without arguments",
        lambda: learner(At("after_pred", ValueError, "")),
        fit2,
        inspect=FIT2,
        raises="IndexError",
    ),
    Case(
        "an error in a callback of validate",
        lambda: learner(At("after_pred", ValueError)),
        lambda learn: learn.validate(),
        "validate",
        raises="ValueError",
    ),
    Case(
        "CancelFitException in validate",
        lambda: learner(At("after_pred", CancelFitException)),
        lambda learn: learn.validate(),
        "validate",
        raises="CancelFitException",
    ),
    Case("StopIteration in a callback", lambda: learner(At("before_batch", StopIteration)), fit2, inspect=FIT2),
]
