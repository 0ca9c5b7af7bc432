"""The Transformers adapter: what it says of a trainer, what it refuses, and that it never touches what it looks at."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frameworks import need

pytestmark = need("transformers")

import numpy as np
import torch
from transformers.trainer import Trainer
from transformers.trainer_callback import (
    DefaultFlowCallback,
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
)
from transformers.training_args import TrainingArguments

import loopscope
from loopscope.adapters import transformers as adapter
from loopscope.adapters.transformers import lines, notes
from loopscope.adapters.transformers.control import steering
from loopscope.adapters.transformers.schedule import Every, Part, Plan, Times, Unit, schedule
from loopscope.adapters.transformers.settings import _share
from loopscope.errors import BadCallback, BadValue, UnknownChoice
from loopscope.model import Event, Handler, Loop, Repeat, Scope
from loopscope.parse import follow
from loopscope.views import Row, tree
from tests.adapters.cases.transformers import (
    HOOKS,
    SAVES,
    TWO,
    Counts,
    Inside,
    LogsInside,
    Numbers,
    Own,
    OwnLoader,
    OwnLoss,
    Picky,
    Remembers,
    Stream,
    Twice,
    knowing,
    resumed,
    steers,
    trainer,
    watch,
)
from tests.suite import quiet


def the(loop: Loop, callback: str, event: str) -> Handler:
    return next(handler for handler in loop.binding.at(event) if handler.callback == callback)


def rows(loop: Loop, kind: str, name: str) -> list[Row]:
    return [row for _, row in tree(loop).walk() if row.kind == kind and row.name == name]


def scopes(node: Any, name: str) -> list[Scope]:
    found = [node] if isinstance(node, Scope) and node.name == name else []
    return found + [one for child in (node.nodes() if isinstance(node, Scope) else ()) for one in scopes(child, name)]


def train(made: Trainer, **more: Any) -> Loop:
    return adapter.describe(made, "train", **more)


# -- nothing is changed ----------------------------------------------------------------------------------------


def snapshot(made: Trainer) -> dict[str, object]:
    return {
        "trainer": {name: id(value) for name, value in vars(made).items()},
        "args": {name: repr(value) for name, value in vars(made.args).items()},
        "control": vars(made.control).copy(),
        "state": repr(made.state),
        "handler": {name: id(value) for name, value in vars(made.callback_handler).items()},
        "callbacks": [(id(one), dict(vars(one))) for one in made.callback_handler.callbacks],
        "accelerator": [len(made.accelerator._models), len(made.accelerator._dataloaders)],
        "weights": {name: value.tolist() for name, value in made.model.state_dict().items()},
        "modes": [module.training for module in made.model.modules()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "random": random.getstate(),
        "class": {name: id(value) for name, value in vars(type(made)).items()},
    }


@pytest.mark.parametrize("run", adapter.RUNS)
def test_looking_changes_nothing(run, tmp_path):
    """Trainer, arguments, callbacks, weights and every random state are the same; no data loader was made."""
    made = trainer(tmp_path, Counts(), EarlyStoppingCallback(), metric_for_best_model="loss", **SAVES)
    before = snapshot(made)
    arguments = {"test_dataset": Numbers(3)} if run == "predict" else {}
    tree(adapter.describe(made, run, cbs=[Counts, Counts()], arguments=arguments))
    assert snapshot(made) == before
    assert not (tmp_path / "out" / "runs").exists()


def test_a_class_given_as_callback_is_not_built(tmp_path):
    """`cbs=Mine` shows where an instance would stand; the class is not called."""

    class Mine(TrainerCallback):
        def __init__(self):
            raise AssertionError("built")

        def on_save(self, args, state, control, **kwargs):
            pass

    loop = train(trainer(tmp_path, **SAVES), cbs=Mine)
    assert [handler.id for handler in loop.binding.at("on_save")] == ["Mine#3"]


# -- who is called, and why there ------------------------------------------------------------------------------


def test_the_defaults_stand_around_the_users_own(tmp_path):
    """DefaultFlowCallback is first, the printer last; the reason says who put it there."""
    made = trainer(tmp_path, Counts(), Counts(), eval_strategy="epoch")
    made.add_callback(EarlyStoppingCallback())
    loop = train(made)
    assert (
        the(loop, "DefaultFlowCallback", "on_step_end").reason
        == "1st: Trainer puts its DefaultFlowCallback before all others"
    )
    assert the(loop, "Counts", "on_log").reason == "2nd: in callbacks=, in the order given"
    assert the(loop, "PrinterCallback", "on_log").reason == "4th: Trainer adds it behind those of callbacks="
    assert the(loop, "EarlyStoppingCallback", "on_evaluate").reason == "5th: added when the Trainer was there already"
    assert [handler.id for handler in loop.binding.at("on_log")] == ["Counts#2", "Counts#3", "PrinterCallback#4"]
    assert the(loop, "PrinterCallback", "on_log").origin == "default"


def test_one_s_own_stand_where_add_callback_puts_them(tmp_path):
    """`cbs=` is marked, stands last, and the reason says where callbacks= would put it."""
    mine = Counts()
    loop = train(trainer(tmp_path), cbs=[mine])
    handler = the(loop, "Counts", "on_log")
    assert (handler.mine, handler.origin, handler.id) == (True, "cbs", "Counts#3")
    assert handler.reason.endswith("puts it before PrinterCallback")


def test_the_progress_bar_is_known(tmp_path):
    """Without disable_tqdm it is the progress bar that stands last."""
    loop = train(trainer(tmp_path, disable_tqdm=False))
    assert the(loop, "ProgressCallback", "on_step_end").reason.startswith("2nd: Trainer adds it")


def test_empty_methods_are_no_handlers(tmp_path):
    """What is inherited from TrainerCallback is called by Transformers and does nothing: it is not in the map."""
    loop = train(trainer(tmp_path))
    assert set(loop.binding.handlers) == {"on_step_end", "on_epoch_end", "on_log"}


def test_what_a_handler_says_and_does(tmp_path):
    """Its docstring, what its source does to the loop, whether it waits, and which flags it may set."""

    class Mine(TrainerCallback):
        def on_log(self, args, state, control, logs=None, model=None, **kwargs):
            """Look at the loss."""
            if model.linear.weight.max().item() > 3:
                control.should_training_stop = True

    handler = the(train(trainer(tmp_path, Mine())), "Mine", "on_log")
    kinds = {fact.kind: fact.text for fact in handler.facts}
    assert handler.doc() == "Look at the loss."
    assert kinds["note"] == "may set control.should_training_stop, which ends the training"
    assert "control.should_training_stop" in kinds["effect"]
    assert "item" in kinds["wait"]
    assert handler.sets == (("control.should_training_stop", None),)


def test_a_handler_that_runs_a_loop(tmp_path):
    """A handler that evaluates is known to run a loop inside this one."""
    loop = train(knowing(trainer(tmp_path, Inside())))
    assert "evaluate" in the(loop, "Inside", "on_epoch_end").nested


def test_something_that_is_no_callback(tmp_path):
    """An object in the list without the methods: the map says where Transformers fails, and so it does."""

    class Thing:
        def on_train_begin(self, args, state, control, **kwargs):
            pass

    made = trainer(tmp_path)
    made.callback_handler.callbacks.append(Thing())
    loop = train(made)
    assert any("Thing" in note and "no TrainerCallback" in note for note in loop.notes)
    assert the(loop, "Thing", "on_epoch_begin").raises[0].exception == "AttributeError"
    seen = watch(made)
    with quiet(), seen():
        made.train()
    assert seen.outcome == "AttributeError"
    assert follow(loop, seen.fired, seen.outcome).unexpected is None


# -- what the settings make of the loop ------------------------------------------------------------------------


def test_the_numbers_of_a_run(tmp_path):
    """Epochs, steps, batches of a step and of an evaluation are exact where data and settings say so."""
    loop = train(trainer(tmp_path, count=10, gradient_accumulation_steps=2, eval_strategy="epoch"))
    (epoch,) = scopes(loop.root, "epoch")
    assert epoch.repeat == Repeat(2, 2)
    assert [one.repeat for one in scopes(epoch, "step")] == [Repeat(2, 2), Repeat(1, 1)]
    assert scopes(scopes(epoch, "validate")[0], "batch")[0].repeat == Repeat(2, 2)


def test_epochs_given_take_the_place_of_the_trainer_s(tmp_path):
    """`epochs=3` counts instead of num_train_epochs and of max_steps, and the map says so."""
    loop = train(trainer(tmp_path, max_steps=2), epochs=3)
    assert scopes(loop.root, "epoch")[0].repeat == Repeat(3, 3)
    assert "with num_train_epochs=3 in place of what its args say" in loop.notes


def test_what_may_be_stopped_is_open_and_only_that(tmp_path):
    """EarlyStoppingCallback may end the training behind an evaluation: epochs may be fewer, their steps may not."""
    made = trainer(tmp_path, EarlyStoppingCallback(), metric_for_best_model="loss", num_train_epochs=5, **SAVES)
    (epoch,) = scopes(train(made).root, "epoch")
    assert epoch.repeat == Repeat(1, 5)
    assert scopes(epoch, "batch")[0].repeat == Repeat(4, 4)


def test_a_handler_that_may_ask_for_a_log_makes_that_conditional(tmp_path):
    """The row says what it depends on; without such a handler there is no row."""
    asking = train(trainer(tmp_path, steers("on_step_end", "should_log"), logging_strategy="no"))
    assert {row.why for row in rows(asking, "scope", "log")} == {"only if a handler sets control.should_log"}
    assert len(rows(train(trainer(tmp_path, logging_strategy="no")), "event", "on_log")) == 1


def test_what_is_irregular_is_told_in_words(tmp_path):
    """Where unrolling would take too many rows, the row says every how many steps."""
    loop = train(trainer(tmp_path, count=14, num_train_epochs=5, logging_steps=3))
    assert "only every 3 steps (logging_steps)" in {row.why for row in rows(loop, "event", "on_log")}


def test_several_datasets_are_evaluated_one_by_one(tmp_path):
    """A dict is one validation after the other, each with its name."""
    loop = adapter.describe(trainer(tmp_path, evaluate=TWO), "evaluate")
    assert [one.note for one in scopes(loop.root, "validate")] == ["first", "second"]
    given = adapter.describe(trainer(tmp_path, evaluate=TWO), "evaluate", arguments={"eval_dataset": "second"})
    assert [one.note for one in scopes(given.root, "validate")] == ["second"]


def test_the_steps_stand_where_they_are(tmp_path):
    """Each step has its line of source; an overridden one has that of the override."""
    loop = train(trainer(tmp_path, cls=OwnLoss))
    steps = {row.name: row for _, row in tree(loop).walk() if row.kind == "step"}
    assert steps["optimizer step"].text == "self.optimizer.step()"
    assert steps["optimizer step"].place.file.endswith("transformers/trainer.py")
    assert steps["compute_loss"].place.file == __file__.replace(
        "test_adapter_transformers", "adapters/cases/transformers"
    )


def test_a_checkpoint_is_read(tmp_path):
    """Resumed: the steps that are left, the intervals of the checkpoint, and callbacks made anew as the last."""
    more = {"restore_callback_states_from_checkpoint": True, "before": {"max_steps": 3, "logging_steps": 3}}
    case = resumed("x", Remembers, Counts, logging_steps=2, **more)
    with quiet():
        made = case.make(tmp_path)
    loop = train(made, arguments={"resume_from_checkpoint": True})
    first, second = scopes(loop.root, "epoch")
    assert [len(list(scopes(one, "batch"))) for one in (first, second)] == [1, 3]
    assert [handler.id for handler in loop.binding.at("on_step_end")] == [
        "DefaultFlowCallback#1",
        "Counts#2",
        "Remembers#4",
    ]
    assert (
        the(loop, "Remembers", "on_step_end").reason
        == "4th: made anew from the checkpoint's state, and added as the last"
    )
    assert any(note.startswith("resumed from ") and "3 steps" in note for note in loop.notes)


def test_pushing_to_the_hub(tmp_path, monkeypatch):
    """on_push_begin fires between the checkpoint and on_save, as often as the last upload is over."""

    class Pushes(Trainer):
        def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
            self.hub_model_id, self.push_in_progress = "me/it", None

    class Hub:
        def upload_folder(self, **kwargs: Any) -> Any:
            return type("Done", (), {"done": lambda self: True, "is_done": lambda self: True})()

    monkeypatch.setattr("transformers.trainer.hf_api", Hub)
    monkeypatch.setattr(Trainer, "_finish_current_push", lambda self: None)
    made = trainer(tmp_path, Counts(), cls=Pushes, push_to_hub=True, save_strategy="epoch", hub_strategy="checkpoint")
    loop = train(made)
    assert len(rows(loop, "event", "on_push_begin")) == 1
    seen = watch(made)
    with quiet(), seen():
        made.train()
    assert seen.outcome is None, seen.error
    assert "on_push_begin" in seen.order
    assert follow(loop, seen.fired).unexpected is None


# -- notes -----------------------------------------------------------------------------------------------------


def test_a_misspelt_hook_is_named_with_the_nearest(tmp_path):
    """Transformers ignores a method that is almost an event; the map does not."""

    class Mine(TrainerCallback):
        def on_epoch_ends(self, args, state, control, **kwargs):
            pass

        def on_batch_end(self, args, state, control, **kwargs):
            pass

    found = train(trainer(tmp_path, Mine())).notes
    never = "is never called: Transformers has no such event"
    assert f"Mine.on_epoch_ends {never} (did you mean on_epoch_end, on_epoch_begin or on_step_end?)" in found
    assert any(note.startswith("Mine.on_batch_end is never called") for note in found)
    assert "nothing in this run calls Mine: it handles none of the events that fire" in found


def test_a_misspelt_hook_is_named_with_up_to_three(tmp_path):
    """A word in place of another is near to several events: each of them may be meant."""

    class Mine(TrainerCallback):
        def on_step_finish(self, args, state, control, **kwargs):
            pass

    (note,) = [one for one in train(trainer(tmp_path, Mine())).notes if "on_step_finish" in one]
    assert note.endswith("(did you mean on_step_begin, on_step_end or on_substep_end?)")


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("eval_strategy", "IntervalStrategy: nothing is evaluated by it. Accepted: 'no', 'steps', 'epoch'"),
        ("logging_strategy", "IntervalStrategy: nothing is logged by it. Accepted: 'no', 'steps', 'epoch'"),
        ("save_strategy", "SaveStrategy: nothing is saved by it. Accepted: 'no', 'steps', 'epoch', 'best'"),
    ],
)
def test_a_bad_strategy_is_a_note(name, accepted, tmp_path):
    """Transformers compares with it in vain and says nothing; plain words that it knows are as good as its own."""
    made = trainer(tmp_path)
    setattr(made.args, name, "epoch")
    assert not any("Accepted" in note for note in train(made).notes)
    setattr(made.args, name, "nonsense")
    assert f"{name}='nonsense' is no {accepted}" in train(made).notes


OVERRIDES = [
    (OwnLoss, "compute_loss", "the loop is the same, what a batch does is its affair"),
    (LogsInside, "training_step", "the loop is the same, what a batch does is its affair; it fires log in between"),
    (Twice, "evaluate", "it calls Transformers' own, and fires log besides"),
    (Picky, "log", "what it fires, and in which order, is not known"),
    (Own, "_inner_training_loop", "what it fires, and in which order, is not known"),
    (OwnLoader, "get_train_dataloader", "how many batches there are is not known"),
]


@pytest.mark.parametrize(("cls", "method", "meaning"), OVERRIDES, ids=lambda one: getattr(one, "__name__", None))
def test_overrides_are_told(cls, method, meaning, tmp_path):
    """Each override of the loop is named with its place, and with what the map makes of it."""
    found = [note for note in train(trainer(tmp_path, cls=cls)).notes if f"has its own {method} (" in note]
    assert len(found) == 1
    assert found[0].endswith(f": {meaning}")
    assert "cases/transformers.py:" in found[0]


def test_a_wrapped_method_is_still_the_same(tmp_path, monkeypatch):
    """Somebody wraps Trainer.log to look on (functools.wraps): the loop is known, and the note says so."""
    stock = Trainer.log

    @functools.wraps(stock)
    def log(self, *args, **kwargs):
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "log", log)
    loop = train(trainer(tmp_path))
    assert any("Trainer has its own log" in note and note.endswith("it calls Transformers' own") for note in loop.notes)
    assert isinstance(next(node for node in loop.root.body if isinstance(node, Event) and node.name == "on_log"), Event)


def test_intervals_longer_than_the_run_are_told(tmp_path):
    """The default of 500 steps is more than many runs have."""
    found = train(trainer(tmp_path)).notes
    assert "logging_steps=500 is more than the 8 steps of the run: nothing is logged before its end" in found


def test_what_the_settings_leave_unused_is_told(tmp_path):
    """An eval_dataset that train does not use, a metric that a dict of datasets lacks, a flow that is gone."""
    made = trainer(tmp_path)
    assert "eval_strategy is 'no': train does not use the eval_dataset" in train(made).notes
    made.remove_callback(DefaultFlowCallback)
    assert any(note.startswith("there is no DefaultFlowCallback") for note in train(made).notes)
    several = trainer(tmp_path, evaluate=TWO, metric_for_best_model="loss", **SAVES)
    assert any("metric_for_best_model='loss'" in note for note in train(several).notes)


def test_a_version_that_was_not_tested_is_told(tmp_path, monkeypatch):
    """The version, what was tested, and a loop whose source is another."""
    assert list(notes.of_version("5.24.3")) == []
    (note,) = notes.of_version("4.57.1")
    assert note.startswith("transformers 4.57.1 is not among the tested versions (from 5.24 on, below 5.25)")
    monkeypatch.setitem(lines.SHAPE, "log", ("on_log", "on_other"))
    assert any(note.startswith("Trainer.log: the source in this version") for note in train(trainer(tmp_path)).notes)


# -- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "more", "error", "message"),
    [
        ("fit", {}, UnknownChoice, r"^unknown run 'fit'.* Accepted: train, evaluate, predict\.$"),
        ("train", {"start_epoch": 1}, BadValue, "resume_from_checkpoint"),
        ("evaluate", {"epochs": 1}, BadValue, "evaluate has no epochs"),
        ("train", {"epochs": -1}, BadValue, "negative"),
        ("train", {"epochs": 1.5}, BadValue, "no whole number"),
        (
            "train",
            {"arguments": {"data": 1}},
            BadValue,
            r"train takes no data\. Accepted: resume_from_checkpoint, trial",
        ),
        ("predict", {}, BadValue, "type test_dataset=..."),
        ("train", {"arguments": {"resume_from_checkpoint": True}}, BadValue, "There is no checkpoint in"),
        ("train", {"arguments": {"resume_from_checkpoint": "nowhere"}}, BadValue, "nowhere is no checkpoint"),
        ("train", {"cbs": print}, BadCallback, "is no callback of Transformers"),
        ("train", {"cbs": Inside.__mro__[-1]}, BadCallback, "the class object is no callback"),
    ],
)
def test_what_makes_no_sense_is_refused(run, more, error, message, tmp_path):
    """The error names what was given, and says what is accepted or what to type."""
    with pytest.raises(error, match=message):
        adapter.describe(trainer(tmp_path), run, **more)


def test_a_class_that_needs_arguments_is_refused(tmp_path):
    """Pass an instance, says the error."""

    class Needs(TrainerCallback):
        def __init__(self, what):
            self.what = what

    with pytest.raises(
        BadCallback, match=r"Needs cannot be built without arguments\. Pass an instance: Needs\(\.\.\.\)"
    ):
        train(trainer(tmp_path), cbs=Needs)


def test_a_trainer_without_data(tmp_path):
    """Asked for by hand it is an error that says what to type; before a real call it is a note, and a map."""
    made = trainer(tmp_path)
    made.train_dataset = None
    with pytest.raises(
        BadValue, match=r"^This Trainer has no train_dataset.*Type Trainer\(model, args, train_dataset=\.\.\.\)"
    ):
        train(made)
    loop = adapter.describe_call(made, "train", {})
    assert loop.notes[0].startswith("this call will fail: this Trainer has no train_dataset")
    seen = watch(made)
    with quiet(), seen():
        made.train()
    assert seen.outcome == "ValueError"
    assert follow(loop, seen.fired, seen.outcome).unexpected is None


def test_a_trainer_without_data_to_evaluate(tmp_path):
    """evaluate() without any says so."""
    made = trainer(tmp_path)
    made.eval_dataset = None
    with pytest.raises(BadValue, match="This Trainer has no eval_dataset"):
        adapter.describe(made, "evaluate")


def test_half_built_arguments_are_named(tmp_path):
    """A field that is missing, or with which no loop can run, is named with what to type."""
    made = trainer(tmp_path)
    made.args = SimpleNamespace(output_dir="out")
    with pytest.raises(BadValue, match=r"trainer\.args is a SimpleNamespace without .*half built"):
        train(made)
    assert adapter.describe_call(made, "train", {}).notes[0].startswith("this call will fail: trainer.args")
    made = trainer(tmp_path)
    made.args.gradient_accumulation_steps = 0
    with pytest.raises(BadValue, match=r"trainer\.args\.gradient_accumulation_steps is 0, with which no loop can run"):
        train(made)
    made = trainer(tmp_path)
    made.args.logging_steps = 0
    with pytest.raises(BadValue, match=r"trainer\.args\.logging_steps is 0"):
        train(made)
    with pytest.raises(BadValue, match=r"has no callback_handler\. Was its __init__ run"):
        train(object.__new__(Trainer))


@pytest.mark.parametrize("run", ["train", "evaluate"])
def test_bad_arguments_that_were_never_set_up_are_refused(run, tmp_path):
    """The defaults of the class are no settings: such arguments fail when they are asked for their process."""
    made = trainer(tmp_path)
    made.args = object.__new__(TrainingArguments)
    with pytest.raises(BadValue, match=r"no distributed_state.*Was TrainingArguments\(\.\.\.\) run\? Type"):
        adapter.describe(made, run)
    assert "this call will fail: trainer.args" in adapter.describe_call(made, run, {}).notes[0]


def test_a_bad_trainer_without_a_model_is_refused(tmp_path):
    """Every run fails without one, but a training that makes it with model_init."""
    made = trainer(tmp_path)
    model, made.model = made.model, None
    for run, arguments in (("train", {}), ("evaluate", {}), ("predict", {"test_dataset": Numbers(3)})):
        with pytest.raises(BadValue, match=rf"a Trainer without a model.*Trainer\.{run} fails.*model_init="):
            adapter.describe(made, run, arguments=arguments)
    assert "a Trainer without a model" in adapter.describe_call(made, "train", {}).notes[0]
    made.model_init = lambda: model
    assert not any("fail" in note for note in train(made).notes)
    with pytest.raises(BadValue, match="model_init is called by train only"):
        adapter.describe(made, "evaluate")


def test_a_stream_without_max_steps(tmp_path):
    """Data without a length, and no max_steps: Transformers fails on it, and the error says what to type."""
    made = trainer(tmp_path, train=Stream(4), max_steps=3)
    made.args.max_steps = -1
    with pytest.raises(BadValue, match=r"no length.*TrainingArguments\(max_steps=1000\)"):
        train(made)


# -- what handlers may do to control ---------------------------------------------------------------------------


def helper(steering_wheel: Any) -> None:
    steering_wheel.should_save = True


class Wheel(TrainerCallback):
    """Handlers that set flags in all sorts of ways."""

    def on_step_begin(self, a, s, c, **kwargs):
        helper(c)

    def on_step_end(self, *args, **kwargs):
        repr(args)

    def on_epoch_begin(self, args, state, control, **kwargs):
        same = control
        setattr(same, "should_log", True)  # noqa: B010

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_evaluate = False
        return control

    def on_evaluate(self, args, state, control, **kwargs):
        self.stop(control, state.epoch > 1)

    def stop(self, what, now):
        what.should_epoch_stop = now

    def on_log(self, args, state, control, **kwargs):
        return replace(control, should_log=True)

    def on_save(self, args, state, control, **kwargs):
        self.other.on_save(args, state, control)

    def on_train_begin(self, args, state, control, **kwargs):
        state.max_steps = 5
        self.trainer.remove_callback(self)

    def on_train_end(self, args, state, control, **kwargs):
        control._new_epoch()

    def on_predict(self, args, state, control, **kwargs):
        super().on_predict(args, state, control, **kwargs)


FLAGS = ("should_training_stop", "should_epoch_stop", "should_log", "should_evaluate", "should_save")
ALL = {flag: {None} for flag in FLAGS}


@pytest.mark.parametrize(
    ("event", "flags"),
    [
        ("on_step_begin", {"should_save": {True}}),
        ("on_step_end", {}),
        ("on_epoch_begin", {"should_log": {True}}),
        ("on_epoch_end", {"should_evaluate": {False}}),
        ("on_evaluate", {"should_epoch_stop": {None}}),
        ("on_log", ALL),
        ("on_save", ALL),
        ("on_train_begin", {}),
        ("on_train_end", ALL),
        ("on_predict", {}),
    ],
)
def test_which_flags_a_handler_may_set(event, flags):
    """What it sets itself or through what it calls; all of them where that cannot be followed."""
    assert steering(getattr(Wheel, event), Wheel).flags == flags


def test_numbers_and_callbacks_that_a_handler_may_change():
    """max_steps decides everything; a callback that removes callbacks makes calls conditional."""
    found = steering(Wheel.on_train_begin, Wheel)
    assert (found.numbers, found.removes, found.adds) == ({"all"}, True, False)


def test_the_stock_callbacks_are_read():
    """EarlyStoppingCallback ends the training, DefaultFlowCallback sets what the schedule knows; the others nothing."""
    read = {
        (cls.__name__, name): steering(vars(cls)[name], cls).flags
        for cls in (EarlyStoppingCallback, PrinterCallback, ProgressCallback)
        for name in HOOKS
        if name in vars(cls)
    }
    assert {key: value for key, value in read.items() if value} == {
        ("EarlyStoppingCallback", "on_evaluate"): {"should_training_stop": {True}}
    }
    assert set(TrainerControl().state()["args"]) == set(FLAGS)


# -- the schedule is exact -------------------------------------------------------------------------------------


def plain(parts: tuple[Part, ...]) -> list[Unit]:
    found: list[Unit] = []
    for part in parts:
        found += plain(part.what) * (part.times or 1) if isinstance(part, Times) else [part]
    return found


def simulated(plan: Plan) -> list[tuple[list[Unit], bool]]:
    """What Transformers' loop and DefaultFlowCallback do, step by step."""
    epochs: list[tuple[list[Unit], bool]] = []
    number, first = plan.done, plan.done // plan.steps
    for epoch in range(first, plan.epochs):
        units: list[Unit] = []
        ended = False
        for step in range(plan.done % plan.steps if epoch == first and plan.skips else 0, plan.steps):
            number += 1
            left = plan.batches - step * plan.accumulation
            due = {
                kind: (every.by_steps and number % every.steps == 0 and number >= every.delay)
                or (every.first and number == 1)
                or (every.last and number >= plan.max_steps and number >= every.delay)
                for kind, every in (("log", plan.log), ("evaluate", plan.evaluate), ("save", plan.save))
            }
            units.append(Unit(min(plan.accumulation, left), **due))
            if number >= plan.max_steps:
                ended = True
                break
        epochs.append((units, plan.log.epoch))
        if ended:
            break
    return epochs


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.integers(1, 13), st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 30),
    st.lists(st.integers(1, 7), min_size=3, max_size=3),
    st.integers(0, 20),
    st.booleans(),
)
def test_a_schedule_written_out_is_what_a_simulation_gives(size, most, steps, done, first):
    """Folded and grouped as it may be, each step of the run is there, with what follows it."""
    batches, each, epochs = size
    count = -(-batches // each)
    log = Every(by_steps=True, steps=steps[0], first=first)
    evaluate = Every(by_steps=True, steps=steps[1], last=True, delay=3)
    save = Every(by_steps=True, steps=steps[2], last=True)
    plan = Plan(epochs, count, batches, each, most, log, evaluate, save, done=done)
    found = schedule(plan, most=10_000)
    assert found.opened == frozenset()
    written = [plain(epoch.parts) for times in found.epochs for epoch in times.what * times.times]
    assert written == [units for units, _ in simulated(plan)]
    small = schedule(plan)
    assert small.size <= 5 or small.opened == {"log", "evaluate", "save"}
    assert [len(plain(one.parts)) for times in small.epochs for one in times.what * times.times] == list(
        map(len, written)
    )


def test_a_long_run_is_read_quickly():
    """A million steps are a handful of rows; what is too long to look at is left open."""
    log, save = Every(by_steps=True, steps=10), Every(by_steps=True, steps=1000, last=True)
    found = schedule(Plan(100, 10_000, 10_000, 1, 1_000_000, log, NOTHING, save))
    assert found.size <= 5
    assert schedule(Plan(10**6, 10, 10, 1, 10**7, log)).epochs[0].times is None


NOTHING = Every()


@pytest.mark.parametrize(
    ("whole", "world", "index", "drops", "even", "split", "share"),
    [
        (8, 2, 0, False, True, False, 4),
        (9, 2, 1, False, True, False, 5),
        (9, 2, 1, True, True, False, 4),
        (9, 2, 1, False, False, False, 4),
        (9, 2, 0, False, False, False, 5),
        (9, 2, 0, False, True, True, 9),
    ],
)
def test_the_share_of_a_process(whole, world, index, drops, even, split, share):  # noqa: PLR0913
    """Several processes share the batches as accelerate's BatchSamplerShard deals them out."""
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler, SequentialSampler

    sampler = BatchSampler(SequentialSampler(range(whole * world)), world, drops)
    real = BatchSamplerShard(sampler, world, index, split, even)
    args = type("Args", (), {"world_size": world, "process_index": index})()
    accelerator = type("Accelerator", (), {"split_batches": split, "even_batches": even})()
    assert _share(whole, args, accelerator, drops) == len(real) == share


# -- random settings, random handlers --------------------------------------------------------------------------

STEERED = [name for name in HOOKS if name not in ("on_init_end", "on_push_begin", "on_predict", "on_train_end")]


@pytest.mark.parametrize("seed", range(25))
def test_whatever_the_settings_and_handlers_are_the_map_holds(seed, tmp_path):
    """Random settings, and handlers that set random flags at random events: what fires is what the tree says."""
    pick = random.Random(seed)
    callbacks = [
        steers(pick.choice(STEERED), pick.choice(list(ALL)), pick.random() < 0.85, pick.randint(1, 4))
        for _ in range(pick.choice([0, 1, 2]))
    ]
    made = trainer(
        tmp_path,
        *callbacks,
        count=pick.randint(1, 12),
        num_train_epochs=pick.choice([1, 2, 3, 1.5]),
        gradient_accumulation_steps=pick.choice([1, 1, 2, 3]),
        max_steps=pick.choice([-1, -1, 5, 9]),
        logging_strategy=pick.choice(["steps", "epoch", "no"]),
        logging_steps=pick.choice([1, 2, 3, 0.4]),
        logging_first_step=pick.random() < 0.3,
        eval_strategy=pick.choice(["steps", "epoch", "no"]),
        eval_steps=pick.choice([1, 2, 5]),
        eval_delay=pick.choice([0, 0, 1, 1.5]),
        eval_on_start=pick.random() < 0.2,
        save_strategy=pick.choice(["steps", "epoch", "no", "best"]),
        save_steps=pick.choice([1, 2, 5]),
        metric_for_best_model="loss",
        evaluate=pick.choice([Numbers(3), Numbers(5)]),
    )
    loop = train(made)
    seen = watch(made)
    with quiet(), seen():
        made.train()
    assert seen.outcome is None, seen.error
    followed = follow(loop, seen.fired)
    assert followed.unexpected is None
    assert followed.events == len(seen.fired)


# -- as a reader sees it ---------------------------------------------------------------------------------------


def test_the_map_as_text(tmp_path):
    """A small training with accumulation, whole."""
    made = trainer(
        tmp_path,
        EarlyStoppingCallback(3),
        count=10,
        gradient_accumulation_steps=2,
        metric_for_best_model="loss",
        **SAVES,
    )
    text = str(loopscope.inspect(made))
    assert text == TEXT


TEXT = """\
trainer.train() [Trainer, transformers 5.24.0]
note: logging_steps=500 is more than the 6 steps of the run: nothing is logged before its end

- prepare
on_train_begin: EarlyStoppingCallback
epoch x 1-2
  on_epoch_begin
  step x 2
    - draw a batch
    on_step_begin
    batch
      - forward, backward
      on_substep_end
    batch
      - forward, backward, clip the gradients
      on_pre_optimizer_step
      - optimizer step
      on_optimizer_step
      - zero_grad
      on_step_end: DefaultFlowCallback
  step
    - draw a batch
    on_step_begin
    batch
      - forward, backward, clip the gradients
      on_pre_optimizer_step
      - optimizer step
      on_optimizer_step
      - zero_grad
      on_step_end: DefaultFlowCallback
  on_epoch_end: DefaultFlowCallback
  validate
    batch x 2
      - draw a batch, forward
      on_prediction_step
    on_log: PrinterCallback
    on_evaluate: EarlyStoppingCallback (may set control.should_training_stop, which ends the training)
  - save a checkpoint
  on_save
on_log: PrinterCallback
on_train_end"""
