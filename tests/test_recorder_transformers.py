"""Recording a Trainer: nothing of it changes, nothing stays in place, and a script is shown and recorded as it is."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = [need("transformers"), pytest.mark.slow]

import torch
from transformers.trainer_callback import CallbackHandler, TrainerCallback

import loopscope
from loopscope.adapters import transformers as adapter
from loopscope.adapters.transformers import dispatch
from loopscope.errors import UnknownVersion
from loopscope.placing import place
from loopscope.recording import read
from loopscope.report import Line, Report
from loopscope.timing import reported
from tests.adapters.cases.transformers import SAVES, Counts, Inside, Leaves, Throws, knowing, trainer
from tests.suite import quiet
from tests.told import sums

SCRIPT = Path(__file__).parent / "scripts" / "transformers_train.py"
STOCK = vars(CallbackHandler)["call_event"]


def train(made: Any, file: Path, *, raises: type[BaseException] | None = None) -> Report:
    """Record `made.train()`, and read the report."""
    with quiet(), loopscope.record(made, file):
        if raises is None:
            made.train()
        else:
            with pytest.raises(raises):
                made.train()
    return reported(place(read(file)))


def lines(report: Report, name: str) -> list[Line]:
    return [line for track in report.tracks for _, line in track.root.walk() if line.name == name]


def count(report: Report, name: str) -> int:
    return sum(line.stats.count for line in lines(report, name))


def test_nothing_is_added_and_nothing_stays(tmp_path):
    """Trainer, handler and callbacks have the attributes that they had; the class's function is the stock one again."""
    made = trainer(tmp_path, Counts())
    before = {**vars(made.callback_handler)}.keys(), [set(vars(one)) for one in made.callback_handler.callbacks]
    during: list[object] = []

    class Looks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            during.append(vars(CallbackHandler)["call_event"])

    with quiet(), loopscope.record(made, tmp_path / "run.loop"):
        made.add_callback(Looks())
        made.train()
        made.remove_callback(Looks)
    after = {**vars(made.callback_handler)}.keys(), [set(vars(one)) for one in made.callback_handler.callbacks]
    assert after == before
    assert during
    assert STOCK not in during
    assert vars(CallbackHandler)["call_event"] is STOCK
    assert dispatch.NAMING.known == {}


def test_pickle_and_deepcopy_work_while_it_is_recorded(tmp_path):
    """Copies of callbacks, control and handler made inside a handler are as they would be, and are not recorded."""
    copies: list[Any] = []

    class Copies(TrainerCallback):
        def __init__(self) -> None:
            self.trainer: Any = None

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            held = self.trainer.callback_handler
            counts = next(one for one in held.callbacks if isinstance(one, Counts))
            copies.append(pickle.loads(pickle.dumps((counts, control, state))))
            copies.append(copy.deepcopy(counts))
            other = CallbackHandler([counts], None, None, None, None)
            other.on_save(args, state, control)

    made = knowing(trainer(tmp_path, Counts(), Copies()))
    report = train(made, tmp_path / "run.loop")
    assert [type(one).__name__ for one in copies] == ["tuple", "Counts"] * 2
    assert copies[1].counted["on_step_end"] == 4
    assert (report.unexpected_count, sums(report)) == (0, [])


def test_a_callback_that_takes_itself_out(tmp_path):
    """From there on the recording has another binding; nothing is unexpected."""
    made = knowing(trainer(tmp_path, Leaves(), Counts()))
    report = train(made, tmp_path / "run.loop")
    assert [(one.position, one.message) for one in report.unexpected] == []
    assert count(report, "Leaves.on_step_begin") == 2


