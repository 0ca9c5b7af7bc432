"""What a function does to a training loop: what it writes, calls, raises and deletes, read from its syntax tree.

Nothing is run and nothing is imported; an attribute is only ever looked up where it is stored. What the reader cannot
follow is left out and makes the result incomplete: it says less, never something else. Which framework it is about
comes in as a `Vocabulary`.
"""

from __future__ import annotations

import ast
import builtins
import copy
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Literal, TypeAlias

from loopscope.source import FunctionNode, syntax, unwrap

Kind = Literal["reads", "writes", "calls", "raises", "deletes"]
On = Literal["callback", "learner", "model", "optimizer", "loss", "data", "outside"]

LONGEST, ROOM = 110, 120
"""Characters that a summary may have; and where one more thing that is done to the loop can be named that way."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What a framework calls things: `Vocabulary(learner=frozenset({"learn"}), roots={"opt": "optimizer"})`.

    `learner` are the callback's attributes that hold the learner, `roots` the learner's attributes by what they are.
    `owners` are the classes that a look-up of the callback falls through to, in that order; without them all that is
    not the callback's own is the learner's. `loops` are methods of the learner that run a loop of their own, `stores`
    functions that make attributes of the caller's arguments, `pure` methods that only return something.
    """

    learner: frozenset[str]
    roots: Mapping[str, On]
    owners: tuple[tuple[On, type], ...] = ()
    loops: frozenset[str] = frozenset()
    stores: frozenset[str] = frozenset()
    pure: frozenset[str] = frozenset()


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

    def assigned(self, name: str, on: On = "callback") -> ast.expr | None:
        """Return what the function assigns to an attribute: `assigned("training", "learner")` -> the node of `False`.

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
        called = (_method(item.target) for item in self.items if item.kind == "calls" and item.on == "learner")
        return tuple(dict.fromkeys(name for name in called if name in wanted))


def effects(function: object, owner: type, vocabulary: Vocabulary) -> Effects:
    """Return what `function` does as a handler of `owner`: `effects(GradientClip.before_step, GradientClip, FASTAI)`.

    `function` may be anything that a framework calls: a method, a bound one, a partial, a lambda, a callable object.
    What has no readable source gives `Effects()`. Raises nothing.
    """
    try:
        return _effects(function, owner, vocabulary)
    except TypeError:  # a callable that cannot be hashed is read again each time
        return _read(function, owner, vocabulary)


# -- what an expression stands for ---------------------------------------------------------------------------

_NOTHING: Any = object()


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """What an expression stands for: whose it is (`""`: nobody's, a local value) and how to write it.

    `root` marks the callback itself, the learner and `super()`; `obj` is a Python object that is known before the run
    (a module, a function); `const` the literal; `items` the parts of a tuple; `made` says that it was computed from
    what it belongs to, and is not that thing itself.
    """

    on: str = ""
    text: str = ""
    root: Literal["", "self", "learn", "super"] = ""
    obj: Any = _NOTHING
    const: ast.Constant | None = None
    items: tuple[Thing, ...] = ()
    made: bool = False


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """A lambda or inner function, read when it is called."""

    node: FunctionNode
    frame: Frame


@dataclass(slots=True, eq=False)
class Frame:
    """One function being read: its names, its globals, and the class whose body defines it."""

    function: FunctionType
    node: FunctionNode
    env: dict[str, Thing]
    cls: type | None
    returns: list[Thing] = field(default_factory=list)
    caught: str = "Exception"


Exit: TypeAlias = "ast.expr | Literal[True] | None"
"""Under which condition a block is left early; `_SOMETIMES` where no text says it."""

_SOMETIMES = ast.Name("…", ast.Load())


@dataclass(frozen=True, slots=True)
class Path:
    """How a statement is reached: the conditions on the way, the loops around it, and whether each run gets there."""

    conditions: tuple[ast.expr, ...] = ()
    each: tuple[str, ...] = ()
    certain: bool = True

    def given(self, condition: ast.expr) -> Path:
        known = () if condition is _SOMETIMES else (condition,)
        return Path((*self.conditions, *known), self.each, False)

    def inside(self, each: str) -> Path:
        return Path(self.conditions, (*self.each, each), False)

    def texts(self) -> tuple[str, ...]:
        return _texts(self.conditions)

    def text(self) -> str:
        return " ".join(filter(None, (" and ".join(self.texts()), *self.each)))


@lru_cache(maxsize=1024)
def _texts(conditions: tuple[ast.expr, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_joined(condition, len(conditions)) for condition in conditions))


def _joined(condition: ast.expr, of: int) -> str:
    text = _unparsed(condition)
    loose = isinstance(condition, (ast.IfExp, ast.Lambda)) or _is_or(condition)
    return f"({text})" if loose and of > 1 else text


def _is_or(node: ast.expr) -> bool:
    return isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or)


# -- names that say what a thing is, in any framework --------------------------------------------------------

_RANK = ("model", "optimizer", "loss", "learner", "data", "outside", "callback", "")
_OF_THE_LOOP = frozenset(("learner", "model", "optimizer", "loss", "data"))


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MODULES = _set(
    """
    wandb comet_ml neptune mlflow tensorboard tensorboardX azureml clearml aim swanlab dvclive subprocess shutil
    logging warnings socket requests urllib http smtplib tempfile tqdm rich
    """
)
_NAMES = _set(
    """
    print input open exec eval SummaryWriter Experiment TemporaryDirectory NamedTemporaryFile progress_bar
    master_bar tqdm trange warn
    """
)
_CALLS = _set(
    """
    torch.save torch.load json.dump pickle.dump pickle.load np.save np.savez numpy.save numpy.savez plt.show
    plt.savefig os.remove os.unlink os.makedirs os.mkdir os.rename os.replace os.rmdir os.system os.fsync
    os.kill os._exit sys.exit os.environ.update os.environ.setdefault time.sleep
    """
)
_METHODS = _set(
    """
    mkdir open write_text write_bytes unlink rmdir touch rename symlink_to savefig to_csv
    """
)
_OUTSIDE_MODULES = _set(
    """
    wandb comet_ml neptune mlflow tensorboard tensorboardX azureml clearml aim swanlab dvclive subprocess shutil
    logging warnings socket requests urllib http smtplib tempfile tqdm rich
    """
)
_OUTSIDE_NAMES = _set(
    """
    print input open exec eval SummaryWriter Experiment TemporaryDirectory NamedTemporaryFile progress_bar
    master_bar tqdm trange warn
    """
)
_OUTSIDE_CALLS = _set(
    """
    torch.save torch.load json.dump pickle.dump pickle.load np.save np.savez numpy.save numpy.savez plt.show
    plt.savefig os.remove os.unlink os.makedirs os.mkdir os.rename os.replace os.rmdir os.system os.fsync os.kill
    os._exit sys.exit os.environ.update os.environ.setdefault time.sleep
    """
)
_FILE_METHODS = _set("mkdir open write_text write_bytes unlink rmdir touch rename symlink_to savefig to_csv")
_CHANGING = _set(
    """
    append extend insert add update setdefault
    """
)
_SHRINKING = _set(
    """
    pop popleft remove discard clear sort reverse popitem appendleft
    """
)
_PURE = _set(
    """
    abs all any argmax argmin argsort astype bool byte chunk clone contiguous copy cpu cuda detach diag dim div
    dot double eq exp expand expand_as fill flatten flip float floor gather ge gt half histc index_select int
    is_floating_point isfinite isinf isnan item itemsize le lerp log log10 log1p log2 log_softmax logsumexp long
    lt masked_fill masked_select matmul max maximum mean median min minimum mm mul ne ndimension neg nelement
    new nonzero norm numel numpy one_hot permute pow prod repeat reshape roll round select sigmoid sign size
    softmax split sqrt squeeze std stride sub sum t tanh tile to tolist topk transpose tril triu type type_as
    unbind unfold unique unsqueeze var view view_as where new_empty new_full new_ones new_tensor new_zeros count
    decode encode endswith find format index isdigit items join keys lower lstrip most_common partition replace
    rjust rsplit rstrip splitlines startswith strip title upper values zfill difference intersection issubset
    union parameters named_parameters buffers named_buffers modules named_modules children named_children
    state_dict extra_repr absolute exists expanduser glob is_dir is_file iterdir joinpath relative_to resolve
    rglob stat with_name with_suffix samefile filter map sorted sample
    """
)
_PURE_PREFIXES = ("get_", "is_", "has_", "num_", "to_", "as_")
_MOVES_A_MODEL = _set("to cpu cuda float half double bfloat16 type")


def _is_pure(name: str, on: str, vocabulary: Vocabulary) -> bool:
    """Return whether a method only returns something, by its name."""
    if name in vocabulary.loops or (on == "model" and name in _MOVES_A_MODEL):
        return False
    if name.startswith("__"):
        return name not in ("__enter__", "__exit__", "__setattr__", "__call__")
    return name in _PURE or name in vocabulary.pure or (name.startswith(_PURE_PREFIXES) and not name.endswith("_"))


def _is_outside(obj: object, text: str) -> bool:
    """Return whether a name leads out of the loop: by the module it comes from, or by what it is called."""
    last = text.rpartition(".")[2]
    if text in _OUTSIDE_CALLS or text in _OUTSIDE_NAMES or (last in _OUTSIDE_NAMES and obj is _NOTHING):
        return True
    module = obj.__name__ if isinstance(obj, ModuleType) else _module_of(obj)
    return module.partition(".")[0] in _OUTSIDE_MODULES or ".tensorboard" in module


def _module_of(obj: object) -> str:
    if isinstance(obj, (type, FunctionType, BuiltinFunctionType)):
        found = type.__getattribute__(obj, "__dict__").get("__module__") if isinstance(obj, type) else obj.__module__
        return found if isinstance(found, str) else ""
    return ""


def _dominant(things: Iterable[Thing]) -> str:
    """Return whose a value is that was made of several: of the loop before outside before the callback's."""
    return min((thing.on for thing in things), key=_RANK.index, default="")


# -- what a class says about its own attributes --------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """A callback class's own attributes, and for each what its methods assign to it (function, class, expression)."""

    names: frozenset[str]
    values: Mapping[str, tuple[tuple[FunctionType, type, ast.expr], ...]]


@lru_cache(maxsize=4096)
def _own(owner: type, stores: frozenset[str]) -> Own:
    names: set[str] = set()
    values: dict[str, list[tuple[FunctionType, type, ast.expr]]] = {}
    for cls in _mro(owner):
        here, assigned = _own_of(cls, stores)
        names |= here
        for name, found in assigned.items():
            values.setdefault(name, []).extend(found)
    return Own(frozenset(names), {name: tuple(found) for name, found in values.items()})


@lru_cache(maxsize=4096)
def _own_of(
    cls: type, stores: frozenset[str]
) -> tuple[frozenset[str], Mapping[str, Sequence[tuple[FunctionType, type, ast.expr]]]]:
    """Return what one class body has, and what its methods assign to `self`."""
    names = set(type.__getattribute__(cls, "__dict__"))
    values: dict[str, list[tuple[FunctionType, type, ast.expr]]] = {}
    for member in list(type.__getattribute__(cls, "__dict__").values()):
        found = syntax(member.fget if isinstance(member, property) else member)
        if found is None or not found.node.args.args:
            continue
        first = found.node.args.args[0].arg
        for node in ast.walk(found.node):
            for name, value in _stored(node, first, found.node, stores):
                names.add(name)
                if value is not None:
                    values.setdefault(name, []).append((found.function, cls, value))
    return frozenset(names), values


def _mro(owner: type) -> tuple[type, ...]:
    return tuple(cls for cls in type.__getattribute__(owner, "__mro__") if cls is not object)


def _stored(
    node: ast.AST, first: str, function: FunctionNode, stores: frozenset[str]
) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield (name, value) for each attribute of `first` that one node assigns."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _stored_in(target, node.value, first)
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For, ast.comprehension)):
        yield from _stored_in(node.target, None, first)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _stored_in(node.optional_vars, node.context_expr, first)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in stores:
            yield from ((name, None) for name in _arguments_stored(node, function))
        elif node.func.id == "setattr" and len(node.args) == 3 and _is_name(node.args[0], first):
            yield from ((str(name.value), node.args[2]) for name in node.args[1:2] if isinstance(name, ast.Constant))


