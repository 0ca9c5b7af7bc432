"""A framework's function with stamps around the event and around each handler call, compiled at its own lines."""

from __future__ import annotations

import ast
import copy
import textwrap
from _thread import get_ident
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
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


OPEN = """
loopscope_now = loopscope_watched.get(id(KEY))
if loopscope_now is None:
    THEIRS_ALONE
else:
    loopscope_event = EVENT
    WHEN_RECORDED
"""

ROW = """
loopscope_lane = loopscope_now.lanes.get(loopscope_get_ident()) or loopscope_now.lane()
loopscope_code = loopscope_now.NUMBERS[loopscope_event]
loopscope_rows = loopscope_lane.rows
loopscope_at = loopscope_lane.at
try:
    loopscope_rows[loopscope_at + 1] = loopscope_clock()
    loopscope_rows[loopscope_at] = loopscope_code
except (IndexError, ValueError):
    loopscope_rows, loopscope_at = loopscope_again(loopscope_lane, loopscope_code)
loopscope_lane.at = loopscope_at + 3
try:
    INSIDE
except BaseException as loopscope_error:
    loopscope_failed(loopscope_now, loopscope_rows, loopscope_at, loopscope_error, loopscope_event, None)
    raise
finally:
    try:
        loopscope_rows[loopscope_at + 2] = loopscope_clock()
    except ValueError:
        pass
"""
"""One row, of an event or of a span; `NUMBERS` says which."""

LISTED = """
loopscope_listed = HANDLERS
loopscope_known = loopscope_now.lists.get(loopscope_event)
if loopscope_known is None or loopscope_len(loopscope_listed) != loopscope_known.count:
    loopscope_known = loopscope_now.listed(loopscope_event, loopscope_listed)
THEIRS
"""
"""Whether they are still the same is seen on the way, by identity: nothing of a handler is called for it."""

CALL = """
if loopscope_its is not HANDLER:
    loopscope_code = loopscope_now.moved(loopscope_event, loopscope_known, loopscope_listed, HANDLER)
if loopscope_code:
    loopscope_its_ends = loopscope_lane.ends
    loopscope_its_starts = loopscope_lane.starts
    loopscope_its_rows = loopscope_lane.rows
    loopscope_its_at = loopscope_lane.at
    try:
        loopscope_its_starts[loopscope_its_at] = loopscope_clock()
        loopscope_its_rows[loopscope_its_at] = loopscope_code
    except (IndexError, ValueError):
        loopscope_its_rows, loopscope_its_at = loopscope_again(loopscope_lane, loopscope_code)
        loopscope_its_ends = loopscope_lane.ends
    loopscope_lane.at = loopscope_its_at + 3
    try:
        THEIR_CALL
    except BaseException as loopscope_error:
        loopscope_failed(
            loopscope_now, loopscope_its_rows, loopscope_its_at, loopscope_error, loopscope_event, HANDLER
        )
        raise
    try:
        loopscope_its_ends[loopscope_its_at] = loopscope_clock()
    except ValueError:
        pass
else:
    THEIR_TWIN
"""

ALONG = "loopscope_zip(loopscope_listed, loopscope_chain(loopscope_known.pairs, loopscope_rest))"
"""What the loop goes over instead: each handler with the one that was there when it was last asked, and its code. The
loop ends as its own list does, which a handler may shorten or lengthen meanwhile."""

ROWS_OF_MANY = """
loopscope_several = loopscope_now.all
loopscope_opened = BEGUN
try:
    THEIRS
except BaseException as loopscope_error:
    loopscope_failed_all(loopscope_several, loopscope_opened, loopscope_error, loopscope_event)
    raise
finally:
    loopscope_finish(loopscope_opened)
"""

CALL_OF_MANY = """
loopscope_its = loopscope_begin_call(loopscope_several, loopscope_opened, HANDLER, loopscope_event)
try:
    THEIR_TWIN
except BaseException as loopscope_error:
    loopscope_failed_calls(loopscope_its, loopscope_error, loopscope_event, HANDLER)
    raise
loopscope_finish(loopscope_its)
"""


