"""The callbacks of one run as Keras's CallbackList will hold them: flattened, with the defaults, and what runs apart.

Constraint: the same decisions as `CallbackList.__init__` makes, without building one, since that tells every callback
its model.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras
from keras.callbacks import Callback, CallbackList, History, ProgbarLogger

from loopscope.catalog.keras import EVENTS

NOTHING: Any = object()

FORWARDED = MappingProxyType(
    {
        name: called
        for name, method in vars(Callback).items()
        for called in (method.__code__.co_names if name.startswith("on_") else ())
        if called.startswith("on_")
    }
)
"""Event -> the hook that the base class's own method calls there: `on_train_batch_end` -> `on_batch_end`."""

HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
"""Every method of the base class that Keras, or the base class itself, calls."""

_FIRED = tuple(name for name in HOOKS if name not in FORWARDED.values())
EVENT_NAMES = (*(name for name in EVENTS if name in _FIRED), *(name for name in _FIRED if name not in EVENTS))
"""The events of the installed Keras, in the order in which they fire."""

APART = MappingProxyType(
    {"train": "on_train_batch_end", "test": "on_test_batch_end", "predict": "on_predict_batch_end"}
)
"""Mode -> its event that CallbackList may hand to a pool of threads."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What Keras calls for one callback at one event, and under which name; `target` is not bound."""

    target: Any
    method: str
    forwarded: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One callback of the run; `obj` is None for a default that `fit` itself will make."""

    cls: type
    obj: Any
    number: int
    reason: str
    origin: str = "callbacks"
    mine: bool = False

    @property
    def id(self) -> str:
        return f"{self.cls.__name__}#{self.number}"

    @property
    def attributes(self) -> Mapping[str, Any]:
        return getattr(self.obj, "__dict__", {})

    def found(self, event: str) -> Found | None:
        """Return what is called at `event`; None where it is only the base class's method, which does nothing."""
        target = resolved(self, event)
        if target is not vars(Callback).get(event):
            return None if target is NOTHING else Found(target, event)
        older = FORWARDED.get(event, "")
        target = resolved(self, older) if older else NOTHING
        return None if target is NOTHING or target is vars(Callback).get(older) else Found(target, older, True)


@dataclass(frozen=True, slots=True)
class Members:
    """The callbacks in calling order, those of their `*_batch_end` events that a pool calls, and what Keras chokes on.

    `given` says whether a `CallbackList` was passed, to which no default is added.
    """

    members: tuple[Member, ...]
    apart: frozenset[str] = frozenset()
    bad: tuple[str, ...] = ()
    given: Any = None


def resolved(member: Member, name: str) -> Any:
    """Return what `callback.<name>` would give, unbound and without running any code; `NOTHING` if there is none."""
    found = member.attributes.get(name, NOTHING)
    if found is NOTHING:
        found = static(member.cls, name, NOTHING)
    return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found


def static(cls: type, name: str, default: Any = None) -> Any:
    """Return a class attribute as it stands in its class."""
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return default


def gather(callbacks: object, own: list[Any], run: str, verbose: object) -> Members:
    """Return the members of a run: `gather([EarlyStopping()], [], "fit", "auto")`; `own` are one's own, behind them."""
    given = callbacks if isinstance(callbacks, CallbackList) else None
    held = _flat(callbacks) if given is None else list(given.callbacks)
    bad = tuple(_bad(callbacks)) if given is None else ()
    word = "the CallbackList" if given is not None else "callbacks"
    first = {id(one): n for n, one in reversed([*enumerate(held, 1)])}  # one that stands there twice is one callback
    members = [Member(type(one), one, first[id(one)], f"{nth(n)} in {word}") for n, one in enumerate(held, 1)]
    for one in own:
        number = len(members) + 1
        members.append(Member(type(one), one, number, f"{nth(number)} in {word}, as the last one given", "cbs", True))
    if given is not None:
        return Members(tuple(members), _as_configured(given), bad, given)
    members += _defaults(members, run, verbose)
    return Members(tuple(members), _apart(_listed(callbacks, own)), bad)


def _flat(callbacks: object) -> list[Any]:
    return list(keras.tree.flatten(callbacks)) if callbacks else []


def _listed(callbacks: object, own: list[Any]) -> Any:
    """Return what CallbackList looks through for overridden hooks: what was passed, if that is a list or tuple."""
    if not own:
        return callbacks
    return [*(callbacks if isinstance(callbacks, (list, tuple)) else _flat(callbacks)), *own]


def _bad(callbacks: object) -> Iterator[str]:
    """Yield what Keras fails on, with what to type instead."""
    if isinstance(callbacks, (list, tuple)):
        for one in callbacks:
            if isinstance(one, (list, tuple, dict)):
                yield (
                    f"callbacks holds a {type(one).__name__}: Keras looks for hooks on the {type(one).__name__} itself "
                    f"and fails (AttributeError). Type one flat list."
                )
    for one in _flat(callbacks):
        if isinstance(one, type):
            yield (
                f"the class {one.__name__} is given as a callback: Keras fails there. Type an instance: "
                f"callbacks=[{one.__name__}(...)]."
            )
        elif not isinstance(one, Callback) and not hasattr(type(one), "__getattr__"):
            lacking = [name for name in (*HOOKS, "set_model", "set_params") if not hasattr(type(one), name)]
            if lacking:
                yield (
                    f"{one!r} ({type(one).__name__}) is given as a callback and is none: it lacks {lacking[0]}, and "
                    f"Keras fails there. Type a keras.callbacks.Callback."
                )


def _defaults(members: list[Member], run: str, verbose: object) -> Iterator[Member]:
    number = len(members) + 1
    if run == "fit" and not any(issubclass(one.cls, History) and not _is_bar(one) for one in members):
        yield Member(History, None, number, "added by fit behind yours, since none of these is a History", "default")
        number += 1
    if verbose != 0 and not any(_is_bar(one) for one in members):
        yield Member(ProgbarLogger, None, number, f"added by {run} as the last, since verbose is not 0", "default")


def _is_bar(member: Member) -> bool:
    return issubclass(member.cls, ProgbarLogger)


def _as_configured(given: Any) -> frozenset[str]:
    return frozenset(event for mode, event in APART.items() if getattr(given, f"_async_{mode}", False))


def _apart(callbacks: object) -> frozenset[str]:
    """Return the events whose handlers a pool of threads calls: `CallbackList._configure_async_dispatch`."""
    if not getattr(sys.modules.get("keras.src.backend"), "IS_THREAD_SAFE", True):
        return frozenset()
    apart = set(APART.values())
    for one in callbacks if isinstance(callbacks, (list, tuple)) else ():
        if _is_safe(one):
            continue
        for hook in ("on_batch_end", *APART.values()):
            if not _is_default(one, hook):
                apart.discard("on_train_batch_end" if hook == "on_batch_end" else hook)
    return frozenset(apart)


def _is_safe(one: object) -> bool:
    try:
        return bool(getattr(one, "async_safe", False))
    except Exception:  # a user's property: Keras fails on it, too
        return False


def _is_default(one: object, hook: str) -> bool:
    """Return what `keras.src.utils.is_default` says of a bound hook: nobody has put another one in its place."""
    found = getattr(one, "__dict__", {}).get(hook, NOTHING)
    return bool(getattr(static(type(one), hook) if found is NOTHING else found, "_is_default", False))


def nth(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `4th`, … `11th`."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else last}"
