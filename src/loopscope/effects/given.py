"""What a handler is given when it is called: itself, the learner, the model, a batch, by place and by name."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from loopscope.effects.data import Vocabulary
from loopscope.effects.names import dominant
from loopscope.effects.things import Thing
from loopscope.source import FunctionNode, unwrap


class Nobody:
    """The owner of a handler that is a plain function."""


def bound_arguments(function: object) -> tuple[list[object], dict[str, object], FunctionType | None]:
    """Return the arguments that a callable brings along, by place and by name, and the function that takes them."""
    arguments: list[object] = []
    words: dict[str, object] = {}
    for _ in range(100):
        if isinstance(function, MethodType):
            arguments.insert(0, function.__self__)
            function = function.__func__
        elif isinstance(function, partial):
            arguments[:0] = function.args
            words = {**function.keywords, **words}
            function = function.func
        elif isinstance(function, (staticmethod, classmethod)):
            function = function.__func__
        elif isinstance(function, FunctionType):
            return arguments, words, unwrap(function)
        else:
            call = None if isinstance(function, type) else static(type(function), "__call__")
            if not isinstance(call, FunctionType):
                break
            arguments.insert(0, function)
            function = call
    return arguments, words, None


def required_count(node: FunctionNode, named: Mapping[str, Thing]) -> int:
    """Return how many places a call has to fill: those with neither a default nor a name given."""
    places = [*node.args.posonlyargs, *node.args.args]
    return sum(place.arg not in named for place in places[: len(places) - len(node.args.defaults)])


def handed(name: str, vocabulary: Vocabulary, text: str = "") -> Thing:
    """Return what the framework hands over under a name: `handed("trainer", LIGHTNING)` -> the learner.

    What the vocabulary does not know is the loop's data all the same: whoever changes it changes what others get.
    """
    on = vocabulary.parameters.get(name, "data")
    return Thing(on, text or name, "learn" if on == "learner" else "given")


def names_of_handler(
    node: FunctionNode,
    things: Sequence[Thing],
    words: Mapping[str, Thing],
    vocabulary: Vocabulary,
    passed: Sequence[str],
) -> dict[str, Thing]:
    """Return the names of a handler that the framework calls: what it brings along, then what it is handed.

    `passed` says what comes by place, whatever the handler calls it. A default tells nothing: the framework may give
    that argument.
    """
    env = names_of_call(node, things, words)
    if vocabulary.owners:
        return env
    places = [*node.args.posonlyargs, *node.args.args][len(things) :]
    for argument in (*places, *node.args.kwonlyargs):
        if argument.arg not in words:
            env[argument.arg] = handed(argument.arg, vocabulary)
    env.update({place.arg: handed(name, vocabulary, place.arg) for place, name in zip(places, passed, strict=False)})
    for name, thing in env.items():
        if thing.root in ("learn", "given"):
            env[name] = replace(thing, text=name)
    if node.args.vararg is not None:
        rest = tuple(handed(name, vocabulary) for name in passed[len(places) :])
        env[node.args.vararg.arg] = Thing(dominant(rest), node.args.vararg.arg, items=rest, made=True)
    if node.args.kwarg is not None:
        env[node.args.kwarg.arg] = Thing("", node.args.kwarg.arg, "words")
    return env


def names_of_call(node: FunctionNode, things: Sequence[Thing], words: Mapping[Any, Thing]) -> dict[str, Thing]:
    """Return the names of a call: what is given, then the literal defaults, then the bare parameters.

    Where a call has `*` or `**` (a word without a name), that may be what a default stands for.
    """
    places = [*node.args.posonlyargs, *node.args.args]
    env = {a.arg: Thing(text=a.arg) for a in (*places, *node.args.kwonlyargs)}
    defaults = [
        *zip(reversed(places), reversed(node.args.defaults), strict=False),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]
    for argument, default in defaults:
        if isinstance(default, ast.Constant) and (things or words) and None not in words:
            env[argument.arg] = constant(default)
    env.update({argument.arg: thing for argument, thing in zip(places, things, strict=False)})
    env.update({name: thing for name, thing in words.items() if name in env})
    for rest in (node.args.vararg, node.args.kwarg):
        if rest is not None:
            env[rest.arg] = Thing(dominant(things[len(places) :]), rest.arg, made=True)
    if node.args.kwarg is not None and None in words and words[None].root == "words":
        env[node.args.kwarg.arg] = replace(words[None], text=node.args.kwarg.arg)
    return env


def constant(node: ast.Constant) -> Thing:
    return Thing(text=repr(node.value), const=node)


def static(cls: type, name: str) -> Any:
    for base in type.__getattribute__(cls, "__mro__"):
        if name in type.__getattribute__(base, "__dict__"):
            return type.__getattribute__(base, "__dict__")[name]
    return None
