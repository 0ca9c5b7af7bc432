"""What is known of a value before training: expressions of a framework's methods, evaluated as far as that is safe.

A number of epochs, a data loader, a method of the object, a callback that a call makes: such values are carried
along while a loop is read (`reader.py`); everything else stays a name. Nothing of the user's is executed beyond
`len()` of a data loader. What is peculiar to a framework comes from a `Dialect`.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CellType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from loopscope.model import Need, Node
from loopscope.source import unwrap

if TYPE_CHECKING:
    from loopscope.reader import Reader


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
    """A function of the object; `owner` is the class that holds it, `first` and `words` what is bound before."""

    function: Callable[..., Any]
    owner: type | None
    first: tuple[Value, ...] = (Itself(),)
    words: tuple[tuple[str, Value], ...] = ()


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

    wrap: Callable[[Reader, tuple[Node, ...]], tuple[Node, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """A lambda or a function defined inside a method, with the names around it."""

    node: ast.Lambda | ast.FunctionDef
    frame: Frame


Value = Unknown | Known | Itself | Method | Built | Several | Entering | Local


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

    def special(self, name: str, arguments: dict[str, Value]) -> Value | None:
        """Return the value of a call to the object's method `name` that is not to be read as source, else None."""

    def flag(self, text: str) -> tuple[str, str] | None:
        """Return the flag of a condition as written, and its words: `("training", "while training")`; or None."""

    def is_dispatch(self, name: str) -> bool:
        """Return whether calling the object's method `name` fires an event, as calling the object does."""

    def wraps(self, function: FunctionType) -> bool:
        """Return whether `function` only puts events around what another method hands to it."""

    def is_loop_method(self, name: str) -> bool:
        """Return whether the framework's own method of that name is a part of its loop."""

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
class Evaluator:
    """Evaluates expressions in methods of `subject`; `attrs` are its attributes as assigned so far."""

    subject: Any
    dialect: Dialect
    attrs: dict[str, Value] = field(default_factory=dict)

    def resolve(self, name: str, after: type | None = None) -> Method | None:
        """Return the method that `self.<name>` (or, with `after`, `super().<name>`) really is."""
        if after is None:
            own = vars(self.subject).get(name)
            if callable(own) and not isinstance(own, type):
                if unwrap(own) is not None:
                    return Method(own, None, self.bound(own), _words(own))
                if isinstance(vars(type(own)).get("__call__"), FunctionType):
                    return Method(vars(type(own))["__call__"], None, (Known(own),))
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
        """Return what a function in the object's own `__dict__` brings along: it gets no implicit self."""
        if isinstance(function, MethodType):
            given: tuple[object, ...] = (function.__self__,)
        elif isinstance(function, functools.partial):
            given = function.args
        else:
            given = ()
        return tuple(Itself() if one is self.subject else Known(one) for one in given)

    def special(self, call: ast.Call, method: Method, frame: Frame) -> Value | None:
        """Return what the dialect makes of a call; it speaks of the parameters as written, under any decorator."""
        if not isinstance(call.func, ast.Attribute):
            return None
        return self.dialect.special(call.func.attr, self.arguments(call, method, frame, through_wraps=True))

    def arguments(self, call: ast.Call, method: Method, frame: Frame, through_wraps: bool = False) -> dict[str, Value]:
        """Bind a call's arguments to the parameter names of `method`; those bound before are left out."""
        function = unwrap(method.function, through_wraps)
        assert function is not None
        code = function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        positional = names[len(method.first) : code.co_argcount]
        given = self.positional(call, frame)
        bound: dict[str, Value] = {**dict(method.words), **dict(zip(positional, given, strict=False))}
        if code.co_flags & inspect.CO_VARARGS:
            spilled = (*method.first[code.co_argcount :], *given[len(positional) :])
            bound[code.co_varnames[code.co_argcount + code.co_kwonlyargcount]] = Several(spilled)
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

    def positional(self, call: ast.Call, frame: Frame) -> list[Value]:
        """Return the positional arguments of a call, as far as they are known one by one."""
        given: list[Value] = []
        for argument in call.args:
            if not isinstance(argument, ast.Starred):
                given.append(self.value(argument, frame))
                continue
            spread = several(self.value(argument.value, frame))
            if spread is None:
                break
            given += spread.items
        return given

    def method_of(self, value: Value, call: ast.Call, frame: Frame) -> Method | None:
        """Return a function that works on the object though it is no attribute of it: a kept original, a helper."""
        function = value.value if isinstance(value, Known) else None
        if isinstance(function, (MethodType, functools.partial)) and Itself() in self.bound(function):
            return Method(function, self.owner_of(function), self.bound(function), _words(function))
        if not isinstance(function, FunctionType):
            return None
        closed = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        if Itself() in self.positional(call, frame) or any(one is self.subject for one in closed):
            return Method(function, self.owner_of(function), ())
        return None

    def owner_of(self, function: object) -> type | None:
        """Return the class of the object in whose body a function was written: where its `super()` begins."""
        plain = unwrap(function)
        name = plain.__qualname__.rpartition(".")[0] if plain is not None else ""
        return next((cls for cls in type(self.subject).__mro__ if cls.__qualname__ == name), None)

    def value(self, node: ast.expr, frame: Frame) -> Value:
        """Return what an expression is, as far as it is known before the run."""
        reader = getattr(self, f"_{type(node).__name__.lower()}", None)
        found = reader(node, frame) if reader is not None else None
        return found if found is not None else Unknown(text_of(node))

    def _constant(self, node: ast.Constant, frame: Frame) -> Value:
        return Known(node.value)

    def _name(self, node: ast.Name, frame: Frame) -> Value | None:
        if node.id in frame.names:
            return frame.names[node.id]
        if node.id in frame.function.__globals__:
            found = frame.function.__globals__[node.id]
            return Itself() if found is self.subject else Known(found)
        closure = inspect.getclosurevars(frame.function).nonlocals if frame.function.__closure__ else {}
        if node.id in closure:
            return Itself() if closure[node.id] is self.subject else Known(closure[node.id])
        return Known(getattr(builtins, node.id)) if hasattr(builtins, node.id) else None

    def _lambda(self, node: ast.Lambda, frame: Frame) -> Value:
        return Local(node, frame)

    def _attribute(self, node: ast.Attribute, frame: Frame) -> Value | None:
        if isinstance(node.value, ast.Call) and text_of(node.value).startswith("super("):
            return self.resolve(node.attr, after=frame.owner)
        base = self.value(node.value, frame)
        if isinstance(base, Itself):
            return self.own_attribute(node.attr)
        if isinstance(base, Known):
            if isinstance(base.value, ModuleType):
                return Known(vars(base.value)[node.attr]) if node.attr in vars(base.value) else None
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
        written = next((vars(cls)[name] for cls in type(self.subject).__mro__ if name in vars(cls)), None)
        if name not in vars(self.subject) and isinstance(written, str):
            return Known(written)  # the name of an event, say, that a class keeps
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
            found = self.dialect.called(base.value, node.func.attr) if isinstance(base, Known) else None
            if found is not None:
                return found
        target = self.value(node.func, frame)
        if isinstance(target, Method) and isinstance(node.func, ast.Attribute):
            return self.special(node, target, frame)
        if not isinstance(target, Known):
            return None
        inner = self.positional(node, frame)
        if target.value is getattr and len(inner) > 1 and isinstance(inner[0], Itself) and isinstance(inner[1], Known):
            return self.own_attribute(str(inner[1].value))
        if target.value is functools.partial and inner and isinstance(inner[0], Method):
            return Method(inner[0].function, inner[0].owner, (*inner[0].first, *inner[1:]))
        if self.dialect.is_callback_class(target.value):
            named = tuple((word.arg, self.value(word.value, frame)) for word in node.keywords if word.arg is not None)
            return Built(target.value, tuple(inner), named)
        if target.value is len and inner and isinstance(inner[0], Known):
            length = self.dialect.length(inner[0].value)
            return None if length is None else Known(length)
        name = getattr(target.value, "__name__", "")
        if name in ("L", "list", "listify", "tuple") and len(inner) <= 1:
            return several(inner[0]) if inner else Several(())
        if name == "ContextManagers" and inner and isinstance(inner[0], Entering):
            return inner[0]
        return None

    def _list(self, node: ast.List | ast.Tuple, frame: Frame) -> Value | None:
        items: list[Value] = []
        for item in node.elts:
            if not isinstance(item, ast.Starred):
                items.append(self.value(item, frame))
                continue
            spread = several(self.value(item.value, frame))
            if spread is None:
                return None
            items += spread.items
        return Several(tuple(items))

    _tuple = _list

    def _binop(self, node: ast.BinOp, frame: Frame) -> Value | None:
        left, right = self.value(node.left, frame), self.value(node.right, frame)
        if isinstance(node.op, ast.Add):
            first, second = several(left), several(right)
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
        """Return the operand that `a or b` gives: the first that decides it, or else the last."""
        stop = isinstance(node.op, ast.Or)
        truths = [self.truth(part, frame) for part in node.values]
        for part, truth in zip(node.values, truths, strict=True):
            if truth is None:
                return Known(stop) if stop in truths else None
            if truth is stop:
                return self.value(part, frame)
        return self.value(node.values[-1], frame)

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
        return (
            Known("".join(str(p.value) for p in parts if isinstance(p, Known)))
            if all(isinstance(p, Known) for p in parts)
            else None
        )

    def truth(self, node: ast.expr, frame: Frame) -> bool | None:
        """Return whether a condition holds, where that is known before the run: never for a flag of the dialect."""
        if self.dialect.flag(text_of(node)) is not None:
            return None
        value = self.value(node, frame)
        if isinstance(value, Several):
            return bool(value.items)
        if isinstance(value, Known) and _plain_value(value.value):
            return bool(value.value)
        return None

    def needs(self, test: ast.expr, wanted: bool) -> tuple[Need, ...]:
        """Return what must hold for `test` to be `wanted`; each part that is a plain condition is a flag by itself."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.needs(test.operand, not wanted)
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And if wanted else ast.Or):
            return tuple(need for part in test.values for need in self.needs(part, wanted))
        text = text_of(test)
        flag, words = self.dialect.flag(text) or (text, f"if {text}")
        return (Need(flag, wanted, f"only {words}" if wanted else f"not {words}"),)


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
def text_of(node: ast.AST) -> str:
    return ast.unparse(node)


@functools.lru_cache(maxsize=8192)
def has_call(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def is_number(value: Value) -> TypeGuard[Known]:
    return isinstance(value, Known) and hasattr(value.value, "__index__")


def _plain_value(value: object) -> bool:
    """Return whether a value's truth and comparison are ours to ask: those of a tensor or a user's class are not."""
    return value is None or type(value) in (bool, int, float, str)


def unself(text: str, keep_self: bool = False) -> str:
    return text if keep_self else text.removeprefix("self.")


def several(value: Value) -> Several | None:
    if isinstance(value, Several):
        return value
    if isinstance(value, Built):
        return Several((value,))
    if isinstance(value, Known) and value.value is None:
        return Several(())
    return None


def parameters(function: FunctionType, arguments: dict[str, Value], first: tuple[Value, ...]) -> dict[str, Value]:
    """Return the names of a call: the arguments bound first, those of the call, and the defaults of the rest."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    values: dict[str, Value] = {name: Unknown(name) for name in names}
    defaults = function.__defaults__ or ()
    optional = names[code.co_argcount - len(defaults) : code.co_argcount]
    values.update({name: Known(default) for name, default in zip(optional, defaults, strict=True)})
    values.update({n: Known(v) for n, v in (function.__kwdefaults__ or {}).items()})
    values.update(arguments)
    values.update(zip(names, first, strict=False))
    return values


def _words(function: object) -> tuple[tuple[str, Value], ...]:
    """Return the keyword arguments that a partial brings along."""
    words = function.keywords if isinstance(function, functools.partial) else {}
    return tuple((name, Known(value)) for name, value in words.items())


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


def key_of(value: Value) -> object:
    """Return what makes two calls with this argument the same call."""
    if isinstance(value, Method):
        return str(id(unwrap(value.function)))
    if isinstance(value, Local):
        return str(id(value.node))
    return (
        value.text
        if isinstance(value, Unknown)
        else str(id(value.value))
        if isinstance(value, Known)
        else type(value).__name__
    )
