"""The model as plain JSON values and back, whole: `docs/loop-json.md` names every field.

Fields stand in the order in which the model declares them, keys of mappings in alphabetical order, so the text is
the same for the same loop.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from loopscope import model
from loopscope.model import Event, Scope, Step

KINDS: Mapping[str, type] = {"event": Event, "step": Step, "scope": Scope}
"""What a node of the protocol is called -> its class; JSON has no classes, so each node says its kind."""

LATER = frozenset(("how", "evidence", "own_flags", "inside", "turns"))
"""Fields that older texts lack; they then have the default."""

NAMES = {cls: kind for kind, cls in KINDS.items()}


def encode(value: Any) -> Any:
    """Return a part of the model as dicts, lists and plain values."""
    if dataclasses.is_dataclass(value):
        kind = {"kind": NAMES[type(value)]} if type(value) in NAMES else {}
        return {**kind, **{field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}}
    if isinstance(value, Mapping):
        return {key: encode(value[key]) for key in sorted(value)}
    return [encode(one) for one in value] if isinstance(value, tuple) else value


def decode(value: Any, wanted: Any) -> Any:
    """Return what `encode` made into `value`, as an instance of the type `wanted`."""
    if isinstance(wanted, str):
        wanted = _named(wanted)
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return None if value is None else decode(value, _chosen(value, arguments))
    if origin is tuple:
        _expect(value, list)
        types = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(decode(one, kind) for one, kind in zip(value, types, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(value, dict)
        return {key: decode(one, arguments[1]) for key, one in value.items()}
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return _made(value, wanted)
    if value not in arguments if origin is Literal else type(value) is not wanted:
        raise TypeError(f"{value!r} is no {wanted}")
    return value


def _made(value: Any, wanted: type) -> Any:
    _expect(value, dict)
    if wanted in NAMES and value["kind"] != NAMES[wanted]:
        raise TypeError(f"{value['kind']!r} is no {NAMES[wanted]}")
    kinds = _fields(wanted).items()
    return wanted(**{name: decode(value[name], kind) for name, kind in kinds if name in value or name not in LATER})


@functools.cache
def _named(text: str) -> Any:
    """Return the type that stands in quotes inside another one; Python 3.10 leaves it to us, drop this with 3.10."""
    return get_type_hints(SimpleNamespace(__annotations__={"it": text}), vars(model))["it"]


@functools.cache
def _fields(wanted: type) -> dict[str, Any]:
    return get_type_hints(wanted, vars(model))


def _chosen(value: Any, arguments: tuple[Any, ...]) -> Any:
    """Return which type of a union `value` has: by its kind, or the one that is not None."""
    if isinstance(value, dict) and set(arguments) & set(NAMES):
        return KINDS[value["kind"]]
    return next(one for one in arguments if one is not type(None))


def _expect(value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
