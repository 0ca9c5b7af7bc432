"""What a reader of a fastai map must know beside the tree: overrides, what is missing, when lr_find ends."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from fastai.callback.core import Callback, event
from fastai.callback.schedule import LRFinder
from fastai.learner import Learner
from torch import nn

from loopscope.adapters.fastai.binding import CHANGING, Member, static
from loopscope.adapters.fastai.dialect import FastaiDialect
from loopscope.evaluate import Built, Known, Unknown
from loopscope.model import Binding, Event, Handler, Node, Scope
from loopscope.reader import Reader
from loopscope.source import place


def fired(node: Node) -> Iterator[str]:
    """Yield the name of every event in a part of the protocol, in the order in which they stand."""
    if isinstance(node, Event):
        yield node.name
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from fired(child)


def notes(learn: Learner, reader: Reader, dialect: FastaiDialect, binding: Binding, root: Scope) -> Iterator[str]:
    for function in reader.foreign:
        where = place(function)
        yield (
            f"{type(learn).__name__} has its own {function.__name__} ({_short(str(where))}): "
            f"this part of the loop is read from it, not from fastai"
        )
    for name in reader.unread:
        yield f"the source of {name} cannot be read: the events that it fires are not shown"
    for text in reader.unfollowed:
        yield f"{text} is handed the learner and is not followed: what it fires is not shown"
    if not any(fired(root)):
        yield "no event was found in this call: what it runs could not be read"
    for name in ("__call__", "_call_one"):
        found = inspect.getattr_static(type(learn), name)
        if found is not vars(Learner)[name]:
            at = _short(str(place(found)))
            yield f"{type(learn).__name__} has its own {name} ({at}): it may call others, or in another order"
    for name in dict.fromkeys(fired(root)):
        if not hasattr(event, name):
            yield f"{name} is fired, but fastai.callback.core.event lacks it: fastai stops there with 'missing {name}'"
    for holder, stock in ((learn, Learner), (vars(learn).get("model"), nn.Module)):
        answers = static(type(holder), "__getattr__")
        if holder is not None and answers is not None and answers is not static(stock, "__getattr__"):
            yield (
                f"{type(holder).__name__} answers look-ups by a __getattr__ of its own: what it answers to the name "
                f"of an event is called by every callback, and is not shown"
            )
    for event_name in dict.fromkeys(fired(root)):
        for handler in binding.at(event_name):
            yield from _changes(handler)
    for value in dialect.added:
        if isinstance(value, Known) and not isinstance(value.value, (Callback, type)):
            yield f"{value.value!r} is given as a callback and is none: fastai fails there"
        if isinstance(value, Unknown):
            yield f"the callbacks in {value.text!r} are only known while the run goes on"
    if "before_train" in set(fired(root)) and not any(
        flag == "training"
        for event in ("before_fit", "before_epoch", "before_train")
        for h in binding.at(event)
        for flag, _ in h.sets
    ):
        state = "True" if learn.training else "False"
        yield f"no callback sets learn.training (TrainEvalCallback does): it stays {state}" + (
            "" if learn.training else ", so no backward pass and no optimizer step will run"
        )
    for value in dialect.added:
        if isinstance(value, Built) and issubclass(value.cls, LRFinder):
            yield _end_of_lr_find(value, batches_of(dialect, learn))


def _changes(handler: Handler) -> Iterator[str]:
    """Yield what a handler does to the loop itself, as its source shows: from there on the map may not hold."""
    for fact in handler.facts:
        if fact.kind == "note" and fact.text.startswith(CHANGING):
            yield f"{handler.callback}.{handler.event} {fact.text}: from there on the map may not hold"


def unheard(members: Iterable[Member], binding: Binding, root: Scope) -> Iterator[str]:
    """Yield a note for each callback of one's own that nothing in this run calls: fastai ignores misspelt events."""
    events = set(fired(root))
    heard = {handler.id for name in events for handler in binding.at(name)}
    for member in members:
        if member.mine and member.id not in heard:
            near = ", ".join(_near_misses(member.cls, events))
            yield (
                f"nothing in this run calls {member.cls.__name__}: it handles none of the events that fire"
                f"{': ' if near else ''}{near}"
            )


def _near_misses(cls: type, events: Iterable[str]) -> Iterator[str]:
    for name, method in vars(cls).items():
        match = get_close_matches(name, list(events), 1) if callable(method) and not name.startswith("_") else []
        if match:
            yield f"{name} (did you mean {match[0]}?)"


def batches_of(dialect: FastaiDialect, learn: Learner) -> int | None:
    """Return the number of training batches of one epoch, None where the data has no length."""
    train = dialect.item(learn.dls, 0)
    return dialect.length(train.value) if isinstance(train, Known) else None


def asked_batches(finder: Built) -> int | None:
    """Return after how many batches LRFinder stops: 6 at least, whatever it is asked for; None where that is open."""
    asked = dict(finder.keywords).get("num_it")
    return max(6, asked.value) if isinstance(asked, Known) and isinstance(asked.value, int) else None


def _end_of_lr_find(finder: Built, batches: int | None) -> str:
    """Say when LRFinder ends its run."""
    number = asked_batches(finder)
    if number is None:
        after = "num_it batches"
    else:
        after = f"{number} batches" + (f" (in epoch {math.ceil(number / batches)})" if batches else "")
    return (
        f"LRFinder ends this run with CancelFitException in after_batch: after {after}, or sooner if the loss explodes"
    )


def _short(path: str) -> str:
    """Return a path below the current folder without that folder."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
