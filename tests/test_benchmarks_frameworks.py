"""The benchmarks of the other frameworks run and write what they say; how fast anything is, is no test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = [need(name) for name in ("lightning", "transformers", "keras", "ignite")]

ROOT = Path(__file__).parent.parent / "benchmarks"
PARTS = ("lightning", "transformers", "keras", "ignite")


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_each_in_little(name: str, tmp_path: Path) -> None:
    """`recording_<framework>.py --quick` measures a ratio with its interval and the cost of a call, with targets."""
    command = [sys.executable, ROOT / f"recording_{name}.py", "--quick", "--out", tmp_path]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / f"recording-{name}.json").read_text())["rows"]
    aimed = [row for row in rows if row["target"] is not None]
    assert {row["unit"] for row in aimed} >= {"×", "µs"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in aimed if row["unit"] == "×")


def test_the_page_has_the_figures_of_the_results() -> None:
    """The second table of docs/overhead.md is what benchmarks/results/frameworks.json holds: made, never typed."""
    command = [sys.executable, ROOT / "frameworks.py", "--table"]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8").stdout
    assert made in (ROOT.parent / "docs/overhead.md").read_text(encoding="utf-8")
