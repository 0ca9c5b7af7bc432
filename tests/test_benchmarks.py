"""The benchmarks of recording run and write what they say; how fast anything is, is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

ROOT = Path(__file__).parent.parent / "benchmarks"
PARTS = ("fit", "dispatch", "files", "kills")
ROW = {"what", "value", "unit", "target", "low", "high", "least", "verdict"}


@pytest.mark.slow
def test_all_of_it_in_little(tmp_path: Path) -> None:
    """`recording.py --quick` runs every part and joins their rows; of the kills even the figures hold."""
    command = [sys.executable, ROOT / "recording.py", "--quick", "--out", tmp_path]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    parts = {name: json.loads((tmp_path / f"recording-{name}.json").read_text()) for name in PARTS}
    whole = json.loads((tmp_path / "recording.json").read_text())
    assert whole["rows"] == [row for part in parts.values() for row in part["rows"]]
    assert all(set(row) == ROW and isinstance(row["value"], (int, float)) for row in whole["rows"])
    assert all({"python", "processor", "cpus", "fastai"} <= set(part["machine"]) for part in parts.values())
    assert all(part["raw"]["quick"] and len(part["raw"]) > 1 for part in parts.values())
    aimed = {name: sum(row["target"] is not None for row in part["rows"]) for name, part in parts.items()}
    assert aimed == {"fit": 4, "dispatch": 3, "files": 13, "kills": 5}
    assert [row["verdict"] for row in parts["kills"]["rows"] if row["target"] is not None] == ["met"] * 5


def test_the_page_has_the_figures_of_the_results() -> None:
    """The table of docs/overhead.md is what benchmarks/results/recording.json holds: it is made, never typed."""
    command = [sys.executable, ROOT / "recording.py", "--table"]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8").stdout
    assert made in (ROOT.parent / "docs/overhead.md").read_text(encoding="utf-8")


def test_a_missed_target_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure above its target says so, one that has to be large is judged the other way, an interval is shown."""
    monkeypatch.syspath_prepend(str(ROOT))
    from measure import Figure, bootstrap, table

    table("t", [Figure("a", 2.0, "ms", 1.0), Figure("b", 2.0, "", 1.0, least=True), Figure("c", 1.5, "×", 2, 1.2, 1.8)])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[3:]] == ["MISSED", "met", "met"]
    assert bootstrap([1.0, 2.0, 3.0, 4.0, 100.0])[0] == 3.0
    assert bootstrap([5.0] * 9) == (5.0, 5.0, 5.0)
