"""What rules read of the callbacks of a loop: their classes, methods and settings, as plain frozen data.

An adapter says who they are, `examining.py` reads their methods. Constraint: nothing here holds a live object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from loopscope.effects import Effect
from loopscope.model import Place
from loopscope.source import FunctionNode

Setting: TypeAlias = "str | int | float | bool | tuple[str, ...] | None"
"""A plain value of an object, or the text that shows it."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """One `# loopscope: ignore[...]` as it stands in the source: `Ignore("dead-order, slow-handler", place)`.

    `rules` is what stands between the brackets, None where there are none.
    """

    rules: str | None
    place: Place


@dataclass(frozen=True, slots=True)
class Method:
    """One method that a callback's class, or the instance, defines.

    `owner` is the name of the class that defines it, `""` for an attribute of the instance itself; `shipped` says that
    it is the framework's own code. `misfit` says why it cannot take what the framework passes at the event of its name,
    `""` where it can. `hides` is the next class behind `owner` whose method of this name does something (its body is
    more than `pass`), `""` if there is none; `calls_super` says whether that one is called. `node` is its source, None
    where that cannot be read. `effects` are what its source does, in its order.
    """

    name: str
    owner: str
    shipped: bool = False
    place: Place | None = None
    is_async: bool = False
    is_generator: bool = False
    misfit: str = ""
    hides: str = ""
    hides_shipped: bool = False
    calls_super: bool = False
    node: FunctionNode | None = field(default=None, compare=False)
    effects: tuple[Effect, ...] = field(default=(), compare=False)
    ignores: tuple[Ignore, ...] = ()


@dataclass(frozen=True, slots=True)
class Callback:
    """One callback of the run (or what else has handlers: a module, an engine's plain function).

    `id` is that of its handlers in the loop (`"GradientClip#3"`); `same_as` is the id of an earlier entry that is the
    very same object. `classes` are the qualified names of its class and its bases, outermost first, without `object`:
    `("mine.Clip", "fastai.callback.training.GradientClip", "fastai.callback.core.Callback")`. `shipped` says that its
    class is the framework's own. `name` is how the framework keeps it (`learn.gradient_clip`), `""` where it does not.
    `methods` are those of its class and its bases below the framework's base class, and of the instance: each name
    once, as it resolves. `attributes` are the names of plain attributes of the instance and of its class.
    `settings` are plain values, by the framework's own names: `{"order": 60, "monitor": "valid_loss"}`.
    """

    id: str
    cls: str
    classes: tuple[str, ...] = ()
    origin: str = "learner"
    mine: bool = False
    shipped: bool = False
    same_as: str = ""
    name: str = ""
    place: Place | None = None
    methods: tuple[Method, ...] = ()
    attributes: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    ignores: tuple[Ignore, ...] = ()

    def method(self, name: str) -> Method | None:
        """Return the method of a name, None where it is not among those that are its own."""
        return next((one for one in self.methods if one.name == name), None)

    def isa(self, *classes: str) -> bool:
        """Return whether its class is, or derives from, one of these: `isa("fastai.callback.core.Callback")`."""
        return any(one in self.classes for one in classes)


@dataclass(frozen=True, slots=True)
class Examined:
    """What rules know of a run beside its loop.

    `callbacks` stand as the framework holds them, in the order of insertion. `settings` are those of the learner,
    trainer, model or engine, by the framework's own names: `{"precision": "16-mixed", "accumulate_grad_batches": 4}`.
    `events` are all names that the framework calls on a callback, whether this run fires them or not. `attributes` are
    names that learner and model have, each with whose it is: `{"after_pred": "learn.model"}`. `figures` are the names
    under which this run will hand figures to loggers and monitors, as far as that is known: None where it is not.
    """

    callbacks: tuple[Callback, ...]
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    events: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    figures: tuple[str, ...] | None = None

    def callback(self, id: str) -> Callback | None:
        """Return the callback of an id."""
        return next((one for one in self.callbacks if one.id == id), None)

    def own(self) -> Iterator[tuple[Callback, Method]]:
        """Yield each method that is not the framework's own, with its callback; those of one object once."""
        for callback in self.callbacks:
            if not callback.same_as:
                yield from ((callback, method) for method in callback.methods if not method.shipped)
