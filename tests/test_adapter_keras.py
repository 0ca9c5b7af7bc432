"""The Keras adapter: what it says of a model, what it refuses, and that it never touches what it looks at."""

from __future__ import annotations

import functools
import linecache
import warnings
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = [need("keras"), pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

import keras
import numpy as np
import torch
from keras.callbacks import (
    BackupAndRestore,
    Callback,
    CallbackList,
    EarlyStopping,
    History,
    LambdaCallback,
    ModelCheckpoint,
    ProgbarLogger,
    TerminateOnNaN,
)

import loopscope
from loopscope import adapters
from loopscope.adapters import keras as adapter
from loopscope.errors import BadCallback, BadValue, UnknownChoice, UnknownObject
from loopscope.model import Event, Handler, Loop, Scope, Step
from loopscope.parse import follow
from loopscope.views import tree
from tests.adapters.cases import keras as cases
from tests.adapters.cases.keras import Both, Counts, Old, OwnFit, OwnStep, Rows, Safe, X, Y, generator, loader, model
from tests.suite import witnessed

FIT = {"x": X, "y": Y, "batch_size": 4}


def fit(one: Any = None, *, cbs: object = None, **arguments: Any) -> Loop:
    return adapter.describe(one or model(), "fit", cbs=cbs, arguments={**FIT, **arguments})


def handlers(loop: Loop, event: str) -> list[str]:
    return [handler.id for handler in loop.binding.at(event)]


def the(loop: Loop, callback: str, event: str) -> Handler:
    return next(handler for handler in loop.binding.at(event) if handler.callback == callback)


def scopes(node: Any, depth: int = 0) -> list[str]:
    """The scopes of a loop as lines: `["epoch ×2", "  batch ×3"]`."""
    found = []
    for child in node.nodes() if isinstance(node, Scope) else ():
        if isinstance(child, Scope):
            found += [f"{'  ' * depth}{child.name} ×{child.repeat}", *scopes(child, depth + 1)]
    return found


def events(node: Any) -> list[Event]:
    return [node] if isinstance(node, Event) else [e for n in getattr(node, "nodes", list)() for e in events(n)]


def steps(node: Any) -> list[Step]:
    return [node] if isinstance(node, Step) else [s for n in getattr(node, "nodes", list)() for s in steps(n)]


def conditions(loop: Loop, scope: str) -> list[str]:
    """Why the scopes of that name are entered or not."""
    return [row.why for _, row in tree(loop).walk() if row.kind == "scope" and row.name == scope]


def noted(loop: Loop, text: str) -> bool:
    return any(text in note for note in loop.notes)


def really_fails(call: Any) -> bool:
    """Whether Keras itself raises there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception:
            return True
    return False


# -- nothing is changed ------------------------------------------------------------------------------------


def snapshot(one: Any, callbacks: list[Any]) -> dict[str, object]:
    return {
        "model": {name: id(value) for name, value in vars(one).items()},
        "callbacks": [{name: id(value) for name, value in vars(callback).items()} for callback in callbacks],
        "class": {name: id(value) for name, value in vars(type(one)).items()},
        "modes": [module.training for module in one.modules()],
        **cases.state(one),
    }


@pytest.mark.parametrize("run", adapter.RUNS)
def test_looking_changes_nothing(run):
    """The model, its callbacks and every random state are the same as before; no callback learns of the model."""
    one, callbacks = model(), [EarlyStopping(), Counts(), TerminateOnNaN()]
    before = snapshot(one, callbacks)
    data = {"x": X} if run == "predict" else {"x": X, "y": Y}
    tree(adapter.describe(one, run, cbs=Safe(), arguments={**data, "callbacks": callbacks}))
    assert snapshot(one, callbacks) == before
    assert callbacks[0].model is None


def test_a_model_that_is_not_built_is_not_built_by_looking():
    """Nothing of the model is called: its layers stay without weights."""
    one = model(built=False)
    fit(one)
    assert not one.built


def test_a_generator_is_not_drawn_from():
    """Keras draws two batches when it begins; the map draws none."""
    data = generator(3)
    fit(x=data, y=None)
    assert len(list(data)) == 3


# -- who is called -----------------------------------------------------------------------------------------


def test_callbacks_stand_as_they_were_given_then_history_then_the_bar():
    """The list's order is the calling order; the defaults come behind it, and say why they are there."""
    loop = fit(callbacks=[Old(), Counts(), Old()], verbose=1)
    assert handlers(loop, "on_train_batch_end") == ["Old#1", "Counts#2", "Old#3", "ProgbarLogger#5"]
    assert handlers(loop, "on_epoch_end") == ["Counts#2", "History#4", "ProgbarLogger#5"]
    assert the(loop, "Counts", "on_epoch_end").reason == "2nd in callbacks"
    assert the(loop, "History", "on_epoch_end").reason == "added by fit behind yours, since none of these is a History"
    bar = the(loop, "ProgbarLogger", "on_epoch_end")
    assert (bar.reason, bar.origin) == ("added by fit as the last, since verbose is not 0", "default")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["History#1", "ProgbarLogger#2"]),
        ({"verbose": 0}, ["History#1"]),
        ({"verbose": False}, ["History#1"]),
        ({"callbacks": [History()]}, ["History#1", "ProgbarLogger#2"]),
        ({"callbacks": [ProgbarLogger(), History()]}, ["ProgbarLogger#1", "History#2"]),
        ({"callbacks": [ProgbarLogger()], "verbose": 0}, ["ProgbarLogger#1", "History#2"]),
    ],
)
def test_the_defaults_depend_on_what_is_given(arguments, expected):
    """One's own History or ProgbarLogger takes the place of Keras's, wherever it stands; `verbose=0` adds no bar."""
    assert handlers(fit(**arguments), "on_train_begin") == expected


