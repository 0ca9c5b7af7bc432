"""Recording a Trainer through its profiler: nothing of it changes, nothing stays, the program's own one still works."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("lightning")

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.profilers import AdvancedProfiler, PassThroughProfiler, SimpleProfiler

import loopscope
from loopscope.adapters import lightning as adapter
from loopscope.adapters.lightning import recording as recording_of
from loopscope.adapters.lightning.profiling import Recording
from loopscope.errors import UnknownVersion
from loopscope.placing import place
from loopscope.recording import read
from loopscope.report import Report
from loopscope.timing import reported
from tests.adapters.cases.lightning import quietly
from tests.adapters.cases.lightning_models import Data, Everywhere, Hooked, Manual, Net, Twin, Valid, loader, trainer_in
from tests.suite import quiet
from tests.told import sums, told

SCRIPT = Path(__file__).parent / "scripts" / "lightning_train.py"


@quietly
def fit(trainer: Any, model: Any = None, *loaders: Any) -> None:
    trainer.fit(Valid() if model is None else model, *(loaders or (loader(2), loader(1))))


def recorded(trainer: Any, file: Path, *given: Any, raises: type[BaseException] | None = None) -> Report:
    """Record a fit of `trainer`, and read the report."""
    with quiet(), loopscope.record(trainer, file):
        if raises is None:
            fit(trainer, *given)
        else:
            with pytest.raises(raises):
                fit(trainer, *given)
    return reported(place(read(file)))


def is_whole(report: Report) -> None:
    assert [(one.position, one.message) for one in report.unexpected] == []
    assert sums(report) == []


def calls(file: Path) -> Counter[str]:
    """How often each handler was called, by id, those inside of others included."""

    def below(fired: Any) -> Any:
        for call in (call for one in fired for call in one.calls):
            yield call.handler
            yield from below(call.inner)

    return Counter(below(told(place(read(file)))))


class Doing(Callback):
    """Does something at the end of the first epoch."""

    def __init__(self, what: Any) -> None:
        self.what = what
        self.done: list[Any] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not self.done:
            self.done.append(self.what(trainer))


# -- nothing changes, nothing stays --------------------------------------------------------------------------


def test_the_trainer_has_its_own_profiler_again(tmp_path):
    """Only while it is recorded does another one stand in front of it, which is to everybody the trainer's own."""
    during = Doing(
        lambda trainer: (
            issubclass(type(trainer.profiler), Recording),
            isinstance(trainer.profiler, PassThroughProfiler),
        )
    )
    trainer = trainer_in(tmp_path, during)
    own, names = trainer.profiler, {*vars(trainer), "_last_val_time"}  # which Lightning adds by itself
    is_whole(recorded(trainer, tmp_path / "run.loop"))
    assert during.done == [(True, True)]
    assert trainer.profiler is own
    assert set(vars(trainer)) == names
    assert recording_of._ADOPTERS == []
    assert not any(recording_of._WATCHED.values())


def test_nothing_is_kept_of_a_trainer_that_is_gone(tmp_path):
    """A recorded trainer can be collected when its recording is over."""
    import gc
    import weakref

    trainer = trainer_in(tmp_path, Twin())
    recorded(trainer, tmp_path / "run.loop")
    ref, number = weakref.ref(trainer), id(trainer)
    del trainer
    gc.collect()
    assert ref() is None
    assert number not in recording_of._WATCHED


@pytest.mark.parametrize("make", [SimpleProfiler, AdvancedProfiler])
def test_the_programs_own_profiler_counts_what_it_counts(make, tmp_path):
    """Lightning's profilers see the same actions as often, recorded or not, and their reports can be had."""

    def counts(profiler: Any) -> dict[str, int]:
        if isinstance(profiler, SimpleProfiler):
            return {name: len(took) for name, took in profiler.recorded_durations.items()}
        return {name: stats.getstats()[0].callcount for name, stats in profiler.profiled_actions.items()}

    plain = trainer_in(tmp_path, Twin(), profiler=make(dirpath=tmp_path, filename="plain"))
    with quiet():
        fit(plain)
    trainer = trainer_in(tmp_path, Twin(), profiler=make(dirpath=tmp_path, filename="recorded"))
    own = trainer.profiler
    is_whole(recorded(trainer, tmp_path / "run.loop"))
    assert trainer.profiler is own
    assert counts(own) == counts(plain.profiler)
    assert (tmp_path / "fit-recorded.txt").read_text().count("run_training_batch") > 0


