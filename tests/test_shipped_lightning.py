"""The rules over all that Lightning ships: what is found is what docs/true-findings.md lists, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = [need("lightning"), pytest.mark.slow]

from lightning.pytorch import callbacks as shipped

from tests.shipped.lightning import ABSTRACT, ALONE, uses
from tests.shipped.sweep import above_note, listed, notes, sweep

NOTES: set[tuple[str, str]] = set()
"""Notes on what is shipped: there, but not to be acted on."""


def test_only_true_findings(tmp_path: Path) -> None:
    """Of everything, alone and together, in every run, only what the document lists and explains is found."""
    found = sweep(uses(), tmp_path)
    seen = above_note(found)
    assert {name: seen[name] for name in seen.keys() - listed("lightning")} == {}
    assert listed("lightning") - seen.keys() == set()
    assert notes(found) <= NOTES


def test_nothing_is_left_out() -> None:
    """What Lightning exports is checked, or has a reason why it is not."""
    assert set(shipped.__all__) == ALONE.keys() | ABSTRACT.keys()
