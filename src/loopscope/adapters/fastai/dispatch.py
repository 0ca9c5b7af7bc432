"""Recording at fastai's dispatch: `Learner._call_one` is swapped at class level, and put back.

A class-level swap keeps pickle, deepcopy and export working: nothing is added to the learner. What is put in place is
fastai's own function with stamps inside (`hot.py`), compiled at fastai's own lines. Constraint: attaching fails loudly
where this fastai's dispatch has another shape, because a recorder that silently records nothing is the worst outcome.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import weakref
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import fastai
import fastai.learner
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastcore.basics import GetAttr
from fastcore.foundation import L

from loopscope.adapters.fastai import hot
from loopscope.adapters.fastai.binding import static
from loopscope.adapters.fastai.own import OwnDispatch
from loopscope.adapters.fastai.watching import ADOPTERS, CALLS, INNER, WATCHED, Watched, wanted
from loopscope.errors import UnknownVersion

STOCK = vars(Learner)["_call_one"]
"""fastai's own function, as it was when the adapter was imported."""

CODES: set[CodeType] = set()
"""The code of every function that stands in for a dispatch: a frame of one says that a handler is open."""


def attach(obj: Any, sink: Any) -> Callable[[], None]:
    """Record every event and handler call of `obj` (None: of every learner) into `sink`; return what detaches it.

    Detaching works in any order, twice, and from inside a handler. Raises `UnknownVersion`.
    """
    verify()
    if obj is not None:
        return _watch(obj, sink(obj))
    mine: list[Callable[[], None]] = []

    def adopter(learn: Any) -> Watched | None:
        subject = sink(learn)
        if subject is None:
            return None
        mine.append(_watch(learn, subject))
        return WATCHED[id(learn)]

    ADOPTERS.append(adopter)
    _install()

    def detach() -> None:
        if adopter in ADOPTERS:
            ADOPTERS.remove(adopter)
        for one in mine:
            one()
        mine.clear()
        _install()

    return detach


def _watch(learn: Any, subject: Any) -> Callable[[], None]:
    watched = Watched(learn, subject)
    subject.watched = watched
    key = id(learn)
    first = WATCHED.get(key)
    _share(key, (*(first.all if first else ()), watched))
    gone = weakref.finalize(learn, _drop, key, watched)
    gone.atexit = False
    own = OwnDispatch.of(type(learn), CODES)
    _install()

    def detach() -> None:
        if gone.detach() is not None:
            _drop(key, watched)
            own.remove()
            _install()

    return detach


def _drop(key: int, watched: Watched) -> None:
    watched.live = False
    first = WATCHED.get(key)
    if first is not None:
        _share(key, tuple(one for one in first.all if one is not watched))


def _share(key: int, several: tuple[Watched, ...]) -> None:
    for one in several:
        one.all = several
    if several:
        WATCHED[key] = several[0]
    else:
        WATCHED.pop(key, None)


def _install() -> None:
    """Put the form in place that the recordings of now need: none, that for one, or that for several of a learner."""
    if not WATCHED and not ADOPTERS:
        wanted_now = STOCK
    elif any(len(one.all) > 1 for one in WATCHED.values()):
        wanted_now = recorded("many")
    else:
        wanted_now = recorded("one")
    if vars(Learner)["_call_one"] is not wanted_now:
        Learner._call_one = wanted_now


@functools.cache
def recorded(form: str) -> FunctionType:
    """Return fastai's `_call_one` with the stamps of `hot.one` or `hot.many` inside, at fastai's own lines."""
    theirs, first, loop, call = _parts(STOCK)
    template = _function(getattr(hot, form))
    arguments = [theirs.args.args[0].arg, theirs.args.args[1].arg]
    if arguments != [one.arg for one in template.args.args]:
        raise UnknownVersion(_unknown(f"its parameters are {', '.join(arguments)}"))
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
        outer.type_params = []
    module = ast.Module([ast.copy_location(outer, theirs)], [])
    for node in ast.walk(module):
        if "lineno" in node._attributes and not hasattr(node, "lineno"):
            ast.copy_location(node, theirs)
    found: dict[str, Any] = {}
    exec(compile(module, STOCK.__code__.co_filename, "exec"), STOCK.__globals__, found)
    function: FunctionType = found["transplanted"](**{name: getattr(hot, name) for name in names})
    if hasattr(function.__code__, "co_qualname"):
        function.__code__ = function.__code__.replace(co_qualname=STOCK.__qualname__)
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


