"""What a callback's class says about its own attributes: which there are, and what is assigned to them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType

from loopscope.source import FunctionNode, syntax


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """A callback class's own attributes, and for each what it is assigned or returns (function, class, expression)."""

    names: frozenset[str]
    values: Mapping[str, tuple[tuple[FunctionType, type, ast.expr], ...]]


@lru_cache(maxsize=4096)
def own_attributes(owner: type, stores: frozenset[str]) -> Own:
    names: set[str] = set()
    values: dict[str, list[tuple[FunctionType, type, ast.expr]]] = {}
    for cls in classes_of(owner):
        here, assigned = _own_of(cls, stores)
        names |= here
        for name, found in assigned.items():
            values.setdefault(name, []).extend(found)
    return Own(frozenset(names), {name: tuple(found) for name, found in values.items()})


@lru_cache(maxsize=4096)
def _own_of(
    cls: type, stores: frozenset[str]
) -> tuple[frozenset[str], Mapping[str, Sequence[tuple[FunctionType, type, ast.expr]]]]:
    """Return what one class body has, and what its methods assign to `self`."""
    names = set(type.__getattribute__(cls, "__dict__"))
    values: dict[str, list[tuple[FunctionType, type, ast.expr]]] = {}
    for called, member in list(type.__getattribute__(cls, "__dict__").items()):
        found = syntax(member.fget if isinstance(member, property) else member)
        if found is None or not found.node.args.args:
            continue
        first = found.node.args.args[0].arg
        for node in ast.walk(found.node):
            for name, value in _stored(node, first, found.node, stores):
                names.add(name)
                if value is not None:
                    values.setdefault(name, []).append((found.function, cls, value))
            if isinstance(member, property) and isinstance(node, ast.Return) and node.value is not None:
                values.setdefault(called, []).append((found.function, cls, node.value))
    return frozenset(names), values


def classes_of(owner: type) -> tuple[type, ...]:
    return tuple(cls for cls in type.__getattribute__(owner, "__mro__") if cls is not object)


def _stored(
    node: ast.AST, first: str, function: FunctionNode, stores: frozenset[str]
) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield (name, value) for each attribute of `first` that one node assigns."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _stored_in(target, node.value, first)
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For, ast.comprehension)):
        yield from _stored_in(node.target, None, first)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _stored_in(node.optional_vars, node.context_expr, first)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in stores:
            yield from ((name, None) for name in _arguments_stored(node, function))
        elif node.func.id == "setattr" and len(node.args) == 3 and is_name(node.args[0], first):
            yield from ((str(name.value), node.args[2]) for name in node.args[1:2] if isinstance(name, ast.Constant))


def _stored_in(target: ast.expr, value: ast.expr | None, first: str) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(target, (ast.Tuple, ast.List)):
        values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        for at, part in enumerate(target.elts):
            yield from _stored_in(part, values[at] if len(values) == len(target.elts) else None, first)
    elif isinstance(target, ast.Attribute) and is_name(target.value, first):
        yield target.attr, value


def is_empty(node: ast.expr) -> bool:
    """Return whether an expression makes an empty container: `{}`, `[]`, `()`, `dict()`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("dict", "list", "set") and not node.args
    return not (node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [node]))


def is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _arguments_stored(call: ast.Call, function: FunctionNode) -> Iterable[str]:
    """Return the names that `store_attr("a,b")`, `store_attr(but="a")` or `store_attr()` stores."""
    words = {word.arg: word.value for word in call.keywords}
    named = call.args[0] if call.args else words.get("names")
    if named is not None:
        return _words(named)
    arguments = [a.arg for a in (*function.args.args[1:], *function.args.kwonlyargs)]
    return [name for name in arguments if name not in _words(words.get("but"))]


def _words(node: ast.expr | None) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [word.strip() for word in node.value.split(",")]
    return [_words(part)[0] for part in node.elts if _words(part)] if isinstance(node, (ast.List, ast.Tuple)) else []
