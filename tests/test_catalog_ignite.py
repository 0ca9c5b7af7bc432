"""The catalogue has exactly the events of the installed ignite, those that its own helpers register included."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.frameworks import need

pytestmark = need("ignite")

import ignite
import torch
from ignite.contrib.engines import Tbptt_Events
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from ignite.handlers.checkpoint import CheckpointEvents

from loopscope.catalog.ignite import EVENTS, MOMENTS

KNOWN = (Events, CheckpointEvents, Tbptt_Events)


def test_every_event_of_the_installed_ignite_is_there():
    """The events are ignite's own, and those of its helpers: one that a new version adds or drops is noticed."""
    assert sorted(EVENTS) == sorted(one.name for events in KNOWN for one in events)


def test_ignite_has_no_other_events():
    """No other class of events is defined anywhere in ignite."""
    files = Path(str(ignite.__file__)).parent.rglob("*.py")
    classes = (node for file in files for node in ast.walk(ast.parse(file.read_text())) if type(node) is ast.ClassDef)
    found = {one.name for one in classes if {"EventEnum", "CallableEventWithFilter"} & {base(b) for b in one.bases}}
    assert found == {"EventEnum", *(events.__name__ for events in KNOWN)}


def base(node: ast.expr) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def test_saved_checkpoint_comes_when_the_file_is_there(tmp_path):
    """SAVED_CHECKPOINT fires inside of the handler that saves, when the file has just been written."""
    files: list[list[str]] = []
    engine = Engine(lambda engine, batch: None)
    state = {"model": torch.nn.Linear(1, 1)}
    engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(state, DiskSaver(str(tmp_path)), n_saved=None))
    engine.register_events(*CheckpointEvents)
    engine.add_event_handler(
        CheckpointEvents.SAVED_CHECKPOINT, lambda engine: files.append([one.suffix for one in tmp_path.iterdir()])
    )
    engine.run([1], max_epochs=2)
    assert files == [[".pt"], [".pt", ".pt"]]
    assert MOMENTS["checkpoint saved"] == ("SAVED_CHECKPOINT",)
