"""Something in a module or a file, by name: `--cbs package.module:Name`, `--cbs some/file.py:Name`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from loopscope.errors import LoopscopeError


@dataclass(frozen=True, slots=True)
class Spec:
    """Something in a module or a file, by name: `Spec.parse("package.module:Name")`, `Spec.parse("some/file.py:Name")`.

    Parsing checks the form only, and that a file is there; `load` imports it. `__main__:Name` is the program's own.
    """

    text: str
    source: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Spec:
        source, _, name = text.rpartition(":")
        named = all(part.isidentifier() for part in name.split("."))
        if not source or not named or not (_is_file(source) or all(p.isidentifier() for p in source.split("."))):
            raise LoopscopeError(
                f"{text!r} names no callback. Accepted: module:Name or path/to/file.py:Name, "
                f"for example --cbs fastai.callback.training:GradientClip."
            )
        if not _is_file(source):
            return cls(text, source, name)
        if not os.path.isfile(source):
            raise LoopscopeError(f"there is no file {source} (from --cbs {text}).")
        return cls(text, os.path.abspath(source), name)

    def load(self) -> Any:
        """Return the object; raises `LoopscopeError` that says what is missing and what there is instead."""
        try:
            module = _loaded_from(Path(self.source)) if _is_file(self.source) else _import(self.source)
        except ModuleNotFoundError as error:
            raise LoopscopeError(self._no_module(error)) from error
        except LoopscopeError as error:
            raise LoopscopeError(f"--cbs {self.text}: {error}") from error
        except (Exception, SystemExit) as error:
            raise LoopscopeError(f"--cbs {self.text}: importing {self.source} raised {_brief(error)}.") from error
        found: Any = module
        for part in self.name.split("."):
            if not hasattr(found, part):
                raise LoopscopeError(self._no_name(found, part))
            found = getattr(found, part)
        return found

    def _no_module(self, error: ModuleNotFoundError) -> str:
        if error.name is None or not f"{self.source}.".startswith(f"{error.name}."):
            return f"--cbs {self.text}: importing {self.source} raised {_brief(error)}."
        file = self.source.replace(".", os.sep) + ".py"
        hint = f" There is a file: type --cbs {file}:{self.name}." if os.path.isfile(file) else ""
        return (
            f"--cbs {self.text}: there is no module {error.name!r} where the script imports from "
            f"(first {sys.path[0]}).{hint} For a class of the script itself type --cbs __main__:{self.name}."
        )

    def _no_name(self, found: Any, part: str) -> str:
        source = self.text.rpartition(":")[0]
        near = get_close_matches(part, dir(found), n=3)
        whole = [".".join([*self.name.split(".")[:-1], one]) for one in near]
        hint = f" Did you mean {' or '.join(f'{source}:{one}' for one in whole)}?" if near else ""
        return f"--cbs {self.text}: {source} has no {part!r}.{hint}"


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or os.sep in source


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _import(name: str) -> types.ModuleType:
    """Import `name`; where that is the very program that runs, return what runs instead of running it twice."""
    main = sys.modules["__main__"]
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None and _same_file(spec.origin, main):
        return main
    return importlib.import_module(name)


def _same_file(path: str | None, module: types.ModuleType) -> bool:
    known = getattr(module, "__dict__", {}).get("__file__")  # not getattr: some modules import more when asked
    if path is None or not isinstance(known, str) or os.path.basename(known) != os.path.basename(path):
        return False
    return os.path.realpath(known) == os.path.realpath(path)


def _loaded_from(file: Path) -> types.ModuleType:
    for module in list(sys.modules.values()):
        if _same_file(str(file), module):
            return module
    name = file.stem if file.stem not in sys.modules else f"{file.stem}_of_{abs(hash(file))}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None  # a path that ends in .py always has one
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
