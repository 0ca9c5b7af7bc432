"""What an expression stands for, and the way that leads to it, while a function is read."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType
from typing import Any, Literal, TypeAlias

from loopscope.effects.data import Effect
from loopscope.source import FunctionNode

NOTHING: Any = object()


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """What an expression stands for: whose it is (`""`: nobody's, a local value) and how to write it.

    `root` marks the callback itself, the learner, `super()`, anything else that a handler is given, and the rest of its
    keyword arguments; `obj` is a Python object that is known before the run (a module, a function); `const` the
    literal; `items` the parts of a tuple; `made` says that it was computed from what it belongs to, and is not that
    thing itself.
    """

    on: str = ""
    text: str = ""
    root: Literal["", "self", "learn", "super", "given", "words"] = ""
    obj: Any = NOTHING
    const: ast.Constant | None = None
    items: tuple[Thing, ...] = ()
    made: bool = False


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """A lambda or inner function, read when it is called."""

    node: FunctionNode
    frame: Frame


@dataclass(slots=True, eq=False)
class Frame:
    """One function being read: its names, its globals, and the class whose body defines it."""

    function: FunctionType
    node: FunctionNode
    env: dict[str, Thing]
    cls: type | None
    returns: list[Thing] = field(default_factory=list)
    caught: str = "Exception"
    outer: set[str] = field(default_factory=set)


Exit: TypeAlias = "ast.expr | Literal[True] | None"
"""Under which condition a block is left early; `SOMETIMES` where no text says it."""

SOMETIMES = ast.Name("…", ast.Load())


@dataclass(frozen=True, slots=True)
class Path:
    """How a statement is reached: the conditions on the way, the loops around it, and whether each run gets there."""

    conditions: tuple[ast.expr, ...] = ()
    each: tuple[str, ...] = ()
    certain: bool = True

    def given(self, condition: ast.expr) -> Path:
        known = () if condition is SOMETIMES else (condition,)
        return Path((*self.conditions, *known), self.each, False)

    def inside(self, each: str) -> Path:
        return Path(self.conditions, (*self.each, each), False)

    def texts(self) -> tuple[str, ...]:
        return _texts(self.conditions)

    def text(self) -> str:
        return " ".join(filter(None, (" and ".join(self.texts()), *self.each)))


@lru_cache(maxsize=1024)
def _texts(conditions: tuple[ast.expr, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_joined(condition, len(conditions)) for condition in conditions))


def _joined(condition: ast.expr, of: int) -> str:
    text = unparsed(condition)
    loose = isinstance(condition, (ast.IfExp, ast.Lambda)) or _is_or(condition)
    return f"({text})" if loose and of > 1 else text


def _is_or(node: ast.expr) -> bool:
    return isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)


@dataclass(slots=True, eq=False)
class Found:
    """An effect with the path that leads to it.

    `taken` says that something of the loop is collected here, `steers` that it ends or skips something, `framework`
    that it is a call of the learner's or model's own methods; `method` is the learner's method that is called.
    """

    effect: Effect
    path: Path
    value: str = ""
    taken: bool = False
    steers: bool = False
    framework: bool = False
    method: str = ""


def unparsed(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id[1:-1] if node.id.startswith("(") and _closes_last(node.id) else node.id
    try:
        return " ".join(ast.unparse(node).split())
    except Exception:  # an f-string that holds quotes of both kinds cannot be written before Python 3.12
        return "…"


def bare(text: str, node: ast.AST) -> str:
    """Return a tuple without the brackets that `ast.unparse` puts around it."""
    return text[1:-1] if isinstance(node, ast.Tuple) and len(node.elts) > 1 and text.startswith("(") else text


def _closes_last(text: str) -> bool:
    """Return whether the first bracket of a text closes at its very end."""
    return text.startswith("(") and text.endswith(")") and not call_name(text)


def call_name(call: str) -> str:
    """Return what is called: `(path / name).open` of `(path / name).open('w')`."""
    depth = 0
    for at in reversed(range(len(call))):
        depth += (call[at] in ")]}") - (call[at] in "([{")
        if depth == 0:
            return call[:at] if call.endswith(")") else call
    return call
