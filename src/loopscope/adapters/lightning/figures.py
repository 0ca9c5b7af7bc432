"""Under which names a Lightning run logs figures, read from the sources of its module and its callbacks.

`self.log("val_loss", loss)` gives `("val_loss",)`. One name that cannot be read, or code that may log and is not seen,
gives None: more names than are logged do no harm here, one too few would.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from loopscope.adapters.lightning.given import Given, Source
from loopscope.callbacks import Callback, Method
from loopscope.examining import may_write

MODULES = frozenset(
    {"torch", "math", "np", "numpy", "F", "logging", "logger", "LOGGER", "_logger", "wandb", "mlflow", "copy"}
)
"""Names in front of a `.log(...)` that is no call of Lightning's, and of functions that may be given the module."""

HARMLESS = frozenset(
    {"isinstance", "super", "type", "len", "hasattr", "getattr", "setattr", "repr", "str", "id", "print", "deepcopy"}
)
"""Functions that may be given the module without logging anything."""

OWN_LOGGING = ("LearningRateMonitor",)
"""Callbacks of Lightning's that log under names that depend on the optimizers."""

RUNS = {"fit": ("test", "predict"), "validate": ("training", "train", "test", "predict")}
"""Run -> words in the names of hooks that it does not come to."""


class _Unknown(Exception):
    """A name that cannot be read."""


def figures(asked: Given, found: Iterable[Callback]) -> tuple[str, ...] | None:
    """Return the names that the hooks of this run log, None where one of them cannot be read."""
    everybody = list(found)
    if any(one.cls in OWN_LOGGING for one in everybody) or _nested_modules(asked) or _several_loaders(asked, everybody):
        return None
    names: list[str] = []
    try:
        for one in everybody:
            for method in one.methods:
                if _comes(asked, method.name) and (one.origin == "model" or not method.shipped):
                    names += _logged(method, one)
    except _Unknown:
        return None
    return tuple(dict.fromkeys(names))


def _nested_modules(asked: Given) -> bool:
    cls = asked.package.part().LightningModule
    return any(one is not asked.model and isinstance(one, cls) for one in asked.model.modules())


# -- the loaders -----------------------------------------------------------------------------------------------


def _several_loaders(asked: Given, everybody: Iterable[Callback]) -> bool:
    """Return whether names may get the number of a loader behind them: who is asked for one may return several."""
    sources = [asked.sources[kind] for kind in asked.sources if kind != "train"]
    return any(_may_be_several(one, everybody) for one in sources if one.defined)


def _may_be_several(source: Source, everybody: Iterable[Callback]) -> bool:
    if source.owner is None:
        several = isinstance(source.value, (list, tuple, dict))
        return several or type(source.value).__name__ == "CombinedLoader"
    name = type(source.owner).__name__
    owner = next((one for one in everybody if one.origin == "model" and one.cls == name), None)
    return owner is None or not _is_one_loader(owner, owner.method(source.hook))


def _is_one_loader(owner: Callback, method: Method | None, seen: tuple[str, ...] = ()) -> bool:
    """Return whether whatever a method returns is a new DataLoader, as far as its source shows."""
    if method is None or method.node is None or method.name in seen:
        return False
    node, seen = method.node, (*seen, method.name)
    values = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
    returned = [node.body] if isinstance(node, ast.Lambda) else values
    return bool(returned) and all(_makes_loader(one, owner, node, seen) for one in returned)


def _makes_loader(value: ast.expr | None, owner: Callback, node: ast.AST, seen: tuple[str, ...]) -> bool:
    if isinstance(value, ast.Name):
        given = assigned(node, value.id)
        return bool(given) and all(isinstance(one, ast.Call) and _makes_loader(one, owner, node, seen) for one in given)
    if not isinstance(value, ast.Call):
        return False
    parts = ast.unparse(value.func).split(".")
    return parts[-1] == "DataLoader" or (
        len(parts) == 2 and parts[0] == "self" and _is_one_loader(owner, owner.method(parts[1]), seen)
    )


