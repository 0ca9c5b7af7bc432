"""A framework's function with stamps around the event and around each handler call, compiled at its own lines."""

from __future__ import annotations

import ast
import copy
from _thread import get_ident
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from loopscope.stamped import watching
from loopscope.stamped.trees import compiled, function_tree

WATCHED = "loopscope_watched"
"""The name under which the compiled function finds recordings: the identity of `Point.key` -> the first of them."""


@dataclass(frozen=True, slots=True)
class Point:
    """One function that calls handlers: `Point(CallbackHandler, "call_event", event="event", ...)`.

    All are source texts as they may stand in the function: `event` gives the event, `call` is what is called as a
    handler there (`"getattr(callback, event)"`, without its arguments), `handler` gives the handler's identity,
    `handlers` what the function loops over, `key` the object by whose identity recordings are found. `given` are names
    that these use beside the function's own. Without `handlers` it calls none, and is recorded whole, as a span. `twin`
    is what is called in place of a handler without a row of its own, one that decides itself whether it calls anybody.
    """

    owner: type
    name: str
    event: str
    call: str
    handler: str
    handlers: str
    key: str = "self"
    given: tuple[tuple[str, object], ...] = ()
    twin: str = ""


ONE = """
try:
    loopscope_known = loopscope_now.lists.get(loopscope_event)
    if loopscope_known is None or loopscope_known[0] != LISTED:
        loopscope_codes = loopscope_now.listed(loopscope_event, HANDLERS)
    else:
        loopscope_codes = loopscope_known[1]
    THEIRS
except BaseException as loopscope_error:
    loopscope_failed(loopscope_now, loopscope_rows, loopscope_at, loopscope_error, loopscope_event, None)
    raise
finally:
    try:
        loopscope_rows[loopscope_at + 2] = loopscope_clock()
    except ValueError:
        pass
"""

OPEN_ONE = """
loopscope_now = loopscope_watched.get(id(KEY))
if loopscope_now is None:
    THEIRS_ALONE
else:
    loopscope_event = EVENT
    loopscope_lane = loopscope_now.lanes.get(loopscope_get_ident()) or loopscope_now.lane()
    loopscope_code = loopscope_now.events[loopscope_event]
    loopscope_rows = loopscope_lane.rows
    loopscope_at = loopscope_lane.at
    try:
        loopscope_rows[loopscope_at + 1] = loopscope_clock()
        loopscope_rows[loopscope_at] = loopscope_code
    except (IndexError, ValueError):
        loopscope_rows, loopscope_at = loopscope_again(loopscope_lane, loopscope_code)
    loopscope_lane.at = loopscope_at + 3
    RECORDED
"""

SPAN_ONE = """
loopscope_now = loopscope_watched.get(id(KEY))
if loopscope_now is None:
    THEIRS_ALONE
else:
    loopscope_event = EVENT
    loopscope_lane = loopscope_now.lanes.get(loopscope_get_ident()) or loopscope_now.lane()
    loopscope_code = loopscope_now.spans[loopscope_event]
    loopscope_rows = loopscope_lane.rows
    loopscope_at = loopscope_lane.at
    try:
        loopscope_rows[loopscope_at + 1] = loopscope_clock()
        loopscope_rows[loopscope_at] = loopscope_code
    except (IndexError, ValueError):
        loopscope_rows, loopscope_at = loopscope_again(loopscope_lane, loopscope_code)
    loopscope_lane.at = loopscope_at + 3
    try:
        THEIRS
    except BaseException as loopscope_error:
        loopscope_failed(loopscope_now, loopscope_rows, loopscope_at, loopscope_error, loopscope_event, None)
        raise
    finally:
        try:
            loopscope_rows[loopscope_at + 2] = loopscope_clock()
        except ValueError:
            pass
"""

CALL_ONE = """
loopscope_code = loopscope_codes.get(id(HANDLER))
if loopscope_code is None:
    loopscope_code = loopscope_codes[id(HANDLER)] = loopscope_now.handler(HANDLER, loopscope_event)
if loopscope_code:
    loopscope_its_rows = loopscope_lane.rows
    loopscope_its_at = loopscope_lane.at
    try:
        loopscope_its_rows[loopscope_its_at + 1] = loopscope_clock()
        loopscope_its_rows[loopscope_its_at] = loopscope_code
    except (IndexError, ValueError):
        loopscope_its_rows, loopscope_its_at = loopscope_again(loopscope_lane, loopscope_code)
    loopscope_lane.at = loopscope_its_at + 3
    try:
        THEIR_CALL
    except BaseException as loopscope_error:
        loopscope_failed(
            loopscope_now, loopscope_its_rows, loopscope_its_at, loopscope_error, loopscope_event, HANDLER
        )
        raise
    try:
        loopscope_its_rows[loopscope_its_at + 2] = loopscope_clock()
    except ValueError:
        pass
else:
    THEIR_TWIN
"""

OPEN_MANY = """
loopscope_now = loopscope_watched.get(id(KEY))
if loopscope_now is None:
    THEIRS_ALONE
else:
    loopscope_event = EVENT
    loopscope_several = loopscope_now.all
    loopscope_opened = loopscope_begin(loopscope_several, loopscope_event, HANDLERS)
    try:
        THEIRS
    except BaseException as loopscope_error:
        loopscope_failed_all(loopscope_several, loopscope_opened, loopscope_error, loopscope_event)
        raise
    finally:
        loopscope_finish(loopscope_opened)
"""

SPAN_MANY = """
loopscope_now = loopscope_watched.get(id(KEY))
if loopscope_now is None:
    THEIRS_ALONE
else:
    loopscope_event = EVENT
    loopscope_several = loopscope_now.all
    loopscope_opened = loopscope_begin_span(loopscope_several, loopscope_event)
    try:
        THEIRS
    except BaseException as loopscope_error:
        loopscope_failed_all(loopscope_several, loopscope_opened, loopscope_error, loopscope_event)
        raise
    finally:
        loopscope_finish(loopscope_opened)
"""

