"""data-wait: a batch that takes longer to draw than to compute."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import loopscope
from tests.checks.clocked import MS, case, found
from tests.checks.costly import FRAMEWORKS, run

RULE = "data-wait"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_fires(framework: str, tmp_path: Path) -> None:
    """A data set that sleeps for most of the batch is found, with what a batch takes to draw and to compute."""
    path = run(framework, tmp_path / "run.loop", fetch=lambda: time.sleep(0.03), batches=24)
    (finding,) = loopscope.check(path, select=[RULE]).findings
    assert (finding.severity, finding.trust, finding.callback) == ("warning", "observed", "")
    assert finding.message.startswith("To draw a batch takes 3")
    assert "(p50 of 24)" in finding.evidence[0]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_silent(framework: str, tmp_path: Path) -> None:
    """Data that are there are not waited for, whatever the handlers take."""
    path = run(framework, tmp_path / "run.loop", each=lambda: time.sleep(0.01), batches=24)
    assert not loopscope.check(path, select=[RULE]).findings


def draws(data: int, compute: int):
    """What the loop takes to draw a batch, and to compute it (ns)."""
    return lambda event, number: {"before_batch": data, "after_pred": compute}.get(event, 1000)


def test_figures() -> None:
    """With a clock of its own, all figures are exact."""
    (finding,) = found(RULE, case(lambda who, number: 0, draws(20 * MS, 5 * MS)))
    assert finding.message == (
        "To draw a batch takes 20.0 ms, to compute it 5.00 ms: 80 % of its time is waiting for data"
    )
    assert finding.evidence == (
        "in a batch of learn.fit(1): data 20.0 ms, compute 5.00 ms (p50 of 40)",
        "in all that was recorded: data 840 ms, compute 210 ms",
    )


def test_on_a_gpu_it_is_a_note() -> None:
    """There the GPU may be at work while the data are drawn."""
    (finding,) = found(RULE, case(lambda who, number: 0, draws(20 * MS, 5 * MS), device="cuda:0"))
    assert finding.severity == "note"
    assert "the model is on cuda:0" in finding.evidence[-1]


@pytest.mark.parametrize(
    ("steps", "batches"),
    [
        (draws(20 * MS, 21 * MS), 40),
        (draws(MS // 2, MS // 10), 1000),  # a toy
        (draws(20 * MS, 5 * MS), 15),  # few batches
        (lambda event, number: 999 * MS if (event, number) == ("before_batch", 0) else MS, 40),  # the first takes long
    ],
)
def test_silent_where_it_matters_little(steps, batches: int) -> None:
    """Less data than compute, a toy, a few batches, or one that took long: nothing is said."""
    assert not found(RULE, case(lambda who, number: 0, steps, train=batches))