def test_evaluate_and_predict_have_no_history():
    """Only fit adds a History."""
    assert handlers(adapter.describe(model(), "evaluate", arguments=FIT), "on_test_begin") == ["ProgbarLogger#1"]
    loop = adapter.describe(model(), "predict", arguments={"x": X, "verbose": 0})
    assert not loop.binding.handlers


def test_nothing_is_added_to_a_callback_list():
    """A CallbackList is taken as it is, its settings for the pool included; without a History fit fails at its end."""
    held = CallbackList([Old(), Counts()])
    loop = fit(callbacks=held)
    assert handlers(loop, "on_train_batch_end") == ["Old#1", "Counts#2"]
    assert noted(loop, "Keras adds neither History nor ProgbarLogger")
    assert noted(loop, "without a History fit fails at its very end")
    assert really_fails(lambda: model().fit(**FIT, callbacks=held, verbose=0))
    whole = CallbackList([Old()], add_history=True, model=model())
    assert not noted(fit(callbacks=whole), "without a History")


def test_the_older_hooks_are_reached_through_the_base_class():
    """`on_batch_end` is a handler of `on_train_batch_end`, where nothing else is in its place; the reason says so."""
    loop = fit(callbacks=[Old(), Both()])
    old, both = loop.binding.at("on_train_batch_end")[:2]
    assert (old.method, both.method) == ("on_batch_end", "on_train_batch_end")
    assert old.reason == "1st in callbacks; reached through Callback.on_train_batch_end, which calls on_batch_end"
    assert old.place is not None
    assert old.place.line == Old.on_batch_end.__code__.co_firstlineno
    assert both.reason == "2nd in callbacks"


def test_functions_on_an_instance_are_handlers():
    """A LambdaCallback's functions stand at their events, with the place of the function itself."""

    def done(epoch, logs):
        """Say that it is done."""

    loop = fit(callbacks=[LambdaCallback(on_epoch_end=done)])
    handler = the(loop, "LambdaCallback", "on_epoch_end")
    assert handler.doc() == "Say that it is done."
    assert handler.place is not None
    assert handler.place.line == done.__code__.co_firstlineno
    assert handlers(loop, "on_epoch_begin") == ["ProgbarLogger#3"]


