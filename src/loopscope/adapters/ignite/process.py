"""What the process function does for one batch: its steps and the events that it fires by itself, read and never run.

A step is named only where the source shows it: a call of a module, of a loss, `backward`, an optimizer's `step`.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ignite.engine import Engine
from ignite.engine.events import EventEnum, Events
from torch import nn
from torch.optim import Optimizer

from loopscope.adapters.ignite.attached import class_name, event_name, walk_events
from loopscope.adapters.ignite.names import UNKNOWN, Names
from loopscope.model import Event, Need, Node, Place, Repeat, Scope, Step
from loopscope.source import FunctionNode, place, syntax

DEPTH = 4
"""Functions that are called with the engine or of the same object are followed so deep."""

FIRING = ("fire_event", "_fire_event")


@dataclass(slots=True)
class Process:
    """What was read of a process function: its nodes, the events in them, and whether it may fire others."""

    nodes: tuple[Node, ...]
    fires: tuple[str, ...] = ()
    dynamic: bool = False


def process(engine: Engine, fired_elsewhere: Collection[str] = ()) -> Process:
    """Return what `engine` does between ITERATION_STARTED and ITERATION_COMPLETED.

    An event of the program's own that is fired nowhere else, as far as that can be read, may be fired here.
    """
    function = engine._process_function
    name = class_name(function)
    first = Step(name, f"{name}(engine, batch)", place(function))
    names = Names.of(function, engine)
    nodes: list[Node] = [first]
    fires: list[str] = []
    dynamic = False
    if names is not None:
        reading = _Reading(engine, names)
        nodes = [*_without_echo(reading.function(names))] or nodes
        fires, dynamic = reading.fires, reading.dynamic
    own = [name for name in walk_events(engine) if name not in CORE]
    rest = [name for name in own if dynamic or (name not in fires and name not in fired_elsewhere)]
    if rest:
        may = tuple(Event(name, None, (Need(f"fires {name}", True, "only if it is fired"),)) for name in rest)
        nodes.append(Scope("own events", may, repeat=Repeat(0, None, "as often as they are fired")))
    return Process(tuple(nodes), tuple(dict.fromkeys(fires)), dynamic)


CORE = frozenset(one.name for one in Events)
"""The events that ignite itself fires."""


def fired_events(node: Node) -> Iterator[Event]:
    """Yield the events in a part of the protocol."""
    if isinstance(node, Event):
        yield node
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from fired_events(child)


@dataclass(slots=True)
class _Reading:
    """One process function being read, with the functions that it hands the engine on to."""

    engine: Engine
    names: Names
    file: str = ""
    fires: list[str] = field(default_factory=list)
    dynamic: bool = False
    stack: list[FunctionNode] = field(default_factory=list)

    def function(self, names: Names) -> list[Node]:
        found = syntax(names.function)
        if found is None or found.node in self.stack or len(self.stack) >= DEPTH:
            return []
        outer = self.names, self.file
        self.names, self.file = names, found.file
        self.stack.append(found.node)
        body = found.node.body
        nodes = self.calls(body) if isinstance(body, ast.expr) else self.block(body)
        self.stack.pop()
        self.names, self.file = outer
        return nodes

    def block(self, body: list[ast.stmt]) -> list[Node]:
        nodes: list[Node] = []
        for at, statement in enumerate(body):
            nodes += self.statement(statement)
            if isinstance(statement, (ast.Return, ast.Raise)):
                break
            if _may_leave(statement):
                rest = self.block(body[at + 1 :])
                if any(event for one in rest for event in fired_events(one)):
                    why = f"not left by {ast.unparse(statement).partition(chr(10))[0]}"
                    rest = [Scope("the rest", tuple(rest), needs=(Need(why, True, f"only if {why}"),))]
                return [*nodes, *rest]
        return nodes

    def statement(self, node: ast.stmt) -> list[Node]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return []
        if isinstance(node, ast.If):
            return self.branches(node)
        if isinstance(node, (ast.For, ast.While)):
            head = node.iter if isinstance(node, ast.For) else node.test
            return [*self.calls(head), *self.loop(node, ast.unparse(head))]
        if isinstance(node, ast.With):
            return [*(one for item in node.items for one in self.calls(item.context_expr)), *self.block(node.body)]
        if isinstance(node, ast.Try):
            return self.attempt(node)
        return self.calls(node)

    def branches(self, node: ast.If) -> list[Node]:
        known, text = self.names.truth(node.test), ast.unparse(node.test)
        head = self.calls(node.test)
        if known is not None:
            return [*head, *self.block(node.body if known else node.orelse)]
        then = _given(self.block(node.body), Need(text, True, f"only if {text}"), text)
        other = _given(self.block(node.orelse), Need(text, False, f"only if not {text}"), f"not {text}")
        return [*head, *then, *other]

    def loop(self, node: ast.For | ast.While, label: str) -> list[Node]:
        nodes = self.block(node.body)
        if not any(event for one in nodes for event in fired_events(one)):
            return nodes
        words = "for" if isinstance(node, ast.For) else "while"
        place_ = Place(self.file, node.lineno)
        return [Scope(words, tuple(nodes), repeat=Repeat(0, None, label), place=place_), *self.block(node.orelse)]

    def attempt(self, node: ast.Try) -> list[Node]:
        nodes = [*self.block(node.body), *self.block(node.orelse)]
        last = self.block(node.finalbody)
        caught = [one for handler in node.handlers for one in self.block(handler.body)]
        if any(event for one in (*nodes, *caught, *last) for event in fired_events(one)):
            self.dynamic = True  # what flies past an event that is fired in a try statement is not followed
        return [*nodes, *last]

    # -- calls -------------------------------------------------------------------------------------------

    def calls(self, node: ast.AST) -> list[Node]:
        """Return the nodes of the calls in a statement or expression, those first that run first."""
        nodes: list[Node] = []
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.Lambda, ast.FunctionDef)):
                nodes += self.calls(child)
        return [*nodes, *self.call(node)] if isinstance(node, ast.Call) else nodes

    def call(self, node: ast.Call) -> list[Node]:
        if isinstance(node.func, ast.Attribute) and node.func.attr in FIRING:
            return self.fire(node)
        word = self.word(node)
        if word:
            return [Step(word, ast.unparse(node), Place(self.file, node.lineno))]
        callee = self.names.look(node.func)
        if callee is UNKNOWN or not isinstance(callee, (FunctionType, MethodType)) or not self.leads_on(callee, node):
            return []
        arguments = [self.names.look(one) for one in node.args if not isinstance(one, ast.Starred)]
        inner = Names.of(callee, *arguments)
        if inner is None:
            return []
        words = {word.arg: self.names.look(word.value) for word in node.keywords if word.arg}
        return self.function(replace(inner, known={**inner.known, **words}))

    def leads_on(self, callee: Any, node: ast.Call) -> bool:
        """Return whether a function that is called may do a part of the work: it is no library's, but the program's."""
        module = str(getattr(callee, "__module__", "")).partition(".")[0]
        given = [self.names.look(one) for one in (*node.args, *(word.value for word in node.keywords))]
        if module == "torch":
            return False
        return any(one is self.engine for one in given) or not module.startswith(("torch", "ignite", "numpy"))

    def fire(self, node: ast.Call) -> list[Node]:
        assert isinstance(node.func, ast.Attribute)
        whose = self.names.look(node.func.value)
        if (whose is not UNKNOWN and whose is not self.engine) or not node.args:
            return []
        name = fired_name(node.args[0], self.names)
        if name is None:
            self.dynamic = True
            return []
        self.fires.append(name)
        return [Event(name, Place(self.file, node.lineno))]

    def word(self, node: ast.Call) -> str:
        """Return which step a call is, `""` for none that is known."""
        func, last = node.func, _last(node.func)
        callee = self.names.look(func)
        arguments = [self.names.look(one) for one in node.args]
        if isinstance(func, ast.Attribute):
            if last in ("backward", "zero_grad"):
                return last
            if last == "step" and self.is_optimizer(func.value, arguments):
                return "optimizer step"
            if last == "cuda" or (last == "to" and _names_device(node)):
                return "" if isinstance(self.names.look(func.value), nn.Module) else "move to device"
        if last in ("convert_tensor", "prepare_batch", "_prepare_batch"):
            return "move to device"
        if _is_loss(callee, last):
            return "loss"
        if isinstance(callee, nn.Module) or (
            isinstance(callee, FunctionType)
            and any(isinstance(one, nn.Module) for one in arguments)
            and not any(one is self.engine for one in arguments)
        ):
            return "forward"
        return ""

    def is_optimizer(self, node: ast.expr, arguments: Iterable[Any]) -> bool:
        whose = self.names.look(node)
        if isinstance(whose, Optimizer) or any(isinstance(one, Optimizer) for one in arguments):
            return True
        return whose is UNKNOWN and _last(node) in ("opt", "optim", "optimizer", "optimiser")


def fired_name(node: ast.expr, names: Names) -> str | None:
    """Return the name of the event that an argument of `fire_event` stands for, None when only the run knows."""
    known = names.look(node)
    if isinstance(known, (str, EventEnum)):
        return event_name(known)
    if isinstance(node, ast.Attribute):
        cls = names.look(node.value)
        if isinstance(cls, type) and issubclass(cls, EventEnum) and node.attr in vars(cls)["_member_map_"]:
            return node.attr
    return None


def _is_loss(callee: Any, last: str) -> bool:
    if isinstance(callee, nn.Module):
        return type(callee).__module__ == "torch.nn.modules.loss" or _says_loss(last)
    if isinstance(callee, (FunctionType, BuiltinFunctionType)):
        at = str(callee.__module__)
        return (at.startswith("torch") and _says_loss(callee.__name__)) or (last.endswith("_fn") and _says_loss(last))
    return callee is UNKNOWN and last in ("loss_fn", "loss_func", "criterion", "loss_function")


def _names_device(node: ast.Call) -> bool:
    texts = any(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in node.args)
    return texts or "device" in ast.unparse(node)


def _says_loss(name: str) -> bool:
    return any(word in name.lower() for word in ("loss", "criterion", "entropy"))


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _given(nodes: list[Node], need: Need, name: str) -> list[Node]:
    """Return nodes that are run under a condition: steps each by itself, events in a scope of their own."""
    if any(event for one in nodes for event in fired_events(one)):
        return [Scope(f"if {name}", tuple(nodes), needs=(need,))]
    return [replace(one, needs=(*one.needs, need)) for one in nodes]


def _may_leave(statement: ast.stmt) -> bool:
    """Return whether a statement with others inside may end the function or the loop around it."""
    inside = (one for one in ast.walk(statement) if one is not statement)
    return any(isinstance(one, (ast.Return, ast.Raise, ast.Break, ast.Continue)) for one in inside)


def _without_echo(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield the nodes without a step that says the same as the one before it."""
    last: Node | None = None
    for node in nodes:
        same = isinstance(node, Step) and isinstance(last, Step) and (node.name, node.needs) == (last.name, last.needs)
        if not same:
            yield node
        last = node
