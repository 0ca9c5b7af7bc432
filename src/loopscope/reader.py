"""The loop as the framework's own methods write it: a partial evaluation of their syntax trees.

Reading starts at one method of a live object (`fit`), follows its calls to the object's other methods as they
really resolve (a subclass's override, a patched or an instance's own function), and collects what it meets:
events, steps, scopes, each with its line. Values that are known before training (a number of epochs, the
length of a data loader) are carried along; the rest stays a name. Nothing of what is read is executed. What is
peculiar to a framework, above all how an event is fired, comes from a `Dialect`.
"""

from __future__ import annotations

import ast
import builtins
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType

from loopscope.evaluate import (
    Entering,
    Evaluator,
    Frame,
    Itself,
    Known,
    Local,
    Method,
    Several,
    Unknown,
    Value,
    has_call,
    is_number,
    key_of,
    parameters,
    text_of,
    unself,
)
from loopscope.model import ONCE, Catch, Event, Need, Node, Place, Repeat, Scope, Step
from loopscope.source import syntax, unwrap

MAX_DEPTH = 40  # fastai's own chain fit -> ... -> _step is 9 calls deep; a cycle must end somewhere


@dataclass(slots=True)
class Reader:
    """Reads the methods of one object; `known` evaluates what is known of it before training.

    `foreign` are the methods that added something and are not the framework's own, `unread` those without readable
    source, `unfollowed` calls that are handed the object and lead to what is not known.
    """

    known: Evaluator
    foreign: list[FunctionType] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    unfollowed: list[str] = field(default_factory=list)
    stack: list[object] = field(default_factory=list)

    def read(self, method: Method, arguments: dict[str, Value]) -> tuple[Node, ...]:
        """Return the nodes of one call of `method`, its parameters bound to `arguments` by name."""
        function = unwrap(method.function, through_wraps=False)
        call = (function, *sorted((name, key_of(value)) for name, value in arguments.items()))
        if function is None or len(self.stack) > MAX_DEPTH or call in self.stack:
            return ()  # fastai's _with_events runs inside itself, each time with another function: that is no cycle
        tree = syntax(function, through_wraps=False)
        own = self.known.dialect.is_own(function)
        if tree is None or isinstance(tree.node, ast.AsyncFunctionDef):
            name = getattr(function, "__qualname__", str(function))
            self.unread.append(name)
            return (Step("unreadable", f"{name}: its source cannot be read"),)
        names = parameters(function, arguments, method.first)
        frame = Frame(function, method.owner, tree.file, names, own)
        self.stack.append(call)
        try:
            body = tree.node.body
            nodes = self.block(body, frame)[0] if isinstance(body, list) else self.calls(body, frame)
            inner = function.__dict__.get("__wrapped__")
            if inner is not None and not any(_fires(node) for node in nodes):
                return self.read(replace(method, function=inner), arguments)
        finally:
            self.stack.pop()
        if (nodes or self.known.dialect.is_loop_method(function.__name__)) and not own and function not in self.foreign:
            self.foreign.append(function)
        if self.known.dialect.wraps(function):
            return tuple(nodes)  # its scopes belong to the method that hands it the work
        return tuple(_named(node, function.__qualname__) for node in nodes)

    # -- statements --------------------------------------------------------------------------------------

    def block(self, body: Sequence[ast.stmt], frame: Frame) -> tuple[list[Node], bool]:
        """Return the nodes of a list of statements, and whether control leaves it early for certain."""
        nodes: list[Node] = []
        for at, stmt in enumerate(body):
            if isinstance(stmt, (ast.Return, ast.Raise, ast.Continue, ast.Break)):
                return nodes + self.calls(stmt, frame), True
            if isinstance(stmt, ast.If):
                ended = self.if_(stmt, body[at + 1 :], frame, nodes)
                if ended is not None:
                    return nodes, ended
                continue
            if isinstance(stmt, ast.Try):
                tried = self.try_(stmt, frame)
                rest, left = self.block(body[at + 1 :], frame)
                if len(tried) == 1 and isinstance(tried[0], Scope) and not tried[0].always:
                    return [*nodes, replace(tried[0], exit=(*tried[0].exit, *rest))], left
                return [*nodes, *tried, *rest], left
            nodes += self.statement(stmt, frame)
        return nodes, False

    def statement(self, stmt: ast.stmt, frame: Frame) -> list[Node]:
        if isinstance(stmt, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            nodes = self.calls(stmt, frame)
            self.assign(stmt, frame)
            return nodes
        if isinstance(stmt, (ast.For, ast.AsyncFor)):
            return self.for_(stmt, frame)
        if isinstance(stmt, ast.While):
            inner, _ = self.block(stmt.body, frame)
            label = text_of(stmt.test)
            return self.repeated(inner, Repeat(0, None, f"while {label}"), self.place(stmt, frame))
        if isinstance(stmt, (ast.With, ast.AsyncWith)):
            return self.with_(stmt, frame)
        if isinstance(stmt, ast.FunctionDef):
            frame.names[stmt.name] = Local(stmt, frame)
            return []
        if isinstance(stmt, ast.Match):
            return self.match(stmt, frame)
        if isinstance(stmt, (ast.Expr, ast.Assert, ast.Delete)):
            return self.calls(stmt, frame)
        return []

    def match(self, stmt: ast.Match, frame: Frame) -> list[Node]:
        nodes = self.calls(stmt.subject, frame)
        for case in stmt.cases:
            text = f"{text_of(stmt.subject)} matches {text_of(case.pattern)}"
            need = Need(text, True, f"only if {text}")
            nodes += [_guarded(node, (need,)) for node in self.block(case.body, frame)[0]]
        return nodes

    def if_(self, stmt: ast.If, rest: Sequence[ast.stmt], frame: Frame, nodes: list[Node]) -> bool | None:
        """Add the nodes of an `if` to `nodes`; return None to go on, or whether the block is over."""
        test = self.known.truth(stmt.test, frame)
        nodes += self.calls(stmt.test, frame)
        if test is not None:
            inner, left = self.block(stmt.body if test else stmt.orelse, frame)
            nodes += inner
            return True if left else None
        before_names, before_attrs = dict(frame.names), dict(self.known.attrs)
        then, then_left = self.block(stmt.body, frame)
        names, attrs = frame.names, self.known.attrs
        frame.names, self.known.attrs = dict(before_names), dict(before_attrs)
        other, other_left = self.block(stmt.orelse, frame)
        frame.names, self.known.attrs = (
            self.known.joined(names, frame.names),
            self.known.joined(attrs, self.known.attrs),
        )
        yes, no = self.known.needs(stmt.test, True), self.known.needs(stmt.test, False)
        nodes += [_guarded(node, yes) for node in then]
        nodes += [_guarded(node, no) for node in other]
        if then_left and other_left:
            return True
        if not then_left and not other_left:
            return None
        later, left = self.block(rest, frame)
        nodes += [_guarded(node, no if then_left else yes) for node in later]
        return left

    def try_(self, stmt: ast.Try, frame: Frame) -> list[Node]:
        body, _ = self.block([*stmt.body, *stmt.orelse], frame)
        catches = tuple(self.catch(handler, frame) for handler in stmt.handlers)
        final, _ = self.block(stmt.finalbody, frame)
        if not any(_fires(node) for node in (*body, *final)):
            return [*body, *final]
        place = self.place(stmt, frame)
        scope = Scope(_scope_name(catches, body), tuple(body), catches=catches, place=place)
        if not stmt.finalbody:
            return [scope]
        if stmt.handlers:
            return [Scope("finally", (scope,), exit=tuple(final), always=True, place=place)]
        return [replace(scope, name="finally", exit=tuple(final), always=True)]

    def catch(self, handler: ast.ExceptHandler, frame: Frame) -> Catch:
        body, _ = self.block(handler.body, frame)
        again = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
        return Catch(self.exceptions(handler.type, frame), tuple(body), "raise" if again else "exit")

    def exceptions(self, node: ast.expr | None, frame: Frame) -> tuple[str, ...]:
        if node is None:
            return ("*",)
        if isinstance(node, ast.Tuple):
            return tuple(name for part in node.elts for name in self.exceptions(part, frame))
        value = self.known.value(node, frame)
        if isinstance(value, Known) and isinstance(value.value, type):
            return ("*",) if value.value in (Exception, BaseException) else (value.value.__name__,)
        return (text_of(node),)

    def for_(self, stmt: ast.For | ast.AsyncFor, frame: Frame) -> list[Node]:
        before = self.calls(stmt.iter, frame)
        place = self.place(stmt, frame)
        source, repeat = self.iteration(stmt.iter, frame)
        for name in ast.walk(stmt.target):
            if isinstance(name, ast.Name):
                frame.names[name.id] = Unknown(name.id)
        inner, _ = self.block(stmt.body, frame)
        if any(isinstance(node, ast.Break) for part in stmt.body for node in ast.walk(part)):
            repeat = replace(repeat, least=0)
        after, _ = self.block(stmt.orelse, frame)
        if not any(_fires(node) for node in inner):
            return [*before, *inner, *after]
        if source is not None:
            inner.insert(0, Step("draw a batch", source, place))
        return [*before, *self.repeated(inner, repeat, place), *after]

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, frame: Frame) -> list[Node]:
        """Return what a comprehension fires: a loop like any other, where its element fires."""
        inner = self.calls(node.elt, frame)
        if not any(_fires(one) for one in inner):
            return [*(found for one in node.generators for found in self.calls(one.iter, frame)), *inner]
        for generator in reversed(node.generators):
            source, repeat = self.iteration(generator.iter, frame)
            place = self.place(generator.iter, frame)
            drawn = [] if source is None else [Step("draw a batch", source, place)]
            inner = [*self.calls(generator.iter, frame), *self.repeated([*drawn, *inner], repeat, place)]
        return inner

    def iteration(self, node: ast.expr, frame: Frame) -> tuple[str | None, Repeat]:
        """Return the source that batches are drawn from (None: they are not), and how often the loop runs."""
        text = text_of(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id == "range":
                parts = [self.known.value(argument, frame) for argument in node.args]
                bounds = [part.value.__index__() for part in parts if is_number(part)]
                if len(bounds) == len(parts) and 0 not in bounds[2:]:
                    number = len(range(*bounds))
                    return None, Repeat(number, number)
                count = parts[min(1, len(parts) - 1)]
                return None, Repeat(0, None, unself(count.text if isinstance(count, Unknown) else text))
            if node.func.id in ("enumerate", "list", "tuple", "iter"):
                drawn, repeat = self.iteration(node.args[0], frame)
                return drawn and text, repeat
        value = self.known.value(node, frame)
        length = self.known.dialect.length(value.value) if isinstance(value, Known) else None
        label = f"len({unself(value.text if isinstance(value, Unknown) else text)})"
        repeat = Repeat(0, None, label) if length is None else Repeat(length, length)
        return (text if self.known.dialect.is_data(value) or unself(text) == "dl" else None), repeat

    def repeated(self, inner: list[Node], repeat: Repeat, place: Place) -> list[Node]:
        """Return the scope of a loop: that of the one scope inside it, repeated, or one of its own."""
        scopes = [node for node in inner if isinstance(node, Scope)]
        events = [node for node in inner if isinstance(node, Event)]
        if len(scopes) == 1 and not events and scopes[0].repeat == ONCE and not scopes[0].needs:
            at = inner.index(scopes[0])
            scope = scopes[0]
            return [
                replace(scope, before=(*inner[:at], *scope.before), exit=(*scope.exit, *inner[at + 1 :]), repeat=repeat)
            ]
        return [Scope("repeat", tuple(inner), repeat=repeat, place=place)]

    def with_(self, stmt: ast.With | ast.AsyncWith, frame: Frame) -> list[Node]:
        nodes: list[Node] = []
        entered: list[Value] = []
        for item in stmt.items:
            nodes += self.calls(item.context_expr, frame)
            value = self.known.value(item.context_expr, frame)
            entered.append(value)
            if isinstance(item.optional_vars, ast.Name):
                frame.names[item.optional_vars.id] = value
        inner: tuple[Node, ...] = tuple(self.block(stmt.body, frame)[0])
        for value in reversed(entered):
            if isinstance(value, Itself):
                inner = self.context(inner)
            elif isinstance(value, Entering):
                inner = value.wrap(self, inner)
        return [*nodes, *inner]

    def context(self, inner: tuple[Node, ...]) -> tuple[Node, ...]:
        """Return `inner` inside `with self:`: what `__enter__` fires before it, and `__exit__` whatever happens."""
        enter, leave = self.known.resolve("__enter__"), self.known.resolve("__exit__")
        if enter is None or leave is None:
            return inner
        first, last = self.read(enter, {}), self.read(leave, {})
        place = next((node.place for node in first if node.place), None)
        return (Scope("with learn", inner, before=first, exit=last, always=True, place=place),)

    def assign(self, stmt: ast.Assign | ast.AnnAssign | ast.AugAssign, frame: Frame) -> None:
        targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
        if isinstance(stmt, ast.AugAssign):
            value: Value = Unknown(text_of(stmt.target))
        else:
            value = Unknown("") if stmt.value is None else self.known.value(stmt.value, frame)
        for target in targets:
            self.store(target, value, stmt.value, frame)

    def store(self, target: ast.expr, value: Value, source: ast.expr | None, frame: Frame) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            parts = source.elts if isinstance(source, (ast.Tuple, ast.List)) else []
            for at, part in enumerate(target.elts):
                known = len(parts) == len(target.elts)
                self.store(part, self.known.value(parts[at], frame) if known else Unknown(text_of(part)), None, frame)
            return
        if isinstance(value, Unknown) and not value.text:
            value = Unknown(text_of(target))
        if isinstance(target, ast.Name):
            frame.names[target.id] = value
        elif isinstance(target, ast.Attribute) and isinstance(self.known.value(target.value, frame), Itself):
            self.known.attrs[target.attr] = value

    # -- calls -------------------------------------------------------------------------------------------

    def calls(self, node: ast.AST, frame: Frame) -> list[Node]:
        """Return what the calls inside a statement or expression fire and do, in the order of evaluation."""
        found: list[Node] = []
        if not has_call(node):
            return found
        if isinstance(node, ast.IfExp):
            found += self.calls(node.test, frame)
            return (
                found
                + self.branch(node.test, True, node.body, frame)
                + self.branch(node.test, False, node.orelse, frame)
            )
        if isinstance(node, ast.BoolOp):
            found += self.calls(node.values[0], frame)
            for before, part in itertools.pairwise(node.values):
                found += self.branch(before, isinstance(node.op, ast.And), part, frame)
            return found
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            return self.comprehension(node, frame)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found += self.calls(child, frame)  # what a lambda or a def holds does not run here
        if isinstance(node, ast.Call):
            found += self.call(node, frame)
        return found

    def branch(self, test: ast.expr, wanted: bool, node: ast.expr, frame: Frame) -> list[Node]:
        """Return what `node` does where it is only evaluated if `test` is `wanted`."""
        truth = self.known.truth(test, frame)
        if truth is not None:
            return self.calls(node, frame) if truth is wanted else []
        needs = self.known.needs(test, wanted)
        return [_guarded(found, needs) for found in self.calls(node, frame)]

    def call(self, call: ast.Call, frame: Frame) -> list[Node]:
        place = self.place(call, frame)
        target = self.known.value(call.func, frame)
        if isinstance(target, Itself) or self.is_dispatch(call.func, frame):
            return self.fired(call, frame, place)
        if isinstance(target, Local):
            return self.local(target, call, frame)
        name = self.known.dialect.step_name(unself(text_of(call.func), keep_self=True))
        if name is not None:
            return [Step(name, text_of(call), place)]
        kept = self.known.method_of(target, call, frame)
        if kept is not None:
            target = kept
        if isinstance(target, Method):
            if self.known.special(call, target, frame) is not None:
                return []
            arguments = self.known.arguments(call, target, frame)
            nodes = self.read(target, arguments)
            function = unwrap(target.function, through_wraps=False)
            if function is not None and self.known.dialect.wraps(function):
                return [replace(node, place=place) if isinstance(node, Scope) else node for node in nodes]
            return list(nodes)
        if (
            not frame.own
            and isinstance(call.func, ast.Attribute)
            and isinstance(self.known.value(call.func.value, frame), Itself)
        ):
            return [Step(text_of(call.func).removeprefix("self."), text_of(call), place)]
        if not frame.own and self.is_handed_over(target, call, frame):
            self.unfollowed.append(f"{text_of(call)} ({place})")
        return []

    def is_dispatch(self, node: ast.expr, frame: Frame) -> bool:
        """Return whether a call is `self.__call__(...)` or the like, which fires as `self(...)` does."""
        named = isinstance(node, ast.Attribute) and self.known.dialect.is_dispatch(node.attr)
        return named and isinstance(node, ast.Attribute) and isinstance(self.known.value(node.value, frame), Itself)

    def is_handed_over(self, target: Value, call: ast.Call, frame: Frame) -> bool:
        """Return whether something unknown is given the object, or work of it, and may fire events with that."""
        if isinstance(target, Known) and (isinstance(target.value, type) or target.value in vars(builtins).values()):
            return False
        return any(isinstance(one, (Itself, Method, Local)) for one in self.known.positional(call, frame))

    def local(self, target: Local, call: ast.Call, frame: Frame) -> list[Node]:
        """Return what a lambda or a function defined inside a method does when it is called."""
        if target.node in self.stack:
            return []
        names = [argument.arg for argument in (*target.node.args.posonlyargs, *target.node.args.args)]
        given = dict(zip(names, self.known.positional(call, frame), strict=False))
        inside = replace(target.frame, names={**target.frame.names, **{n: Unknown(n) for n in names}, **given})
        self.stack.append(target.node)
        try:
            body = target.node.body
            return self.block(body, inside)[0] if isinstance(body, list) else self.calls(body, inside)
        finally:
            self.stack.pop()

    def fired(self, call: ast.Call, frame: Frame, place: Place) -> list[Node]:
        if not call.args:
            return []
        value = self.known.value(call.args[0], frame)
        names = value.items if isinstance(value, Several) else (value,)
        if isinstance(value, Known) and isinstance(value.value, (list, tuple)):
            names = tuple(Known(item) for item in value.value)
        return [
            Event(str(name.value), place) if isinstance(name, Known) else Step("unknown event", text_of(call), place)
            for name in names
        ]

    def place(self, node: ast.stmt | ast.expr, frame: Frame) -> Place:
        return Place(frame.file, node.lineno)


def _guarded(node: Node, needs: tuple[Need, ...]) -> Node:
    return replace(node, needs=(*needs, *node.needs))


def _named(node: Node, method: str) -> Node:
    return replace(node, method=method) if isinstance(node, Scope) and not node.method else node


def _fires(node: Node) -> bool:
    return (
        isinstance(node, Event)
        or (isinstance(node, Scope) and any(map(_fires, node.nodes())))
        or (isinstance(node, Step) and node.name in ("unreadable", "unknown event"))
    )


def _scope_name(catches: tuple[Catch, ...], body: Sequence[Node]) -> str:
    """Name a scope by the event with which it is cancelled or entered: `after_cancel_batch` makes `batch`."""
    for catch in catches:
        for node in catch.body:
            if isinstance(node, Event) and "cancel_" in node.name:
                return node.name.partition("cancel_")[2]
    first = next((node for node in body if isinstance(node, Event)), None)
    return first.name.removeprefix("before_") if first is not None else "try"
