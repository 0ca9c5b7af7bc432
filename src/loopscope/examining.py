"""From a callback object to what rules read of it: its methods as they resolve, their signatures and sources.

An adapter says whose code is the framework's and what is passed at an event. Constraint: attributes are looked up
statically; nothing of the user's is run.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import linecache
import re
import sys
import tokenize
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType
from typing import Any

from loopscope.callbacks import Callback, Ignore, Method, Setting
from loopscope.effects import Effect, Vocabulary, effects
from loopscope.model import Place
from loopscope.source import place, syntax, unwrap

PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Passed:
    """What a framework passes at an event, the object itself left out: `Passed(2, ("logs",))`."""

    count: int = 0
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """How the callbacks of one framework are read.

    `base` is the class that they derive from (`object` if there is none), `homes` are folders with the framework's own
    code. `passed(event)` says what is passed there, None for a name that is no event. `vocabulary` and `given` are what
    `effects` is asked with.
    """

    base: type
    homes: tuple[str, ...]
    passed: Callable[[str], Passed | None]
    vocabulary: Vocabulary
    given: Callable[[str], Sequence[str]] = field(default=lambda event: ())

    def methods(self, cls: type, attributes: Mapping[str, Any] = MappingProxyType({})) -> tuple[Method, ...]:
        """Return the methods of a class below `base`, and the callable ones among an instance's attributes."""
        names = dict.fromkeys(name for owner in self.owners(cls) for name in vars(owner))
        found = [self.method(cls, name) for name in names if name not in attributes]
        found += [self._own(cls, name, value) for name, value in attributes.items() if inspect.isroutine(value)]
        return tuple(one for one in found if one is not None)

    def callback(self, id: str, cls: type, attributes: Mapping[str, Any], **more: Any) -> Callback:
        """Return a callback of a class with these attributes of the instance; `more` are further fields of it."""
        names = [*attributes, *(name for one in self.owners(cls) for name in vars(one))]
        return Callback(
            id=id,
            cls=cls.__name__,
            classes=classes(cls),
            shipped=self.is_shipped(cls),
            place=class_place(cls),
            methods=self.methods(cls, attributes),
            attributes=tuple(dict.fromkeys(names)),
            ignores=class_ignores(cls),
            **more,
        )

    def owners(self, cls: type) -> list[type]:
        """Return the classes of an object that are below the framework's base class."""
        above = set(self.base.__mro__)
        return [one for one in cls.__mro__ if one not in above]

    def method(self, cls: type, name: str) -> Method | None:
        """Return the method of a name as the class resolves it; None for what is none."""
        owner, target = next((one, vars(one)[name]) for one in cls.__mro__ if name in vars(one))
        if not isinstance(target, (FunctionType, staticmethod, classmethod, functools.partialmethod)):
            return None
        hidden = next((one for one in cls.__mro__[cls.__mro__.index(owner) + 1 :] if name in vars(one)), None)
        if hidden is not None and not _does_something(vars(hidden)[name]):
            hidden = None
        bound = not isinstance(target, staticmethod)
        return self._read(
            name,
            target,
            cls,
            owner=owner.__qualname__,
            misfit=self._misfit(name, target, bound),
            hides="" if hidden is None else hidden.__qualname__,
            hides_shipped=hidden is not None and self.is_shipped(vars(hidden)[name]),
        )

    def function(self, name: str, target: Any) -> Method:
        """Return a plain function that is called as a handler at the event `name`."""
        return self._read(name, target, None, owner="", misfit=self._misfit(name, target, False))

    def is_shipped(self, target: object) -> bool:
        """Return whether a function or class is the framework's own code."""
        plain = unwrap(target)
        if plain is not None:
            return plain.__code__.co_filename.startswith(self.homes)
        module = inspect.getmodule(target) if isinstance(target, type) else None
        return str(getattr(module, "__file__", "") or "").startswith(self.homes)

    def _own(self, cls: type, name: str, value: Any) -> Method:
        return self._read(name, value, cls, owner="", misfit=self._misfit(name, value, False))

    def _misfit(self, name: str, target: object, bound: bool) -> str:
        passed = self.passed(name)
        return "" if passed is None else misfit(target, passed, bound=bound)

    def _read(self, name: str, target: Any, cls: type | None, **more: Any) -> Method:
        plain, tree = unwrap(target), syntax(target)
        flags = 0 if plain is None else plain.__code__.co_flags
        given = self.given(name) if self.passed(name) is not None else ()
        return Method(
            name=name,
            shipped=self.is_shipped(target),
            place=place(target),
            is_async=bool(flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR)),
            is_generator=bool(flags & inspect.CO_GENERATOR),
            calls_super=tree is not None and _calls_super(tree.node, name),
            node=None if tree is None else tree.node,
            effects=self._effects(target, cls, given),
            ignores=tuple(_ignores(plain, None if tree is None else tree.node)),
            **more,
        )

    def _effects(self, target: Any, cls: type | None, given: Sequence[str]) -> tuple[Effect, ...]:
        function = target.__func__ if isinstance(target, (staticmethod, classmethod)) else target
        return effects(function, cls, self.vocabulary, passed=given).items


