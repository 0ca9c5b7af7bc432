"""forced-sync: a handler of one's own that reads a tensor's value in every batch, while the model is not on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import loopscope
from loopscope.checks import Case, Measured, check
from loopscope.findings import Finding
from loopscope.placing import place
from loopscope.recording import read
from loopscope.timing import reported
from loopscope.views import tree
from tests.checks.clocked import MS, case, found
from tests.checks.costly import FRAMEWORKS, VALUE, run

RULE = "forced-sync"


def recorded(path: Path, device: str) -> list[Finding]:
    """What is found in a true recording, as if its model had been on `device`: no GPU is needed for what it says."""
    recording = read(path)
    names = {n: {**one, "device": device} if one["k"] == "object" else one for n, one in recording.names.items()}
    placed = place(replace(recording, names=names))
    measured = Measured(reported(placed), placed)
    loops = list({id(block.loop): block.loop for block in placed.blocks() if block.loop is not None}.values())
    return [one for loop in loops for one in check(Case(loop, tree(loop), None, measured), [RULE])]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_fires(framework: str, tmp_path: Path) -> None:
    """A handler that reads a value at the end of each batch is noted, once, with how often that was and how long."""
    path = run(framework, tmp_path / "run.loop", reads=True)
    (finding,) = recorded(path, "cuda:0")
    assert finding.callback.startswith("Reads#")
    assert (finding.severity, finding.trust) == ("note", "inferred")
    assert finding.message.endswith("makes the host wait for the device in every batch: VALUE.item()")
    assert "calls while the model was on cuda:0: p50 " in finding.evidence[1]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_silent(framework: str, tmp_path: Path) -> None:
    """On the CPU there is nothing to wait for; nor is anything said of a handler that does not read, on a GPU."""
    path = run(framework, tmp_path / "run.loop", reads=True)
    assert not loopscope.check(path, select=[RULE]).findings
    path = run(framework, tmp_path / "other.loop", each=VALUE.item)
    assert not recorded(path, "cuda:0")


# -- a live learner ----------------------------------------------------------------------------------------------------


def live(device: str, handler: Any, event: str = "after_batch") -> list[Finding]:
    """What is found of a learner whose model is on `device`, with a callback of one's own."""
    from fastai.callback.core import Callback
    from fastai.test_utils import synth_learner

    learn = synth_learner(cbs=[type("Mine", (Callback,), {event: handler})()])
    learn.model.to(device)
    return list(loopscope.check(learn, select=[RULE]).findings)


def reads(self: Any) -> None:
    self.total += self.loss.item()


def reads_in_training(self: Any) -> None:
    if not self.training:
        return
    self.total += self.loss.item()


def reads_now_and_then(self: Any) -> None:
    if self.iter % 100 == 0:
        self.total += self.loss.item()


def leaves_mostly(self: Any) -> None:
    if self.iter % 100:
        return
    self.total += self.loss.item()


@pytest.mark.framework("fastai")
def test_a_live_learner() -> None:
    """Before it runs, one that reads in every batch is noted where the model is not on the CPU."""
    (finding,) = live("meta", reads)  # a device that every machine has, and that is not the CPU
    assert finding.message.endswith("makes the host wait for the device in every batch: self.loss.item()")
    assert (finding.severity, finding.evidence) == ("note", ("at after_batch, its source has self.loss.item()",))
    assert live("meta", reads_in_training)
    assert not live("cpu", reads)


@pytest.mark.framework("fastai")
@pytest.mark.parametrize("handler", [reads_now_and_then, leaves_mostly])
def test_now_and_then(handler: Any) -> None:
    """What is read under a condition is not read in every batch; nor what is read at the end of an epoch."""
    assert not live("meta", handler)
    assert not live("meta", reads, "after_epoch")


# -- on a clock of its own ---------------------------------------------------------------------------------------------


def test_figures() -> None:
    """What it took, of how much, stands in the evidence; where most calls took no time, none of them waited."""
    of = case(lambda who, n: 4 * MS if who == "Mine.after_batch" else 0, device="cuda:0", waits=("Mine",))
    (finding,) = (one for one in found(RULE, of) if one.event == "after_batch")
    assert finding.evidence[1] == "42 calls while the model was on cuda:0: p50 4.00 ms, 168 ms of 416 ms in all"
    assert not found(RULE, case(lambda who, n: 0 if n % 10 else 4 * MS, device="cuda:0", waits=("Mine",)))


def test_shipped() -> None:
    """Of the framework's own callbacks nothing is said."""
    assert not found(RULE, case(lambda who, n: 4 * MS, device="cuda:0", waits=("Recorder",)))