def _stored_in(target: ast.expr, value: ast.expr | None, first: str) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(target, (ast.Tuple, ast.List)):
        values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        for at, part in enumerate(target.elts):
            yield from _stored_in(part, values[at] if len(values) == len(target.elts) else None, first)
    elif isinstance(target, ast.Attribute) and _is_name(target.value, first):
        yield target.attr, value


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _arguments_stored(call: ast.Call, function: FunctionNode) -> Iterable[str]:
    """Return the names that `store_attr("a,b")`, `store_attr(but="a")` or `store_attr()` stores."""
    words = {word.arg: word.value for word in call.keywords}
    named = call.args[0] if call.args else words.get("names")
    if named is not None:
        return _words(named)
    arguments = [a.arg for a in (*function.args.args[1:], *function.args.kwonlyargs)]
    return [name for name in arguments if name not in _words(words.get("but"))]


def _words(node: ast.expr | None) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [word.strip() for word in node.value.split(",")]
    return [_words(part)[0] for part in node.elts if _words(part)] if isinstance(node, (ast.List, ast.Tuple)) else []


# -- reading a function --------------------------------------------------------------------------------------


@lru_cache(maxsize=8192)
def _effects(function: object, owner: type, vocabulary: Vocabulary) -> Effects:
    return _read(function, owner, vocabulary)


def _read(function: object, owner: type, vocabulary: Vocabulary) -> Effects:
    bound, words, plain = _bound(function)
    found = None if plain is None else syntax(plain)
    if plain is None or found is None:
        return Effects()
    reading = Reading(owner, vocabulary, plain)
    things = [reading.known(value) for value in bound]
    named = {name: reading.known(value) for name, value in words.items()}
    if all(thing.root != "self" for thing in things) and len(things) < _required(found.node, named):
        things.append(_SELF)
    env = _named(found.node, things, named)
    try:
        reading.run(Frame(plain, found.node, env, reading.defining(plain)), Path())
    except RecursionError:
        reading.complete = False
    items = tuple(reading.all_items())
    line = summary(reading.found, list(reading.reads), vocabulary, reading.complete)
    return Effects(items, line, reading.complete, tuple(reading.assigned))


def _bound(function: object) -> tuple[list[object], dict[str, object], FunctionType | None]:
    """Return the arguments that a callable brings along, by place and by name, and the function that takes them."""
    arguments: list[object] = []
    words: dict[str, object] = {}
    for _ in range(100):
        if isinstance(function, MethodType):
            arguments.insert(0, function.__self__)
            function = function.__func__
        elif isinstance(function, partial):
            arguments[:0] = function.args
            words = {**function.keywords, **words}
            function = function.func
        elif isinstance(function, (staticmethod, classmethod)):
            function = function.__func__
        elif isinstance(function, FunctionType):
            return arguments, words, unwrap(function)
        else:
            call = None if isinstance(function, type) else _static(type(function), "__call__")
            if not isinstance(call, FunctionType):
                break
            arguments.insert(0, function)
            function = call
    return arguments, words, None


