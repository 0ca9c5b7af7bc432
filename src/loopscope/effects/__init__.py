"""What a function does to a training loop: what it writes, calls, raises and deletes, read from its syntax tree.

Nothing is run and nothing is imported; an attribute is only ever looked up where it is stored. What the reader cannot
follow is left out and makes the result incomplete: it says less, never something else. Which framework it is about
comes in as a `Vocabulary`.
"""

from __future__ import annotations

import inspect
from functools import lru_cache

from loopscope.effects.data import LONGEST, ROOM, Effect, Effects, Vocabulary
from loopscope.effects.line import summary
from loopscope.effects.reading import SELF, Reading, bound_arguments, names_of_call, required_count
from loopscope.effects.things import Frame, Path
from loopscope.source import is_lasting, syntax

__all__ = ["LONGEST", "ROOM", "Effect", "Effects", "Vocabulary", "effects"]


def effects(function: object, owner: type, vocabulary: Vocabulary) -> Effects:
    """Return what `function` does as a handler of `owner`: `effects(GradientClip.before_step, GradientClip, FASTAI)`.

    `function` may be anything that a framework calls: a method, a bound one, a partial, a lambda, a callable object.
    What has no readable source gives `Effects()`. Raises nothing.
    """
    read = _effects if is_lasting(function) else _read  # others again each time: a cache must not keep a learner alive
    return read(function, owner, vocabulary)


@lru_cache(maxsize=8192)
def _effects(function: object, owner: type, vocabulary: Vocabulary) -> Effects:
    return _read(function, owner, vocabulary)


def _read(function: object, owner: type, vocabulary: Vocabulary) -> Effects:
    bound, words, plain = bound_arguments(function)
    found = None if plain is None else syntax(plain)
    if plain is None or found is None:
        return Effects()
    if plain.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return Effects((), "only makes a generator or coroutine: nothing in it runs", True)
    reading = Reading(owner, vocabulary, plain)
    things = [reading.known(value) for value in bound]
    named = {name: reading.known(value) for name, value in words.items()}
    if all(thing.root != "self" for thing in things) and len(things) < required_count(found.node, named):
        things.append(SELF)
    env = names_of_call(found.node, things, named)
    try:
        reading.run(Frame(plain, found.node, env, reading.defining(plain)), Path())
    except RecursionError:
        reading.complete = False
    items = tuple(reading.all_items())
    line = summary(reading.found, list(reading.reads), vocabulary, reading.complete)
    return Effects(items, line, reading.complete, tuple(reading.assigned))
