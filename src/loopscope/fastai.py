"""What fastai users import: `from loopscope.fastai import *` adds four methods to `Learner`, and names.

`learn.show_training_loop(verbose=True)` prints fastai's own list of its loop with what each callback does, as an
article of the fastai community introduced it; `learn.training_loop("fit_one_cycle", epochs=2)` is the true map.
Constraint: the learner is never touched, so nothing is added to it and removed again.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from types import ModuleType
from typing import Any

from fastai.learner import Learner
from fastcore.xtras import dict2obj

from loopscope import api
from loopscope.errors import UnknownChoice

__all__ = [
    "check_training_loop",
    "event2doc",
    "record_training_loop",
    "show_training_loop",
    "state_versions",
    "training_loop",
]

event2doc: Any = dict2obj(api.event_docs("fastai"))
"""A description of every event of the installed fastai, by attribute: `event2doc.before_batch`."""


def show_training_loop(self: Learner, verbose: bool = False, cbs: object = None) -> None:
    """Print fastai's own list of its loop with this learner's callbacks: `learn.show_training_loop(verbose=True)`.

    `verbose` adds what each callback says of itself at each event. `cbs` (a callback, a callback class, or a list
    of either) are listed as if they had been added; the learner is not changed. For what really runs, in true
    order, see `learn.training_loop()`.
    """
    sys.stdout.write(api.inspect(self, cbs=cbs).render("article", verbose=verbose))


def training_loop(
    self: Learner, run: str = "fit", *, epochs: int | None = None, start_epoch: int = 0, cbs: object = None
) -> api.LoopMap:
    """Return the loop that this learner would run: `learn.training_loop("fine_tune", epochs=3)`.

    The same as `loopscope.inspect(learn, ...)`; in a notebook the result shows itself.
    """
    return api.inspect(self, run, epochs=epochs, start_epoch=start_epoch, cbs=cbs)


def record_training_loop(
    self: Learner, path: str | os.PathLike[str], *, force: bool = False, limit: int = api.LIMIT
) -> api.LoopRecording:
    """Record what this learner really runs: `with learn.record_training_loop("run.loop") as rec: learn.fit(2)`.

    The same as `loopscope.record(learn, ...)`; afterwards `print(rec)`, or `loopscope report run.loop`.
    """
    return api.record(self, path, force=force, limit=limit)


def check_training_loop(
    self: Learner, run: str = "fit", *, cbs: object = None, select: api.Choice = (), ignore: api.Choice = ()
) -> api.Checked:
    """Return what is wrong with this learner's loop: `learn.check_training_loop()`, or of another run, `"fine_tune"`.

    The same as `loopscope.check(learn, ...)`; in a notebook the result shows itself.
    """
    return api.check(self, run, cbs=cbs, select=select, ignore=ignore)


Learner.check_training_loop = check_training_loop
Learner.record_training_loop = record_training_loop
Learner.show_training_loop = show_training_loop
Learner.training_loop = training_loop


class Markdown(str):
    """Text that a notebook renders."""

    def _repr_markdown_(self) -> str:
        return str(self)


def state_versions(*libs: str | ModuleType) -> Markdown:
    """Return the header that says with which versions a notebook ran: `state_versions("fastai", "torch")`.

    `libs` are distribution names or imported modules; without any: fastai, fastcore, torch and loopscope. Lists
    are taken apart. Raises `UnknownChoice` for one that is not installed.
    """
    names = [name for lib in libs or ("fastai", "fastcore", "torch", "loopscope") for name in _names(lib)]
    lines = [f"* `{name}`: {_version(name)}" for name in names]
    head = f"This page was run from top to bottom with Python {platform.python_version()} and these versions:"
    return Markdown("\n".join(["---", head, "", *lines, "", "---"]))


def _names(lib: object) -> list[str]:
    if isinstance(lib, (list, tuple)):
        return [name for one in lib for name in _names(one)]
    return [lib.__name__ if isinstance(lib, ModuleType) else str(lib)]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = getattr(sys.modules.get(name), "__version__", None)  # run from a checkout that is not installed
        if isinstance(version, str):
            return version
        installed = sorted({str(dist.name) for dist in importlib.metadata.distributions()})
        raise UnknownChoice(
            f"no installed package is called {name!r}. Type the name that pip knows.{_near(name, installed)}"
        ) from None


def _near(name: str, installed: list[str]) -> str:
    near = [one for one in installed if one.lower().startswith(name[:3].lower())]
    return f" Installed and alike: {', '.join(near[:5])}." if near else ""