def misfit(target: object, passed: Passed, *, bound: bool) -> str:
    """Return why a function cannot take what is passed: `"missing a required argument: 'logs'"`, `""` where it can.

    `bound` says that the object itself comes first. What has no readable signature is taken to fit. A decorator's
    wrapper counts, not what it wraps: that may get more than the framework passes.
    """
    function = target.__func__ if isinstance(target, (staticmethod, classmethod)) else target
    first = 1 if bound and not isinstance(target, functools.partialmethod) else 0
    if "__signature__" in getattr(function, "__dict__", {}):  # what it says of itself, which a call does not ask
        return ""
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*[None] * (first + passed.count), **dict.fromkeys(passed.words))
    except TypeError as error:
        return str(error)
    return ""


def plain_settings(names: Iterable[str], attributes: Mapping[str, Any], cls: type) -> dict[str, Setting]:
    """Return those of the named attributes that an instance (or its class) has, as plain values; nothing is run."""
    found: dict[str, Setting] = {}
    for name in names:
        for holder in (attributes, *(vars(one) for one in cls.__mro__)):
            if name in holder:
                value = holder[name]
                if isinstance(value, PLAIN):
                    found[name] = value
                elif isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
                    found[name] = tuple(value)
                break
    return found


def classes(cls: type) -> tuple[str, ...]:
    """Return the qualified names of a class and its bases, without `object`."""
    return tuple(f"{one.__module__}.{one.__qualname__}" for one in cls.__mro__ if one is not object)


def class_place(cls: type) -> Place | None:
    """Return the line of a class statement, as its first method or its module tells its file; None where in doubt."""
    return _above_its_methods(cls) or _in_its_module(cls)


def _above_its_methods(cls: type) -> Place | None:
    """Return the last class statement of this name above the first method that was written in it."""
    inside = (one for one in map(unwrap, vars(cls).values()) if one is not None and _is_written_in(one, cls))
    plain = next((one for one in inside if linecache.getlines(one.__code__.co_filename)), None)
    if plain is None:
        return None
    file = plain.__code__.co_filename
    pattern = re.compile(rf"\s*class\s+{re.escape(cls.__name__)}\b")
    lines = linecache.getlines(file)
    above = [n for n, line in enumerate(lines[: plain.__code__.co_firstlineno], 1) if pattern.match(line)]
    return Place(file, above[-1]) if above else None


def _is_written_in(function: FunctionType, cls: type) -> bool:
    return function.__qualname__.rpartition(".")[0] == cls.__qualname__


