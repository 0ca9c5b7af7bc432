"""A handler that is a coroutine or a generator function: the call only makes an object, and nothing of it runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from loopscope.callbacks import Method
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="async-handler",
    severity="error",
    frameworks=ALL,
    needs="callbacks",
    says="a handler is async or has a yield, so that nothing of it runs",
    why="Frameworks call their handlers and do not await them: a coroutine or a generator is made and thrown away, "
    "and not one line of the handler runs.",
    do="Make it a plain def; what has to be awaited goes through asyncio.run(...) in it.",
    fires="""
        class Send(Callback):
            async def after_epoch(self): await send(self.recorder.values[-1])

        learn.add_cb(Send())
        """,
    silent="""
        class Send(Callback):
            def after_epoch(self): asyncio.run(send(self.recorder.values[-1]))

        learn.add_cb(Send())
        """,
)

ITERABLE = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader", "configure_optimizers")
"""Hooks of Lightning whose result is gone through: there a generator is at home."""


def findings(case: Case) -> Iterator[Finding]:
    told = set()
    for event, row in case.handlers():
        handler = row.handler
        if handler is None or row.status == "never" or (handler.id, handler.method) in told:
            continue
        method = case.method(handler)
        kind = "" if method is None or method.shipped else _kind(method, case.loop.framework)
        if kind:
            told.add((handler.id, handler.method))
            yield RULE.at(
                handler,
                f"{handler.callback}.{handler.method} is {kind}: {event.name} calls it, and nothing in it runs",
                "declared",
                evidence=(f"its call at {event.name} only gives {kind.partition(' function')[0]}",),
            )


def _kind(method: Method, framework: str) -> str:
    """Return what a call gives in place of running the method, `""` where it runs; a decorator may see to that."""
    if method.node is None or _is_decorated(method.node, framework):
        return ""
    if method.is_async:
        return "a coroutine function (async def)"
    return "a generator function (it has a yield)" if method.is_generator and method.name not in ITERABLE else ""


def _is_decorated(node: ast.AST, framework: str) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(
        ast.unparse(one) not in ("staticmethod", "classmethod") and not (framework == "ignite" and _attaches(one))
        for one in decorators
    )


def _attaches(decorator: ast.expr) -> bool:
    """Return whether a decorator is ignite's `@trainer.on(...)`, which gives back the very function."""
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr == "on"
