"""fastai's own `Learner._call_one` with the stamps of `hot.py` inside, compiled at fastai's own lines."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from types import CodeType, FunctionType
from typing import Any

import fastai
from fastai.learner import Learner

from loopscope.adapters.fastai import hot
from loopscope.errors import UnknownVersion

STOCK = vars(Learner)["_call_one"]
"""fastai's own function, as it was when the adapter was imported."""

CODES: set[CodeType] = set()
"""The code of every function that stands in for a dispatch: a frame of one says that a handler is open."""


@functools.cache
def recorded(form: str) -> FunctionType:
    """Return fastai's `_call_one` with the stamps of `hot.one` or `hot.many` inside, at fastai's own lines."""
    theirs, first, loop, call = parts(STOCK)
    template = _function(getattr(hot, form))
    arguments = [theirs.args.args[0].arg, theirs.args.args[1].arg]
    if arguments != [one.arg for one in template.args.args]:
        raise unknown(f"its parameters are {', '.join(arguments)}")
    template = _Transplant(first, loop, call).visit(template)
    template.name, template.decorator_list, template.returns = theirs.name, [], None
    for argument in template.args.args:
        argument.annotation = None
    names = sorted(_free_names(getattr(hot, form)))
    outer = ast.FunctionDef(
        name="transplanted",
        args=ast.arguments(
            posonlyargs=[], args=[ast.arg(n) for n in names], kwonlyargs=[], kw_defaults=[], defaults=[]
        ),
        body=[template, ast.Return(ast.Name(theirs.name, ast.Load()))],
        decorator_list=[],
    )
    if "type_params" in ast.FunctionDef._fields:
        outer.type_params = []  # type: ignore[attr-defined]  # Python 3.12 on
    module = ast.Module([ast.copy_location(outer, theirs)], [])
    for node in ast.walk(module):
        if "lineno" in node._attributes and not hasattr(node, "lineno"):
            ast.copy_location(node, theirs)
    found: dict[str, Any] = {}
    exec(compile(module, STOCK.__code__.co_filename, "exec"), STOCK.__globals__, found)
    function: FunctionType = found["transplanted"](**{name: getattr(hot, name) for name in names})
    if hasattr(function.__code__, "co_qualname"):
        function.__code__ = function.__code__.replace(co_qualname=STOCK.__qualname__)  # type: ignore[call-arg]
    functools.update_wrapper(function, STOCK)
    del function.__wrapped__  # type: ignore[attr-defined]  # it is fastai's function, not a wrapper around it
    CODES.add(function.__code__)
    return function


class _Transplant(ast.NodeTransformer):
    """Puts fastai's statements where the placeholders stand, and everything else at the place of fastai's loop."""

    def __init__(self, first: list[ast.stmt], loop: ast.For, call: ast.Call) -> None:
        self.first, self.loop, self.call = first, loop, call
        self.theirs = {id(node) for stmt in (*first, loop) for node in ast.walk(stmt)}

    def visit_Expr(self, node: ast.Expr) -> Any:
        name = ast.unparse(node)
        if name == "fastai_asks_first()":
            return self.first
        if name == "fastai_calls_all()":
            return self.loop
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if id(node) in self.theirs:
            return node
        super().generic_visit(node)
        if "lineno" in node._attributes:
            ast.copy_location(node, self.call if _is_turn(node) else self.loop)
        return node


def _is_turn(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cb"


def _free_names(function: FunctionType) -> set[str]:
    names = set(function.__code__.co_names)
    for constant in function.__code__.co_consts:  # list comprehensions, before Python 3.12
        if isinstance(constant, CodeType):
            names |= set(constant.co_names)
    return {name for name in names if name in vars(hot) and not name.startswith("fastai_")}


def _function(function: Any) -> ast.FunctionDef:
    """Return the syntax tree of a function with the line numbers of its file."""
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    indent = len(lines[0]) - len(lines[0].lstrip())
    for one in ast.walk(node):
        if "lineno" in one._attributes:
            one.lineno += first - 1  # type: ignore[attr-defined]
            one.col_offset += indent  # type: ignore[attr-defined]
            one.end_lineno += first - 1  # type: ignore[attr-defined]
            one.end_col_offset += indent  # type: ignore[attr-defined]
    return node


def parts(function: Any) -> tuple[ast.FunctionDef, list[ast.stmt], ast.For, ast.Call]:
    """Return fastai's `_call_one` taken apart: itself, its first statements, its loop, and the call in the loop."""
    try:
        tree = _function(function)
    except (OSError, TypeError, SyntaxError) as error:
        raise unknown(f"the source of Learner._call_one cannot be read ({error})") from None
    *first, loop = tree.body
    if not isinstance(loop, ast.For) or ast.unparse(loop.iter) != "self.cbs.sorted('order')" or len(loop.body) != 1:
        raise unknown("Learner._call_one does not end with a loop over self.cbs.sorted('order')")
    call = loop.body[0].value if isinstance(loop.body[0], ast.Expr) else None
    if not isinstance(call, ast.Call) or ast.unparse(call) != f"{ast.unparse(loop.target)}(event_name)":
        raise unknown("that loop does not just call each callback with event_name")
    return tree, first, loop, call


def unknown(what: str) -> UnknownVersion:
    """Return the error that says what this fastai has not, or has in another shape."""
    return UnknownVersion(
        f"fastai {fastai.__version__} cannot be recorded: {what}. Known to work: fastai 2.8. Nothing was attached; "
        f"`loopscope show` still reads the loop."
    )
