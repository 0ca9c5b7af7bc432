"""What a module's own methods give back, as far as their source says it for certain: optimizers, schedulers, a loss.

`configure_optimizers` cannot be called before the run: it makes optimizers of parameters that may not be there yet.
Constraint: nothing is run; what is not certain is None.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from loopscope.source import syntax

_UNKNOWN: Any = object()

TENSORS = frozenset({"mean", "sum", "square", "abs", "squeeze", "log", "exp", "pow", "sqrt", "item", "clone", "detach"})
"""Methods of a tensor, and hardly of anything else, that give a tensor or a number."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One scheduler: Lightning steps it after every `frequency` steps or epochs; `plateau`: after the validation."""

    interval: str = "epoch"
    frequency: int = 1
    plateau: bool = False


@dataclass(frozen=True, slots=True)
class Optimizers:
    """What `configure_optimizers` gives: its schedules, and whether each step evaluates its closure exactly once.

    `schedules` is None where only the run knows.
    """

    schedules: tuple[Schedule, ...] | None = None
    once: bool = False

    def steps(self, interval: str, plateau: bool) -> tuple[Schedule, ...] | None:
        if self.schedules is None:
            return None
        return tuple(one for one in self.schedules if one.interval == interval and one.plateau is plateau)


def optimizers(model: Any) -> Optimizers:
    """Return what the source of a module's `configure_optimizers` gives."""
    reading = _Reading.of(model, "configure_optimizers")
    if reading is None or not _always_returns(reading.node.body):
        return Optimizers()
    found = [_configured(reading, one) for one in reading.returned()]
    same = found[0] if found and all(one == found[0] for one in found) else None
    return same or Optimizers()


def gives_loss(model: Any) -> bool:
    """Return whether each way through `training_step` ends with a loss: None makes Lightning skip the backward pass."""
    reading = _Reading.of(model, "training_step")
    if reading is None or not _always_returns(reading.node.body):
        return False
    returned = list(reading.returned())
    return bool(returned) and all(_is_loss(reading, one) for one in returned)


def may_skip(model: Any, method: str) -> bool:
    """Return whether a module's `on_train_batch_start` may give back something: -1 ends the epoch."""
    reading = _Reading.of(model, method)
    if reading is None:
        return True
    return any(not (isinstance(one, ast.Constant) and one.value is None) for one in reading.returned())


