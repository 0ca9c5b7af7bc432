"""Which methods of the loop are not Transformers' own: a subclass overrides them, or somebody replaced them.

An override that calls the method that it overrides once, on its straight way, leaves the loop as it is, but for what it
fires besides. Of any other the loop is not known. Constraint: read from syntax trees, nothing is run.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from loopscope.adapters.transformers.control import HOME, NOTHING, Steering, writes
from loopscope.model import Place
from loopscope.source import FunctionNode, place, syntax, unwrap

FIRING = (
    *("train", "_inner_training_loop", "_run_epoch", "_maybe_log_save_evaluate", "_evaluate", "evaluate"),
    *("evaluation_loop", "predict", "log", "_save_checkpoint", "_finalize_training", "_push_from_checkpoint"),
)
"""The methods of which the loop consists: each fires events, or calls what does."""

WORKING = ("training_step", "compute_loss", "prediction_step")
"""The methods that work on one batch; an override may do that as it likes."""

COUNTING = (
    *("get_train_dataloader", "get_eval_dataloader", "get_test_dataloader", "get_batch_samples"),
    *("set_initial_training_values", "_init_training_state", "_get_train_sampler", "_get_eval_sampler"),
    *("_get_dataloader", "num_examples"),
)
"""The methods that decide how many batches there are."""


@dataclass(frozen=True, slots=True)
class Fires:
    """Something that an override fires besides: `method` of the trainer, before or after what it overrides."""

    method: str
    after: bool
    always: bool


@dataclass(frozen=True, slots=True)
class Override:
    """One method of the loop that is not Transformers' own; if it is `known`, the loop is that one, plus `fires`."""

    method: str
    owner: str
    place: Place | None
    known: bool
    fires: tuple[Fires, ...] = ()
    steering: Steering = NOTHING
    text: str = ""


@dataclass(frozen=True, slots=True)
class Overrides:
    """All overrides of a trainer, by method."""

    found: dict[str, Override] = field(default_factory=dict)

    def __contains__(self, method: str) -> bool:
        return method in self.found

    def get(self, method: str) -> Override | None:
        return self.found.get(method)

    def counts(self, method: str) -> bool:
        """Return whether the length of the loader that `method` makes is the user's own affair."""
        samplers = {"get_train_dataloader": "_get_train_sampler", "get_eval_dataloader": "_get_eval_sampler"}
        also = [method, "_get_dataloader", samplers.get(method, "_get_eval_sampler")]
        also += ["set_initial_training_values", "get_batch_samples"] if method == "get_train_dataloader" else []
        return any(one in self.found for one in also)


def overrides(trainer: Any) -> Overrides:
    """Return what `trainer` does in its own way."""
    found = {}
    for method in (*FIRING, *WORKING, *COUNTING):
        layers = list(_layers(trainer, method))
        if layers:
            found[method] = _override(trainer, method, layers)
    return Overrides(found)


def _layers(trainer: Any, method: str) -> Iterator[tuple[Any, str]]:
    """Yield the functions that stand before Transformers' own, outermost first, and whose they are."""
    own = vars(trainer).get(method)
    if own is not None:
        yield own, "the trainer itself"
    for base in type(trainer).__mro__:
        if method in vars(base):
            if is_stock(vars(base)[method]):
                return
            yield vars(base)[method], base.__name__


def is_stock(function: object) -> bool:
    """Return whether a function is from Transformers' own files."""
    plain = unwrap(function, through_wraps=False)
    return plain is not None and plain.__code__.co_filename.startswith(HOME + os.sep)


def _override(trainer: Any, method: str, layers: list[tuple[Any, str]]) -> Override:
    known, fires, does = True, [], NOTHING
    for function, owner in layers:
        read = _Layer(method, function, owner).read()
        known = known and read is not None
        fires += read or []
        does = does | writes(function, type(trainer))
    function, owner = layers[0]
    plain = syntax(function, through_wraps=False)
    text = f"def {method}(...)" if plain is None else _head(plain.node, method)
    return Override(method, owner, place(function), known, tuple(fires), does, text)


