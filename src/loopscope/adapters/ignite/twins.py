"""What is called in place of a handler that has a filter, while it is recorded: ignite's wrapper with stamps in it.

ignite puts a closure around such a handler, which asks the filter and calls the handler, or does not. Its twin is the
same function at the same lines, around the same handler; so the filter is asked once, and a row is only written where
the handler is called. Constraint: the closures in an engine's lists stay as they are.
"""

from __future__ import annotations

import ast
from _thread import get_ident
from collections.abc import Callable, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

from ignite.engine import Engine

from loopscope.adapters.ignite.attached import event_name, timed
from loopscope.stamped import watching
from loopscope.stamped.trees import compiled, function_tree

CALL = "return handler(*args, **kwargs)"

STAMPED = """
loopscope_now = loopscope_watched.get(id(self))
if loopscope_now is None:
    return handler(*args, **kwargs)
loopscope_several = loopscope_now.all
if len(loopscope_several) > 1:
    loopscope_its = loopscope_begin(loopscope_several, loopscope_wrapper, loopscope_event)
    try:
        loopscope_done = handler(*args, **kwargs)
    except BaseException as loopscope_error:
        loopscope_failed_calls(loopscope_its, loopscope_error, loopscope_event, loopscope_wrapper)
        raise
    loopscope_finish(loopscope_its)
    return loopscope_done
loopscope_code = loopscope_now.decided.get(loopscope_key)
if loopscope_code is None:
    loopscope_code = loopscope_now.decides(loopscope_wrapper, loopscope_event)
if not loopscope_code:
    return handler(*args, **kwargs)
loopscope_lane = loopscope_now.lanes.get(loopscope_get_ident()) or loopscope_now.lane()
loopscope_rows = loopscope_lane.rows
loopscope_at = loopscope_lane.at
try:
    loopscope_rows[loopscope_at + 1] = loopscope_clock()
    loopscope_rows[loopscope_at] = loopscope_code
except (IndexError, ValueError):
    loopscope_rows, loopscope_at = loopscope_again(loopscope_lane, loopscope_code)
loopscope_lane.at = loopscope_at + 3
try:
    loopscope_done = handler(*args, **kwargs)
except BaseException as loopscope_error:
    loopscope_failed(
        loopscope_now, loopscope_rows, loopscope_at, loopscope_error, loopscope_event, loopscope_wrapper
    )
    raise
try:
    loopscope_rows[loopscope_at + 2] = loopscope_clock()
except ValueError:
    pass
return loopscope_done
"""
"""As `stamped.transplant` has it: once for one recording of the engine, and for several."""

GIVEN: Mapping[str, object] = {
    "loopscope_again": watching.again,
    "loopscope_begin": watching.begin_decided,
    "loopscope_clock": watching.clock,
    "loopscope_failed": watching.failed,
    "loopscope_failed_calls": watching.failed_calls,
    "loopscope_finish": watching.finish,
    "loopscope_get_ident": get_ident,
}


class Twins:
    """The twins of the wrappers that were met while something is recorded, by the identity of each.

    `watched` is where recordings are found, `unknown(why)` makes the error for an ignite whose wrapper has another
    shape.
    """

    def __init__(self) -> None:
        self.made: dict[int, FunctionType] = {}
        self.kept: dict[int, list[Any]] = {}
        self.watched: Mapping[int, Any] = {}
        self.code: CodeType | None = None

    def of(self, engine: Engine, wrapper: FunctionType, unknown: Callable[[str], Exception]) -> FunctionType:
        """Return the twin of a wrapper; what ignite's profiler has put around one calls the twin, too."""
        if id(wrapper) in self.made:
            return self.made[id(wrapper)]
        names = wrapper.__code__.co_freevars
        cells = dict(zip(names, (cell.cell_contents for cell in wrapper.__closure__ or ()), strict=True))
        inner = timed(wrapper)
        if inner is not wrapper:
            code, given = wrapper.__code__, {**cells, "handler": self.of(engine, inner, unknown)}
        else:
            mine = {"wrapper": wrapper, "key": id(wrapper), "event": event_name(cells["event_name"])}
            words = {f"loopscope_{name}": value for name, value in mine.items()}
            given = {**GIVEN, "loopscope_watched": self.watched, **words, **cells}
            code = self.code = self.code or _compiled(wrapper, given, unknown)
        closure = tuple(CellType(given[name]) for name in code.co_freevars)
        twin = FunctionType(code, wrapper.__globals__, wrapper.__name__, None, closure)
        twin.__qualname__ = wrapper.__qualname__
        twin.__dict__.update(wrapper.__dict__)
        self.made[id(wrapper)] = twin
        self.kept.setdefault(id(engine), []).append(wrapper)
        return twin

    def let_go(self, engine: Engine) -> None:
        """Forget the twins of an engine's handlers."""
        for wrapper in self.kept.pop(id(engine), ()):
            self.made.pop(id(wrapper), None)


def _compiled(wrapper: FunctionType, given: Mapping[str, object], unknown: Callable[[str], Exception]) -> CodeType:
    outer = function_tree(Engine._handler_wrapper, unknown)
    inner = next((one for one in ast.walk(outer) if isinstance(one, ast.FunctionDef) and one is not outer), None)
    holders = [one for one in ast.walk(outer) if isinstance(one, ast.If) and ast.unparse(one.body[0]) == CALL]
    if inner is None or len(holders) != 1:
        raise unknown(f"Engine._handler_wrapper does not make a function with {CALL!r} in it")
    made = ast.parse(STAMPED).body
    for statement in made:
        for node in ast.walk(statement):
            if "lineno" in node._attributes:
                ast.copy_location(node, holders[0].body[0])
    holders[0].body[:1] = made
    inner.decorator_list = []
    code = compiled(inner, wrapper, given).__code__
    named: Any = wrapper.__code__
    return code.replace(co_qualname=named.co_qualname) if hasattr(code, "co_qualname") else code  # type: ignore[call-arg]