def _nested(outer: str, name: str, inner: str) -> str:
    """Return a template with another one in the place of the statement `name`."""
    line = next(line for line in outer.splitlines() if line.strip() == name)
    indent = line[: len(line) - len(line.lstrip())]
    return outer.replace(line, textwrap.indent(inner.strip(), indent))


EVENTS = {
    "one": _nested(OPEN, "WHEN_RECORDED", _nested(ROW.replace("NUMBERS", "events"), "INSIDE", LISTED)),
    "many": _nested(
        OPEN,
        "WHEN_RECORDED",
        ROWS_OF_MANY.replace("BEGUN", "loopscope_begin(loopscope_several, loopscope_event, HANDLERS)"),
    ),
}
"""How an event is recorded: by one recording of its object, and by several."""

CALLS = {"one": CALL, "many": CALL_OF_MANY}

SPANS = {
    "one": _nested(OPEN, "WHEN_RECORDED", _nested(ROW.replace("NUMBERS", "spans"), "INSIDE", "THEIRS")),
    "many": _nested(
        OPEN, "WHEN_RECORDED", ROWS_OF_MANY.replace("BEGUN", "loopscope_begin_span(loopscope_several, loopscope_event)")
    ),
}
"""The same of what the framework does, and other things happen inside of."""

GIVEN: Mapping[str, object] = {
    "loopscope_again": watching.again,
    "loopscope_begin": watching.begin,
    "loopscope_begin_call": watching.begin_call,
    "loopscope_begin_span": watching.begin_span,
    "loopscope_chain": chain,
    "loopscope_clock": watching.clock,
    "loopscope_failed": watching.failed,
    "loopscope_failed_all": watching.failed_all,
    "loopscope_failed_calls": watching.failed_calls,
    "loopscope_finish": watching.finish,
    "loopscope_get_ident": get_ident,
    "loopscope_len": len,
    "loopscope_rest": repeat((None, 0)),
    "loopscope_zip": zip,
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
        opening = EVENTS[form]
        words |= {"HANDLER": point.handler, "HANDLERS": point.handlers}
        loop, statement = _calling(theirs, point, unknown)
        calls = {"THEIR_CALL": [statement], "THEIR_TWIN": [_twin(statement, point.twin)]}
        around = _Filled(words, calls, statement).statements(CALLS[form])
        parts["THEIRS"] = _replaced(body, statement, around)
        if form == "one":
            _along(loop)
    made = copy.copy(theirs)
    made.body = [*first, *_Filled(words, parts, body[0]).statements(opening)]
    made.decorator_list = []
    return compiled(made, stock, {**GIVEN, **dict(point.given), WATCHED: watched})


def _split(body: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Return the docstring of a function, and the rest."""
    documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    return (body[:1], body[1:]) if documented else ([], body)


def _calling(function: ast.FunctionDef, point: Point, unknown: Callable[[str], Exception]) -> tuple[ast.For, ast.stmt]:
    """Return the one loop of the function over `handlers`, and the one statement in it that calls a handler."""
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
    return loops[0], found[0]


def _along(loop: ast.For) -> None:
    """Have a loop go over its handlers and their codes side by side, at its own place."""
    names = ast.parse("_, (loopscope_its, loopscope_code)", mode="eval").body
    assert isinstance(names, ast.Tuple)
    for node in ast.walk(names):
        if isinstance(node, (ast.Name, ast.Tuple)):
            node.ctx = ast.Store()
    along = ast.parse(ALONG, mode="eval").body
    for made, at in ((names, loop.target), (along, loop.iter)):
        for node in ast.walk(made):
            if "lineno" in node._attributes:
                ast.copy_location(node, at)
    names.elts[0] = loop.target
    loop.target, loop.iter = names, along


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
