"""Reads one function: follows its statements and calls, and records what is done to whom."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, ModuleType
from typing import Any

from loopscope.effects.data import Effect, Kind, Vocabulary
from loopscope.effects.given import Nobody, constant, handed, names_of_call, names_of_handler, static
from loopscope.effects.names import (
    CHANGING,
    FILE_METHODS,
    OF_THE_LOOP,
    OUTSIDE_CALLS,
    OUTSIDE_MODULES,
    RANK,
    SHRINKING,
    dominant,
    is_message,
    is_object,
    is_outside,
    is_pure,
    module_of,
)
from loopscope.effects.own import classes_of, is_empty, is_name, own_attributes
from loopscope.effects.text import (
    OPERATORS,
    Shown,
    caught_names,
    either_exit,
    for_each,
    has_call,
    is_caught,
    is_error,
    is_small,
    known_truth,
    leaves,
    negated,
    passes_root,
    raised_last,
    shortened,
    steers,
    what_follows,
)
from loopscope.effects.things import (
    NOTHING,
    SOMETIMES,
    Exit,
    Found,
    Frame,
    LocalFunction,
    Path,
    Thing,
    call_name,
    unparsed,
)
from loopscope.source import FunctionNode, is_lasting, syntax, unwrap

_SUPER = Thing("callback", "super()", "super")


MOST_STEPS = 10_000
"""Expressions that are read for one handler, helpers included: ten times those of fastai's longest; about 0.2 s."""