def test_actions_of_the_program_are_passed_on(tmp_path):
    """What a program profiles itself reaches its own profiler and has no row; without a profiler it is nothing."""

    def own(trainer: Any) -> None:
        with trainer.profiler.profile("my own"):
            trainer.profiler.start("mine, too")
            trainer.profiler.stop("mine, too")

    trainer = trainer_in(tmp_path, Doing(own), profiler=SimpleProfiler(dirpath=tmp_path, filename="own"))
    profiler = trainer.profiler
    is_whole(recorded(trainer, tmp_path / "run.loop"))
    assert {"my own", "mine, too"} <= set(profiler.recorded_durations)
    is_whole(recorded(trainer_in(tmp_path, Doing(own)), tmp_path / "plain.loop"))


def test_an_error_of_the_programs_own_profiler_comes_up(tmp_path):
    """A profiler that refuses an action does so recorded as well; its rows are closed."""

    class Refusing(SimpleProfiler):
        def start(self, action_name: str) -> None:
            if action_name.endswith("on_train_start"):
                raise ValueError("not this one")
            super().start(action_name)

        def stop(self, action_name: str) -> None:
            if not action_name.endswith("on_train_start"):
                super().stop(action_name)

    trainer = trainer_in(tmp_path, Everywhere(), profiler=Refusing(dirpath=tmp_path, filename="own"))
    report = recorded(trainer, tmp_path / "run.loop", raises=ValueError)
    assert sums(report) == []
    assert report.endings[-1].exception == "ValueError"


def test_pickles_and_copies_have_the_programs_own_profiler(tmp_path):
    """A profiler or trainer that is copied or pickled during a run is as it would be without a recording."""

    def copies(trainer: Any) -> list[Any]:
        return [
            pickle.loads(pickle.dumps(trainer.profiler)),
            copy.copy(trainer.profiler),
            copy.deepcopy(trainer.profiler),
            copy.copy(trainer).profiler,
        ]

    doing = Doing(copies)
    trainer = trainer_in(tmp_path, doing)
    is_whole(recorded(trainer, tmp_path / "run.loop"))
    *copied, shared = doing.done[0]
    assert {type(one) for one in copied} == {PassThroughProfiler}
    assert issubclass(type(shared), Recording)  # a shallow copy shares it, as it would share the program's own
    assert b"loopscope" not in pickle.dumps(copied[0])


def test_a_copy_of_the_trainer_is_not_recorded(tmp_path):
    """A deep copy made before the run has the program's own profiler, and runs without leaving rows."""
    trainer = trainer_in(tmp_path, Twin())
    with quiet(), loopscope.record(trainer, tmp_path / "run.loop"):
        other = copy.deepcopy(trainer)
        assert type(other.profiler) is PassThroughProfiler
        fit(other)
    assert read(tmp_path / "run.loop").lanes == ()


def test_a_profiler_that_the_program_puts_in_place_meanwhile(tmp_path):
    """Set between attaching and fitting, it is the one that is passed on to, and that stays."""
    trainer = trainer_in(tmp_path, Twin())
    with quiet(), loopscope.record(trainer, tmp_path / "run.loop"):
        trainer.profiler = own = SimpleProfiler(dirpath=tmp_path, filename="own")
        fit(trainer)
    report = reported(place(read(tmp_path / "run.loop")))
    is_whole(report)
    assert trainer.profiler is own
    assert own.recorded_durations["run_training_epoch"]


def test_a_recording_that_ends_inside_of_a_handler(tmp_path):
    """What is open then stays open, the run goes on, and the trainer has its own profiler from there on."""
    trainer = trainer_in(tmp_path)
    taken = loopscope.record(trainer, tmp_path / "run.loop")
    trainer.callbacks.append(Doing(lambda trainer: taken.__exit__(None, None, None)))
    own = trainer.profiler
    with quiet():
        taken.__enter__()
        fit(trainer)
    assert trainer.profiler is own
    report = reported(place(read(tmp_path / "run.loop")))
    assert (report.unexpected_count, sums(report)) == (0, [])
    assert trainer.current_epoch == 2


def test_a_compiled_model_is_left_as_it_is(tmp_path):
    """A compiled part of a model is compiled as often as without a recording, and is the same object behind it."""
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(1)
        return graph.forward

    def once(record: bool) -> int:
        compiled.clear()
        torch._dynamo.reset()
        torch.manual_seed(0)
        trainer, model = trainer_in(tmp_path, Twin(), max_epochs=1), Valid()
        model.layer = layer = torch.compile(model.layer, backend=backend)
        if record:
            is_whole(recorded(trainer, tmp_path / "run.loop", model, loader(2)))
        else:
            with quiet():
                fit(trainer, model, loader(2))
        assert model.layer is layer
        return len(compiled)

    assert once(record=True) == once(record=False) > 0


