"""Keras 3: which loop `model.fit`, `evaluate` or `predict` runs, and which callbacks stand at each of its events.

The loop is that of the installed trainer (backend torch), as often as the arguments say; who is called comes from the
callbacks as CallbackList would hold them, without building one. Verified against keras 3.15.1 by the conformance
suite. Constraint: the model, its callbacks and its data are looked at, never touched.
"""

from __future__ import annotations

import inspect
import os
import platform
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras.callbacks import Callback, CallbackList

from loopscope import collector
from loopscope.adapters.keras import notes
from loopscope.adapters.keras.arguments import Arguments, planned
from loopscope.adapters.keras.binding import bind
from loopscope.adapters.keras.calibrate import calibrate
from loopscope.adapters.keras.dispatch import DISPATCH, attach
from loopscope.adapters.keras.dispatch import model_of as dispatched
from loopscope.adapters.keras.examining import examine
from loopscope.adapters.keras.members import EVENT_NAMES, gather
from loopscope.adapters.keras.protocol import evaluate, fit, handed_over, predict
from loopscope.callbacks import Examined
from loopscope.catalog import described
from loopscope.catalog.keras import EVENTS
from loopscope.errors import BadCallback, BadValue, UnknownChoice
from loopscope.model import Loop

__all__ = [
    "DISPATCHING",
    "RUNS",
    "TESTED",
    "accepts",
    "adopt",
    "attach",
    "calibrate",
    "describe",
    "describe_call",
    "dispatched",
    "event_docs",
    "examined",
    "facts",
    "verify",
    "versions",
]

RUNS = ("fit", "evaluate", "predict")
"""The runs that `inspect` names: the methods of a model that call callbacks."""

TESTED = ("3.15", "3.16")
"""The versions of Keras that the tests hold the map against: from the first, below the second."""

DISPATCHING, verify, adopt = DISPATCH.codes, DISPATCH.verify, DISPATCH.adopt

SCOPES = MappingProxyType({"fit": fit, "evaluate": evaluate, "predict": predict})

ON_BATCH = ("train_on_batch", "test_on_batch", "predict_on_batch")


def event_docs() -> dict[str, str]:
    """Return every event of the installed Keras with its description."""
    return described(EVENTS, EVENT_NAMES)


def versions() -> dict[str, str]:
    """Return the versions that a map or a recording depends on."""
    name = notes.backend()
    version = getattr(sys.modules.get(name), "__version__", "")
    return {"keras": keras.__version__, name: str(version), "python": platform.python_version()}


def facts(obj: Any) -> dict[str, object]:
    """Return what a recording says of a model: its class and its device."""
    first = next(iter(obj.weights), None) if getattr(obj, "built", False) else None
    device = getattr(getattr(first, "value", None), "device", "")
    name = type(obj).__name__
    return {"cls": name, "model": name, "device": str(device), "framework": "keras"}


def accepts(obj: object) -> bool:
    """Return whether `obj` is a model of Keras 3."""
    return isinstance(obj, keras.Model) and notes.is_known(keras.__version__)


def describe(
    obj: Any,
    run: str,
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
    cbs: object = None,
    arguments: Mapping[str, object] = MappingProxyType({}),
) -> Loop:
    """Return the loop of `obj.<run>(**arguments, epochs=epochs, initial_epoch=start_epoch, callbacks=[..., *cbs])`.

    Raises `UnknownChoice` for a run that calls no callbacks, `BadValue` for an argument that it does not take or that
    makes no sense there, `BadCallback` for something in `cbs` that is no callback.
    """
    if run in ON_BATCH:
        raise UnknownChoice(f"{run} calls no callback, so there is no loop to show. Accepted: {', '.join(RUNS)}.")
    if run not in RUNS:
        raise UnknownChoice.of("run", run, RUNS)
    taken = inspect.signature(getattr(type(obj), run)).parameters
    more = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values())
    names = [name for name in taken if name not in ("self", "kwargs")]
    if unknown := [name for name in arguments if name not in names and not more]:
        raise BadValue(f"{run} takes no {unknown[0]}. Accepted: {', '.join(names)}.")
    given = dict(arguments)
    if run != "fit" and (epochs is not None or start_epoch):
        name, value = ("epochs", epochs) if epochs is not None else ("start_epoch", start_epoch)
        raise BadValue(f"{run} has no epochs (got {name}={value!r}). Leave {name} out.")
    if epochs is not None:
        given["epochs"] = _natural("epochs", epochs)
    if start_epoch:
        given["initial_epoch"] = _natural("start_epoch", start_epoch)
    return describe_call(obj, run, given, cbs)