def _required(node: FunctionNode, named: Mapping[str, Thing]) -> int:
    """Return how many places a call has to fill: those with neither a default nor a name given."""
    places = [*node.args.posonlyargs, *node.args.args]
    return sum(place.arg not in named for place in places[: len(places) - len(node.args.defaults)])


def _named(node: FunctionNode, things: Sequence[Thing], words: Mapping[Any, Thing]) -> dict[str, Thing]:
    """Return the names of a call: what is given, then the literal defaults, then the bare parameters."""
    places = [*node.args.posonlyargs, *node.args.args]
    env = {a.arg: Thing(text=a.arg) for a in (*places, *node.args.kwonlyargs)}
    defaults = [
        *zip(reversed(places), reversed(node.args.defaults), strict=False),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]
    for argument, default in defaults:
        if isinstance(default, ast.Constant) and (things or words):
            env[argument.arg] = _constant(default)
    env.update({argument.arg: thing for argument, thing in zip(places, things, strict=False)})
    env.update({name: thing for name, thing in words.items() if name in env})
    for rest in (node.args.vararg, node.args.kwarg):
        if rest is not None:
            env[rest.arg] = Thing(_dominant(things[len(places) :]), rest.arg, made=True)
    return env


def _constant(node: ast.Constant) -> Thing:
    return Thing(text=repr(node.value), const=node)


def _static(cls: type, name: str) -> Any:
    for base in type.__getattribute__(cls, "__mro__"):
        if name in type.__getattribute__(base, "__dict__"):
            return type.__getattribute__(base, "__dict__")[name]
    return None


_SELF = Thing("callback", "self", "self")
_LEARN = Thing("learner", "learn", "learn")
_SUPER = Thing("callback", "super()", "super")


@dataclass(slots=True, eq=False)
class Found:
    """An effect with the path that leads to it; `taken` says that something of the loop is collected here."""

    effect: Effect
    path: Path
    value: str = ""
    taken: bool = False


MOST_STEPS = 10_000
"""Expressions that are read for one handler, helpers included: ten times those of fastai's longest; about 0.2 s."""


