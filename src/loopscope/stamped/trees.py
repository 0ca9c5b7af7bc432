"""A framework's own functions as syntax trees, and back: changed inside, they keep its file, lines and columns."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any


def function_tree(function: Any, unknown: Callable[[str], Exception]) -> ast.FunctionDef:
    """Return the syntax tree of a function with the line numbers of its file; without one, `unknown(why)` is raised."""
    try:
        lines, first = inspect.getsourcelines(function)
        node = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, TypeError, SyntaxError) as error:
        raise unknown(f"the source of {function.__qualname__} cannot be read ({error})") from None
    assert isinstance(node, ast.FunctionDef)
    indent = len(lines[0]) - len(lines[0].lstrip())
    for one in ast.walk(node):
        if "lineno" in one._attributes:
            one.lineno += first - 1  # type: ignore[attr-defined]
            one.col_offset += indent  # type: ignore[attr-defined]
            one.end_lineno += first - 1  # type: ignore[attr-defined]
            one.end_col_offset += indent  # type: ignore[attr-defined]
    return node


def compiled(tree: ast.FunctionDef, like: FunctionType, given: Mapping[str, object]) -> FunctionType:
    """Return the function that `tree` is, in the place of `like`; `given` are names beside its globals."""
    outer = ast.FunctionDef(
        name="transplanted",
        args=ast.arguments(
            posonlyargs=[], args=[ast.arg(n) for n in given], kwonlyargs=[], kw_defaults=[], defaults=[]
        ),
        body=[tree, ast.Return(ast.Name(tree.name, ast.Load()))],
        decorator_list=[],
    )
    if "type_params" in ast.FunctionDef._fields:
        outer.type_params = []  # type: ignore[attr-defined]  # Python 3.12 on
    module = ast.Module([ast.copy_location(outer, tree)], [])
    for node in ast.walk(module):
        if "lineno" in node._attributes and not hasattr(node, "lineno"):
            ast.copy_location(node, tree)
    found: dict[str, Any] = {}
    exec(compile(module, like.__code__.co_filename, "exec"), like.__globals__, found)
    function: FunctionType = found["transplanted"](**given)
    if hasattr(function.__code__, "co_qualname"):
        function.__code__ = function.__code__.replace(co_qualname=like.__qualname__)  # type: ignore[call-arg]
    functools.update_wrapper(function, like)
    del function.__wrapped__  # type: ignore[attr-defined]  # it is the framework's function, not a wrapper around it
    return function
