"""Where Keras's own trainer, or a model's own `train_step`, does what: read from the source that will run, not run."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from loopscope.adapters.keras.members import static
from loopscope.model import Event, Place, Step
from loopscope.source import syntax, unwrap


@dataclass(frozen=True, slots=True)
class Source:
    """One of Keras's own methods: `Source.of(model, "fit").event("on_epoch_begin")` has the line that fires it."""

    file: str
    nodes: tuple[Any, ...]

    @classmethod
    def of(cls, model: Any, name: str) -> Source:
        function = unwrap(of_keras(model, name))
        return cls("", ()) if function is None else _source(function)

    def event(self, name: str, apart: Iterable[str] = ()) -> Event:
        called = self.called(f"callbacks.{name}")
        return Event(name, self.place(called), how="apart" if name in apart else "calls")

    def step(self, name: str, call: str) -> Step:
        """Return the step that the call `call` is: `step("build", "self._symbolic_build")`."""
        found = self.called(call)
        return Step(name, "" if found is None else ast.unparse(found), self.place(found))

    def draw(self) -> Step:
        """Return the step that draws a batch: the head of the loop over the batches."""
        found = self.first(ast.For, lambda node: ast.unparse(node.iter) == "epoch_iterator")
        text = "" if found is None else f"for {ast.unparse(found.target)} in {ast.unparse(found.iter)}"
        return Step("draw a batch", text.replace("(", "").replace(")", ""), self.place(found))

    def called(self, name: str) -> Any:
        return self.first(ast.Call, lambda node: _dotted(node.func) == name)

    def first(self, kind: type, wanted: Any) -> Any:
        found = [node for node in self.nodes if isinstance(node, kind) and wanted(node)]
        return min(found, key=_line, default=None)

    def place(self, node: Any) -> Place | None:
        return None if node is None else Place(self.file, node.lineno)


@functools.lru_cache(maxsize=32)
def _source(function: FunctionType) -> Source:
    found = syntax(function)
    return Source("", ()) if found is None else Source(found.file, tuple(ast.walk(found.node)))


def _line(node: Any) -> int:
    return int(node.lineno)


def _dotted(node: ast.expr) -> str:
    """Return the text of `a.b.c`, `""` for anything else: `ast.unparse` takes much longer."""
    if isinstance(node, ast.Attribute):
        holder = _dotted(node.value)
        return f"{holder}.{node.attr}" if holder else ""
    return node.id if isinstance(node, ast.Name) else ""


def of_keras(model: Any, name: str) -> Any:
    """Return Keras's own method of that name, whatever the model's class has in its place."""
    for base in model.__mro__ if isinstance(model, type) else type(model).__mro__:
        if name in vars(base) and base.__module__.partition(".")[0] == "keras":
            return vars(base)[name]
    return None


def own(model: Any, name: str) -> Any:
    """Return what the model has in the place of Keras's own method of that name; None if it is Keras's."""
    found = getattr(model, "__dict__", {}).get(name, static(type(model), name))
    return None if found is of_keras(model, name) else found


def steps_of(model: Any, name: str) -> tuple[Step, ...]:
    """Return what the model's `train_step`, `test_step` or `predict_step` does, as far as its source names it."""
    own_step = own(model, name)
    function = unwrap(of_keras(model, name) if own_step is None else own_step)
    steps = tuple(_steps(model, function, 3)) if function is not None else ()
    return steps or (Step(name, f"self.{name}(data)", None if function is None else _place(function)),)


def _place(function: FunctionType) -> Place:
    return Place(function.__code__.co_filename, function.__code__.co_firstlineno)


def _steps(model: Any, function: FunctionType, depth: int) -> Iterator[Step]:
    found = syntax(function)
    if found is None or isinstance(found.node, ast.Lambda):
        return
    for call in _calls(model, found.node.body):
        text = ast.unparse(call.func)
        if depth and text.startswith("super()."):
            above = _above(model, function, text.removeprefix("super()."))
            yield from _steps(model, above, depth - 1) if above is not None else ()
        elif word := _word(model, call):
            yield Step(word, ast.unparse(call), Place(found.file, call.lineno))


def _calls(model: Any, body: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """Yield the calls in the order in which they are made; of a branch on a plain attribute only what is taken."""
    for node in body:
        if isinstance(node, ast.If):
            taken = _truth(model, node.test)
            yield from _calls(model, [node.test])
            yield from _calls(model, node.body) if taken is not False else ()
            yield from _calls(model, node.orelse) if taken is not True else ()
        elif not isinstance(node, (ast.Lambda, ast.FunctionDef)):
            yield from _calls(model, ast.iter_child_nodes(node))
            if isinstance(node, ast.Call):
                yield node


def _truth(model: Any, test: ast.expr) -> bool | None:
    if not isinstance(test, ast.Attribute) or ast.unparse(test.value) != "self":
        return None
    value = getattr(model, "__dict__", {}).get(test.attr)
    return value if isinstance(value, bool) else None


def _word(model: Any, call: ast.Call) -> str:
    """Return what a call in a step is, in the words that every loop shares; `""` if it is none of these."""
    holder, _, name = ast.unparse(call.func).rpartition(".")
    if name == "self" and not holder:
        return "forward"
    if name == "backward":
        return "backward"
    if name == "zero_grad":
        return "zero_grad"
    if name in ("apply", "apply_gradients", "step") and "opt" in holder:
        return "optimizer step"
    if "loss" in name and name.split("_")[-1] in ("loss", "fn") and "opt" not in holder:
        return "loss"
    return "forward" if holder == "self" and _is_layer(model, name) else ""


def _is_layer(model: Any, name: str) -> bool:
    parts = getattr(model, "__dict__", {})
    return name in (parts.get("_modules") or {}) or callable(getattr(parts.get(name), "call", None))


def _above(model: Any, function: FunctionType, name: str) -> FunctionType | None:
    """Return what `super().<name>` is in a method of the model's."""
    classes = list(type(model).__mro__)
    here = next((at for at, base in enumerate(classes) if unwrap(vars(base).get(function.__name__)) is function), None)
    if here is None:
        return None
    return next((unwrap(vars(base)[name]) for base in classes[here + 1 :] if name in vars(base)), None)
