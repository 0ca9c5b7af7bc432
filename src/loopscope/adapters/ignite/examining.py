"""What rules read of an ignite run beside its loop: who is attached, how each is set, and which metrics there are."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

import ignite
from ignite.engine import Engine
from ignite.engine.events import Events
from ignite.handlers import Checkpoint, EarlyStopping
from ignite.metrics import Metric

from loopscope.adapters.ignite.attached import Attached, class_name, method_name, owner_class
from loopscope.adapters.ignite.binding import Member, origin, step_effects
from loopscope.adapters.ignite.plan import Plan
from loopscope.adapters.ignite.process import CORE, Process
from loopscope.adapters.ignite.vocabulary import VOCABULARY
from loopscope.callbacks import Callback, Examined, Method, Setting
from loopscope.examining import PLAIN, Passed, Reader, class_ignores, class_place, classes, plain_settings
from loopscope.source import syntax

SETTINGS = (
    *("patience", "threshold", "min_delta", "cumulative", "cumulative_delta", "mode", "score_name", "n_saved"),
    *("filename_prefix", "include_self", "greater_or_equal", "counter", "persist", "momentum", "warmup"),
)
"""Attributes of handlers that rules ask for."""

HANDED: Mapping[str, Passed] = {
    Events.EXCEPTION_RAISED.name: Passed(1),
    Events.TERMINATE_SINGLE_EPOCH.name: Passed(0, ("iter_counter",)),
}
"""What ignite hands over at an event, the engine and what was attached left out."""

HOMES = (os.path.dirname(ignite.__file__) + os.sep,)


def examine(engine: Engine, members: Iterable[Member], plan: Plan, process: Process) -> Examined:
    """Return who is attached to an engine, each object once, in the order in which its lists are read."""
    listed = list(members)
    by_id: dict[str, list[Member]] = {}
    for one in listed:
        by_id.setdefault(one.id, []).append(one)
    lost = _unfired(listed, process)
    return Examined(
        callbacks=tuple(_entry(engine, same, lost) for same in by_id.values()),
        settings=_settings(engine, plan),
        events=tuple(dict.fromkeys(one.name for one in Events)),
        figures=_figures(engine, listed),
    )


def _entry(engine: Engine, same: list[Member], lost: frozenset[str]) -> Callback:
    """Return an attached object with all places where it stands."""
    first = same[0].one
    whose, cls = first.owner, owner_class(first.function)
    events: Setting = tuple(one.one.event for one in same)
    unheard = tuple(one.one.event for one in same if one.one.event in lost)
    more: dict[str, Setting] = {"events": events, "unfired": unheard}
    common: dict[str, Any] = {"id": same[0].id, "origin": origin(first), "mine": first.mine}
    if cls is None or isinstance(whose, (type, functools.partial)):
        made = _function(first)
        return Callback(cls=class_name(first.function), shipped=made.shipped, place=made.place, methods=(made,),
                        settings=more, ignores=made.ignores, **common)  # fmt: skip
    own = getattr(whose, "__dict__", {})
    read = _reader({method_name(one.one.function): _passed(one.one) for one in same})
    return Callback(
        cls=cls.__name__,
        classes=classes(cls),
        shipped=read.is_shipped(cls),
        place=class_place(cls),
        methods=read.methods(cls, own),
        attributes=tuple(dict.fromkeys([*own, *(name for one in read.owners(cls) for name in vars(one))])),
        settings={**plain_settings(SETTINGS, own, cls), **more, **_steering(engine, whose)},
        ignores=class_ignores(cls),
        **common,
    )


def _unfired(members: list[Member], process: Process) -> frozenset[str]:
    """Return the events with handlers that nothing was found to fire."""
    fired = {*CORE, *process.fires, *(name for member in members for name, _ in member.doing.fires)}
    return frozenset() if process.dynamic else frozenset(one.one.event for one in members) - fired


def _function(one: Attached) -> Method:
    """Return a plain function, a class or a partial that is called as a handler."""
    name = method_name(one.function)
    return _reader({name: _passed(one)}).function(name, one.function)


def _reader(passed: Mapping[str, Passed]) -> Reader:
    return Reader(object, HOMES, passed.get, VOCABULARY, lambda name: ("engine",))


def _passed(one: Attached) -> Passed:
    """Return what ignite calls a handler with: its engine, what the event hands over, what was attached with it."""
    handed = HANDED.get(one.event, Passed())
    return Passed(one.takes_engine + handed.count + len(one.given), (*handed.words, *one.kwargs))


def _steering(engine: Engine, whose: Any) -> dict[str, Setting]:
    """Return of a handler that scores its engine: which metrics it reads there, and which engine it stops."""
    if not isinstance(whose, (EarlyStopping, Checkpoint)):
        return {}
    own = vars(whose)
    found: dict[str, Setting] = {}
    score = own.get("score_function")
    if score is not None:
        found["reads_metrics"] = _metrics_read(score, own)
    if isinstance(whose, EarlyStopping):
        found["stops"] = "this engine" if own.get("trainer") is engine else "another engine"
    return found


def _metrics_read(score: Any, own: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of its engine that a score function certainly reads: `engine.state.metrics["accuracy"]`."""
    if isinstance(score, FunctionType) and score.__qualname__.startswith("Checkpoint.get_default_score_fn"):
        cells = dict(zip(score.__code__.co_freevars, score.__closure__ or (), strict=True))
        name = cells["metric_name"].cell_contents if "metric_name" in cells else own.get("score_name")
        return (name,) if isinstance(name, str) else ()
    found = syntax(score)
    if found is None or not isinstance(score, FunctionType) or not found.node.args.args:
        return ()
    body = found.node.body
    nodes = body if isinstance(body, list) else [body]
    return tuple(dict.fromkeys(_subscripts(nodes, found.node.args.args[0].arg)))


