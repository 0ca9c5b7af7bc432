"""Docstrings, places and syntax trees of whatever can be called."""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopscope.model import Place
from loopscope.source import doc, place, syntax, unwrap

THIS = str(Path(__file__))


class Base:
    def handler(self) -> None:
        """Says what it does."""

    @staticmethod
    def plain(value: int) -> int:
        """
        Adds one.

        And says more.
        """
        return value + 1

    def __hidden(self) -> int:
        self.__count = 1
        return self.__count

    def mangled(self) -> Callable[[], int]:
        return self.__hidden


class Silent(Base):
    def handler(self) -> None:
        pass


class Called:
    """A class, not a handler."""

    def __call__(self) -> None:
        """Called."""


class Answers:
    """Anything asked of it is there, or raises."""

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":
            raise RuntimeError("no")
        return self


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def around(*args: Any) -> Any:
        return function(*args)

    return around


@decorated
@decorated
def wrapped(value: int) -> int:
    """Wrapped twice."""
    return value


one, two = (lambda: "one"), (lambda: "two")
same, again = (lambda: 1), (lambda: 1)


def text(function: object) -> str | None:
    """The source of a function as `ast` writes it, or None."""
    found = syntax(function)
    if found is None:
        return None
    return ast.unparse(found.node).replace("lambda :", "lambda:")  # Python 3.10 writes the space


def line(start: str) -> int:
    return next(n for n, text in enumerate(Path(THIS).read_text().splitlines(), 1) if text.strip().startswith(start))


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """`module("def f(): ...")` -> the names of a file with that text; writing it again replaces the file only."""
    path = tmp_path / "written.py"

    def write(text: str) -> dict[str, Any]:
        path.write_text(text)
        linecache.checkcache(str(path))
        names: dict[str, Any] = {}
        exec(compile(text, str(path), "exec"), names)
        return names

    yield write
    linecache.cache.pop(str(path), None)


def test_doc_is_the_function_s_own() -> None:
    """A docstring is read when asked, stripped, and not inherited from the method that is overridden."""
    assert doc(Base.handler) == "Says what it does."
    assert doc(Base().handler) == "Says what it does."
    assert doc(Base.plain) == "Adds one.\n\nAnd says more."
    assert doc(Silent.handler) is None
    assert doc(wrapped) == "Wrapped twice."
    assert doc(vars(Base)["plain"]) == doc(Base.plain)


def test_doc_attached_outside_the_body_counts() -> None:
    """`f.__doc__ = "..."`, as decorators do it, is the docstring."""

    def handler() -> None:
        pass

    handler.__doc__ = " Attached. "
    assert doc(handler) == "Attached."


def test_a_partial_has_the_docstring_of_its_function() -> None:
    """functools' own text about partials is never shown, however deep the partials are nested."""
    deep = functools.partial(functools.partial(Base.plain), 1)
    assert doc(deep) == doc(Base.plain)
    assert doc(functools.partial(lambda: None)) is None
    assert doc(functools.partialmethod(Base.handler)) == "Says what it does."


def test_an_object_does_not_speak_for_its_class() -> None:
    """A callable object whose docstring is that of its class has none; a class has its own."""
    assert doc(Called()) is None
    assert doc(Called) == "A class, not a handler."
    assert doc(type("Sub", (Called,), {})) is None


def test_place_is_the_line_of_the_def() -> None:
    """Decorators stand above it; a wrapper leads to what it wraps."""
    assert place(Base.handler) == Place(THIS, line("def handler"))
    assert place(Base().handler) == place(Base.handler)
    assert place(functools.partial(Base.handler)) == place(Base.handler)
    assert place(wrapped) == Place(THIS, line("def wrapped"))
    assert place(Called()) == Place(THIS, line("def __call__"))


def test_place_without_source(module: Callable[[str], dict[str, Any]]) -> None:
    """The place comes from the code where the file is gone, and is None where there never was one."""
    names: dict[str, Any] = {}
    exec(compile("\n\ndef f(): pass", "/gone/away.py", "exec"), names)
    assert place(names["f"]) == Place("/gone/away.py", 3)
    exec(compile("def f(): pass", "<stdin>", "exec"), names)
    assert place(names["f"]) is None


