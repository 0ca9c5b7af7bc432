"""Who is called at each event, in which order and why: callbacks, module, data module and strategy.

Only what does something is a handler: a method that is overridden, by the rule that Lightning itself uses. Constraint:
nothing of the user's is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from loopscope.adapters.lightning.given import Given, Kind
from loopscope.adapters.lightning.hooks import ENCLOSING, HOOKS, Hook, Who
from loopscope.adapters.lightning.members import Member
from loopscope.adapters.lightning.nodes import Nodes
from loopscope.adapters.lightning.saving import EVENTS as INNER
from loopscope.adapters.lightning.saving import STATE, saving
from loopscope.adapters.lightning.vocabulary import STOP, WAITING, vocabularies
from loopscope.effects import Effects, Vocabulary
from loopscope.handlers import Said, said
from loopscope.model import Binding, Handler, Need, Raise, Scope

_MISSING: Any = object()

SAVE = "save_checkpoint"

KEPT = "kept "
"""Begins the flag that says whether a callback is still in the trainer's list."""

CHANGING = "changes the loop itself while it runs"
"""Begins the note on a handler after which the map may not hold."""

SETTINGS = frozenset(
    {
        "accumulate_grad_batches",
        "callbacks",
        "check_val_every_n_epoch",
        "limit_train_batches",
        "limit_val_batches",
        "limit_test_batches",
        "limit_predict_batches",
        "max_epochs",
        "max_steps",
        "min_epochs",
        "min_steps",
        "num_sanity_val_steps",
        "val_check_batch",
        "val_check_interval",
        "_skip_backward",
    }
)
"""Attributes of the trainer and its loops that say how the loop goes on."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One method that the framework calls and that does something."""

    handler: Handler
    effects: Effects
    owner: Any

    @property
    def stops(self) -> bool:
        return self.effects.assigned(STOP, "learner") is not None

    def changes(self) -> list[str]:
        """Return the settings of the loop that its source changes."""
        done = self.effects
        written = [
            item.target.rpartition(".")[2]
            for item in done.items
            if item.kind in ("writes", "deletes") and item.on == "learner"
        ]
        touched = [part for item in done.items if item.kind == "calls" for part in item.target.split(".")]
        return [
            name for name in dict.fromkeys((*written, *(t for t in touched if t == "callbacks"))) if name in SETTINGS
        ]


@dataclass(frozen=True, slots=True)
class Bound:
    """The handlers of a run: `found` by event, in calling order."""

    found: dict[str, tuple[Found, ...]] = field(default_factory=dict)

    def binding(self) -> Binding:
        return Binding({event: tuple(one.handler for one in found) for event, found in self.found.items() if found})

    def all(self) -> Iterator[Found]:
        for found in self.found.values():
            yield from found


def bind(given: Given, members: Iterable[Member], events: Iterable[str]) -> Bound:
    """Return who is called at each of `events`."""
    binder = _Binder(given, Nodes(given), tuple(members))
    found = {event: tuple(binder.at(event, HOOKS[event])) for event in events if event in HOOKS}
    return _unsteady(binder.members, Bound(found))