def test_docs_effects_and_waits_are_said():
    """What a handler's author says, what its source does and where it waits for the device stand beside it."""

    class Notes(Callback):
        def on_epoch_end(self, epoch, logs=None):
            """Keep the weights."""
            self.kept = self.model.get_weights()
            self.model.stop_training = True

    handler = the(fit(callbacks=[Notes()]), "Notes", "on_epoch_end")
    assert handler.doc() == "Keep the weights."
    assert "model.stop_training" in (handler.effect() or "")
    assert [fact.text for fact in handler.facts if fact.kind == "wait"] == [
        "self.model.get_weights(): copies every weight to the CPU"
    ]
    assert "may end the run: it sets model.stop_training" in [fact.text for fact in handler.facts]


def test_a_loop_inside_a_handler_is_named():
    """`self.model.evaluate(...)` in a handler is a run inside the run."""

    class Inside(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(X, Y)

    assert the(fit(callbacks=[Inside()]), "Inside", "on_epoch_end").nested == ("evaluate",)


def test_a_callback_shows_what_it_was_made_with():
    """Without a repr of its own a callback is shown with the plain values that are not the defaults."""
    loop = fit(callbacks=[EarlyStopping("loss", patience=3), ModelCheckpoint("a.keras", save_freq=2)])
    labels = [handler.label for handler in loop.binding.at("on_epoch_end")]
    assert labels[:2] == [
        "EarlyStopping(monitor='loss', patience=3)",
        "ModelCheckpoint(filepath='a.keras', save_freq=2)",
    ]


# -- the pool of threads -----------------------------------------------------------------------------------


def pooled(loop: Loop) -> list[str]:
    return list(dict.fromkeys(event.name for event in events(loop.root) if event.how == "apart"))


@pytest.mark.parametrize(
    ("callbacks", "expected"),
    [
        ([], ["on_train_batch_end", "on_test_batch_end"]),
        ([EarlyStopping()], ["on_train_batch_end", "on_test_batch_end"]),
        ([Safe()], ["on_train_batch_end", "on_test_batch_end"]),
        ([Old()], ["on_test_batch_end"]),
        ([Safe(), LambdaCallback(on_test_batch_end=print)], ["on_train_batch_end"]),
        ([Counts()], []),
        (Counts(), ["on_train_batch_end", "on_test_batch_end"]),
        ({"one": Counts()}, ["on_train_batch_end", "on_test_batch_end"]),
    ],
)
def test_which_events_a_pool_of_threads_sees_to(callbacks, expected):
    """A list without an overridden `*_batch_end` leaves these to the pool; what is no list is not looked through."""
    loop = fit(callbacks=callbacks, validation_data=(X, Y), verbose=1)
    assert pooled(loop) == expected
    assert noted(loop, f"the handlers of {' and '.join(expected)} are called by a pool") is bool(expected)
    for name in expected:
        notes = [[fact.text for fact in handler.facts] for handler in loop.binding.at(name)]
        assert all("called by a thread of CallbackList's pool, while the loop goes on" in one for one in notes)


def test_a_callback_that_is_not_in_a_list_is_not_asked():
    """A callback by itself is called by the pool even where it overrides the hook: the map says what to type."""
    assert noted(fit(callbacks=Old()), "only in a list or tuple does Keras see that Old handles on_train_batch_end")
    assert not noted(fit(callbacks=[Safe()]), "only in a list or tuple")


def test_a_backend_without_threads_has_no_pool(monkeypatch):
    """Where Keras says that the backend is not safe for threads, all handlers run in the main thread."""
    monkeypatch.setattr("keras.src.backend.IS_THREAD_SAFE", False)
    assert pooled(fit()) == []


# -- real runs beside those of the conformance suite --------------------------------------------------------


@pytest.mark.parametrize("case", cases.COUNTED, ids=lambda case: case.name)
def test_what_fires_is_what_the_tree_says(case, tmp_path):
    """However the number of batches and epochs comes about, and whoever is called."""
    watch, loop = witnessed(cases, case, tmp_path)
    followed = follow(loop, watch.fired, watch.outcome, nested=watch.nested)
    assert followed.unexpected is None
    assert followed.events == len(watch.fired) > 1


# -- how often ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"batch_size": None}, "1"),
        ({"batch_size": 3}, "3"),
        ({"batch_size": None, "steps_per_epoch": 4}, "4"),
        ({"batch_size": 2, "steps_per_epoch": 9}, "4"),
        ({"x": [X, X]}, "2"),
        ({"x": {"a": torch.tensor(X)}}, "2"),
        ({"x": loader(3), "y": None}, "3"),
        ({"x": Rows(5), "y": None}, "5"),
        ({"x": cases.Endless(), "y": None, "steps_per_epoch": 7}, "0–7"),
        ({"x": cases.Endless(), "y": None}, "batches"),
        ({"x": generator(2), "y": None}, "batches"),
        ({"x": loader(3, cases.Stream()), "y": None}, "batches"),
        ({"x": None, "y": None}, "batches"),
        ({"validation_split": 0.5}, "1"),
    ],
)
def test_batches_are_counted_as_keras_counts_them(arguments, expected):
    """From arrays and a batch size, a torch loader, a PyDataset or `steps_per_epoch`; what has no length stays open."""
    assert f"  batch ×{expected}" in scopes(fit(**arguments).root)