def _subscripts(nodes: Iterable[ast.AST], engine: str) -> Iterator[str]:
    """Yield the constant keys of `engine.state.metrics[...]` in statements that come always: none behind an `if`."""
    for node in nodes:
        if isinstance(node, (ast.If, ast.Try, ast.For, ast.While, ast.IfExp, ast.BoolOp, ast.With, ast.Match)):
            return
        if any(isinstance(one, (ast.IfExp, ast.BoolOp, ast.Lambda)) for one in ast.walk(node)):
            return
        for one in ast.walk(node):
            if isinstance(one, ast.Subscript) and ast.unparse(one.value) == f"{engine}.state.metrics":
                yield from _text(one.slice)
        if isinstance(node, ast.Return):
            return


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def _settings(engine: Engine, plan: Plan) -> dict[str, Setting]:
    found: dict[str, Setting] = {"epochs": plan.epochs, "epoch_length": plan.length}
    own = vars(engine.state)
    held = {name: own[name] for name in ("max_epochs",) if isinstance(own.get(name), PLAIN)}
    return {**found, **held, **_accumulation(engine)}


def _accumulation(engine: Engine) -> dict[str, Setting]:
    """Return over how many batches ignite's own training step accumulates: a variable of that function."""
    step = engine._process_function
    if not isinstance(step, FunctionType) or not step.__code__.co_filename.startswith(HOMES):
        return {}
    cells = dict(zip(step.__code__.co_freevars, step.__closure__ or (), strict=True))
    count = cells["gradient_accumulation_steps"].cell_contents if "gradient_accumulation_steps" in cells else None
    return {"gradient_accumulation_steps": count} if isinstance(count, int) else {}


NAMED_BY_RESULT = ("MetricGroup", "MetricsLambda", "Rouge", "RougeL", "RougeN", "GpuInfo")
"""Metrics of ignite's whose result may be a mapping: its keys become names too."""


def _figures(engine: Engine, members: list[Member]) -> tuple[str, ...] | None:
    """Return the names of the metrics that are attached; None where somebody else may write some.

    A metric has its name from `attach`. A handler of somebody's own, or the process function, may put figures into
    `engine.state.metrics` by itself.
    """
    names: list[str] = [*engine.state.metrics]
    done = [step_effects(engine)]
    for one in members:
        cls = owner_class(one.one.function)
        if cls is None or not _is_shipped(cls):
            done.append(one.said.effects)
        elif cls.__name__ in NAMED_BY_RESULT:
            return None
        elif issubclass(cls, Metric):
            names += [given for given in one.one.given if isinstance(given, str)]
    if any("metrics" in item.target for one in done for item in one.items if item.kind != "reads"):
        return None
    return tuple(dict.fromkeys(names)) if all(one.complete for one in done) else None


def _is_shipped(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "ignite"