def test_a_callback_that_comes_later(tmp_path):
    """One that a handler adds gets a number of its own, behind those that were there; nothing is unexpected."""

    class Late(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            pass

    class Adds(TrainerCallback):
        def __init__(self) -> None:
            self.trainer: Any = None

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.epoch == 1:
                self.trainer.add_callback(Late())

    made = knowing(trainer(tmp_path, Adds()))
    report = train(made, tmp_path / "run.loop")
    assert [(one.position, one.message) for one in report.unexpected] == []
    assert {line.callback for line in lines(report, "Late.on_step_end")} == {"Late#4"}
    assert count(report, "Late.on_step_end") == 4


def test_a_compiled_model_is_left_alone(tmp_path):
    """torch.compile: the module has no hook and no attribute more, and the weights come out the same."""

    def trained(file: Path | None) -> tuple[Any, dict[str, Any]]:
        made = trainer(tmp_path, Counts(), torch_compile=True, torch_compile_backend="eager")
        if file is None:
            with quiet():
                made.train()
        else:
            train(made, file)
        return made, made.model.state_dict()

    made, recorded = trained(tmp_path / "run.loop")
    _, plain = trained(None)
    assert all(torch.equal(plain[name], value) for name, value in recorded.items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in made.model.modules())


def test_where_an_exception_left_the_run(tmp_path):
    """The report says epoch and batch, counted from 1, and the handler; the exception itself is the user's."""
    made = trainer(tmp_path, Throws("on_substep_end", ValueError), gradient_accumulation_steps=2)
    report = train(made, tmp_path / "run.loop", raises=ValueError)
    (ending,) = report.endings
    assert (ending.how, ending.exception, ending.at.event) == ("raised", "ValueError", "on_substep_end")
    assert (ending.at.epoch, ending.at.handler) == (0, "Throws.on_substep_end")


def test_where_the_loop_is(tmp_path):
    """Epoch and batch are those of the loop's own frames, also within an evaluation; None where there is none."""
    seen: list[tuple[str, Any, Any]] = []

    class Asks(TrainerCallback):
        def __init__(self) -> None:
            self.trainer: Any = None

    def asking(name: str) -> Any:
        def hook(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append((name, *dispatch.NAMING.where(self.trainer)))

        return hook

    events = ("on_train_begin", "on_epoch_begin", "on_step_end", "on_epoch_end", "on_prediction_step", "on_train_end")
    for name in events:
        setattr(Asks, name, asking(name))
    made = knowing(trainer(tmp_path, Asks(), count=4, eval_strategy="epoch"))
    with quiet():
        made.train()
    one = [("on_epoch_begin", 0, None), ("on_step_end", 0, 0), ("on_step_end", 0, 1), ("on_epoch_end", 0, None)]
    passes = [("on_prediction_step", 0, 0), ("on_prediction_step", 0, 1)]
    other = [(name, 1, batch) for name, _, batch in (*one, *passes)]
    assert seen[1:-1] == [*one, *passes, *other]
    assert (seen[0][0], seen[0][2], seen[-1][0], seen[-1][2]) == ("on_train_begin", None, "on_train_end", None)


def test_rows_sum_to_the_wall_time(tmp_path):
    """Every nanosecond of training, evaluation and a run inside a handler is in exactly one row."""
    made = knowing(trainer(tmp_path, Inside(), Counts(), **SAVES))
    report = train(made, tmp_path / "run.loop")
    assert sums(report) == []
    assert (report.unexpected_count, count(report, "trainer.evaluate()")) == (0, 2)


def test_a_dispatch_of_another_shape_is_refused(tmp_path, monkeypatch):
    """Where somebody has replaced call_event, attaching fails loudly, and the function is left where it is."""

    def other(self, event, args, state, control, **kwargs):
        return control

    monkeypatch.setattr(CallbackHandler, "call_event", other)
    with pytest.raises(UnknownVersion, match=r"cannot be recorded: CallbackHandler\.call_event was replaced"):
        loopscope.record(trainer(tmp_path), tmp_path / "run.loop").__enter__()
    assert vars(CallbackHandler)["call_event"] is other


def test_what_recording_costs_is_measured(capsys):
    """Figures in ns, and nothing is printed or warned of on the way."""
    found = adapter.calibrate()
    assert found["callbacks"] == 4
    assert all(found[name] > 0 for name in ("per_event", "per_call", "clock", "framework_dispatch"))
    assert capsys.readouterr() == ("", "")


# -- an unchanged script ---------------------------------------------------------------------------------------


def loopscope_(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loopscope", command, *more],
        capture_output=True,
        encoding="utf-8",
        cwd=folder,
        check=False,
    )


def test_a_script_is_shown(tmp_path):
    """`loopscope show` stops before train, and shows the loop of this very trainer."""
    done = loopscope_("show", tmp_path, str(SCRIPT), "out")
    assert done.returncode == 0, done.stderr
    assert "trainer.train()  Trainer, transformers 5.24.0" in done.stdout
    assert "epoch × 1–3" in done.stdout
    assert "on_pre_optimizer_step  Gradients" in done.stdout
    assert "only every 4 steps (logging_steps)" in " ".join(done.stdout.split())
    assert "stopped here, before train ran" in done.stderr
    assert not (tmp_path / "out" / "checkpoint-3").exists()


def test_a_script_is_recorded(tmp_path):
    """`loopscope run` runs it to its end: training, evaluation and prediction are placed, nothing is unexpected."""
    done = loopscope_("run", tmp_path, str(SCRIPT), "out")
    assert done.returncode == 0, done.stderr
    assert "6 predictions" in done.stdout
    (file,) = tmp_path.glob("*.loop")
    report = reported(place(read(file)))
    assert [ending.run for ending in report.endings] == [
        "trainer.train()",
        "trainer.evaluate()",
        "trainer.predict(test_dataset)",
    ]
    assert {ending.how for ending in report.endings} == {"finished"}
    assert (report.unexpected_count, sums(report)) == (0, [])
    assert count(report, "Gradients.on_step_end") == 9
