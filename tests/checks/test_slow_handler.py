"""slow-handler: what takes more than a tenth of the batch, in the median of the batches behind the warm-up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import loopscope
from tests.checks.clocked import MS, case, found
from tests.checks.costly import FRAMEWORKS, quiet, run

RULE = "slow-handler"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_fires(framework: str, tmp_path: Path) -> None:
    """A handler that sleeps for most of the batch is found once, with its figures and its line."""
    path = run(framework, tmp_path / "run.loop", each=lambda: time.sleep(0.02), batches=24)
    (finding,) = [one for one in loopscope.check(path, select=[RULE]).findings if one.callback.startswith("Mine#")]
    assert (finding.severity, finding.trust) == ("warning", "observed")
    assert finding.message.endswith("in the median of 14 batches")
    assert str(finding.place).rpartition(":")[0].endswith("costly.py")
    assert "14 calls" in finding.evidence[0]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_silent(framework: str, tmp_path: Path) -> None:
    """A handler that does next to nothing in a batch that takes its time is not; nor is the framework's own."""
    path = run(framework, tmp_path / "run.loop", fetch=lambda: time.sleep(0.02), batches=24)
    assert not loopscope.check(path, select=[RULE]).failed


def test_figures() -> None:
    """With a clock of its own, all figures are exact: a batch of training has six steps of 1 ms."""
    (finding,) = found(RULE, case(lambda who, number: 3 * MS if who == "Mine.after_batch" else 0))
    assert finding.message == "Mine.after_batch takes 3.00 ms of a batch of 9.00 ms (33 %), in the median of 30 batches"
    assert finding.evidence == (
        "p50 3.00 ms, p99 3.00 ms, max 3.00 ms in a batch; 90.0 ms in 30 calls",
        "a batch of learn.fit(1) takes 9.00 ms (p50 of 30; the first 10 are left out)",
    )


@pytest.mark.parametrize(
    "takes",
    [
        lambda number: MS // 2,  # less than a tenth
        lambda number: 50 * MS if number < 10 else 0,  # only while it warms up
        lambda number: 0 if number % 3 else 50 * MS,  # now and then
    ],
)
def test_silent_where_the_median_is_small(takes) -> None:
    """A small share, the warm-up and a peak now and then are no slow handler."""
    assert not found(RULE, case(lambda who, number: takes(number) if who == "Mine.after_batch" else 0))


def test_silent_with_few_batches() -> None:
    """Of fewer than 20 batches, nothing is said."""
    assert not found(RULE, case(lambda who, number: 50 * MS if who == "Mine.after_batch" else 0, train=15))


def test_silent_in_a_tiny_batch() -> None:
    """Microseconds do not matter, whatever their share."""
    of = case(lambda who, number: 400_000 if who == "Mine.after_batch" else 0, lambda event, number: 1000)
    assert not found(RULE, of)


def test_what_is_shipped_is_a_note() -> None:
    """The framework's own callback is as it is: a note, for a plot or a progress bar that one may leave out."""
    (finding,) = found(RULE, case(lambda who, number: 3 * MS if who == "Recorder.after_batch" else 0))
    assert (finding.callback, finding.severity) == ("Recorder#1", "note")


def test_on_a_gpu() -> None:
    """There a call may only wait for what the GPU has still to do: a note, and nothing of one that is known to wait."""
    takes = lambda who, number: 3 * MS if who == "Mine.after_batch" else 0  # noqa: E731
    (finding,) = found(RULE, case(takes, device="cuda:0"))
    assert finding.severity == "note"
    assert "the model is on cuda:0" in finding.evidence[-1]
    assert not found(RULE, case(takes, device="cuda:0", waits=("Mine",)))


@pytest.mark.framework("lightning")
def test_a_module(tmp_path: Path) -> None:
    """The steps of a LightningModule are the training itself; what it does to each batch is a note."""
    import lightning.pytorch as pl

    from tests.adapters.cases.lightning_models import Net, loader

    class Heavy(Net):
        def training_step(self, batch, batch_idx):
            time.sleep(0.02)
            return super().training_step(batch, batch_idx)

        def on_before_batch_transfer(self, batch, dataloader_idx):
            time.sleep(0.02)
            return batch

    path = tmp_path / "run.loop"
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with loopscope.record(trainer, path):
            trainer.fit(Heavy(), loader(24))
    (finding,) = [one for one in loopscope.check(path, select=[RULE]).findings if one.callback.startswith("Heavy")]
    assert (finding.event, finding.severity) == ("on_before_batch_transfer", "note")
