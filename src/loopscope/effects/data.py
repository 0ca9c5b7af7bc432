"""The words for what a function does: one `Effect`, all its `Effects`, and a framework's `Vocabulary`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["reads", "writes", "calls", "raises", "deletes", "returns"]
On = Literal["callback", "learner", "model", "optimizer", "loss", "data", "outside"]

LONGEST, ROOM = 110, 120
"""Characters that a summary may have; and where one more thing that is done to the loop can be named that way."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What a framework calls things: `Vocabulary(learner=frozenset({"learn"}), roots={"opt": "optimizer"})`.

    `learner` are the attributes of a handler's owner, or of a model, that hold the learner (whatever steers the loop: a
    trainer, an engine), `word` what texts call it where it has no other name; `roots` are the attributes of the
    learner by what they are. `owners` are the classes that a look-up of the callback falls through to, in that order;
    without them nothing falls through. `loops` are methods of the learner that run a loop of their own, `stores`
    functions that make attributes of the caller's arguments, `pure` methods that only return something.

    Where handlers are given things, `parameters` says by name what each is, and texts call it by that name:
    `{"trainer": "learner", "pl_module": "model"}`. `steers` are attributes and methods of the learner that end or skip
    something (`should_stop`, `terminate`): they are told first. `errors` are the framework's exceptions that are
    mistakes: they are told last, like Python's own. `kinds` are classes by what their instances are: they tell what a
    global or closure name holds. `owner_is` says what the handlers' `self` is: "model" for a module's own methods.
    `named` are classes of the framework that such an owner derives from: `self.log(...)` is told, not followed.
    `returns` says that the framework uses what a handler returns.
    """

    learner: frozenset[str]
    roots: Mapping[str, On]
    owners: tuple[tuple[On, type], ...] = ()
    loops: frozenset[str] = frozenset()
    stores: frozenset[str] = frozenset()
    pure: frozenset[str] = frozenset()
    parameters: Mapping[str, On] = field(default_factory=dict)
    word: str = "learn"
    steers: frozenset[str] = frozenset()
    errors: frozenset[str] = frozenset()
    kinds: tuple[tuple[On, type], ...] = ()
    named: tuple[type, ...] = ()
    owner_is: On = "callback"
    returns: bool = False

    def kind(self, value: object) -> On | None:
        """Return what an object is, by the first of `kinds` that it is an instance of."""
        mro = type.__getattribute__(type(value), "__mro__")
        return next((on for on, cls in self.kinds if cls in mro), None)


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that a function does: `Effect("writes", "learner", "learn.training", "True", "", True, "=")`.

    `on` says whose `target` is, "outside" being all that is neither the callback's nor the loop's: files, output,
    loggers, global state. An exception that steers the loop is the learner's, an error the callback's. `value` is the
    source of what is assigned, or `""` where that is long; `how` is the operator of an assignment (`"="`, `"+="`), the
    name of a method that changes its object (`"append"`), or `"assert"`. `when` is the condition under which it
    happens, `""` if there is none; `certain` says that every run of the function gets there, unless an error ends it.
    """

    kind: Kind
    on: On
    target: str
    value: str = ""
    when: str = ""
    certain: bool = True
    how: str = ""


@dataclass(frozen=True, slots=True)
class Effects:
    """What a function does, in the order of its source: `effects(...).summary` -> `"calls model.train()"`.

    `summary` is one line, the most important first: exceptions, loops inside this one, then what is done to the
    learner, model, optimizer, loss and data, then to the outside, then to the callback itself. Its grammar is
    `verb target[, target] [if condition] [for each]`, joined by `"; "`; `…` stands where something was left out.
    `complete` is False where a function that it calls could not be read.
    """

    items: tuple[Effect, ...] = ()
    summary: str = ""
    complete: bool = False
    _assigned: tuple[tuple[str, str, bool, ast.expr], ...] = field(default=(), repr=False, compare=False)
    _called: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def assigned(self, name: str, on: On = "callback") -> ast.expr | None:
        """Return what the function assigns to an attribute: `assigned("training", "learner")` -> the node of `False`.

        `on` is what `self` is or whose a thing is that the handler is given: `assigned("should_stop", "learner")`.
        None if it assigns nothing. Where it depends on a condition, the node is an `ast.IfExp` whose condition is
        only there to say so: no constant then passes for the value.
        """
        found = [(certain, value) for whose, what, certain, value in self._assigned if (whose, what) == (on, name)]
        if not found:
            return None
        certain, value = found[-1]
        return value if certain else ast.IfExp(ast.Name("…", ast.Load()), value, ast.Name(name, ast.Load()))

    def nested(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the learner's methods that it calls: `nested(("validate", "fit"))` -> `("validate",)`."""
        wanted = frozenset(names)
        return tuple(dict.fromkeys(name for name in self._called if name in wanted))