def test_a_compiled_module_is_described_as_what_it_is(tmp_path):
    """A model given as torch.compile made it has the map of the model that was compiled."""
    model = torch.compile(Valid(), backend="eager")
    shown = loopscope.inspect(trainer_in(tmp_path), model=model, train_dataloaders=loader(2))
    assert [one.id for one in shown.loop.binding.at("training_step")] == ["Valid#0"]


def test_workers_that_are_forked_write_nothing(tmp_path):
    """Loaders with processes of their own: rows are written by this one alone, and all have a place."""
    report = recorded(
        trainer_in(tmp_path, Everywhere(), max_epochs=1), tmp_path / "run.loop", None, loader(2, num_workers=1)
    )
    is_whole(report)
    assert len(report.tracks) == 1


# -- who was called ------------------------------------------------------------------------------------------


def test_two_callbacks_of_one_state_key_are_told_apart(tmp_path):
    """Lightning's profilers take them for one; the recording knows which of them was called, and for how long."""
    is_whole(recorded(trainer_in(tmp_path, Twin(), Twin()), tmp_path / "run.loop"))
    assert calls(tmp_path / "run.loop") == {"Twin#1": 6, "Twin#2": 6, "Valid#0": 8}


def test_a_callback_that_comes_during_the_run(tmp_path):
    """From the next event on it is expected, under a number behind those that were there."""
    trainer = trainer_in(tmp_path, Doing(lambda trainer: trainer.callbacks.append(Twin())), max_epochs=3)
    is_whole(recorded(trainer, tmp_path / "run.loop"))
    assert calls(tmp_path / "run.loop")["Twin#2"] == 2 * (2 + 1)


def test_a_callback_that_was_added_behind_the_map(tmp_path):
    """One that a hook of the model adds before anybody is called is in the recording's first binding."""

    class Adding(Valid):
        def prepare_data(self) -> None:
            self.trainer.callbacks.append(Twin())

    is_whole(recorded(trainer_in(tmp_path, Everywhere()), tmp_path / "run.loop", Adding()))
    assert calls(tmp_path / "run.loop")["Twin#2"] == 6


def test_callbacks_of_the_model(tmp_path):
    """Those that configure_callbacks gives have the numbers of the map: their places in the final list."""

    class Bringing(Valid):
        def configure_callbacks(self) -> Any:
            return [Twin(), ModelCheckpoint(tmp_path / "c")]

    is_whole(recorded(trainer_in(tmp_path, Everywhere()), tmp_path / "run.loop", Bringing()))
    found = calls(tmp_path / "run.loop")
    assert found["Twin#2"] == 6
    assert found["ModelCheckpoint#3"] > 6


def test_what_is_left_open_by_an_exception_is_closed(tmp_path):
    """Stepping by hand, Lightning says that it begins and, when it raises, not that it ends."""

    class Breaking(Manual):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            raise RuntimeError("in the step")

    report = recorded(trainer_in(tmp_path), tmp_path / "run.loop", Breaking(), loader(2), raises=RuntimeError)
    is_whole(report)
    left = report.endings[-1]
    assert left.exception == "RuntimeError"
    assert (left.at.event, left.at.handler) == ("on_before_optimizer_step", "Breaking.on_before_optimizer_step")
    assert (left.at.epoch, left.at.batch) == (0, 0)


def test_a_data_module_and_hooks_of_the_model(tmp_path):
    """All who are called have lines of their own, those that do nothing have none."""
    trainer = trainer_in(tmp_path, Everywhere(), ModelCheckpoint(tmp_path / "c"))
    with quiet(), loopscope.record(trainer, tmp_path / "run.loop"):
        quietly(trainer.fit)(Hooked(), Data())
    report = reported(place(read(tmp_path / "run.loop")))
    is_whole(report)
    assert {*calls(tmp_path / "run.loop")} == {"Data#0", "Everywhere#1", "Hooked#0", "ModelCheckpoint#2"}


def test_a_strategy_of_ones_own(tmp_path):
    """Its hooks are handlers; where it has a step of its own, that one is called, and calls whom it likes."""
    from lightning.pytorch.strategies import SingleDeviceStrategy

    class Own(SingleDeviceStrategy):
        def on_train_start(self) -> None:
            pass

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            return super().training_step(*args, **kwargs)

    trainer = trainer_in(tmp_path, Everywhere(), strategy=Own(torch.device("cpu")), accelerator="auto")
    is_whole(recorded(trainer, tmp_path / "run.loop"))
    assert calls(tmp_path / "run.loop")["Own#0"] == 4 + 1
    trainer = trainer_in(tmp_path, Everywhere(), strategy=Own(torch.device("cpu")), accelerator="auto")
    loop = loopscope.inspect(trainer, model=Valid(), train_dataloaders=loader()).loop
    assert [one.id for one in loop.binding.at("training_step")] == ["Own#0"]
    assert [one.id for one in loop.binding.at("on_train_start")] == ["Everywhere#1", "Own#0"]
    assert any("Own has its own training_step" in note for note in loop.notes)