CALL_MANY = """
loopscope_its = loopscope_begin_call(loopscope_several, loopscope_opened, HANDLER, loopscope_event)
try:
    THEIR_TWIN
except BaseException as loopscope_error:
    loopscope_failed_calls(loopscope_its, loopscope_error, loopscope_event, HANDLER)
    raise
loopscope_finish(loopscope_its)
"""

FORMS = {"one": (OPEN_ONE.replace("    RECORDED\n", "".join(f"    {x}\n" for x in ONE.strip().splitlines())), CALL_ONE),
         "many": (OPEN_MANY, CALL_MANY)}  # fmt: skip

SPANS = {"one": SPAN_ONE, "many": SPAN_MANY}

GIVEN: Mapping[str, object] = {
    "loopscope_again": watching.again,
    "loopscope_begin": watching.begin,
    "loopscope_begin_call": watching.begin_call,
    "loopscope_begin_span": watching.begin_span,
    "loopscope_clock": watching.clock,
    "loopscope_failed": watching.failed,
    "loopscope_failed_all": watching.failed_all,
    "loopscope_failed_calls": watching.failed_calls,
    "loopscope_finish": watching.finish,
    "loopscope_get_ident": get_ident,
}


def stamped(
    point: Point, form: str, watched: Mapping[int, Any], unknown: Callable[[str], Exception], stock: FunctionType
) -> FunctionType:
    """Return `stock`, the function of `point`, with stamps of the recordings in `watched`; `form` is "one" or "many".

    What `unknown(why)` makes is raised where the function has not the shape that the point says.
    """
    theirs = function_tree(stock, unknown)
    first, body = _split(theirs.body)
    words = {"KEY": point.key, "EVENT": point.event}
    parts = {"THEIRS_ALONE": copy.deepcopy(body), "THEIRS": body}  # before the call in it is replaced
    opening = SPANS[form]
    if point.handlers:
        opening, calling = FORMS[form]
        words |= {"HANDLER": point.handler, "HANDLERS": point.handlers, "LISTED": f"[*map(id, {point.handlers})]"}
        statement = _calling(theirs, point, unknown)
        calls = {"THEIR_CALL": [statement], "THEIR_TWIN": [_twin(statement, point.twin)]}
        around = _Filled(words, calls, statement).statements(calling)
        parts["THEIRS"] = _replaced(body, statement, around)
    made = copy.copy(theirs)
    made.body = [*first, *_Filled(words, parts, body[0]).statements(opening)]
    made.decorator_list = []
    return compiled(made, stock, {**GIVEN, **dict(point.given), WATCHED: watched})


def _split(body: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Return the docstring of a function, and the rest."""
    documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    return (body[:1], body[1:]) if documented else ([], body)


def _calling(function: ast.FunctionDef, point: Point, unknown: Callable[[str], Exception]) -> ast.stmt:
    """Return the one statement of the function that calls a handler, in the one loop over `handlers`."""
    where = f"{point.owner.__qualname__}.{point.name}"
    loops = [one for one in ast.walk(function) if isinstance(one, ast.For) and ast.unparse(one.iter) == point.handlers]
    if len(loops) != 1:
        raise unknown(f"{where} has {len(loops)} loops over {point.handlers}")
    found = [
        stmt
        for stmt in ast.walk(loops[0])
        if isinstance(stmt, (ast.Expr, ast.Assign))
        and isinstance(stmt.value, ast.Call)
        and ast.unparse(stmt.value.func) == point.call
    ]
    if len(found) != 1:
        raise unknown(f"{where} calls {point.call}(...) {len(found)} times in its loop over {point.handlers}")
    return found[0]


def _twin(statement: ast.stmt, twin: str) -> ast.stmt:
    """Return the statement with what it calls replaced by the expression `twin`, itself if there is none."""
    if not twin:
        return statement
    made: Any = copy.deepcopy(statement)
    called = ast.parse(twin, mode="eval").body
    for one in ast.walk(called):
        if "lineno" in one._attributes:
            ast.copy_location(one, made.value.func)
    made.value.func = called
    return made  # type: ignore[no-any-return]


def _replaced(body: list[ast.stmt], statement: ast.stmt, by: list[ast.stmt]) -> list[ast.stmt]:
    """Put other statements in the place of one, wherever it stands below `body`; return `body`."""
    for holder in [body, *(getattr(node, "body", []) for one in body for node in ast.walk(one))]:
        if isinstance(holder, list):
            holder[:] = [new for old in holder for new in (by if old is statement else [old])]
    return body


class _Filled(ast.NodeTransformer):
    """Makes a template into statements at the place of `at`: `words` name expressions, `parts` statements."""

    def __init__(self, words: Mapping[str, str], parts: Mapping[str, list[ast.stmt]], at: ast.stmt) -> None:
        self.words, self.parts, self.at = words, parts, at

    def statements(self, template: str) -> list[ast.stmt]:
        module = ast.parse(template)
        for node in ast.walk(module):
            if "lineno" in node._attributes:
                ast.copy_location(node, self.at)
        filled = self.visit(module)
        assert isinstance(filled, ast.Module)
        return filled.body

    def visit_Expr(self, node: ast.Expr) -> Any:
        name = node.value.id if isinstance(node.value, ast.Name) else ""
        return self.parts[name] if name in self.parts else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.words:
            return node
        made = ast.parse(self.words[node.id], mode="eval").body
        for one in ast.walk(made):
            if "lineno" in one._attributes:
                ast.copy_location(one, self.at)
        return made
