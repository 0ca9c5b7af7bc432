"""What a name or an attribute in a function's source stands for, as far as it is stored and nothing has to be run."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

from loopscope.source import unwrap

UNKNOWN: Any = object()
"""What only the run knows."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one function: `Names.of(step, {"engine": engine}).look(node)` -> the object or `UNKNOWN`."""

    function: FunctionType
    known: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, function: Any, *arguments: Any) -> Names | None:
        """Return the names of anything that can be called, with what it is given by place; None without source."""
        bound = [function.__self__] if isinstance(function, MethodType) else []
        plain = unwrap(function)
        if plain is None:
            call = getattr(type(function), "__call__", None)  # noqa: B004 - a callable object's own
            if not isinstance(call, FunctionType):
                return None
            bound, plain = [function], unwrap(call)
        if plain is None:
            return None
        places = plain.__code__.co_varnames[: plain.__code__.co_argcount]
        return cls(plain, dict(zip(places, [*bound, *arguments], strict=False)))

    def look(self, node: ast.AST) -> Any:
        """Return what an expression stands for: a name, an attribute of what is known, a constant."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Attribute):
            return stored(self.look(node.value), node.attr)
        return UNKNOWN

    def _name(self, name: str) -> Any:
        code = self.function.__code__
        if name in self.known:
            return self.known[name]
        if name in code.co_varnames or name in code.co_cellvars:
            return UNKNOWN
        if name in code.co_freevars:
            cell = (self.function.__closure__ or ())[code.co_freevars.index(name)]
            try:
                return cell.cell_contents
            except ValueError:  # not assigned yet
                return UNKNOWN
        return self.function.__globals__.get(name, vars(builtins).get(name, UNKNOWN))

    def truth(self, node: ast.expr) -> bool | None:
        """Return whether a condition holds, None when only the run knows: `steps > 1` with `steps` of the closure."""
        value = self.value(node)
        if value is UNKNOWN or (
            not isinstance(value, (bool, int, float, str, type(None))) and _has_own_truth(type(value))
        ):
            return None
        return bool(value)

    def value(self, node: ast.expr) -> Any:
        """Return the value of a small expression of constants, `UNKNOWN` for any other."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            known = self.truth(node.operand)
            return UNKNOWN if known is None else not known
        if isinstance(node, ast.BoolOp):
            stops = isinstance(node.op, ast.Or)
            parts = [self.truth(part) for part in node.values]
            return stops if stops in parts else UNKNOWN if None in parts else not stops
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            return 0 if self.value(node.right) == 1 else UNKNOWN
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return _compared(self.value(node.left), node.ops[0], self.value(node.comparators[0]))
        return self.look(node)


def _compared(left: Any, how: ast.cmpop, right: Any) -> Any:
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if isinstance(how, (ast.Is, ast.IsNot)):
        return (left is right) is isinstance(how, ast.Is)
    plain = (bool, int, float, str, type(None))
    if not isinstance(left, plain) or not isinstance(right, plain):
        return UNKNOWN
    if isinstance(how, (ast.Eq, ast.NotEq)):
        return (left == right) is isinstance(how, ast.Eq)
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        orders = {ast.Lt: left < right, ast.LtE: left <= right, ast.Gt: left > right, ast.GtE: left >= right}
        return orders.get(type(how), UNKNOWN)
    return UNKNOWN


def _has_own_truth(cls: type) -> bool:
    return any(name in vars(base) for base in cls.__mro__ for name in ("__bool__", "__len__"))


def stored(holder: Any, name: str) -> Any:
    """Return an attribute as it is stored: of an object, its class or a module; nothing of theirs is run."""
    if holder is UNKNOWN:
        return UNKNOWN
    own = getattr(holder, "__dict__", None)
    if isinstance(holder, ModuleType):
        return vars(holder).get(name, UNKNOWN)
    if isinstance(own, dict) and not isinstance(holder, type):
        stores = (own, own.get("_modules") or {}) if isinstance(holder, nn.Module) else (own,)
        found = next((store[name] for store in stores if name in store), UNKNOWN)
        if found is not UNKNOWN:
            return found
    cls = holder if isinstance(holder, type) else type(holder)
    for base in cls.__mro__:
        if name in vars(base):
            return _bound(vars(base)[name], holder)
    return UNKNOWN


def _bound(found: Any, holder: Any) -> Any:
    if isinstance(found, FunctionType) and not isinstance(holder, type):
        return MethodType(found, holder)
    if isinstance(found, (staticmethod, classmethod)):
        return found.__func__ if isinstance(found, staticmethod) else MethodType(found.__func__, holder)
    return UNKNOWN if hasattr(type(found), "__get__") and not isinstance(found, (FunctionType, type)) else found
