"""How fastai's `Learner` methods are to be read: how an event is fired, what draws batches, what adds callbacks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import FunctionType

from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import LRFinder
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader as FastaiDataLoader
from torch.utils.data import DataLoader as TorchDataLoader

from loopscope.evaluate import Built, Entering, Known, Several, Unknown, Value
from loopscope.model import Node, Scope
from loopscope.reader import Reader

OWN = ("fastai", "fastcore", "torch", "contextlib")
"""Packages whose functions are no override of anybody's."""

FLAGS = {
    "self.training": ("training", "while training"),
    "len(self.yb)": ("targets", "if the batch has targets"),
}
"""Conditions of the loop that have a name of their own, with the words for them."""

STEPS = {
    "self.model": "forward",
    "self.loss_func": "loss",
    "self.opt.step": "optimizer step",
    "self.opt.zero_grad": "zero_grad",
    "self._set_device": "move to device",
    "self._split": "split into xb and yb",
    "self.freeze": "freeze",
    "self.unfreeze": "unfreeze",
}
"""Calls -> the loop's own word for what they do."""


LOOP_METHODS = (
    *("fit", "_do_fit", "_do_epoch", "_do_epoch_train", "_do_epoch_validate", "all_batches", "one_batch"),
    *("_do_one_batch", "_do_grad_opt", "_backward", "_step", "_with_events", "validate", "get_preds"),
)
"""The methods of fastai's `Learner` that make up its loop."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A data loader that fastai would make on the way, known only by its number of batches."""

    batches: int


@dataclass(slots=True)
class FastaiDialect:
    """What `Reader` must know of fastai.

    `added` collects the callbacks that a call adds on its way, `removed` those that it takes away.
    """

    added: list[Value] = field(default_factory=list)
    removed: list[Value] = field(default_factory=list)

    def is_callback_class(self, cls: object) -> bool:
        return isinstance(cls, type) and issubclass(cls, Callback)

    def step_name(self, call: str) -> str | None:
        if call.endswith(".backward") and call.startswith("self.") and call.count(".") > 1:
            return "backward"
        return STEPS.get(call)

    def attribute(self, value: object, name: str) -> Value | None:
        if isinstance(value, DataLoaders) and name in ("train", "valid"):
            return self.item(value, 0 if name == "train" else 1)
        return None

    def item(self, value: object, index: object) -> Value | None:
        loaders = vars(value).get("loaders") if isinstance(value, DataLoaders) else None
        if loaders is None or not isinstance(index, int) or not -len(loaders) <= index < len(loaders):
            return None
        return Known(loaders[index])

    def called(self, value: object, method: str) -> Value | None:
        """`dl.new(...)` in fastai's own methods keeps the last batch: as many batches as the items fill."""
        if method != "new":
            return None
        if isinstance(value, Counted):
            return Known(value)
        if isinstance(value, FastaiDataLoader) and value.drop_last:
            size, items = value.bs, getattr(value, "n", None)
            return Known(Counted(math.ceil(items / size))) if size and items is not None else None
        batches = self.length(value)
        return None if batches is None else Known(Counted(batches))

    def length(self, value: object) -> int | None:
        if isinstance(value, Counted):
            return value.batches
        if not self.is_loader(value) and not isinstance(value, (list, tuple)):
            return None
        try:
            return len(value)  # type: ignore[arg-type]  # a loader over an iterable dataset has no length
        except Exception:  # whatever a user's dataset raises, the number is just not known
            return None

    def is_loader(self, value: object) -> bool:
        return isinstance(value, (FastaiDataLoader, TorchDataLoader, Counted))

    def is_data(self, value: Value) -> bool:
        return isinstance(value, Known) and self.is_loader(value.value)

    def special(self, name: str, arguments: dict[str, Value]) -> Value | None:
        if name == "added_cbs":
            return Entering(lambda _, inner: self.adding(arguments.get("cbs", Known(None)), inner))
        if name in ("removed_cbs", "remove_cbs", "remove_cb", "no_bar"):
            taken = Known(ProgressCallback) if name == "no_bar" else next(iter(arguments.values()), Unknown("cbs"))
            return self.changing(self.removed, taken)
        if name in ("add_cb", "add_cbs"):
            return self.changing(self.added, next(iter(arguments.values()), Unknown("cbs")))
        if name == "validation_context":
            return Entering(lambda reader, inner: self.validating(reader, arguments, inner))
        return None

    def changing(self, store: list[Value], callbacks: Value) -> Value:
        """Note callbacks that the loop's own methods add or remove; where and for how long is not followed."""
        for one in callbacks.items if isinstance(callbacks, Several) else (callbacks,):
            if not any(_same(one, other) for other in store):
                store.append(one)
        return Entering(lambda _, inner: inner)

    def adding(self, callbacks: Value, inner: tuple[Node, ...]) -> tuple[Node, ...]:
        for one in callbacks.items if isinstance(callbacks, Several) else (callbacks,):
            if one != Known(None) and not any(_same(one, other) for other in self.added):
                self.added.append(one)
            if isinstance(one, Built) and issubclass(one.cls, LRFinder):
                return tuple(_found(node) for node in inner)
        return inner

    def validating(self, reader: Reader, arguments: dict[str, Value], inner: tuple[Node, ...]) -> tuple[Node, ...]:
        """fastai adds `cbs` first, and enters the learner itself unless `inner`."""
        self.adding(arguments.get("cbs", Known(None)), inner)
        nested = arguments.get("inner", Known(False))
        return inner if isinstance(nested, Known) and nested.value else reader.context(inner)

    def flag(self, text: str) -> tuple[str, str] | None:
        return FLAGS.get(text)

    def wraps(self, function: FunctionType) -> bool:
        return function.__name__ == "_with_events"

    def is_dispatch(self, name: str) -> bool:
        return name in ("__call__", "_call_one")

    def is_loop_method(self, name: str) -> bool:
        return name in LOOP_METHODS

    def is_own(self, function: FunctionType) -> bool:
        """A decorator gives its wrapper the name and module of what it wraps, but not its globals."""
        return str(function.__globals__.get("__name__", "")).split(".")[0] in (
            "fastai",
            "fastcore",
            "torch",
            "contextlib",
        )


FINDING = "LRFinder ends the run in it"
"""The note on the epochs that run under LRFinder."""


def _found(node: Node) -> Node:
    """Mark the epochs below a node as those that LRFinder ends."""
    if not isinstance(node, Scope):
        return node
    note = FINDING if node.name == "epoch" else node.note
    return replace(node, before=tuple(map(_found, node.before)), body=tuple(map(_found, node.body)), note=note)


def _same(one: Value, other: Value) -> bool:
    """Return whether two values are the same callback: in fine_tune both fits add one of each."""
    if isinstance(one, Built) and isinstance(other, Built):
        return one.cls is other.cls
    if isinstance(one, Known) and isinstance(other, Known):
        return one.value is other.value
    return isinstance(one, Unknown) and one == other
