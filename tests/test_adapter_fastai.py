"""The fastai adapter: what it says of a learner, what it refuses, and that it never touches what it looks at."""

from __future__ import annotations

import contextlib
import functools
import random

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.all as cb
import numpy as np
import torch
from fastai.callback.core import Callback, CancelBatchException, _events
from fastai.learner import Learner, Recorder

from loopscope import adapters
from loopscope.adapters import fastai as adapter
from loopscope.errors import BadCallback, BadValue, UnknownChoice, UnknownObject
from loopscope.model import Handler, Loop, Repeat, Scope
from loopscope.views import Row, tree
from tests.adapters.cases.fastai import OneBatch, Shadowed, learner, override, patched


def handlers(loop: Loop, event: str) -> list[str]:
    return [handler.callback for handler in loop.binding.at(event)]


def the(loop: Loop, callback: str, event: str) -> Handler:
    return next(handler for handler in loop.binding.at(event) if handler.callback == callback)


def rows(loop: Loop, kind: str, name: str) -> list[Row]:
    return [row for _, row in tree(loop).walk() if row.kind == kind and row.name == name]


# -- nothing is changed ------------------------------------------------------------------------------------


def snapshot(learn: Learner) -> dict[str, object]:
    return {
        "learner": {name: id(value) for name, value in vars(learn).items()},
        "cbs": [id(one) for one in learn.cbs],
        "callbacks": [{name: id(value) for name, value in vars(one).items()} for one in learn.cbs],
        "weights": {name: value.clone().tolist() for name, value in learn.model.state_dict().items()},
        "modes": [module.training for module in learn.model.modules()],
        "requires_grad": [p.requires_grad for p in learn.model.parameters()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "random": random.getstate(),
        "loaders": [dl.rng.getstate() for dl in learn.dls.loaders],
        "class": {name: id(value) for name, value in vars(type(learn)).items()},
    }


@pytest.mark.parametrize("run", adapter.RUNS)
def test_looking_changes_nothing(run):
    """The learner, its callbacks, its weights, its data and every random state are the same before and after."""
    own = cb.GradientClip()
    learn = learner(own)
    before = snapshot(learn)
    tree(adapter.describe(learn, run, cbs=[cb.GradientClip(), cb.MixedPrecision]))
    assert snapshot(learn) == before
    assert learn.gradient_clip is own
    assert own.learn is learn


def test_extra_callbacks_stay_loose():
    """A callback given by `cbs=` is not attached to the learner, whatever its name."""
    extra = cb.GradientClip()
    adapter.describe(learner(cb.GradientClip()), "fit", cbs=extra)
    assert extra.learn is None


def test_an_error_in_between_leaves_the_learner_as_it_was():
    """A bad callback after a good one is refused, and the good one is not left behind."""
    learn = learner(cb.GradientClip())
    before = snapshot(learn)
    with pytest.raises(BadCallback):
        adapter.describe(learn, "fit", cbs=[cb.MixedPrecision(), 3])
    assert snapshot(learn) == before


# -- what is said ------------------------------------------------------------------------------------------


def test_callbacks_stand_by_order_then_insertion():
    """`order` sorts first; equals stay as they were added; the reason says so."""

    class First(Callback):
        order = 60

        def after_fit(self):
            pass

    class Second(First):
        pass

    loop = adapter.describe(learner(Second(), First()), "fit")
    assert handlers(loop, "after_fit") == ["ProgressCallback", "Second", "First"]
    assert the(loop, "First", "after_fit").reason == "order 60, added after Second"
    assert the(loop, "Recorder", "before_fit").reason == "order 50"


def test_one_cycle_adds_its_scheduler_and_says_who_added_it():
    """`fit_one_cycle` adds a ParamScheduler, behind callbacks of the same order that the learner had before."""
    loop = adapter.describe(learner(), "fit_one_cycle", epochs=1)
    assert the(loop, "ParamScheduler", "before_batch").origin == "added by fit_one_cycle"
    assert handlers(loop, "after_batch") == ["TrainEvalCallback", "Recorder", "ProgressCallback", "ParamScheduler"]


def test_validation_runs_four_events_and_not_the_callbacks_that_skip_it():
    """In validation the batch fires four events; TrainEvalCallback (`run_valid = False`) is not called there."""
    loop = adapter.describe(learner(), "validate")
    batch = rows(loop, "scope", "batch")[0]
    fired = [row.name for _, row in batch.walk() if row.kind == "event" and row.status == "always"]
    assert fired == ["before_batch", "after_pred", "after_loss", "after_batch"]
    skipped = next(row for row in rows(loop, "event", "after_batch")[0].children if row.name == "TrainEvalCallback")
    assert (skipped.status, skipped.why) == ("never", "run_valid is False: skipped while validating")


def test_batches_are_counted_from_the_data():
    """Repeats come from the learner's data and from `epochs`; what is not known yet keeps its name."""
    loop = adapter.describe(learner(n_trn=7, n_val=4), "fit")
    assert [str(row.repeat) for row in rows(loop, "scope", "batch")] == ["7", "4"]
    assert rows(loop, "scope", "epoch")[0].repeat == Repeat(0, None, "n_epoch")
    assert rows(adapter.describe(learner(), "fit", epochs=3), "scope", "epoch")[0].repeat == Repeat(3, 3)


def test_data_without_a_length_is_no_obstacle():
    """A loader over an iterable dataset has no length: the repeat keeps its name."""

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([])

    learn = learner()
    learn.dls.loaders[0] = torch.utils.data.DataLoader(Endless())
    assert str(rows(adapter.describe(learn, "fit"), "scope", "batch")[0].repeat) == "len(dl)"


def test_a_callback_that_is_switched_off_is_shown_as_never_until_the_fit_is_over():
    """`run = False` lasts one fit: never in the first fit of fine_tune, always in the second."""
    learn = learner(cb.GradientClip())
    learn.gradient_clip.run = False
    loop = adapter.describe(learn, "fine_tune", epochs=1)
    first, second = (row.children for row in rows(loop, "event", "before_step"))
    assert [(row.status, row.why) for row in first] == [("never", "run is False")]
    assert [row.status for row in second] == ["conditional"]


def test_trackers_switch_themselves_off_for_lr_find():
    """EarlyStoppingCallback sets `run` to False in before_fit of lr_find: its after_epoch is never called there."""
    loop = adapter.describe(learner(cb.EarlyStoppingCallback()), "lr_find")
    row = next(row for row in rows(loop, "event", "after_epoch")[0].children if row.name == "EarlyStoppingCallback")
    assert row.status == "never"
    ordinary = adapter.describe(learner(cb.EarlyStoppingCallback()), "fit")
    row = next(row for row in rows(ordinary, "event", "after_epoch")[0].children if row.name == "EarlyStoppingCallback")
    assert row.status == "always"


def test_lr_find_never_validates():
    """LRFinder raises CancelValidException before the first validation batch, and the map says who does."""
    loop = adapter.describe(learner(), "lr_find")
    batch = rows(loop, "scope", "batch")[1]
    assert (batch.status, batch.why) == ("never", "LRFinder.before_validate raises CancelValidException")
    assert any("after 100 batches (in epoch 34)" in note for note in loop.notes)


def test_without_default_callbacks_nothing_trains():
    """Without TrainEvalCallback `training` is never set: no backward pass, no step, and a note says so."""
    loop = adapter.describe(learner(default_cbs=False), "fit", epochs=1)
    assert [row.status for row in rows(loop, "scope", "backward")] == ["never", "never"]
    assert any("no backward pass and no optimizer step" in note for note in loop.notes)


def test_a_shadowing_attribute_is_shown_as_what_it_is():
    """A model attribute named after_loss is called by every callback without its own, and is said to be the model's."""
    loop = adapter.describe(learner(model=Shadowed()), "fit")
    assert handlers(loop, "after_loss") == ["TrainEvalCallback", "CastToTensor", "Recorder", "ProgressCallback"]
    handler = the(loop, "Recorder", "after_loss")
    assert handler.method == "learn.model.after_loss"
    assert any("learn.model.after_loss" in fact.text for fact in handler.facts if fact.kind == "note")
    assert handler.place is not None
    assert handler.place.file == Shadowed.after_loss.__code__.co_filename


def test_an_attribute_that_cannot_be_called_is_said_to_fail():
    """A number on the learner under the name of an event is what fastai would try to call."""
    learn = learner()
    learn.after_pred = 3
    handler = the(adapter.describe(learn, "fit"), "Recorder", "after_pred")
    assert any("cannot be called" in fact.text for fact in handler.facts)


def test_an_override_is_read_and_named():
    """A subclass's one_batch gives its own events, and the notes name it with its place."""
    loop = adapter.describe(override(OneBatch)(), "fit", epochs=1)
    assert rows(loop, "event", "after_backward") == []
    assert len(rows(loop, "event", "before_step")) == 2
    line = OneBatch.one_batch.__code__.co_firstlineno
    assert any("has its own one_batch" in note and f":{line}" in note for note in loop.notes)


def test_a_patched_instance_is_read_too():
    """A function put on the learner itself is where the loop comes from, and the notes say so."""
    loop = adapter.describe(patched(), "fit", epochs=1)
    assert rows(loop, "event", "before_backward") == []
    assert any("has its own _do_one_batch" in note for note in loop.notes)


def test_an_override_whose_source_is_gone_is_admitted():
    """A method made by exec has no source: its events are not guessed, the notes say that they are not shown."""
    space: dict[str, object] = {}
    exec("def _do_one_batch(self): self('after_pred')", space)
    learn = override(type("Typed", (Learner,), {"_do_one_batch": space["_do_one_batch"]}))()
    loop = adapter.describe(learn, "fit", epochs=1)
    assert any("cannot be read" in note for note in loop.notes)
    assert rows(loop, "event", "after_pred") == []
    assert len(rows(loop, "step", "unreadable")) == 2


def test_an_event_that_fastai_lacks_is_announced():
    """An override that fires an unknown event fails in fastai; the map says with which words."""

    class Lost(Learner):
        def _do_one_batch(self):
            self("after_everything")

    notes = adapter.describe(override(Lost)(), "fit").notes
    assert any("missing after_everything" in note for note in notes)


def test_ones_own_callback_is_marked_with_its_neighbours():
    """A callback given by `cbs=` is marked, and stands between those who really run before and after it."""

    class Mine(Callback):
        order = 55

        def after_batch(self):
            pass

    loop = adapter.describe(learner(), "fit", epochs=1, cbs=Mine)
    train, valid = (
        next(row for row in event.children if row.name == "Mine") for event in rows(loop, "event", "after_batch")
    )
    assert train.neighbours is not None
    assert valid.neighbours is not None
    assert (train.neighbours.before, train.neighbours.after) == ("Recorder", "ProgressCallback")
    assert the(loop, "Mine", "after_batch").mine
    assert the(loop, "Mine", "after_batch").origin == "cbs"


def test_ones_own_callback_that_nothing_calls_is_said_to_be_unheard():
    """fastai ignores a misspelt or an old event name without a word; the map has one, with the name that was meant."""

    class Old(Callback):
        def befor_batch(self):
            pass

    (note,) = adapter.describe(learner(), "fit", cbs=Old).notes
    said = "nothing in this run calls Old: it handles none of the events that fire"
    assert note == f"{said}: befor_batch (did you mean before_batch?)"


def test_callbacks_are_marked_also_where_the_call_takes_none():
    """lr_find has no `cbs=`: one's own stand as if they had been added to the learner."""
    loop = adapter.describe(learner(), "lr_find", cbs=cb.GradientClip())
    assert the(loop, "GradientClip", "before_step").mine
    assert "added by lr_find" in the(loop, "LRFinder", "before_fit").origin


def test_a_nested_loop_is_named():
    """A handler whose source calls `learn.validate()` is known to run a loop of its own."""

    class Checks(Callback):
        def after_train(self):
            self.learn.validate()

    assert the(adapter.describe(learner(Checks()), "fit"), "Checks", "after_train").nested == ("validate",)


def test_every_event_of_the_installed_fastai_has_a_description():
    """No event is left without words of our own."""
    docs = adapter.event_docs()
    assert list(docs) == list(_events)
    assert not [name for name, text in docs.items() if "no description" in text]


# -- callbacks whose source cannot be read -----------------------------------------------------------------


def unreadable() -> dict[str, Callback]:
    space: dict[str, object] = {"Callback": Callback}
    exec("class Typed(Callback):\n def after_batch(self): self.learn.loss = 1", space)
    return {
        "exec": space["Typed"](),
        "lambda": Callback(after_batch=lambda self: None),
        "partial": Callback(after_batch=functools.partial(print, "a")),
        "builtin": Callback(after_batch=print),
        "callable object": Callback(after_batch=functools.partial(functools.partial(max, 1), 2)),
    }


@pytest.mark.parametrize("name", list(unreadable()))
def test_a_callback_without_source_gives_fewer_facts_and_no_error(name):
    """Typed at a prompt, made by exec, a lambda, a partial, a compiled function: the handler stands, facts may lack."""
    loop = adapter.describe(learner(unreadable()[name]), "fit", epochs=1)
    assert len([h for h in loop.binding.at("after_batch") if h.callback in ("Callback", "Typed")]) == 1


def test_a_broken_repr_is_no_obstacle():
    """A callback whose `__repr__` fails is shown by its class name."""

    class Rude(Callback):
        def __repr__(self):
            raise RuntimeError

        def after_fit(self):
            pass

    assert the(adapter.describe(learner(Rude()), "fit"), "Rude", "after_fit").label == "Rude"


# -- what is refused ---------------------------------------------------------------------------------------


def test_what_is_no_learner_is_refused_by_name():
    """An object of another type, and the class instead of an instance, get an error that says what to pass."""
    with pytest.raises(UnknownObject, match=r"an object of type int is no learner.* fastai"):
        adapters.find(3)
    with pytest.raises(UnknownObject, match=r"the class Learner .* Pass an instance"):
        adapters.find(Learner)


@pytest.mark.parametrize("run", ["fitt", "", "_do_fit", "epoch", None, 3])
def test_an_unknown_run_is_refused_with_the_choices(run):
    """The error names what was given and what is accepted; private methods are no runs."""
    with pytest.raises(UnknownChoice, match="Accepted: fit, fit_one_cycle"):
        adapter.describe(learner(), run)


@pytest.mark.parametrize("bad", [3, "GradientClip", int, [cb.GradientClip(), print], object()])
def test_what_is_no_callback_is_refused(bad):
    """The error names it and says how a plain function becomes a callback."""
    with pytest.raises(BadCallback, match="is no fastai callback"):
        adapter.describe(learner(), "fit", cbs=bad)


@pytest.mark.parametrize("run", ["freeze", "save", "add_cb", "export"])
def test_a_method_that_runs_no_loop_is_no_run(run):
    """A method of fastai's that fires nothing is refused like an unknown run."""
    with pytest.raises(UnknownChoice, match="Accepted: fit"):
        adapter.describe(learner(), run)


def test_a_learner_that_was_never_built_is_refused():
    """An object without callbacks gets an error that asks for its `__init__`."""
    with pytest.raises(BadValue, match="Was its __init__ run"):
        adapter.describe(Learner.__new__(Learner), "fit")


def test_orders_that_cannot_be_compared_are_refused():
    """fastai fails to sort a text among numbers; the error names each callback's order."""
    odd = cb.GradientClip()
    learn = learner(odd)
    odd.order = "late"
    with pytest.raises(BadCallback, match="GradientClip 'late'"):
        adapter.describe(learn, "fit")


def test_what_callbacks_do_to_the_loop_is_noted():
    """A handler that adds callbacks or swaps the data is named: from there on the map may not hold."""

    class Adds(Callback):
        def before_fit(self):
            self.learn.add_cb(cb.GradientClip())

    (note,) = adapter.describe(learner(Adds()), "fit").notes
    assert note.startswith("Adds.before_fit changes the loop while it runs: learn.add_cb(")


def test_a_raise_that_may_be_suppressed_is_not_certain():
    """What `contextlib.suppress` may stop does not end the batch in the map; a generator handler runs nothing."""

    class Suppressed(Callback):
        def before_batch(self):
            with contextlib.suppress(CancelBatchException):
                raise CancelBatchException

        def after_pred(self):
            yield self.learn.validate()

    loop = adapter.describe(learner(Suppressed()), "fit", epochs=1)
    assert {row.status for row in rows(loop, "event", "after_loss")} == {"always"}
    assert the(loop, "Suppressed", "after_pred").nested == ()


def test_a_model_that_answers_look_ups_itself_is_noted():
    """A wrapper that delegates attributes may have an event's name behind it: the map cannot look, and says so."""

    class Wrapper(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

        def __getattr__(self, name):
            return super().__getattr__(name) if name == "inner" else getattr(self.inner, name)

    (note,) = adapter.describe(learner(model=Wrapper(Shadowed())), "fit").notes
    assert note.startswith("Wrapper answers look-ups by a __getattr__ of its own")


def test_a_callback_given_in_a_call_that_is_none_is_noted():
    """`learn.fit(1, cbs=[print])` fails in fastai; the map of that call says so."""
    notes = adapter.describe_call(learner(), "fit", {"n_epoch": 1, "cbs": [len]}).notes
    assert notes == ("<built-in function len> is given as a callback and is none: fastai fails there",)


def test_a_class_that_needs_arguments_is_refused_with_what_to_type():
    """fastai would build the class without arguments and fail; so do we, with the remedy."""

    class Needs(Callback):
        def __init__(self, what):
            pass

    with pytest.raises(BadCallback, match=r"Pass an instance: cbs=Needs\(...\)"):
        adapter.describe(learner(), "fit", cbs=Needs)


@pytest.mark.parametrize(
    ("run", "arguments"),
    [
        ("fit", {"epochs": -1}),
        ("fit", {"epochs": 1.5}),
        ("fit", {"epochs": "2"}),
        ("fit", {"epochs": True}),
        ("validate", {"epochs": 1}),
        ("get_preds", {"start_epoch": 1}),
        ("fit", {"epochs": 1, "start_epoch": -1}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(run, arguments):
    """Negative, fractional, textual numbers, and numbers that the run does not take."""
    with pytest.raises(BadValue):
        adapter.describe(learner(), run, **arguments)


def test_the_same_instance_twice_is_called_twice():
    """fastai appends what it is given, so an instance that the learner already has is called twice."""
    own = cb.GradientClip()
    loop = adapter.describe(learner(own), "fit", cbs=own)
    assert handlers(loop, "before_step") == ["GradientClip", "GradientClip"]


def test_recorder_is_found_by_its_real_place():
    """Each handler knows its file and line, also where fastai attached the docstring from outside."""
    handler = the(adapter.describe(learner(), "fit"), "Recorder", "before_train")
    assert handler.place is not None
    assert handler.place.line == Recorder.before_train.__code__.co_firstlineno
    assert handler.doc() == "Reset loss and metrics state"


def test_the_scopes_know_the_methods_that_they_come_from():
    """Each scope names the fastai method in which it stands."""

    def scopes(scope: Scope):
        yield scope.name, scope.method
        for node in scope.nodes():
            if isinstance(node, Scope):
                yield from scopes(node)

    found = dict(scopes(adapter.describe(learner(), "fit", epochs=1).root))
    assert found == {
        "fit": "Learner.fit",
        "epoch": "Learner._do_fit",
        "train": "Learner._do_epoch_train",
        "batch": "Learner.one_batch",
        "backward": "Learner._do_grad_opt",
        "step": "Learner._do_grad_opt",
        "validate": "Learner._do_epoch_validate",
    }