def _in_its_module(cls: type) -> Place | None:
    """Return the one class statement of its module that can have made a class: the same name, and all that it sets."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    tree = _parsed(file) if isinstance(file, str) else None
    if tree is None:
        return None
    named = [node for name, node in _class_statements(tree) if name == cls.__qualname__]
    found = [node for node in named if _set_in(node) <= {*vars(cls)}]
    first = vars(cls).get("__firstlineno__")  # from Python 3.13 on
    if isinstance(first, int):
        found = [node for node in found if first in (node.lineno, *(one.lineno for one in node.decorator_list))]
    return Place(str(file), found[0].lineno) if len(found) == 1 else None


def _class_statements(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield all class statements with their qualified names: `("make.<locals>.Mine", node)`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):
            continue
        inner = prefix
        if isinstance(node, ast.ClassDef):
            yield f"{prefix}{node.name}", node
            inner = f"{prefix}{node.name}."
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = f"{prefix}{node.name}.<locals>."
        yield from _class_statements(node, inner)


def _set_in(node: ast.ClassDef) -> set[str]:
    """Return the names that the body of a class statement certainly gives the class, as far as they are plain."""
    names = [one.name for one in node.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    targets = [target for one in node.body if isinstance(one, ast.Assign) for target in one.targets]
    found = {*names, *(one.id for one in targets if isinstance(one, ast.Name))}
    return {name for name in found if not name.startswith("__") or name.endswith("__")}  # the others are mangled


def class_ignores(cls: type) -> tuple[Ignore, ...]:
    """Return the ignore comments on the head of a class statement: they speak for all of the class."""
    found = class_place(cls)
    return () if found is None else tuple(_comments(found.file, _class_head(found.file, found.line)))


def _class_head(file: str, line: int) -> range:
    """Return the lines of a class statement up to its colon, with the decorators right above it."""
    lines, first = linecache.getlines(file), line
    while first > 1 and lines[first - 2].lstrip().startswith("@"):
        first -= 1
    return range(first, _colon(file, line) + 1)


def _colon(file: str, line: int) -> int:
    """Return the line of the colon that ends the head of the `class` or `def` on a line."""
    depth = 0
    try:
        for token in tokenize.generate_tokens(itertools.islice(linecache.getlines(file), line - 1, None).__next__):
            depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
            if token.type == tokenize.OP and token.string == ":" and not depth:
                return line + token.start[0] - 1
    except (tokenize.TokenError, SyntaxError):
        pass
    return line


def _parsed(file: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():  # of what a user's source holds: that is not ours to say again
            warnings.simplefilter("ignore")
            return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return None


def ignores_at(place: Place) -> tuple[Ignore, ...]:
    """Return the ignore comments of the function whose `def` stands there, and of its class, as the file is now.

    For what was recorded, whose objects are gone; nothing where the file is gone too, or has changed there.
    """
    linecache.checkcache(place.file)
    tree = _parsed(place.file)
    if tree is None:
        return ()
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.lineno <= place.line <= (node.end_lineno or node.lineno)
    ]
    if not around or isinstance(around[-1], ast.ClassDef) or around[-1].lineno != place.line:
        return ()
    first = min(one.lineno for one in (around[-1], *around[-1].decorator_list))
    head = range(first, _last_of_head(place.file, around[-1]) + 1)
    classes = [
        line for one in around[-2:-1] if isinstance(one, ast.ClassDef) for line in _class_head(place.file, one.lineno)
    ]
    return tuple(_comments(place.file, dict.fromkeys([*classes, *head])))


COMMENT = re.compile(r"#\s*loopscope\b[^#]*", re.IGNORECASE)
"""What is meant for us."""

RIGHT = re.compile(r"#\s*loopscope:\s*ignore\b(?![-\w])\s*(?:\[(?P<rules>[^\]]*)\])?")
"""What we understand."""


def _ignores(plain: FunctionType | None, node: Any) -> Iterator[Ignore]:
    """Yield the ignore comments on the lines of a function's head, decorators included."""
    if plain is None or node is None or isinstance(node, ast.Lambda):
        return
    first = plain.__code__.co_firstlineno
    file = plain.__code__.co_filename
    yield from _comments(file, range(first, _last_of_head(file, node) + 1))


def _last_of_head(file: str, node: Any) -> int:
    """Return the last line on which a function's comment may stand: that of its colon, or above its body."""
    body: int = node.body[0].lineno
    return max(_colon(file, node.lineno), body - 1)


def _comments(file: str, numbers: Iterable[int]) -> Iterator[Ignore]:
    """Yield the comments that are meant for us; of a misspelt one its text, from `#` on, in place of rules."""
    for number in numbers:
        for found in COMMENT.findall(linecache.getline(file, number)):
            right = RIGHT.match(found)
            yield Ignore(found.strip() if right is None else right["rules"], Place(file, number))


def _does_something(target: object) -> bool:
    """Return whether a method's body is more than a docstring, `pass` and `...`; True where it cannot be read."""
    found = syntax(target)
    if found is None:
        return unwrap(target) is not None
    body = found.node.body if isinstance(found.node.body, list) else [found.node.body]
    return any(not _is_empty(one) for one in body)


