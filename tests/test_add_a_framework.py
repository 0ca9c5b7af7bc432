"""docs/add-a-framework.md is true: its code is taken out of the page, installed as a package, and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loopscope.adapters import Adapter

PAGE = Path(__file__).parent.parent / "docs" / "add-a-framework.md"
TRAIN = """
import tinyloop

class Counts(tinyloop.Hook):
    def batch_end(self, loop):
        "Count the batches"
        self.batches = getattr(self, "batches", 0) + 1

class Tells(Counts):
    def stop(self, loop):
        print("batches:", self.batches)

loop = tinyloop.Loop(sum, [Counts(), Tells()])
loop.run([[1, 2], [3]], epochs=3)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder on the path with the framework, its adapter, and the entry points of the page."""
    folder = tmp_path_factory.mktemp("installed")
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n# (\S+\.py.*?)\n(.*?)^```", text, re.M | re.S):
        with open(folder / block[0].partition(",")[0], "a", encoding="utf-8") as file:
            file.write(block[1])
    points = re.search(r"^```toml\n(.*?)^```", text, re.M | re.S)
    assert points is not None
    info = folder / "tinyloop_loopscope-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyloop-loopscope\nVersion: 1.0\n")
    entries = re.sub(r'\[project\.entry-points\."(.+?)"\]', r"[\1]", points[1]).replace('"', "")
    (info / "entry_points.txt").write_text(entries)
    (folder / "train.py").write_text(TRAIN)
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "loopscope", *arguments)


def test_show(installed):
    """The map of an unchanged script, with handlers, what they do, and how often."""
    done = run(installed, "show", "-f", "text", "-v", "train.py")
    assert done.returncode == 0, done.stderr
    for words in ("loop.run(data, epochs=3)", "epoch x 3", "batch x 2", "batch_end", "Count the batches", "Tells"):
        assert words in done.stdout
    assert "batches:" not in done.stdout


def test_run(installed):
    """The recording: everything has a place, and the rows add up."""
    done = run(installed, "run", "-o", "run.loop", "train.py")
    assert (done.returncode, done.stdout) == (0, "batches: 6\n"), done.stderr
    assert "11 events and 13 handler calls placed, 0 unexpected" in done.stderr
    report = run(installed, "report", "run.loop")
    assert "exactly equal" in report.stdout
    assert re.search(r"Counts\.batch_end\s.*6", report.stdout)
    assert "epoch_start → batch_end" in report.stdout
    assert "between events" in report.stdout


def test_own(installed):
    """One's own callback stands behind the others, marked; what is none is refused, with what is accepted."""
    (installed / "mine.py").write_text(
        "import tinyloop\n\nclass Mine(tinyloop.Hook):\n    def stop(self, loop): ...\n\n"
        "class Needs(Mine):\n    def __init__(self, what): ...\n"
    )
    done = run(installed, "show", "-v", "--cbs", "mine.py:Mine", "train.py")
    assert done.returncode == 0, done.stderr
    assert re.search("★ .*Mine", done.stdout), done.stdout
    assert "number 3: where loop.hooks.append puts it" in done.stdout
    assert "★" not in run(installed, "show", "-v", "train.py").stdout
    refused = run(installed, "show", "--cbs", "mine.py:tinyloop", "train.py")
    assert refused.returncode == 2
    assert "is no hook. Accepted: a tinyloop.Hook, a class of one, or a list of either." in refused.stderr
    assert "Pass an instance." in run(installed, "show", "--cbs", "mine.py:Needs", "train.py").stderr


def test_proof(installed):
    """The witness of the page sees what the map says, and the proof refuses what is not so."""
    done = python(installed, "prove.py")
    assert done.returncode == 0, done.stderr


def test_event_docs(installed):
    """The events of another package's framework are known to the function, not to `loopscope events`."""
    done = python(installed, "-c", "from loopscope import api; print(*api.event_docs('tinyloop'))")
    assert done.stdout == "start epoch_start batch_end stop\n", done.stderr
    assert run(installed, "events", "tinyloop").returncode == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "run needs data, to know how many batches there are. Type inspect(loop, data=batches).\n"),
        (
            ", data=[], start_epoch=1",
            "run always begins with epoch 0 (got start_epoch=1). Leave start_epoch out.\n",
        ),
    ],
)
def test_bad_input(installed, given, message):
    """The errors that the page's adapter raises are those of the command's users."""
    (installed / "odd.py").write_text(
        f"import tinyloop, loopscope\ntry:\n    loopscope.inspect(tinyloop.Loop(sum){given})\n"
        "except loopscope.LoopscopeError as error:\n    print(error)\n"
    )
    done = python(installed, "odd.py")
    assert (done.returncode, done.stdout) == (0, message), done.stderr


def test_names():
    """The table lists every name of the protocol."""
    table = set(re.findall(r"^\| `(\w+)[(`]", PAGE.read_text(encoding="utf-8"), re.M))
    names = {name for name in vars(Adapter) if not name.startswith("_")} | {"RUNS", "DISPATCHING", "dispatched"}
    assert names <= table
    assert {name for name in Adapter.__annotations__ if not name.startswith("_")} <= table
