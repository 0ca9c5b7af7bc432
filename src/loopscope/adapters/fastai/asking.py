"""A callback's turn where code of the user's may decide about it: asked once, by fastai's own `Callback.__call__`.

Asking beforehand whether fastai will call a handler would run such code twice: a `run` that is a property may draw a
random number, a `__getattr__` may count. So fastai's function itself says which handler it found, before it calls it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from fastcore.basics import noop

from loopscope.adapters.fastai.unknown import unknown
from loopscope.adapters.fastai.watching import CALL, Watched, begin, clock, failed, finish
from loopscope.stamped.trees import compiled, function_tree

FOUND = "getcallable(self, event_name)"


def ask(several: Iterable[Watched], cb: Any, event: str) -> Any:
    """Let a callback take its turn, as `Callback.__call__` does; a handler that fastai calls is recorded."""
    opened: list[tuple[Watched, Any, int]] = []

    def told(handler: Any) -> Any:
        if handler is not noop:
            for one in several:
                code = one.handlers[event].get(id(cb)) or one.handler(cb, event)
                opened.append((one, *begin(one, code)))
        return handler

    try:
        done = telling()(cb, event, told)
    except BaseException as error:
        for one, rows, at in opened:
            failed(one, rows, at, error, event, cb)
        for one in several if not opened else ():  # the code that decides raised
            one.sink.outcome(error, event, f"{type(cb).__name__}.{event}", clock())
        raise
    finish((rows, at) for _, rows, at in opened)
    if not opened:
        for one in several:
            one.skips(cb)
    return done


@functools.cache
def telling() -> FunctionType:
    """Return fastai's `Callback.__call__` with one parameter more: it is told the handler, and returns it."""
    tree = function_tree(CALL, unknown)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node) == f"{FOUND}()"]
    if [one.arg for one in tree.args.args] != ["self", "event_name"] or len(calls) != 1:
        raise unknown(f"Callback.__call__ does not call {FOUND}() at one place")
    found = calls[0].func
    calls[0].func = ast.copy_location(
        ast.Call(ast.copy_location(ast.Name("told", ast.Load()), found), [found], []), found
    )
    tree.args.args.append(ast.arg("told"))
    return compiled(tree, CALL, {})
