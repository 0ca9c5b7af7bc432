"""Recording a trainer: its profiler is one that writes rows, in front of the one that the program gave it.

Nothing of Lightning is replaced. Constraint: everything that is put in place is taken away by the function that
attaching returns, in any order, twice, and from inside of a handler.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import CodeType, SimpleNamespace
from typing import Any, cast

from loopscope import stamped
from loopscope.adapters.lightning.packages import Package, imported, of_class
from loopscope.adapters.lightning.profiling import Recording, recording, theirs, watch
from loopscope.adapters.lightning.stamps import Action, Lender, Row
from loopscope.adapters.lightning.watching import Watched
from loopscope.errors import UnknownVersion
from loopscope.stamped.calibrating import Scratch, least, turn

CALLING = (
    "_call_callback_hooks",
    "_call_callbacks_on_save_checkpoint",
    "_call_callbacks_on_load_checkpoint",
    "_call_lightning_module_hook",
    "_call_lightning_datamodule_hook",
    "_call_strategy_hook",
)
"""Lightning's functions that call hooks: they live in `trainer/call.py`, and their first argument is the trainer."""

DISPATCHING: set[CodeType] = set()
"""The code of these functions, of the packages that something was recorded of."""

_WATCHED: dict[int, list[Watched]] = {}
"""Identity of a trainer -> its recordings."""

_ADOPTERS: list[Callable[[Any], None]] = []
"""What each recording of every trainer does with one that is met for the first time."""


def attach(obj: Any, sink: Callable[[Any], Any]) -> Callable[[], None]:
    """Record `obj` (None: every trainer that is adopted); return what detaches it."""
    if obj is not None:
        return _record(obj, sink(obj))
    detaching: list[Callable[[], None]] = []
    known: set[int] = set()

    def adopting(trainer: Any) -> None:
        if id(trainer) not in known:
            known.add(id(trainer))
            weakref.finalize(trainer, known.discard, id(trainer))
            detaching.append(_record(trainer, sink(trainer)))

    _ADOPTERS.append(adopting)

    def detach() -> None:
        if adopting in _ADOPTERS:
            _ADOPTERS.remove(adopting)
        while detaching:
            detaching.pop()()

    return detach


def adopt(obj: Any) -> None:
    """Have a trainer recorded that is met for the first time, while every trainer is."""
    for adopting in list(_ADOPTERS):
        adopting(obj)


def _record(trainer: Any, subject: Any) -> Callable[[], None]:
    package = of_class(type(trainer))
    assert package is not None  # `accepts` was asked before
    DISPATCHING.update(_codes(package))
    number, ref = id(trainer), weakref.ref(trainer)
    watched = Watched(package, trainer, subject, _install)
    subject.watched = watched
    if number not in _WATCHED:
        weakref.finalize(trainer, _WATCHED.pop, number, None)
    _WATCHED.setdefault(number, []).append(watched)
    _install(trainer)

    def detach() -> None:
        left = _WATCHED.get(number, [])
        obj = ref()
        if watched in left:
            left.remove(watched)
            if obj is not None:
                _install(obj)

    return detach


def _install(trainer: Any) -> None:
    """Have the trainer's profiler write to all of its recordings; where there is none, give it back its own."""
    several, now = _WATCHED.get(id(trainer), []), trainer.profiler
    if not issubclass(type(now), Recording):
        if not several:
            return
        now = recording(now, several[0].package.part("profilers").PassThroughProfiler)
    watch(now, several)
    trainer.profiler = now if several else theirs(now)


# -- whether this version can be recorded ------------------------------------------------------------------


def verify() -> None:
    """Raise `UnknownVersion` unless this Lightning tells its profiler of every call, by the names that are known."""
    for package in imported():
        _verified(package)


