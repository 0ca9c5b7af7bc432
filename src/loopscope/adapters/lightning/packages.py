"""The two packages that hold the same framework, `lightning.pytorch` and `pytorch_lightning`: each object has one.

Constraint: nothing is imported that the program has not imported already, but for parts of the package it uses.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ROOTS = ("lightning.pytorch", "pytorch_lightning")
"""Where the classes of the two are defined; they share none."""


@dataclass(frozen=True, slots=True)
class Package:
    """One of the two: `Package("lightning.pytorch").part("trainer.call")` is the module that dispatches."""

    root: str

    def part(self, name: str = "") -> Any:
        """Return a module of the package; `""` is the package itself."""
        return importlib.import_module(f"{self.root}.{name}" if name else self.root)

    def cls(self, name: str) -> Any:
        """Return what `module.Name` below the package is: `cls("callbacks.EarlyStopping")`."""
        module, _, name = name.rpartition(".")
        return getattr(self.part(module), name)

    @property
    def home(self) -> str:
        """The folder of the package's own code."""
        return os.path.dirname(str(self.part().__file__))

    @property
    def distribution(self) -> str:
        """What one installs: `lightning` or `pytorch_lightning`."""
        return self.root.partition(".")[0]

    @property
    def version(self) -> str:
        return str(sys.modules[self.distribution].__version__)

    def is_overridden(self, name: str, instance: Any, parent: type) -> bool:
        """Return whether an instance has its own `name`, by the rule that Lightning itself uses."""
        try:
            return bool(self.part("utilities.model_helpers").is_overridden(name, instance, parent=parent))
        except Exception:  # a callable without code, or a parent that lacks the name: then it is no inherited method
            return callable(getattr(instance, name, None))


def imported() -> Iterator[Package]:
    """Yield those that the program has imported."""
    for root in ROOTS:
        module = sys.modules.get(root)
        if module is not None and hasattr(module, "Trainer"):  # not while it is being imported
            yield Package(root)


def of_class(cls: type) -> Package | None:
    """Return the package whose `Trainer` a class is or derives from, None for any other class."""
    for package in imported():
        if issubclass(cls, package.part().Trainer):
            return package
    return None
