"""From a callback object to what rules read of it: its methods as they resolve, their signatures and sources.

An adapter says whose code is the framework's and what is passed at an event. Constraint: attributes are looked up
statically; nothing of the user's is run.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType
from typing import Any

from loopscope.callbacks import Ignore, Method, Setting
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

    `bound` says that the object itself comes first. What has no readable signature is taken to fit.
    """
    function = target.__func__ if isinstance(target, (staticmethod, classmethod)) else target
    first = 1 if bound and not isinstance(target, functools.partialmethod) else 0
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
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
    """Return the line of a class statement, as far as its first method tells its file."""
    plain = next((one for one in map(unwrap, vars(cls).values()) if one is not None), None)
    if plain is None:
        return None
    file = plain.__code__.co_filename
    pattern = re.compile(rf"\s*class\s+{re.escape(cls.__name__)}\b")
    lines = linecache.getlines(file)
    above = [n for n, line in enumerate(lines[: plain.__code__.co_firstlineno], 1) if pattern.match(line)]
    return Place(file, above[-1]) if above else None


def class_ignores(cls: type) -> tuple[Ignore, ...]:
    """Return the ignore comments on the line of a class statement: they speak for all of the class."""
    found = class_place(cls)
    return () if found is None else tuple(_comments(found.file, [found.line]))


def ignores_at(place: Place) -> tuple[Ignore, ...]:
    """Return the ignore comments of the function whose `def` stands there, and of its class, as the file is now.

    For what was recorded, whose objects are gone; nothing where the file is gone too, or has changed there.
    """
    linecache.checkcache(place.file)
    try:
        tree = ast.parse("".join(linecache.getlines(place.file)))
    except (SyntaxError, ValueError, RecursionError):
        return ()
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.lineno <= place.line <= (node.end_lineno or node.lineno)
    ]
    if not around or isinstance(around[-1], ast.ClassDef) or around[-1].lineno != place.line:
        return ()
    head = range(min(one.lineno for one in (around[-1], *around[-1].decorator_list)), around[-1].body[0].lineno)
    classes = [one.lineno for one in around[-2:-1] if isinstance(one, ast.ClassDef)]
    return tuple(_comments(place.file, dict.fromkeys([*classes, *(head or [place.line])])))


COMMENT = re.compile(r"#\s*loopscope:\s*ignore\b\s*(?:\[(?P<rules>[^\]]*)\])?")


def _ignores(plain: FunctionType | None, node: Any) -> Iterator[Ignore]:
    """Yield the ignore comments on the lines of a function's head, decorators included."""
    if plain is None or node is None or isinstance(node, ast.Lambda):
        return
    first = plain.__code__.co_firstlineno
    last = max(node.lineno, node.body[0].lineno - 1 if node.body else node.lineno)
    yield from _comments(plain.__code__.co_filename, range(first, last + 1))


def _comments(file: str, numbers: Iterable[int]) -> Iterator[Ignore]:
    for number in numbers:
        match = COMMENT.search(linecache.getline(file, number))
        if match is not None:
            yield Ignore(match["rules"], Place(file, number))


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
