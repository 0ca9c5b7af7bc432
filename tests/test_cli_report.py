"""`loopscope report`: every format of every state of a recording, and words instead of tracebacks."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import loopscope
from loopscope.report import Report
from tests.test_cli import ENVIRONMENT, command
from tests.test_cli_run import TRAIN, Started, zygotes
from tests.test_recordings import FILES, check

zygote = pytest.fixture(scope="module")(zygotes)
FASTAI = pytest.mark.framework("fastai")


@pytest.fixture
def start(zygote: subprocess.Popen[str], tmp_path: Path) -> Started:
    return Started(zygote, tmp_path)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name, path in FILES.items():
        (tmp_path / f"{name}.loop").write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("format", ["text", "csv", "markdown", "json"])
def test_every_format_on_stdout(format: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """stdout gets what `render` gives, and stderr nothing."""
    status, out, err = command("report", "--format", format, "--depth", "3", "--sort", "total", "raised.loop", cwd=here)
    assert (status, err) == (0, "")
    monkeypatch.chdir(here)
    expected = loopscope.load("raised.loop").render(format, depth=3, sort="total")
    assert "".join(f"{line.rstrip()}\n" for line in out.splitlines()) == expected


def test_the_numbers_are_the_same_in_every_format(here: Path) -> None:
    """The rows of the JSON's tree and of the CSV are the same, and sum to the wall time."""
    found = json.loads(command("report", "-f", "json", "closed.loop", cwd=here)[1])
    rows = list(csv.DictReader(io.StringIO(command("report", "-f", "csv", "closed.loop", cwd=here)[1])))

    def walk(line: dict) -> list[dict]:  # type: ignore[type-arg]
        return [line, *(one for child in line.get("children", []) for one in walk(child))]

    report = found["report"]
    lines = walk(report["tracks"][0]["root"])
    assert [line["own"] for line in lines] == [int(row["own_ns"]) for row in rows]
    assert [line["stats"]["total"] for line in lines] == [int(row["total_ns"]) for row in rows]
    assert sum(line["own"] for line in lines) == report["wall"]


