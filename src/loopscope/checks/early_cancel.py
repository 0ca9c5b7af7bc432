"""A cancel in before_X that comes before a callback which sets things up there, and needs them in after_X."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from loopscope.callbacks import Callback, Method
from loopscope.checks.cancels import Cancel, cancels
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.model import Handler

RULE = Rule(
    name="early-cancel",
    severity="error",
    frameworks=("fastai",),
    needs="callbacks",
    says="a cancel in before_X comes before a callback that sets up there what its after_X needs",
    why="After a cancel fastai calls no further handler of before_X, but every handler of after_X: one that relies on "
    "what its own before_X sets fails with an AttributeError, or works with what an earlier round has left.",
    do="Give the callback that cancels a higher order than the one that sets things up: order = 70 stands behind "
    "fastai's Recorder (50) and ProgressCallback (60).",
    fires="""
        class SkipTraining(Callback):
            def before_train(self): raise CancelTrainException

        learn.add_cb(SkipTraining())
        """,
    silent="""
        class SkipTraining(Callback):
            order = 70
            def before_train(self): raise CancelTrainException

        learn.add_cb(SkipTraining())
        """,
)


def findings(case: Case) -> Iterator[Finding]:
    for one in cancels(case):
        if one.scope is not None and one.event.name == f"before_{one.scope}" and not case.shipped(one.handler):
            at = next(i for i, row in enumerate(one.event.children) if row is one.row)
            behind = [row.handler for row in one.event.children[at + 1 :]]
            yield from (found for other in behind if other for found in _broken(case, one, other))


def _broken(case: Case, one: Cancel, other: Handler) -> Iterator[Finding]:
    callback = case.callbacks.get(other.id)
    method = case.method(other)
    after = callback.method(f"after_{one.scope}") if callback else None
    if callback is None or method is None or after is None:
        return
    known = {*callback.attributes, *_set_before(case, callback, one.event.name), *_answered(case)}
    missing = [name for name in _written(method) if name not in known and name in _read(after)]
    if not missing:
        return
    what = " and ".join(f"self.{name}" for name in missing)
    order = case.callbacks[one.handler.id].settings.get("order", 0) if one.handler.id in case.callbacks else 0
    yield RULE.at(
        one.handler,
        f"{one.handler.callback}.{one.event.name} {one.verb} {one.raised.exception} before {other.callback} has set "
        f"{what} there: {other.callback}.{after.name} still runs, and needs {'it' if len(missing) == 1 else 'them'}",
        "inferred",
        severity="error" if one.certain else "warning",
        evidence=(
            f"{one.handler.callback} (order {order}) stands before {other.callback} "
            f"(order {callback.settings.get('order', 0)}) at {one.event.name}",
            f"{other.callback}.{other.method} sets {what}, {other.callback}.{after.name} reads {what}",
        ),
    )


def _written(method: Method) -> list[str]:
    """Return the attributes of the callback that a method always sets."""
    found = [effect for effect in method.effects if effect.kind == "writes" and effect.on == "callback"]
    return [e.target.removeprefix("self.") for e in found if e.certain and e.how == "=" and e.target.count(".") == 1]


def _set_before(case: Case, callback: Callback, event: str) -> Iterator[str]:
    """Yield what the callback sets, on some way, at the events that come before one."""
    for row in case.rows("event"):
        if row.name == event:
            return
        method = callback.method(row.name)
        for effect in method.effects if method else ():
            if effect.kind == "writes" and effect.on == "callback":
                yield effect.target.removeprefix("self.")


def _answered(case: Case) -> Iterator[str]:
    """Yield what a look-up finds on the learner: its attributes, and the names of its callbacks."""
    held = case.examined.settings.get("attributes") if case.examined else None
    yield from held if isinstance(held, tuple) else ()
    yield from (callback.name for callback in case.callbacks.values())


def _read(method: Method) -> set[str]:
    """Return the attributes of `self` that a method reads without asking whether they are there."""
    if method.node is None:
        return set()
    nodes = list(ast.walk(method.node))
    asked = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_own(node)}
    return named - asked


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self" and isinstance(node.ctx, ast.Load)