class Reading:
    """One handler being read, with all the functions that it calls on the way."""

    def __init__(self, owner: type, vocabulary: Vocabulary, function: FunctionType) -> None:
        self.owner, self.vocabulary = owner, vocabulary
        self.own = _own(owner, vocabulary.stores)
        self.found: list[Found] = []
        self.reads: dict[str, Found] = {}
        self.origins: dict[str, str] = {}
        self.assigned: list[tuple[str, str, bool, ast.expr]] = []
        self.complete = True
        self.raised = False
        self.stack: list[FunctionNode] = []
        self.package = str(function.__module__).partition(".")[0]
        self.module = function.__module__
        self.steps = 0

    def all_items(self) -> Iterator[Effect]:
        for found in (*self.found, *self.reads.values()):
            yield replace(found.effect, when=found.path.text(), certain=found.path.certain)

    def record(self, path: Path, kind: Kind, on: str, target: str, value: str = "", how: str = "") -> None:
        short = value if len(value) <= 72 else ""
        effect = Effect(kind, on or "outside", target, short, "", True, how)  # type: ignore[arg-type]
        self.found.append(Found(effect, path, value))

    def known(self, value: object) -> Thing:
        """Return what an argument that a partial or a bound method brings along stands for."""
        if isinstance(value, self.owner):
            return _SELF
        if value is None or isinstance(value, (bool, int, float, str)):
            return _constant(ast.Constant(value))
        name = getattr(value, "__name__", None) if isinstance(value, (type, FunctionType, ModuleType)) else None
        return Thing(text=name or type(value).__name__, obj=value)

    def defining(self, function: FunctionType) -> type | None:
        """Return the class whose body has `function`: that is where `super()` starts from."""
        if "__class__" in function.__code__.co_freevars and function.__closure__:
            cell = function.__closure__[function.__code__.co_freevars.index("__class__")]
            try:
                return cell.cell_contents if isinstance(cell.cell_contents, type) else None
            except ValueError:  # the class is not made yet
                return None
        for cls in _mro(self.owner):
            if unwrap(type.__getattribute__(cls, "__dict__").get(function.__name__)) is function:
                return cls
        return None

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
                exit = _SOMETIMES
            if exit is True:
                return True
            if exit is not None:
                path = path.given(_after(node, exit))
                left = exit if left is None else _SOMETIMES
        return left

    def statement(self, node: ast.stmt, frame: Frame, path: Path) -> Exit:
        read = _STATEMENTS.get(type(node))
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
            on = _dominant((old, value))
            frame.env[node.target.id] = Thing(on, node.target.id, made=True)
        else:
            how = f"{_OPERATORS.get(type(node.op), '')}="
            self.write(node.target, node.value, frame, path, how)
            if self.found and self.found[-1].effect.on == "callback" and self.found[-1].effect.kind == "writes":
                self.found[-1].taken = value.on in _OF_THE_LOOP and isinstance(node.value, ast.Call)
        return None

    def _delete(self, node: ast.Delete, frame: Frame, path: Path) -> Exit:
        for target in node.targets:
            if isinstance(target, ast.Name):
                frame.env.pop(target.id, None)
            elif isinstance(target, (ast.Attribute, ast.Subscript)):
                on, text = self.target(target, frame, path)
                if on:
                    self.record(path, "deletes", on, text)
        return None

    def _return(self, node: ast.Return, frame: Frame, path: Path) -> Exit:
        if node.value is not None:
            frame.returns.append(self.visit(node.value, frame, path))
        return True

    def _leave(self, node: ast.stmt, frame: Frame, path: Path) -> Exit:
        return True

    def _raise(self, node: ast.Raise, frame: Frame, path: Path) -> Exit:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        for part in node.exc.args if isinstance(node.exc, ast.Call) else ():
            self.visit(part, frame, path)
        name = frame.caught if raised is None else _unparsed(raised).rpartition(".")[2]
        if name.isidentifier() and name in frame.env:
            name = frame.env[name].text or name
        kept = tuple(c for c in path.conditions if getattr(c, "guard", None) != name)
        path = replace(path, conditions=kept)
        self.record(path, "raises", "learner" if not _is_error(name) else "callback", name)
        return True

    def _assert(self, node: ast.Assert, frame: Frame, path: Path) -> Exit:
        self.visit(node.test, frame, path)
        test = self.shown(node.test, frame)
        known = _truth(test)
        if known is not True:
            self.record(path.given(_negated(test)), "raises", "callback", "AssertionError", _unparsed(test), "assert")
        return None

    def _if(self, node: ast.If, frame: Frame, path: Path) -> Exit:
        self.visit(node.test, frame, path)
        test = self.shown(node.test, frame)
        known = _truth(test)
        if known is not None:
            return self.block(node.body if known else node.orelse, frame, path)
        before = dict(frame.env)
        yes = self.block(node.body, frame, path.given(test))
        then, frame.env = frame.env, before
        no = self.block(node.orelse, frame, path.given(_negated(test)))
        if yes is True:
            then = frame.env
        frame.env = then if no is True else _merged(then, frame.env)
        if _only_errors(node.body) and no is None:
            return None  # nothing is left to say about a run that ended in an error
        return _either(test, yes, no)

    def _for(self, node: ast.For | ast.AsyncFor, frame: Frame, path: Path) -> Exit:
        over = self.visit(node.iter, frame, path)
        self.bind(node.target, over, node.iter, frame, path)
        each = _each(node.target, self.shown(node.iter, frame))
        self.block(node.body, frame, path.inside(each))
        self.block(node.orelse, frame, path)
        return _SOMETIMES if _leaves(node.body) else None

    def _while(self, node: ast.While, frame: Frame, path: Path) -> Exit:
        self.visit(node.test, frame, path)
        self.block(node.body, frame, path.inside(f"while {_short(self.shown(node.test, frame), 48)}"))
        self.block(node.orelse, frame, path)
        return _SOMETIMES if _leaves(node.body) else None

    def _with(self, node: ast.With | ast.AsyncWith, frame: Frame, path: Path) -> Exit:
        for item in node.items:
            entered = self.visit(item.context_expr, frame, path)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, self.entered(item.context_expr, entered, frame), None, frame, path)
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
            found = syntax(_static(cls, name))
            if found is not None and found.node.args.args:
                first = found.node.args.args[0].arg
                given = [part.value for part in ast.walk(found.node) if isinstance(part, ast.Yield)]
                return bool(given) and all(part is not None and _is_name(part, first) for part in given)
        return False

    def _try(self, node: ast.Try, frame: Frame, path: Path) -> Exit:
        before = len(self.found)
        raised, self.raised = self.raised, False
        left = self.block(node.body, frame, path)
        caught = [_caught(handler) for handler in node.handlers]
        self.found[before:] = [found for found in self.found[before:] if not _is_caught(found.effect, caught)]
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
        return True if last is True else left if not node.handlers else (None if left is None else _SOMETIMES)

    def _match(self, node: ast.Match, frame: Frame, path: Path) -> Exit:
        self.visit(node.subject, frame, path)
        subject, left = _short(self.shown(node.subject, frame), 40), None
        for case in node.cases:
            for part in ast.walk(case.pattern):
                for name in (getattr(part, "name", None), getattr(part, "rest", None)):
                    if isinstance(name, str):
                        frame.env[name] = Thing(text=name)
            exit = self.block(case.body, frame, path.given(ast.Name(f"{subject} matches {_unparsed(case.pattern)}")))
            left = _SOMETIMES if exit is not None else left
        return left

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef, frame: Frame, path: Path) -> Exit:
        frame.env[node.name] = Thing(text=node.name, obj=LocalFunction(node, frame))
        return None

    def _import(self, node: ast.Import | ast.ImportFrom, frame: Frame, path: Path) -> Exit:
        """An import inside a function binds what is already loaded; nothing is imported here."""
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            module = sys.modules.get(node.module or "") if isinstance(node, ast.ImportFrom) else None
            obj: Any = _NOTHING
            if isinstance(node, ast.Import):
                obj = sys.modules.get(alias.name if alias.asname else name, _NOTHING)
            elif isinstance(module, ModuleType):
                obj = vars(module).get(alias.name, _NOTHING)
            origin = (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
            frame.env[name] = Thing("outside" if origin in _OUTSIDE_MODULES else "", name, obj=obj)
        return None

    # -- assignments --

    def assign(self, target: ast.expr, value: Thing, node: ast.expr | None, frame: Frame, path: Path) -> None:
        if isinstance(target, ast.Starred):
            target = target.value
        if isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, value, node, frame, path)
        elif isinstance(target, ast.Name):
            frame.env[target.id] = self.alias(target.id, value, node, frame)
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
        text = self.text(node, frame, True) if node is not None and _is_small(node) else name
        longest = 64 if isinstance(node, ast.IfExp) and not _has_call(node) else 40
        return replace(value, text=text if len(text) <= longest else name)

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
        on, text = self.target(target, frame, path)
        if not on:
            return
        value = shown if shown is not None else "" if node is None else self.text(node, frame)
        self.record(path, "writes", on, text, value, how)
        if isinstance(target, ast.Attribute) and on in ("callback", "learner", *_OF_THE_LOOP):
            whose = "callback" if self.path(target.value, frame).root == "self" else "learner"
            if self.path(target.value, frame).root and node is not None:
                certain = path.certain and how == "="
                self.assigned.append((whose, target.attr, certain, node))

    def target(self, node: ast.expr, frame: Frame, path: Path) -> tuple[str, str]:
        """Return (whose, text) of what an assignment or `del` changes; whose is `""` for a local value."""
        if isinstance(node, ast.Attribute):
            base = self.visit(node.value, frame, path, outer=False)
            if base.root == "self":
                return "callback", f"self.{node.attr}"
            if base.root == "learn":
                return self.vocabulary.roots.get(node.attr, "learner"), f"learn.{node.attr}"
            return self.whose(base), f"{base.text}.{node.attr}"
        if isinstance(node, ast.Subscript):
            base = self.visit(node.value, frame, path, outer=False)
            self.visit(node.slice, frame, path)
            return self.whose(base), f"{base.text}[{_short(self.shown(node.slice, frame), 24)}]"
        if isinstance(node, ast.Starred):
            return self.target(node.value, frame, path)
        return "", ""

    def whose(self, base: Thing) -> str:
        if isinstance(base.obj, type) and issubclass(self.owner, base.obj):
            return "callback"
        if base.obj is not _NOTHING and isinstance(base.obj, (type, ModuleType)):
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
            return _constant(node)
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
            return Thing(_dominant(items), "", items=items, made=True)
        if isinstance(node, ast.Lambda):
            return Thing(text="", obj=LocalFunction(node, frame), made=True)
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            return self.comprehension(node, frame, path)
        if isinstance(node, ast.IfExp):
            return self.choice(node, frame, path, alone)
        if isinstance(node, ast.BoolOp):
            return self.boolean(node, frame, path, alone)
        if isinstance(node, ast.NamedExpr):
            value = self.visit(node.value, frame, path)
            self.assign(node.target, value, node.value, frame, path)
            return value
        if isinstance(node, (ast.Await, ast.Starred, ast.YieldFrom)):
            return self.visit(node.value, frame, path, alone)
        return self.parts(node, frame, path)

    def parts(self, node: ast.AST, frame: Frame, path: Path) -> Thing:
        """Read everything inside an expression that has no rule of its own: a value made of its parts."""
        things = [self.visit(part, frame, path) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return Thing(_dominant(things), "", made=True)

    def choice(self, node: ast.IfExp, frame: Frame, path: Path, alone: bool) -> Thing:
        self.visit(node.test, frame, path)
        test = self.shown(node.test, frame)
        known = _truth(test)
        if known is not None:
            return self.visit(node.body if known else node.orelse, frame, path, alone)
        yes = self.visit(node.body, frame, path.given(test), alone)
        no = self.visit(node.orelse, frame, path.given(_negated(test)), alone)
        return Thing(_dominant((yes, no)), "", made=yes.made or no.made)

    def boolean(self, node: ast.BoolOp, frame: Frame, path: Path, alone: bool) -> Thing:
        things = []
        for part in node.values:
            things.append(self.visit(part, frame, path, alone and part is node.values[-1]))
            test = self.shown(part, frame)
            path = path.given(test if isinstance(node.op, ast.And) else _negated(test))
        return Thing(_dominant(things), "", made=True)

    def comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, frame: Frame, path: Path
    ) -> Thing:
        inner = replace(frame, env=dict(frame.env))
        things = []
        for part in node.generators:
            over = self.visit(part.iter, inner, path)
            things.append(over)
            self.bind(part.target, over, part.iter, inner, path)
            path = path.inside(_each(part.target, self.shown(part.iter, inner)))
            for test in part.ifs:
                self.visit(test, inner, path)
        elements = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        made = [self.visit(part, inner, path) for part in elements]
        return Thing(_dominant(made), "", made=True)

    def _attribute(self, node: ast.Attribute, frame: Frame, path: Path, outer: bool) -> Thing:
        base = self.visit(node.value, frame, path, outer=False)
        if base.root == "self" and node.attr in self.own.names:
            member = _static(self.owner, node.attr)
            if isinstance(member, property) and member.fget is not None:
                given = self.follow(member.fget, [_SELF], {}, path, frame)
                return Thing(given.on or "callback", f"self.{node.attr}", made=given.made)
        found = self.attribute(base, node.attr)
        self.read(found, base, path, outer)
        return found

    def read(self, found: Thing, base: Thing, path: Path, outer: bool) -> None:
        if outer and found.on in _OF_THE_LOOP and not found.root and not found.made and found.text:
            effect = Effect("reads", found.on, found.text)  # type: ignore[arg-type]
            self.reads.setdefault(found.text, Found(effect, path))

    def name(self, name: str, frame: Frame) -> Thing:
        if name in frame.env:
            return frame.env[name]
        obj = _global(frame.function, name)
        return Thing("outside" if _is_outside(obj, name) else "", name, obj=obj)

    def attribute(self, base: Thing, name: str) -> Thing:
        """Return what `base.name` stands for: the callback's own before the learner's before the model's."""
        if base.root == "self":
            if name in self.vocabulary.learner:
                return _LEARN
            if name in self.own.names or name.startswith("__"):
                return Thing(self.origin(name), f"self.{name}")
            return self.attribute(_LEARN, name)
        if base.root == "learn":
            on = self.fallen(name)
            short = on in ("model", "optimizer") and name in self.vocabulary.roots
            return Thing(on, name if short else f"model.{name}" if on == "model" else f"learn.{name}")
        if isinstance(base.obj, (ModuleType, type)):
            obj = _static(base.obj, name) if isinstance(base.obj, type) else vars(base.obj).get(name, _NOTHING)
            text = f"{base.text}.{name}"
            return Thing("outside" if base.on == "outside" or _is_outside(obj, text) else "", text, obj=obj)
        return Thing(base.on, f"{base.text}.{name}", made=base.made)

    def fallen(self, name: str) -> str:
        """Return whose an attribute of the learner is: by its name, or by the first class that has it."""
        if name in self.vocabulary.roots:
            return self.vocabulary.roots[name]
        return next((on for on, cls in self.vocabulary.owners if _static(cls, name) is not None), "learner")

    def origin(self, name: str) -> str:
        """Return whose the object behind an own attribute is: `self.critic = self.model.critic` is the model's."""
        if name not in self.origins:
            self.origins[name] = "callback"  # as far as it is known while its own values are read
            found = (self.origin_of(value, function, cls) for function, cls, value in self.own.values.get(name, ()))
            self.origins[name] = next(filter(None, found), "callback")
        return self.origins[name]

    def origin_of(self, value: ast.expr, function: FunctionType, cls: type) -> str:
        found = syntax(function)
        if found is None:
            return ""
        frame = Frame(function, found.node, _named(found.node, [_SELF], {}), cls)
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
        if isinstance(value, ast.Attribute) and _is_name(value.value, chain.id) and value.attr in self.own.names:
            return ""
        on = self.path(value, frame).on
        return on if on in ("model", "optimizer", "loss", "outside") else ""

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
        if base.items and isinstance(at, int) and -len(base.items) <= at < len(base.items):
            return base.items[at]
        text = f"{base.text}[{_short(self.shown(node.slice, frame), 24)}]" if base.text else ""
        return Thing(base.on, text, made=base.made)

    def path(self, node: ast.expr, frame: Frame) -> Thing:
        """Return what an expression stands for, without reading it for effects."""
        if isinstance(node, ast.Name):
            return self.name(node.id, frame)
        if isinstance(node, ast.Constant):
            return _constant(node)
        if isinstance(node, ast.Attribute):
            return self.attribute(self.path(node.value, frame), node.attr)
        if isinstance(node, ast.Subscript):
            return self.subscript(self.path(node.value, frame), self.path(node.slice, frame), node, frame)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
            return _SUPER
        if isinstance(node, (ast.Lambda, ast.JoinedStr)):
            return Thing(made=True)
        things = [self.path(part, frame) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return Thing(_dominant(things), "", made=True)

    # -- calls --

    def call(self, node: ast.Call, frame: Frame, path: Path, alone: bool) -> Thing:
        args = [self.visit(part, frame, path) for part in node.args]
        words = {word.arg: self.visit(word.value, frame, path) for word in node.keywords}
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
        if base.root == "super":
            return self.inherited(name, call)
        if base.root == "self":
            member = _static(self.owner, name) if name in self.own.names else None
            if unwrap(member) is not None and not isinstance(member, property):
                bound = [] if isinstance(member, staticmethod) else [_SELF]
                return self.follow(member, [*bound, *self.given(call)], call.words, call.path, call.frame)
            if name in self.own.names and name not in self.vocabulary.learner:
                return self.function(Thing(self.origin(name), f"self.{name}"), call)
            base = _LEARN
        if base.root == "learn":
            return self.of_learner(name, call)
        if isinstance(base.obj, (ModuleType, type)):
            return self.function(self.attribute(base, name), call)
        return self.of_thing(base, name, call)

    def inherited(self, name: str, call: Call) -> Thing:
        start = call.frame.cls
        mro = _mro(self.owner)
        after = mro[mro.index(start) + 1 :] if start in mro else ()
        for cls in after:
            member = type.__getattribute__(cls, "__dict__").get(name)
            if member is not None:
                return self.follow(member, [_SELF, *self.given(call)], call.words, call.path, call.frame, cls)
        return Thing()

    def given(self, call: Call) -> list[Thing]:
        """Return the arguments of a call, each with a text that the function called can be shown with."""
        things = []
        for thing, node in zip(call.args, call.node.args, strict=True):
            text = thing.text or (self.text(node, call.frame, True) if _is_small(node) else "")
            things.append(replace(thing, text=text if len(text) <= 56 else ""))
        return things

    def of_learner(self, name: str, call: Call) -> Thing:
        found = self.attribute(_LEARN, name)
        text = found.text if found.on in ("model", "optimizer") else f"learn.{name}"
        if not call.alone and _is_pure(name, found.on, self.vocabulary):
            self.read(replace(found, text=f"{text}()"), _LEARN, call.path, True)
            return Thing(found.on, f"{text}(…)", made=True)
        self.record(call.path, "calls", found.on, self.called(text, call))
        self.found[-1].taken = not call.alone and found.on != "model"
        return Thing(found.on, f"{text}(…)", made=found.on == "learner")

    def of_thing(self, base: Thing, name: str, call: Call) -> Thing:
        """Read a method call on anything else: an object of the loop, of the callback's own, or from outside."""
        text = f"{base.text or self.text(call.node.func.value, call.frame, True)}.{name}"  # type: ignore[attr-defined]
        on, made = base.on, Thing(base.on, f"{text}(…)", made=True)
        if isinstance(base.obj, LocalFunction):
            return made
        if (name in _FILE_METHODS and on not in ("model", "optimizer")) or (not on and text in _OUTSIDE_CALLS):
            self.record(call.path, "calls", "outside", self.called(text, call))
            return Thing("outside", f"{text}(…)", made=True)
        if on == "outside" or (name in ("__enter__", "__exit__") and on):
            if call.alone or not _is_pure(name, on, self.vocabulary):
                self.record(call.path, "calls", "outside", self.called(text, call), "", name)
            return made
        if name in _CHANGING and on and not base.made and call.node.args:
            value = self.text(call.node.args[-1], call.frame)
            self.record(call.path, "writes", on, base.text, value, name)
            self.found[-1].taken = call.args[-1].on in _OF_THE_LOOP
            return made
        if name in _CHANGING | _SHRINKING and base.made:
            return made  # a list of things, made here, changes; the things do not
        if on in _OF_THE_LOOP:
            if self.is_done(name, base, call):
                self.record(call.path, "calls", on, self.called(text, call))
                self.found[-1].taken = not call.alone and on in ("learner", "data") and not name.endswith("_")
            else:
                self.read(base, base, call.path, True)
            return made
        if on == "callback" and (call.alone or name in _SHRINKING) and not base.made:
            whose = _dominant(call.args) if _passes_root(call.args) else "callback"
            self.record(call.path, "calls", whose, self.called(text, call))
        elif call.alone and not on:
            whose = _dominant(call.args)
            if whose in _OF_THE_LOOP:
                self.record(call.path, "calls", whose, self.called(text, call))
        return made

    def is_done(self, name: str, base: Thing, call: Call) -> bool:
        """Return whether a method of an object of the loop is called for what it does, not for what it returns."""
        if call.alone or (name.endswith("_") and not name.endswith("__")) or name in self.vocabulary.loops:
            return True
        if base.made or (base.on == "learner" and base.text.count(".") > 0):
            return False
        return not _is_pure(name, base.on, self.vocabulary)

    def function(self, target: Thing, call: Call) -> Thing:
        """Read a call of anything but a method: a function of the same package is followed, others are named."""
        given = [*call.args, *call.words.values()]
        on = _dominant(given)
        made = Thing("outside" if target.on == "outside" else on, f"{target.text}(…)", made=True)
        obj = target.obj
        if isinstance(obj, LocalFunction):
            return self.local(obj, call)
        if target.on == "outside":
            self.record(call.path, "calls", "outside", self.called(target.text, call))
            return made
        if target.on in _OF_THE_LOOP:
            if call.alone or not target.made:
                self.record(call.path, "calls", target.on, self.called(target.text, call))
            return made
        if target.text in self.vocabulary.stores or _module_of(obj) == "builtins":
            return made
        if isinstance(obj, type):
            start = _static(obj, "__init__")
            if self.followable(start) and on in _OF_THE_LOOP:
                first = Thing(text=target.text, made=True)
                return self.helper(start, target, replace(call, args=[first, *call.args]), made)
            return made
        if self.followable(obj):
            return self.helper(obj, target, call, made)
        in_place = target.text.endswith("_") and not target.text.endswith("__") and on in _OF_THE_LOOP
        if call.alone or in_place:
            self.complete = self.complete and target.on != "callback"
            whose = on if on in _OF_THE_LOOP else "outside" if target.on == "" else target.on
            self.record(call.path, "calls", whose, self.called(target.text, call))
        return made

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
        inside = [found.effect for found in self.found[before:]]
        raised = [found for found in self.found[before:] if _steers(found.effect)]
        self.found[before:], self.reads = raised, kept
        del self.assigned[assigned:]
        touched = [effect.on for effect in inside if effect.kind != "raises" and effect.on != "callback"]
        own = [effect.on for effect in inside if effect.kind != "raises" and effect.on == "callback"]
        if touched or (own and call.alone):
            on = min(touched or own, key=_RANK.index)
            self.record(call.path, "calls", on, self.called(target.text, call))
        return Thing(given.on or made.on, made.text, made=True)

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
        frame = Frame(found.function, found.node, _named(found.node, args, words), cls or self.defining(found.function))
        before = len(self.found)
        self.run(frame, path)
        self.raised = any(_steers(found.effect) for found in self.found[before:])
        return _given(frame.returns)

    def local(self, function: LocalFunction, call: Call) -> Thing:
        if function.node in self.stack:
            return Thing()
        env = {**function.frame.env, **_named(function.node, call.args, call.words)}
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
            on, text = self.target(self.named_attribute(node, args, frame), frame, path)
            if on:
                self.record(path, "deletes", on, text)
        return Thing()

    def named_attribute(self, node: ast.Call, args: list[Thing], frame: Frame) -> ast.Attribute:
        const = args[1].const
        name = str(const.value) if const is not None else f"<{self.text(node.args[1], frame)}>"
        return ast.Attribute(node.args[0], name, ast.Store())

    # -- text --

    def text(self, node: ast.expr, frame: Frame, inner: bool = False) -> str:
        text = _unparsed(self.shown(node, frame))
        return f"({text})" if inner and isinstance(node, _LOOSE) else text

    def shown(self, node: ast.expr, frame: Frame) -> ast.expr:
        """Return an expression as a reader of the handler would write it: `self.learn.model` -> `model`."""
        return _Shown(self, frame).visit(node)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call with what its arguments stand for."""

    node: ast.Call
    args: list[Thing]
    words: Mapping[str | None, Thing]
    frame: Frame
    path: Path
    alone: bool


class _Shown(ast.NodeTransformer):
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
        shown.args = [ast.Name(_unparsed(part)) if isinstance(part, ast.Name) else part for part in shown.args]
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
        known = _truth(test := self.visit(node.test))
        if known is not None:
            return self.visit(node.body if known else node.orelse)  # type: ignore[no-any-return]
        return ast.IfExp(test, self.visit(node.body), self.visit(node.orelse))


_STATEMENTS: dict[type[ast.stmt], Callable[[Reading, Any, Frame, Path], Exit]] = {
    ast.Expr: Reading._expr,
    ast.Assign: Reading._assign,
    ast.AnnAssign: Reading._annassign,
    ast.AugAssign: Reading._augassign,
    ast.Delete: Reading._delete,
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
    _STATEMENTS[ast.TryStar] = Reading._try

_SPECIAL: dict[str, Callable[[Reading, ast.Call, list[Thing], Frame, Path], Thing | None]] = {
    "super": Reading._super,
    "getattr": Reading._getattr,
    "setattr": Reading._setattr,
    "delattr": Reading._delattr,
}

_LOOSE = (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Lambda, ast.UnaryOp)

_OPERATORS = {
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


def _global(function: FunctionType, name: str) -> Any:
    """Return what a function's global, closure or built-in name holds now, without running anything."""
    code = function.__code__
    if name in code.co_freevars and function.__closure__:
        try:
            return function.__closure__[code.co_freevars.index(name)].cell_contents
        except (ValueError, IndexError):
            return _NOTHING
    return function.__globals__.get(name, vars(builtins).get(name, _NOTHING))


def _given(returns: list[Thing]) -> Thing:
    if len(returns) == 1:
        return returns[0]
    return Thing(_dominant(returns), "", made=True)


def _merged(one: dict[str, Thing], other: dict[str, Thing]) -> dict[str, Thing]:
    """Return what names stand for after two branches: the same as before, or either."""
    merged = dict(other)
    for name, thing in one.items():
        against = other.get(name)
        if against is not None and against is not thing:
            same = against.text == thing.text and against.on == thing.on
            merged[name] = thing if same else Thing(_dominant((thing, against)), name, made=thing.made or against.made)
        else:
            merged[name] = thing
    return merged


def _either(test: ast.expr, yes: Exit, no: Exit) -> Exit:
    """Return when an `if` is left early, from when its branches are."""
    if yes is True and no is True:
        return True
    if yes is None and no is None:
        return None
    if yes is True and no is None:
        return test
    if no is True and yes is None:
        return _negated(test)
    if no is None and yes is not None and yes is not True and yes is not _SOMETIMES:
        return ast.BoolOp(ast.And(), [test, yes])
    return _SOMETIMES


def _after(node: ast.stmt, exit: ast.expr) -> ast.expr:
    """Return what holds after a statement that may have left the block; noted on it: the exception that it leaves by.

    `if a: raise X` and then `if b: raise X` raises X if a or b: the second needs no `not a`.
    """
    if exit is _SOMETIMES:
        return exit
    opposite = copy.copy(_negated(exit))
    last = node.body[-1] if isinstance(node, ast.If) else None
    if isinstance(last, ast.Raise) and last.exc is not None:
        raised = last.exc.func if isinstance(last.exc, ast.Call) else last.exc
        opposite.guard = _unparsed(raised).rpartition(".")[2]  # type: ignore[attr-defined]
    return opposite


def _leaves(body: Sequence[ast.stmt]) -> bool:
    return any(isinstance(part, (ast.Return, ast.Raise)) for node in body for part in ast.walk(node))


def _only_errors(body: Sequence[ast.stmt]) -> bool:
    """Return whether a branch ends in an error: what comes after it is still reached in every run without errors."""
    last = body[-1]
    if not isinstance(last, ast.Raise) or last.exc is None or _leaves(body[:-1]):
        return False
    raised = last.exc.func if isinstance(last.exc, ast.Call) else last.exc
    return _is_error(_unparsed(raised))


def _is_error(name: str) -> bool:
    """Return whether an exception is one of Python's own: a mistake, not a way to steer the loop."""
    found = vars(builtins).get(name)
    steers = ("KeyboardInterrupt", "SystemExit", "StopIteration", "GeneratorExit")
    return isinstance(found, type) and issubclass(found, BaseException) and name not in steers


def _steers(effect: Effect) -> bool:
    return effect.kind == "raises" and not _is_error(effect.target)


def _caught(handler: ast.ExceptHandler) -> tuple[str, ...]:
    if handler.type is None:
        return ()
    parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return tuple(_unparsed(part).rpartition(".")[2] for part in parts)


def _is_caught(effect: Effect, caught: Sequence[tuple[str, ...]]) -> bool:
    if effect.kind != "raises":
        return False
    return any(not names or effect.target in names or {"Exception", "BaseException"} & set(names) for names in caught)


def _passes_root(args: Iterable[Thing]) -> bool:
    return any(thing.root == "learn" or (thing.on in _OF_THE_LOOP and not thing.made) for thing in args)


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


def _negated(test: ast.expr) -> ast.expr:
    """Return the opposite of a condition, as one would write it: `not x is None` -> `x is not None`."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return ast.Compare(test.left, [_OPPOSITE[type(test.ops[0])]()], test.comparators)
    if isinstance(test, ast.BoolOp):
        other: ast.boolop = ast.Or() if isinstance(test.op, ast.And) else ast.And()
        return ast.BoolOp(other, [_negated(part) for part in test.values])
    return ast.UnaryOp(ast.Not(), test)


def _truth(test: ast.expr) -> bool | None:
    """Return whether a condition between literals holds; None where it is not between literals."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        known = _truth(test.operand)
        return None if known is None else not known
    if isinstance(test, ast.BoolOp):
        parts = [_truth(part) for part in test.values]
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


def _has_call(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _is_small(node: ast.expr) -> bool:
    return len(list(itertools.islice(ast.walk(node), 20))) < 20


def _unparsed(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id[1:-1] if node.id.startswith("(") and _closes_last(node.id) else node.id
    try:
        return " ".join(ast.unparse(node).split())
    except Exception:  # an f-string that holds quotes of both kinds cannot be written before Python 3.12
        return "…"


def _each(target: ast.expr, over: ast.expr) -> str:
    text = _unparsed(over)
    choice = isinstance(over, ast.IfExp) or (isinstance(over, ast.Name) and " if " in text and text[:1] not in "[{(")
    return f"for {_bare(_unparsed(target), target)} in {_cut(f'({text})' if choice else text, 64)}"


def _bare(text: str, node: ast.AST) -> str:
    """Return a tuple without the brackets that `ast.unparse` puts around it."""
    return text[1:-1] if isinstance(node, ast.Tuple) and len(node.elts) > 1 and text.startswith("(") else text


def _short(node: ast.AST, longest: int) -> str:
    text = _bare(_unparsed(node), node)
    return text if len(text) <= longest else "…"


def _method(target: str) -> str:
    return target.partition("(")[0].removeprefix("learn.")


# -- one line for a reader -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a summary: a verb with what it is done to, under conditions; each part full, short and bare."""

    rank: int
    verb: str
    parts: tuple[tuple[str, str, str], ...]
    conditions: tuple[str, ...] = ()
    each: str = ""

    def text(self, level: int) -> tuple[str, str]:
        """Return it as text, and its condition as text; the higher the level, the more is left out."""
        parts = list(dict.fromkeys(forms[min(level, 2)] for forms in self.parts))
        most, longest, longest_each = _LIMITS[level]
        if len(parts) > most:
            parts = [*parts[:most], "…"]
        when = f"if {_cut(' and '.join(self.conditions), longest)}" if self.conditions else ""
        return f"{self.verb} {', '.join(parts)}", " ".join(filter(None, (when, _cut(self.each, longest_each))))

    @property
    def path(self) -> tuple[tuple[str, ...], str]:
        return self.conditions, self.each


_LIMITS = ((9, 90, 90), (4, 60, 64), (3, 40, 48), (1, 24, 40), (3, 24, 30))
"""At each level: how many parts a clause names, how long its condition may be, how long what it is repeated for."""

RAISES, LOOPS, CHANGES, TAKES, OUTSIDE, KEEPS, ERRORS, READS = range(8)
"""What a summary says first: exceptions that steer the loop, loops inside this one, what is done to the loop, what is
taken from it, what is done outside, what the callback keeps, errors and what is done about them, what is only read."""


def summary(found: Sequence[Found], reads: Sequence[str], vocabulary: Vocabulary, complete: bool) -> str:
    """Return what a function does in one line of about `LONGEST` characters; `""` if nothing is known."""
    clauses = sorted(_clauses(found, vocabulary), key=lambda clause: clause.rank)
    if not clauses and reads:
        clauses = [Clause(READS, "only reads", tuple((text, text, text) for text in dict.fromkeys(reads)))]
    if not clauses:
        return "does nothing" if complete else ""
    start, clauses = _shared(clauses)
    lines = Lines(start, clauses[:MOST_CLAUSES], len(clauses) > MOST_CLAUSES)
    clauses = clauses[:MOST_CLAUSES]
    levels = [0] * len(clauses)
    for least, level, first in _SHORTENING:
        for at in reversed(range(len(clauses))):
            if len(lines.line(levels)) <= (ROOM if least == CHANGES and level > 2 else LONGEST):
                return lines.line(lines.fuller(levels))
            if clauses[at].rank >= least and (at == 0 if first is None else at > 0 or first):
                levels[at] = max(levels[at], level)
    line = lines.line(levels)
    return line if len(line) <= 2 * LONGEST else line[: 2 * LONGEST - 1].rstrip() + "…"


_OUT, MOST_CLAUSES = 9, 24
_SHORTENING = (
    (KEEPS, 1, True),
    (KEEPS, 2, True),
    (KEEPS, _OUT, False),
    (TAKES, 1, True),
    (CHANGES, 1, True),
    (TAKES, 2, False),
    (TAKES, 3, False),
    (CHANGES, 2, False),
    (TAKES, _OUT, False),
    (CHANGES, 2, True),
    (CHANGES, 3, False),
    (CHANGES, 4, None),
    (CHANGES, _OUT, False),
    (RAISES, 1, True),
    (RAISES, 2, True),
)
"""How a line that is too long gets shorter, one clause after the other from its end: (from which rank on, to which
level, the first clause too or, with None, alone). A loop inside this one and an exception that steers the loop are
never left out."""


class Lines:
    """The ways to write down some clauses, each clause at a level; a text is made only once."""

    def __init__(self, start: str, clauses: Sequence[Clause], more: bool) -> None:
        self.start, self.clauses, self.more = start, clauses, more
        self.texts: dict[tuple[int, int], tuple[str, str]] = {}

    def line(self, levels: Sequence[int]) -> str:
        """Join the clauses; neighbours under the same condition say it once, and `…` comes last."""
        always: set[str] = set()
        said: list[tuple[Clause, str, str]] = []
        for at, clause in enumerate(self.clauses):
            if levels[at] == _OUT:
                continue
            text, when = self.text(at, levels[at])
            if text in always:
                continue  # under whatever condition, it happens anyway
            if not when:
                always.add(text)
            if said and when and said[-1][0].path == clause.path:
                _, before, longer = said.pop()
                text, when = f"{before} and {text}", max(when, longer, key=len)
            said.append((clause, text, when))
        texts = list(dict.fromkeys(f"{text} {when}".rstrip() for _, text, when in said))
        left_out = (self.more or _OUT in levels) and not texts[-1].endswith(", …")
        return self.start + "; ".join([*texts, "…"] if left_out else texts)

    def text(self, at: int, level: int) -> tuple[str, str]:
        if (at, level) not in self.texts:
            self.texts[at, level] = self.clauses[at].text(level)
        return self.texts[at, level]

    def fuller(self, levels: list[int]) -> list[int]:
        """Return levels with those clauses back in, at their shortest, that there is room for."""
        for at, level in enumerate(levels):
            back = [*levels[:at], 3, *levels[at + 1 :]]
            if level == _OUT and len(self.line(back)) <= LONGEST:
                levels = back
        return levels


def _shared(clauses: Sequence[Clause]) -> tuple[str, list[Clause]]:
    """Say a condition that all clauses begin with once, in front: `if learn.training: `."""
    shared = _common([clause.conditions for clause in clauses]) if len(clauses) > 1 else ()
    rest = [replace(clause, conditions=clause.conditions[len(shared) :]) for clause in clauses]
    return (f"if {_cut(' and '.join(shared), 60)}: " if shared else ""), rest


def _common(many: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shared = many[0]
    for texts in many:
        while texts[: len(shared)] != shared:
            shared = shared[:-1]
    return shared


def _clauses(found: Sequence[Found], vocabulary: Vocabulary) -> Iterator[Clause]:
    """Put together what has the same verb and condition, and what is done under one condition or another."""
    ranked = [(_rank(part, vocabulary), part) for part in found]
    values = [(part.value, rank) for rank, part in ranked if part.effect.kind == "writes"]
    calls = {_name(part.effect.target) for _, part in ranked if part.effect.kind == "calls"}
    paths: dict[str, set[Path]] = {}
    for _, part in ranked:
        paths.setdefault(_chosen(part.effect), set()).add(part.path)
    grouped: dict[tuple[int, str, object], list[Found]] = {}
    for rank, part in ranked:
        item = part.effect
        if item.kind == "calls" and any(item.target in value and rank >= above for value, above in values):
            continue  # it is seen in what is assigned
        if rank == KEEPS and item.kind == "writes" and part.value.endswith(")") and _name(part.value) in calls:
            grouped.setdefault((rank, "sets", (part.path.texts(), part.path.each)), []).append(replace(part, value=""))
            continue  # its value is seen in what is called
        reached = paths[_chosen(item)]
        choice = item.kind == "raises" or (item.kind == "calls" and not any(path.each for path in reached))
        several = choice and item.how != "assert" and len(reached) > 1
        key = _chosen(item) if several else (part.path.texts(), part.path.each)
        grouped.setdefault((rank, _verb(part, vocabulary), key), []).append(part)
    for (rank, verb, _), parts in grouped.items():
        yield Clause(rank, verb, tuple(dict.fromkeys(map(_part, parts))), _either_of(parts), _each_of(parts))


def _chosen(item: Effect) -> str:
    return _name(item.target) if item.kind == "calls" else f"{item.kind} {item.target}"


def _either_of(parts: Sequence[Found]) -> tuple[str, ...]:
    """Return the conditions under which one of several happens: what they share, then one `or` the other."""
    many = list(dict.fromkeys(part.path.texts() for part in parts))
    if parts[0].effect.how == "assert":
        return many[0][:-1]
    if len(many) == 1:
        return many[0]
    shared = _common(many)
    rest = [" and ".join(texts[len(shared) :]) for texts in many]
    either = " or ".join(dict.fromkeys(rest))
    return shared if "" in rest else (*shared, f"({either})" if shared else either)


def _each_of(parts: Sequence[Found]) -> str:
    found = {part.path.each for part in parts}
    return " ".join(found.pop()) if len(found) == 1 else ""


def _rank(found: Found, vocabulary: Vocabulary) -> int:
    item = found.effect
    if item.kind == "raises":
        return ERRORS if _is_error(item.target) else RAISES
    if any(each.startswith("on ") for each in found.path.each):
        return ERRORS
    if item.on == "learner" and _method(item.target) in vocabulary.loops:
        return LOOPS
    if found.taken or (item.kind == "calls" and item.on in _OF_THE_LOOP and item.target.startswith("self.")):
        return TAKES
    return CHANGES if item.on in _OF_THE_LOOP else OUTSIDE if item.on == "outside" else KEEPS


_VERBS = {"=": "sets", "append": "appends", "add": "adds", "extend": "extends", "update": "updates"}


def _verb(found: Found, vocabulary: Vocabulary) -> str:
    item = found.effect
    if item.how == "assert":
        return "asserts"
    if item.kind == "raises":
        return "always raises" if found.path.certain else "raises"
    if item.kind == "calls":
        named = {"__enter__": "enters", "__exit__": "leaves"}.get(item.how)
        loop = item.on == "learner" and _method(item.target) in vocabulary.loops
        return named or ("runs" if loop else "prints" if item.target == "print" else "calls")
    return "deletes" if item.kind == "deletes" else _VERBS.get(item.how, "changes")


def _part(found: Found) -> tuple[str, str, str]:
    """Return what follows the verb: in full, short and bare."""
    item, value = found.effect, found.value
    if item.how == "assert":
        return value, _cut(value, 40), _cut(value, 40)
    if item.target == "print":
        return "a message", "a message", "a message"
    if item.how in ("__enter__", "__exit__"):
        return (item.target.rpartition(".")[0],) * 3
    if item.how in ("append", "add"):
        forms = [f"{_kept(value, longest) or 'a value'} to {item.target}" for longest in (80, 40, 24)]
        return forms[0], forms[1], forms[2]
    if item.kind == "calls":
        name = _name(item.target)
        first = re.match(r"\('[^']{1,16}', ", item.target[len(name) :])
        short = f"{name}{first.group()}…)" if first else f"{name}(…)"
        bare = item.target if len(item.target) - len(name) <= 12 else f"{name}(…)"
        return item.target, bare if bare == item.target else short, bare
    if item.kind == "writes" and item.how == "=":
        return _assignment(item, _kept(value, 60)), _assignment(item, _kept(value, 28)), item.target
    if item.kind == "writes" and item.how.endswith("="):
        forms = [f"{item.target} {item.how} {_kept(value, longest) or '…'}" for longest in (60, 28, 0)]
        return forms[0], forms[1], forms[2]
    return item.target, item.target, item.target


def _assignment(item: Effect, value: str) -> str:
    return f"{item.target} {item.how} {value}" if value else item.target


def _kept(value: str, longest: int) -> str:
    """Return a value if it is short, a call without its arguments if those make it long, or nothing."""
    if len(value) <= longest:
        return value
    name = _name(value)
    is_call = value.endswith(")") and name.replace(".", "").isidentifier()
    return f"{name}(…)" if is_call and len(name) + 3 <= longest else ""


def _name(call: str) -> str:
    """Return what is called: `(path / name).open` of `(path / name).open('w')`."""
    depth = 0
    for at in reversed(range(len(call))):
        depth += (call[at] in ")]}") - (call[at] in "([{")
        if depth == 0:
            return call[:at] if call.endswith(")") else call
    return call


def _closes_last(text: str) -> bool:
    """Return whether the first bracket of a text closes at its very end."""
    return text.startswith("(") and text.endswith(")") and not _name(text)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else re.sub(r"[\s.(\[,]+[^\s.(\[,]*$", "", text[:longest]) + " …"
