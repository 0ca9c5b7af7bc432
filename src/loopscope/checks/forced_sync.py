"""A handler that makes the host wait for the device in every batch, as its source shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from loopscope.checks.figures import Parts, median, parts, shown, span
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.durations import joined
from loopscope.findings import Finding
from loopscope.model import Handler
from loopscope.views import Row

RULE = Rule(
    name="forced-sync",
    severity="note",
    frameworks=ALL,
    needs="loop",
    says="a handler makes the host wait for the device in every batch",
    why="The host prepares the next batch while a GPU computes. A value that Python reads stops it until the GPU has "
    "come that far; then both wait in turn. On a CPU it costs nothing.",
    do="Keep the tensor (loss.detach()), and read its value once in an epoch or every hundredth batch.",
    fires="""
        class Losses(Callback):
            def after_batch(self):
                self.losses.append(self.loss.item())

        learn.add_cb(Losses())
        """,
    silent="""
        class Losses(Callback):
            def after_batch(self):
                self.losses.append(self.loss.detach())

            def after_epoch(self):
                print(torch.stack(self.losses).mean().item())

        learn.add_cb(Losses())
        """,
)


MATTERS = 10_000
"""Nanoseconds: a call that waits for a GPU takes longer, even where nothing is left to wait for."""


def findings(case: Case) -> Iterator[Finding]:
    recorded = [one for one in _recorded(case) if not one.on_cpu]
    live = case.measured is None and not _device(case).startswith("cpu")
    for handler, reason in _waiting(case, case.root) if recorded or live else ():
        facts = [*_times(recorded, handler)]
        if facts or (live and not _now_and_then(case, handler, reason)):
            yield RULE.at(
                handler,
                f"{shown(handler)} makes the host wait for the device in every batch: {reason}",
                "inferred",
                evidence=(f"at {handler.event}, its source has {reason}", *facts),
            )


def _recorded(case: Case) -> list[Parts]:
    """Return the batches that were recorded of this loop."""
    return [] if case.measured is None else parts(case.measured.placed, "batch", of=case.loop)


def _device(case: Case) -> str:
    """Return where the model is, `""` where that is not known."""
    return str(case.examined.settings.get("device") or "") if case.examined else ""


def _waiting(case: Case, row: Row) -> Iterator[tuple[Handler, str]]:
    """Yield the handlers of one's own in each batch that wait, each once, with what makes them."""
    seen = set()
    for handler in _in_batches(row):
        reason = next((fact.text for fact in handler.facts if fact.kind == "wait"), "")
        if reason and handler.place and not case.shipped(handler) and (handler.id, handler.event) not in seen:
            seen.add((handler.id, handler.event))
            yield handler, reason


def _in_batches(row: Row, inside: bool = False) -> Iterator[Handler]:
    inside = inside or (row.kind == "scope" and row.name == "batch")
    for child in row.children:
        if child.handler is not None and inside and child.status != "never":
            yield child.handler
        yield from _in_batches(child, inside)


def _times(recorded: Sequence[Parts], handler: Handler) -> Iterator[str]:
    """Yield how often a handler was called, and what that took; nothing where most calls took no time at all."""
    there = [one for one in recorded if (handler.id, handler.event) in one.shares]
    if not there:
        return
    shares = [one.shares[handler.id, handler.event].times(one.count) for one in there]
    took, calls = (joined(columns) for columns in zip(*shares, strict=True))
    each = median(took[calls > 0])
    if each >= MATTERS:
        where = there[0].device or "a device that is not known"
        whole = sum(int(one.times().sum()) for one in there)
        yield (
            f"{int(calls.sum())} calls while the model was on {where}: p50 {span(each)}, {span(int(took.sum()))} of "
            f"{span(whole)} in all"
        )


def _now_and_then(case: Case, handler: Handler, reason: str) -> bool:
    """Return whether its source shows that it waits only under a condition, such as in every hundredth batch."""
    method = case.method(handler)
    word = re.match(r"(?:(\w+):)|.*?(\w+)\(", reason)  # of a helper, or of what is called
    if method is None or method.node is None or word is None:
        return False
    body = method.node.body if isinstance(method.node.body, list) else [method.node.body]
    held = list(_calls(body, word[1] or word[2]))
    return bool(held) and all(held)


def _calls(nodes: Sequence[ast.AST], name: str, held: bool = False) -> Iterator[bool]:
    """Yield for each call of a name whether it is made under a condition."""
    for node in nodes:
        if isinstance(node, (ast.If, ast.IfExp)):
            inner = held or not re.search("train|valid", ast.unparse(node.test))
            yield from _calls([node.test], name, held)
            yield from _calls(_listed(node.body) + _listed(node.orelse), name, inner)
            held = held or (inner and any(isinstance(one, (ast.Return, ast.Raise)) for one in _listed(node.body)))
            continue
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == name:
            yield held
        yield from _calls(list(ast.iter_child_nodes(node)), name, held)


def _listed(part: object) -> list[ast.AST]:
    return part if isinstance(part, list) else [part] if isinstance(part, ast.AST) else []
