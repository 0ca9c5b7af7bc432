"""fastai's GradientAccumulation with an `n_acc` that one batch more than fills: it counts items, not batches."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.gradients import ACCUMULATES, number, trains
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="accumulation-below-batch",
    severity="error",
    frameworks=("fastai",),
    needs="callbacks",
    says="GradientAccumulation is given fewer items than a batch has",
    why="n_acc counts items, not batches. With fewer than a batch has, each batch makes a step, so nothing is "
    "accumulated; and since the loss is divided by n_acc over the batch's size, its gradients become too large.",
    do="Set n_acc to the number of items that a step is made for: batches per step × batch size.",
    fires="""
        dls = ImageDataLoaders.from_folder(path, bs=64)
        learn = vision_learner(dls, resnet18, cbs=GradientAccumulation(n_acc=4))
        """,
    silent="""
        dls = ImageDataLoaders.from_folder(path, bs=64)
        learn = vision_learner(dls, resnet18, cbs=GradientAccumulation(n_acc=4 * 64))
        """,
    threads=("fastai/course22#128",),
)


def findings(case: Case) -> Iterator[Finding]:
    size = None if case.examined is None else number(case.examined.settings.get("bs"))
    for callback in case.callbacks.values():
        items = number(callback.settings.get("n_acc"))
        loss = callback.method("after_loss")
        if not callback.isa(ACCUMULATES) or not items or not size or loss is None or not loss.shipped:
            continue
        if 0 < items < size and trains(case):
            yield RULE.of(
                callback,
                f"n_acc is {items:g} and a batch has {size:g} items: each batch makes a step, with gradients "
                f"{size / items:.3g} times too large",
                "declared",
                evidence=(f"{callback.cls}.n_acc is {items:g}", f"the batch size of learn.dls is {size:g}"),
            )
