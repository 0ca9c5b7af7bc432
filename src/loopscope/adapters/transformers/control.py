"""What a handler may do to the loop that it runs in, read from its syntax tree: flags of `control`, numbers, callbacks.

Nothing is run. Where the reader cannot follow, it says that all may happen: what depends on a flag is then open, never
wrong.
"""

from __future__ import annotations

import ast
import builtins
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any, TypeAlias

import transformers
from transformers.trainer_callback import TrainerCallback

from loopscope.adapters.transformers.vocabulary import EVENT_NAMES, FLAGS
from loopscope.source import FunctionNode, syntax, unwrap

Values: TypeAlias = frozenset[bool | None]
"""What a flag may be set to; None is a value that only the run knows."""

HOME = os.path.dirname(transformers.__file__)
"""The folder of Transformers' own code."""

NUMBERS = {
    **dict.fromkeys(("max_steps", "global_step", "num_train_epochs"), "all"),
    **dict.fromkeys(("logging_steps", "logging_strategy", "logging_first_step"), "log"),
    **dict.fromkeys(("eval_steps", "eval_strategy", "eval_delay"), "evaluate"),
    **dict.fromkeys(("save_steps", "save_strategy"), "save"),
    "gradient_accumulation_steps": "all",
}
"""Attribute of state or args that the loop reads again at each step -> what of the schedule depends on it."""

ADDS = frozenset(("add_callback",))
REMOVES = frozenset(("remove_callback", "pop_callback"))

DEPTH = 6
"""Calls are followed so deep; what is below may do everything."""


@dataclass(frozen=True, slots=True)
class Steering:
    """What a handler may change: `Steering({"should_log": frozenset({True})}).may("should_log", True)`.

    `numbers` are the parts of the schedule that it may change, `adds` and `removes` say whether it changes the list of
    callbacks.
    """

    flags: Mapping[str, Values] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset()
    adds: bool = False
    removes: bool = False

    def may(self, flag: str, value: bool) -> bool:
        """Return whether a flag may be set to this."""
        return not {value, None}.isdisjoint(self.flags.get(flag, ()))

    def __or__(self, other: Steering) -> Steering:
        names = {**self.flags, **other.flags}
        flags = {name: self.flags.get(name, frozenset()) | other.flags.get(name, frozenset()) for name in names}
        numbers = self.numbers | other.numbers
        return Steering(flags, numbers, self.adds or other.adds, self.removes or other.removes)


NOTHING = Steering()
ANYTHING = Steering(dict.fromkeys(FLAGS, frozenset((None,))))
_EMPTY = frozenset(vars(TrainerCallback)[name] for name in EVENT_NAMES)


def steering(target: object, owner: type) -> Steering:
    """Return what `target`, called as a handler of a callback of class `owner`, may do to the loop."""
    bound = isinstance(target, MethodType) or not _is_in(target, owner)
    return _Reading(owner).of(target, 2 if bound else 3)


def writes(function: object, owner: type) -> Steering:
    """Return what a method of a trainer of class `owner` may do to the loop by itself; what is stock is left out."""
    return _Reading(owner, home=HOME).of(function, None)


def _is_in(target: object, owner: type) -> bool:
    return any(target is value for base in owner.__mro__ for value in vars(base).values())


@dataclass(slots=True)
class _Reading:
    """One reading of a handler and of what it calls."""

    owner: type
    home: str = ""  # what stands in files below it is known and not followed
    depth: int = 0
    seen: set[tuple[int, int | None]] = field(default_factory=set)

    def of(self, target: object, at: int | None) -> Steering:
        """Return what a function may do that is given `control` at place `at` (None: it is not)."""
        plain = unwrap(target, through_wraps=False)
        if plain is None or plain in _EMPTY:
            return NOTHING if plain in _EMPTY or at is None else ANYTHING
        known = self.home and plain.__code__.co_filename.startswith(self.home + os.sep)
        if (id(plain), at) in self.seen or known:
            return NOTHING
        self.seen.add((id(plain), at))
        found = syntax(plain, through_wraps=False)
        if found is None or self.depth > DEPTH:
            return NOTHING if at is None else ANYTHING
        inner = _Function(self, plain, found.node, at)
        done = inner.read()
        wrapped = plain.__dict__.get("__wrapped__")
        return done | self.of(wrapped, at) if wrapped is not None and done is not ANYTHING else done


