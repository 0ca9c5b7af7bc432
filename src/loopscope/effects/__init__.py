"""What a function does to a training loop: what it writes, calls, raises and deletes, read from its syntax tree.

Nothing is run and nothing is imported; an attribute is only ever looked up where it is stored. What the reader cannot
follow is left out and makes the result incomplete: it says less, never something else. Which framework it is about
comes in as a `Vocabulary`.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from types import FunctionType, MethodType

from loopscope.effects.data import LONGEST, ROOM, Effect, Effects, On, Vocabulary
from loopscope.effects.given import Nobody, bound_arguments, names_of_handler, required_count, static
from loopscope.effects.line import summary
from loopscope.effects.reading import Reading, still
from loopscope.effects.things import Frame, Path
from loopscope.source import is_lasting, syntax

__all__ = ["LONGEST", "ROOM", "Effect", "Effects", "On", "Vocabulary", "effects"]


def effects(function: object, owner: type | None, vocabulary: Vocabulary, *, passed: Sequence[str] = ()) -> Effects:
    """Return what `function` does as a handler of `owner`: `effects(GradientClip.before_step, GradientClip, FASTAI)`.

    `function` may be anything that a framework calls: a method, a bound one, a partial, a lambda, a callable object;
    `owner` is None for a plain function. `passed` are the arguments that the framework gives by place, as
    `vocabulary.parameters` calls them, whatever the function's own names are: `passed=("trainer", "pl_module")`;
    without it they are known by the function's names alone.
    What has no readable source gives `Effects()`. Raises nothing.
    """
    asked = (function, owner or Nobody, vocabulary, tuple(passed))
    instance, plain = _taken_apart(function)
    if plain is None or not is_lasting(plain):
        return _read(*asked)[0]
    cls: type = type(instance)
    kept = _kept(plain, cls, *asked[1:])
    for seen, found in kept:
        if still(seen, instance, vocabulary):
            return found
    found, looked_up = _read(*asked)
    if looked_up is not None:
        kept[:] = [(looked_up, found), *kept[:7]]
    return found


Seen = Mapping[tuple[FunctionType | None, str], object]


@lru_cache(maxsize=8192)
def _kept(*asked: Hashable) -> list[tuple[Seen, Effects]]:
    """Return what was read of a function before, with what was looked up for it: never an object of a program's."""
    return []


def _taken_apart(function: object) -> tuple[object, FunctionType | None]:
    """Return the object that a handler is bound to, and the function, which outlasts it."""
    bound: object = None
    if isinstance(function, MethodType):
        bound, function = function.__self__, function.__func__
    elif isinstance(call := static(type(function), "__call__"), FunctionType):
        bound, function = function, call
    return bound, function if isinstance(function, FunctionType) else None


def _read(
    function: object, owner: type, vocabulary: Vocabulary, passed: tuple[str, ...]
) -> tuple[Effects, Seen | None]:
    """Return the effects, and what was looked up for them by name; None where that may not be kept."""
    bound, words, plain = bound_arguments(function)
    found = None if plain is None else syntax(plain)
    if plain is None or found is None:
        return Effects(), {}
    if plain.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return Effects((), "only makes a generator or coroutine: nothing in it runs", True), {}
    reading = Reading(owner, vocabulary, plain)
    if bound and reading.is_theirs(plain, bound[0]):
        return _result(reading)
    things = [reading.known(value) for value in bound]
    named = {name: reading.known(value) for name, value in words.items()}
    if all(thing.root != "self" for thing in things) and len(things) < required_count(found.node, named):
        things += [reading.self] * reading.takes_self(plain, found.node)
    env = names_of_handler(found.node, things, named, vocabulary, passed)
    try:
        reading.run(Frame(plain, found.node, env, reading.defining(plain)), Path())
    except RecursionError:
        reading.complete = False
    return _result(reading)


def _result(reading: Reading) -> tuple[Effects, Seen | None]:
    items = tuple(reading.all_items())
    line = summary(reading.found, list(reading.reads), reading.vocabulary, reading.complete and reading.told)
    called = tuple(found.method for found in reading.found if found.method)
    return Effects(items, line, reading.complete, tuple(reading.assigned), called), reading.seen
