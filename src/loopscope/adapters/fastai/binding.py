"""Who is called at each fastai event: the callbacks in calling order, what each does there and when it is skipped."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastai.callback import core
from fastai.callback.core import Callback
from fastai.learner import Learner, SkipToEpoch
from fastai.torch_core import rank_distrib
from fastcore.basics import GetAttr, camel2snake

from loopscope.adapters.fastai.vocabulary import NESTING, VOCABULARY
from loopscope.effects import Effects, effects
from loopscope.model import Binding, Fact, Handler, Need, Raise
from loopscope.source import doc, place

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
        """Return a plain attribute of the instance or its class, never one that falls through to the learner."""
        if name in self.attributes:
            return self.attributes[name]
        found = static(self.cls, name, default)
        if isinstance(found, property) and self.obj is not None:
            return getattr(self.obj, name, default)  # fastai reads it the same way when it sorts
        return found

    @property
    def name(self) -> str:
        """Return the learner's attribute that holds it: `gradient_clip` for GradientClip."""
        if self.obj is not None and static(self.cls, "name") is not vars(Callback)["name"]:
            return str(getattr(self.obj, "name", ""))
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
    ordered = sorted(members, key=lambda member: member.setting("order", 0))
    reasons = {member: _reason(member, ordered) for member in ordered}
    names = {member.name for member in ordered}
    handlers = {event: tuple(_handlers(learn, event, ordered, reasons, names)) for event in events}
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
        facts=tuple(_facts(found, done)),
        needs=tuple(_needs(member, event, found)),
        sets=tuple(_sets(member, done, names, learn)),
        raises=tuple(_raises(member, event, done)),
        nested=done.nested(NESTING),
    )


def _facts(found: Found, done: Effects) -> Iterable[Fact]:
    declared = doc(found.target)
    if declared:
        yield Fact("doc", declared, "declared")
    if done.summary:
        yield Fact("effect", done.summary, "inferred")
    for note in found.notes:
        yield Fact("note", note, "inferred")


def _needs(member: Member, event: str, found: Found) -> Iterable[Need]:
    """What fastai's `Callback.__call__` asks before it calls a handler; an own `__call__` asks what it likes."""
    if found.method == "__call__":
        return
    if _own_call(member) is not None:
        yield Need(f"called by {member.id}", True, f"{member.cls.__name__}.__call__ decides")
        return
    if found.dynamic:
        yield Need(f"found by {member.id}", True, f"{member.cls.__name__}.__getattr__ decides")
    yield Need(member.run_flag, True, "run is False")
    if event not in core._inner_loop:
        return
    train, valid = bool(member.setting("run_train", True)), bool(member.setting("run_valid", True))
    if not train and not valid:
        yield Need("never", True, "run_train and run_valid are False")
    elif not valid:
        yield Need("training", True, "run_valid is False: skipped while validating")
    elif not train:
        yield Need("training", False, "run_train is False: skipped while training")


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
    for item in done.items:
        if item.kind == "raises":
            yield Raise(item.target, item.certain, (), item.when)


def _reason(member: Member, ordered: list[Member]) -> str:
    """Say why a callback stands where it stands: its `order`, and among equals when it was added."""
    order = member.setting("order", 0)
    equals = [other for other in ordered if other.setting("order", 0) == order]
    if len(equals) == 1:
        return f"order {order}"
    at = equals.index(member)
    if at == 0:
        return f"order {order}, added before {equals[1].cls.__name__}"
    return f"order {order}, added after {equals[at - 1].cls.__name__}"