@dataclass(frozen=True, slots=True)
class _Reading:
    """A method's source with the names that it can use; `values` are names that are assigned exactly once."""

    model: Any
    node: ast.FunctionDef
    names: dict[str, Any]
    values: dict[str, ast.expr]

    @classmethod
    def of(cls, model: Any, method: str) -> _Reading | None:
        found = syntax(getattr(model, method, None), through_wraps=False)
        if found is None or not isinstance(found.node, ast.FunctionDef):
            return None
        names = {**vars(builtins), **found.function.__globals__}
        for name, cell in zip(found.function.__code__.co_freevars, found.function.__closure__ or (), strict=False):
            try:
                names[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        assigned: dict[str, list[ast.expr | None]] = {}
        for name, value in _assigned(found.node):
            assigned.setdefault(name, []).append(value)
        values = {name: given[0] for name, given in assigned.items() if len(given) == 1 and given[0] is not None}
        local = set(assigned) | {one.arg for one in ast.walk(found.node.args) if isinstance(one, ast.arg)}
        return cls(model, found.node, {k: v for k, v in names.items() if k not in local}, values)

    def returned(self) -> Iterator[ast.expr]:
        for node in _own(self.node):
            if isinstance(node, ast.Return):
                yield self.value(node.value or ast.Constant(None))

    def value(self, node: ast.expr) -> ast.expr:
        """Return the expression that a name stands for."""
        for _ in range(20):
            if not isinstance(node, ast.Name) or node.id not in self.values:
                return node
            node = self.values[node.id]
        return node

    def known(self, node: ast.expr) -> Any:
        """Return the object that an expression such as `torch.optim.SGD` or `self.criterion` gives."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, _UNKNOWN)
        if not isinstance(node, ast.Attribute):
            return _UNKNOWN
        if isinstance(node.value, ast.Name) and node.value.id == self.node.args.args[0].arg:
            parts = vars(self.model).get("_modules", {})
            return parts.get(node.attr, _UNKNOWN)
        base = self.known(node.value)
        return vars(base).get(node.attr, _UNKNOWN) if isinstance(base, ModuleType) else _UNKNOWN


def _assigned(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield each name that is bound with its value, None where that is no plain assignment."""
    plain = {
        id(node.targets[0]): node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and len(node.targets) == 1
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield node.id, plain.get(id(node))
        elif isinstance(node, ast.FunctionDef) and node is not function:
            yield node.name, None


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield child
            yield from _own(child)


def _always_returns(body: list[ast.stmt]) -> bool:
    last = body[-1] if body else None
    if isinstance(last, (ast.Return, ast.Raise)):
        return True
    if isinstance(last, ast.If):
        return _always_returns(last.body) and _always_returns(last.orelse)
    return isinstance(last, ast.With) and _always_returns(last.body)


# -- optimizers ------------------------------------------------------------------------------------------


def _configured(reading: _Reading, node: ast.expr) -> Optimizers | None:
    """Return what one value of `configure_optimizers` means; None where that is not certain."""
    if isinstance(node, ast.Constant) and node.value is None:
        return Optimizers((), True)
    if (once := _optimizer(reading, node)) is not None:
        return Optimizers((), once)
    if isinstance(node, ast.Dict):
        return _dictionary(reading, node)
    if isinstance(node, (ast.Tuple, ast.List)):
        return _several(reading, node)
    return None


def _several(reading: _Reading, node: ast.Tuple | ast.List) -> Optimizers | None:
    parts = [reading.value(one) for one in node.elts]
    if len(parts) == 2 and isinstance(parts[0], ast.List):
        made = [_optimizer(reading, reading.value(one)) for one in parts[0].elts]
        listed = parts[1].elts if isinstance(parts[1], ast.List) else [parts[1]]
        plans = [_schedule(reading, reading.value(one), None) for one in listed]
    else:
        made, plans = [_optimizer(reading, one) for one in parts], []
    if any(one is None for one in made) or any(one is None for one in plans):
        return None
    return Optimizers(tuple(one for one in plans if one is not None), all(made))


def _dictionary(reading: _Reading, node: ast.Dict) -> Optimizers | None:
    fields = _fields(node)
    if fields is None or "optimizer" not in fields:
        return None
    once = _optimizer(reading, reading.value(fields["optimizer"]))
    if once is None:
        return None
    if "lr_scheduler" not in fields:
        return Optimizers((), once)
    plan = _schedule(reading, reading.value(fields["lr_scheduler"]), fields.get("monitor"))
    return None if plan is None else Optimizers((plan,), once)


def _fields(node: ast.Dict) -> dict[str, ast.expr] | None:
    fields: dict[str, ast.expr] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        fields[key.value] = value
    return fields


def _optimizer(reading: _Reading, node: ast.expr) -> bool | None:
    """Return whether an optimizer evaluates its closure once per step; None where it is not one of torch's own."""
    made = reading.known(node.func) if isinstance(node, ast.Call) else None
    if not isinstance(made, type) or not issubclass(made, Optimizer) or not made.__module__.startswith("torch."):
        return None
    return not issubclass(made, LBFGS)


def _schedule(reading: _Reading, node: ast.expr, monitor: ast.expr | None) -> Schedule | None:
    if isinstance(node, ast.Dict):
        fields = _fields(node)
        if fields is None or "scheduler" not in fields or "reduce_on_plateau" in fields:
            return None
        inner = _schedule(reading, reading.value(fields["scheduler"]), fields.get("monitor"))
        interval = _constant(fields.get("interval"), "epoch")
        frequency = _constant(fields.get("frequency"), 1)
        if inner is None or not isinstance(interval, str) or not isinstance(frequency, int):
            return None
        return Schedule(interval, frequency, inner.plateau)
    made = reading.known(node.func) if isinstance(node, ast.Call) else None
    if not isinstance(made, type) or not issubclass(made, LRScheduler):
        return None
    return Schedule(plateau=issubclass(made, ReduceLROnPlateau))


def _constant(node: ast.expr | None, default: object) -> object:
    if node is None:
        return default
    return node.value if isinstance(node, ast.Constant) else _UNKNOWN


# -- the loss ---------------------------------------------------------------------------------------------


def _is_loss(reading: _Reading, node: ast.expr) -> bool:
    node = reading.value(node)
    if isinstance(node, ast.BinOp):
        return True
    if isinstance(node, ast.Dict):
        fields = _fields(node)
        return fields is not None and "loss" in fields and _is_loss(reading, fields["loss"])
    if not isinstance(node, ast.Call):
        return False
    made = reading.known(node.func)
    if made is not _UNKNOWN:
        return _is_torch(made)
    own = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    own = own and node.func.value.id == reading.node.args.args[0].arg  # type: ignore[attr-defined]
    return isinstance(node.func, ast.Attribute) and node.func.attr in TENSORS and not own


def _is_torch(made: Any) -> bool:
    """Return whether calling something of torch's gives a tensor: a function of it, or a module such as a loss."""
    if isinstance(made, nn.Module):
        return type(made).__module__.startswith("torch.nn.modules.loss")
    module = getattr(made, "__module__", None) or ""
    return module.startswith("torch.nn.functional") or getattr(torch, getattr(made, "__name__", ""), None) is made
