"""What a recording knows of a trainer: what each of Lightning's actions is called in the file, and who is called there.

An action is a text that Lightning gives its profiler: `[Callback]EarlyStopping{...}.on_train_end`. What it becomes is
found out when it first comes in a run. Constraint: the trainer is held weakly, callbacks only while a run is under way.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loopscope.adapters.lightning.binding import KEPT, bind, identity
from loopscope.adapters.lightning.given import KINDS, Given, Kind, Source
from loopscope.adapters.lightning.hooks import ENCLOSING, HOOKS, LOADED
from loopscope.adapters.lightning.members import Member, listed
from loopscope.adapters.lightning.packages import Package
from loopscope.adapters.lightning.stamps import AROUND, LAST, PLAIN, UNSURE, Action
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
        self.forget()

    # -- what `recorder.Watching` asks for -------------------------------------------------------------------

    def number(self, obj: Any) -> None:
        """Name everything anew: a run begins."""
        self.forget()
        self.install(obj)

    def forget(self) -> None:
        """Let go of the callbacks: the run is over."""
        self.actions: dict[str, Action | None] = {}
        self.named: dict[tuple[int, str], Action | None] = {}
        self.numbers: dict[int, int] = {}
        self.current: list[int] = []
        self.kept: list[Any] = []
        self.tuners: list[Any] = []
        self.changes = 0
        self.stale = ""

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

    def action(self, name: str) -> Action | None:
        """Return what an action becomes, None where it has no row."""
        trainer, hook = self.ref(), name.rpartition(".")[2]
        try:
            if trainer is not None and (self.stale not in ("", hook) or not self.numbers):
                self._look(trainer)
            found = None if trainer is None else self._action(trainer, name, hook)
        except Exception:  # of the program's own code, which must not come up here: the report lists what is missing
            found = None
        self.actions[name] = found
        return found

    def resolved(self, action: Action, depth: int) -> Action | None:
        """Return the row of a call of a callback that shares its name with others: the frame that calls says which."""
        trainer, callback = self.ref(), sys._getframe(depth).f_locals.get("callback")
        if trainer is None or callback is None:
            return None
        key = id(callback), action.event
        if key not in self.named:
            self.kept.append(callback)
            self.named[key] = self._callbacks(trainer, [callback], key[1])
        return self.named[key]

    def _action(self, trainer: Any, name: str, hook: str) -> Action | None:
        kind, _, rest = name.partition("]")
        if kind == "[Callback":
            key = rest.removesuffix(f".{hook}")
            several = [one for one in trainer.callbacks if one.state_key == key]
            found = self._callbacks(trainer, several, hook)
            return replace(found, kind=UNSURE) if found is not None and len(several) > 1 else found
        if kind in ("[LightningModule", "[Strategy", "[LightningDataModule"):
            return self._owner(trainer, kind, hook)
        if name in SPANS or hook in DRAWN:
            return Action(self.sink, self.sink.span(hook), hook, "", AROUND)
        return None  # an action of the program's own

    def _callbacks(self, trainer: Any, several: Sequence[Any], hook: str) -> Action | None:
        base = self.package.part().Callback
        found = [
            Called(member.id, hook, type(member.obj).__name__)
            for member in self.members(trainer)
            if any(member.obj is one for one in several) and self._does(member.obj, hook, base)
        ]
        return self._row(hook, found, PLAIN) if found else None

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
        given = self._given(trainer)
        called = [Called(identity(given, obj), hook, type(obj).__name__) for obj, _ in owners]
        found = next(
            ([one] for one, owner in zip(called, owners, strict=True) if self._does(owner[0], hook, owner[1])), []
        )
        event = LOADED if hook == "on_load_checkpoint" else hook
        last = kind == "[LightningModule" and "callbacks" in HOOKS[event].called if event in HOOKS else False
        return self._row(event, found, AROUND if event in ENCLOSING else LAST if last else PLAIN, called[0])

    def _does(self, obj: Any, hook: str, base: type) -> bool:
        return self.package.is_overridden(hook, obj, base) and callable(getattr(obj, hook))

    def _row(self, event: str, found: Sequence[Called], kind: int, owner: Called | None = None) -> Action:
        """Return the row of calls at an event; without any it only shows that `owner` was asked."""
        more: dict[str, object] = {"loose": True}
        more |= {"encloses": True} if kind == AROUND else {}
        more |= {"idle": True} if not found else {}
        first = found[0] if found else owner
        assert first is not None
        code = self.sink.handler(first.id, event, first.method, first.cls, **more)
        return Action(self.sink, code, event, f"{first.cls}.{first.method}" if found else "", kind)

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

    def look(self, event: str) -> None:
        """See whether the callbacks are still those that they were; called behind all of them at an event.

        What has changed holds from the next event on, and is written when it comes.
        """
        trainer = self.ref()
        if trainer is not None and [*map(id, trainer.callbacks)] != self.current and not self._are_aside(trainer):
            self.stale = event
            self.actions.clear()

    def _look(self, trainer: Any) -> None:
        """Write a new binding if the callbacks have changed, the first time compared with what the map says."""
        self.stale = ""
        if [*map(id, trainer.callbacks)] == self.current or self.changes >= MOST_CHANGES:
            return
        if self._are_aside(trainer) or not self._attached(trainer):
            return
        first = not self.numbers
        self.current = [*map(id, trainer.callbacks)]
        members = self.members(trainer)
        if not self.sink.runs:
            return
        if first:
            binding = self.sink.runs[-1].loop.binding
            known = {
                one.id for found in binding.handlers.values() for one in found if one.origin not in (BROUGHT, "model")
            }
            if {member.id for member in members if self._is_called(member, binding.handlers)} == known:
                return
        self.changes += 1
        self.actions.clear()
        self.sink.rebound(trainer, {})

    def _attached(self, trainer: Any) -> bool:
        """Return whether the model has given its callbacks already, and all have their places."""
        return trainer.lightning_module is not None and bool(self.actions)

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
