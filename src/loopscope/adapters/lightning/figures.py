"""Under which names a Lightning run logs figures, read from the sources of its module and its callbacks.

`self.log("val_loss", loss)` gives `("val_loss",)`. One name that cannot be read, or code that may log and is not seen,
gives None: more names than are logged do no harm here, one too few would.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from loopscope.adapters.lightning.given import Given
from loopscope.callbacks import Callback, Method

MODULES = frozenset({"torch", "math", "np", "numpy", "F", "logging", "logger", "LOGGER", "_logger", "wandb", "mlflow"})
"""Names in front of a `.log(...)` that is no call of Lightning's."""

HARMLESS = frozenset(
    {"isinstance", "super", "type", "len", "hasattr", "getattr", "setattr", "repr", "str", "id", "print"}
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
    if any(one.cls in OWN_LOGGING for one in everybody) or _nested_modules(asked) or _several_loaders(asked):
        return None
    names: list[str] = []
    try:
        for one in everybody:
            for method in one.methods:
                if _comes(asked, method.name) and (one.origin == "model" or not method.shipped):
                    names += _logged(method)
    except _Unknown:
        return None
    return tuple(dict.fromkeys(names))


def _nested_modules(asked: Given) -> bool:
    cls = asked.package.part().LightningModule
    return any(one is not asked.model and isinstance(one, cls) for one in asked.model.modules())


def _several_loaders(asked: Given) -> bool:
    """Return whether names may get the number of a loader behind them."""
    kinds = [kind for kind in asked.sources if kind != "train"]
    return any(isinstance(asked.sources[kind].value, (list, tuple, dict)) for kind in kinds)


def _comes(asked: Given, name: str) -> bool:
    """Return whether the run comes to a method; one that is no hook may be called by any."""
    if not name.startswith("on_") and not name.endswith("_step"):
        return True
    parts = name.split("_")
    if asked.run == "fit" and "validation" in parts:
        return asked.sources["val"].there
    return not any(word in parts for word in RUNS.get(asked.run, ()))


def _logged(method: Method) -> Iterator[str]:
    if method.node is None or (method.calls_super and method.hides and not method.hides_shipped):
        if method.shipped:
            return
        raise _Unknown
    called = {id(one.func) for one in ast.walk(method.node) if isinstance(one, ast.Call)}
    for one in ast.walk(method.node):
        if isinstance(one, ast.Call):
            yield from _call(one, method.name)
        elif isinstance(one, ast.Attribute) and id(one) not in called and one.attr in ("log", "log_dict"):
            raise _Unknown  # handed on
        elif isinstance(one, ast.Attribute) and one.attr == "callback_metrics" and not method.shipped:
            _only_read(method, one)


def _only_read(method: Method, attribute: ast.Attribute) -> None:
    """Raise `_Unknown` where somebody may put figures among Lightning's own."""
    assert method.node is not None
    for one in ast.walk(method.node):
        if isinstance(one, ast.Subscript) and one.value is attribute and not isinstance(one.ctx, ast.Load):
            raise _Unknown
        if isinstance(one, ast.Attribute) and one.value is attribute and one.attr in ("update", "setdefault"):
            raise _Unknown


def _call(call: ast.Call, method: str) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in ("log", "log_dict"):
        if isinstance(function.value, ast.Name) and function.value.id in MODULES:
            return
        first = call.args[0] if call.args else next((one.value for one in call.keywords if one.arg), None)
        if first is None and not call.keywords:  # tensor.log()
            return
        for name in _names(first, function.attr):
            yield from _suffixed(name, call, method)
    elif isinstance(function, ast.Name) and function.id not in HARMLESS and _gives_module(call):
        raise _Unknown  # it may log there


def _gives_module(call: ast.Call) -> bool:
    given = [*call.args, *(one.value for one in call.keywords)]
    return any(isinstance(one, ast.Name) and one.id in ("self", "pl_module") for one in given)


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