@dataclass(slots=True)
class _Function:
    """One function that is being read: `names` are those that hold `control`."""

    reading: _Reading
    function: FunctionType
    node: FunctionNode
    at: int | None
    names: set[str] = field(default_factory=set)
    rest: str = ""

    def read(self) -> Steering:
        arguments = self.node.args
        places = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
        if self.at is not None:
            self.names = {"control"} & {*places, *(one.arg for one in arguments.kwonlyargs)}
            if self.at < len(places):
                self.names.add(places[self.at])
            elif arguments.vararg is not None:
                self.rest = arguments.vararg.arg
        found = NOTHING
        for node in ast.walk(self.node):
            found = found | self.of(node)
        for value in _returned(self.node):
            found = found | self.returns(value)
        return found

    def of(self, node: ast.AST) -> Steering:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete)):
            return self.assigns(node)
        return self.calls(node) if isinstance(node, ast.Call) else NOTHING

    def assigns(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete) -> Steering:
        targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else [node.target]
        value = None if isinstance(node, (ast.Delete, ast.AugAssign)) else node.value
        found = NOTHING
        for target in _flat(targets):
            if isinstance(target, ast.Attribute):
                found = found | _sets(target.attr, value)
            elif isinstance(target, ast.Name) and isinstance(value, ast.Name) and value.id in self.names:
                self.names.add(target.id)
            elif isinstance(target, ast.Name) and target.id in self.names:
                found = found | ANYTHING  # from here on it is another one, which may be returned
        return found

    def calls(self, node: ast.Call) -> Steering:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        found = NOTHING
        if name in ADDS or name in REMOVES:
            found = Steering(adds=name in ADDS, removes=name in REMOVES)
        elif name in ("setattr", "__setattr__"):
            return self.sets_by_name(node)
        if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in self.names:
            return found if name == "state" else found | ANYTHING  # a method of `control` itself
        given = self.given(node)
        target, shift = self.callee(node.func)
        if given is None and not _is_own(node.func):
            return found
        if target is None:
            return found if given is None or name in HARMLESS else found | ANYTHING
        self.reading.depth += 1
        try:
            return found | self.reading.of(target, None if given is None else given + shift)
        finally:
            self.reading.depth -= 1

    def sets_by_name(self, node: ast.Call) -> Steering:
        words = [one for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if words:
            return _sets(str(words[0].value), node.args[-1])
        return ANYTHING if any(isinstance(one, ast.Name) and one.id in self.names for one in node.args) else NOTHING

    def given(self, node: ast.Call) -> int | None:
        """Return the place at which a call hands `control` on, None where it does not; by name counts as the usual."""
        for at, value in enumerate(node.args):
            if isinstance(value, ast.Name) and value.id in self.names:
                return at
            if isinstance(value, ast.Starred) and isinstance(value.value, ast.Name) and value.value.id == self.rest:
                return 2 if self.rest else None
        if any(isinstance(word.value, ast.Name) and word.value.id in self.names for word in node.keywords):
            return 2
        return None

    def callee(self, func: ast.expr) -> tuple[object | None, int]:
        """Return the function that is called, and by how much `self` shifts its places."""
        if isinstance(func, ast.Attribute):
            if isinstance(func.value, ast.Call) and getattr(func.value.func, "id", "") == "super":
                return _after(self.reading.owner, self.function, func.attr), 1
            if isinstance(func.value, ast.Name) and func.value.id == self.first():
                return _static(self.reading.owner, func.attr), 1
            holder = self.global_(func.value) if isinstance(func.value, ast.Name) else None
            return (_static(holder, func.attr), 0) if isinstance(holder, type) else (None, 0)
        if isinstance(func, ast.Name):
            found = self.global_(func)
            return (found, 0) if isinstance(found, FunctionType) else (None, 0)
        return None, 0

    def first(self) -> str:
        places = [*self.node.args.posonlyargs, *self.node.args.args]
        return places[0].arg if places else ""

    def global_(self, name: ast.Name) -> object | None:
        code = self.function.__code__
        if name.id in code.co_freevars and self.function.__closure__:
            cell = self.function.__closure__[code.co_freevars.index(name.id)]
            try:
                return cell.cell_contents  # type: ignore[no-any-return]
            except ValueError:  # not assigned yet
                return None
        return self.function.__globals__.get(name.id)

    def returns(self, value: ast.expr | None) -> Steering:
        """Return what it means that a handler returns this: another `control` takes the place of the first."""
        if self.at is None or value is None or (isinstance(value, ast.Constant) and value.value is None):
            return NOTHING
        if isinstance(value, ast.Name) and value.id in self.names:
            return NOTHING
        if isinstance(value, ast.Call) and self.given(value) is not None:
            return NOTHING  # what that does was followed
        return ANYTHING


HARMLESS = frozenset(dir(builtins)) - {"setattr", "vars", "exec", "eval", "delattr"}
"""Functions of Python's own that change nothing of what they are given."""


def _is_own(func: ast.expr) -> bool:
    """Return whether a call is one of the callback's own methods, which may reach `control` by itself."""
    if not isinstance(func, ast.Attribute):
        return False
    return isinstance(func.value, ast.Name) or (
        isinstance(func.value, ast.Call) and getattr(func.value.func, "id", "") == "super"
    )


def _sets(name: str, value: ast.expr | None) -> Steering:
    if name in FLAGS:
        known = isinstance(value, ast.Constant) and isinstance(value.value, bool)
        return Steering({name: frozenset((value.value if known else None,))})  # type: ignore[union-attr]
    return Steering(numbers=frozenset((NUMBERS[name],))) if name in NUMBERS else NOTHING


def _flat(targets: Iterable[ast.expr]) -> Iterator[ast.expr]:
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            yield from _flat(target.elts)
        else:
            yield target


def _returned(node: FunctionNode) -> Iterator[ast.expr | None]:
    """Yield what a function returns, those inside it left out."""
    if isinstance(node, ast.Lambda):
        yield node.body
        return
    left: list[ast.AST] = list(node.body)
    while left:
        inner = left.pop()
        if isinstance(inner, ast.Return):
            yield inner.value
        elif not isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            left += ast.iter_child_nodes(inner)


def _static(owner: type, name: str) -> Any:
    for base in owner.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


def _after(owner: type, function: FunctionType, name: str) -> Any:
    """Return what `super().<name>` is in `function`, a method somewhere in the classes of `owner`."""
    code = function.__code__
    behind = False
    for base in owner.__mro__:
        if behind and name in vars(base):
            return vars(base)[name]
        plain = (unwrap(value, through_wraps=False) for value in vars(base).values())
        behind = behind or any(one is not None and one.__code__ is code for one in plain)
    return None