def test_the_other_package_is_recorded(tmp_path):
    """`pytorch_lightning` has a copy of everything, its profiler included."""
    import pytorch_lightning

    class Net(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        loss, training_step, validation_step = Valid.loss, Valid.training_step, Valid.validation_step
        configure_optimizers = Valid.configure_optimizers

    class Seen(pytorch_lightning.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            pass

    off = ("enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger")
    made = pytorch_lightning.Trainer(
        accelerator="cpu",
        callbacks=[Seen(), Seen()],
        default_root_dir=tmp_path,
        max_epochs=2,
        **dict.fromkeys(off, False),
    )
    is_whole(recorded(made, tmp_path / "run.loop", Net()))
    found = calls(tmp_path / "run.loop")
    assert found["Seen#1"] == found["Seen#2"] == 4


# -- versions ------------------------------------------------------------------------------------------------


def test_another_dispatch_is_refused(monkeypatch, tmp_path):
    """A Lightning that does not tell its profiler of each call is not recorded, before anything is attached."""
    adapter.verify()
    call = sys.modules["lightning.pytorch.trainer.call"]
    monkeypatch.setattr(call, "_call_strategy_hook", lambda trainer, hook_name: None)
    with pytest.raises(UnknownVersion, match="its profiler is told of"):
        adapter.verify()
    monkeypatch.delattr(call, "_call_strategy_hook")
    trainer = trainer_in(tmp_path)
    with pytest.raises(UnknownVersion, match="has no _call_strategy_hook"):
        loopscope.record(trainer, tmp_path / "run.loop").__enter__()
    assert type(trainer.profiler) is PassThroughProfiler


def test_what_it_costs_is_measured():
    """Recorded, a dispatch takes no longer than Lightning's own with the profiler that does nothing."""
    cost = adapter.calibrate()
    assert set(cost) == {"per_event", "per_call", "clock", "dispatch", "framework_dispatch", "callbacks"}
    assert 0 < float(str(cost["clock"])) < float(str(cost["per_call"]))
    assert float(str(cost["dispatch"])) < 1.5 * float(str(cost["framework_dispatch"]))


# -- from the command line -----------------------------------------------------------------------------------


def command(*words: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "loopscope", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script_is_shown_and_recorded_as_it_is(tmp_path):
    """`loopscope show` and `loopscope run` on an unchanged script: fit, test and predict, all of it in place."""
    shown = command("show", str(SCRIPT), "out", folder=tmp_path)
    assert "trainer.fit(model, train_dataloaders=..., val_dataloaders=...)" in shown
    assert "Gradients" in shown
    assert not (tmp_path / "out").exists()
    command("run", "-o", "run.loop", str(SCRIPT), "out", folder=tmp_path)
    report = command("report", "run.loop", folder=tmp_path)
    assert "trainer.test(model, dataloaders=...) finished" in report
    assert "trainer.predict(model, dataloaders=...) finished" in report
    assert "0 unexpected" in report
    assert "exactly equal" in report


# -- what the map cannot read ------------------------------------------------------------------------------


def test_a_fit_that_lightning_refuses(tmp_path, capsys):
    """While it is recorded Lightning's own error comes up, and a line says why there is no map."""

    class Stepless(pl.LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> None: ...

    trainer = trainer_in(tmp_path)
    with (
        loopscope.record(trainer, tmp_path / "run.loop"),
        pytest.raises(MisconfigurationException, match="No `configure_optimizers"),
    ):
        trainer.fit(Stepless(), loader(1))
    assert "loopscope: the loop of fit cannot be read, and it runs without a map. " in capsys.readouterr().err


@pytest.mark.parametrize("by_name", [False, True])
def test_a_trainer_whose_fit_passes_all_on(by_name, tmp_path):
    """Its arguments are known by Lightning's names, those in `*args` by their places."""

    class Own(pl.Trainer):
        def fit(self, *args: Any, **kwargs: Any) -> None:
            super().fit(*args, **kwargs)

    with quiet():
        trainer = Own(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        with loopscope.record(trainer, tmp_path / "run.loop"):
            if by_name:
                quietly(lambda: trainer.fit(model=Net(), train_dataloaders=loader(2)))()
            else:
                quietly(trainer.fit)(Net(), loader(2))
    is_whole(reported(place(read(tmp_path / "run.loop"))))
