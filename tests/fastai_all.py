"""Every callback class that fastai ships: `callbacks()` imports all its modules, missing packages replaced by stubs.

Only for tests that read classes: a stub accepts whatever fastai does with it while it is imported, and nothing more.
Import fastai before this module's functions are called (`need("fastai")`).
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

STUBS = {
    "accelerate": ["Accelerator"],
    "azureml": [],
    "azureml.core": [],
    "azureml.core.run": ["Run"],
    "azureml.exceptions": ["RunEnvironmentException"],
    "comet_ml": [],
    "tensorboard": [],
    "torch.utils.tensorboard": ["SummaryWriter"],
    "wandb": [],
}
"""Modules of other packages that fastai's modules import -> the names that they take from them."""

MODULES = """
    basics callback.all callback.azureml callback.channelslast callback.comet callback.preds
    callback.tensorboard callback.wandb collab distributed medical.imaging medical.text tabular.all test_utils
    text.all vision.all vision.gan
""".split()  # noqa: SIM905
"""fastai's modules that are read; each brings in those that it builds on. (callback.captum has no callback.)"""

_KEPT: list[object] = []


@cache
def callbacks() -> tuple[type, ...]:
    """Return fastai's own subclasses of `Callback`, sorted by module and name."""
    core = importlib.import_module("fastai.callback.core")
    declare_operators()
    with stubs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what fastai's modules import
        for name in MODULES:
            try:
                importlib.import_module(f"fastai.{name}")
            except ImportError as error:  # a package that brings no callback with it: spacy, pydicom
                if (error.name or "").startswith("fastai"):
                    raise
    found = (cls for cls in _subclasses(core.Callback) if cls.__module__.startswith("fastai."))
    return tuple(sorted(found, key=lambda cls: (cls.__module__, cls.__name__)))


def handlers(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield (event, function) for each handler in the class's own body, or patched into it, in fastai's order."""
    core = importlib.import_module("fastai.callback.core")
    return ((event, vars(cls)[event]) for event in core._events if event in vars(cls))


def _subclasses(cls: type) -> set[type]:
    direct = set(cls.__subclasses__())
    return direct.union(*map(_subclasses, direct))


@contextmanager
def stubs() -> Iterator[None]:
    """Put a stub in `sys.modules` for each module of a missing package, as long as this lasts."""
    made = [name for name in STUBS if not _installed("tensorboard" if name.startswith("torch.") else name)]
    before = {name: sys.modules[name] for name in made if name in sys.modules}
    try:
        for name in made:
            sys.modules[name] = _stub(name)
        yield
    finally:
        for name in made:
            del sys.modules[name]
        sys.modules.update(before)


def _stub(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    for attribute in STUBS[name]:
        setattr(module, attribute, type(attribute, (Exception,), {"__module__": name, "__init__": _anything}))
    return module


def _anything(self: object, *args: object, **kwargs: object) -> None:
    """Accept whatever the real class would."""


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # the package around it is missing, or was itself left in sys.modules by hand
        return False


def declare_operators() -> None:
    """Declare torchvision's operators where its compiled part does not load: importing it registers shapes for them."""
    import torch

    if not _installed("torchvision"):
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)  # torch forgets the operators with the library