# -- the shape that is expected ----------------------------------------------------------------------------


def verify() -> None:
    """Raise `UnknownVersion` unless this fastai's dispatch is what `hot.py` and `wanted` take it for."""
    now = vars(Learner).get("_call_one")
    if now is not STOCK and getattr(now, "__code__", None) not in CODES:
        raise UnknownVersion(_unknown("Learner._call_one was replaced by something else since it was imported"))
    if vars(Callback).get("__call__") not in CALLS:
        raise UnknownVersion(_unknown("Callback.__call__ was replaced by something else since it was imported"))
    _verified()


@functools.cache
def _verified() -> None:
    _parts(STOCK)
    _probe_callback()
    _probe_dispatch()


def _parts(function: Any) -> tuple[ast.FunctionDef, list[ast.stmt], ast.For, ast.Call]:
    """Return fastai's `_call_one` taken apart: itself, its first statements, its loop, and the call in the loop."""
    try:
        tree = _function(function)
    except (OSError, TypeError, SyntaxError) as error:
        raise UnknownVersion(_unknown(f"the source of Learner._call_one cannot be read ({error})")) from None
    *first, loop = tree.body
    if not isinstance(loop, ast.For) or ast.unparse(loop.iter) != "self.cbs.sorted('order')" or len(loop.body) != 1:
        raise UnknownVersion(_unknown("Learner._call_one does not end with a loop over self.cbs.sorted('order')"))
    call = loop.body[0].value if isinstance(loop.body[0], ast.Expr) else None
    if not isinstance(call, ast.Call) or ast.unparse(call) != f"{ast.unparse(loop.target)}(event_name)":
        raise UnknownVersion(_unknown("that loop does not just call each callback with event_name"))
    return tree, first, loop, call


def _probe_callback() -> None:
    """Ask fastai's own `Callback.__call__` under every setting of the flags whether it calls; compare with `wanted`."""

    class Probe(Callback):
        def before_fit(self) -> None:
            self.__dict__["called"] = True

        def after_batch(self) -> None:
            self.__dict__["called"] = True

    if "before_fit" in INNER or "after_batch" not in INNER:
        raise UnknownVersion(_unknown("the events that run_train and run_valid decide about are others"))
    for bits in range(32):
        probe = Probe()
        run, train, valid, known, training = (bool(bits >> n & 1) for n in range(5))
        vars(probe).update(run=run, run_train=train, run_valid=valid, called=False)
        if known:
            vars(probe).update(training=training)
        for event in ("before_fit", "after_batch", "after_epoch"):
            vars(probe).update(called=False)
            expected = wanted(probe, event)
            probe(event)
            if vars(probe)["called"] is not expected:
                raise UnknownVersion(_unknown("Callback.__call__ calls a handler under other conditions"))
    vars(probe).update(run=False)
    probe("after_fit")
    if vars(probe).get("run") is not True:
        raise UnknownVersion(_unknown("Callback.__call__ does not set run back after a fit"))


def _probe_dispatch() -> None:
    """Fire an event at a learner that has nothing but callbacks: they must be called through `_call_one`, in order."""
    seen: list[str] = []

    class Probe(Callback):
        def before_fit(self) -> None:
            seen.append(self.name)

    class Last(Probe):
        order = 2

    class Bare(Learner):
        def _call_one(self, event_name: str) -> None:
            seen.append("_call_one")
            STOCK(self, event_name)

    learn = Bare.__new__(Bare)
    vars(learn).update(cbs=L(Last(), Probe()), model=None, training=False)
    learn("before_fit")
    if seen != ["_call_one", "probe", "last"]:
        raise UnknownVersion(_unknown(f"an event reached {', '.join(seen) or 'nobody'} where two callbacks were due"))
    if not issubclass(Callback, GetAttr) or static(Callback, "_default") != "learn":
        raise UnknownVersion(_unknown("callbacks do not look up what they lack on their learner"))


def _unknown(what: str) -> str:
    return (
        f"fastai {fastai.__version__} cannot be recorded: {what}. Known to work: fastai 2.8. Nothing was attached; "
        f"`loopscope show` still reads the loop."
    )
