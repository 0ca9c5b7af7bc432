"""Where Lightning fires what: lines of the installed package, found in the syntax trees of its functions."""

from __future__ import annotations

import ast
import functools
import linecache
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loopscope.adapters.lightning.packages import Package
from loopscope.model import Place
from loopscope.source import Syntax, syntax

DISPATCH = "_call_"
"""How the names of the functions begin that call hooks."""


@dataclass(frozen=True, slots=True)
class Site:
    """A function of the package: `Site("loops.fit_loop", "_FitLoop.on_run_start")`."""

    module: str
    function: str

    def fires(self, package: Package, hook: str) -> Place | None:
        """Return the line that calls `hook`: it stands there as a text, or in a variable of a call that follows."""
        return _fires(package, self, hook)

    def calls(self, package: Package, name: str) -> Place | None:
        """Return the line of the first call of `name` in it, by its last part: `calls(package, "backward")`."""
        return _called(package, self, name)


def text(place: Place | None) -> str:
    """Return the source line at a place."""
    return "" if place is None else linecache.getline(place.file, place.line).strip()


@functools.lru_cache(maxsize=512)
def _fires(package: Package, site: Site, hook: str) -> Place | None:
    found = _syntax(package, site)
    if found is None:
        return None
    named = [node for node in ast.walk(found.node) if isinstance(node, ast.Constant) and _is_hook(node, hook)]
    if not named:
        return None
    line, calls = named[0].lineno, list(_calls(found.node, DISPATCH))
    inside = [call for call in calls if call.lineno <= line <= (call.end_lineno or 0)]
    after = [call for call in calls if call.lineno >= line]
    return Place(found.file, next((call.lineno for call in (*inside, *after)), line))


@functools.lru_cache(maxsize=512)
def _called(package: Package, site: Site, name: str) -> Place | None:
    found = _syntax(package, site)
    if found is None:
        return None
    return next((Place(found.file, call.lineno) for call in _calls(found.node, name, exact=True)), None)


@functools.lru_cache(maxsize=512)
def _syntax(package: Package, site: Site) -> Syntax | None:
    """Return the syntax tree of a site, None where this version has no such function."""
    try:
        found: Any = operator.attrgetter(site.function)(package.part(site.module))
    except (ImportError, AttributeError):
        return None
    if getattr(found, "__qualname__", site.function) != site.function:  # a decorator that does not say what it wraps
        cells = [cell.cell_contents for cell in found.__closure__ or ()]
        found = next((one for one in cells if getattr(one, "__qualname__", "") == site.function), found)
    return syntax(found)


def _calls(node: ast.AST, name: str, exact: bool = False) -> Iterator[ast.Call]:
    found = [one for one in ast.walk(node) if isinstance(one, ast.Call) and _is(_last(one.func), name, exact)]
    yield from sorted(found, key=lambda call: call.lineno)


def _is(name: str, wanted: str, exact: bool) -> bool:
    return name == wanted if exact else name.startswith(wanted)


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_hook(node: ast.Constant, hook: str) -> bool:
    return isinstance(node.value, str) and node.value.rpartition(".")[2] == hook
