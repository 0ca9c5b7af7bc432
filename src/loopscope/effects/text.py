"""Conditions and expressions as syntax trees and as text: negated, joined, shortened."""

from __future__ import annotations

import ast
import builtins
import copy
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from loopscope.effects.data import Effect
from loopscope.effects.names import OF_THE_LOOP
from loopscope.effects.things import NOTHING, SOMETIMES, Exit, Frame, Thing, bare, call_name, unparsed

if TYPE_CHECKING:
    from loopscope.effects.reading import Reading


class Shown(ast.NodeTransformer):
    """Rewrites an expression in terms of learner, model, optimizer and callback; never changes the tree it is given."""

    def __init__(self, reading: Reading, frame: Frame) -> None:
        self.reading, self.frame = reading, frame
        self.hidden: frozenset[str] = frozenset()

    def generic_visit(self, node: ast.AST) -> ast.AST:
        fields: dict[str, Any] = {}
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                fields[name] = [self.visit(part) if isinstance(part, ast.AST) else part for part in value]
            else:
                fields[name] = self.visit(value) if isinstance(value, ast.AST) else value
        return type(node)(**fields)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        found = self.frame.env.get(node.id)
        if found is None or node.id in self.hidden or not found.text or len(found.text) > 64:
            return node
        if found.const is not None:
            return found.const
        return ast.Name(found.text, ast.Load())

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        chain: ast.expr = node
        while isinstance(chain, ast.Attribute):
            chain = chain.value
        if isinstance(chain, ast.Name) and chain.id not in self.hidden:
            found = self.reading.path(node, self.frame)
            if found.text:
                return ast.Name(found.text, ast.Load())
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Show a call; an argument needs no brackets of its own."""
        shown = self.generic_visit(node)
        assert isinstance(shown, ast.Call)
        shown.args = [ast.Name(unparsed(part)) if isinstance(part, ast.Name) else part for part in shown.args]
        return shown

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self.without(node, {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)})

    def comprehension(self, node: ast.AST) -> ast.AST:
        bound = {
            n.id
            for part in ast.walk(node)
            if isinstance(part, ast.comprehension)
            for n in ast.walk(part.target)
            if isinstance(n, ast.Name)
        }
        return self.without(node, bound)

    def visit(self, node: ast.AST) -> Any:
        """Show one node; a comprehension has names of its own."""
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            return self.comprehension(node)
        return super().visit(node)

    def without(self, node: ast.AST, names: set[str]) -> ast.AST:
        before, self.hidden = self.hidden, self.hidden | names
        shown = self.generic_visit(node)
        self.hidden = before
        return shown

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        known = known_truth(test := self.visit(node.test))
        if known is not None:
            return self.visit(node.body if known else node.orelse)  # type: ignore[no-any-return]
        return ast.IfExp(test, self.visit(node.body), self.visit(node.orelse))


OPERATORS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.MatMult: "@",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
}


def either_exit(test: ast.expr, yes: Exit, no: Exit) -> Exit:
    """Return when an `if` is left early, from when its branches are."""
    if yes is True and no is True:
        return True
    if yes is None and no is None:
        return None
    if yes is True and no is None:
        return test
    if no is True and yes is None:
        return negated(test)
    if no is None and yes is not None and yes is not True and yes is not SOMETIMES:
        return ast.BoolOp(ast.And(), [test, yes])
    return SOMETIMES


def what_follows(node: ast.stmt, exit: ast.expr) -> ast.expr:
    """Return what holds after a statement that may have left the block; noted on it: the exception that it leaves by.

    `if a: raise X` and then `if b: raise X` raises X if a or b: the second needs no `not a`.
    """
    if exit is SOMETIMES:
        return exit
    opposite = copy.copy(negated(exit))
    last = node.body[-1] if isinstance(node, ast.If) else None
    if isinstance(last, ast.Raise) and last.exc is not None:
        raised = last.exc.func if isinstance(last.exc, ast.Call) else last.exc
        opposite.guard = unparsed(raised).rpartition(".")[2]  # type: ignore[attr-defined]
    return opposite


def leaves(body: Sequence[ast.stmt]) -> bool:
    return any(isinstance(part, (ast.Return, ast.Raise)) for node in body for part in ast.walk(node))


def raised_last(body: Sequence[ast.stmt]) -> ast.expr | None:
    """Return the exception that a branch ends with, if that is the only way out of it."""
    last = body[-1]
    if not isinstance(last, ast.Raise) or last.exc is None or leaves(body[:-1]):
        return None
    return last.exc.func if isinstance(last.exc, ast.Call) else last.exc


def is_error(name: str, cls: object = NOTHING) -> bool:
    """Return whether an exception is one of Python's own, or one of those more exactly: not a way to steer the loop."""
    found = vars(builtins).get(name, cls)
    if not isinstance(found, type):
        return False
    plain = found in (Exception, BaseException)
    return plain or any(base in _MISTAKES for base in type.__getattribute__(found, "__mro__"))


