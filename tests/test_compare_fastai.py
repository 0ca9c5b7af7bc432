"""`diff` on real fastai learners and what they really ran."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.callback.training import GradientClip
from fastai.learner import Learner
from fastai.test_utils import synth_learner

import loopscope
from loopscope.changes import Change, Pace
from loopscope.errors import LoopscopeError


class Counts(Callback):
    """Does nothing much, at an order of its own."""

    order = 5

    def __init__(self, spin: int = 0) -> None:
        self.spin = spin

    def before_fit(self) -> None:
        self.seen = 0

    def after_batch(self) -> None:
        self.seen += 1
        for _ in range(self.spin):
            pass


def learner(*cbs: Callback) -> Learner:
    return synth_learner(path="/nowhere", cbs=list(cbs))


def changes(a: object, b: object, *run: str, **arguments: Any) -> list[tuple[str, str, str]]:
    return [(one.kind, one.name, one.event) for one in loopscope.diff(a, b, *run, **arguments).changes]


def test_the_same_learner() -> None:
    """Two learners made alike do not differ, whatever they run; nor does one from itself."""
    for run in "fit", "fit_one_cycle", "validate", "lr_find", "fine_tune", "get_preds":
        assert loopscope.diff(learner(Counts()), learner(Counts()), run).empty
    one = learner()
    assert loopscope.diff(one, one).empty


def test_half_precision() -> None:
    """`to_fp16` adds one callback; it is named at each event that it handles, and nothing else differs."""
    before = loopscope.inspect(learner())
    found = loopscope.diff(before, learner().to_fp16())
    mixed = {f"MixedPrecision.{at}" for at, ones in _binding(learner().to_fp16()).items() if "MixedPrecision" in ones}
    assert {(one.kind, one.name) for one in found.changes} == {("added", name) for name in mixed}
    assert len(mixed) == len(found.changes) == 8
    at_start = next(one for one in found.changes if one.event == "before_fit")
    assert (at_start.follows, at_start.precedes) == ("TrainEvalCallback", "Recorder")
    assert [one.kind for one in loopscope.diff(learner().to_fp16(), before).changes] == ["removed"] * 8


def _binding(learn: Learner) -> dict[str, list[str]]:
    handlers = loopscope.inspect(learn).loop.binding.handlers
    return {at: [one.callback for one in ones] for at, ones in handlers.items()}


def test_callbacks_added_and_removed() -> None:
    """Each at its events, though all numbers behind it are others."""
    without = learner(EarlyStoppingCallback())
    without.remove_cb(ProgressCallback)
    found = changes(learner(GradientClip(), EarlyStoppingCallback()), without)
    assert {one[:2] for one in found} == {
        ("removed", f"{name}.{at}")
        for name, events in {
            "GradientClip": ["before_step"],
            "ProgressCallback": [
                *("before_fit", "before_epoch", "before_train", "after_batch", "after_train"),
                *("before_validate", "after_validate", "after_fit"),
            ],
        }.items()
        for at in events
    }


def test_another_order() -> None:
    """It says past whom the callback moved; so fastai really calls it."""
    a, b = learner(Counts()), learner(Counts())
    b.cbs[-1].order = 55
    found = loopscope.diff(a, b).changes
    assert {(one.kind, one.name, one.now_after, one.now_before) for one in found} == {
        ("moved", "Counts.before_fit", ("Recorder",), ()),
        ("moved", "Counts.after_batch", ("Recorder",), ()),
    }
    assert {(one.old, one.new) for one in found} == {("order 5", "order 55")}
    for learn, first, last in (a, "Counts", "Recorder"), (b, "Recorder", "Counts"):
        names = [type(one).__name__ for one in learn.cbs.sorted("order")]
        assert names.index(first) < names.index(last)


def test_a_callback_that_is_switched_off() -> None:
    """`run=False` is another status at each of its events, with the places."""
    off = learner(Counts())
    off.cbs[-1].run = False
    found = loopscope.diff(learner(Counts()), off).changes
    assert {(one.kind, one.name, one.old, one.new) for one in found} == {
        ("changed", f"Counts.{at}", "always", "never (run is False)") for at in ("before_fit", "after_batch")
    }
    assert next(one for one in found if one.event == "after_batch").where == (
        "fit > epoch > train > batch",
        "fit > epoch > validate > batch",
    )


def test_other_epochs_and_batches() -> None:
    """How often scopes repeat is told, with the call."""
    found = loopscope.diff(loopscope.inspect(learner(), epochs=2), loopscope.inspect(learner(), epochs=3)).changes
    assert [(one.what, one.name, one.old, one.new) for one in found] == [
        ("loop", "call", "learn.fit(2)", "learn.fit(3)"),
        ("scope", "epoch", "2", "3"),
    ]


def test_another_run() -> None:
    """What a fit has and a validation has not is told with its events."""
    found = loopscope.diff(loopscope.inspect(learner()), loopscope.inspect(learner(), "validate")).changes
    gone = next(one for one in found if one.kind == "removed" and one.what == "scope")
    assert "after_loss" in gone.old


# -- recordings --------------------------------------------------------------------------------------------------------


def recorded(path: Path, learn: Learner, epochs: int = 3) -> Path:
    with loopscope.record(learn, path), learn.no_bar(), learn.no_logging():
        learn.fit(epochs)
    return path


def test_a_slower_callback(tmp_path: Path) -> None:
    """A handler that takes many times as long is found in training, with both times."""
    a = recorded(tmp_path / "a.loop", learner(Counts(10)))
    b = recorded(tmp_path / "b.loop", learner(Counts(200_000)))
    found = loopscope.diff(a, b).changes
    assert all(one.kind in ("slower", "faster") for one in found)
    one = next(it for it in found if it.name == "Counts.after_batch" and "train" in it.where[0])
    assert one.kind == "slower"
    assert one.paces is not None
    assert (one.paces[0].count, one.paces[1].count) == (30, 30)
    assert one.ratio > 20


def test_two_recordings_of_one_program(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Nothing of their loops differs, nor do their times; docs/diff.md has the numbers.

    Two recordings out of four may be odd here: tests run on machines that are busy with something else.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more than there are free cores wait for each other, in some runs
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    paths = [recorded(tmp_path / f"{n}.loop", learner(Counts())) for n in range(4)]
    pairs = [loopscope.diff(a, b).changes for a in paths for b in paths if a < b]
    assert not [one for found in pairs for one in found if not one.paces]
    assert any(not found for found in pairs)


def test_recordings_of_other_loops(tmp_path: Path) -> None:
    """What was added between two recordings is told as between two loops; rows that only one has, have no times."""
    found: tuple[Change, ...] = loopscope.diff(
        recorded(tmp_path / "a.loop", learner()), recorded(tmp_path / "b.loop", learner(Counts()), 2)
    ).changes
    told = {(one.kind, one.what, one.name) for one in found if not one.paces}
    assert told >= {("added", "handler", "Counts.before_fit"), ("added", "handler", "Counts.after_batch")}
    assert not [one for one in found if one.paces and one.callback == "Counts"]


def test_a_plan_and_what_was_run(tmp_path: Path) -> None:
    """The loop of a learner and the recording of its fit have the same loop."""
    planned = loopscope.inspect(learner(Counts()), epochs=3)
    found = loopscope.diff(planned, recorded(tmp_path / "a.loop", learner(Counts())))
    assert [one for one in found.changes if one.callback not in ("ProgressCallback", "Recorder")] == []
    assert found.notes == ("B is a recording, the other a loop: times are not compared",)


def test_a_recording_of_nothing(tmp_path: Path) -> None:
    """Nothing was trained while it was recorded: the error says what else can be compared."""
    with loopscope.record(learner(), tmp_path / "a.loop"):
        pass
    with pytest.raises(LoopscopeError, match=r"a.loop holds no loop: nothing was trained"):
        loopscope.diff(tmp_path / "a.loop", tmp_path / "a.loop")


# -- the documentation -------------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).parent.parent / "docs" / "diff.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```py\n(.*?)```\n\n```text\n(.*?)```", DOCUMENT, re.DOTALL)


def unversioned(text: str) -> str:
    return re.sub(r"fastai [\d.]+", "fastai", text)


@pytest.mark.parametrize(("program", "output"), EXAMPLES)
def test_the_examples_in_the_documentation(program: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each program prints what stands below it."""
    exec(compile(program, "docs/diff.md", "exec"), {"__name__": "__main__"})
    assert unversioned(capsys.readouterr().out) == unversioned(output)


def test_there_are_examples() -> None:
    """One of them is `to_fp16`; none would compare equal to anything."""
    assert len(EXAMPLES) == 2
    assert "to_fp16" in EXAMPLES[0][0]
    assert "+ MixedPrecision  order 10\n" in EXAMPLES[0][1]


def test_every_field_is_documented() -> None:
    """The table has all fields of a change and of a pace, and no other."""
    table = DOCUMENT.partition("## JSON")[2]
    fields = {
        one
        for row in table.splitlines()
        if row.startswith("| `")
        for one in re.findall("`([a-z_]+)`", row.split("|")[1])
    }
    assert fields == set(Change.__dataclass_fields__)
    assert all(f"`{name}`" in table for name in Pace.__dataclass_fields__)