def test_epochs_that_leave_a_rest_to_the_next_are_told_apart():
    """With 4 batches and 3 steps, epochs have 3 and 1 batches in turn: no message of Keras says that beforehand."""
    loop = fit(batch_size=2, steps_per_epoch=3, epochs=5, callbacks=[Counts()])
    assert scopes(loop.root) == ["epoch ×5", "  batch ×3", "  batch ×1"]
    assert conditions(loop, "batch") == [
        "not in every 2nd epoch, which gets what is left of the data",
        "only in every 2nd epoch, which gets what is left of the data",
    ]
    assert noted(loop, "epochs have 3, 1 batches in turn")


@pytest.mark.parametrize(
    ("freq", "first", "spans"),
    [(3, 0, ((3, None, 3),)), (3, 1, ((2, None, 3),)), (3, 3, ((3, None, 3),)), ([4, 2, 9], 1, ((1, 1, 1), (3, 3, 1)))],
)
def test_epochs_that_validate_are_told_apart(freq, first, spans):
    """`validation_freq` counts epochs from 1, over the whole training, wherever this run begins."""
    loop = fit(validation_data=(X, Y), validation_freq=freq, epochs=8, initial_epoch=first)
    epoch = next(node for node in loop.root.nodes() if isinstance(node, Scope))
    assert [turn.spans for turn in epoch.turns] == [spans]
    how = "in every 3rd epoch" if freq == 3 else "in some epochs"
    assert conditions(loop, "validate") == [f"only {how} (validation_freq={freq})"]


def test_a_validation_that_never_comes_is_not_shown():
    """Where no epoch of the run is among those that validate, the map says so."""
    loop = fit(validation_data=(X, Y), validation_freq=[9], epochs=2)
    assert conditions(loop, "validate") == []
    assert noted(loop, "validation_freq=[9]: no epoch of this run is among them")
    assert conditions(fit(validation_data=(X, Y)), "validate") == [""]


def test_a_validation_counts_for_itself():
    """Its batch size is its own or that of the training; `validation_steps` begins anew each time."""
    loop = fit(validation_data=(X, Y), validation_batch_size=1, validation_steps=5)
    assert "    batch ×5" in scopes(loop.root)
    assert "    batch ×2" in scopes(fit(validation_data=(X, Y)).root)
    assert "    batch ×1" in scopes(fit(validation_split=0.25, batch_size=2).root)


def test_limits_for_debugging_are_respected():
    """`keras.config.set_max_epochs` and `set_max_steps_per_epoch`, or their environment variables, cut it short."""
    keras.config.set_max_epochs(2)
    keras.config.set_max_steps_per_epoch(1)
    try:
        loop = fit(epochs=5, batch_size=8)
        assert [line for line in scopes(loop.root) if "hand" not in line] == ["epoch ×2", "  batch ×1"]
        assert noted(loop, "KERAS_MAX_EPOCHS")
    finally:
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)


