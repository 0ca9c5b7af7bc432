"""A fastai training without anybody who sets `learn.training`: no backward pass and no optimizer step."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="no-training-switch",
    severity="error",
    frameworks=("fastai",),
    needs="loop",
    says="no callback sets learn.training, so nothing is trained",
    why="fastai runs backward and the optimizer only while learn.training is True, and TrainEvalCallback sets it. "
    "Without it losses are computed and the weights stay as they are; with a Recorder the first batch fails, because "
    "that one has made nothing ready for training.",
    do="Add it: learn.add_cb(TrainEvalCallback()). Learner(..., default_cbs=False) leaves it out.",
    fires="""
        learn = Learner(dls, model, loss_func=loss, cbs=[Watch()], default_cbs=False)
        learn.fit(1)
        """,
    silent="""
        learn = Learner(dls, model, loss_func=loss, cbs=[TrainEvalCallback(), Watch()], default_cbs=False)
        learn.fit(1)
        """,
)

FLAG = "training"


def findings(case: Case) -> Iterator[Finding]:
    trains = any(row.name == "before_train" and row.status != "never" for row in case.rows("event"))
    if trains and _is_off(case) and not _trains_anyway(case):
        yield RULE.found(
            f"nothing sets learn.training in {case.loop.call}: no backward pass and no optimizer step will run",
            "inferred",
            evidence=("learn.training is False when the run begins", "no handler that is called changes it"),
        )


def _is_off(case: Case) -> bool:
    """Return whether the switch is off when the run begins, and no handler that is called touches it."""
    called = [row.handler for _, row in case.handlers() if row.handler is not None and row.status != "never"]
    touched = any(flag == FLAG for one in called for flag, _ in one.sets)
    return case.loop.flags.get(FLAG) is False and not touched


def _trains_anyway(case: Case) -> bool:
    """Return whether an own training loop comes to a backward pass or a step all the same."""
    steps = [row for _, row in case.root.walk() if row.name in ("backward", "step", "after_backward", "after_step")]
    return not steps or any(row.status != "never" for row in steps)
