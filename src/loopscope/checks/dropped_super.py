"""An override that leaves out the work of the handler that it hides."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from loopscope.callbacks import Callback, Method
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.source import FunctionNode

RULE = Rule(
    name="dropped-super",
    severity="warning",
    frameworks=("fastai", "lightning", "transformers", "keras"),
    needs="callbacks",
    says="an override does not call the shipped handler that it hides",
    why="The class keeps its name and its settings, but what it does at this event is gone: an EarlyStopping that "
    "never stops, a checkpoint that is never written.",
    do="Call super() in the override, first or last as it needs.",
    fires="""
        class Tell(EarlyStopping):
            def on_epoch_end(self, epoch, logs=None): print(logs)

        model.fit(x, y, callbacks=[Tell("loss")])
        """,
    silent="""
        class Tell(EarlyStopping):
            def on_epoch_end(self, epoch, logs=None):
                super().on_epoch_end(epoch, logs)
                print(logs)

        model.fit(x, y, callbacks=[Tell("loss")])
        """,
)

FORWARDED = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
"""Event of Keras -> the older one that the base class's own method calls there (keras.callbacks.Callback)."""

BASES = ("Callback", "TrainerCallback")
"""What the frameworks call their base classes of callbacks, whose handlers do nothing but forward."""


IDLE: Mapping[tuple[str, str], str] = {
    ("fastai.callback.hook.HookCallback", "before_batch"): "every",
    ("fastai.callback.hook.HookCallback", "after_batch"): "every",
}
"""Shipped handlers that return at once where a setting is None, as it is unless one is given: the hooks of a
HookCallback then stay for the whole fit."""

STATE = ("state_dict", "load_state_dict")
"""Called for a checkpoint, at no event: what a class keeps of itself is its own affair."""


def findings(case: Case) -> Iterator[Finding]:
    assert case.examined is not None
    for callback, method in case.examined.own():
        if not any(one.rpartition(".")[2] in BASES for one in callback.classes):  # a module's are there to be replaced
            continue
        if _drops(callback, method, case):
            yield RULE.on(
                callback,
                method,
                f"{callback.cls}.{method.name} hides that of {method.hides}, which does not run",
                "inferred",
                do=f"Call super().{method.name}(...) in it.",
                evidence=(
                    f"{method.hides}.{method.name} does something",
                    f"{method.owner}.{method.name} calls neither it nor another method of {method.hides}",
                ),
            )
        elif case.loop.framework == "keras" and _stops_forwarding(callback, method):
            yield _forwarding(callback, method)


def _drops(callback: Callback, method: Method, case: Case) -> bool:
    known = case.examined.events if case.examined else ()
    if method.name not in known or method.name in STATE or method.calls_super:
        return False
    if not method.hides_shipped or method.hides in BASES or _is_idle(callback, method):
        return False
    return method.node is not None and _does_something(method.node) and not _does_it_itself(callback, method)


def _is_idle(callback: Callback, method: Method) -> bool:
    """Return whether the hidden handler does nothing, as this callback is set."""
    cls = next((one for one in callback.classes if one.rpartition(".")[2] == method.hides), "")
    setting = IDLE.get((cls, method.name), "")
    return setting in callback.settings and callback.settings[setting] is None


def _does_something(node: FunctionNode) -> bool:
    """Return whether a body is more than `pass`: an empty override is there to switch the handler off."""
    body = node.body if isinstance(node.body, list) else [node.body]
    return any(not isinstance(one, (ast.Pass, ast.Raise)) and not _is_constant(one) for one in body)


def _is_constant(node: ast.AST) -> bool:
    if isinstance(node, ast.Return):
        return node.value is None or isinstance(node.value, (ast.Constant, ast.Name))
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _does_it_itself(callback: Callback, method: Method) -> bool:
    """Return whether the override uses other methods of the shipped class: it then does the work in its own way."""
    shipped = {one.name for one in callback.methods if one.shipped or one.hides_shipped} - {method.name}
    return method.node is not None and any(name in shipped for name in _called(method.node))


def _called(node: ast.AST) -> Iterator[str]:
    """Yield the names that a method uses of its own object: `self.save`, `super().save`."""
    attributes = (one for one in ast.walk(node) if isinstance(one, ast.Attribute))
    yield from (one.attr for one in attributes if ast.unparse(one.value).startswith(("self", "super(")))


def _stops_forwarding(callback: Callback, method: Method) -> bool:
    older = FORWARDED.get(method.name, "")
    if not older or method.calls_super or method.node is None or callback.method(older) is None:
        return False
    return older not in _called(method.node)


def _forwarding(callback: Callback, method: Method) -> Finding:
    older = FORWARDED[method.name]
    return RULE.on(
        callback,
        method,
        f"{callback.cls}.{older} is never called: {method.name} stands beside it, without super()",
        "inferred",
        do=f"Put what {older} does into {method.name}, or call super().{method.name}(batch, logs) there.",
        evidence=(
            f"Keras calls {method.name}, and only the base class's own calls {older}",
            f"{method.owner}.{method.name} calls neither",
        ),
    )
