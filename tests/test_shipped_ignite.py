"""The rules over all that ignite ships: what is found is what docs/true-findings.md lists, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = [need("ignite"), pytest.mark.slow]

from ignite import handlers

from tests.shipped.ignite import ALONE, METRICS_NOT_BUILT, NOT_BUILT, built, metrics, uses
from tests.shipped.sweep import above_note, listed, notes, sweep

NOTES: set[tuple[str, str]] = set()
"""Notes on what is shipped: there, but not to be acted on."""


def test_only_true_findings(tmp_path: Path) -> None:
    """Of everything, alone and together, in every run, only what the document lists and explains is found."""
    found = sweep(uses(), tmp_path)
    seen = above_note(found)
    assert {name: seen[name] for name in seen.keys() - listed("ignite")} == {}
    assert listed("ignite") - seen.keys() == set()
    assert notes(found) <= NOTES


def test_nothing_is_left_out() -> None:
    """What ignite exports is checked, or has a reason why it is not."""
    assert set(handlers.__all__) == ALONE.keys() | NOT_BUILT.keys()
    assert {cls.__name__ for cls in metrics() if built(cls) is None} == METRICS_NOT_BUILT.keys()
