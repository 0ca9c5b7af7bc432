"""What a recording knows of a trainer: what each of Lightning's actions is called in the file, and who is called there.

An action is a text that Lightning gives its profiler: `[Callback]EarlyStopping{...}.on_train_end`. What it becomes is
found out when it first comes in a run. Constraint: the trainer is held weakly, callbacks only while a run is under way.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopscope.adapters.lightning.binding import Found, bind, handlers_of
from loopscope.adapters.lightning.given import KINDS, Given, Kind, Source
from loopscope.adapters.lightning.hooks import ENCLOSING, HOOKS, LOADED
from loopscope.adapters.lightning.members import Member, listed
from loopscope.adapters.lightning.packages import Package
from loopscope.adapters.lightning.stamps import Action
from loopscope.model import Binding, Flags

OWNERS = {"[LightningModule]", "[Strategy]", "[LightningDataModule]"}
SPANS = {"run_training_epoch", "run_training_batch", "save_checkpoint", "optimizer_step"}
DRAWN = {"train_dataloader_next", "val_next", "test_next", "predict_next"}

MOST_CHANGES = 500
"""So often in a run it is noted that callbacks were added or removed."""


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

    # -- what `recorder.Watching` asks for ------------------------------------------------------------------

    def number(self, obj: Any) -> None:
        """Name everything anew: a run begins."""
        self.forget()
        self.install(obj)

    def forget(self) -> None:
        """Let go of the callbacks: the run is over."""
        self.actions: dict[str, Action | None] = {}
        self.named: dict[tuple[int, str], Action | None] = {}
        self.ids: dict[int, str] = {}
        self.current: list[int] = []
        self.kept: list[Any] = []
        self.changes = 0

    def where(self) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the trainer says it is in, from 0."""
        trainer = self.ref()
        if trainer is None or not trainer.state.fn == "fit":
            return None, None
        batch = trainer.fit_loop.batch_idx
        return trainer.current_epoch, batch if batch >= 0 else None

    def bind(self, obj: Any, members: Mapping[str, Any]) -> tuple[Binding, Flags]:
        """Return who is called where from now on: the module's hooks as they were, the callbacks as they are."""
        before = self.sink.runs[-1].loop.binding if self.sink.runs else Binding()
        given, now = self.given(obj), self.members(obj)
        found = bind(given, now, before.handlers)
        flags = {need.flag: True for one in found.all() for need in one.handler.needs if need.flag.startswith("kept ")}
        return Binding(found.binding().handlers, before.resets), flags

    # -- actions -------------------------------------------------------------------------------------------

    def action(self, name: str) -> Action | None:
        """Return what an action becomes, None where it has no row."""
        trainer = self.ref()
        found = None if trainer is None else self._action(trainer, name)
        self.actions[name] = found
        return found

    def of_callback(self, name: str, depth: int) -> Action | None:
        """Return what the call of a callback becomes, of whom Lightning gives a name that several have.

        Which one it is stands in the frame that calls it.
        """
        trainer, hook = self.ref(), name.rpartition(".")[2]
        callback = sys._getframe(depth).f_locals.get("callback")
        if trainer is None or callback is None:
            return None
        key = id(callback), hook
        if key not in self.named:
            self.kept.append(callback)
            self.named[key] = self.called(trainer, hook, [callback])
        return self.named[key]

    def _action(self, trainer: Any, name: str) -> Action | None:
        kind, _, rest = name.partition("]")
        hook = name.rpartition(".")[2]
        if f"{kind}]" == "[Callback]":
            return self.callback(trainer, rest.removesuffix(f".{hook}"), hook)
        if f"{kind}]" in OWNERS:
            return self.owner(trainer, f"{kind}]", hook)
        if name in SPANS or hook in DRAWN:
            return Action(self.sink, self.sink.span(hook), hook, "", True)
        return None  # an action of the program's own

    def callback(self, trainer: Any, key: str, hook: str) -> Action | None:
        return self.called(trainer, hook, [one for one in trainer.callbacks if one.state_key == key])

    def called(self, trainer: Any, hook: str, callbacks: Sequence[Any]) -> Action | None:
        found = [
            (member, one)
            for member in self.members(trainer)
            if any(member.obj is callback for callback in callbacks)
            for one in handlers_of(self.given(trainer), member, hook)
        ]
        return self.row(hook, [one for _, one in found]) if found else None

    def owner(self, trainer: Any, kind: str, hook: str) -> Action:
        """Return the row of a hook of the module, the strategy or the data module; it is there in any case."""
        event = LOADED if hook == "on_load_checkpoint" else hook
        found = bind(self.given(trainer), (), [event]).found.get(event, ())
        mine = {
            "[Strategy]": (trainer.strategy, trainer.lightning_module if event in STEPPED else None),
            "[LightningDataModule]": (trainer.datamodule,),
            "[LightningModule]": (trainer.lightning_module,),
        }[kind]
        return self.row(event, [one for one in found if any(one.owner is owner for owner in mine)])

    def row(self, event: str, found: Sequence[Found]) -> Action:
        encloses = event in ENCLOSING
        more: dict[str, object] = {"loose": True}
        if encloses:
            more["encloses"] = True
        if not found:
            more["idle"] = True
        if len(found) > 1:
            more["merged"] = len(found)
        handlers = [one.handler for one in found]
        label = "|".join(one.id for one in handlers)
        method = handlers[0].method if handlers else event
        cls = handlers[0].callback if handlers else ""
        code = self.sink.handler(label, event, method, cls, **more)
        return Action(self.sink, code, event, f"{cls}.{method}" if handlers else "", encloses)

    # -- who is there --------------------------------------------------------------------------------------

    def members(self, trainer: Any) -> list[Member]:
        """Return the callbacks of now, each with the number that it has had since it was first met in this run."""
        found = []
        for one in trainer.callbacks:
            if id(one) not in self.ids:
                self.kept.append(one)
                self.ids[id(one)] = str(len(self.ids) + 1)
            found.append(listed(self.package, [one])[0].numbered(int(self.ids[id(one)])))
        self.current = [*map(id, trainer.callbacks)]
        return found

    def look(self) -> None:
        """Write a new binding if the callbacks are no longer those that they were."""
        trainer = self.ref()
        if trainer is None or not self.current or self.changes >= MOST_CHANGES:
            return
        if [*map(id, trainer.callbacks)] == self.current:
            return
        self.changes += 1
        self.actions.clear()
        self.members(trainer)
        self.sink.rebound(trainer, {})

    def given(self, trainer: Any) -> Given:
        """Return what the present run was given, as the trainer knows it by now."""
        selector = trainer._data_connector._datahook_selector
        sources: dict[Kind, Source] = {}
        for kind in KINDS.values():
            source = _source(trainer, kind)
            if source is not None:
                sources[kind] = source
        return Given(
            package=self.package,
            trainer=trainer,
            run=self.sink.runs[-1].loop.run if self.sink.runs else "fit",
            model=trainer.lightning_module,
            datamodule=trainer.datamodule,
            batch_hooks=selector.datamodule if selector is not None else None,
            sources=sources,
            ckpt_path=None,
            arguments={},
        )


STEPPED = frozenset(event for event, hook in HOOKS.items() if "step" in hook.called)
"""The events at which the strategy's method calls the module's."""


def _source(trainer: Any, kind: Kind) -> Source | None:
    """Return where the loaders of one kind come from, as the loops know it."""
    loop = {
        "train": trainer.fit_loop,
        "val": trainer.validate_loop if trainer.state.fn == "validate" else trainer.fit_loop.epoch_loop.val_loop,
        "test": trainer.test_loop,
        "predict": trainer.predict_loop,
    }[kind]
    source = loop._data_source
    return Source(kind, source.name, source.instance if source.is_module() else None)
