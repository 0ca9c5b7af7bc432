"""Lightning: which loop a `Trainer` runs on a model, who is called at each of its events, and why they stand there.

The protocol is that of Lightning's loops with the settings of this very trainer: how many batches, where gradients are
accumulated, when it validates. Both `lightning.pytorch` and `pytorch_lightning` are known. Verified against
Lightning 2.6.6 by the conformance suite. Constraint: the trainer, the model and the data are looked at, never changed;
of the user's code only the model's `configure_callbacks` is called.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from loopscope import collector
from loopscope.adapters.lightning.binding import KEPT, Bound, bind
from loopscope.adapters.lightning.evaluating import Evaluating
from loopscope.adapters.lightning.examining import examine
from loopscope.adapters.lightning.given import RUNS, Given, given
from loopscope.adapters.lightning.hooks import HOOKS, QUIET
from loopscope.adapters.lightning.members import Member, Members, listed, members
from loopscope.adapters.lightning.nodes import Nodes
from loopscope.adapters.lightning.notes import TESTED, fit_notes, notes
from loopscope.adapters.lightning.optimizers import optimizers
from loopscope.adapters.lightning.packages import Package, imported, of_class
from loopscope.adapters.lightning.plan import Planner
from loopscope.adapters.lightning.recording import DISPATCHING, adopt, attach, calibrate, verify
from loopscope.adapters.lightning.resume import Checkpoint, checkpoint, start
from loopscope.adapters.lightning.running import Running
from loopscope.adapters.lightning.saving import EVENTS as SAVING
from loopscope.adapters.lightning.saving import saving
from loopscope.adapters.lightning.stops import Stops, stops
from loopscope.adapters.lightning.training import ASKING, CHECKING, CLEARED, DUE, LAST, Training
from loopscope.adapters.lightning.tuning import FLAG as TUNING
from loopscope.adapters.lightning.tuning import tuned
from loopscope.callbacks import Examined
from loopscope.catalog import described
from loopscope.catalog import lightning as catalog
from loopscope.errors import BadValue, UnknownChoice
from loopscope.model import Event, Loop, Need, Node, Repeat, Scope

__all__ = [
    "DISPATCHING",
    "RUNS",
    "TESTED",
    "accepts",
    "adopt",
    "attach",
    "calibrate",
    "describe",
    "describe_call",
    "event_docs",
    "examined",
    "facts",
    "verify",
    "versions",
]

NOTHING: Mapping[str, object] = MappingProxyType({})


def event_docs() -> dict[str, str]:
    """Return every event of Lightning with its description."""
    return described(catalog.EVENTS, HOOKS)


def versions() -> dict[str, str]:
    """Return the versions that a map or a recording depends on."""
    packages = {package.distribution: package.version for package in imported()}
    return {**packages, "torch": torch.__version__, "python": platform.python_version()}


def accepts(obj: object) -> bool:
    """Return whether `obj` is a trainer of one of the two packages."""
    return of_class(type(obj)) is not None


def facts(obj: Any) -> dict[str, object]:
    """Return what a recording says of a trainer: its class, the class of its model, and the device."""
    model = obj.lightning_module
    return {
        "cls": type(obj).__name__,
        "model": type(model).__name__ if model is not None else "",
        "device": str(obj.strategy.root_device),
        "framework": "lightning",
    }


def describe(
    obj: Any,
    run: str,
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
    cbs: object = None,
    arguments: Mapping[str, object] = NOTHING,
) -> Loop:
    """Return the loop of `obj.<run>(**arguments)`; `epochs` counts instead of `Trainer(max_epochs=...)`.

    `cbs` are marked as one's own and stand as if `trainer.callbacks` had been extended by them. Raises `UnknownChoice`
    for a run, `BadValue` where the model or the data is missing, `BadCallback` for what is no callback.
    """
    if run not in RUNS:
        raise UnknownChoice.of("run", run, RUNS)
    if run != "fit" and (epochs is not None or start_epoch):
        raise BadValue(f"Trainer.{run} has no epochs. Leave epochs and start_epoch out.")
    epochs = None if epochs is None else _natural("epochs", epochs)
    with collector.paused():
        asked = given(
            _package(obj), obj, run, arguments, epochs=epochs, start_epoch=_natural("start_epoch", start_epoch)
        )
        return _described(asked, members(asked, cbs))


def describe_call(obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Loop:
    """Return the loop of one call of `obj.<method>`, its arguments by parameter name.

    `method` is one of `RUNS`, or `save_checkpoint`, which a handler may call inside of a run.
    """
    with collector.paused():
        if method == "save_checkpoint":
            return _saved(obj, arguments)
        asked = given(_package(obj), obj, method, arguments)
        return _described(asked, members(asked, cbs))


def examined(obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Examined:
    """Return what rules read of the callbacks of the same call, beside its loop.

    `arguments` may have the `epochs` and `start_epoch` of `describe` among those of the call.
    """
    own = {name: value for name, value in arguments.items() if name not in ("epochs", "start_epoch")}
    epochs: Any = arguments.get("epochs")
    with collector.paused():
        asked = given(_package(obj), obj, method, own, epochs=epochs)
        return examine(asked, members(asked, cbs).members)


def _package(obj: Any) -> Package:
    found = of_class(type(obj))
    assert found is not None  # `accepts` was asked before
    return found


def _natural(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadValue(f"{name}={value!r} is no whole number. Type {name}=1, say.")
    number = int(value.__index__())
    if number < 0:
        raise BadValue(f"{name}={number} is negative. Accepted: 0 or more.")
    return number


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a run is about: its nodes, who is called, and what must be said of it."""

    nodes: tuple[Node, ...]
    notes: tuple[str, ...] = ()