def _verified(package: Package) -> None:
    call, seen = package.part("trainer.call"), list[str]()

    def profile(name: str) -> _Noting:
        whose = getattr(sys._getframe(1).f_locals.get("callback"), "state_key", "")
        return _Noting(seen, f"{name} of {whose}" if whose else name)

    missing = [name for name in CALLING if not hasattr(call, name)]
    if missing:
        raise _unknown(package, f"trainer/call.py has no {', '.join(missing)}")
    trainer = _trainer(SimpleNamespace(profile=profile), 1)
    for name in CALLING:
        calls = name.startswith("_call_callbacks_")
        getattr(call, name)(trainer, {"callbacks": {}, "pytorch-lightning_version": "2.0"} if calls else "hook")
    expected = [
        "[Callback]key.hook of key",
        "[Callback]key.on_save_checkpoint of key",
        "[Callback]key.on_load_checkpoint of key",
        "[LightningModule]SimpleNamespace.hook",
        "[LightningDataModule]SimpleNamespace.hook",
        "[Strategy]SimpleNamespace.hook",
    ]
    if seen != expected:
        raise _unknown(package, f"its profiler is told of {', '.join(seen) or 'nothing'}")


def _unknown(package: Package, what: str) -> UnknownVersion:
    return UnknownVersion(
        f"{package.distribution} {package.version} cannot be recorded: {what}. Nothing was attached; `loopscope show` "
        f"still reads the loop."
    )


class _Noting:
    """Notes what it is told of."""

    def __init__(self, seen: list[str], name: str) -> None:
        self.seen, self.name = seen, name

    def __enter__(self) -> None:
        self.seen.append(self.name)

    def __exit__(self, *args: object) -> None:
        return None


def _trainer(profiler: Any, callbacks: int) -> Any:
    """Return what Lightning's functions take for a trainer: everything that has a hook does nothing in it."""

    def nothing(*args: Any) -> None:
        return None

    hooks = dict.fromkeys(("hook", "on_save_checkpoint", "on_load_checkpoint"), nothing)
    several = [SimpleNamespace(state_key="key", _legacy_state_key="key", **hooks) for _ in range(callbacks)]
    module = SimpleNamespace(_current_fx_name=None, **hooks)
    parts = {"strategy": SimpleNamespace(**hooks), "datamodule": SimpleNamespace(**hooks)}
    return SimpleNamespace(callbacks=several, lightning_module=module, profiler=profiler, **parts)


def _codes(package: Package) -> set[CodeType]:
    call = package.part("trainer.call")
    return {getattr(call, name).__code__ for name in CALLING}


# -- what it costs -----------------------------------------------------------------------------------------

CALLBACKS, ROWS = 4, 400
"""With so many callbacks one event's dispatch is measured, into so many rows."""


def calibrate() -> dict[str, object]:
    """Return, in ns: `per_event`, `per_call`, `clock`, `dispatch` and `framework_dispatch` of one event.

    An enclosing call is read as two events and has one row, others have a row for each call and none for the event.
    """
    package = next(imported())
    plain = package.part("profilers").PassThroughProfiler()
    recorded = recording(plain, type(plain))
    watch(recorded, [cast(Watched, _Measured())])
    call = package.part("trainer.call")._call_callback_hooks
    ours, theirs_ = (_trainer(one, CALLBACKS) for one in (recorded, plain))
    empty = turn()
    took = least(lambda: call(ours, "hook")) - empty
    by_itself = least(lambda: call(theirs_, "hook")) - empty
    row = least(lambda: _row(recorded)) - empty
    return {
        **stamped.calibrate(),
        "per_event": round(row / 2, 1),
        "per_call": round(row, 1),
        "dispatch": round(took, 1),
        "framework_dispatch": round(by_itself, 1),
        "callbacks": CALLBACKS,
    }


def _row(recorded: Recording) -> None:
    with recorded.profile("[Callback]key.hook"):
        pass


class _Measured:
    """A recording into memory of its own, all of whose actions are calls of callbacks."""

    def __init__(self) -> None:
        self.lanes: dict[int, Any] = {}
        self.only = Scratch(ROWS)
        action = Action(self, 7, "hook")
        self.lender = Lender(lambda back: Row(action, back))
        self.ready = {"[Callback]key.hook": self.lender.pop}

    def lane(self) -> Any:
        return self.only

    def lend(self, name: str, started: Any) -> Any:
        return self.lender.lend()