def describe_call(obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Loop:
    """Return the loop of one call of `obj.<method>` with these arguments, by parameter name.

    `cbs` are further callbacks, marked as one's own: they stand behind those that are passed as `callbacks`.
    """
    if method not in RUNS:
        raise UnknownChoice.of("run", method, RUNS)
    with collector.paused():
        return _described(obj, method, Arguments.of(obj, method, arguments), _own(cbs))


def examined(obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Examined:
    """Return what rules read of the callbacks of the same call, beside its loop."""
    with collector.paused():
        asked = Arguments.of(obj, method, arguments)
        found = gather(asked.callbacks, _own(cbs), method, asked.verbose)
        return examine(obj, method, asked, found.members)


def _described(obj: Any, run: str, arguments: Arguments, own: list[Callback]) -> Loop:
    callbacks = arguments.callbacks
    found = gather(callbacks, own, run, arguments.verbose)
    plan, told = planned(obj, run, arguments, found)
    root = SCOPES[run](obj, plan)
    pooled = dict.fromkeys(event.name for event in notes.fired(root) if event.how == "apart")
    binding = bind(found.members, EVENT_NAMES, pooled)
    said = [
        *notes.of_version(keras.__version__, TESTED),
        *notes.of_backend(),
        *notes.of_model(obj, run, plan.valid is not None),
        *told,
        *notes.of_members(found, callbacks, binding, root),
    ]
    return Loop(
        framework="keras",
        subject=type(obj).__name__,
        run=run,
        call=arguments.text(own),
        root=root,
        binding=binding,
        docs={**event_docs(), **{handed_over(name): _HANDED.format(name) for name in pooled}},
        notes=tuple(dict.fromkeys(said)),
        versions=versions(),
        home=os.path.dirname(keras.__file__),
        own_flags=True,
    )


_HANDED = "The main thread gives {} to a pool of threads, and goes on."


def _own(cbs: object) -> list[Callback]:
    """Return `cbs` (a callback, a callback class, or a list of either) as instances."""
    several = [] if cbs is None else list(cbs) if isinstance(cbs, (list, tuple)) else [cbs]
    return [_instance(one) for one in several]


def _instance(one: object) -> Callback:
    if isinstance(one, Callback) and not isinstance(one, CallbackList):
        return one
    if not isinstance(one, type) or not issubclass(one, Callback):
        what = f"the class {one.__name__}" if isinstance(one, type) else f"{one!r} ({type(one).__name__})"
        raise BadCallback(
            f"{what} is no Keras callback. Accepted: a keras.callbacks.Callback, its class, or a list of either; "
            f"for plain functions type keras.callbacks.LambdaCallback(on_epoch_end=your_function)."
        )
    try:
        return one()
    except Exception as error:
        raise BadCallback(
            f"{one.__name__}() cannot be built without arguments ({type(error).__name__}: {error}). "
            f"Pass an instance: cbs={one.__name__}(...)."
        ) from error


def _natural(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadValue(f"{name}={value!r} is no whole number. Type {name}=1, say.")
    number = int(value.__index__())
    if number < 0:
        raise BadValue(f"{name}={number} is negative. Accepted: 0 or more.")
    return number