def _described(asked: Given, found: Members) -> Loop:
    quiet = bind(asked, found.members, QUIET).found
    handled = frozenset(event for event, handlers in quiet.items() if handlers)
    nodes = Nodes(asked, handled, any(one.tunes for one in found.members))
    loaded = checkpoint(asked, found.members)
    fits = asked.run == "fit"
    stage = _fit(asked, found.members, nodes, loaded) if fits else _Stage(Evaluating(asked, nodes).alone())
    root = Running(asked, nodes, loaded, nodes.tuned).root(*stage.nodes)
    events = HOOKS if nodes.tuned else dict.fromkeys((*_fired(root), *SAVING))
    bound = tuned(asked, found.members, bind(asked, found.members, events))
    root = opened(root, bound)
    if not any(one.handler.inside for one in bound.all()):  # nobody saves
        bound = Bound({event: handlers for event, handlers in bound.found.items() if event not in SAVING})
    said = (*found.notes, *notes(asked, found.members, bound), *stage.notes, *filter(None, [loaded.note]))
    return _loop(asked, root, bound, said)


def _fit(asked: Given, found: tuple[Member, ...], nodes: Nodes, loaded: Checkpoint) -> _Stage:
    """Return the stage of a fit: the check before it, and the training as its settings plan it."""
    begin, made = start(asked, loaded), optimizers(asked.model)
    counts = made.schedules is None or bool(made.steps("epoch", False))
    planner = Planner(asked, begin, Stops(), _factors(asked, found), counts)
    plan = planner.plan()
    bound = bind(asked, found, (event for event in HOOKS if "test" not in event and "predict" not in event))
    limits = stops(asked, bound, sanity=plan.sanity, amid=planner.interval(None) != 0)
    if limits.any:
        plan = replace(planner, stops=limits).plan()
    evaluating = Evaluating(asked, nodes)
    stage: list[Node] = []
    if plan.sanity:
        why = "a training that is taken up again is not checked first"
        known = () if begin.known else (Need("checked first", True, why),)
        stage.append(replace(evaluating.sanity(), needs=known))
    stage += Training(asked, nodes, made, evaluating).train(plan)
    return _Stage(tuple(stage), tuple(fit_notes(asked, plan, limits)))


