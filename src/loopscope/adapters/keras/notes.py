"""What a reader of a Keras map must know beside the tree: what fails, what is ignored, what runs apart."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from keras.callbacks import CallbackList

from loopscope.adapters.keras.binding import misfit
from loopscope.adapters.keras.members import APART, HOOKS, Member, Members
from loopscope.adapters.keras.reading import own
from loopscope.model import Binding, Event, Node, Scope
from loopscope.source import place

LOOPS = ("fit", "evaluate", "predict", "make_train_function", "make_test_function", "make_predict_function")
"""The methods that make the loop, by run; a model's own one is not read."""

NEEDS_COMPILE = ("fit", "evaluate")


def fired(node: Node) -> Iterator[Event]:
    """Yield every event in a part of the protocol, in the order in which they stand."""
    if isinstance(node, Event):
        yield node
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from fired(child)


def of_model(model: Any, run: str, validates: bool) -> Iterator[str]:
    """Yield what the model itself makes of the run: overridden loops, what is missing or not supported."""
    used = {run, *(("evaluate",) if validates else ())}
    for name in LOOPS:
        short = name.removeprefix("make_").removesuffix("_function")
        mine = own(model, name) if {"train": "fit", "test": "evaluate"}.get(short, short) in used else None
        if mine is not None:
            yield (
                f"{type(model).__name__} has its own {name} ({_short(str(place(mine)))}), which may do anything: "
                f"the map shows what Keras's own does"
            )
    if run in NEEDS_COMPILE and not getattr(model, "compiled", False):
        yield f"the model is not compiled: {run} fails at once. Type model.compile(optimizer=..., loss=...) before it."
    steps = getattr(model, "steps_per_execution", 1)
    if steps > 1 and backend() == "torch" and getattr(model, f"{MODES[run]}_function", None) is None:
        yield (
            f"steps_per_execution={steps}: with the backend torch Keras refuses more than 1 and fails before "
            f"on_{MODES[run]}_begin. Compile without it."
        )
    if run == "fit":
        yield from _of_optimizer(model)


MODES = {"fit": "train", "evaluate": "test", "predict": "predict"}


def _of_optimizer(model: Any) -> Iterator[str]:
    if getattr(model, "_jit_compile", None):
        yield "jit_compile=True: a whole train_step is one compiled call, in which its parts cannot be told apart"
    every = getattr(getattr(model, "optimizer", None), "gradient_accumulation_steps", None)
    if every:
        yield (
            f"the optimizer adds up the gradients of {every} batches (gradient_accumulation_steps): only every "
            f"{every}th of its steps changes the parameters, and no event tells which"
        )


def of_backend() -> Iterator[str]:
    if backend() != "torch":
        yield f"the backend is {backend()}: the map is tested with torch only"


def backend() -> str:
    import keras

    return str(keras.backend.backend())


def of_members(found: Members, callbacks: object, binding: Binding, root: Scope) -> Iterator[str]:
    """Yield what is odd about the callbacks: what is none, what Keras ignores, what nothing calls."""
    yield from found.bad
    events = {event.name: event for event in fired(root)}
    yield from _of_given(found, root)
    for member in found.members:
        if member.origin == "default":
            continue
        yield from _misspelt(member)
        yield from _misfits(member, events)
        if isinstance(member.obj, CallbackList):
            yield f"{member.id} is a CallbackList inside of the list: the callbacks that it calls are not shown"
        elif not any(handler.id == member.id for name in events for handler in binding.at(name)):
            handled = [name for name in HOOKS if member.found(name) is not None]
            yield f"nothing in this run calls {member.id}: it handles {' and '.join(handled) or 'no event at all'}"
    yield from _of_pool(found, callbacks, events.values(), binding)


def _of_given(found: Members, root: Scope) -> Iterator[str]:
    if found.given is None:
        return
    yield "a CallbackList is passed: Keras adds neither History nor ProgbarLogger, and does not tell it the model"
    if type(found.given) is not CallbackList:
        yield f"{type(found.given).__name__} is a CallbackList of its own: it may call others, or in another order"
    model = getattr(found.given, "_model", None)
    if root.name == "fit" and getattr(found.given, "_history", None) is None and not hasattr(model, "history"):
        yield (
            "without a History fit fails at its very end (AttributeError: history), unless the model was trained "
            "before. Type CallbackList(..., add_history=True, model=model)."
        )


def _misspelt(member: Member) -> Iterator[str]:
    names = [name for base in member.cls.__mro__ if not _is_of_keras(base) for name in vars(base)]
    for name in dict.fromkeys([*names, *member.attributes]):
        if name in HOOKS or name.startswith("__"):
            continue
        target = member.attributes.get(name, getattr(member.cls, name, None))
        if not inspect.isroutine(target):
            continue
        meant = name.startswith("on_")  # nobody calls a method of a callback so for another reason
        near = get_close_matches(name, HOOKS, 3, 0.5) if meant else get_close_matches(name, HOOKS, 1, 0.8)
        if near or meant:
            hint = f": did you mean {' or '.join(near)}?" if near else ""
            yield f"{member.cls.__name__}.{name} is no hook, and Keras ignores it{hint}"


def _is_of_keras(cls: type) -> bool:
    return cls is object or cls.__module__.partition(".")[0] == "keras"


def _misfits(member: Member, events: Iterable[str]) -> Iterator[str]:
    for event in events:
        found = member.found(event)
        if found is not None and (wrong := misfit(member, event, found)):
            yield f"{member.id} at {event}: {wrong}"


WAITS = {APART["train"]: "on_epoch_end", APART["test"]: "on_test_end", APART["predict"]: "on_predict_end"}
"""Event of the pool -> the event before which Keras waits for what is not done."""


def _of_pool(found: Members, callbacks: object, events: Iterable[Event], binding: Binding) -> Iterator[str]:
    pooled = [event.name for event in events if event.how == "apart" and binding.at(event.name)]
    names = " and ".join(dict.fromkeys(pooled))
    if not names:
        return
    waits = " and ".join(dict.fromkeys(WAITS[name] for name in pooled))
    yield (
        f"the handlers of {names} are called by a pool of threads while the loop goes on; Keras waits for them "
        f"before {waits}, and their exceptions surface there or at a later batch"
    )
    listed = isinstance(callbacks, (list, tuple)) or not callbacks or found.given is not None
    unseen = [one for one in found.members if one.origin == "callbacks" and any(one.found(name) for name in pooled)]
    if unseen and not listed:
        yield (
            f"callbacks is a {type(callbacks).__name__}: only in a list or tuple does Keras see that "
            f"{unseen[0].cls.__name__} handles {names}, and then calls it in the main thread. "
            f"Type callbacks=[...]."
        )


def of_version(version: str, tested: tuple[str, str]) -> Iterator[str]:
    least, below = tested
    if not _numbers(least) <= _numbers(version) < _numbers(below):
        yield f"keras {version} is not among the tested versions (from {least}, below {below}): the map may be wrong"


def is_known(version: str) -> bool:
    """Return whether this is Keras 3, or newer: what came before is another library under the same name."""
    return _numbers(version) >= (3,)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:3]
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)


def _short(path: str) -> str:
    """Return a path below the current folder without that folder."""
    return path.removeprefix(os.getcwd() + os.sep)
