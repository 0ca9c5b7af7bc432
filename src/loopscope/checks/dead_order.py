"""`run_after` and `run_before` on a fastai callback: today's fastai sorts by `order` alone."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="dead-order",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="run_after or run_before is set, which fastai does not read",
    why="The callback runs where its order puts it (0, unless it says otherwise), which need not be where its author "
    "meant it to run: nothing fails, and the results are those of another order.",
    do="Set order = <number> in the class: lower runs first, and what has the same order runs as it was added.",
    fires="""
        class Scale(Callback):
            run_after = MixedPrecision

            def after_backward(self): ...

        learn.add_cb(Scale())
        """,
    silent="""
        class Scale(Callback):
            order = MixedPrecision.order + 1

            def after_backward(self): ...

        learn.add_cb(Scale())
        """,
)

NAMES = ("run_after", "run_before")


def findings(case: Case) -> Iterator[Finding]:
    for callback in case.callbacks.values():
        for name in NAMES:
            if name in callback.attributes:
                order = callback.settings.get("order", 0)
                yield RULE.of(
                    callback,
                    f"{callback.cls} sets {name}, which fastai does not read: it runs by its order, {order}",
                    "declared",
                    evidence=(f"{callback.cls}.{name} is set", f"{callback.cls}.order is {order}"),
                )