def test_files(here: Path) -> None:
    """-o writes by its suffix; what is there is kept unless --force; a trace opens as JSON."""
    for name in "a.txt", "a.csv", "a.md", "a.json":
        assert command("report", "-o", name, "closed.loop", cwd=here) == (0, "", "")
        assert (here / name).stat().st_size > 500
    status, out, err = command("report", "-o", "a.csv", "closed.loop", cwd=here)
    assert (status, out) == (2, "")
    assert err == "Error: a.csv exists already. Add --force (force=True) to overwrite it, or give another file.\n"
    assert command("report", "-o", "a.csv", "--force", "-f", "trace", "closed.loop", cwd=here) == (0, "", "")
    assert json.loads((here / "a.csv").read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["raised.loop", "--format", "trace"], "Error: a trace goes into a file. Add -o trace.json.\n"),
        (["raised.loop", "--format", "xml"], "'xml' is not one of 'text', 'json', 'csv', 'markdown', 'trace'.\n"),
        (["raised.loop", "--sort", "size"], "'size' is not one of 'tree', 'total', 'own', 'mean', 'max', 'count'.\n"),
        (["raised.loop", "--depth", "-1"], "-1 is not in the range x>=0.\n"),
        (["raised.loop", "--depth", "x"], "'x' is not a valid integer range.\n"),
        (["raised.loop", "--top", "-1"], "-1 is not in the range x>=0.\n"),
        (["raised.loop", "-o", "a.xml"], "Error: the name a.xml does not tell the format. Known: .txt (text), "),
        (["raised.loop", "-o", "nope/a.md"], "Error: there is no folder nope. Make it first: mkdir -p nope\n"),
        (["raised.loop", "-o", "folder"], "Error: folder is a folder. Give a file, for example folder/report.md.\n"),
        (["raised.loop", "-o", "raised.loop", "--force", "-f", "csv"], "Error: raised.loop is the recording itself. "),
        (["rasied.loop"], "Error: there is no file rasied.loop. Did you mean 'raised.loop'? Give a recording, as "),
        (["nope/raised.loop"], "Error: there is no file nope/raised.loop. There is no folder nope either. Give a rec"),
        (["folder"], "Error: folder is a folder. Give a recording in it, for example folder/run.loop.\n"),
        (["link"], "Error: link is a folder. Give a recording in it, for example link/run.loop.\n"),
        (["broken"], "Error: there is no file broken. It is a link to nowhere, which is not there. Give a recording"),
        (["empty.loop"], "Error: empty.loop is empty. Give a recording, as `loopscope run` makes it.\n"),
        (["foreign.loop"], "Error: foreign.loop is no recording of loopscope (it looks like JSON). Give a recording"),
        ([], "Error: Missing argument 'FILE'.\n"),
        (["raised.loop", "closed.loop"], "Error: Got unexpected extra argument (closed.loop)\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused(arguments: list[str], message: str, here: Path) -> None:
    """The error names what was given, what is accepted and what to type next; nothing is written; status 2."""
    (here / "folder").mkdir()
    (here / "link").symlink_to("folder")
    (here / "broken").symlink_to("nowhere")
    (here / "empty.loop").touch()
    (here / "foreign.loop").write_text('{"not": "a recording"}')
    before = sorted(here.iterdir())
    status, out, err = command("report", *arguments, cwd=here)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(here.iterdir()) == before
    assert (here / "raised.loop").read_bytes() == FILES["raised"].read_bytes()


@pytest.mark.parametrize("cut", [33, 2000, 4000])
def test_a_file_that_was_cut(cut: int, here: Path) -> None:
    """What is left of it is shown, with what is missing, and adds up."""
    (here / "cut.loop").write_bytes(FILES["raised"].read_bytes()[:cut])
    status, out, err = command("report", "cut.loop", cwd=here)
    assert (status, err) == (0, "")
    assert "\nlacks " in out
    assert ", exactly equal\n" in out


def test_the_end_of_a_pipe(here: Path) -> None:
    """Nobody reads on (`| head`): no traceback."""
    for format in "text", "csv", "json":
        shown = subprocess.run(
            f"{sys.executable} -m loopscope report -f {format} closed.loop | head -c 1",
            shell=True, capture_output=True, text=True, check=False, cwd=here, env=ENVIRONMENT,
        )  # fmt: skip
        assert (len(shown.stdout), shown.stderr) == (1, "")
        closed = subprocess.run(
            f"{sys.executable} -m loopscope report -f {format} closed.loop >&-",
            shell=True, capture_output=True, text=True, check=False, cwd=here, env=ENVIRONMENT,
        )  # fmt: skip
        assert "Traceback" not in closed.stderr


def test_what_a_terminal_lacks(here: Path) -> None:
    """In a terminal that has only ASCII, and in one of 40 columns, the report is still shown."""
    for more in {"PYTHONIOENCODING": "ascii"}, {"COLUMNS": "40"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}:
        shown = subprocess.run(
            [sys.executable, "-m", "loopscope", "report", "raised.loop"],
            capture_output=True, check=False, cwd=here, env={**ENVIRONMENT, **more},
        )  # fmt: skip
        assert (shown.returncode, shown.stderr) == (0, b"")
        assert b"exactly" in shown.stdout


# -- while it runs -----------------------------------------------------------------------------------------------------


def watched(look: Callable[[], Report], times: int, apart: float) -> list[Report]:
    """Look several times; each report is whole and adds up, and never shows less than the one before."""
    seen: list[Report] = []
    for _ in range(times):
        report = look()
        check(report)
        assert (report.unexpected_count, report.losses) == (0, ()), report.unexpected
        if seen:
            last = seen[-1]
            assert (report.events, report.calls, report.spans) >= (last.events, last.calls, last.spans)
            assert report.wall >= last.wall
            assert report.endings[0].wall >= last.endings[0].wall
        seen.append(report)
        time.sleep(apart)
    return seen


@FASTAI
def test_while_it_trains_and_after_it_was_killed(start: Started) -> None:
    """Read at any moment: counts only grow, nothing is unexpected, the sum is exact; and the same after kill -9."""
    running = start("run", "-o", "run.loop", TRAIN, "slowly")
    running.until("slow")
    end = time.monotonic() + 20
    while not start.report().endings:
        assert time.monotonic() < end
    seen = watched(start.report, 40, 0.02)
    assert {one.state for one in seen} == {"running"}
    assert {ending.how for one in seen for ending in one.endings} == {"running"}
    assert seen[-1].events > seen[0].events
    status, out, err = command("report", "run.loop", cwd=start.folder)
    assert (status, err) == (0, "")
    assert out.startswith("running now: ")
    assert " 0 unexpected\n" in out
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait()[0] == -signal.SIGKILL
    (last,) = watched(start.report, 1, 0)
    assert last.state == "killed"
    assert [ending.how for ending in last.endings] == ["killed"]
    assert last.events >= seen[-1].events
    status, out, err = command("report", "run.loop", cwd=start.folder)
    assert out.startswith("killed: ")
    assert (status, err, " 0 unexpected\n" in out) == (0, "", True)


@FASTAI
def test_it_hangs_where(start: Started) -> None:
    """Of a callback that hangs, the first line says which, since when, in which epoch and batch; within a second."""
    running = start("run", "-o", "run.loop", TRAIN, "hang")
    running.until("hangs")
    time.sleep(0.3)
    before = time.monotonic()
    found = start("report", "run.loop")
    status, out, err = found.wait()
    took = time.monotonic() - before
    assert (status, err) == (0, "")
    first = out.splitlines()[0]
    assert first.startswith("running now: Trouble.after_batch, open for ")
    assert first.endswith(" (epoch 1, batch 3 of learn.fit(2))")
    assert took < 5  # a loaded machine; about half a second is what it takes
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    status, out, _ = command("report", "run.loop", cwd=start.folder)
    first = out.splitlines()[0]
    assert first == "killed: Trouble.after_batch was open when the process died (epoch 1, batch 3 of learn.fit(2))"
    assert status == 0


@FASTAI
def test_between_events(start: Started) -> None:
    """Of a model that hangs, the first line says behind which event that is, since when, and what follows there."""
    running = start("run", "-o", "run.loop", TRAIN, "model hangs")
    running.until("hangs")
    time.sleep(0.2)
    first = start.report()
    lines = loopscope.load(start.folder / "run.loop").render().splitlines()
    assert lines[0].startswith("running now: between events, ")
    said = " ".join([lines[0], lines[1].strip()])
    assert " ms after before_batch of epoch 1, batch 3 of learn.fit(2); what follows there is forward" in said
    assert first.endings[0].open == ()
    os.kill(running.pid, signal.SIGINT)
    assert running.wait()[0] == -signal.SIGINT


@FASTAI
def test_before_and_between_runs(start: Started) -> None:
    """While no run is under way, the first line says so, and since when."""
    running = start("run", "-o", "run.loop", TRAIN, "wait", "fit", "wait")
    running.until("waits")
    assert loopscope.load(start.folder / "run.loop").render().startswith("running now: no recorded run is under way\n")
    os.kill(running.pid, signal.SIGUSR1)
    running.until("waits\n[0")
    end = time.monotonic() + 20
    while running.stdout.count("waits") < 2:
        assert time.monotonic() < end
    shown = loopscope.load(start.folder / "run.loop").render()
    assert shown.startswith("running now: no recorded run is under way; the last one ended ")
    assert "not known yet, it is calibrated when recording ends\n" in shown
    os.kill(running.pid, signal.SIGUSR1)
    assert running.wait()[0] == 0