def test_where_a_run_begins():
    """`initial_epoch`, `start_epoch` of `inspect`, and what an earlier BackupAndRestore left on the model."""
    assert "epoch ×2" in scopes(fit(epochs=5, initial_epoch=3).root)
    assert "epoch ×2" in scopes(adapter.describe(model(), "fit", epochs=5, start_epoch=3, arguments=FIT).root)
    assert noted(fit(epochs=3, initial_epoch=3), "no epoch will run")
    left = model()
    left._initial_epoch = 4
    assert "epoch ×1" in scopes(fit(left, epochs=5).root)
    assert noted(fit(left, epochs=5), "left there by an earlier BackupAndRestore")


def test_a_backup_is_looked_for(tmp_path):
    """BackupAndRestore goes on where its file says; without one it changes nothing; a subclass may do anything."""
    found = fit(epochs=5, callbacks=[cases.backup(tmp_path, 2)])
    assert "epoch ×3" in scopes(found.root)
    assert noted(found, "BackupAndRestore#1 finds the backup of an earlier run: fit begins with epoch 2")
    assert "epoch ×5" in scopes(fit(epochs=5, callbacks=[BackupAndRestore(str(tmp_path / "none"))]).root)

    class Mine(BackupAndRestore):
        def on_train_begin(self, logs=None):
            self.model._initial_epoch = 1

    unknown = fit(epochs=5, callbacks=[Mine(str(tmp_path / "none"))])
    assert "epoch ×0–5" in scopes(unknown.root)
    assert noted(unknown, "Mine#1 may set model._initial_epoch")


# -- what may end it early ---------------------------------------------------------------------------------


def stop(held):
    held.stop_training = True


