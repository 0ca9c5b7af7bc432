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
import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType, MethodType
from typing import Any, Protocol, TypeGuard

from loopscope.model import ONCE, Catch, Event, Need, Node, Place, Repeat, Scope, Step
from loopscope.source import syntax, unwrap

MAX_DEPTH = 40  # fastai's own chain fit -> ... -> _step is 9 calls deep; a cycle must end somewhere


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only the run knows; `text` is how the source names it."""

    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """A value that is known before the run."""

    value: Any


@dataclass(frozen=True, slots=True)
class Itself:
    """The learner or trainer whose method is being read."""


@dataclass(frozen=True, slots=True)
class Method:
    """A function of the object; `owner` is the class in whose body it stands, `first` the arguments bound before the call's."""

    function: Callable[..., Any]
    owner: type | None
    first: tuple[Value, ...] = (Itself(),)


@dataclass(frozen=True, slots=True)
class Built:
    """An instance that the source makes on the way: `ParamScheduler(scheds)`."""

    cls: type
    arguments: tuple[Value, ...] = ()
    keywords: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class Several:
    """A list of values, for instance the callbacks that a call adds."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Entering:
    """A context manager that the dialect knows: what `with` on it does around its body."""

    wrap: Callable[[tuple[Node, ...]], tuple[Node, ...]]


Value = Unknown | Known | Itself | Method | Built | Several | Entering


class Dialect(Protocol):
    """What a reader must be told of a framework."""

    def is_callback_class(self, cls: object) -> bool:
        """Return whether calling `cls` in the source makes a callback."""

    def step_name(self, call: str) -> str | None:
        """Return the loop's own word for a call (`"self.model"` is `"forward"`), or None."""

    def attribute(self, value: object, name: str) -> Value | None:
        """Return attribute `name` of a known object where that is safe to look at, else None."""

    def item(self, value: object, index: object) -> Value | None:
        """Return `value[index]` where that is safe to look at, else None."""

    def called(self, value: object, method: str) -> Value | None:
        """Return what `value.<method>(...)` gives where that is known without calling it, else None."""

    def length(self, value: object) -> int | None:
        """Return how many batches or items `value` gives, or None."""

    def is_data(self, value: Value) -> bool:
        """Return whether iterating over `value` draws batches."""

    def special(self, reader: Reader, name: str, arguments: dict[str, Value], place: Place) -> Value | None:
        """Return the value of a call to the object's method `name` that is not to be read as source, else None."""

    def flag(self, text: str) -> tuple[str, str] | None:
        """Return the flag of a condition as written, and its words: `("training", "while training")`; or None."""

    def wraps(self, function: FunctionType) -> bool:
        """Return whether `function` only puts events around what another method hands to it."""

    def is_own(self, function: FunctionType) -> bool:
        """Return whether `function` is the framework's own, not an override or a patch."""


@dataclass(slots=True)
class Frame:
    """The names of one method while it is read."""

    function: FunctionType
    owner: type | None
    file: str
    names: dict[str, Value]
    own: bool


