"""A callback that writes to itself what belongs to the learner: fastai reads through `self`, it does not write."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.callbacks import Callback, Examined, Method
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="shadowed-attribute",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="a callback assigns to self what is an attribute of the learner",
    why="A callback reads the learner's attributes through self, but an assignment makes one of its own: the learner "
    "keeps its value, and from then on the callback reads its own, which goes stale. fastai warns of it when it "
    "happens.",
    do="Assign to self.learn.<name>.",
    fires="""
        class Double(Callback):
            def after_loss(self): self.loss_grad = self.loss_grad * 2

        learn.add_cb(Double())
        """,
    silent="""
        class Double(Callback):
            def after_loss(self): self.learn.loss_grad = self.loss_grad * 2

        learn.add_cb(Double())
        """,
    threads=("fastai#3167",),
)

WHILE_IT_RUNS = (
    *("loss", "loss_grad", "pred", "x", "y", "xb", "yb", "dl", "iter", "n_iter", "epoch", "n_epoch"),
    *("train_iter", "pct_train", "final_record", "smooth_loss"),
)
"""What a learner has only once it trains (fastai.learner.Learner and its default callbacks)."""


def findings(case: Case) -> Iterator[Finding]:
    assert case.examined is not None
    theirs = _of_learner(case.examined)
    for callback, method in case.examined.own():
        if method.name not in case.examined.events:  # what an event calls counts there, and __init__ has no learner
            continue
        for name in _written(method):
            if name in theirs and name == callback.name:
                yield _own_name(callback, method)
            elif name in theirs:
                yield RULE.on(
                    callback,
                    method,
                    f"{callback.cls}.{method.name} sets self.{name}, and learn.{name} stays what it was",
                    "inferred",
                    event=method.name,
                    do=f"Type self.learn.{name} = ..., or give it another name if it is the callback's own.",
                    evidence=(f"self.{name} is assigned", f"the learner has an attribute {name}"),
                )


def _own_name(callback: Callback, method: Method) -> Finding:
    """Return what is to know where a class EMA sets self.ema: nothing is lost."""
    name = callback.name
    return RULE.on(
        callback,
        method,
        f"{callback.cls}.{method.name} sets self.{name}, and learn.{name} is the callback itself",
        "inferred",
        severity="note",
        event=method.name,
        why="fastai keeps each callback in the learner under the name of its class. The attribute works, but who "
        "reads it through the learner gets the callback, and fastai warns of it when it happens.",
        do="Rename the attribute.",
        threads=(),
        evidence=(f"self.{name} is assigned", f"the learner keeps {callback.cls} as learn.{name}"),
    )


def _of_learner(examined: Examined) -> frozenset[str]:
    listed = examined.settings.get("attributes")
    names = listed if isinstance(listed, tuple) else ()
    return frozenset(name for name in (*names, *WHILE_IT_RUNS) if not name.startswith("_"))


def _written(method: Method) -> Iterator[str]:
    """Yield the names that a method assigns on the callback itself, each once."""
    found = (
        one.target.removeprefix("self.")
        for one in method.effects
        if one.kind == "writes" and one.on == "callback" and one.target.startswith("self.") and one.how.endswith("=")
    )
    yield from dict.fromkeys(found)
