"""Handlers that make the host wait for the device: what their source shows, and what a report says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.learner import Recorder

import loopscope
from loopscope.adapters.fastai.vocabulary import WAITING
from loopscope.placing import place
from loopscope.recording import Recording, read
from loopscope.render.report import render
from loopscope.report import Report
from loopscope.timing import reported
from loopscope.waits import waits
from tests.adapters.cases.fastai import learner


class Several(Callback):
    def before_fit(self):
        self.kept = self.learn.to_detach(self.loss, cpu=False)

    def before_batch(self):
        self._twice()

    def _twice(self):
        self._once()

    def _once(self):
        return self.loss.item()

    def after_pred(self):
        return self.pred.to("cpu")

    def after_loss(self):
        return self.pred.to("cuda")

    def after_step(self):
        return self.learn.to_detach(self.loss)

    def after_batch(self):
        return item(self.loss)


def item(loss):
    return loss


@pytest.mark.parametrize(
    ("handler", "owner", "why"),
    [
        (Recorder.after_batch, Recorder, "met.accumulate(): fastai's metrics copy to the CPU there"),
        (ProgressCallback.after_batch, ProgressCallback, "self.smooth_loss.item()"),
        (Recorder.before_fit, Recorder, ""),
        (Several.before_fit, Several, ""),
        (Several.before_batch, Several, "_twice: _once: self.loss.item()"),
        (Several.after_pred, Several, "self.pred.to('cpu')"),
        (Several.after_loss, Several, ""),
        (Several.after_step, Several, "self.learn.to_detach(): copies to the CPU"),
        (Several.after_batch, Several, ""),
    ],
)
def test_what_waits_is_read_from_the_source(handler, owner, why):
    """Calls that copy to the host are found, two methods deep; those that leave a tensor where it is are not."""
    assert waits(handler, owner, WAITING) == why


def on(recording: Recording, device: str) -> Report:
    """The report of a true recording, as if its model had been on `device`: no GPU is needed for what it says."""
    names = {
        number: {**name, "device": device} if name.get("k") == "object" else name
        for number, name in recording.names.items()
    }
    return reported(place(replace(recording, names=names)))


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Recording:
    path = tmp_path_factory.mktemp("waits") / "run.loop"
    learn = learner()
    with learn.no_bar(), learn.no_logging(), loopscope.record(learn, path):
        learn.fit(1)
    return read(path)


def test_on_cuda_a_report_says_who_is_billed_and_marks_who_waits(recording):
    """At its head stands that kernels are billed to whoever waits, and Recorder.after_batch is marked as waiting."""
    report = on(recording, "cuda:0")
    (head,) = report.heads
    assert "billed to whoever waits" in head
    marked = {line.name for track in report.tracks for _, line in track.root.walk() if line.waits}
    assert "Recorder.after_batch" in marked
    assert "Recorder.before_fit" not in marked
    text = render("text", report)
    assert head[:40] in " ".join(text.split())
    assert "Recorder (waits)" in text


def test_on_the_cpu_nobody_waits(recording):
    """Without a device there is nothing to wait for: no head, no mark."""
    report = on(recording, "cpu")
    assert report.heads == ()
    assert [line.name for track in report.tracks for _, line in track.root.walk() if line.waits] == []