class Reading:
    """One handler being read, with all the functions that it calls on the way."""

    def __init__(self, owner: type, vocabulary: Vocabulary, function: FunctionType) -> None:
        self.owner, self.owner_is, self.vocabulary = owner, vocabulary.owner_is, vocabulary
        self.self = Thing(self.owner_is, "self", "self")
        self.learner = Thing("learner", vocabulary.word, "learn")
        self.instance: object = None
        self.seen: dict[tuple[FunctionType | None, str], object] | None = {}  # None: what was seen may not be kept
        self.own = own_attributes(owner, vocabulary.stores)
        self.found: list[Found] = []
        self.reads: dict[str, Found] = {}
        self.origins: dict[str, str] = {}
        self.assigned: list[tuple[str, str, bool, ast.expr]] = []
        self.complete = True
        self.told = True  # False where something was called that may do anything, and nothing is said about it
        self.raised = False
        self.stack: list[FunctionNode] = []
        self.package = str(function.__module__).partition(".")[0]
        self.module = function.__module__
        self.steps = 0

    def all_items(self) -> Iterator[Effect]:
        for found in (*self.found, *self.reads.values()):
            yield replace(found.effect, when=found.path.text(), certain=found.path.certain)

    def record(self, path: Path, kind: Kind, on: str, target: str, value: str = "", how: str = "") -> Found:
        short = value if len(value) <= 72 else ""
        effect = Effect(kind, on or "outside", target, short, "", True, how)  # type: ignore[arg-type]
        self.found.append(Found(effect, path, value))
        return self.found[-1]

    def known(self, value: object) -> Thing:
        """Return what an argument that a partial or a bound method brings along stands for."""
        if isinstance(value, self.owner):
            self.instance = value
            return self.self
        if (thing := self.kind(value, "")) is not None:
            return thing
        if value is None or isinstance(value, (bool, int, float, str)):
            return constant(ast.Constant(value))
        name = getattr(value, "__name__", None) if isinstance(value, (type, FunctionType, ModuleType)) else None
        return Thing(text=name or type(value).__name__, obj=value)

    def kind(self, value: object, text: str) -> Thing | None:
        """Return what an object is by its class, in the framework's terms: `evaluator`, an engine, is a learner."""
        on = self.vocabulary.kind(value)
        return None if on is None else Thing(on, text, "learn" if on == "learner" else "given", obj=value)

    def takes_self(self, function: FunctionType, node: FunctionNode) -> bool:
        """Return whether the handler is a method that gets `self` from nobody but us."""
        if self.vocabulary.owners:
            return True
        places = [*node.args.posonlyargs, *node.args.args]
        if self.owner is Nobody or not places:
            return False
        members = [m for cls in classes_of(self.owner) for m in type.__getattribute__(cls, "__dict__").values()]
        found = [member for member in members if unwrap(member) is function]
        return not isinstance(found[0], staticmethod) if found else places[0].arg == "self"

    def defining(self, function: FunctionType) -> type | None:
        """Return the class whose body has `function`: that is where `super()` starts from."""
        if "__class__" in function.__code__.co_freevars and function.__closure__:
            cell = function.__closure__[function.__code__.co_freevars.index("__class__")]
            try:
                return cell.cell_contents if isinstance(cell.cell_contents, type) else None
            except ValueError:  # the class is not made yet
                return None
        for cls in classes_of(self.owner):
            if unwrap(type.__getattribute__(cls, "__dict__").get(function.__name__)) is function:
                return cls
        return None

    def is_theirs(self, function: FunctionType, bound: object) -> bool:
        """Tell a handler that is a method which the framework gives such an object, by name: `evaluator.run`."""
        thing = self.kind(bound, "") if self.owner_is == "callback" else None
        if thing is None or not any(
            unwrap(static(cls, function.__name__)) is function for on, cls in self.vocabulary.kinds if on == thing.on
        ):
            return False
        word = self.vocabulary.word if thing.root == "learn" else thing.on
        done = self.record(Path(), "calls", thing.on, f"{word}.{function.__name__}(…)")
        if thing.root == "learn":
            done.method, done.steers = function.__name__, function.__name__ in self.vocabulary.steers
        return True

    # -- statements --

    def run(self, frame: Frame, path: Path) -> None:
        """Read a function's body; a lambda's is one expression, for its effect."""
        self.stack.append(frame.node)
        if isinstance(frame.node, ast.Lambda):
            frame.returns.append(self.visit(frame.node.body, frame, path, True))
        else:
            self.block(frame.node.body, frame, path)
        self.stack.pop()

    def block(self, body: Sequence[ast.stmt], frame: Frame, path: Path) -> Exit:
        """Read statements in order; return under which condition they leave the block early."""
        left: Exit = None
        for node in body:
            self.raised = False
            exit = self.statement(node, frame, path)
            if exit is None and self.raised:
                exit = SOMETIMES
            if exit is True:
                return True
            if exit is not None:
                path = path.given(what_follows(node, exit))
                left = exit if left is None else SOMETIMES
        return left

    def statement(self, node: ast.stmt, frame: Frame, path: Path) -> Exit:
        read = STATEMENTS.get(type(node))
        return read(self, node, frame, path) if read is not None else None

    def _expr(self, node: ast.Expr, frame: Frame, path: Path) -> Exit:
        self.visit(node.value, frame, path, True)
        return None

    def _assign(self, node: ast.Assign, frame: Frame, path: Path) -> Exit:
        value = self.visit(node.value, frame, path)
        for target in node.targets:
            self.assign(target, value, node.value, frame, path)
        return None

    def _annassign(self, node: ast.AnnAssign, frame: Frame, path: Path) -> Exit:
        if node.value is not None:
            self.assign(node.target, self.visit(node.value, frame, path), node.value, frame, path)
        return None

    def _augassign(self, node: ast.AugAssign, frame: Frame, path: Path) -> Exit:
        value = self.visit(node.value, frame, path)
        if isinstance(node.target, ast.Name):
            old = frame.env.get(node.target.id, Thing())
            on = dominant((old, value))
            frame.env[node.target.id] = Thing(on, node.target.id, made=True)
            how = f"{OPERATORS.get(type(node.op), '')}="
            self.outer(node.target.id, self.text(node.value, frame), frame, path, how)
        else:
            how = f"{OPERATORS.get(type(node.op), '')}="
            self.write(node.target, node.value, frame, path, how)
            if self.found and self.found[-1].effect.on == "callback" and self.found[-1].effect.kind == "writes":
                self.found[-1].taken = value.on in OF_THE_LOOP and isinstance(node.value, ast.Call)
        return None

    def outer(self, name: str, value: str, frame: Frame, path: Path, how: str) -> None:
        """Record an assignment to a name that outlasts the function: one that it declares global or nonlocal."""
        if name in frame.outer:
            self.record(path, "writes", "outside", name, value, how)

    def _outer(self, node: ast.Global | ast.Nonlocal, frame: Frame, path: Path) -> Exit:
        frame.outer.update(node.names)
        return None

    def _delete(self, node: ast.Delete, frame: Frame, path: Path) -> Exit:
        for target in node.targets:
            if isinstance(target, ast.Name):
                frame.env.pop(target.id, None)
            elif isinstance(target, (ast.Attribute, ast.Subscript)):
                on, text, _ = self.target(target, frame, path)
                if on:
                    self.record(path, "deletes", on, text)
        return None

    def _return(self, node: ast.Return, frame: Frame, path: Path) -> Exit:
        if node.value is not None:
            given = self.visit(node.value, frame, path)
            frame.returns.append(given)
            if self.vocabulary.returns and len(self.stack) == 1:
                self.returned(node.value, given, frame, path)
        return True

    def returned(self, node: ast.expr, given: Thing, frame: Frame, path: Path) -> None:
        """Record what the framework gets back, but for None and what it gave itself."""
        if isinstance(node, ast.IfExp):
            test = self.shown(node.test, frame)
            self.returned(node.body, self.path(node.body, frame), frame, path.given(test))
            self.returned(node.orelse, self.path(node.orelse, frame), frame, path.given(negated(test)))
        elif not given.root and (given.const is None or given.const.value is not None):
            self.record(path, "returns", "learner", "a value", self.text(node, frame))

    def _leave(self, node: ast.stmt, frame: Frame, path: Path) -> Exit:
        return True

    def _raise(self, node: ast.Raise, frame: Frame, path: Path) -> Exit:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        for part in node.exc.args if isinstance(node.exc, ast.Call) else ():
            self.visit(part, frame, path)
        name = frame.caught if raised is None else unparsed(raised).rpartition(".")[2]
        if name.isidentifier() and name in frame.env:
            name = call_name(frame.env[name].text or name).rpartition(".")[2]
        if raised is not None and name[:1].islower() and not isinstance(self.path(raised, frame).obj, type):
            name = self.text(raised, frame) + "(…)" * isinstance(node.exc, ast.Call)
            path = path.given(SOMETIMES)  # what it is, only the run knows
        kept = tuple(c for c in path.conditions if getattr(c, "guard", None) != name)
        path = replace(path, conditions=kept)
        error = raised is not None and self.is_error(raised, frame)
        self.record(path, "raises", "callback" if error or is_error(name) else "learner", name)
        return True

    def is_error(self, raised: ast.expr, frame: Frame) -> bool:
        found, name = self.path(raised, frame), unparsed(raised).rpartition(".")[2]
        return name in self.vocabulary.errors or is_error(name, found.obj)

    def _assert(self, node: ast.Assert, frame: Frame, path: Path) -> Exit:
        self.visit(node.test, frame, path)
        test = self.shown(node.test, frame)
        known = known_truth(test)
        if known is not True:
            self.record(path.given(negated(test)), "raises", "callback", "AssertionError", unparsed(test), "assert")
        return None

    def _if(self, node: ast.If, frame: Frame, path: Path) -> Exit:
        self.visit(node.test, frame, path)
        test = self.shown(node.test, frame)
        known = known_truth(test)
        if known is not None:
            return self.block(node.body if known else node.orelse, frame, path)
        before = dict(frame.env)
        yes = self.block(node.body, frame, path.given(test))
        then, frame.env = frame.env, before
        no = self.block(node.orelse, frame, path.given(negated(test)))
        if yes is True:
            then = frame.env
        frame.env = then if no is True else _merged(then, frame.env)
        raised = raised_last(node.body)
        if no is None and raised is not None and self.is_error(raised, frame):
            return None  # nothing is left to say about a run that ended in an error
        return either_exit(test, yes, no)

    def _for(self, node: ast.For | ast.AsyncFor, frame: Frame, path: Path) -> Exit:
        over = self.visit(node.iter, frame, path)
        self.bind(node.target, over, node.iter, frame, path)
        each = for_each(node.target, self.shown(node.iter, frame))
        self.repeated(node.body, frame)
        self.block(node.body, frame, path.inside(each))
        self.repeated(node.body, frame)
        self.block(node.orelse, frame, path)
        return SOMETIMES if leaves(node.body) else None

    def repeated(self, body: Sequence[ast.stmt], frame: Frame) -> None:
        """Let go of what a loop's body assigns: the name then stands for this time's value or that of another."""
        for part in (part for node in body for part in ast.walk(node)):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store) and (old := frame.env.get(part.id)):
                frame.env[part.id] = Thing(old.on, part.id, made=old.made or old.const is not None)

    def _while(self, node: ast.While, frame: Frame, path: Path) -> Exit:
        self.repeated(node.body, frame)
        self.visit(node.test, frame, path)
        self.block(node.body, frame, path.inside(f"while {shortened(self.shown(node.test, frame), 48)}"))
        self.repeated(node.body, frame)
        self.block(node.orelse, frame, path)
        return SOMETIMES if leaves(node.body) else None

    def _with(self, node: ast.With | ast.AsyncWith, frame: Frame, path: Path) -> Exit:
        for item in node.items:
            entered = self.visit(item.context_expr, frame, path)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, self.entered(item.context_expr, entered, frame), None, frame, path)
            if "suppress" in ast.unparse(item.context_expr):
                path = path.given(SOMETIMES)  # what is raised inside may end here
        return self.block(node.body, frame, path)

    def entered(self, node: ast.expr, entered: Thing, frame: Frame) -> Thing:
        """Return what `with ... as` binds: the learner where its method's own source yields `self`."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            base = self.path(node.func.value, frame)
            if base.root == "learn" and self.gives_back(node.func.attr):
                return base
        return entered

    def gives_back(self, name: str) -> bool:
        for _, cls in self.vocabulary.owners:
            found = syntax(static(cls, name))
            if found is not None and found.node.args.args:
                first = found.node.args.args[0].arg
                given = [part.value for part in ast.walk(found.node) if isinstance(part, ast.Yield)]
                return bool(given) and all(part is not None and is_name(part, first) for part in given)
        return False

    def _try(self, node: ast.Try, frame: Frame, path: Path) -> Exit:
        before = len(self.found)
        raised, self.raised = self.raised, False
        left = self.block(node.body, frame, path)
        caught = [caught_names(handler) for handler in node.handlers]
        self.found[before:] = [found for found in self.found[before:] if not is_caught(found.effect, caught)]
        if any(not names for names in caught):
            self.raised = False
        self.raised = self.raised or raised
        for handler, names in zip(node.handlers, caught, strict=True):
            if handler.name is not None:
                frame.env[handler.name] = Thing(text=" or ".join(names) or "Exception")
            on = f"on {' or '.join(names)}" if names and "Exception" not in names else "on an error"
            outer, frame.caught = frame.caught, " or ".join(names) or "Exception"
            self.block(handler.body, frame, path.inside(on))
            frame.caught = outer
        if left is None:
            left = self.block(node.orelse, frame, path)
        last = self.block(node.finalbody, frame, path)
        return True if last is True else left if not node.handlers else (None if left is None else SOMETIMES)

    def _match(self, node: ast.Match, frame: Frame, path: Path) -> Exit:
        self.visit(node.subject, frame, path)
        subject, left = shortened(self.shown(node.subject, frame), 40), None
        for case in node.cases:
            for part in ast.walk(case.pattern):
                for name in (getattr(part, "name", None), getattr(part, "rest", None)):
                    if isinstance(name, str):
                        frame.env[name] = Thing(text=name)
            exit = self.block(case.body, frame, path.given(ast.Name(f"{subject} matches {unparsed(case.pattern)}")))
            left = SOMETIMES if exit is not None else left
        return left

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef, frame: Frame, path: Path) -> Exit:
        frame.env[node.name] = Thing(text=node.name, obj=LocalFunction(node, frame))
        return None

    def _import(self, node: ast.Import | ast.ImportFrom, frame: Frame, path: Path) -> Exit:
        """An import inside a function binds what is already loaded; nothing is imported here."""
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            module = sys.modules.get(node.module or "") if isinstance(node, ast.ImportFrom) else None
            obj: Any = NOTHING
            if isinstance(node, ast.Import):
                obj = sys.modules.get(alias.name if alias.asname else name, NOTHING)
            elif isinstance(module, ModuleType):
                obj = vars(module).get(alias.name, NOTHING)
            origin = (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
            frame.env[name] = Thing("outside" if origin in OUTSIDE_MODULES else "", name, obj=obj)
        return None

    # -- assignments --

    def assign(self, target: ast.expr, value: Thing, node: ast.expr | None, frame: Frame, path: Path) -> None:
        if isinstance(target, ast.Starred):
            target = target.value
        if isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, value, node, frame, path)
        elif isinstance(target, ast.Name):
            frame.env[target.id] = self.alias(target.id, value, node, frame)
            self.outer(target.id, "" if node is None else self.text(node, frame), frame, path, "=")
        else:
            self.write(target, node, frame, path, "=")

    def unpack(
        self, targets: Sequence[ast.expr], value: Thing, node: ast.expr | None, frame: Frame, path: Path
    ) -> None:
        same = len(value.items) == len(targets)
        nodes = node.elts if isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) == len(targets) else None
        shown = None if nodes is None else [ast.Name(self.text(part, frame)) for part in nodes]
        for at, target in enumerate(targets):
            part = value.items[at] if same else Thing(value.on, "", made=True)
            source = nodes[at] if nodes is not None else None
            if shown is not None and not isinstance(target, (ast.Tuple, ast.List, ast.Name)):
                self.write(target, source, frame, path, "=", shown[at].id)  # all values are read before any is written
            else:
                self.assign(target, part, source, frame, path)

    def alias(self, name: str, value: Thing, node: ast.expr | None, frame: Frame) -> Thing:
        """Return what a local name stands for: the same thing, or a value whose source is shown if it is short."""
        if value.root or value.const is not None or (value.text and not value.made):
            return value
        own = not self.vocabulary.owners and self.makes_an_object(node, frame)  # `table`, that is filled, not `Table()`
        text = self.text(node, frame, True) if node is not None and is_small(node) and not own else name
        longest = 64 if isinstance(node, ast.IfExp) and not has_call(node) else 40
        return replace(value, text=text if len(text) <= longest else name)

    def makes_an_object(self, node: ast.expr | None, frame: Frame) -> bool:
        cls = self.path(node.func, frame).obj if isinstance(node, ast.Call) else None
        return isinstance(cls, type) and not issubclass(cls, BaseException)

    def bind(self, target: ast.expr, over: Thing, node: ast.expr, frame: Frame, path: Path) -> None:
        """Bind a loop's names: to a member of what is looped over, each by its own name."""
        if isinstance(target, ast.Name):
            frame.env[target.id] = Thing(over.on, target.id)
        elif isinstance(target, (ast.Tuple, ast.List)):
            parts = self.columns(node, over, len(target.elts), frame)
            for part, column in zip(target.elts, parts, strict=True):
                self.bind(part.value if isinstance(part, ast.Starred) else part, column[0], column[1], frame, path)
        else:
            self.write(target, None, frame, path, "=")

    def columns(self, node: ast.expr, over: Thing, count: int, frame: Frame) -> list[tuple[Thing, ast.expr]]:
        """Return what each name of `for a, b in zip(x, y)`, `enumerate(x)` or `x.items()` runs over."""
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name == "zip" and len(node.args) == count:
                return [(self.path(part, frame), part) for part in node.args]
            if name == "enumerate" and count == 2 and node.args:
                return [(Thing(), node), (self.path(node.args[0], frame), node.args[0])]
            if name in ("items", "named_parameters", "named_modules", "named_children") and count == 2:
                return [(Thing(), node), (over, node)]
        return [(over, node)] * count

    def write(
        self, target: ast.expr, node: ast.expr | None, frame: Frame, path: Path, how: str, shown: str | None = None
    ) -> None:
        on, text, base = self.target(target, frame, path)
        if not on:
            return
        value = shown if shown is not None else "" if node is None else self.text(node, frame)
        self.record(path, "writes", on, text, value, how)
        if isinstance(target, ast.Attribute) and on in ("callback", "learner", *OF_THE_LOOP):
            if base.root and node is not None:
                certain = path.certain and how == "="
                self.assigned.append((base.on, target.attr, certain, node))
            self.found[-1].steers = base.root == "learn" and target.attr in self.vocabulary.steers

    def target(self, node: ast.expr, frame: Frame, path: Path) -> tuple[str, str, Thing]:
        """Return (whose, text, of what) for what an assignment or `del` changes; whose is `""` for a local value."""
        if isinstance(node, ast.Attribute):
            base = self.visit(node.value, frame, path, outer=False)
            if base.root == "self":
                return self.owner_is, f"self.{node.attr}", base
            if base.root == "learn":
                return self.vocabulary.roots.get(node.attr, "learner"), f"{base.text}.{node.attr}", base
            return self.whose(base), f"{base.text}.{node.attr}", base
        if isinstance(node, ast.Subscript):
            base = self.visit(node.value, frame, path, outer=False)
            self.visit(node.slice, frame, path)
            self.changed(node.value, base, frame)
            return self.whose(base), f"{base.text}[{shortened(self.shown(node.slice, frame), 24)}]", base
        if isinstance(node, ast.Starred):
            return self.target(node.value, frame, path)
        return "", "", Thing()

    def changed(self, node: ast.expr, thing: Thing, frame: Frame) -> None:
        """Let go of the source of a local value that is changed in place: it no longer says what the value is."""
        if isinstance(node, ast.Name) and thing.made and thing.root == "" and node.id in frame.env:
            frame.env[node.id] = replace(thing, text=node.id, items=())

    def whose(self, base: Thing) -> str:
        if isinstance(base.obj, type) and issubclass(self.owner, base.obj):
            return "callback"
        if base.obj is not NOTHING and isinstance(base.obj, (type, ModuleType)):
            return "outside"
        return "" if base.made else base.on

    # -- expressions --

    def visit(self, node: ast.expr, frame: Frame, path: Path, alone: bool = False, outer: bool = True) -> Thing:
        """Read an expression for its effects and return what it stands for.

        `alone` says that its value is not used: then it is there for what it does. `outer` is False inside a chain of
        attributes, of which only the whole is a read.
        """
        self.steps += 1
        if self.steps > MOST_STEPS:
            self.complete = False
            return Thing()
        if isinstance(node, ast.Constant):
            return constant(node)
        if isinstance(node, ast.Name):
            return self.name(node.id, frame)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, frame, path, outer)
        if isinstance(node, ast.Subscript):
            base = self.visit(node.value, frame, path, outer=False)
            index = self.visit(node.slice, frame, path)
            found = self.subscript(base, index, node, frame)
            self.read(found, base, path, outer)
            return found
        if isinstance(node, ast.Call):
            return self.call(node, frame, path, alone)
        if isinstance(node, (ast.Tuple, ast.List)):
            items = tuple(self.visit(part, frame, path) for part in node.elts)
            return Thing(dominant(items), "", items=items, made=True)
        if isinstance(node, ast.Lambda):
            return Thing(text="", obj=LocalFunction(node, frame), made=True)
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            return self.comprehension(node, frame, path, alone)
        if isinstance(node, ast.IfExp):
            return self.choice(node, frame, path, alone)
        if isinstance(node, ast.BoolOp):
            return self.boolean(node, frame, path, alone)
        if isinstance(node, ast.NamedExpr):
            value = self.visit(node.value, frame, path)
            self.assign(node.target, value, node.value, frame, path)
            return value
        if isinstance(node, (ast.Await, ast.Starred, ast.YieldFrom)):
            return self.visit(node.value, frame, path, alone and not isinstance(node, ast.YieldFrom))
        return self.parts(node, frame, path)

    def parts(self, node: ast.AST, frame: Frame, path: Path) -> Thing:
        """Read everything inside an expression that has no rule of its own: a value made of its parts."""
        things = [self.visit(part, frame, path) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return Thing(dominant(things), "", made=True)

    def choice(self, node: ast.IfExp, frame: Frame, path: Path, alone: bool) -> Thing:
        self.visit(node.test, frame, path)
        test = self.shown(node.test, frame)
        known = known_truth(test)
        if known is not None:
            return self.visit(node.body if known else node.orelse, frame, path, alone)
        yes = self.visit(node.body, frame, path.given(test), alone)
        no = self.visit(node.orelse, frame, path.given(negated(test)), alone)
        return Thing(dominant((yes, no)), "", made=yes.made or no.made)

    def boolean(self, node: ast.BoolOp, frame: Frame, path: Path, alone: bool) -> Thing:
        things = []
        for part in node.values:
            things.append(self.visit(part, frame, path, alone and part is node.values[-1]))
            test = self.shown(part, frame)
            path = path.given(test if isinstance(node.op, ast.And) else negated(test))
        if isinstance(node.op, ast.Or) and things[0].root == "given" and all(map(is_empty, node.values[1:])):
            return things[0]  # `logs or {}`: only where there is nothing to be changed is it another one
        return Thing(dominant(things), "", made=True)

    def comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, frame: Frame, path: Path, alone: bool
    ) -> Thing:
        inner = replace(frame, env=dict(frame.env))
        things = []
        for part in node.generators:
            over = self.visit(part.iter, inner, path)
            things.append(over)
            self.bind(part.target, over, part.iter, inner, path)
            path = path.inside(for_each(part.target, self.shown(part.iter, inner)))
            for test in part.ifs:
                self.visit(test, inner, path)
        elements = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        made = [self.visit(part, inner, path, alone) for part in elements]
        return Thing(dominant(made), "", made=True)

    def _attribute(self, node: ast.Attribute, frame: Frame, path: Path, outer: bool) -> Thing:
        base = self.visit(node.value, frame, path, outer=False)
        if base.root == "self" and self.is_followed(node.attr):
            member = static(self.owner, node.attr)
            if isinstance(member, property) and member.fget is not None:
                given = self.follow(member.fget, [self.self], {}, path, frame)
                if given.root == "learn":
                    return replace(given, text=f"self.{node.attr}")
                return Thing(given.on or self.owner_is, f"self.{node.attr}", made=given.made)
        found = self.attribute(base, node.attr)
        self.read(found, base, path, outer)
        return found

    def read(self, found: Thing, base: Thing, path: Path, outer: bool) -> None:
        if outer and found.on in OF_THE_LOOP and not found.root and not found.made and found.text:
            effect = Effect("reads", found.on, found.text)  # type: ignore[arg-type]
            self.reads.setdefault(found.text, Found(effect, path))

    def name(self, name: str, frame: Frame) -> Thing:
        if name in frame.env:
            return frame.env[name]
        obj = _global(frame.function, name)
        found = self.kind(obj, name)
        if self.vocabulary.kinds and not isinstance(obj, _LASTING):
            if self.seen is not None and is_lasting(frame.function):
                self.seen[frame.function, name] = "nothing" if obj is NOTHING else self.vocabulary.kind(obj)
            else:
                self.seen = None
        if found is not None:
            return found
        return Thing("outside" if self.leads_outside(obj, name) else "", name, obj=obj)

    def leads_outside(self, obj: object, text: str) -> bool:
        """Return whether a name does not belong to the loop: an object of the program's own does not, either."""
        return is_outside(obj, text) or (not self.vocabulary.owners and is_object(obj))

    def attribute(self, base: Thing, name: str) -> Thing:
        """Return what `base.name` stands for: the callback's own before the learner's before the model's."""
        given_model = base.root == "given" and base.on == "model"
        if (base.root == "self" or given_model) and name in self.vocabulary.learner:
            return replace(self.learner, text=name.lstrip("_"))
        if base.root == "self":
            if name in self.own.names or name.startswith("__") or not self.vocabulary.owners:
                return self.own_attribute(name)
            return self.attribute(self.learner, name)
        if base.root == "learn":
            on = self.fallen(name)
            if not self.vocabulary.owners:
                return Thing(on, f"{base.text}.{name}")
            short = on in ("model", "optimizer") and name in self.vocabulary.roots
            return Thing(on, name if short else f"model.{name}" if on == "model" else f"{base.text}.{name}")
        if given_model and name in self.vocabulary.roots:
            return Thing(self.vocabulary.roots[name], f"{base.text}.{name}")
        if isinstance(base.obj, (ModuleType, type)):
            obj = static(base.obj, name) if isinstance(base.obj, type) else vars(base.obj).get(name, NOTHING)
            text = f"{base.text}.{name}"
            outside = base.on == "outside" or is_outside(obj, text)
            if isinstance(base.obj, ModuleType):
                outside = outside or self.leads_outside(obj, text)
            return Thing("outside" if outside else "", text, obj=obj)
        return Thing(base.on, f"{base.text}.{name}", made=base.made)

    def own_attribute(self, name: str) -> Thing:
        text = f"self.{name}"
        if self.is_named(name):
            return Thing(self.vocabulary.roots.get(name, self.owner_is), text)
        if self.instance is not None and self.vocabulary.kinds:
            value = held_by(self.instance, name)
            if self.seen is not None:
                self.seen[None, name] = self.vocabulary.kind(value)
            if (found := self.kind(value, text)) is not None:
                return found
        on = self.origin(name)
        return Thing(on, text, "learn" if on == "learner" else "")

    def is_named(self, name: str) -> bool:
        """Return whether an attribute of `self` is one of the framework's own, told by its name."""
        if not self.vocabulary.named:
            return False
        cls = next((c for c in classes_of(self.owner) if name in type.__getattribute__(c, "__dict__")), None)
        return cls is not None and any(cls in classes_of(one) for one in self.vocabulary.named)

    def is_followed(self, name: str) -> bool:
        """Return whether a member of `self`'s class is read where it is used."""
        return name in self.own.names and name not in self.vocabulary.learner and not self.is_named(name)

    def fallen(self, name: str) -> str:
        """Return whose an attribute of the learner is: by its name, or by the first class that has it."""
        if name in self.vocabulary.roots:
            return self.vocabulary.roots[name]
        return next((on for on, cls in self.vocabulary.owners if static(cls, name) is not None), "learner")

    def origin(self, name: str) -> str:
        """Return whose the object behind an own attribute is: `self.critic = self.model.critic` is the model's."""
        if name not in self.origins:
            self.origins[name] = self.owner_is  # as far as it is known while its own values are read
            found = (self.origin_of(value, function, cls) for function, cls, value in self.own.values.get(name, ()))
            self.origins[name] = next(filter(None, found), self.owner_is)
        return self.origins[name]

    def origin_of(self, value: ast.expr, function: FunctionType, cls: type) -> str:
        found = syntax(function)
        if found is None:
            return ""
        env = names_of_handler(found.node, [self.self], {}, self.vocabulary, ())
        frame = Frame(function, found.node, env, cls)
        if isinstance(value, ast.Name) and value.id not in env:
            self.local_imports(found.node, frame)
            return self.name(value.id, frame).on
        if isinstance(value, ast.Name):
            given = env[value.id]
            return given.on if given.root and given.on in ("learner", "model", "optimizer") else ""
        if isinstance(value, (ast.IfExp, ast.BoolOp)):
            parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else value.values
            return next(filter(None, (self.origin_of(part, function, cls) for part in parts)), "")
        if isinstance(value, ast.Call):
            if isinstance(value.func, ast.Attribute) and value.func.attr in ("open", "create_task"):
                return "outside"
            if self.path(value.func, frame).on == "outside":
                return "outside"
        if isinstance(value, (ast.Call, ast.ListComp)):
            return self.parts_of(value, frame)
        chain = value
        while isinstance(chain, (ast.Attribute, ast.Subscript)):
            chain = chain.value
        if not isinstance(value, (ast.Attribute, ast.Subscript)) or not isinstance(chain, ast.Name):
            return ""
        if isinstance(value, ast.Attribute) and is_name(value.value, chain.id) and value.attr in self.own.names:
            return ""
        held = self.path(value, frame)
        return held.on if held.on in ("model", "optimizer", "loss", "outside") or held.root == "learn" else ""

    def local_imports(self, node: FunctionNode, frame: Frame) -> None:
        for part in ast.walk(node):
            if isinstance(part, (ast.Import, ast.ImportFrom)):
                self._import(part, frame, Path())

    def parts_of(self, value: ast.expr, frame: Frame) -> str:
        """Return whether a computed attribute holds parts of the model or optimizer: layers, or hooks on them."""
        over = value.generators[0].iter if isinstance(value, ast.ListComp) else value
        given = [over] if not isinstance(over, ast.Call) else [*over.args, *(word.value for word in over.keywords)]
        for part in given:
            inner = self.parts_of(part, frame) if isinstance(part, ast.Call) and part is not value else ""
            on = self.path(part, frame).on if isinstance(part, (ast.Name, ast.Attribute)) else inner
            if on in ("model", "optimizer"):
                return on
        return ""

    def subscript(self, base: Thing, index: Thing, node: ast.Subscript, frame: Frame) -> Thing:
        at = index.const.value if index.const is not None else None
        if base.root == "words" and (found := self.handed(at)) is not None:
            return found
        if base.items and isinstance(at, int) and -len(base.items) <= at < len(base.items):
            return base.items[at]
        text = f"{base.text}[{shortened(self.shown(node.slice, frame), 24)}]" if base.text else ""
        return Thing(base.on, text, made=base.made)

    def handed(self, name: object) -> Thing | None:
        """Return what the framework hands over as a keyword: `kwargs["model"]`."""
        known = isinstance(name, str) and name in self.vocabulary.parameters
        return handed(str(name), self.vocabulary) if known else None

    def path(self, node: ast.expr, frame: Frame) -> Thing:
        """Return what an expression stands for, without reading it for effects."""
        if isinstance(node, ast.Name):
            return self.name(node.id, frame)
        if isinstance(node, ast.Constant):
            return constant(node)
        if isinstance(node, ast.Attribute):
            return self.attribute(self.path(node.value, frame), node.attr)
        if isinstance(node, ast.Subscript):
            return self.subscript(self.path(node.value, frame), self.path(node.slice, frame), node, frame)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
            return _SUPER
        if isinstance(node, (ast.Lambda, ast.JoinedStr)):
            return Thing(made=True)
        things = [self.path(part, frame) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return Thing(dominant(things), "", made=True)

    # -- calls --

    def call(self, node: ast.Call, frame: Frame, path: Path, alone: bool) -> Thing:
        args = [self.visit(part, frame, path) for part in node.args]
        words = {word.arg: self.visit(word.value, frame, path) for word in node.keywords}
        if any(isinstance(part, ast.Starred) for part in node.args):
            words.setdefault(None, Thing())
        special = _SPECIAL.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if special is not None and node.func.id not in frame.env:  # type: ignore[attr-defined]
            found = special(self, node, args, frame, path)
            if found is not None:
                return found
        if isinstance(node.func, ast.Attribute):
            base = self.visit(node.func.value, frame, path, outer=False)
            return self.method(base, node.func.attr, Call(node, args, words, frame, path, alone))
        target = self.visit(node.func, frame, path, outer=False)
        return self.function(target, Call(node, args, words, frame, path, alone))

    def method(self, base: Thing, name: str, call: Call) -> Thing:
        """Read `base.name(...)`."""
        given_model = base.root == "given" and base.on == "model"
        if base.root == "super":
            return self.inherited(name, call)
        if base.root == "self":
            member = static(self.owner, name) if self.is_followed(name) else None
            if unwrap(member) is not None and not isinstance(member, property):
                bound = [] if isinstance(member, staticmethod) else [self.self]
                return self.follow(member, [*bound, *self.given(call)], call.words, call.path, call.frame)
            if self.is_named(name):
                return self.of_framework(base, name, call)
            if name not in self.vocabulary.learner and (name in self.own.names or not self.vocabulary.owners):
                return self.function(Thing(self.origin(name), f"self.{name}"), call)
            base = self.learner
        if base.root == "learn" or (given_model and name in self.vocabulary.roots):
            return self.of_framework(base, name, call)
        if base.root == "words" and name in ("get", "pop") and call.args and call.args[0].const is not None:
            return self.handed(call.args[0].const.value) or Thing(made=True)
        if isinstance(base.obj, (ModuleType, type)):
            return self.function(self.attribute(base, name), call)
        return self.of_thing(base, name, call)

    def inherited(self, name: str, call: Call) -> Thing:
        start = call.frame.cls
        mro = classes_of(self.owner)
        after = mro[mro.index(start) + 1 :] if start in mro else ()
        self.told = self.told and start in mro
        for cls in after:
            member = type.__getattribute__(cls, "__dict__").get(name)
            if member is not None:
                return self.follow(member, [self.self, *self.given(call)], call.words, call.path, call.frame, cls)
        return Thing()

    def given(self, call: Call) -> list[Thing]:
        """Return the arguments of a call, each with a text that the function called can be shown with."""
        things = []
        for thing, node in zip(call.args, call.node.args, strict=True):
            text = thing.text or (self.text(node, call.frame, True) if is_small(node) else "")
            things.append(replace(thing, text=text if len(text) <= 56 else ""))
        return things

    def of_framework(self, base: Thing, name: str, call: Call) -> Thing:
        """Read a call of a method that the framework gives the learner or the model, told by its name."""
        found = self.attribute(base, name)
        text, gives = found.text, name in self.vocabulary.roots and name in self.vocabulary.pure
        if not call.alone and is_pure(name, found.on, self.vocabulary):
            self.read(replace(found, text=f"{text}()"), base, call.path, True)
            return Thing(found.on, f"{text}()" if gives else f"{text}(…)", made=not gives)
        done = self.record(call.path, "calls", found.on, self.called(text, call))
        done.taken, done.framework = not call.alone and found.on != "model", True
        if base.root == "learn":
            done.method, done.steers = name, name in self.vocabulary.steers
        return Thing(found.on, f"{text}(…)", made=found.on == "learner")

    def of_thing(self, base: Thing, name: str, call: Call) -> Thing:
        """Read a method call on anything else: an object of the loop, of the callback's own, or from outside."""
        text = f"{base.text or self.text(call.node.func.value, call.frame, True)}.{name}"  # type: ignore[attr-defined]
        on, made = base.on, Thing(base.on, f"{text}(…)", made=True)
        if isinstance(base.obj, LocalFunction):
            return made
        if name in CHANGING | SHRINKING:
            self.changed(call.node.func.value, base, call.frame)  # type: ignore[attr-defined]
        kept = is_object(base.obj) and not self.vocabulary.owners
        if kept and name in CHANGING and call.node.args:
            done = self.record(call.path, "writes", on, base.text, self.text(call.node.args[-1], call.frame), name)
            done.taken = call.args[-1].on in OF_THE_LOOP
            return made
        message = is_message(name) and base.obj is not NOTHING and not on
        if message or (name in FILE_METHODS and on not in ("model", "optimizer")) or (not on and text in OUTSIDE_CALLS):
            self.record(call.path, "calls", "outside", self.called(text, call))
            return Thing("outside", f"{text}(…)", made=True)
        if on == "outside" or (name in ("__enter__", "__exit__") and on):
            if call.alone or not (kept or is_pure(name, on, self.vocabulary)):
                self.record(call.path, "calls", "outside", self.called(text, call), "", name)
            return made
        if name in CHANGING and on and not base.made and call.node.args:
            value = self.text(call.node.args[-1], call.frame)
            self.record(call.path, "writes", on, base.text, value, name)
            self.found[-1].taken = call.args[-1].on in OF_THE_LOOP
            return made
        if name in CHANGING | SHRINKING and base.made:
            return made  # a list of things, made here, changes; the things do not
        if on in OF_THE_LOOP:
            if self.is_done(name, base, call):
                self.record(call.path, "calls", on, self.called(text, call))
                self.found[-1].taken = not call.alone and on in ("learner", "data") and not name.endswith("_")
            else:
                self.read(base, base, call.path, True)
            return made
        if on == "callback" and (call.alone or name in SHRINKING) and not base.made:
            whose = dominant(call.args) if passes_root(call.args) else "callback"
            self.record(call.path, "calls", whose, self.called(text, call))
        elif call.alone and not on:
            whose = dominant(call.args)
            known = base.obj is not NOTHING
            if whose in OF_THE_LOOP or known:
                self.record(call.path, "calls", whose if whose in OF_THE_LOOP else "outside", self.called(text, call))
            self.told = self.told and (known or name in CHANGING | SHRINKING)
        return made

    def is_done(self, name: str, base: Thing, call: Call) -> bool:
        """Return whether a method of an object of the loop is called for what it does, not for what it returns."""
        if call.alone or (name.endswith("_") and not name.endswith("__")) or name in self.vocabulary.loops:
            return True
        if base.made or (base.on == "learner" and base.text.count(".") > 0):
            return False
        return not is_pure(name, base.on, self.vocabulary)

    def function(self, target: Thing, call: Call) -> Thing:
        """Read a call of anything but a method: a function of the same package is followed, others are named."""
        given = [*call.args, *call.words.values()]
        on = dominant(given)
        made = Thing("outside" if target.on == "outside" else on, f"{target.text}(…)", made=True)
        obj = target.obj
        if isinstance(obj, LocalFunction):
            return self.local(obj, call)
        if target.on == "outside":
            if call.alone or self.vocabulary.owners or not is_object(obj):
                self.record(call.path, "calls", "outside", self.called(target.text, call))
            return made
        if target.on in OF_THE_LOOP:
            if call.alone or not (target.made or target.on == "data"):
                self.record(call.path, "calls", target.on, self.called(target.text, call))
            return made
        if target.text in self.vocabulary.stores or module_of(obj) == "builtins":
            return made
        if isinstance(obj, type):
            start = static(obj, "__init__")
            if self.followable(start) and on in OF_THE_LOOP:
                first = Thing(text=target.text, made=True)
                return self.helper(start, target, replace(call, args=[first, *call.args]), made)
            return made
        if call.args and call.args[0].root == "self" and (cls := self.holder(obj)) is not None:
            return self.follow(obj, [self.self, *self.given(call)[1:]], call.words, call.path, call.frame, cls)
        if self.followable(obj):
            return self.helper(obj, target, call, made)
        in_place = target.text.endswith("_") and not target.text.endswith("__") and on in OF_THE_LOOP
        if call.alone or in_place:
            self.complete = self.complete and target.on != "callback"
            whose = on if on in OF_THE_LOOP else "outside" if target.on == "" else target.on
            self.record(call.path, "calls", whose, self.called(target.text, call))
        return made

    def holder(self, function: object) -> type | None:
        """Return the owner's class that a function is a method of: `Base.on_fit_end(self, trainer)` calls it."""
        for cls in classes_of(self.owner) if isinstance(function, FunctionType) else ():
            if function in type.__getattribute__(cls, "__dict__").values():
                return cls
        return None

    def followable(self, obj: object) -> bool:
        plain = unwrap(obj)
        if plain is None or isinstance(obj, type):
            return False
        package = str(plain.__module__).partition(".")[0]
        return package == self.package or plain.__module__ == self.module

    def helper(self, obj: object, target: Thing, call: Call, made: Thing) -> Thing:
        """Read a function of the same package; what it does to the loop is one call here, by its name."""
        before, kept = len(self.found), dict(self.reads)
        assigned = len(self.assigned)
        given = self.follow(obj, call.args, call.words, call.path, call.frame)
        told = [found for found in self.found[before:] if steers(found.effect) or found.steers or self.is_loop(found)]
        inside = [found.effect for found in self.found[before:] if found not in told]
        if not call.alone:  # it is called for its value: a warning on the way is not what it does
            inside = [effect for effect in inside if not is_message(call_name(effect.target))]
        self.found[before:], self.reads = told, kept
        self.assigned[assigned:] = [one for one in self.assigned[assigned:] if one[1] in self.vocabulary.steers]
        touched = [effect.on for effect in inside if effect.kind != "raises" and effect.on != "callback"]
        own = [effect.on for effect in inside if effect.kind != "raises" and effect.on == "callback"]
        if not (call.alone or self.vocabulary.owners) and set(touched) == {"outside"}:
            self.told = False  # it is called for its value, and whatever else it does is not the loop's concern
        elif touched or (own and call.alone):
            on = min(touched or own, key=RANK.index)
            self.record(call.path, "calls", on, self.called(target.text, call))
        if any(given is one for one in (*call.args, *call.words.values())):
            return given
        return Thing(given.on or made.on, made.text, made=True)

    def is_loop(self, found: Found) -> bool:
        return found.method in self.vocabulary.loops

    def follow(
        self,
        function: object,
        args: Sequence[Thing],
        words: Mapping[str | None, Thing],
        path: Path,
        caller: Frame,
        cls: type | None = None,
    ) -> Thing:
        """Read a function as if it stood here, and return what it gives back."""
        found = syntax(function)
        if found is None or len(self.stack) > 8:
            self.complete = False
            return Thing()
        if found.node in self.stack:
            return Thing()
        frame = Frame(
            found.function,
            found.node,
            self.names_of_call(found.node, args, words),
            cls or self.defining(found.function),
        )
        before = len(self.found)
        self.run(frame, path)
        self.raised = any(steers(found.effect) for found in self.found[before:])
        return _given(frame.returns)

    def names_of_call(
        self, node: FunctionNode, args: Sequence[Thing], words: Mapping[str | None, Thing]
    ) -> dict[str, Thing]:
        """Return the names of a call, those among them that the framework's own keywords fill: `helper(**kwargs)`."""
        env = names_of_call(node, args, words)
        if None in words and words[None].root == "words":
            rest = [*node.args.posonlyargs, *node.args.args][len(args) :]
            for argument in (*rest, *node.args.kwonlyargs):
                if argument.arg not in words and (found := self.handed(argument.arg)) is not None:
                    env[argument.arg] = found
        return env

    def local(self, function: LocalFunction, call: Call) -> Thing:
        if function.node in self.stack:
            return Thing()
        env = {**function.frame.env, **self.names_of_call(function.node, call.args, call.words)}
        frame = Frame(function.frame.function, function.node, env, function.frame.cls)
        if isinstance(function.node, ast.Lambda):
            self.stack.append(function.node)
            given = self.visit(function.node.body, frame, call.path, call.alone)
            self.stack.pop()
            return given
        self.run(frame, call.path)
        return _given(frame.returns)

    def called(self, text: str, call: Call) -> str:
        """Return a call as text: `opt.set_hyper('lr', self.lr)`, its arguments left out where they are long."""
        if text == "print":
            return "print"
        parts = [self.text(part, call.frame) for part in call.node.args]
        for word in call.node.keywords:
            name = "**" if word.arg is None else f"{word.arg}="
            parts.append(name + self.text(word.value, call.frame))
        full = ", ".join(parts)
        if len(full) <= 60:
            return f"{text}({full})"
        return f"{text}({parts[0]}, …)" if len(parts) > 1 and len(parts[0]) <= 24 else f"{text}(…)"

    # -- calls of built-in functions that have an effect, or that stand for something else --

    def _super(self, node: ast.Call, args: list[Thing], frame: Frame, path: Path) -> Thing | None:
        return _SUPER

    def _getattr(self, node: ast.Call, args: list[Thing], frame: Frame, path: Path) -> Thing | None:
        if len(args) >= 2 and args[1].const is not None and isinstance(args[1].const.value, str):
            attribute = ast.Attribute(node.args[0], args[1].const.value, ast.Load())
            return self._attribute(attribute, frame, path, True)
        return Thing(args[0].on, made=True) if args else None

    def _setattr(self, node: ast.Call, args: list[Thing], frame: Frame, path: Path) -> Thing | None:
        if len(node.args) == 3:
            self.write(self.named_attribute(node, args, frame), node.args[2], frame, path, "=")
        return Thing()

    def _delattr(self, node: ast.Call, args: list[Thing], frame: Frame, path: Path) -> Thing | None:
        if len(node.args) == 2:
            on, text, _ = self.target(self.named_attribute(node, args, frame), frame, path)
            if on:
                self.record(path, "deletes", on, text)
        return Thing()

    def named_attribute(self, node: ast.Call, args: list[Thing], frame: Frame) -> ast.Attribute:
        const = args[1].const
        name = str(const.value) if const is not None else f"<{self.text(node.args[1], frame)}>"
        return ast.Attribute(node.args[0], name, ast.Store())

    # -- text --

    def text(self, node: ast.expr, frame: Frame, inner: bool = False) -> str:
        text = unparsed(self.shown(node, frame))
        return f"({text})" if inner and isinstance(node, _LOOSE) else text

    def shown(self, node: ast.expr, frame: Frame) -> ast.expr:
        """Return an expression as a reader of the handler would write it: `self.learn.model` -> `model`."""
        return Shown(self, frame).visit(node)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call with what its arguments stand for."""

    node: ast.Call
    args: list[Thing]
    words: Mapping[str | None, Thing]
    frame: Frame
    path: Path
    alone: bool


STATEMENTS: dict[type[ast.stmt], Callable[[Reading, Any, Frame, Path], Exit]] = {
    ast.Expr: Reading._expr,
    ast.Assign: Reading._assign,
    ast.AnnAssign: Reading._annassign,
    ast.AugAssign: Reading._augassign,
    ast.Delete: Reading._delete,
    ast.Global: Reading._outer,
    ast.Nonlocal: Reading._outer,
    ast.Return: Reading._return,
    ast.Break: Reading._leave,
    ast.Continue: Reading._leave,
    ast.Raise: Reading._raise,
    ast.Assert: Reading._assert,
    ast.If: Reading._if,
    ast.For: Reading._for,
    ast.AsyncFor: Reading._for,
    ast.While: Reading._while,
    ast.With: Reading._with,
    ast.AsyncWith: Reading._with,
    ast.Try: Reading._try,
    ast.Match: Reading._match,
    ast.FunctionDef: Reading._define,
    ast.AsyncFunctionDef: Reading._define,
    ast.Import: Reading._import,
    ast.ImportFrom: Reading._import,
}
if sys.version_info >= (3, 11):
    STATEMENTS[ast.TryStar] = Reading._try

_SPECIAL: dict[str, Callable[[Reading, ast.Call, list[Thing], Frame, Path], Thing | None]] = {
    "super": Reading._super,
    "getattr": Reading._getattr,
    "setattr": Reading._setattr,
    "delattr": Reading._delattr,
}

_LASTING = (ModuleType, type, FunctionType, BuiltinFunctionType)
_LOOSE = (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Lambda, ast.UnaryOp)


def held_by(instance: object, name: str) -> object:
    """Return what an object stores under a name, without running anything of its own."""
    if not isinstance(static(type(instance), "__dict__"), GetSetDescriptorType):
        return None
    return object.__getattribute__(instance, "__dict__").get(name)


def still(seen: Mapping[tuple[FunctionType | None, str], object], instance: object, vocabulary: Vocabulary) -> bool:
    """Return whether the names that a reading looked up still stand for such objects as they did then."""
    for (function, name), then in seen.items():
        value = held_by(instance, name) if function is None else _global(function, name)
        if then != ("nothing" if value is NOTHING else vocabulary.kind(value)):
            return False
    return True


def _global(function: FunctionType, name: str) -> Any:
    """Return what a function's global, closure or built-in name holds now, without running anything."""
    code = function.__code__
    if name in code.co_freevars and function.__closure__:
        try:
            return function.__closure__[code.co_freevars.index(name)].cell_contents
        except (ValueError, IndexError):
            return NOTHING
    return function.__globals__.get(name, vars(builtins).get(name, NOTHING))


def _given(returns: list[Thing]) -> Thing:
    if len(returns) == 1:
        return returns[0]
    return Thing(dominant(returns), "", made=True)


def _merged(one: dict[str, Thing], other: dict[str, Thing]) -> dict[str, Thing]:
    """Return what names stand for after two branches: the same as before, or either."""
    merged = dict(other)
    for name, thing in one.items():
        against = other.get(name)
        if against is not None and against is not thing:
            same = against.text == thing.text and against.on == thing.on
            merged[name] = thing if same else Thing(dominant((thing, against)), name, made=thing.made or against.made)
        else:
            merged[name] = thing
    return merged
