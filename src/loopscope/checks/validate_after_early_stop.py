"""A tracker among the learner's own callbacks: `learn.validate()` logs fewer figures than it looks among."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.rule import Case, Rule
from loopscope.checks.trackers import Tracker, trackers
from loopscope.findings import Finding

RULE = Rule(
    name="validate-after-early-stop",
    severity="note",
    frameworks=("fastai",),
    needs="callbacks",
    says="learn.validate() fails in EarlyStoppingCallback or another tracker of the learner",
    why="A tracker finds its figure by its place among those of fit. validate() logs those of the validation alone, so "
    "that the place of the last one is behind the end of the list: IndexError in after_epoch.",
    do="Give the tracker to the run that it is for, as in learn.fit(10, cbs=EarlyStoppingCallback()), or call "
    "learn.validate() inside with learn.removed_cbs(learn.early_stopping).",
    fires="""
        learn = Learner(dls, model, cbs=EarlyStoppingCallback())
        learn.fit(10)
        learn.validate()
        """,
    silent="""
        learn = Learner(dls, model)
        learn.fit(10, cbs=EarlyStoppingCallback())
        learn.validate()
        """,
)


def findings(case: Case) -> Iterator[Finding]:
    now = case.loop.run == "validate"
    for one in trackers(case):
        if one.place >= len(one.validated) and (now or one.callback.origin == "learner"):
            yield _finding(one, now)


def _finding(one: Tracker, now: bool) -> Finding:
    when = "this validate()" if now else "a learn.validate() after this run"
    name, held = one.callback.cls, one.callback.origin == "learner"
    return RULE.of(
        one.callback,
        f"{name} watches {one.monitor}, figure {one.place + 1} of those that fit logs; {when} logs "
        f"{len(one.validated)}, and fails with IndexError",
        "inferred",
        event="after_epoch",
        severity="error" if now else "note",
        evidence=(
            f"{name}.after_epoch reads recorder.values[-1][{one.place}]",
            f"{name} is {'among the callbacks of the learner, which every run calls' if held else 'given to this run'}",
        ),
    )
