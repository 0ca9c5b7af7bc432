"""The rules over all that Transformers ships: what is found is what docs/true-findings.md lists, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = [need("transformers"), pytest.mark.slow]

from transformers import integrations, trainer_callback

from tests.shipped.sweep import above_note, listed, notes, sweep
from tests.shipped.transformers import ALONE, MISSING, NOT_ADDED, uses

NOTES: set[tuple[str, str]] = set()
"""Notes on what is shipped: there, but not to be acted on."""


def test_only_true_findings(tmp_path: Path) -> None:
    """Of everything, alone and together, in every run, only what the document lists and explains is found."""
    found = sweep(uses(), tmp_path)
    seen = above_note(found)
    assert {name: seen[name] for name in seen.keys() - listed("transformers")} == {}
    assert listed("transformers") - seen.keys() == set()
    assert notes(found) <= NOTES


def test_nothing_is_left_out() -> None:
    """What Transformers exports is checked, or has a reason why it is not."""
    base = trainer_callback.TrainerCallback
    core = {name for name, one in vars(trainer_callback).items() if isinstance(one, type) and issubclass(one, base)}
    others = {name for name in integrations._class_to_module if name.endswith("Callback")}
    assert core | others == {*ALONE, *MISSING, *NOT_ADDED}
