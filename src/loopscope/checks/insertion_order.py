"""Two fastai callbacks of one order that write the same thing at one event: only their insertion says who is last."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from loopscope.checks.rule import Case, Rule
from loopscope.effects import Effect
from loopscope.findings import Finding, Severity
from loopscope.model import Handler

RULE = Rule(
    name="insertion-order",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="two callbacks write the same thing, and only the order in which they were added says who is last",
    why="fastai sorts by order, and callbacks of one order run as they were added. Where one overwrites what the other "
    "has written, the same callbacks in another list, or taken out and put back with removed_cbs, train another model.",
    do="Set order in one of the two classes, so that it is said who comes last.",
    fires="""
        class Smooth(Callback):
            def after_pred(self): self.learn.pred = self.pred.clamp(-1, 1)

        class Cut(Callback):
            def after_pred(self): self.learn.pred = self.pred[:, :1]

        learn.add_cbs([Smooth(), Cut()])
        """,
    silent="""
        class Cut(Callback):
            order = Smooth.order + 1

            def after_pred(self): self.learn.pred = self.pred[:, :1]
        """,
)

WHOSE = ("learner", "model", "optimizer", "loss", "data")


def findings(case: Case) -> Iterator[Finding]:
    seen: set[tuple[str, str, str]] = set()
    for event in case.rows("event"):
        rows = [row for row in event.children if row.handler is not None and row.status != "never"]
        for first, second in combinations([row.handler for row in rows if row.handler is not None], 2):
            key = (event.name, first.id, second.id)
            if key not in seen and _tied(case, first, second):
                seen.add(key)
                yield from _conflicts(case, first, second)


def _tied(case: Case, first: Handler, second: Handler) -> bool:
    """Return whether two handlers are those of two callbacks with one order, not both of them the framework's."""
    one, other = case.callbacks.get(first.id), case.callbacks.get(second.id)
    if one is None or other is None or one is other or (case.shipped(first) and case.shipped(second)):
        return False
    return one.settings.get("order") == other.settings.get("order")


def _conflicts(case: Case, first: Handler, second: Handler) -> Iterator[Finding]:
    earlier, later = _written(case, first), _written(case, second)
    for target in earlier.keys() & later.keys():
        severity = _severity(earlier[target], later[target])
        if severity is not None:
            yield _found(case, first, second, (earlier[target], later[target]), severity)


def _written(case: Case, handler: Handler) -> dict[str, Effect]:
    """Return what a handler certainly writes of the loop, by name: the last time that it does."""
    method = case.method(handler)
    return {
        effect.target: effect
        for effect in (() if method is None else method.effects)
        if effect.kind == "writes" and effect.on in WHOSE and effect.certain
    }


def _severity(first: Effect, second: Effect) -> Severity | None:
    """Return how bad it is that one comes before the other: what is lost is worse than what is only nested."""
    if first.how == second.how != "=" or (first.value and first.value == second.value):
        return None  # two factors, two summands, two of a list; or one value
    if "=" not in (first.how, second.how):
        return "note"
    return (
        "warning"
        if any(one.how == "=" and one.value and one.target not in one.value for one in (first, second))
        else "note"
    )


def _found(case: Case, first: Handler, second: Handler, effects: tuple[Effect, Effect], severity: Severity) -> Finding:
    target, order = effects[0].target, case.callbacks[first.id].settings.get("order")
    return RULE.at(
        second,
        f"{first.id} and {second.id} both write {target} in {second.event}, and both have order {order}: {second.id} "
        f"comes last because it was added last",
        "inferred",
        severity=severity,
        evidence=tuple(_line(handler, effect) for handler, effect in zip((first, second), effects, strict=True)),
    )


def _line(handler: Handler, effect: Effect) -> str:
    return f"{handler.id}.{handler.method}: {effect.target} {effect.how} {effect.value or '…'}"
