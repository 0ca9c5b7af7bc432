"""A Cancel… exception that is raised where fastai does not catch it: it leaves the run as an error."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.cancels import Cancel, asks_phase, cancels
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="escaping-cancel",
    severity="error",
    frameworks=("fastai",),
    needs="loop",
    says="a Cancel… exception is raised at an event where fastai does not catch it",
    why="fastai catches CancelXException around before_X and the body of X alone. Raised in after_X, or outside of X, "
    "it leaves the run as an error, and after_fit is not called.",
    do="Raise it at an event between before_X and after_X, or raise the exception of a scope around this event: "
    "CancelFitException ends the run from any event but after_fit.",
    fires="""
        class SkipSmall(Callback):
            def after_batch(self):
                if self.loss < 0.1: raise CancelBatchException

        learn.add_cb(SkipSmall())
        """,
    silent="""
        class SkipSmall(Callback):
            def after_loss(self):
                if self.loss < 0.1: raise CancelBatchException

        learn.add_cb(SkipSmall())
        """,
)


def findings(case: Case) -> Iterator[Finding]:
    found = [one for one in cancels(case) if not case.shipped(one.handler)]
    caught = {_key(one) for one in found if one.scope is not None}
    told: set[tuple[str, str, str]] = set()
    for one in found:
        if one.scope is None and not asks_phase(one.raised) and _key(one) not in told:
            told.add(_key(one))
            yield _finding(case, one, _key(one) in caught)


def _key(one: Cancel) -> tuple[str, str, str]:
    return one.handler.id, one.event.name, one.raised.exception


def _finding(case: Case, one: Cancel, elsewhere: bool) -> Finding:
    name, event = one.raised.exception, one.event.name
    other = _phase(one) if elsewhere else ""
    here = ", ".join(landing.exception for landing in one.event.landings if landing.scope is not None)
    return RULE.at(
        one.handler,
        f"{one.handler.callback}.{event} {one.verb} {name}, which nothing catches there{other}: it leaves "
        f"{case.loop.run} as an error",
        "inferred",
        severity="error" if one.certain else "warning",
        evidence=(
            f"{one.handler.callback}.{one.handler.method} raises {name}{one.condition}",
            f"caught at {event}{other}: {here or 'nothing'}",
        ),
    )


def _phase(one: Cancel) -> str:
    trains = any(landing.exception == "CancelTrainException" and landing.scope for landing in one.event.landings)
    return " while training" if trains else " while validating"
