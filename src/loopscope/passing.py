"""The arguments of a method that a user's class has in the place of a framework's, under the framework's names.

Constraint: an override is taken to pass on what it is given; nothing of it is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def passed_on(own: Any, stock: Any, arguments: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of a call of `own` by the names that `stock` has for them.

    `passed_on(Mine.fit, Trainer.fit, {"args": (net, loader)})` is `{"model": net, "train_dataloaders": loader}` where
    `Mine.fit` takes `*args`. What `stock` has no name for is left out. Both are functions of classes; if they are one
    and the same, or one has no signature, the arguments are returned as they are.
    """
    try:
        names, parameters = _names(stock), inspect.signature(own).parameters
    except (TypeError, ValueError):
        return dict(arguments)
    if own is stock or set(_names(own)) == set(names):
        return dict(arguments)
    star = next((name for name, one in parameters.items() if one.kind is one.VAR_POSITIONAL), "")
    before = list(parameters).index(star) - 1 if star else 0  # without self
    values: Any = arguments.get(star, ())
    found = {**arguments, **dict(zip(names[before:], values, strict=False))}
    return {name: found[name] for name in names if name in found}


def _names(function: Any) -> list[str]:
    """Return the names of the parameters of a method, without the object itself."""
    return list(inspect.signature(function).parameters)[1:]
