"""growing-handler: what takes longer all along a run, while the rest of the loop does not."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import loopscope
from loopscope.checks.growing_handler import grows
from tests.checks.clocked import MS, Takes, case, found
from tests.checks.costly import FRAMEWORKS, run

RULE = "growing-handler"


def longer(by: float) -> Callable[[], None]:
    """Sleep `by` seconds at the first call, twice that at the second, and so on."""
    number = itertools.count(1)
    return lambda: time.sleep(by * next(number))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_fires(framework: str, tmp_path: Path) -> None:
    """A handler that sleeps longer at each batch is found, with what it took first and last."""
    path = run(framework, tmp_path / "run.loop", each=longer(0.001), epochs=2, batches=20)
    (finding,) = loopscope.check(path, select=[RULE]).findings
    assert finding.callback.startswith("Mine#")
    assert (finding.severity, finding.trust) == ("warning", "observed")
    assert "takes longer and longer" in finding.message


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_fires_at_the_end_of_an_epoch(framework: str, tmp_path: Path) -> None:
    """So is one that is called once in an epoch, from eight epochs on."""
    path = run(framework, tmp_path / "run.loop", done=longer(0.015), epochs=8, batches=2)
    (finding,) = loopscope.check(path, select=[RULE]).findings
    assert "in the last third of 8 epochs" in finding.message


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_silent(framework: str, tmp_path: Path) -> None:
    """One that always takes the same is not, slow as it may be."""
    same = {"each": lambda: time.sleep(0.01), "done": lambda: time.sleep(0.05)}
    path = run(framework, tmp_path / "run.loop", **same, epochs=8, batches=5)
    assert not loopscope.check(path, select=[RULE]).findings


def mine(takes: Callable[[int], int], event: str = "after_batch") -> Takes:
    return lambda who, number: takes(number) if who == f"Mine.{event}" else 0


def test_figures() -> None:
    """With a clock of its own, all figures are exact."""
    (finding,) = found(RULE, case(mine(lambda number: MS * (number + 1)), train=30))
    assert finding.message == (
        "Mine.after_batch takes longer and longer: 25.5 ms in the last third of 30 batches, 5.50 ms in the first"
    )
    assert finding.evidence == (
        "medians of the three thirds of learn.fit(1): 5.50 ms, 15.5 ms, 25.5 ms",
        "all else in a batch: 6.00 ms, 6.00 ms, 6.00 ms",
    )


def test_what_is_shipped_is_a_note() -> None:
    """The framework's own callback is as it is."""
    (finding,) = found(RULE, case(lambda who, number: MS * number if who == "Recorder.after_batch" else 0))
    assert (finding.callback, finding.severity) == ("Recorder#1", "note")


@pytest.mark.parametrize(
    "takes",
    [
        lambda number: 5 * MS,
        lambda number: 40 * MS - MS * number,  # the warm-up
        lambda number: 0 if number < 20 else 9 * MS,  # it begins to work in the middle
        lambda number: MS * (number % 20),  # within each epoch, and is emptied then
        lambda number: 1000 * number,  # it grows, by microseconds
        lambda number: 100 * MS + MS * number,  # by far less than twice
    ],
)
def test_silent_where_it_does_not_grow_all_along(takes) -> None:
    """A constant, a warm-up, a step, and what each epoch begins anew do not grow."""
    assert not found(RULE, case(mine(takes), train=20, epochs=2))


def test_silent_where_all_of_the_loop_grows() -> None:
    """Where the machine becomes slower, or the batches larger, it is not the handler."""
    of = case(mine(lambda number: MS * (number + 1)), lambda event, number: MS * (number + 1))
    assert not found(RULE, of)


def test_silent_where_it_waits_for_a_gpu() -> None:
    """What a handler takes that waits for a device is what the model computes."""
    takes = mine(lambda number: MS * number)
    assert found(RULE, case(takes, device="cuda:0"))
    assert not found(RULE, case(takes, device="cuda:0", waits=("Mine",)))


def test_silent_with_few_batches() -> None:
    """Of fewer than 30 batches, nothing is said."""
    assert not found(RULE, case(mine(lambda number: MS * number), train=20))


@pytest.mark.parametrize("count", [8, 12, 30, 300])
def test_noise_does_not_grow(count: int) -> None:
    """Of a thousand series of noise, and of noise with heavy tails, fewer than one in a hundred grow."""
    random = np.random.default_rng(count)
    noise = sum(grows(random.lognormal(0, 1, count) * MS) for _ in range(1000))
    heavy = sum(grows(random.pareto(1, count) * MS) for _ in range(1000))
    assert max(noise, heavy) < 10


@pytest.mark.parametrize(("count", "least"), [(30, 800), (300, 990)])
def test_growth_is_seen_through_noise(count: int, least: int) -> None:
    """Of a thousand series that grow from nothing, with noise of a fifth and peaks in between, most are seen."""
    random = np.random.default_rng(count)
    grow = np.arange(1, count + 1) * MS
    peaks = [np.where(random.random(count) < 0.05, 100, 1) for _ in range(1000)]
    assert sum(grows(grow * random.lognormal(0, 0.2, count) * one) for one in peaks) > least
