"""An attribute of learner or model with the name of an event: fastai's callbacks fall through to it, and call it."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.views import Row

RULE = Rule(
    name="shadowed-event",
    severity="error",
    frameworks=("fastai",),
    needs="callbacks",
    says="an attribute of learner or model has the name of an event",
    why="fastai looks an event up on the callback, which passes on to the learner and its model what it has not: "
    "every callback without a handler of its own calls the attribute, once each time that the event fires.",
    do="Rename the attribute.",
    fires="""
        class Net(nn.Module):
            def after_pred(self): ...

        Learner(dls, Net()).fit(1)
        """,
    silent="""
        class Net(nn.Module):
            def finish(self): ...

        Learner(dls, Net()).fit(1)
        """,
)


def findings(case: Case) -> Iterator[Finding]:
    assert case.examined is not None
    for name, whose in case.examined.attributes.items():
        rows = [row for row in case.rows("event") if row.name == name and row.status != "never"]
        callers = [row for event in rows[:1] for row in event.children if _falls_through(row, f"{whose}.{name}")]
        if callers:
            yield RULE.found(
                f"{whose}.{name} has the name of an event: {len(callers)} callbacks call it there",
                "declared",
                event=name,
                place=callers[0].place,
                do=f"Rename {whose}.{name}.",
                evidence=(f"without a handler of their own: {', '.join(row.name for row in callers)}",),
            )


def _falls_through(row: Row, path: str) -> bool:
    return row.handler is not None and row.status != "never" and row.handler.method == path
