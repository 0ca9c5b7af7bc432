"""Who is called at each event, in which order and why: callbacks, module, data module and strategy.

Only what does something is a handler: a method that is overridden, by the rule that Lightning itself uses. Constraint:
nothing of the user's is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.hooks import HOOKS, Hook, Who
from loopscope.adapters.lightning.members import Member
from loopscope.adapters.lightning.vocabulary import STOP, WAITING, vocabularies
from loopscope.effects import Effects, Vocabulary
from loopscope.handlers import Said, said
from loopscope.model import Binding, Handler, Need

_MISSING: Any = object()

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
        return [name for name in dict.fromkeys((*written, *(t for t in touched if t == "callbacks"))) if name in SETTINGS]


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
    binder = _Binder(given, tuple(members))
    return Bound({event: tuple(binder.at(event, HOOKS[event])) for event in events if event in HOOKS})


def identity(given: Given, obj: Any) -> str:
    """Return the id of what is no callback: `Net#0`; told apart where two have one class name."""
    others = [one for one in (given.model, given.datamodule, given.trainer.strategy) if one is not None]
    same = [one for one in others if type(one).__name__ == type(obj).__name__]
    number = next(n for n, one in enumerate(same) if one is obj)
    return f"{type(obj).__name__}#0{'' if number == 0 else chr(ord('a') + number)}"


@dataclass(frozen=True, slots=True)
class _Binder:
    given: Given
    members: tuple[Member, ...]

    def at(self, event: str, hook: Hook) -> Iterator[Found]:
        for who in hook.called:
            yield from self.of(event, hook.method or event, who, hook)

    def of(self, event: str, method: str, who: Who, hook: Hook) -> Iterator[Found]:
        classes, words = self.given.package.part(), vocabularies(self.given.package)
        if who in ("callbacks", "others", "monitors"):
            for member in self.members:
                if who == "callbacks" or member.monitors is (who == "monitors"):
                    yield from self.callback(event, method, member, who)
        elif who == "datamodule":
            owner = self.given.datamodule
            yield from self.other(event, method, owner, classes.LightningDataModule, words.datamodule, "the data module")
        elif who == "strategy":
            strategy = self.given.package.part("strategies").Strategy
            yield from self.other(
                event, method, self.given.trainer.strategy, strategy, words.callback, "the strategy, last"
            )
        elif who == "data":
            yield from self.data(event, method)
        else:
            reason = "the module" if hook.called == (who,) else "the module, after the callbacks"
            if "strategy" in hook.called and who == "step":
                reason = "the module, through the strategy"
            elif "monitors" in hook.called:
                reason = "the module, after the callbacks that monitor nothing"
            yield from self.other(event, method, self.given.model, classes.LightningModule, words.module, reason)

    def data(self, event: str, method: str) -> Iterator[Found]:
        """Yield the handler of a hook that the data module or the module has."""
        classes, words = self.given.package.part(), vocabularies(self.given.package)
        if event.endswith("_dataloader"):
            source = self.given.sources.get(event.removesuffix("_dataloader"))  # type: ignore[call-overload]
            owner = source.owner if source is not None else None
        else:
            owner = self.given.batch_owner(method)
        if owner is self.given.model:
            yield from self.other(event, method, owner, classes.LightningModule, words.module, "the module")
        else:
            reason = "the data module, in the module's place"
            yield from self.other(event, method, owner, classes.LightningDataModule, words.datamodule, reason)

    def callback(self, event: str, method: str, member: Member, who: Who) -> Iterator[Found]:
        package = self.given.package
        base = package.part().Callback
        if not package.is_overridden(method, member.obj, base) or not callable(getattr(member.obj, method)):
            return
        target = _target(member.obj, method)
        heard = said(
            target,
            type(member.obj),
            vocabularies(package).callback,
            waiting=WAITING,
            passed=_passed(base, method),
        )
        reason = _reason(member, who)
        yield self.found(event, method, member.obj, heard, member.id, reason, member.origin, member.mine)

    def other(
        self, event: str, method: str, owner: Any, base: type, words: Vocabulary, reason: str
    ) -> Iterator[Found]:
        if owner is None or not self.given.package.is_overridden(method, owner, base):
            return
        target = _target(owner, method)
        heard = said(target, type(owner), words, waiting=WAITING, passed=_passed(base, method))
        origin = {"the s": "strategy", "the d": "datamodule"}.get(reason[:5], "module")
        yield self.found(event, method, owner, heard, identity(self.given, owner), reason, origin, False)

    def found(  # noqa: PLR0913 - the fields of a handler
        self, event: str, method: str, owner: Any, heard: Said, id_: str, reason: str, origin: str, mine: bool
    ) -> Found:
        handler = Handler(
            id=id_,
            callback=type(owner).__name__,
            label=_label(owner),
            event=event,
            method=method,
            reason=reason,
            origin=origin,
            mine=mine,
            place=heard.place,
            facts=heard.facts,
            raises=heard.raises,
            nested=heard.nested,
        )
        return Found(handler, heard.effects, owner)


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


def _label(obj: Any) -> str:
    return str(type(obj).__qualname__)


def _reason(member: Member, who: Who) -> str:
    parts = [f"{_ordinal(member.number)} in trainer.callbacks"]
    if member.origin == "configure_callbacks":
        parts.append("from configure_callbacks")
    if member.moved:
        parts.append(member.moved)
    if who == "monitors":
        parts.append("what monitors a metric runs after the module here")
    return "; ".join(parts)


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def kept(member: Member) -> Need:
    """Return the condition that a callback is still in the list, asked for where a handler changes that."""
    return Need(f"kept {member.id}", True, "a handler takes it off trainer.callbacks")