def test_syntax_is_the_function_s_own_text() -> None:
    """Methods, wrapped functions, private names: the tree is that of the `def`, at its line of the file."""
    found = syntax(wrapped)
    assert found is not None
    assert (found.file, found.node.lineno, found.function.__name__) == (THIS, line("def wrapped"), "wrapped")
    assert text(Base().mangled()) == "def __hidden(self) -> int:\n    self.__count = 1\n    return self.__count"
    assert text(line) is not None


def test_what_was_typed_or_executed_has_no_syntax() -> None:
    """`exec` and a prompt give None, whatever the file of that name holds."""
    for name in ("<stdin>", "<string>", "/gone/away.py", "", THIS):
        names: dict[str, Any] = {}
        exec(compile("def f():\n    return 1\ng = lambda: 2", name, "exec"), names)
        assert (syntax(names["f"]), syntax(names["g"])) == (None, None), name


@pytest.mark.parametrize(
    "now",
    [
        "def f(self):\n    self.a = 2\n",
        "def f(self):\n    self.b = 1\n",
        "def f(other):\n    other.a = 1\n",
        "def g(self):\n    self.a = 1\n",
        "\ndef f(self):\n    self.a = 1\n",
        "def f(self):\n    self.a = (\n",
        "",
    ],
)
def test_a_changed_file_gives_none(module: Callable[[str], dict[str, Any]], now: str) -> None:
    """Where a file's line no longer holds the function, another function is not taken for it."""
    names = module("def f(self):\n    self.a = 1\n")
    assert text(names["f"]) == "def f(self):\n    self.a = 1"
    path = Path(names["f"].__code__.co_filename)
    path.write_text(now)
    linecache.cache.pop(str(path), None)
    assert syntax(names["f"]) is None


def test_lambdas_on_one_line_are_told_apart() -> None:
    """By their constants or, where Python keeps them, by their columns; otherwise neither is taken for the other."""
    assert text(one) == "lambda: 'one'"
    assert text(two) == "lambda: 'two'"
    # Python 3.12 keeps no column for a lambda that only returns a constant
    columns = sys.version_info >= (3, 11) and sys.version_info[:2] != (3, 12)
    assert text(same) == text(again) == ("lambda: 1" if columns else None)
    if columns:
        first, second = syntax(same), syntax(again)
        assert first is not None
        assert second is not None
        assert first.node.col_offset < second.node.col_offset


def test_awkward_text_is_read(module: Callable[[str], dict[str, Any]]) -> None:
    """Strings and brackets may reach into column 0, statements may compile to nothing, a name may be nonlocal."""
    names = module(
        "class A:\n"
        "    def strings(self):\n"
        "        x = '''\nat the margin\n'''\n"
        "        return (x,\n"
        "1)\n"
        "    def nothing(self):\n"
        "        if 1:\n"
        "            pass\n"
        "    def outer(self):\n"
        "        n = 0\n"
        "        def inner():\n"
        "            nonlocal n\n"
        "            n = 1\n"
        "        return inner\n"
        "    async def later(self): await self.x\n"
    )["A"]
    assert text(names.strings) == "def strings(self):\n    x = '\\nat the margin\\n'\n    return (x, 1)"
    assert text(names.nothing) is not None
    assert text(names().outer()) == "def inner():\n    nonlocal n\n    n = 1"
    assert text(names.later) == "async def later(self):\n    await self.x"


def test_nothing_raises() -> None:
    """Built-in functions, classes, numbers, modules, objects that answer to anything: None, never an error."""
    endless: Any = functools.partial(len)
    loop: Any = lambda: None  # noqa: E731
    loop.__wrapped__ = loop
    odd = [len, dict.get, int, 3, None, "text", sys, Answers(), Answers, endless, loop, property(len), type, print]
    for thing in odd:
        assert unwrap(thing) is None
        assert syntax(thing) is None
        assert place(thing) is None or thing is loop
        doc(thing)


def test_every_function_of_the_standard_library_is_found() -> None:
    """What is read back compiles to what is loaded, for all functions of some large modules."""
    import argparse
    import asyncio.base_events
    import collections
    import inspect
    import json.decoder
    import typing
    import unittest.mock

    missed = []
    for module in (argparse, asyncio.base_events, collections, inspect, json.decoder, typing, unittest.mock):
        for holder in [module, *filter(inspect.isclass, vars(module).values())]:
            for name, member in vars(holder).items():
                plain = unwrap(member)
                if plain is None or plain.__code__.co_filename.startswith("<"):
                    continue
                if syntax(member) is None:
                    missed.append(f"{holder.__name__}.{name}")
    assert missed == []
