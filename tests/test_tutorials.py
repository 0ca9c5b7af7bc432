"""The tutorials run from top to bottom and give the outputs that they hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.frameworks import need

pytestmark = need("fastai")

import nbformat

ROOT = Path(__file__).resolve().parent.parent


def test_the_tutorials_give_the_outputs_that_they_hold():
    """Every notebook is executed anew; what it prints and shows is what is committed."""
    command = [sys.executable, ROOT / "tools" / "tutorials.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_tutorials_hold_outputs():
    """A notebook without outputs would compare equal to nothing: each code cell that prints holds something."""
    for path in (ROOT / "docs" / "tutorials").glob("*.ipynb"):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        printing = [cell for cell in cells if "print(" in cell.source or cell.source.strip().endswith("loop")]
        assert len(printing) >= 5
        assert all(cell.outputs for cell in printing)
