"""The callbacks of one run as Lightning will hold them, in calling order: replaced, added and moved as it does that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.packages import Package
from loopscope.adapters.lightning.sandbox import attached
from loopscope.errors import BadCallback


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One callback of the run; `number` is its place in `trainer.callbacks`, from 1, once all have been moved."""

    obj: Any
    number: int
    origin: str = "trainer"
    moved: str = ""
    monitors: bool = False
    tunes: bool = False

    @property
    def id(self) -> str:
        return f"{type(self.obj).__name__}#{self.number}"

    @property
    def mine(self) -> bool:
        return self.origin == "cbs"


@dataclass(frozen=True, slots=True)
class Members:
    """The callbacks of a run, and what a reader must know of how they came together."""

    members: tuple[Member, ...]
    notes: tuple[str, ...] = ()


def members(given: Given, cbs: object = None) -> Members:
    """Return the callbacks of a run; `cbs` stand as if `trainer.callbacks` had been extended by them before.

    The model's `configure_callbacks` is called, once, as the run itself will call it. Raises `BadCallback`.
    """
    package = given.package
    own = instances(package, cbs)
    origins = {id(one): "trainer" for one in given.trainer.callbacks}
    origins.update((id(one), "cbs") for one in own)
    lacking = {id(one): name for one in given.trainer.callbacks if (name := _lacks(package, one))}
    held = [one for one in given.trainer.callbacks if id(one) not in lacking]
    if own:
        held = _reordered(package, [*held, *own])
    added, notes = _configured(given)
    for one in given.trainer.callbacks:
        if id(one) in lacking:
            notes.append(
                f"trainer.callbacks holds {one!r} ({type(one).__name__}), which is no Callback: it has no "
                f"{lacking[id(one)]}, and Lightning fails there. Derive its class from {package.root}'s Callback."
            )
    if added:
        replaced = _replaced(package, held, added)
        if replaced:
            name = f"{type(given.model).__name__}.configure_callbacks"
            notes.append(f"{name} replaces {_names(replaced)} of the trainer's callbacks")
        held = _reordered(package, [*(one for one in held if not any(one is other for other in replaced)), *added])
        origins.update((id(one), "configure_callbacks") for one in added)
    found = tuple(_member(package, one, number, origins[id(one)]) for number, one in enumerate(held, 1))
    return Members(found, (*notes, *_same_state_key(found)))


def _lacks(package: Package, one: object) -> str:
    """Return what Lightning asks of a callback and this object has not, `""` where it has all."""
    callback = package.part().Callback
    if isinstance(one, callback):
        return ""
    asked = [name for name in vars(callback) if not name.startswith("_")]
    return next((name for name in asked if not hasattr(type(one), name)), "")


def instances(package: Package, cbs: object) -> list[Any]:
    """Return `cbs` (a callback, a callback class, or a list of either) as instances. Raises `BadCallback`."""
    return [_instance(package, one) for one in _listed(package, cbs)]


def listed(package: Package, callbacks: Iterable[Any]) -> tuple[Member, ...]:
    """Return callbacks that a trainer holds right now as members."""
    return tuple(_member(package, one, number, "trainer") for number, one in enumerate(callbacks, 1))


def _listed(package: Package, cbs: object) -> list[Any]:
    if cbs is None:
        return []
    alone = isinstance(cbs, (package.part().Callback, type, str)) or not isinstance(cbs, Iterable)
    return [cbs] if alone else list(cbs)  # type: ignore[call-overload]


def _instance(package: Package, one: Any) -> Any:
    callback = package.part().Callback
    if isinstance(one, callback):
        return one
    if not isinstance(one, type) or not issubclass(one, callback):
        what = f"the class {one.__name__}" if isinstance(one, type) else f"{one!r} ({type(one).__name__})"
        raise BadCallback(
            f"{what} is no Callback of {package.root}. Accepted: a Callback, a Callback class, or a list of either."
        )
    try:
        return one()
    except Exception as error:
        raise BadCallback(
            f"{one.__name__}() cannot be built without arguments ({type(error).__name__}: {error}). "
            f"Pass an instance: cbs={one.__name__}(...)."
        ) from error


def _configured(given: Given) -> tuple[list[Any], list[str]]:
    """Return what the model's `configure_callbacks` gives, and notes."""
    if not given.overrides("configure_callbacks"):
        return [], []
    name = f"{type(given.model).__name__}.configure_callbacks"
    try:
        with attached(given.package, given.trainer, given.model):
            found = given.model.configure_callbacks()
    except Exception as error:
        return [], [
            f"{name} raises {type(error).__name__} ({error}) when it is called before the run: "
            f"the callbacks that it gives are not shown"
        ]
    listed = list(found) if isinstance(found, Sequence) else [found] if found else []
    called = f"{name} was called once to know what it gives; the run calls it again and gets others of the same classes"
    callback = given.package.part().Callback
    bad = [one for one in listed if not isinstance(one, callback)]
    notes = [called, *(f"{name} gives {one!r}, which is no Callback: Lightning fails on it" for one in bad)]
    return [one for one in listed if isinstance(one, callback)], notes


def _replaced(package: Package, held: list[Any], added: list[Any]) -> list[Any]:
    """Return the callbacks that give way: for each class that the model gives, those of one class that it derives from.

    Lightning takes the first such class that comes, and asks a set; the same set is asked here.
    """
    classes = {type(one) for one in held}
    classes.discard(package.part().Callback)
    gone = {next((old for old in classes if issubclass(new, old)), None) for new in {type(one) for one in added}}
    return [one for one in held if type(one) in gone]


def _reordered(package: Package, callbacks: list[Any]) -> list[Any]:
    """Return callbacks in the order into which Lightning puts them: tuners first, checkpoints last."""
    connector = package.cls("trainer.connectors.callback_connector._CallbackConnector")
    return list(connector._reorder_callbacks(callbacks))


def _member(package: Package, one: Any, number: int, origin: str) -> Member:
    tuners = package.cls("callbacks.batch_size_finder.BatchSizeFinder"), package.cls("callbacks.LearningRateFinder")
    checkpoint, stopping = package.part("callbacks").Checkpoint, package.part("callbacks").EarlyStopping
    moved = "tuners are moved to the front" if isinstance(one, tuners) else ""
    if isinstance(one, checkpoint):
        moved = "Checkpoints are moved to the end"
    return Member(one, number, origin, moved, isinstance(one, (checkpoint, stopping)), isinstance(one, tuners))


def _same_state_key(found: tuple[Member, ...]) -> list[str]:
    """Say which callbacks Lightning cannot tell apart: it reports and saves them under one key."""
    keys: dict[str, list[str]] = {}
    for member in found:
        keys.setdefault(str(member.obj.state_key), []).append(member.id)
    return [
        f"{' and '.join(ids)} have the same state_key ({key}): Lightning's profilers cannot tell their calls apart"
        for key, ids in keys.items()
        if len(ids) > 1
    ]


def _names(callbacks: Iterable[Any]) -> str:
    return ", ".join(type(one).__name__ for one in callbacks)