def assigned(tree: ast.AST, name: str) -> list[ast.expr | None]:
    """Return what a name is given in a function; None for what is no plain assignment."""
    plain = [one for one in ast.walk(tree) if isinstance(one, ast.Assign)]
    targets = {id(target): one.value for one in plain for target in one.targets}
    stores = [one for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    return [targets.get(id(one)) for one in stores if one.id == name]


# -- the hooks -------------------------------------------------------------------------------------------------


def _comes(asked: Given, name: str) -> bool:
    """Return whether the run comes to a method; one that is no hook may be called by any."""
    if not name.startswith("on_") and not name.endswith("_step"):
        return True
    parts = name.split("_")
    if asked.run == "fit" and "validation" in parts:
        return asked.sources["val"].there
    return not any(word in parts for word in RUNS.get(asked.run, ()))


def _logged(method: Method, owner: Callback) -> Iterator[str]:
    if method.node is None or (method.calls_super and method.hides and not method.hides_shipped):
        if method.shipped:
            return
        raise _Unknown
    called = {id(one.func) for one in ast.walk(method.node) if isinstance(one, ast.Call)}
    holders = _holders(method, owner)
    for one in ast.walk(method.node):
        if isinstance(one, ast.Call):
            yield from _call(one, method, owner, holders)
        elif isinstance(one, ast.Attribute) and id(one) not in called and one.attr in ("log", "log_dict"):
            raise _Unknown  # handed on
    if not method.shipped and may_write(method.node, _is_callback_metrics):
        raise _Unknown


def _is_callback_metrics(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "callback_metrics"


def _call(call: ast.Call, method: Method, owner: Callback, holders: frozenset[str]) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in ("log", "log_dict"):
        if isinstance(function.value, ast.Name) and function.value.id in MODULES:
            return
        first = call.args[0] if call.args else next((one.value for one in call.keywords if one.arg), None)
        if first is None and not call.keywords:  # tensor.log()
            return
        for name in _names(first, function.attr):
            yield from _suffixed(name, call, method.name)
    elif not method.shipped and _gives_module(call, holders) and not _is_harmless(call, method, owner, holders):
        raise _Unknown  # it may log there


def _holders(method: Method, owner: Callback) -> frozenset[str]:
    """Return the names of a method that may be the module or the trainer: its own, and others for them.

    Raises `_Unknown` where an object keeps one of them.
    """
    assert method.node is not None
    listed = [one.arg for one in (*method.node.args.posonlyargs, *method.node.args.args)]
    names = {"self", "pl_module", "trainer", *listed[:1]}
    if owner.origin != "model" and method.name.startswith(("on_", "setup", "teardown")):
        names |= set(listed[1:3])
    for one in ast.walk(method.node):
        if isinstance(one, ast.Assign) and not method.shipped and _gives(one.value, names):
            if not all(isinstance(target, ast.Name) for target in one.targets):
                raise _Unknown
            names |= {target.id for target in one.targets if isinstance(target, ast.Name)}
    return frozenset(names)


def _gives_module(call: ast.Call, holders: frozenset[str]) -> bool:
    return any(_gives(one, holders) for one in (*call.args, *(one.value for one in call.keywords)))


def _gives(node: ast.expr, holders: Iterable[str]) -> bool:
    """Return whether an expression is the module or the trainer as a whole, or holds one: `self`, `[pl_module]`."""
    if isinstance(node, ast.Name):
        return node.id in holders
    if isinstance(node, ast.Attribute):
        return node.attr in ("trainer", "lightning_module", "pl_module")
    if isinstance(node, (ast.Starred, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.IfExp, ast.BoolOp)):
        return any(_gives(one, holders) for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr))
    return isinstance(node, ast.Lambda) and _gives(node.body, holders)


def _is_harmless(call: ast.Call, method: Method, owner: Callback, holders: frozenset[str]) -> bool:
    """Return whether a call that is given the module is known not to log, or is read by itself."""
    parts = ast.unparse(call.func).split(".")
    if len(parts) == 1:
        return parts[0] in HARMLESS
    if parts[0] in MODULES or any(one in ("logger", "experiment") for one in parts[:-1]):
        return True
    if parts[:-1] == ["super()"]:
        return parts[-1] == method.name
    return parts[:-1] == ["self"] and _is_read_too(call, owner.method(parts[-1]), holders)


def _is_read_too(call: ast.Call, called: Method | None, holders: frozenset[str]) -> bool:
    """Return whether a method that is given the module has it under a name that tells it, and so is read itself."""
    if called is None or called.node is None or called.shipped:
        return called is not None and called.shipped
    listed = [one.arg for one in (*called.node.args.posonlyargs, *called.node.args.args)][1 if called.owner else 0 :]
    names = dict(enumerate(listed))
    given = [names.get(at, "") for at, one in enumerate(call.args) if _gives(one, holders)]
    given += [str(one.arg) for one in call.keywords if _gives(one.value, holders)]
    return all(one in ("self", "pl_module", "trainer") for one in given)


def _names(first: ast.expr | None, attr: str) -> Iterator[str]:
    values = [first] if attr == "log" else first.keys if isinstance(first, ast.Dict) else [None]
    for one in values:
        if not isinstance(one, ast.Constant) or not isinstance(one.value, str):
            raise _Unknown
        yield one.value


def _suffixed(name: str, call: ast.Call, method: str) -> Iterator[str]:
    """Yield the names under which a figure is kept: three, if it is logged by step and by epoch."""
    yield name
    given = {str(one.arg): one.value for one in call.keywords if one.arg in ("on_step", "on_epoch")}
    more = any(one.arg is None for one in call.keywords)  # **kwargs
    flags = [getattr(one, "value", True) for one in given.values()]
    both = len(flags) == 2 or (len(flags) == 1 and not _by_epoch(method, given))
    if more or (both and False not in flags):
        yield from (f"{name}_step", f"{name}_epoch")


def _by_epoch(method: str, given: dict[str, ast.expr]) -> bool:
    """Return whether the flag that is left out is False anyway: a hook that logs by epoch, and by epoch alone."""
    return "on_step" not in given and any(word in method for word in ("validation", "test", "epoch"))