class Reads(Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.stopped = self.model.stop_training


class Helps(Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.decide(logs)

    def decide(self, logs):
        stop(self.model)


class Sub(EarlyStopping):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)


@pytest.mark.parametrize(
    ("callback", "epochs", "batches"),
    [
        (EarlyStopping, "1–3", "2"),
        (Sub, "1–3", "2"),
        (Helps, "1–3", "2"),
        (TerminateOnNaN, "1–3", "1–2"),
        (functools.partial(cases.StopsAt, "on_train_begin"), "1–3", "1–2"),
        (functools.partial(cases.StopsAt, "on_test_begin"), "1–3", "2"),
        (Reads, "3", "2"),
        (Counts, "3", "2"),
    ],
)
def test_what_may_end_a_run_is_read_from_the_code_of_the_handlers(callback, epochs, batches):
    """A handler that sets `stop_training`, itself, by a helper or by its base, opens the epochs, and the batches too
    where it is called before they are done; one that only reads it does not."""
    loop = fit(epochs=3, callbacks=[callback()])
    lines = scopes(loop.root)
    assert (lines[0], lines[1]) == (f"epoch ×{epochs}", f"  batch ×{batches}")
    assert noted(loop, "may end the run early: it sets model.stop_training") is (epochs != "3")


def test_a_closure_may_end_a_run():
    """A lambda that holds the model by a name of its own is seen as well."""
    one = model()
    loop = fit(one, epochs=3, callbacks=[LambdaCallback(on_epoch_end=lambda epoch, logs: stop(one))])
    assert scopes(loop.root)[0] == "epoch ×1–3"


def test_a_pass_over_the_validation_data_may_be_ended():
    """`stop_evaluating` ends the batches of a validation, not those of the training."""
    stops = cases.StopsAt("on_test_batch_end", 1, "stop_evaluating")
    loop = fit(epochs=3, callbacks=[stops, Counts()], validation_data=(X, Y))
    assert scopes(loop.root) == ["epoch ×3", "  batch ×2", "  validate ×1", "    batch ×1–2"]


# -- what the model does itself ----------------------------------------------------------------------------


def test_the_steps_of_a_batch_are_those_of_train_step():
    """In the order in which the source has them, each with its line; of two branches the one that will be taken."""
    names = [step.name for step in steps(fit().root)]
    assert names == [
        *("build", "reset metrics", "draw a batch", "forward", "zero_grad", "loss", "backward", "optimizer step"),
        *("submit to the pool", "metrics", "finalize the variables"),
    ]
    forward = next(step for step in steps(fit().root) if step.name == "forward")
    assert forward.text == "self(x, training=True)"
    assert forward.place is not None
    assert "training=True" in linecache.getline(forward.place.file, forward.place.line)


def test_the_steps_of_ones_own_train_step_are_read_from_it():
    """A model's own `train_step` is no change of the loop: its steps stand in its order, with its lines."""
    loop = fit(model(cls=OwnStep), callbacks=[Counts()])
    found = [step for step in steps(loop.root) if step.place is not None and step.place.file == cases.__file__]
    assert [step.name for step in found] == ["zero_grad", "forward", "loss", "backward", "optimizer step"]
    assert not noted(loop, "has its own")


def test_a_fit_of_ones_own_is_said():
    """What a model's own `fit` does is not known; the map shows Keras's, and where the other one stands."""
    one = OwnFit([keras.Input((3,)), keras.layers.Dense(1)])
    one.compile("sgd", "mse")
    assert noted(fit(one), "OwnFit has its own fit (tests/adapters/cases/keras.py:")
    assert not noted(adapter.describe(one, "evaluate", arguments=FIT), "has its own")


def test_accumulation_and_compilation_are_said():
    """No event tells which of the optimizer's steps changes the parameters."""
    one = model(optimizer=keras.optimizers.SGD(gradient_accumulation_steps=2))
    assert noted(fit(one), "adds up the gradients of 2 batches")
    assert noted(fit(model(jit_compile=True)), "jit_compile=True")


# -- what Keras fails on -----------------------------------------------------------------------------------


class Misnamed(Callback):
    def on_train_batch_end(self, batch, metrics=None):
        pass


class NoFunction(Callback):
    on_epoch_end = None


class Half:
    def on_epoch_end(self, epoch, logs=None):
        pass


FAILING: list[tuple[dict[str, Any], str]] = [
    ({"callbacks": [EarlyStopping]}, "the class EarlyStopping is given as a callback: Keras fails there"),
    ({"callbacks": [3]}, "3 (int) is given as a callback and is none"),
    ({"callbacks": [None]}, "None (NoneType) is given as a callback and is none"),
    ({"callbacks": [Half()]}, "it lacks on_batch_begin"),
    ({"callbacks": [[Old()]]}, "callbacks holds a list"),
    ({"callbacks": [Misnamed()]}, "Misnamed#1 at on_train_batch_end: Keras fails there"),
    ({"callbacks": [NoFunction()]}, "NoFunction#1 at on_epoch_end: on_epoch_end is no function but None"),
    ({"callbacks": [LambdaCallback(on_epoch_end=lambda logs: 0)]}, "it calls on_epoch_end(epoch, logs)"),
    ({"x": None, "y": None}, "no data is given: type x=..."),
    ({"x": [1, 2, 3]}, "x is a list, which Keras does not take as data"),
    ({"y": Y[:3]}, "the arrays have 8 and 3 samples"),
    ({"x": X[:0], "y": Y[:0]}, "the arrays hold no sample"),
    ({"x": loader()}, "y is given beside a torch DataLoader"),
    ({"validation_split": 0.95}, "validation_split=0.95 cannot be made of this data"),
    ({"validation_data": (X, Y, X, Y)}, "validation_data has 4 parts"),
    ({"validation_data": (X, Y[:2])}, "validation_data: the arrays have 8 and 2 samples"),
    ({"validation_data": (X, Y), "validation_freq": (1,)}, "validation_freq=(1,) (tuple)"),
    ({"validation_data": (X, Y), "validation_freq": 0}, "validation_freq=0 (int)"),
    ({"epochs": 2.0}, "epochs=2.0 is no whole number"),
]


@pytest.mark.parametrize(("arguments", "note"), FAILING, ids=lambda one: one if isinstance(one, str) else "")
def test_what_keras_fails_on_is_noted(arguments, note):
    """The map of a run that will fail says so; and Keras does fail."""
    loop = fit(**arguments)
    assert noted(loop, note), loop.notes
    assert really_fails(lambda: model().fit(**{**FIT, "verbose": 0, **arguments}))


def test_a_model_that_is_not_ready_is_noted():
    """A model that is not compiled, or with more than one step per execution, fails before its first event."""
    bare = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    for run in ("fit", "evaluate"):
        assert noted(adapter.describe(bare, run, arguments=FIT), f"the model is not compiled: {run} fails at once")
        assert really_fails(lambda run=run: getattr(bare, run)(**FIT, verbose=0))
    assert not noted(adapter.describe(bare, "predict", arguments={"x": X}), "not compiled")
    several = model(steps_per_execution=2)
    assert noted(fit(several), "fails before on_train_begin")
    assert really_fails(lambda: several.fit(**FIT, verbose=0))


# -- what Keras ignores ------------------------------------------------------------------------------------


def test_misspelt_hooks_are_noted():
    """Keras ignores what it does not know, on a class as on a LambdaCallback."""

    class Typo(Callback):
        def on_train_batch_ends(self, batch, logs=None):
            pass

        def on_improvement(self):
            pass

        def improve(self):
            pass

    loop = fit(callbacks=[Typo(), LambdaCallback(on_epoch_ends=print)])
    assert noted(loop, "Typo.on_train_batch_ends is no hook, and Keras ignores it: did you mean on_train_batch_end or ")
    assert noted(loop, "LambdaCallback.on_epoch_ends is no hook, and Keras ignores it: did you mean on_epoch_end or ")
    assert noted(loop, "Typo.on_improvement is no hook, and Keras ignores it")
    assert not noted(loop, "Typo.improve")
    assert noted(loop, "nothing in this run calls Typo#1: it handles no event at all")


def test_a_callback_that_nothing_calls_is_noted():
    """One that handles only events of validation is not called where nothing is validated."""
    tests = LambdaCallback(on_test_begin=lambda logs: None)
    assert noted(fit(callbacks=[tests]), "nothing in this run calls LambdaCallback#1: it handles on_test_begin")
    assert not noted(fit(callbacks=[tests], validation_data=(X, Y)), "nothing in this run calls")


def test_other_notes():
    """A split beside data that is given, a CallbackList inside of a list, and one of a class of its own."""

    class Mine(CallbackList):
        pass

    assert noted(fit(validation_split=0.5, validation_data=(X, Y)), "validation_split is ignored")
    assert noted(fit(callbacks=[CallbackList([Old()])]), "CallbackList#1 is a CallbackList inside of the list")
    assert noted(fit(callbacks=Mine([Old()])), "Mine is a CallbackList of its own")


def test_a_version_that_was_not_tested_is_noted(monkeypatch):
    """Outside of the tested versions the map says that it may be wrong."""
    assert not noted(fit(), "tested")
    for version in ("3.14.2", "3.16.0", "4.0"):
        monkeypatch.setattr(keras, "__version__", version)
        assert noted(fit(), f"keras {version} is not among the tested versions (from 3.15, below 3.16)")
    monkeypatch.setattr(keras, "__version__", "2.15.0")
    with pytest.raises(UnknownObject):
        adapters.find(model())


# -- what is refused ---------------------------------------------------------------------------------------


def test_runs_that_call_no_callback_are_refused():
    """`train_on_batch` and its like have no events; a misspelt run is named with its neighbour."""
    with pytest.raises(UnknownChoice, match="train_on_batch calls no callback"):
        adapter.describe(model(), "train_on_batch")
    with pytest.raises(UnknownChoice, match="Did you mean 'evaluate'"):
        adapter.describe(model(), "evaluat")


def test_arguments_that_make_no_sense_are_refused():
    """One that the run does not take, a number that is none or negative, epochs of a run that has none."""
    with pytest.raises(BadValue, match=r"fit takes no batchsize\. Accepted: x, y, batch_size"):
        adapter.describe(model(), "fit", arguments={"batchsize": 3})
    with pytest.raises(BadValue, match=r"epochs=2\.5 is no whole number"):
        adapter.describe(model(), "fit", epochs=2.5)  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="start_epoch=-1 is negative"):
        adapter.describe(model(), "fit", start_epoch=-1)
    with pytest.raises(BadValue, match="predict has no epochs"):
        adapter.describe(model(), "predict", epochs=1)
    with pytest.raises(BadValue, match="evaluate has no epochs"):
        adapter.describe(model(), "evaluate", start_epoch=1)


