"""What a function does to a training loop: what it writes, calls, raises and deletes, read from its syntax tree.

Nothing is run and nothing is imported; an attribute is only ever looked up where it is stored. What the reader cannot
follow is left out and makes the result incomplete: it says less, never something else. Which framework it is about
comes in as a `Vocabulary`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import lru_cache

from loopscope.effects.data import LONGEST, ROOM, Effect, Effects, On, Vocabulary
from loopscope.effects.given import Nobody, bound_arguments, names_of_handler, required_count
from loopscope.effects.line import summary
from loopscope.effects.reading import Reading
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
    if is_lasting(function):  # others again each time: a cache must not keep a learner alive
        found, lasting = _kept(*asked)
        if lasting:
            return found
    return _read(*asked)[0]


@lru_cache(maxsize=8192)
def _kept(function: object, owner: type, vocabulary: Vocabulary, passed: tuple[str, ...]) -> tuple[Effects, bool]:
    return _read(function, owner, vocabulary, passed)


def _read(function: object, owner: type, vocabulary: Vocabulary, passed: tuple[str, ...]) -> tuple[Effects, bool]:
    """Return the effects, and whether they stay what they are: they do not where a global object was looked at."""
    bound, words, plain = bound_arguments(function)
    found = None if plain is None else syntax(plain)
    if plain is None or found is None:
        return Effects(), True
    if plain.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return Effects((), "only makes a generator or coroutine: nothing in it runs", True), True
    reading = Reading(owner, vocabulary, plain)
    things = [reading.known(value) for value in bound]
    named = {name: reading.known(value) for name, value in words.items()}
    if all(thing.root != "self" for thing in things) and len(things) < required_count(found.node, named):
        things += [reading.self] * reading.takes_self(plain, found.node)
    env = names_of_handler(found.node, things, named, vocabulary, passed)
    try:
        reading.run(Frame(plain, found.node, env, reading.defining(plain)), Path())
    except RecursionError:
        reading.complete = False
    items = tuple(reading.all_items())
    line = summary(reading.found, list(reading.reads), vocabulary, reading.complete and reading.told)
    called = tuple(found.method for found in reading.found if found.method)
    return Effects(items, line, reading.complete, tuple(reading.assigned), called), reading.lasting
