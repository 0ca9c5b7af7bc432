"""An exception that fastai loses: StopIteration is dropped, and one without arguments becomes an IndexError."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding, Severity
from loopscope.model import Handler

RULE = Rule(
    name="lost-exception",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="an exception is raised in a handler in a way in which fastai loses it",
    why="fastai puts the first argument of an error into its own message: an error without arguments ends the run as "
    "IndexError: tuple index out of range. StopIteration with an argument ends nothing: the other callbacks of that "
    "event are skipped without a word, and the run goes on.",
    do="Give the exception a message: raise ValueError('why'), assert x, 'why'. To end the run or a part of it, raise "
    "one of fastai's Cancel… exceptions.",
    fires="""
        class Guard(Callback):
            def after_batch(self):
                if self.loss > 1e3: raise ValueError

        learn.add_cb(Guard())
        """,
    silent="""
        class Guard(Callback):
            def after_batch(self):
                if self.loss > 1e3: raise ValueError("the loss is above 1000")

        learn.add_cb(Guard())
        """,
    threads=("fastai#4019",),
)

ERRORS = frozenset(name for name, one in vars(builtins).items() if isinstance(one, type) and issubclass(one, Exception))
"""Python's own exceptions: another's class may give itself arguments."""

BROAD = frozenset({"Exception", "BaseException"})


@dataclass(frozen=True, slots=True)
class Lost:
    """One raise or assert as it stands in the source: `Lost("raise ValueError", "warning", "ends the run as ...")`."""

    text: str
    severity: Severity
    outcome: str


AS_INDEX_ERROR = "the run ends with IndexError: tuple index out of range in its place"


def findings(case: Case) -> Iterator[Finding]:
    told: set[tuple[str, str]] = set()
    for _, row in case.handlers():
        handler = row.handler
        if handler is None or row.status == "never" or case.shipped(handler) or (handler.id, handler.method) in told:
            continue
        told.add((handler.id, handler.method))
        method = case.method(handler)
        if method is not None and method.node is not None and not method.shipped:
            for lost in dict.fromkeys(_lost(method.node, ())):
                yield _finding(handler, lost)


def _finding(handler: Handler, lost: Lost) -> Finding:
    return RULE.at(
        handler,
        f"{lost.text} in {handler.callback}.{handler.event} is lost: {lost.outcome}",
        "inferred",
        severity=lost.severity,
        evidence=(f"{handler.callback}.{handler.method} has {lost.text}",),
    )


def _lost(node: ast.AST, caught: tuple[str, ...]) -> Iterator[Lost]:
    """Yield what is lost in a node; `caught` are the exceptions that a try around it catches."""
    found = _of_raise(node) or _of_assert(node)
    if found is not None and not ({_raised(found.text), *BROAD} & set(caught)):
        yield found
    for child, around in _children(node, caught):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _lost(child, around)


def _children(node: ast.AST, caught: tuple[str, ...]) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
    inside: list[ast.stmt] = []
    if isinstance(node, ast.Try):
        inside = node.body
        names = tuple(name for one in node.handlers for name in _names(one))
        yield from ((child, caught + names) for child in inside)
    yield from ((child, caught) for child in ast.iter_child_nodes(node) if child not in inside)


def _of_raise(node: ast.AST) -> Lost | None:
    if not isinstance(node, ast.Raise) or not isinstance(node.exc, (ast.Name, ast.Call)):
        return None
    call = isinstance(node.exc, ast.Call)
    name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
    given: Sequence[ast.AST] = [*node.exc.args, *node.exc.keywords] if isinstance(node.exc, ast.Call) else ()
    if name not in ERRORS:
        return None
    text = f"raise {name}{'(…)' if given else '()' if call else ''}"
    if name == "StopIteration" and given:
        return Lost(text, "error", "fastai skips the other callbacks of that event and goes on")
    severity: Severity = "error" if name == "StopIteration" else "warning"
    return None if given else Lost(text, severity, AS_INDEX_ERROR)


def _of_assert(node: ast.AST) -> Lost | None:
    if not isinstance(node, ast.Assert) or node.msg is not None:
        return None
    return Lost(f"assert {ast.unparse(node.test)}", "note", f"where it does not hold, {AS_INDEX_ERROR}")


def _raised(text: str) -> str:
    return "AssertionError" if text.startswith("assert ") else text.removeprefix("raise ").partition("(")[0]


def _names(handler: ast.ExceptHandler) -> list[str]:
    if handler.type is None:
        return ["BaseException"]
    parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [ast.unparse(part).rpartition(".")[2] for part in parts]
