"""Who is called at each fastai event: the callbacks in calling order, what each does there and when it is skipped."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastai.callback import core
from fastai.callback.core import Callback
from fastai.callback.schedule import LRFinder
from fastai.learner import Learner, SkipToEpoch
from fastai.torch_core import rank_distrib
from fastcore.basics import GetAttr, camel2snake

from loopscope.adapters.fastai.vocabulary import NESTING, VOCABULARY, WAITING
from loopscope.effects import Effect, Effects, effects
from loopscope.errors import BadCallback
from loopscope.model import Binding, Fact, Handler, Need, Raise
from loopscope.source import doc, place
from loopscope.waits import waits

LAST = "LRFinder's last batch"
"""The flag under which `LRFinder` ends the run."""

SKIPPED = "epoch < start_epoch"
"""The flag under which `SkipToEpoch` ends an epoch at once."""

_MISSING: Any = object()


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One callback of the run; `obj` is None for one that the call itself will make, known only by its class."""

    cls: type
    obj: Callback | None
    origin: str
    number: int
    mine: bool = False
    leaves: bool = False  # the loop's own methods remove it on their way

    @property
    def id(self) -> str:
        return f"{self.cls.__name__}#{self.number}"

    @property
    def run_flag(self) -> str:
        return f"run {self.id}"

    @property
    def attributes(self) -> Mapping[str, Any]:
        return {} if self.obj is None else vars(self.obj)

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a plain attribute of the instance or its class, never one that falls through to the learner.

        Of properties only those are asked that fastai asks as often as it likes, when it sorts and names callbacks: a
        `run` may draw a random number, and then this would change the run.
        """
        if name in self.attributes:
            return self.attributes[name]
        found = static(self.cls, name, default)
        if not isinstance(found, property):
            return found
        if self.obj is None or name not in ("order", "name"):
            return default
        try:
            return getattr(self.obj, name, default)
        except Exception:  # a user's broken property must not cost the map
            return default

    @property
    def name(self) -> str:
        """Return the learner's attribute that holds it: `gradient_clip` for GradientClip."""
        if self.obj is not None and static(self.cls, "name") is not vars(Callback)["name"]:
            return str(self.setting("name", ""))
        return str(camel2snake(self.cls.__name__.removesuffix("Callback") or "callback"))

    @property
    def label(self) -> str:
        try:
            return self.cls.__name__ if self.obj is None else repr(self.obj)
        except Exception:  # a user's broken __repr__ must not cost the map
            return self.cls.__name__


@dataclass(frozen=True, slots=True)
class Found:
    """What fastai calls for one callback at one event: the function and, where it is not the callback's own, whose."""

    target: Any
    method: str
    notes: tuple[str, ...] = ()
    dynamic: bool = False


def bind(learn: Learner, members: Iterable[Member], events: Iterable[str]) -> Binding:
    """Return the binding of `members` at `events`, in fastai's order: by `order`, then as they were added."""
    ordered = _sorted(members)
    reasons = _reasons(ordered)
    unsure = _own_dispatch(learn)
    names = {member.name for member in ordered}
    handlers = {
        event: tuple(
            replace(handler, needs=(*unsure, *handler.needs))
            for handler in _handlers(learn, event, ordered, reasons, names)
        )
        for event in events
    }
    resets = {"after_fit": tuple((member.run_flag, True) for member in ordered)}
    return Binding({event: found for event, found in handlers.items() if found}, resets)


def _handlers(
    learn: Learner, event: str, ordered: Iterable[Member], reasons: Mapping[Member, str], names: set[str]
) -> Iterable[Handler]:
    shadowed = shadow(learn, event)
    for member in ordered:
        own_call = _own_call(member)
        found = find(member, event, shadowed)
        if own_call is not None:
            yield _handler(member, event, Found(own_call, "__call__"), reasons[member], names, learn)
        if found is not None:
            yield _handler(member, event, found, reasons[member], names, learn)


def find(member: Member, event: str, shadowed: Found | None) -> Found | None:
    """Return what `getattr(callback, event)` gives, found without running code of the callback, learner or model.

    The same places as fastai's: the instance, its class, then (by delegation) what the learner or its model has.
    """
    if event in member.attributes:
        return Found(member.attributes[event], event, _callable_note(member.attributes[event], event))
    own = static(member.cls, event, _MISSING)
    if own is not _MISSING:
        target = own.__func__ if isinstance(own, (staticmethod, classmethod)) else own
        return Found(target, event, _callable_note(target, event))
    target = static(member.cls, "__getattr__")
    if target is not vars(GetAttr)["__getattr__"]:
        return Found(target, event, (f"{member.cls.__name__}.__getattr__ decides whether there is a handler",), True)
    extra = static(member.cls, "_xtra")
    return shadowed if extra is None or event in extra else None


