"""Whether a function makes the host wait for the device, read from its source: `.item()`, `.cpu()` and their like.

Only what is written is seen: that a tensor is on a GPU, or is one at all, is not known before the run. Constraint:
nothing is run.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping

from loopscope.source import is_lasting, syntax

METHODS = ("item", "cpu", "tolist", "numpy", "synchronize", "nonzero")
"""Methods of a tensor (and `torch.cuda.synchronize`) that return only when the device has come that far."""

DEPTH = 2
"""Calls of the callback's own methods are followed so deep."""


def waits(function: object, owner: type, words: Mapping[str, str]) -> str:
    """Return why `function`, a handler of `owner`, waits for the device, `""` where nothing shows that it does.

    `words` are further functions that wait -> what they do, in the framework's own terms:
    `waits(Recorder.after_batch, Recorder, {"accumulate": "..."})` -> `"met.accumulate(): ..."`.
    """
    if is_lasting(function):  # others are read again each time: a cache must not keep a learner alive
        return _cached(function, owner, tuple(words.items()))
    return next(_reasons(function, owner, words, DEPTH), "")


@functools.lru_cache(maxsize=8192)
def _cached(function: object, owner: type, words: tuple[tuple[str, str], ...]) -> str:
    return next(_reasons(function, owner, dict(words), DEPTH), "")


def _reasons(function: object, owner: type, words: Mapping[str, str], depth: int) -> Iterator[str]:
    found = syntax(function)
    if found is None:
        return
    for node in ast.walk(found.node):
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        if name in words and not _stays(node):
            yield f"{_shown(node.func)}(): {words[name]}"
        elif isinstance(node.func, ast.Attribute) and (name in METHODS or _to_cpu(node, name)):
            yield f"{_shown(node.func)}()" if name != "to" else f"{_shown(node.func)}('cpu')"
        elif depth and isinstance(node.func, ast.Attribute) and _shown(node.func) == f"self.{name}":
            helper = next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)
            if helper is not None:
                yield from (f"{name}: {reason}" for reason in _reasons(helper, owner, words, depth - 1))


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _stays(node: ast.Call) -> bool:
    """Return whether a call says itself that it leaves things where they are: `to_detach(x, cpu=False)`."""
    return any(
        keyword.arg == "cpu" and isinstance(keyword.value, ast.Constant) and not keyword.value.value
        for keyword in node.keywords
    )


def _to_cpu(node: ast.Call, name: str) -> bool:
    first = node.args[0] if node.args else None
    return name == "to" and isinstance(first, ast.Constant) and first.value == "cpu"


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"….{_name(node)}"
