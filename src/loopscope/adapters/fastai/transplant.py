"""fastai's own `Learner._call_one` with the stamps of `hot.py` inside, compiled at fastai's own lines."""

from __future__ import annotations

import ast
import functools
from types import CodeType, FunctionType
from typing import Any

from fastai.learner import Learner

from loopscope.adapters.fastai import hot
from loopscope.adapters.fastai.unknown import unknown
from loopscope.stamped.trees import compiled, function_tree

STOCK = vars(Learner)["_call_one"]
"""fastai's own function, as it was when the adapter was imported."""

CODES: set[CodeType] = set()
"""The code of every function that stands in for a dispatch: a frame of one says that a handler is open."""


@functools.cache
def recorded(form: str) -> FunctionType:
    """Return fastai's `_call_one` with the stamps of `hot.one` or `hot.many` inside, at fastai's own lines."""
    theirs, first, loop, call = parts(STOCK)
    template = function_tree(getattr(hot, form), unknown)
    arguments = [theirs.args.args[0].arg, theirs.args.args[1].arg]
    if arguments != [one.arg for one in template.args.args]:
        raise unknown(f"its parameters are {', '.join(arguments)}")
    template = _Transplant(first, loop, call).visit(template)
    ast.copy_location(template, theirs)
    template.name, template.decorator_list, template.returns = theirs.name, [], None
    for argument in template.args.args:
        argument.annotation = None
    names = sorted(_free_names(getattr(hot, form)))
    function = compiled(template, STOCK, {name: getattr(hot, name) for name in names})
    CODES.add(function.__code__)
    return function


class _Transplant(ast.NodeTransformer):
    """Puts fastai's statements where the placeholders stand, and everything else at the place of fastai's loop.

    What stands there as in fastai's own loop is fastai's, so that the columns in a traceback are, too.
    """

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

    def visit_Call(self, node: ast.Call) -> ast.AST:
        same = ast.unparse(node) == ast.unparse(self.loop.iter)
        return self.loop.iter if same else self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if id(node) in self.theirs:
            return node
        super().generic_visit(node)
        if "lineno" in node._attributes:
            ast.copy_location(node, self.call if _is_turn(node) else self.loop)
        return node


def _is_turn(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("cb", "ask")


def _free_names(function: FunctionType) -> set[str]:
    names = set(function.__code__.co_names)
    for constant in function.__code__.co_consts:  # list comprehensions, before Python 3.12
        if isinstance(constant, CodeType):
            names |= set(constant.co_names)
    return {name for name in names if name in vars(hot) and not name.startswith("fastai_")}


def parts(function: Any) -> tuple[ast.FunctionDef, list[ast.stmt], ast.For, ast.Call]:
    """Return fastai's `_call_one` taken apart: itself, its first statements, its loop, and the call in the loop."""
    tree = function_tree(function, unknown)
    *first, loop = tree.body
    if not isinstance(loop, ast.For) or ast.unparse(loop.iter) != "self.cbs.sorted('order')" or len(loop.body) != 1:
        raise unknown("Learner._call_one does not end with a loop over self.cbs.sorted('order')")
    call = loop.body[0].value if isinstance(loop.body[0], ast.Expr) else None
    if not isinstance(call, ast.Call) or ast.unparse(call) != f"{ast.unparse(loop.target)}(event_name)":
        raise unknown("that loop does not just call each callback with event_name")
    return tree, first, loop, call