def shadow(learn: Learner, event: str) -> Found | None:
    """Return the attribute of learner or model that callbacks without a handler of their own fall through to."""
    for holder, path in ((learn, "learn"), (vars(learn).get("model"), "learn.model")):
        target = _attribute(holder, event)
        if target is not _MISSING:
            kind = type(holder).__name__
            note = (
                f"not this callback's own: {path}.{event} (of {kind}) has the name of an event, and callbacks pass "
                f"look-ups that they cannot answer on to the learner and its model; fastai really calls it here"
            )
            return Found(target, f"{path}.{event}", (note, *_callable_note(target, event)))
    return None


def _attribute(holder: object, name: str) -> Any:
    if holder is None:
        return _MISSING
    own = getattr(holder, "__dict__", {})
    for store in (own, *(own.get(part) or {} for part in ("_parameters", "_buffers", "_modules"))):
        if name in store:
            return store[name]
    return static(type(holder), name, _MISSING)


def static(cls: type, name: str, default: Any = None) -> Any:
    """Return a class attribute as it stands in its class: `inspect.getattr_static`, in a tenth of its time."""
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return default


def _callable_note(target: object, event: str) -> tuple[str, ...]:
    if callable(target) or isinstance(target, property):
        return ()
    return (f"{event} is {type(target).__name__}, which cannot be called: fastai fails here",)


def _own_call(member: Member) -> Callable[..., Any] | None:
    own = static(member.cls, "__call__")
    return None if own is vars(Callback)["__call__"] else own


def _handler(member: Member, event: str, found: Found, reason: str, names: set[str], learn: Learner) -> Handler:
    done = effects(found.target, member.cls, VOCABULARY)
    return Handler(
        id=member.id,
        callback=member.cls.__name__,
        label=member.label,
        event=event,
        method=found.method,
        reason=reason,
        origin=member.origin,
        mine=member.mine,
        place=place(found.target),
        facts=tuple(_facts(member, found, done)),
        needs=tuple(_needs(member, event, found)),
        sets=tuple(_sets(member, done, names, learn)),
        raises=tuple(_raises(member, event, done)),
        nested=done.nested(NESTING),
    )


def _facts(member: Member, found: Found, done: Effects) -> Iterable[Fact]:
    declared = doc(found.target)
    if declared:
        yield Fact("doc", declared, "declared")
    if done.summary:
        yield Fact("effect", done.summary, "inferred")
    if reason := waits(found.target, member.cls, WAITING):
        yield Fact("wait", reason, "inferred")
    for note in found.notes:
        yield Fact("note", note, "inferred")
    if changed := [item.target for item in done.items if _changes_loop(item)]:
        yield Fact("note", f"{CHANGING}: {', '.join(dict.fromkeys(changed))}", "inferred")


CHANGING = "changes the loop while it runs"
"""How the note begins of a handler that adds or removes callbacks, switches others off, or swaps the data."""


def changed(handler: Handler) -> list[str]:
    """Return what of the loop a handler changes while it runs, as its note says: `["learn.dls"]`."""
    notes = [fact.text for fact in handler.facts if fact.kind == "note" and fact.text.startswith(CHANGING)]
    return [name for note in notes for name in note.removeprefix(f"{CHANGING}: ").split(", ")]


def _changes_loop(item: Effect) -> bool:
    if item.kind == "calls":
        return item.on == "learner" and item.target.startswith(("learn.add_cb", "learn.remove"))
    if item.kind != "writes":
        return False
    others = item.target.startswith("learn.") and item.target.endswith((".run", ".run_train", ".run_valid", ".order"))
    return others or item.target in ("self.order", "learn.n_epoch", "learn.dl", "learn.dls", "learn.cbs")


def _needs(member: Member, event: str, found: Found) -> Iterable[Need]:
    """What fastai's `Callback.__call__` asks before it calls a handler; an own `__call__` asks what it likes."""
    if found.method == "__call__":
        return
    if _own_call(member) is not None:
        yield Need(f"called by {member.id}", True, f"{member.cls.__name__}.__call__ decides")
        return
    if found.dynamic:
        yield Need(f"found by {member.id}", True, f"{member.cls.__name__}.__getattr__ decides")
    if isinstance(static(member.cls, "run"), property):
        yield Need(f"run by {member.id}", True, f"{member.cls.__name__}.run decides each time")
    else:
        yield Need(member.run_flag, True, "run is False")
    if member.leaves:
        yield Need(f"kept {member.id}", True, "the loop's own methods remove it on their way")
    if event not in core._inner_loop:
        return
    if changing := changes(member):
        decides = " and ".join(changing)
        yield Need(f"wanted {member.id}", True, f"its own {decides} decides, which the run may change")
        return
    train, valid = _switch(member, "run_train"), _switch(member, "run_valid")
    if not train and not valid:
        yield Need("never", True, "run_train and run_valid are False")
    elif not valid:
        yield Need("training", True, "run_valid is False: skipped while validating")
    elif not train:
        yield Need("training", False, "run_train is False: skipped while training")


