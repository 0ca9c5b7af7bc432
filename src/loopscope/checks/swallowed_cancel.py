"""A broad `except` around code that raises a Cancel… exception: the loop is not steered any more."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from loopscope.callbacks import Callback
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.model import Place

RULE = Rule(
    name="swallowed-cancel",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="a broad except catches a Cancel… exception before fastai sees it",
    why="fastai's Cancel… exceptions are ordinary exceptions: a bare except, or one for Exception, catches them too. "
    "What should have been skipped or ended then goes on.",
    do="Let them through: except (CancelFitException, ...): raise before the broad except, or raise the cancel outside "
    "of the try.",
    fires="""
        class Stop(Callback):
            def after_epoch(self):
                try:
                    if self.score() > 0.99: raise CancelFitException
                except Exception:
                    print("no score yet")

        learn.add_cb(Stop())
        """,
    silent="""
        class Stop(Callback):
            def after_epoch(self):
                try:
                    score = self.score()
                except Exception:
                    return
                if score > 0.99: raise CancelFitException

        learn.add_cb(Stop())
        """,
)

BROAD = frozenset({"Exception", "BaseException"})

RAISING = (
    ("fastai.callback.tracker.EarlyStoppingCallback", "after_epoch", "CancelFitException"),
    ("fastai.callback.tracker.TerminateOnNaNCallback", "after_batch", "CancelFitException"),
    ("fastai.callback.training.GradientAccumulation", "before_step", "CancelBatchException"),
)
"""fastai's own handlers that raise a cancel, which a subclass may call through `super()`."""


def findings(case: Case) -> Iterator[Finding]:
    if case.examined is None:
        return
    for callback, method in case.examined.own():
        if method.node is None or method.place is None:
            continue
        for node in (node for node in ast.walk(method.node) if isinstance(node, ast.Try)):
            broad = _swallows(node.handlers, case.loop.cancels)
            found = list(_raised(node.body, callback, case.loop.cancels)) if broad else []
            if broad and found:
                name, how = found[0]
                event = method.name if method.name in case.examined.events else ""
                place = Place(method.place.file, method.place.line + broad.lineno - method.node.lineno)
                yield RULE.on(
                    callback,
                    method,
                    f"{callback.cls}.{method.name} raises {name} inside a try whose {_head(broad)} catches it: fastai "
                    f"never sees it",
                    "inferred",
                    event=event,
                    evidence=(how, f"{_head(broad)} stands at line {place.line} and does not raise again"),
                )


def _swallows(handlers: Sequence[ast.ExceptHandler], cancels: Sequence[str]) -> ast.ExceptHandler | None:
    """Return the broad clause that ends a cancel; None where an earlier one takes it, or it is raised again."""
    for handler in handlers:
        names = _names(handler)
        if not names or BROAD & set(names):
            return None if any(isinstance(one, ast.Raise) for one in ast.walk(handler)) else handler
        if set(names) & set(cancels):
            return None
    return None


def _names(handler: ast.ExceptHandler) -> list[str]:
    if handler.type is None:
        return []
    parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [ast.unparse(part).rpartition(".")[2] for part in parts]


def _head(handler: ast.ExceptHandler) -> str:
    return f"except {ast.unparse(handler.type)}" if handler.type else "bare except"


def _raised(body: Sequence[ast.stmt], callback: Callback, cancels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each cancel that the statements raise, with how: by themselves, or in a method of the callback."""
    for node in (part for one in body for part in _inside(one)):
        if isinstance(node, ast.Raise) and node.exc is not None and _name(node.exc) in cancels:
            yield _name(node.exc), f"raise {_name(node.exc)} stands inside the try"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _by_call(node.func, callback, cancels)


def _by_call(func: ast.Attribute, callback: Callback, cancels: Sequence[str]) -> Iterator[tuple[str, str]]:
    if isinstance(func.value, ast.Name) and func.value.id == "self":
        method = callback.method(func.attr)
        for effect in method.effects if method else ():
            if effect.kind == "raises" and effect.target in cancels:
                yield effect.target, f"self.{func.attr}() raises {effect.target}"
    if ast.unparse(func.value) == "super()":
        for cls, name, cancel in RAISING:
            if name == func.attr and callback.isa(cls):
                yield cancel, f"{cls.rpartition('.')[2]}.{name} raises {cancel}"


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and what is in it, but for functions that it only defines, and a try of its own."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Try)):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _inside(child)


def _name(node: ast.expr) -> str:
    raised = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(raised).rpartition(".")[2]
