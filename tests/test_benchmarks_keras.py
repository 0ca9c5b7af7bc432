"""The benchmark of recording Keras runs; how fast anything is, is no test."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = [need("keras"), pytest.mark.slow]

ROOT = Path(__file__).parent.parent / "benchmarks"


def test_all_of_it_in_little(monkeypatch):
    """A quick run has a row with its target for each way in which handlers are called, and for one handler call."""
    monkeypatch.syspath_prepend(str(ROOT))
    import recording_keras

    monkeypatch.setattr(recording_keras, "PEERS", {})
    figures, raw = recording_keras.measure(argparse.Namespace(quick=True, rounds=None))
    aimed = [figure.what for figure in figures if figure.target is not None]
    assert aimed == [
        "Keras, handlers in the pool: recorded / unrecorded",
        "Keras, handlers in the main thread: recorded / unrecorded",
        "   added by recording",
    ]
    assert all(figure.value > 0 for figure in figures)
    assert set(raw) == {"batches", "ratios", "batch_ns", "calls_ns"}