def _factors(asked: Given, found: tuple[Member, ...]) -> Callable[[int], int | None]:
    """Return how many batches make one optimizer step, by epoch."""
    scheduler = asked.package.part("callbacks").GradientAccumulationScheduler
    schedulers = [one.obj for one in found if isinstance(one.obj, scheduler)]

    def factor(epoch: int) -> int | None:
        if not schedulers:
            return int(asked.trainer.accumulate_grad_batches)
        own = asked.package.is_overridden("get_accumulate_grad_batches", schedulers[-1], scheduler)
        return None if own else int(schedulers[-1].get_accumulate_grad_batches(epoch))

    return factor


def _saved(obj: Any, arguments: Mapping[str, object]) -> Loop:
    """Return what saving a checkpoint fires, with the callbacks and the model that the trainer has now."""
    package, model = _package(obj), obj.lightning_module
    if model is None:
        raise BadValue("this Trainer has no model yet: there is nothing to save.")
    asked = Given(package, obj, "save_checkpoint", model, obj.datamodule, None, {}, None, arguments)
    weights_only = bool(arguments.get("weights_only"))
    scope = saving(asked, Nodes(asked), weights_only=weights_only)
    return _loop(asked, scope, bind(asked, listed(package, obj.callbacks), _fired(scope)), ())


def _loop(asked: Given, root: Scope, bound: Bound, said: tuple[str, ...]) -> Loop:
    return Loop(
        framework="lightning",
        subject=type(asked.trainer).__name__,
        run=asked.run,
        call=_call(asked),
        root=root,
        binding=replace(bound.binding(), resets=CLEARED),
        flags=_flags(bound),
        docs=described(catalog.EVENTS, HOOKS),
        cancels=("StopIteration",),
        notes=tuple(dict.fromkeys(said)),
        versions=versions(),
        home=asked.package.home,
        own_flags=asked.run != "save_checkpoint",
    )


def _flags(bound: Bound) -> dict[str, bool | None]:
    """Return what is known before the run: of the loop's own flags, and that each callback is still in its list."""
    kept = {need.flag: True for one in bound.all() for need in one.handler.needs if need.flag.startswith(KEPT)}
    return {DUE: False, ASKING: False, CHECKING: False, LAST: False, TUNING: False, **kept}


def opened(scope: Scope, bound: Bound) -> Scope:
    """Return a scope in which what handlers fire inside enclosing calls has a place there."""

    def inside(node: Node) -> Node:
        return opened(node, bound) if isinstance(node, Scope) else node

    begins = [one.name for one in scope.before if isinstance(one, Event) and one.how == "edge"]
    fires = [node for name in begins for one in bound.found.get(name, ()) for node in one.handler.inside]
    more = [Scope("as often as it likes", (node,), repeat=Repeat(0, None, "as often as it likes")) for node in fires]
    return replace(
        scope,
        before=tuple(map(inside, scope.before)),
        body=(*more, *map(inside, scope.body), *more),
        exit=tuple(map(inside, scope.exit)),
    )


def _call(asked: Given) -> str:
    """Return the call as one would type it: what is no loader, model or data module is written out."""
    shown: list[str] = []
    for name, value in asked.arguments.items():
        if value is None or name == "verbose":
            continue
        plain = isinstance(value, (str, int, float, bool))
        shown.append(
            "model" if name == "model" else f"{name}={value!r}" if plain else name if not shown else f"{name}=..."
        )
    if asked.run == "fit" and "model" not in asked.arguments:
        shown.insert(0, "model")
    return f"trainer.{asked.run}({', '.join(shown)})"


def _fired(node: Node) -> Iterator[str]:
    if isinstance(node, Event):
        yield node.name
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from _fired(child)
