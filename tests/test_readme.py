"""The README tells the truth: its output is what the command prints, its files and commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_output_in_the_readme_is_what_the_command_prints():
    """The block below `part of the output of` stands in that command's output, line for line."""
    command, block = re.search(r"<!-- part of the output of: (.+?) -->\n```text\n(.*?)```", README, re.DOTALL).groups()
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert block.count("\n") > 20
    assert block in done.stdout


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_what_the_readme_links_to_is_there(link):
    """Every relative link leads to a file of the repository."""
    assert link.startswith("http") or (ROOT / link).exists()


def test_the_python_in_the_readme_runs(tmp_path):
    """The Python blocks run as they stand, on a learner and a callback of those names."""
    head = (
        "from fastai.callback.all import *\nfrom fastai.test_utils import synth_learner\n"
        "learn = synth_learner()\nclass MyCallback(Callback):\n    def after_fit(self): pass\n"
    )
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = head + "\n".join(blocks)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (len(blocks), done.returncode) == (3, 0), done.stderr[-2000:]
    assert "exactly equal" in done.stdout
    assert "Start Fit" in done.stdout