def _is_empty(node: ast.AST) -> bool:
    if isinstance(node, ast.Return):
        return node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _calls_super(node: ast.AST, name: str) -> bool:
    """Return whether the same method of another class is called: `super().name(...)`, `Base.name(self, ...)`."""
    return any(
        isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr == name
        and (_is_super(one.func.value) or (bool(one.args) and ast.unparse(one.args[0]) == "self"))
        for one in ast.walk(node)
    )


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


# -- a mapping that is only read -----------------------------------------------------------------------------

READS = frozenset({"get", "keys", "items", "values", "copy", "pop"})
"""Methods of a mapping that put nothing into it."""

READERS = frozenset(
    {"all", "any", "bool", "deepcopy", "dict", "enumerate", "float", "hasattr", "id", "isinstance", "iter", "len"}
    | {"list", "max", "min", "pprint", "print", "repr", "set", "sorted", "str", "sum", "tuple", "type", "zip"}
)
"""Functions that put nothing into a mapping that they are given."""

READING_MODULES = frozenset({"copy", "json", "logging", "logger", "np", "numpy", "torch", "wandb", "mlflow"})

BLIND = (ast.If, ast.While, ast.Assert, ast.UnaryOp, ast.BinOp, ast.AugAssign, ast.Compare, ast.FormattedValue)
PASSING = (ast.Expr, ast.Starred, ast.For, ast.comprehension, ast.Lambda)


def may_write(
    tree: ast.AST, is_it: Callable[[ast.AST], bool], passes: Callable[[ast.Call], bool] = lambda call: False
) -> bool:
    """Return whether code may put something into a mapping, or gives it to somebody who may.

    `is_it` tells the mapping's expressions: `logs`, or `trainer.callback_metrics`; other names for it are followed.
    `passes` names calls that may have it.
    """
    above = {id(below): node for node in ast.walk(tree) for below in ast.iter_child_nodes(node)}
    names: set[str] = set()
    while True:
        known = len(names)
        for node in ast.walk(tree):
            if is_it(node) or (isinstance(node, ast.Name) and node.id in names):
                aliases = _aliases(node, above, passes)
                if aliases is None:
                    return True
                names |= aliases
        if len(names) == known:
            return False


def _aliases(node: ast.AST, above: Mapping[int, ast.AST], passes: Callable[[ast.Call], bool]) -> set[str] | None:
    """Return the names that one use gives to a mapping; None where it may write into it, or lose sight of it."""
    parent = above.get(id(node))
    if isinstance(parent, ast.keyword) and parent.arg is not None:
        node, parent = parent, above.get(id(parent))
    if isinstance(parent, ast.Call):
        return set() if parent.func is not node and (_only_reads(parent) or passes(parent)) else None
    if isinstance(getattr(node, "ctx", None), ast.Store):  # its name, bound anew
        return None if isinstance(parent, ast.AugAssign) else set()
    if isinstance(parent, ast.BoolOp) or (isinstance(parent, ast.IfExp) and parent.test is not node):
        return _aliases(parent, above, passes)
    if isinstance(parent, (ast.Assign, ast.AnnAssign)):
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        return {one.id for one in targets if isinstance(one, ast.Name)} if _are_names(targets) else None
    return set() if _is_reading(node, parent, above) else None


def _are_names(targets: Iterable[ast.AST]) -> bool:
    return all(isinstance(one, ast.Name) for one in targets)


def _is_reading(node: ast.AST, parent: ast.AST | None, above: Mapping[int, ast.AST]) -> bool:
    if isinstance(parent, ast.Subscript):
        return parent.value is not node or not isinstance(parent.ctx, ast.Store)
    if isinstance(parent, ast.Attribute):
        call = above.get(id(parent))
        return parent.attr in READS and isinstance(call, ast.Call) and call.func is parent
    if isinstance(parent, ast.Dict):  # {**logs}
        return any(value is node and key is None for key, value in zip(parent.keys, parent.values, strict=True))
    return isinstance(parent, (*BLIND, *PASSING, ast.IfExp, ast.keyword))


def _only_reads(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id in READERS
    return ast.unparse(call.func).partition(".")[0] in READING_MODULES
