"""A handler that cannot take what the framework passes: its first call ends the run."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.callbacks import Callback, Method
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.model import Handler
from loopscope.views import Row

RULE = Rule(
    name="wrong-signature",
    severity="error",
    frameworks=("fastai", "lightning", "transformers", "keras"),
    needs="callbacks",
    says="a handler cannot take what the framework passes",
    why="The framework's first call of it raises a TypeError and the run ends there, which may be at the end of the "
    "first epoch.",
    do="Give the method the parameters that the framework passes.",
    fires="""
        class Log(TrainerCallback):
            def on_log(self, args, state, control): ...

        trainer.add_callback(Log())
        """,
    silent="""
        class Log(TrainerCallback):
            def on_log(self, args, state, control, logs=None, **kwargs): ...

        trainer.add_callback(Log())
        """,
    threads=("transformers#32385",),
)


def findings(case: Case) -> Iterator[Finding]:
    told = set()
    for event, row in case.handlers():
        handler = row.handler
        if handler is None or row.status == "never" or (handler.id, handler.method) in told:
            continue
        method, callback = case.method(handler), case.callbacks.get(handler.id)
        if method is not None and callback is not None and method.misfit and not method.shipped:
            told.add((handler.id, handler.method))
            yield _finding(case.loop.framework, event, row, handler, callback, method)


def _finding(framework: str, event: Row, row: Row, handler: Handler, callback: Callback, method: Method) -> Finding:
    return RULE.at(
        handler,
        f"{callback.cls}.{method.name} cannot be called as {event.name} is: {method.misfit}",
        "declared",
        severity="error" if row.status == "always" else "warning",
        do=f"Type {_head(framework, method.name)}.",
        evidence=(f"at {event.name} the call fails: TypeError, {method.misfit}",),
    )


def _head(framework: str, name: str) -> str:
    """Return the head of a method that takes what is passed: `_head("fastai", "before_fit")`."""
    if framework == "fastai":
        return f"def {name}(self)"
    if framework == "transformers":
        return f"def {name}(self, args, state, control, **kwargs)"
    if framework == "lightning":
        return f"def {name}(self, ...) with the parameters that Lightning's own {name} has"
    first = "batch, " if "batch_" in name else "epoch, " if "_epoch_" in name else ""
    return f"def {name}(self, {first}logs=None)"