def test_what_is_no_callback_is_refused_as_cbs():
    """`cbs` takes callbacks and their classes, as for every framework."""
    loop = fit(cbs=[Counts, Old()], callbacks=[Old()], verbose=0)
    assert handlers(loop, "on_train_batch_end") == ["Old#1", "Counts#2", "Old#3"]
    assert [handler.mine for handler in loop.binding.at("on_train_batch_end")] == [False, True, True]
    for wrong in (3, print, dict, CallbackList([])):
        with pytest.raises(BadCallback, match="is no Keras callback"):
            fit(cbs=wrong)
    with pytest.raises(BadCallback, match="cannot be built without arguments"):
        fit(cbs=ModelCheckpoint)


def test_what_is_no_model_is_not_known():
    """A layer, or the class of a model, is none."""
    assert adapters.find(model()) is adapter
    for wrong in (keras.layers.Dense(1), keras.Sequential, Old()):
        with pytest.raises(UnknownObject):
            adapters.find(wrong)


# -- how it looks ------------------------------------------------------------------------------------------


def test_the_map_as_text():
    """What a user sees of a usual fit, whole."""
    shown = loopscope.inspect(
        model(), "fit", epochs=2, cbs=Old(), **FIT, validation_data=(X, Y), callbacks=[EarlyStopping()]
    )
    assert str(shown).splitlines() == TEXT.strip().splitlines()


