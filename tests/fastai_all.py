"""Every callback class that fastai ships: `callbacks()` imports all its modules, missing packages replaced by stubs.

Only for tests that read classes: a stub accepts whatever fastai does with it while it is imported, and nothing more.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

STUBS = {
    "wandb": (),
    "comet_ml": (),
    "tensorboard": (),
    "torch.utils.tensorboard": ("SummaryWriter",),
    "azureml": (),
    "azureml.core": (),
    "azureml.core.run": ("Run",),
    "azureml.exceptions": ("RunEnvironmentException",),
    "captum": (),
    "captum.attr": ("IntegratedGradients", "NoiseTunnel", "GradientShap", "Occlusion", "visualization"),
    "captum.insights": ("AttributionVisualizer", "Batch"),
    "captum.insights.attr_vis": (),
    "captum.insights.attr_vis.features": ("ImageFeature",),
    "ipykernel": ("jsonutil",),
    "ipykernel.jsonutil": ("json_clean",),
    "accelerate": ("Accelerator",),
}
"""Packages that some fastai module imports by itself -> the names that it takes from them."""

MODULES = (
    "basics callback.all callback.azureml callback.captum callback.channelslast callback.comet callback.preds "
    "callback.tensorboard callback.wandb collab distributed medical.imaging medical.text tabular.all test_utils "
    "text.all vision.all vision.gan"
).split()
"""fastai's modules; each brings in those that it builds on."""


@cache
def callbacks() -> tuple[type, ...]:
    """Return fastai's own subclasses of `Callback`, sorted by module and name."""
    core = importlib.import_module("fastai.callback.core")
    with _operators(), _stubs():
        for name in MODULES:
            try:
                importlib.import_module(f"fastai.{name}")
            except ImportError as error:
                if (error.name or "").startswith("fastai"):
                    raise
    found = [cls for cls in _subclasses(core.Callback) if cls.__module__.startswith("fastai.")]
    return tuple(sorted(found, key=lambda cls: (cls.__module__, cls.__name__)))


def handlers(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield (event, function) for each handler in the class's own body (or patched into it), in fastai's order."""
    core = importlib.import_module("fastai.callback.core")
    for event in core._events:
        if event in vars(cls):
            yield event, vars(cls)[event]


def _subclasses(cls: type) -> set[type]:
    direct = set(type.__subclasses__(cls))
    return direct.union(*map(_subclasses, direct)) if direct else direct


@contextmanager
def _stubs() -> Iterator[None]:
    """Put a stub in `sys.modules` for each missing package, for the time of the imports."""
    made = {}
    for name, attributes in STUBS.items():
        if name in sys.modules or _installed(name):
            continue
        module = ModuleType(name)
        module.__path__ = []
        for attribute in attributes:
            setattr(module, attribute, type(attribute, (Exception,), {"__module__": name, "__init__": _anything}))
        made[name] = sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent in made:
            setattr(made[parent], last, module)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)


def _installed(name: str) -> bool:
    if name == "torch.utils.tensorboard":  # it is there with every torch, and imports tensorboard
        return _installed("tensorboard") and "tensorboard" not in STUBS_IN_USE()
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def STUBS_IN_USE() -> set[str]:
    return {name for name in STUBS if getattr(sys.modules.get(name), "__file__", None) is None}


def _anything(self: object, *args: object, **kwargs: object) -> None:
    """Accept whatever the real class would."""


@contextmanager
def _operators() -> Iterator[None]:
    """Declare the operators that torchvision registers shapes for, where its compiled part cannot be loaded."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    try:
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        pass  # they are there
    yield
