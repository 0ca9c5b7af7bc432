"""A loop made by hand, in the shape of a fastai fit: one of everything that a map can say, and no framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from loopscope.model import (
    Binding,
    Catch,
    Event,
    Fact,
    Handler,
    Loop,
    Need,
    Node,
    Place,
    Raise,
    Repeat,
    Scope,
    Step,
)

HERE = "/home/ada/project"
PACKAGES = "/opt/python/lib/python3.11/site-packages"
LEARNER = f"{PACKAGES}/toy/learner.py"

TRAINING = Need("training", True, "only while training")
TARGETS = Need("targets", True, "only if the batch has targets")

CANCELS = tuple(f"Cancel{level}Exception" for level in ("Fit", "Epoch", "Train", "Validate", "Batch", "Step"))


def event(name: str, *needs: Need, line: int = 20) -> Event:
    return Event(name, Place(LEARNER, line), needs)


def step(name: str, text: str, *needs: Need, line: int) -> Step:
    return Step(name, text, Place(LEARNER, line), needs)


def level(name: str, body: tuple[Node, ...], repeat: Repeat | None = None, needs: tuple[Need, ...] = ()) -> Scope:
    """A scope as fastai has them: before_X and the body are guarded, after_cancel_X and after_X follow."""
    return Scope(
        name,
        (event(f"before_{name}"), *body),
        catches=(Catch((f"Cancel{name.capitalize()}Exception",), (event(f"after_cancel_{name}", line=22),)),),
        exit=(event(f"after_{name}", line=23),),
        repeat=repeat or Repeat(1, 1),
        needs=needs,
        place=Place(LEARNER, 19),
    )


def batch(times: int) -> Scope:
    body = (
        step("draw a batch", "enumerate(self.dl)", line=30),
        step("move to device", "self.to_device(b)", line=31),
        event("before_batch"),
        step("forward", "self.model(x)", line=33),
        event("after_pred", line=34),
        step("loss", "self.loss_func(self.pred, y)", TARGETS, line=35),
        event("after_loss", line=36),
        level("step", (step("optimizer step", "self.opt.step()", line=38),), needs=(TRAINING, TARGETS)),
        step("zero_grad", "self.opt.zero_grad()", TRAINING, TARGETS, line=40),
    )
    made = level("batch", (), Repeat(times, times))
    return replace(made, body=body)  # its before_batch comes after the batch is drawn


def handler(callback: str, at: str, order: int, place: str = "", **more: object) -> Handler:
    file, _, line = (place or f"{LEARNER}:{order + 100}").rpartition(":")
    return Handler(  # type: ignore[arg-type]
        f"{callback}#1", callback, callback, at, at, f"order {order}", place=Place(file, int(line)), **more
    )


def said(doc: str = "", effect: str = "", note: str = "", target: str = "") -> tuple[Fact, ...]:
    facts = (Fact("doc", doc, "declared"), Fact("effect", effect, "inferred"), Fact("note", note, "inferred"))
    return tuple(fact for fact in facts if fact.text)


def handlers() -> tuple[Handler, ...]:
    """All handlers of the loop, in calling order."""
    train_only = (Need("training", True, "run_valid is False: skipped while validating"),)
    return (
        handler("TrainEval", "before_fit", -10, facts=said("Set the counters to 0", "sets learn.iter = 0")),
        handler("TrainEval", "before_train", -10, facts=said("Train mode"), sets=(("training", True),)),
        handler("TrainEval", "before_validate", -10, facts=said(effect="calls eval()"), sets=(("training", False),)),
        handler("TrainEval", "after_batch", -10, facts=said(effect="counts learn.iter"), needs=train_only),
        handler("Accumulate", "before_step", 6, facts=said("Skip the step until enough items were seen"),
                raises=(Raise("CancelBatchException", when="self.count < self.n_acc"),)),
        handler("Mine", "before_fit", 10, f"{HERE}/train.py:8", mine=True, origin="cbs", facts=said("My *own* <b>")),
        handler("Mine", "after_loss", 10, f"{HERE}/train.py:11", mine=True, origin="cbs", needs=train_only,
                facts=said(effect="sets learn.loss_grad"), raises=(Raise("ValueError", when="self.loss > 3"),)),
        handler("Mine", "after_cancel_batch", 10, f"{HERE}/train.py:15", mine=True, origin="cbs"),
        handler("Mine", "after_batch", 10, f"{HERE}/train.py:18", mine=True, origin="cbs"),
        handler("Shadowed", "after_pred", 20, facts=said(note="not its own: learn.model.after_pred (of Net)")),
        handler("Recorder", "before_fit", 50, facts=said("Prepare state\n\nMore about it.", "sets self.log = []")),
        handler("Recorder", "after_batch", 50, facts=said(effect="appends to self.losses")),
        handler("Recorder", "after_cancel_train", 50, facts=said(effect="sets self.cancel_train = True")),
        handler("Recorder", "after_epoch", 50, facts=said("Log the epoch", "calls learn.logger(self.log)")),
        handler("Tracker", "after_epoch", 60, needs=(Need("run Tracker", True, "run is False"),),
                raises=(Raise("CancelFitException", when="self.wait >= self.patience"),), origin="added by fit"),
        handler("Tracker", "after_fit", 60, nested=("validate",)),
    )  # fmt: skip


def fit(epochs: int | None = 2) -> Loop:
    """`learn.fit(2)`: training of ten batches and validation of two in each epoch."""
    train = level("train", (batch(10),))
    validate = level("validate", (batch(2),))
    repeat = Repeat(0, None, "n_epoch") if epochs is None else Repeat(epochs, epochs)
    found: dict[str, tuple[Handler, ...]] = {}
    for one in handlers():
        found[one.event] = (*found.get(one.event, ()), one)
    return Loop(
        framework="toy",
        subject="Learner",
        run="fit",
        call=f"learn.fit({'' if epochs is None else epochs}, cbs=[Mine])",
        root=Scope("fit", (level("fit", (level("epoch", (train, validate), repeat),)),)),
        binding=Binding(MappingProxyType(found)),
        flags=MappingProxyType({"training": False}),
        docs=MappingProxyType(
            {"before_fit": "The run begins.", "after_pred": "The model has answered; change learn.pred."}
        ),
        cancels=CANCELS,
        swallowed=("StopIteration",),
        outline=("Start Fit", "before_fit", "Start Batch", "after_batch", "End Batch", "End Fit", "after_fit"),
        notes=("Learner has its own one_batch (train.py:3): this part is read from it",),
        versions=MappingProxyType({"toy": "1.2.3", "python": "3.11.7"}),
    )


WORDS = ("kind", "trust", "then", "how", "evidence", "origin", "exception", "exceptions", "cancels", "swallowed")
"""Fields whose texts have a meaning of their own, or are put together from parts of them."""


def reworded(value: Any, change: Callable[[str, str], str], field: str = "") -> Any:
    """Return a loop with every text `t` of a field `f` replaced by `change(f, t)`, keys of mappings included."""
    if isinstance(value, str):
        return value if field in WORDS else change(field, value)
    if isinstance(value, tuple):
        return tuple(reworded(one, change, field) for one in value)
    if isinstance(value, Mapping):
        return {reworded(key, change, "name"): reworded(one, change, field) for key, one in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    parts = {one.name: reworded(getattr(value, one.name), change, one.name) for one in dataclasses.fields(value)}
    return replace(value, **parts)  # type: ignore[type-var]