def _head(node: FunctionNode, method: str) -> str:
    return f"def {method}({ast.unparse(node.args)})" if not isinstance(node, ast.Lambda) else ast.unparse(node)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One function in the place of a method."""

    method: str
    function: Any
    owner: str

    def read(self) -> list[Fires] | None:
        """Return what it fires besides the method that it overrides; None where it does not simply call that."""
        plain = unwrap(self.function, through_wraps=False)
        if plain is None:
            return None
        if self.wraps(plain):
            return []
        found = syntax(plain, through_wraps=False)
        if found is None:
            return None
        base = [call for call in _calls(found.node) if self.is_base(call)]
        if self.method in (*WORKING, *COUNTING):
            return list(self.fired(found.node, base[0].lineno if base else 0))
        if len(base) != 1 or not _is_certain(found.node, base[0]):
            return None
        return list(self.fired(found.node, base[0].lineno))

    def wraps(self, plain: FunctionType) -> bool:
        """Return whether somebody wrapped Transformers' own method (`functools.wraps`), to look on perhaps."""
        inner = plain.__dict__.get("__wrapped__")
        return inner is not None and is_stock(inner) and getattr(inner, "__name__", "") == self.method

    def is_base(self, call: ast.Call) -> bool:
        """Return whether a call is that of the overridden method: `super().log(...)`, `Trainer.log(self, ...)`."""
        if not isinstance(call.func, ast.Attribute) or call.func.attr != self.method:
            return False
        holder = call.func.value
        if isinstance(holder, ast.Call):
            return getattr(holder.func, "id", "") == "super"
        return isinstance(holder, (ast.Name, ast.Attribute)) and bool(call.args) and self.is_me(call.args[0])

    def is_me(self, node: ast.expr) -> bool:
        """Return whether an expression is the trainer itself, whatever the function calls its first parameter."""
        plain = unwrap(self.function, through_wraps=False)
        names = ("self",) if plain is None or not plain.__code__.co_argcount else plain.__code__.co_varnames[:1]
        return isinstance(node, ast.Name) and node.id in names

    def fired(self, node: FunctionNode, base: int) -> Iterator[Fires]:
        for call in _calls(node):
            if not isinstance(call.func, ast.Attribute) or self.is_base(call):
                continue
            method, holder = call.func.attr, call.func.value
            handler = isinstance(holder, ast.Attribute) and holder.attr == "callback_handler"
            inherited = isinstance(holder, ast.Call) and getattr(holder.func, "id", "") == "super"
            if (method in FIRING and (self.is_me(holder) or inherited)) or (handler and method.startswith("on_")):
                yield Fires(method, call.lineno >= base, _is_certain(node, call))


def _calls(node: ast.AST) -> list[ast.Call]:
    found = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    return sorted(found, key=lambda one: (one.lineno, one.col_offset))


STRAIGHT = (ast.With, ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Try)
"""Statements whose body, or whose expression, runs once whenever they are come to."""


def _is_certain(node: FunctionNode, call: ast.Call) -> bool:
    """Return whether every call of a function comes to `call`, once, unless an exception is raised before."""
    body = [] if isinstance(node, ast.Lambda) else node.body
    returns = [one for one in ast.walk(node) if isinstance(one, (ast.Return, ast.Yield, ast.YieldFrom))]
    if any(one.lineno < call.lineno and call not in ast.walk(one) for one in returns):
        return False
    while True:
        statement = next((one for one in body if call in ast.walk(one)), None)
        if not isinstance(statement, STRAIGHT):
            return False
        if isinstance(statement, (ast.With, ast.Try)) and any(call in ast.walk(one) for one in statement.body):
            body = statement.body
            continue
        return _is_plain(statement, call)


def _is_plain(statement: ast.AST, call: ast.Call) -> bool:
    """Return whether an expression comes to `call` without a choice, a loop or a function in between."""
    choices = (ast.IfExp, ast.BoolOp, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    between = [one for one in ast.walk(statement) if isinstance(one, choices) and call in ast.walk(one)]
    return not between