def identity(given: Given, obj: Any) -> str:
    """Return the id of what is no callback: `Net#0`; told apart where two have one class name."""
    others = [one for one in (given.model, given.datamodule, given.trainer.strategy) if one is not None]
    same = [one for one in others if type(one).__name__ == type(obj).__name__]
    number = next(n for n, one in enumerate(same) if one is obj)
    return f"{type(obj).__name__}#0{'' if number == 0 else chr(ord('a') + number)}"


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose method is called, against which base class it is compared, and how that is said."""

    obj: Any
    base: type
    words: Vocabulary
    id: str
    origin: str
    reason: str
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class _Binder:
    given: Given
    nodes: Nodes
    members: tuple[Member, ...]

    def at(self, event: str, hook: Hook) -> Iterator[Found]:
        method = hook.method or event
        for who in hook.called:
            for owner in self.owners(event, who, hook):
                found = self.found(event, method, owner)
                if found is None:
                    continue
                yield found
                if "step" in hook.called:  # a strategy that has the hook itself calls whom it likes
                    return

    def owners(self, event: str, who: Who, hook: Hook) -> Iterator[_Owner]:
        given, words = self.given, vocabularies(self.given.package)
        if who in ("callbacks", "others", "monitors"):
            needs = (STATE,) if event == "on_save_checkpoint" else ()
            for member in self.members:
                if who == "callbacks" or member.monitors is (who == "monitors"):
                    base, reason = given.package.part().Callback, _reason(member, who)
                    yield _Owner(member.obj, base, words.callback, member.id, member.origin, reason, needs)
        elif who == "strategy":
            strategy = given.trainer.strategy
            base, reason = given.package.part("strategies").Strategy, "the strategy, last"
            yield _Owner(strategy, base, words.callback, identity(given, strategy), "trainer", reason)
        elif who == "datamodule":
            yield from self.data(given.datamodule, "the data module, before the callbacks")
        elif who == "data":
            yield from self.shared(event, hook)
        else:
            yield self.module(_module_reason(who, hook))

    def module(self, reason: str) -> _Owner:
        given = self.given
        words = vocabularies(given.package).module
        base = given.package.part().LightningModule
        return _Owner(given.model, base, words, identity(given, given.model), "model", reason)

    def data(self, datamodule: Any, reason: str) -> Iterator[_Owner]:
        given = self.given
        if datamodule is not None:
            base, words = given.package.part().LightningDataModule, vocabularies(given.package).datamodule
            yield _Owner(datamodule, base, words, identity(given, datamodule), "model", reason)

    def shared(self, event: str, hook: Hook) -> Iterator[_Owner]:
        """Yield who has a hook that the module and the data module share."""
        if event.endswith("_dataloader"):
            source = self.given.sources.get(cast(Kind, event.removesuffix("_dataloader")))
            owner = source.owner if source is not None else None
        else:
            owner = self.given.batch_owner(hook.method or event)
        if owner is self.given.model:
            yield self.module("the module")
        else:
            yield from self.data(owner, "the data module, in the module's place")

    def found(self, event: str, method: str, owner: _Owner) -> Found | None:
        """Return what is called, None where that is only the framework's own method."""
        obj = owner.obj
        if not self.given.package.is_overridden(method, obj, owner.base) or not callable(getattr(obj, method)):
            return None
        passed = _passed(owner.base, method)
        heard = said(_target(obj, method), type(obj), owner.words, waiting=WAITING, passed=passed)
        saves = event not in INNER and (SAVE in heard.nested or isinstance(obj, self.checkpoint))
        handler = Handler(
            id=owner.id,
            callback=type(obj).__name__,
            label=type(obj).__qualname__,
            event=event,
            method=method,
            reason=owner.reason,
            origin=owner.origin,
            mine=owner.origin == "cbs",
            place=heard.place,
            facts=heard.facts,
            needs=owner.needs,
            raises=tuple(self.raises(event, heard)),
            nested=tuple(name for name in heard.nested if name != SAVE),
            inside=(self.saving(obj),) if saves else (),
        )
        return Found(handler, heard.effects, obj)

    def raises(self, event: str, heard: Said) -> Iterator[Raise]:
        """Yield what a handler may raise; Lightning's own asserts are for itself."""
        own = heard.place is not None and heard.place.file.startswith(self.given.package.home)
        for one in heard.raises:
            if not own or one.exception != "AssertionError":
                # not certain at a call around others: it has begun, and that is all that is seen there
                yield replace(one, certain=one.certain and event not in ENCLOSING)

    @property
    def checkpoint(self) -> type:
        return cast(type, self.given.package.part("callbacks").Checkpoint)

    def saving(self, obj: Any) -> Scope:
        """Return what a checkpoint that this callback saves fires."""
        weights_only = getattr(obj, "save_weights_only", None) if isinstance(obj, self.checkpoint) else None
        return saving(self.given, self.nodes, weights_only=weights_only if isinstance(weights_only, bool) else None)


def _unsteady(members: tuple[Member, ...], bound: Bound) -> Bound:
    """Return the handlers with a condition each, where one of them changes the list of callbacks on its way."""
    if not any("callbacks" in one.changes() for one in bound.all()):
        return bound
    gone = tuple((kept(member).flag, None) for member in members)
    needs = {member.id: (kept(member),) for member in members}

    def changed(one: Found) -> Found:
        more = gone if "callbacks" in one.changes() else ()
        handler = one.handler
        handler = replace(handler, needs=(*handler.needs, *needs.get(handler.id, ())), sets=(*handler.sets, *more))
        return replace(one, handler=handler)

    return Bound({event: tuple(map(changed, found)) for event, found in bound.found.items()})


def kept(member: Member) -> Need:
    """Return the condition that a callback is still in the list, asked for where a handler changes that."""
    return Need(f"{KEPT}{member.id}", True, "a handler takes it off trainer.callbacks")


def _target(obj: Any, name: str) -> Any:
    """Return what is called, unbound where its class has it: what holds no object can be kept."""
    found = vars(obj).get(name, _MISSING)
    if found is not _MISSING:
        return found
    found = inspect.getattr_static(type(obj), name, _MISSING)
    return getattr(obj, name) if found is _MISSING or isinstance(found, property) else found


def _passed(base: type, method: str) -> tuple[str, ...]:
    """Return the names that the framework's own method has for what it is given."""
    function = getattr(base, method, None)
    try:
        return tuple(inspect.signature(function).parameters)[1:] if function is not None else ()
    except (TypeError, ValueError):
        return ()


def _module_reason(who: Who, hook: Hook) -> str:
    if who == "step":
        return "the module, through the strategy"
    if "monitors" in hook.called:
        return "the module, after the callbacks that monitor nothing"
    return "the module, after the callbacks" if "callbacks" in hook.called else "the module"


def _reason(member: Member, who: Who) -> str:
    parts = [f"{_ordinal(member.number)} in trainer.callbacks"]
    if member.moved:
        parts.append(member.moved)
    if who == "monitors":
        parts.append("what monitors a metric runs after the module here")
    return "; ".join(parts)


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