TEXT = """
model.fit(x, y, batch_size=4, validation_data=..., epochs=2, callbacks=[..., Old()]) [Sequential, keras 3.15.1]
note: EarlyStopping#1 may end the run early: it sets model.stop_training, which fit looks at behind each batch and each epoch
note: the handlers of on_test_batch_end are called by a pool of threads while the loop goes on; Keras waits for them before on_test_end, and their exceptions surface there or at a later batch

- build
on_train_begin: EarlyStopping, History, ProgbarLogger
epoch x 1-2
  - reset metrics
  on_epoch_begin: ProgbarLogger
  batch x 2
    - draw a batch
    on_train_batch_begin: * Old
    - forward, zero_grad, loss, backward, optimizer step
    on_train_batch_end: * Old, ProgbarLogger
  - metrics
  validate
    on_test_begin: ProgbarLogger
    batch x 2
      - draw a batch
      on_test_batch_begin
      - forward, loss
      hand over
        - submit to the pool
        on_test_batch_end: ProgbarLogger (called by a thread of CallbackList's pool, while the loop goes on)
    - metrics
    on_test_end: ProgbarLogger
  on_epoch_end: EarlyStopping (may end the run: it sets model.stop_training), History, ProgbarLogger
- finalize the variables
on_train_end: EarlyStopping

* yours
  Old at on_train_batch_begin in epoch > batch: alone
  Old at on_train_batch_end in epoch > batch: first, before ProgbarLogger
"""  # noqa: E501


def test_facts_and_versions():
    """What a recording says of the model, and what the map depends on."""
    assert adapter.facts(model()) == {"cls": "Sequential", "model": "Sequential", "device": "cpu", "framework": "keras"}
    assert adapter.facts(model(built=False))["device"] == ""
    assert list(adapter.versions()) == ["keras", "torch", "python"]
    assert set(adapter.event_docs()) == {event.name for run in adapter.RUNS for event in events(whole(run).root)}


def whole(run: str) -> Loop:
    data = {"x": X} if run == "predict" else {"x": X, "y": Y}
    more = {"validation_data": (X, Y)} if run == "fit" else {}
    return adapter.describe(model(), run, arguments={**data, **more, "callbacks": [Counts()]})


def test_every_event_has_its_line():
    """`place` is the line of Keras's source that fires the event."""
    for run in adapter.RUNS:
        for event in events(whole(run).root):
            assert event.place is not None
            assert f"callbacks.{event.name}(" in linecache.getline(event.place.file, event.place.line)


def test_numbers_of_numpy_are_numbers():
    """What Keras takes as an int is one."""
    loop = fit(epochs=np.int64(3), initial_epoch=np.int32(1), steps_per_epoch=np.int64(2), validation_split=0.0)
    assert scopes(loop.root)[:2] == ["epoch ×2", "  batch ×2"]
