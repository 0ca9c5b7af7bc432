"""Who is called at each Keras event: the callbacks in the order of their list, and what each does there."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from loopscope.adapters.keras.members import Found, Member, static
from loopscope.adapters.keras.stopping import assigns
from loopscope.adapters.keras.vocabulary import STOPS, VOCABULARY, WAITING
from loopscope.handlers import said
from loopscope.model import Binding, Handler

ENDS = {
    "stop_training": "may end the run: it sets model.stop_training",
    "stop_evaluating": "may end the pass over the validation data: it sets model.stop_evaluating",
    "stop_predicting": "may end the run: it sets model.stop_predicting",
}

IN_THE_POOL = "called by a thread of CallbackList's pool, while the loop goes on"


def bind(members: Iterable[Member], events: Iterable[str], apart: Iterable[str]) -> Binding:
    """Return the binding of `members` at `events`; `apart` are the events that a pool of threads sees to."""
    listed, pooled = list(members), frozenset(apart)
    found = {event: tuple(_handlers(listed, event, event in pooled)) for event in events}
    return Binding({event: handlers for event, handlers in found.items() if handlers})


def _handlers(members: Iterable[Member], event: str, pooled: bool) -> Iterator[Handler]:
    for member in members:
        found = member.found(event)
        if found is not None:
            yield _handler(member, event, found, pooled)


def _handler(member: Member, event: str, found: Found, pooled: bool) -> Handler:
    all_notes = [*_notes(member, event, found), *([IN_THE_POOL] if pooled else [])]
    what = said(found.target, member.cls, VOCABULARY, waiting=WAITING, notes=all_notes, passed=_called(event)[1])
    return Handler(
        id=member.id,
        callback=member.cls.__name__,
        label=label(member),
        event=event,
        method=found.method,
        reason=_reason(member, event, found),
        origin=member.origin,
        mine=member.mine,
        place=what.place,
        facts=what.facts,
        raises=what.raises,
        nested=what.nested,
    )


def _reason(member: Member, event: str, found: Found) -> str:
    through = f"; reached through Callback.{event}, which calls {found.method}" if found.forwarded else ""
    return f"{member.reason}{through}"


def _notes(member: Member, event: str, found: Found) -> Iterator[str]:
    if wrong := misfit(member, event, found):
        yield wrong
    for name in sorted(assigns(found.target, member.cls, member.obj, STOPS.values())):
        yield ENDS[name]


def misfit(member: Member, event: str, found: Found) -> str:
    """Return why a handler cannot be called as Keras calls it, `""` if it can."""
    held = member.attributes.get(found.method, static(member.cls, found.method))
    binds = found.method not in member.attributes and hasattr(type(held), "__get__")
    if not callable(found.target):  # what a property gives is known only when it is asked
        return "" if binds else f"{found.method} is no function but {found.target!r}: Keras fails there"
    text, given, named = _called(event)
    first = (member.obj,) if binds and not isinstance(held, staticmethod) else ()
    try:
        inspect.signature(found.target).bind(*first, *given, **dict.fromkeys(named))
    except TypeError as error:
        return f"Keras fails there: it calls {found.method}({text}), which this one does not take ({error})"
    except ValueError:  # built in: no signature can be read
        return ""
    return ""


def _called(event: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return with what CallbackList calls a handler of `event`: as text, the names by place, and those by name."""
    if "_batch_" in event:
        return "batch, logs=logs", ("batch",), ("logs",)
    return ("epoch, logs", ("epoch", "logs"), ()) if "_epoch_" in event else ("logs", ("logs",), ())


def label(member: Member) -> str:
    """Return how a callback shows itself: its own `repr`, or its class with the plain values it was made with."""
    if member.obj is None:
        return member.cls.__name__
    try:
        if static(member.cls, "__repr__") is not object.__repr__:
            return repr(member.obj)
        return f"{member.cls.__name__}({', '.join(_made_with(member))})"
    except Exception:  # a user's broken __repr__ must not cost the map
        return member.cls.__name__


def _made_with(member: Member) -> Iterator[str]:
    for name, one in inspect.signature(member.cls).parameters.items():
        value = member.attributes.get(name, one.default)
        if isinstance(value, (str, int, float, bool)) and value != one.default:
            yield f"{name}={value!r}"
