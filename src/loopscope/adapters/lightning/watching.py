"""What a recording knows of a trainer: what each of Lightning's actions is called in the file, and who is called there.

An action is a text that Lightning gives its profiler: `[Callback]EarlyStopping{...}.on_train_end`. What it becomes is
found out when it first comes in a run. Constraint: the trainer is held weakly, callbacks only while a run is under way.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from loopscope.adapters.lightning.binding import KEPT, bind, identity
from loopscope.adapters.lightning.given import KINDS, Given, Kind, Source
from loopscope.adapters.lightning.hooks import ENCLOSING, HOOKS, LOADED
from loopscope.adapters.lightning.members import Member, listed
from loopscope.adapters.lightning.packages import Package
from loopscope.adapters.lightning.stamps import (
    IDLE,
    NOTHING,
    Action,
    Around,
    Last,
    LastMark,
    Lender,
    Mark,
    Row,
    Same,
    Started,
    Then,
)
from loopscope.adapters.lightning.tuning import BROUGHT, tuned
from loopscope.model import Binding, Flags

SPANS = frozenset({"run_training_epoch", "run_training_batch", "save_checkpoint", "optimizer_step"})
DRAWN = frozenset({"train_dataloader_next", "val_next", "test_next", "predict_next"})
"""What Lightning tells its profiler of, and calls nobody for."""

STEPPED = frozenset(event for event, hook in HOOKS.items() if "step" in hook.called)
"""The events at which the strategy's method calls the module's."""

MOST_CHANGES = 500
"""So often in a run it is noted that callbacks were added or removed."""


@dataclass(frozen=True, slots=True)
class Called:
    """One method that does something: the id that the map gives its owner, and what it is called."""

    id: str
    method: str
    cls: str


class Watched:
    """One recorded trainer in one recording; `sink` is the neutral side (`recorder.Subject`).

    `install` puts the recording's profiler in place again, should the program have taken another one since.
    """

    def __init__(self, package: Package, trainer: Any, sink: Any, install: Callable[[Any], None]) -> None:
        self.package = package
        self.ref = weakref.ref(trainer)
        self.sink = sink
        self.lanes = sink.lanes
        self.install = install
        self.ready: dict[str, Callable[[], Any]] = {}
        self.lenders: dict[str, Lender] = {}
        self.forget()

    # -- what `recorder.Watching` asks for -------------------------------------------------------------------

    def number(self, obj: Any) -> None:
        """Name everything anew: a run begins."""
        self.forget()
        self.install(obj)

    def forget(self) -> None:
        """Let go of the callbacks: the run is over."""
        self.undecided()
        self.named: dict[tuple[int, str], Lender] = {}
        self.numbers: dict[int, int] = {}
        self.current: list[Any] = []
        self.kept: list[Any] = []
        self.tuners: list[Any] = []
        self.changes = 0
        self.stale = ""

    def undecided(self) -> None:
        """Have it found out anew what each action becomes."""
        self.ready.clear()
        self.lenders.clear()

    def where(self) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the trainer says it is in, from 0."""
        trainer = self.ref()
        if trainer is None or trainer.state.fn != "fit":
            return None, None
        batch = int(trainer.fit_loop.batch_idx)
        return int(trainer.current_epoch), batch if batch >= 0 else None

    def bind(self, obj: Any, members: Mapping[str, Any]) -> tuple[Binding, Flags]:
        """Return who is called where from now on."""
        before, given = self.sink.runs[-1].loop.binding, self._given(obj)
        now = tuple(self.members(obj))
        found = tuned(given, now, bind(given, now, HOOKS))
        flags: dict[str, bool | None] = {
            need.flag: True for one in found.all() for need in one.handler.needs if need.flag.startswith(KEPT)
        }
        return Binding(found.binding().handlers, before.resets), flags

    # -- actions ---------------------------------------------------------------------------------------------

    def lend(self, name: str, started: Mapping[int, list[Started]]) -> Any:
        """Return what writes the row of an action, `NOTHING` where it has none."""
        lender = self.lenders.get(name)
        if lender is not None:
            return lender.lend()
        trainer, hook = self.ref(), name.rpartition(".")[2]
        if trainer is None:
            return NOTHING
        try:
            if not self.numbers:
                self._look(trainer)
            lender = self._lender(trainer, name, hook, started)
        except Exception:  # of the program's own code, which must not come up here: the report lists what is missing
            lender = IDLE
        self.lenders[name] = lender
        self.ready[name] = lender.pop
        row = lender.lend()
        changed = self.stale not in ("", hook) and row is not NOTHING
        return Then(row, functools.partial(self._look, trainer)) if changed else row

    def _lender(self, trainer: Any, name: str, hook: str, started: Mapping[int, list[Started]]) -> Lender:
        """Return what lends the rows of an action, decided when it first comes in a run."""
        kind, _, rest = name.partition("]")
        if kind == "[Callback":
            key = rest.removesuffix(f".{hook}")
            several = [one for one in trainer.callbacks if one.state_key == key]
            if len(several) > 1:
                return Lender(lambda back: self._of_frame(hook))  # nothing is given back to it: each call is asked for
            return self._of_callback(trainer, several[0], hook) if several else IDLE
        if kind in ("[LightningModule", "[Strategy", "[LightningDataModule"):
            action = self._owner(trainer, kind, hook)
            if action.event in ENCLOSING:
                return Lender(lambda back: Around(action, back, started))
            last = kind == "[LightningModule" and "callbacks" in callers(action.event)
            if not action.told:
                return Same(LastMark(action, self) if last else Mark(action))
            if last:
                return Lender(lambda back: Last(action, back, self))
            return Lender(lambda back: Row(action, back))
        if name in SPANS or hook in DRAWN:
            span = Action(self.sink, self.sink.span(hook), hook)
            return Lender(lambda back: Around(span, back, started))
        return IDLE  # an action of the program's own

    def _of_frame(self, hook: str) -> Any:
        """Return what writes the row of one of several callbacks that have one name: the frame that calls says which.

        Between that frame and this one are those of `profile`, of what it calls, and of what is lent.
        """
        frame: Any = sys._getframe(1)
        while frame is not None and "callback" not in frame.f_locals:
            frame = frame.f_back
        trainer, callback = self.ref(), None if frame is None else frame.f_locals["callback"]
        if trainer is None or callback is None:
            return NOTHING
        key = id(callback), hook
        if key not in self.named:
            self.kept.append(callback)
            self.named[key] = self._of_callback(trainer, callback, hook)
        return self.named[key].lend()

    def _of_callback(self, trainer: Any, callback: Any, hook: str) -> Lender:
        """Return what lends the rows of a callback's hook; of one that does nothing there are none."""
        if not self._does(callback, hook, self.package.part().Callback):
            return IDLE
        member = next(one for one in self.members(trainer) if one.obj is callback)
        action = self._action(hook, Called(member.id, hook, type(callback).__name__), does=True)
        return Lender(lambda back: Row(action, back))

    def _owner(self, trainer: Any, kind: str, hook: str) -> Action:
        """Return the row of a hook of the module, the strategy or the data module: it is there in any case."""
        classes, model = self.package.part(), trainer.lightning_module
        strategy = self.package.part("strategies").Strategy
        owners = {
            "[LightningModule": [(model, classes.LightningModule)],
            "[LightningDataModule": [(trainer.datamodule, classes.LightningDataModule)],
            "[Strategy": [(trainer.strategy, strategy)],
        }[kind]
        if hook in STEPPED:
            owners.append((model, classes.LightningModule))
        event = LOADED if hook == "on_load_checkpoint" else hook
        given = self._given(trainer)
        for obj, base in owners:
            if self._does(obj, hook, base):
                return self._action(event, Called(identity(given, obj), hook, type(obj).__name__), does=True)
        owner = owners[0][0]
        return self._action(event, Called(identity(given, owner), hook, type(owner).__name__), does=False)

    def _does(self, obj: Any, hook: str, base: type) -> bool:
        return self.package.is_overridden(hook, obj, base) and callable(getattr(obj, hook))

    def _action(self, event: str, called: Called, does: bool) -> Action:
        """Return the row of a call at an event; of one that does nothing it only shows that it was made."""
        more: dict[str, object] = {"loose": True}
        more |= {"encloses": True} if event in ENCLOSING else {}
        more |= {} if does else {"idle": True}
        code = self.sink.handler(called.id, event, called.method, called.cls, **more)
        return Action(self.sink, code, event, f"{called.cls}.{called.method}" if does else "")

    # -- who is there ----------------------------------------------------------------------------------------

    def members(self, trainer: Any) -> list[Member]:
        """Return the callbacks of now, each with the number that it has had since it was first met in this run."""
        found = []
        if not self.numbers:
            self.tuners = [one.obj for one in listed(self.package, trainer.callbacks) if one.tunes]
        for member in listed(self.package, trainer.callbacks):
            if id(member.obj) not in self.numbers:
                self.kept.append(member.obj)
                self.numbers[id(member.obj)] = len(self.numbers) + 1
            found.append(replace(member, number=self.numbers[id(member.obj)]))
        return found

    def _are_aside(self, trainer: Any) -> bool:
        """Return whether a tuner is at work, which puts all callbacks aside, and itself with them."""
        return any(not any(tuner is one for one in trainer.callbacks) for tuner in self.tuners)

    def changed(self, event: str) -> None:
        """Note that the callbacks are not those that they were; called behind all of them at an event.

        What has changed holds from the next event on, and is written as soon as that has begun.
        """
        trainer = self.ref()
        if trainer is not None and not self._are_aside(trainer):
            self.stale = event
            self.undecided()

    def _look(self, trainer: Any) -> None:
        """Write a new binding if the callbacks have changed, the first time compared with what the map says."""
        self.stale = ""
        if [*map(id, trainer.callbacks)] == [*map(id, self.current)] or self.changes >= MOST_CHANGES:
            return
        if self._are_aside(trainer) or not self._attached(trainer):
            return
        first = not self.numbers
        self.current = list(trainer.callbacks)
        members = self.members(trainer)
        if not self.sink.runs:
            return
        if first:
            handlers = self.sink.runs[-1].loop.binding.handlers
            listed_there = (one for found in handlers.values() for one in found if one.origin != BROUGHT)
            known = {one.id for one in listed_there if "#0" not in one.id}
            if {member.id for member in members if self._is_called(member, handlers)} == known:
                return
        self.changes += 1
        self.undecided()
        with suppress(Exception):  # a callback that cannot be looked at: the report lists its calls
            self.sink.rebound(trainer, {})

    def _attached(self, trainer: Any) -> bool:
        """Return whether the model has given its callbacks already, and all have their places."""
        return trainer.lightning_module is not None and bool(self.ready)

    def _is_called(self, member: Member, events: Iterable[str]) -> bool:
        base = self.package.part().Callback
        return any(self._does(member.obj, event, base) for event in events if "callbacks" in callers(event))

    def _given(self, trainer: Any) -> Given:
        """Return what the present run was given, as the trainer knows it by now."""
        selector = trainer._data_connector._datahook_selector
        return Given(
            package=self.package,
            trainer=trainer,
            run=self.sink.runs[-1].loop.run if self.sink.runs else "fit",
            model=trainer.lightning_module,
            datamodule=trainer.datamodule,
            batch_hooks=selector.datamodule if selector is not None else None,
            sources={kind: _source(trainer, kind) for kind in KINDS.values()},
            ckpt_path=None,
            arguments={},
        )


def callers(event: str) -> tuple[str, ...]:
    """Return who is called at an event, callbacks that are called at different times taken together."""
    called = HOOKS[event].called if event in HOOKS else ()
    return tuple("callbacks" if who in ("others", "monitors") else who for who in called)


def _source(trainer: Any, kind: Kind) -> Source:
    """Return where the loaders of one kind come from, as the loops know it."""
    validates = trainer.state.fn == "validate"
    loops = {
        "train": trainer.fit_loop,
        "val": trainer.validate_loop if validates else trainer.fit_loop.epoch_loop.val_loop,
        "test": trainer.test_loop,
        "predict": trainer.predict_loop,
    }
    source = loops[kind]._data_source
    return Source(kind, source.name, source.instance if source.is_module() else None)