SWITCHES = ("run_train", "run_valid", "training")
"""What fastai asks of a callback before each inner event; assigned during the run, the answer is only known then."""


def changes(member: Member) -> tuple[str, ...]:
    """Return those of `SWITCHES` that the callback's handlers assign, that a property computes, or that is its own."""
    own = [event for event in core._events if static(member.cls, event) is not None]
    read = [effects(static(member.cls, event), member.cls, VOCABULARY) for event in own]
    return tuple(
        name
        for name in SWITCHES
        if any(done.assigned(name, "callback") is not None for done in read)
        or isinstance(static(member.cls, name), property)
        or (name == "training" and (name in member.attributes or static(member.cls, name) is not None))
    )


def _switch(member: Member, name: str) -> bool:
    try:
        return bool(member.setting(name, True))
    except Exception:  # a tensor of several values, say: fastai fails on it too
        return True


def _sets(member: Member, done: Effects, names: set[str], learn: Learner) -> Iterable[tuple[str, bool | None]]:
    written = done.assigned("training", "learner")
    if written is not None:
        yield "training", _constant(written)
    elif done.nested(NESTING):
        yield "training", None
    own = done.assigned("run", "callback")
    if own is not None:
        yield member.run_flag, _known(own, names, learn)


def _constant(node: ast.expr) -> bool | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, bool) else None


def _known(node: ast.expr, names: set[str], learn: Learner) -> bool | None:
    """Return the value of an expression such as `not hasattr(self, "lr_finder") and rank_distrib() == 0`."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _known(node.operand, names, learn)
        return None if inner is None else not inner
    if isinstance(node, ast.BoolOp):
        parts = [_known(part, names, learn) for part in node.values]
        stop = isinstance(node.op, ast.Or)
        return stop if stop in parts else None if None in parts else not stop
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr" and len(node.args) == 2:
        return _has(node.args[1], names, learn)
    if ast.unparse(node) == "rank_distrib() == 0":
        return bool(rank_distrib() == 0)
    return _constant(node)


def _has(name: ast.expr, names: set[str], learn: Learner) -> bool | None:
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    return name.value in names or _attribute(learn, name.value) is not _MISSING


def _raises(member: Member, event: str, done: Effects) -> Iterable[Raise]:
    if issubclass(member.cls, SkipToEpoch) and event == "before_epoch":
        yield Raise("CancelEpochException", True, (Need(SKIPPED),), "self.epoch < self._skip_to")
        return
    if issubclass(member.cls, LRFinder) and event == "after_batch":
        yield Raise("CancelFitException", True, (Need(LAST),), "self.train_iter >= self.num_it")
    for item in done.items:
        if item.kind == "raises" and not (issubclass(member.cls, LRFinder) and "num_it" in item.when):
            yield Raise(item.target, item.certain, (), item.when)


def _sorted(members: Iterable[Member]) -> list[Member]:
    listed = list(members)
    try:
        return sorted(listed, key=lambda member: member.setting("order", 0))
    except TypeError as error:
        orders = ", ".join(f"{member.cls.__name__} {member.setting('order', 0)!r}" for member in listed)
        raise BadCallback(f"fastai cannot sort these by order ({error}): {orders}. Give each a number.") from None


def _reasons(ordered: list[Member]) -> dict[Member, str]:
    """Say why each callback stands where it stands: its `order`, and among equals when it was added."""
    reasons = {}
    for order, group in itertools.groupby(ordered, key=lambda member: member.setting("order", 0)):
        equals = list(group)
        for at, member in enumerate(equals):
            if len(equals) == 1:
                reasons[member] = f"order {order}"
            elif at == 0:
                reasons[member] = f"order {order}, added before {equals[1].cls.__name__}"
            else:
                reasons[member] = f"order {order}, added after {equals[at - 1].cls.__name__}"
    return reasons


def _own_dispatch(learn: Learner) -> tuple[Need, ...]:
    """Return an open condition where the learner calls its callbacks in a way of its own."""
    for name in ("__call__", "_call_one"):
        if static(type(learn), name) is not vars(Learner)[name] or name in vars(learn):
            return (Need("called at all", True, f"{type(learn).__name__}.{name} decides"),)
    return ()
