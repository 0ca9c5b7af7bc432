"""Where the installed ignite does what: the line that fires each event, that draws a batch, that calls the step.

Found in the syntax trees of the engine's own methods, overrides included, so that it holds for this version.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from ignite.engine import Engine

from loopscope.model import Event, Need, Place, Step
from loopscope.source import syntax

GENERATORS = ("_internal_run_as_gen", "_run_once_on_dataset_as_gen")
LEGACY = ("_internal_run_legacy", "_run_once_on_dataset_legacy")
ASKING = ("_maybe_terminate_or_interrupt", "_maybe_terminate_legacy")
"""The methods that leave an epoch or the run where a handler asked for it."""

DRAWING = "next(self._dataloader_iter)"
CALLING = "self._process_function(self, self.state.batch)"
STARTING = "self._setup_dataloader_iter()"
SETTING_UP = "self._setup_engine()"


@dataclass(frozen=True, slots=True)
class Site:
    """A statement of ignite's: its line and its source."""

    place: Place
    text: str


class Lines:
    """The lines of one engine's class: `Lines.of(engine).event("STARTED").place`."""

    @classmethod
    def of(cls, engine: Engine) -> Lines:
        kind: Any = type(engine)
        return _lines(kind, not engine.interrupt_resume_enabled)

    def __init__(self, engine: type[Engine], legacy: bool) -> None:
        self.legacy = legacy
        self.methods = LEGACY if self.legacy else GENERATORS
        self.fired: dict[str, Site] = {}
        self.asked: dict[tuple[str, int], str] = {}
        self.sites: dict[str, Site] = {}
        for name in (*self.methods, *ASKING, "_handle_exception"):
            self._read(engine, name)

    def _read(self, cls: type, name: str) -> None:
        function = getattr(cls, name, None)
        found = syntax(function)
        if found is None:
            return
        last = ""
        for node in _in_order(found.node):
            site = Site(Place(found.file, node.lineno), ast.unparse(node).partition("\n")[0])
            for call in _calls(node):
                if (event := _fires(call)) is not None:
                    last = event
                    self.fired.setdefault(event, site)
                text = ast.unparse(call)
                if text.startswith(tuple(f"self.{one}(" for one in ASKING)):
                    self.asked[name, node.lineno] = last
                    self.sites.setdefault("asking", site)
                for known in (DRAWING, CALLING, STARTING, SETTING_UP):
                    if text == known:
                        self.sites.setdefault(known, site)

    def event(self, name: str, *needs: Need) -> Event:
        """Return an event with the line that fires it."""
        site = self.fired.get(name)
        return Event(name, None if site is None else site.place, needs)

    def step(self, name: str, what: str, *needs: Need) -> Step:
        """Return a step with its source line: `step("draw a batch", DRAWING)`."""
        site = self.sites.get(what)
        return Step(name, what if site is None else site.text, None if site is None else site.place, needs)

    def suspended(self, generator: GeneratorType[Any, Any, Any]) -> tuple[str, int] | None:
        """Return behind which event an interrupted run stands, and how many batches of its epoch it has counted."""
        counter, inner = 0, generator
        for name in self.methods:
            frame = inner.gi_frame
            if frame is None:
                return None
            counter = int(frame.f_locals.get("iter_counter", 0))
            event = self.asked.get((name, frame.f_lineno))
            if event is not None:
                return event, counter
            if not isinstance(inner.gi_yieldfrom, GeneratorType):
                return None
            inner = inner.gi_yieldfrom
        return None


@functools.lru_cache(maxsize=64)
def _lines(engine: Any, legacy: bool) -> Lines:
    return Lines(engine, legacy)


def _in_order(function: ast.AST) -> Iterator[ast.stmt]:
    """Yield the simple statements of a function in the order in which they stand."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.stmt) and not any(isinstance(one, ast.stmt) for one in ast.iter_child_nodes(node)):
            yield node
        elif isinstance(node, (ast.stmt, ast.ExceptHandler)):
            yield from _in_order(node)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (one for one in ast.walk(node) if isinstance(one, ast.Call))


def _fires(call: ast.Call) -> str | None:
    """Return the event that `self._fire_event(Events.X)` fires."""
    if ast.unparse(call.func) not in ("self._fire_event", "self.fire_event") or not call.args:
        return None
    event = call.args[0]
    return event.attr if isinstance(event, ast.Attribute) else None
