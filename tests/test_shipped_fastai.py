"""The rules over all that fastai ships: what is found is what docs/true-findings.md lists, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = [need("fastai"), pytest.mark.slow]

from tests.fastai_all import callbacks
from tests.shipped.fastai import NOT_ADDED, uses
from tests.shipped.sweep import above_note, listed, notes, sweep

NOTES = {
    ("EarlyStoppingCallback", "validate-after-early-stop"),
    ("ParamScheduler", "shared-name"),
    ("ReduceLROnPlateau", "validate-after-early-stop"),
    ("SaveModelCallback", "validate-after-early-stop"),
    ("TrackerCallback", "validate-after-early-stop"),
}
"""Notes on fastai's own callbacks: there, but not to be acted on."""


def test_only_true_findings(tmp_path: Path) -> None:
    """Of every callback, alone and together, in every run, only what the document lists and explains is found."""
    found = sweep(uses(), tmp_path)
    seen = above_note(found)
    assert {name: seen[name] for name in seen.keys() - listed("fastai")} == {}
    assert listed("fastai") - seen.keys() == set()
    assert notes(found) <= NOTES


def test_nothing_is_left_out() -> None:
    """Every callback of fastai is checked by itself, but for those that have a reason."""
    names = {cls.__name__ for cls in callbacks()}
    alone = {use.name.partition(",")[0] for use in uses()}
    assert names - alone == NOT_ADDED.keys()
