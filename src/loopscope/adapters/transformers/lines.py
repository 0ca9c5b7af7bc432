"""Where in the installed source of Transformers a line of the loop stands, found in its syntax tree."""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers.trainer import Trainer

from loopscope.model import Place
from loopscope.source import syntax, unwrap

SHAPE = {
    "train": (),
    "_inner_training_loop": ("on_train_begin", "on_epoch_begin"),
    "_run_epoch": (
        *("on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end", "on_substep_end"),
        "on_epoch_end",
    ),
    "_maybe_log_save_evaluate": ("on_save",),
    "_finalize_training": ("on_train_end",),
    "log": ("on_log",),
    "evaluate": ("on_evaluate",),
    "evaluation_loop": ("on_prediction_step",),
    "predict": ("on_predict",),
    "_evaluate": (),
    "_save_checkpoint": (),
    "_push_from_checkpoint": ("on_push_begin",),
}
"""Method of the trainer -> the events that its source names, in order: the loop that this adapter knows."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of source: its text, and where it stands (None where it is not there)."""

    text: str
    place: Place | None


def line(method: str, source: str) -> Line:
    """Return the first line of a method on which `source` is called: `line("log", "self.callback_handler.on_log")`.

    Where there is none, the line has `source` as its text, and no place.
    """
    return _line(unwrap(vars(Trainer).get(method)), source)


@functools.cache
def _line(function: Any, source: str) -> Line:
    found = syntax(function)
    if found is None:
        return Line(f"{source}(...)", None)
    for node in ast.walk(found.node):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == source:
            return Line(linecache.getline(found.file, node.lineno).strip(), Place(found.file, node.lineno))
    return Line(f"{source}(...)", None)


def changed() -> list[str]:
    """Return the methods of the loop whose source does not fire the events that this adapter knows of them."""
    return [method for method, events in SHAPE.items() if tuple(_fired(vars(Trainer).get(method))) != events]


def _fired(function: Any) -> Iterator[str]:
    found = syntax(function)
    calls = [] if found is None else [node for node in ast.walk(found.node) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = ast.unparse(call.func)
        if name.startswith("self.callback_handler.on_"):
            yield name.rpartition(".")[2]