@dataclass(slots=True)
class Reader:
    """Reads methods of `subject`; `attrs` are its attributes as assigned so far, `foreign` the methods not the framework's.

    `unread` are methods whose source could not be read.
    """

    subject: Any
    dialect: Dialect
    attrs: dict[str, Value] = field(default_factory=dict)
    foreign: list[FunctionType] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    stack: list[object] = field(default_factory=list)

    # -- methods -----------------------------------------------------------------------------------------

    def resolve(self, name: str, after: type | None = None) -> Method | None:
        """Return the method that `self.<name>` (or, with `after`, `super().<name>`) really is."""
        if after is None:
            own = vars(self.subject).get(name)
            if callable(own) and unwrap(own) is not None and not isinstance(own, type):
                return Method(own, None, self.bound(own))
        classes = type(self.subject).__mro__
        if after is not None and after in classes:
            classes = classes[classes.index(after) + 1 :]
        for cls in classes:
            found = vars(cls).get(name)
            if found is None:
                continue
            if isinstance(found, staticmethod):
                found = found.__func__
                return Method(found, cls, ()) if unwrap(found) is not None else None
            if isinstance(found, classmethod):
                found = found.__func__
            return Method(found, cls) if unwrap(found) is not None else None
        return None

    def bound(self, function: Callable[..., Any]) -> tuple[Value, ...]:
        """Return the arguments that a function in the object's own `__dict__` brings along: it gets no implicit self."""
        if isinstance(function, MethodType):
            given: tuple[object, ...] = (function.__self__,)
        elif isinstance(function, functools.partial):
            given = function.args
        else:
            given = ()
        return tuple(Itself() if one is self.subject else Known(one) for one in given)

    def read(self, method: Method, arguments: dict[str, Value]) -> tuple[Node, ...]:
        """Return the nodes of one call of `method`, its parameters bound to `arguments` by name."""
        function = unwrap(method.function)
        call = (function, *sorted((name, _key(value)) for name, value in arguments.items()))
        if function is None or len(self.stack) > MAX_DEPTH or call in self.stack:
            return ()  # fastai's _with_events runs inside itself, each time with another function: that is no cycle
        tree = syntax(function)
        own = self.dialect.is_own(function)
        if not own and function not in self.foreign:
            self.foreign.append(function)
        if tree is None or isinstance(tree.node, ast.Lambda):
            name = getattr(function, "__qualname__", str(function))
            self.unread.append(name)
            return (Step("unreadable", f"{name}: its source cannot be read"),)
        names = _parameters(function, arguments, method.first)
        frame = Frame(function, method.owner, tree.file, names, own)
        self.stack.append(call)
        try:
            nodes, _ = self.block(tree.node.body, frame)
        finally:
            self.stack.pop()
        if self.dialect.wraps(function):
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
            label = _text(stmt.test)
            return self.repeated(inner, Repeat(0, None, f"while {label}"), self.place(stmt, frame))
        if isinstance(stmt, (ast.With, ast.AsyncWith)):
            return self.with_(stmt, frame)
        if isinstance(stmt, (ast.Expr, ast.Assert, ast.Delete)):
            return self.calls(stmt, frame)
        return []

    def if_(self, stmt: ast.If, rest: Sequence[ast.stmt], frame: Frame, nodes: list[Node]) -> bool | None:
        """Add the nodes of an `if` to `nodes`; return None to go on, or whether the block is over."""
        test = self.truth(stmt.test, frame)
        nodes += self.calls(stmt.test, frame)
        if test is not None:
            inner, left = self.block(stmt.body if test else stmt.orelse, frame)
            nodes += inner
            return True if left else None
        before_names, before_attrs = dict(frame.names), dict(self.attrs)
        then, then_left = self.block(stmt.body, frame)
        names, attrs = frame.names, self.attrs
        frame.names, self.attrs = dict(before_names), dict(before_attrs)
        other, other_left = self.block(stmt.orelse, frame)
        frame.names, self.attrs = self.joined(names, frame.names), self.joined(attrs, self.attrs)
        yes, no = self.needs(stmt.test, True), self.needs(stmt.test, False)
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
        value = self.value(node, frame)
        if isinstance(value, Known) and isinstance(value.value, type):
            return ("*",) if value.value in (Exception, BaseException) else (value.value.__name__,)
        return (_text(node),)

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
        if not any(_fires(node) for node in inner):
            return [*before, *inner]
        if source is not None:
            inner.insert(0, Step("draw a batch", source, place))
        return [*before, *self.repeated(inner, repeat, place)]

    def iteration(self, node: ast.expr, frame: Frame) -> tuple[str | None, Repeat]:
        """Return the source that batches are drawn from (None: they are not), and how often the loop runs."""
        text = _text(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id == "range":
                count = self.value(node.args[-1] if len(node.args) < 3 else node.args[1], frame)
                first = self.value(node.args[0], frame) if len(node.args) > 1 else Known(0)
                if _is_number(count) and _is_number(first):
                    number = max(0, int(count.value) - int(first.value))
                    return None, Repeat(number, number)
                return None, Repeat(0, None, _plain(count.text if isinstance(count, Unknown) else text))
            if node.func.id in ("enumerate", "list", "tuple", "iter"):
                drawn, repeat = self.iteration(node.args[0], frame)
                return drawn and text, repeat
        value = self.value(node, frame)
        length = self.dialect.length(value.value) if isinstance(value, Known) else None
        label = f"len({_plain(value.text if isinstance(value, Unknown) else text)})"
        repeat = Repeat(0, None, label) if length is None else Repeat(length, length)
        return (text if self.dialect.is_data(value) or _plain(text) == "dl" else None), repeat

    def repeated(self, inner: list[Node], repeat: Repeat, place: Place) -> list[Node]:
        """Return the scope of a loop: that of the one scope inside it, repeated, or one of its own."""
        scopes = [node for node in inner if isinstance(node, Scope)]
        events = [node for node in inner if isinstance(node, Event)]
        if len(scopes) == 1 and not events and scopes[0].repeat == ONCE and not scopes[0].needs:
            at = inner.index(scopes[0])
            scope = scopes[0]
            return [replace(scope, before=(*inner[:at], *scope.before), exit=(*scope.exit, *inner[at + 1 :]), repeat=repeat)]
        return [Scope("repeat", tuple(inner), repeat=repeat, place=place)]

    def with_(self, stmt: ast.With | ast.AsyncWith, frame: Frame) -> list[Node]:
        nodes: list[Node] = []
        entered: list[Value] = []
        for item in stmt.items:
            nodes += self.calls(item.context_expr, frame)
            value = self.value(item.context_expr, frame)
            entered.append(value)
            if isinstance(item.optional_vars, ast.Name):
                frame.names[item.optional_vars.id] = value
        inner: tuple[Node, ...] = tuple(self.block(stmt.body, frame)[0])
        for value in reversed(entered):
            if isinstance(value, Itself):
                inner = self.context(inner)
            elif isinstance(value, Entering):
                inner = value.wrap(inner)
        return [*nodes, *inner]

    def context(self, inner: tuple[Node, ...]) -> tuple[Node, ...]:
        """Return `inner` inside `with self:`: what `__enter__` fires before it, and `__exit__` whatever happens."""
        enter, leave = self.resolve("__enter__"), self.resolve("__exit__")
        if enter is None or leave is None:
            return inner
        first, last = self.read(enter, {}), self.read(leave, {})
        place = next((node.place for node in first if node.place), None)
        return (Scope("context", inner, before=first, exit=last, always=True, place=place),)

    def assign(self, stmt: ast.Assign | ast.AnnAssign | ast.AugAssign, frame: Frame) -> None:
        targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
        if isinstance(stmt, ast.AugAssign):
            value: Value = Unknown(_text(stmt.target))
        else:
            value = Unknown("") if stmt.value is None else self.value(stmt.value, frame)
        for target in targets:
            self.store(target, value, stmt.value, frame)

    def store(self, target: ast.expr, value: Value, source: ast.expr | None, frame: Frame) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            parts = source.elts if isinstance(source, (ast.Tuple, ast.List)) else []
            for at, part in enumerate(target.elts):
                known = len(parts) == len(target.elts)
                self.store(part, self.value(parts[at], frame) if known else Unknown(_text(part)), None, frame)
            return
        if isinstance(value, Unknown) and not value.text:
            value = Unknown(_text(target))
        if isinstance(target, ast.Name):
            frame.names[target.id] = value
        elif isinstance(target, ast.Attribute) and isinstance(self.value(target.value, frame), Itself):
            self.attrs[target.attr] = value

    # -- calls -------------------------------------------------------------------------------------------

    def calls(self, node: ast.AST, frame: Frame) -> list[Node]:
        """Return what the calls inside a statement or expression fire and do, in the order of evaluation."""
        found: list[Node] = []
        if not _has_call(node):
            return found
        if isinstance(node, ast.IfExp):
            found += self.calls(node.test, frame)
            return found + self.branch(node.test, True, node.body, frame) + self.branch(node.test, False, node.orelse, frame)
        if isinstance(node, ast.BoolOp):
            found += self.calls(node.values[0], frame)
            for before, part in zip(node.values, node.values[1:]):
                found += self.branch(before, isinstance(node.op, ast.And), part, frame)
            return found
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found += self.calls(child, frame)  # what a lambda or a def holds does not run here
        if isinstance(node, ast.Call):
            found += self.call(node, frame)
        return found

    def branch(self, test: ast.expr, wanted: bool, node: ast.expr, frame: Frame) -> list[Node]:
        """Return what `node` does where it is only evaluated if `test` is `wanted`."""
        truth = self.truth(test, frame)
        if truth is not None:
            return self.calls(node, frame) if truth is wanted else []
        needs = self.needs(test, wanted)
        return [_guarded(found, needs) for found in self.calls(node, frame)]

    def call(self, call: ast.Call, frame: Frame) -> list[Node]:
        place = self.place(call, frame)
        target = self.value(call.func, frame)
        if isinstance(target, Itself):
            return self.fired(call, frame, place)
        name = self.dialect.step_name(_plain(_text(call.func), keep_self=True))
        if name is not None:
            return [Step(name, _text(call), place)]
        if isinstance(target, Method):
            attribute = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            arguments = self.arguments(call, target, frame)
            if attribute and self.dialect.special(self, attribute, arguments, place) is not None:
                return []
            return list(self.read(target, arguments))
        if not frame.own and isinstance(call.func, ast.Attribute) and isinstance(self.value(call.func.value, frame), Itself):
            return [Step(_text(call.func).removeprefix("self."), _text(call), place)]
        return []

    def fired(self, call: ast.Call, frame: Frame, place: Place) -> list[Node]:
        if not call.args:
            return []
        value = self.value(call.args[0], frame)
        names = value.items if isinstance(value, Several) else (value,)
        if isinstance(value, Known) and isinstance(value.value, (list, tuple)):
            names = tuple(Known(item) for item in value.value)
        return [
            Event(str(name.value), place) if isinstance(name, Known) else Step("unknown event", _text(call), place)
            for name in names
        ]

    def arguments(self, call: ast.Call, method: Method, frame: Frame) -> dict[str, Value]:
        """Bind a call's arguments to the parameter names of `method`; `self` is left out."""
        function = unwrap(method.function)
        assert function is not None
        code = function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        positional = names[len(method.first) : code.co_argcount]
        bound: dict[str, Value] = {}
        for at, argument in enumerate(call.args):
            if isinstance(argument, ast.Starred):
                break
            if at < len(positional):
                bound[positional[at]] = self.value(argument, frame)
        extra: dict[str, Value] = {}
        for keyword in call.keywords:
            value = self.value(keyword.value, frame)
            if keyword.arg is not None:
                (bound if keyword.arg in names else extra)[keyword.arg] = value
            elif isinstance(value, Known) and isinstance(value.value, dict):
                for key, inner in value.value.items():
                    wrapped = inner if isinstance(inner, Value) else Known(inner)
                    (bound if key in names else extra)[key] = wrapped
        if code.co_flags & inspect.CO_VARKEYWORDS:
            at = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
            bound[code.co_varnames[at]] = Known(extra)
        return bound

    # -- values ------------------------------------------------------------------------------------------

    def value(self, node: ast.expr, frame: Frame) -> Value:
        """Return what an expression is, as far as it is known before the run."""
        reader = getattr(self, f"_{type(node).__name__.lower()}", None)
        found = reader(node, frame) if reader is not None else None
        return found if found is not None else Unknown(_text(node))

    def _constant(self, node: ast.Constant, frame: Frame) -> Value:
        return Known(node.value)

    def _name(self, node: ast.Name, frame: Frame) -> Value | None:
        if node.id in frame.names:
            return frame.names[node.id]
        if node.id in frame.function.__globals__:
            return Known(frame.function.__globals__[node.id])
        closure = inspect.getclosurevars(frame.function).nonlocals if frame.function.__closure__ else {}
        if node.id in closure:
            return Itself() if closure[node.id] is self.subject else Known(closure[node.id])
        return Known(getattr(builtins, node.id)) if hasattr(builtins, node.id) else None

    def _attribute(self, node: ast.Attribute, frame: Frame) -> Value | None:
        if isinstance(node.value, ast.Call) and _text(node.value).startswith("super("):
            return self.resolve(node.attr, after=frame.owner)
        base = self.value(node.value, frame)
        if isinstance(base, Itself):
            return self.own_attribute(node.attr)
        if isinstance(base, Known):
            if isinstance(base.value, type):
                found = inspect.getattr_static(base.value, node.attr, None)
                if isinstance(found, FunctionType) and base.value in type(self.subject).__mro__:
                    return Method(found, base.value)
                return Known(found) if isinstance(found, (str, int, float)) else None
            return self.dialect.attribute(base.value, node.attr)
        return None

    def own_attribute(self, name: str) -> Value:
        if name in self.attrs:
            return self.attrs[name]
        method = self.resolve(name)
        if method is not None:
            return method
        found = vars(self.subject).get(name)
        # a number or a switch may change while training (a GAN's mode): only objects are taken as they are now
        return Unknown(f"self.{name}") if _plain_value(found) else Known(found)

    def _subscript(self, node: ast.Subscript, frame: Frame) -> Value | None:
        base, index = self.value(node.value, frame), self.value(node.slice, frame)
        if isinstance(base, Known) and isinstance(index, Known):
            return self.dialect.item(base.value, index.value)
        return None

    def joined(self, one: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
        """Return what is known of names after either of two branches: what both agree on."""
        return {name: self.either(one.get(name), other.get(name), name) for name in {**one, **other}}

    def either(self, one: Value | None, other: Value | None, name: str) -> Value:
        if one is not None and one == other:
            return one
        if isinstance(one, Known) and isinstance(other, Known):
            length = self.dialect.length(one.value)
            if length is not None and length == self.dialect.length(other.value):
                return one  # a data loader made anew, as long as the old one
        return Unknown(name)

    def _call(self, node: ast.Call, frame: Frame) -> Value | None:
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value, frame)
            if isinstance(base, Known):
                return self.dialect.called(base.value, node.func.attr)
        target = self.value(node.func, frame)
        if isinstance(target, Method) and isinstance(node.func, ast.Attribute):
            place = self.place(node, frame)
            return self.dialect.special(self, node.func.attr, self.arguments(node, target, frame), place)
        if not isinstance(target, Known):
            return None
        inner = [self.value(argument, frame) for argument in node.args]
        if self.dialect.is_callback_class(target.value):
            named = tuple((word.arg, self.value(word.value, frame)) for word in node.keywords if word.arg is not None)
            return Built(target.value, tuple(inner), named)
        if target.value is len and inner and isinstance(inner[0], Known):
            length = self.dialect.length(inner[0].value)
            return None if length is None else Known(length)
        name = getattr(target.value, "__name__", "")
        if name in ("L", "list", "listify", "tuple") and len(inner) <= 1:
            return _several(inner[0]) if inner else Several(())
        if name == "ContextManagers" and inner and isinstance(inner[0], Entering):
            return inner[0]
        return None

    def _list(self, node: ast.List | ast.Tuple, frame: Frame) -> Value:
        return Several(tuple(self.value(item, frame) for item in node.elts))

    _tuple = _list

    def _binop(self, node: ast.BinOp, frame: Frame) -> Value | None:
        left, right = self.value(node.left, frame), self.value(node.right, frame)
        if isinstance(node.op, ast.Add):
            first, second = _several(left), _several(right)
            if first is not None and second is not None:
                return Several((*first.items, *second.items))
        apply = _ARITHMETIC.get(type(node.op))
        if apply is None or not isinstance(left, Known) or not isinstance(right, Known):
            return None
        numbers = (int, float)
        if not isinstance(left.value, numbers) or not isinstance(right.value, numbers):
            return None
        try:
            return Known(apply(left.value, right.value))
        except (ArithmeticError, TypeError):
            return None

    def _compare(self, node: ast.Compare, frame: Frame) -> Value | None:
        left, right = self.value(node.left, frame), self.value(node.comparators[0], frame)
        apply = _COMPARISON.get(type(node.ops[0]))
        if len(node.ops) != 1 or apply is None or not isinstance(right, Known):
            return None
        if right.value is None and isinstance(node.ops[0], (ast.Is, ast.IsNot)) and not isinstance(left, Unknown):
            absent = isinstance(left, Known) and left.value is None
            return Known(absent is isinstance(node.ops[0], ast.Is))
        if not isinstance(left, Known) or not _plain_value(left.value) or not _plain_value(right.value):
            return None
        try:
            return Known(bool(apply(left.value, right.value)))
        except TypeError:
            return None

    def _boolop(self, node: ast.BoolOp, frame: Frame) -> Value | None:
        stop = isinstance(node.op, ast.Or)
        parts = [self.truth(part, frame) for part in node.values]
        if stop in parts:
            return Known(stop)
        return None if None in parts else Known(not stop)

    def _unaryop(self, node: ast.UnaryOp, frame: Frame) -> Value | None:
        if isinstance(node.op, ast.USub):
            inner = self.value(node.operand, frame)
            return Known(-inner.value) if isinstance(inner, Known) and isinstance(inner.value, (int, float)) else None
        truth = self.truth(node.operand, frame)
        return Known(not truth) if isinstance(node.op, ast.Not) and truth is not None else None

    def _ifexp(self, node: ast.IfExp, frame: Frame) -> Value | None:
        truth = self.truth(node.test, frame)
        return None if truth is None else self.value(node.body if truth else node.orelse, frame)

    def _joinedstr(self, node: ast.JoinedStr, frame: Frame) -> Value | None:
        parts = [
            self.value(part.value if isinstance(part, ast.FormattedValue) else part, frame) for part in node.values
        ]
        return Known("".join(str(p.value) for p in parts if isinstance(p, Known))) if all(isinstance(p, Known) for p in parts) else None

    def truth(self, node: ast.expr, frame: Frame) -> bool | None:
        """Return whether a condition holds, where that is known before the run: never for a flag of the dialect."""
        if self.dialect.flag(_text(node)) is not None:
            return None
        value = self.value(node, frame)
        if isinstance(value, Several):
            return bool(value.items)
        if isinstance(value, Known) and _plain_value(value.value):
            return bool(value.value)
        return None

    # -- conditions --------------------------------------------------------------------------------------

    def needs(self, test: ast.expr, wanted: bool) -> tuple[Need, ...]:
        """Return what must hold for `test` to be `wanted`; each part that is a plain condition is a flag by itself."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.needs(test.operand, not wanted)
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And if wanted else ast.Or):
            return tuple(need for part in test.values for need in self.needs(part, wanted))
        text = _text(test)
        flag, words = self.dialect.flag(text) or (text, f"if {text}")
        return (Need(flag, wanted, f"only {words}" if wanted else f"not {words}"),)

    def place(self, node: ast.stmt | ast.expr, frame: Frame) -> Place:
        return Place(frame.file, node.lineno)


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_COMPARISON: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


@functools.lru_cache(maxsize=8192)
def _text(node: ast.AST) -> str:
    return ast.unparse(node)


@functools.lru_cache(maxsize=8192)
def _has_call(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _is_number(value: Value) -> TypeGuard[Known]:
    return isinstance(value, Known) and hasattr(value.value, "__index__")


def _plain_value(value: object) -> bool:
    """Return whether a value's truth and comparison are ours to ask: those of a tensor or a user's class are not."""
    return value is None or type(value) in (bool, int, float, str)


def _plain(text: str, keep_self: bool = False) -> str:
    return text if keep_self else text.removeprefix("self.")


def _several(value: Value) -> Several | None:
    if isinstance(value, Several):
        return value
    if isinstance(value, Built):
        return Several((value,))
    if isinstance(value, Known) and value.value is None:
        return Several(())
    return None


def _parameters(function: FunctionType, arguments: dict[str, Value], first: tuple[Value, ...]) -> dict[str, Value]:
    """Return the names of a call: the arguments bound first, those of the call, and the defaults of the rest."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    values: dict[str, Value] = {name: Unknown(name) for name in names}
    defaults = function.__defaults__ or ()
    values.update({n: Known(v) for n, v in zip(names[code.co_argcount - len(defaults) : code.co_argcount], defaults)})
    values.update({n: Known(v) for n, v in (function.__kwdefaults__ or {}).items()})
    values.update(arguments)
    values.update(zip(names, first))
    return values


def _key(value: Value) -> object:
    """Return what makes two calls with this argument the same call."""
    if isinstance(value, Method):
        return str(id(unwrap(value.function)))
    return value.text if isinstance(value, Unknown) else str(id(value.value)) if isinstance(value, Known) else type(value).__name__


def _guarded(node: Node, needs: tuple[Need, ...]) -> Node:
    return replace(node, needs=(*needs, *node.needs))


def _named(node: Node, method: str) -> Node:
    return replace(node, method=method) if isinstance(node, Scope) and not node.method else node


def _fires(node: Node) -> bool:
    return isinstance(node, Event) or (isinstance(node, Scope) and any(map(_fires, node.nodes()))) or (
        isinstance(node, Step) and node.name in ("unreadable", "unknown event")
    )


def _scope_name(catches: tuple[Catch, ...], body: Sequence[Node]) -> str:
    """Name a scope by the event with which it is cancelled or entered: `after_cancel_batch` makes `batch`."""
    for catch in catches:
        for node in catch.body:
            if isinstance(node, Event) and "cancel_" in node.name:
                return node.name.partition("cancel_")[2]
    first = next((node for node in body if isinstance(node, Event)), None)
    return first.name.removeprefix("before_") if first is not None else "try"