_STEERING = (BaseException, Exception, KeyboardInterrupt, SystemExit, StopIteration, StopAsyncIteration, GeneratorExit)
_MISTAKES = frozenset(
    one
    for one in vars(builtins).values()
    if isinstance(one, type) and issubclass(one, BaseException) and one not in _STEERING
)


def steers(effect: Effect) -> bool:
    return effect.kind == "raises" and effect.on == "learner"


def caught_names(handler: ast.ExceptHandler) -> tuple[str, ...]:
    if handler.type is None:
        return ()
    parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return tuple(unparsed(part).rpartition(".")[2] for part in parts)


def is_caught(effect: Effect, caught: Sequence[tuple[str, ...]]) -> bool:
    if effect.kind != "raises":
        return False
    return any(not names or effect.target in names or {"Exception", "BaseException"} & set(names) for names in caught)


def passes_root(args: Iterable[Thing]) -> bool:
    return any(thing.root == "learn" or (thing.on in OF_THE_LOOP and not thing.made) for thing in args)


_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def negated(test: ast.expr) -> ast.expr:
    """Return the opposite of a condition, as one would write it: `not x is None` -> `x is not None`."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return ast.Compare(test.left, [_OPPOSITE[type(test.ops[0])]()], test.comparators)
    if isinstance(test, ast.BoolOp):
        other: ast.boolop = ast.Or() if isinstance(test.op, ast.And) else ast.And()
        return ast.BoolOp(other, [negated(part) for part in test.values])
    return ast.UnaryOp(ast.Not(), test)


def known_truth(test: ast.expr) -> bool | None:
    """Return whether a condition between literals holds; None where it is not between literals."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        known = known_truth(test.operand)
        return None if known is None else not known
    if isinstance(test, ast.BoolOp):
        parts = [known_truth(part) for part in test.values]
        stop = isinstance(test.op, ast.Or)
        return stop if stop in parts else None if None in parts else not stop
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right = test.left, test.comparators[0]
        if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
            same = left.value is right.value if right.value is None else left.value == right.value
            if isinstance(test.ops[0], (ast.Is, ast.Eq)):
                return same
            if isinstance(test.ops[0], (ast.IsNot, ast.NotEq)):
                return not same
    return None


def has_call(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def is_small(node: ast.expr) -> bool:
    return len(list(itertools.islice(ast.walk(node), 20))) < 20


def for_each(target: ast.expr, over: ast.expr) -> str:
    text = unparsed(over)
    choice = isinstance(over, ast.IfExp) or (isinstance(over, ast.Name) and " if " in text and text[:1] not in "[{(")
    return f"for {bare(unparsed(target), target)} in {cut_short(f'({text})' if choice else text, 64)}"


def shortened(node: ast.AST, longest: int) -> str:
    text = bare(unparsed(node), node)
    return text if len(text) <= longest else "…"


def cut_short(text: str, longest: int) -> str:
    return text if len(text) <= longest else re.sub(r"[\s.(\[,]+[^\s.(\[,]*$", "", text[:longest]) + " …"


def cut_between(text: str, longest: int) -> str:
    """Return a condition cut where an `and` or `or` joins its parts: `a and …`; a single part down to its call."""
    if len(text) <= longest:
        return text
    depth, end = 0, 0
    for at, letter in enumerate(text[:longest]):
        depth += (letter in "([{") - (letter in ")]}")
        joint = next((word for word in (" and ", " or ") if depth == 0 and text.startswith(word, at)), "")
        end = at + len(joint) if joint else end
    if end:
        return text[:end] + "…"
    called = call_name(text)
    if text.endswith(")") and called.isidentifier():
        return f"{called}(…)"
    return re.sub(r"([\s(]|\b(self|not))+…$", " …", cut_short(text, longest)).strip()
