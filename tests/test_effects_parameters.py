"""What handlers do that are given the parts of the loop as arguments: of a framework that does not exist."""

from __future__ import annotations

import ast
import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from loopscope.effects import Effects, Vocabulary, effects
from loopscope.handlers import said

# mypy: ignore-errors
# ruff: noqa: F821, T201


class Trainer:
    """What the tests' framework calls a trainer."""

    def validate(self, model): ...

    def terminate(self):
        self.should_stop = True


class Module:
    """What the tests' framework calls a module: users derive theirs from it."""

    trainer: Trainer

    def log(self, name, value):
        self.logged = {name: value}

    def optimizers(self): ...

    @property
    def step(self):
        return self.trainer.step


class WrongSettings(Exception):
    """A mistake of the user's, in the tests' framework."""


class LeaveRun(Exception):
    """Steers the loop."""


WORDS = Vocabulary(
    learner=frozenset({"trainer", "_trainer"}),
    roots={"model": "model", "optimizers": "optimizer", "logger": "outside"},
    loops=frozenset({"fit", "validate"}),
    pure=frozenset({"optimizers"}),
    parameters={
        "trainer": "learner",
        "control": "learner",
        "state": "learner",
        "module": "model",
        "model": "model",
        "optimizer": "optimizer",
        "batch": "data",
    },
    word="trainer",
    steers=frozenset({"should_stop", "should_save", "terminate"}),
    errors=frozenset({"WrongSettings"}),
    kinds=(("learner", Trainer), ("model", Module)),
    named=(Module,),
)
MODULE = replace(WORDS, owner_is="model", returns=True)


class Callback:
    """What the tests' framework calls a callback."""


def read(function: Callable[..., Any], *passed: str, owner: type | None = None, words: Vocabulary = WORDS) -> Effects:
    """The effects of a handler, for a class that has it as its only method."""
    return effects(function, owner or type("Cb", (Callback,), {"handler": function}), words, passed=passed)


def line(function: Callable[..., Any], *passed: str, owner: type | None = None, words: Vocabulary = WORDS) -> str:
    return read(function, *passed, owner=owner, words=words).summary


# -- what a handler is given --


def test_parameters_are_what_the_vocabulary_calls_them_and_keep_their_names() -> None:
    """Trainer, control object, module, optimizer, batch: each is changed under the name that it has there."""

    def handler(self, trainer, control, module, optimizer, batch):
        trainer.limit = 3
        control.flags["x"] = True
        module.head.eval()
        optimizer.param_groups[0]["lr"] = 0.1
        batch["x"] = 0
        trainer.optimizers[0].zero_grad()
        trainer.logger.log_metrics({})

    assert [(i.kind, i.on, i.target) for i in read(handler).items if i.kind != "reads"] == [
        ("writes", "learner", "trainer.limit"),
        ("writes", "learner", "control.flags['x']"),
        ("calls", "model", "module.head.eval()"),
        ("writes", "optimizer", "optimizer.param_groups[0]['lr']"),
        ("writes", "data", "batch['x']"),
        ("calls", "optimizer", "trainer.optimizers[0].zero_grad()"),
        ("calls", "outside", "trainer.logger.log_metrics({})"),
    ]


def test_what_comes_by_place_is_known_whatever_its_name_is() -> None:
    """`passed` says what the framework gives, to names, to what has a default, and to `*args`."""

    def named(self, t, m, *rest):
        t.should_stop = True
        m.eval()
        rest[0].clear()

    def swapped(self, module, trainer=None):
        if module is not None:
            module.should_stop = True
        trainer.eval()

    def all_of(self, *args, **kwargs):
        args[0].should_stop = True

    assert line(named, "trainer", "model", "batch") == "sets t.should_stop = True; calls m.eval(), batch.clear()"
    assert line(swapped, "trainer", "model") == (
        "sets module.should_stop = True if module is not None; calls trainer.eval()"
    )
    assert line(all_of, "trainer") == "sets trainer.should_stop = True"


def test_keywords_are_found_in_the_rest() -> None:
    """`kwargs["model"]`, `kwargs.get("model")` and a method that is handed `**kwargs` lead to the model."""

    class Cb(Callback):
        def handler(self, state, **kwargs):
            kwargs["model"].eval()
            model = kwargs.pop("optimizer", None)
            model.step()
            self.more(**kwargs)

        def more(self, model=None, **kwargs):
            if model is not None:
                model.train()
            kwargs.get("control").should_save = True
            kwargs["other"].change()

    assert line(Cb.handler, owner=Cb) == (
        "sets control.should_save = True; calls model.eval(), optimizer.step(); "
        "calls model.train() if model is not None"
    )


def test_a_default_tells_nothing_where_the_framework_gives_the_argument() -> None:
    """`logs=None` is given all the same: neither branch is left out."""

    def handler(self, epoch, logs=None):
        if logs is None:
            self.missed = True
        logs = logs or {}
        logs["epoch"] = epoch

    assert line(handler) == "sets logs['epoch'] = epoch; sets self.missed = True if logs is None"


def test_what_the_vocabulary_does_not_know_is_the_loops_data() -> None:
    """Whoever changes an argument changes what others get."""

    def handler(self, trainer, checkpoint):
        checkpoint["mine"] = self.n
        checkpoint.pop("theirs")

    assert line(handler) == "sets checkpoint['mine'] = self.n; calls checkpoint.pop('theirs')"


def test_nothing_falls_through_to_the_learner() -> None:
    """What the class does not show is the callback's own: there is no learner behind it."""

    def handler(self, trainer):
        self.unknown.thing = 1
        self.total += trainer.loss
        self.call()

    assert [(i.kind, i.on, i.target) for i in read(handler).items] == [
        ("writes", "callback", "self.unknown.thing"),
        ("writes", "callback", "self.total"),
        ("calls", "callback", "self.call()"),
        ("reads", "learner", "trainer.loss"),
    ]


# -- where the learner is otherwise --


def test_a_callback_that_holds_the_trainer() -> None:
    """By an attribute of the framework's, by one that its own `__init__` fills, by what its instance really holds."""

    class Cb(Callback):
        def __init__(self, trainer, other):
            self.boss = trainer
            self.runner = other

        def framework(self):
            self._trainer.should_stop = True

        def own(self):
            self.boss.terminate()

        def held(self):
            self.runner.validate(self.runner.model)

        @property
        def their_trainer(self):
            return self.boss

        def asked(self):
            self.their_trainer.terminate()

    assert line(Cb.framework, owner=Cb) == "sets trainer.should_stop = True"
    assert line(Cb.own, owner=Cb) == "calls self.boss.terminate()"
    assert line(Cb.asked, owner=Cb) == "calls self.their_trainer.terminate()"
    assert read(Cb.held, owner=Cb).nested(WORDS.loops) == ()
    for held, nested in ((Trainer(), ("validate",)), (None, ()), (Trainer(), ("validate",))):
        assert read(Cb(None, held).held, owner=Cb).nested(WORDS.loops) == nested


def test_a_module_leads_to_its_trainer() -> None:
    """`module.trainer`, `module.optimizers()`: what the framework gives every module."""

    def handler(self, module):
        module.trainer.should_stop = True
        for group in module.optimizers().param_groups:
            group["lr"] /= 2
        module.log("lr", 1)

    assert line(handler) == (
        "sets trainer.should_stop = True; changes group['lr'] /= … for group in module.optimizers() …; "
        "calls module.log('lr', 1)"
    )


def test_hooks_of_the_module_itself() -> None:
    """`self` is the model: the framework's methods are told by name, its own are followed, `self.trainer` steers."""

    class Net(Module):
        def __init__(self):
            self.body = Linear(1, 1)

        def on_start(self, batch):
            if self.trainer.epoch > 3:
                self.trainer.should_stop = True
            self.log("x", batch.mean())
            self.freeze()
            self.seen = self.step

        def freeze(self):
            self.body.requires_grad_(False)
            self.optimizers().zero_grad()

        def skips(self, batch, n):
            return -1 if n > 3 else None

        def maps(self, batch):
            return batch * 2

        def keeps(self, batch):
            return batch

    done = read(Net.on_start, "batch", owner=Net, words=MODULE)
    assert done.summary == (
        "sets trainer.should_stop = True if trainer.epoch > 3; calls self.log(…); sets self.seen; …"
    )
    assert [(i.kind, i.on, i.target) for i in done.items if i.kind != "reads"] == [
        ("writes", "learner", "trainer.should_stop"),
        ("calls", "model", "self.log('x', batch.mean())"),
        ("calls", "model", "self.body.requires_grad_(False)"),
        ("calls", "optimizer", "self.optimizers().zero_grad()"),
        ("writes", "model", "self.seen"),
    ]
    assert ast.unparse(done.assigned("seen", "model")) == "self.step"
    assert line(Net.skips, "batch", "n", owner=Net, words=MODULE) == "returns -1 if n > 3"
    assert line(Net.maps, "batch", owner=Net, words=MODULE) == "returns batch * 2"
    assert line(Net.keeps, "batch", owner=Net, words=MODULE) == "does nothing"
    assert line(Net.skips, "batch", "n", owner=Net, words=WORDS) == "does nothing"


# -- functions --


evaluator, net, log = Trainer(), Module(), logging.getLogger(__name__)


def test_plain_functions_have_no_self() -> None:
    """A function, a lambda, a partial, a callable object: what they are given, and what their globals hold."""

    def stop(e):
        if e.loss > 3:
            e.terminate()

    def unasked():
        net.eval()

    def extra(trainer, name, n=1):
        trainer.n = n
        print(name)

    class Calls:
        def __call__(self, e):
            self.n = e.n
            evaluator.validate(net)

    def alone(function: object, owner: type | None = None) -> str:
        return effects(function, owner, WORDS, passed=("trainer",)).summary

    assert alone(stop) == "calls e.terminate() if e.loss > 3"
    assert alone(unasked) == "calls net.eval()"
    assert alone(lambda _: evaluator.validate(net)) == "runs evaluator.validate(net)"
    assert alone(functools.partial(extra, n=2)) == "sets trainer.n = 2; prints a message"
    assert alone(Calls(), Calls) == "runs evaluator.validate(net); sets self.n = e.n"
    assert alone(evaluator.validate, Trainer) == "runs trainer.validate(…)"
    assert alone(evaluator.terminate) == "calls trainer.terminate(…)"


def test_a_function_kept_by_a_callback_gets_no_self() -> None:
    """Where a callback stores a function of the user's, that is what the framework calls; a static method neither."""

    class Stores(Callback):
        def __init__(self, on_end):
            self.on_end = on_end

        @staticmethod
        def on_start(trainer):
            trainer.terminate()

    held = Stores(lambda epoch, logs: logs.clear())
    assert effects(held.on_end, Stores, WORDS, passed=("epoch", "logs")).summary == "calls logs.clear()"
    assert line(Stores.on_start, "trainer", owner=Stores) == "calls trainer.terminate()"
    assert line(vars(Stores)["on_start"], "trainer", owner=Stores) == "calls trainer.terminate()"


def test_runs_inside_a_handler_are_named_through_variables_and_helpers() -> None:
    """A closure's engine, a global one, one that a function of the same module runs."""
    inner = Trainer()

    def closes(trainer):
        inner.validate(net)

    def indirect(trainer):
        validate_all()

    for function in (closes, indirect):
        assert effects(function, None, WORDS).nested(WORDS.loops) == ("validate",), function
    assert effects(indirect, None, WORDS).summary == "runs evaluator.validate(net)"


def validate_all():
    evaluator.validate(net)


def test_a_global_is_looked_up_again() -> None:
    """What is kept of a handler is only used as long as its names hold such things as they did."""
    globals()["later"] = None
    assert effects(uses_later, None, WORDS).nested(WORDS.loops) == ()
    globals()["later"] = Trainer()
    assert effects(uses_later, None, WORDS).nested(WORDS.loops) == ("validate",)
    del globals()["later"]
    assert effects(uses_later, None, WORDS).nested(WORDS.loops) == ()


def uses_later(trainer):
    later.validate(net)


count, losses, results = 0, [], {}


def test_what_outlasts_a_function_is_changed_outside() -> None:
    """Global lists and dictionaries, and names that a function declares `global` or `nonlocal`."""
    best = None

    def collects(trainer):
        losses.append(trainer.loss)

    def counts(trainer):
        global count
        count += 1
        results["n"] = count

    def keeps(trainer):
        nonlocal best
        best = trainer.loss

    def asks(trainer):
        trainer.mine = results.get("n") or losses[-1]

    def says(function: object) -> str:
        return effects(function, None, WORDS, passed=("trainer",)).summary

    assert says(collects) == "appends trainer.loss to losses"
    assert says(counts) == "changes count += 1; sets results['n'] = count"
    assert says(keeps) == "sets best = trainer.loss"
    assert says(asks) == "sets trainer.mine = results.get('n') or losses[-1]"
    assert [(i.on, i.target) for i in effects(keeps, None, WORDS).items if i.kind == "writes"] == [("outside", "best")]


# -- what is said first, and what is not said --


def test_what_steers_the_loop_comes_first() -> None:
    """Exceptions that steer, then flags and calls that do, then loops, then changes; messages and mistakes last."""

    def handler(self, trainer, control, module):
        if trainer.n < 0:
            raise WrongSettings("n")
        log.info("here")
        module.train()
        trainer.validate(module)
        if trainer.loss > 3:
            control.should_save = True
        if trainer.loss > 4:
            raise LeaveRun

    done = read(handler)
    assert done.summary == (
        "raises LeaveRun if trainer.loss > 4; sets control.should_save if trainer.loss > 3; "
        "runs trainer.validate(module); …"
    )
    assert ast.unparse(done.assigned("should_save", "learner").body) == "True"
    assert done.nested(("fit", "validate")) == ("validate",)
    assert [(i.target, i.on) for i in done.items if i.kind == "raises"] == [
        ("WrongSettings", "callback"),
        ("LeaveRun", "learner"),
    ]


def test_exceptions_that_only_the_run_knows() -> None:
    """`raise self.error(...)`, `raise error`: named as written and never certain; a local's class is known."""

    def asked(self, trainer):
        raise self.error("x")

    def given(self, trainer, error):
        raise error

    def local(self, trainer):
        error = ValueError("x")
        raise error

    assert line(asked) == "raises self.error(…)"
    assert line(given) == "raises error"
    assert line(local) == "always raises ValueError"
    for function, certain in ((asked, False), (given, False), (local, True)):
        assert [one.certain for one in said(function, None, WORDS, waiting={}).raises] == [certain]


def test_messages_are_no_changes() -> None:
    """What a logger is given, it is given to be read."""

    def handler(self, trainer):
        self.n = trainer.n
        log.info("epoch %d", trainer.epoch)

    assert line(handler) == "sets self.n = trainer.n; calls log.info('epoch %d', trainer.epoch)"


def test_nothing_is_said_where_something_may_happen_that_is_not_told() -> None:
    """A method of a local object may do anything: then the handler neither does nothing nor only reads."""

    def handler(self, trainer):
        for process in PROCESSES:
            process.stop(1)

    def each(self, trainer):
        [process.stop(1) for process in PROCESSES]

    def local(self, trainer):
        seen = []
        seen.append(1)

    assert (line(handler), line(each), line(local)) == ("", "", "does nothing")


# -- values that change --


def test_a_loops_first_value_is_not_that_of_all_times() -> None:
    """What a loop's body assigns holds neither before it nor after it for certain."""

    def handler(self, trainer):
        first, found = True, False
        for name in trainer.names:
            if first:
                first = False
            else:
                trainer.second = name
            if name == "x":
                found = True
                break
        if found:
            trainer.found = 1

    assert line(handler) == (
        "sets trainer.second = name if not first for name in trainer.names; sets trainer.found = 1 if found"
    )


def test_a_container_is_not_shown_as_it_was_before_it_was_filled() -> None:
    """A local dictionary that is filled is called by its name."""

    def handler(self, trainer):
        row = {}
        for name in trainer.names:
            row[name] = 1
        self.table.append(row)
        trainer.rows = row

    assert line(handler) == "sets trainer.rows = row; appends row to self.table"


def test_a_helper_that_gives_back_its_argument() -> None:
    """`checked(trainer)` is the trainer."""

    def handler(self, trainer):
        same = checked(trainer)
        same.should_stop = True

    assert line(handler) == "sets trainer.should_stop = True"


def checked(thing):
    if thing is None:
        raise ValueError("nothing")
    return thing


def test_a_helper_that_steers() -> None:
    """What a function of the same module does to end the run is told and found as if it stood in the handler."""

    def handler(self, trainer):
        stop_late(trainer, 3)

    done = read(handler)
    assert done.summary == "sets trainer.should_stop = True if trainer.epoch > 3; calls stop_late(trainer, 3)"
    assert done.assigned("should_stop", "learner") is not None
    assert done.assigned("late", "learner") is None


def stop_late(boss, most):
    boss.late = boss.epoch
    if boss.epoch > most:
        boss.should_stop = True


def test_base_methods_called_by_class() -> None:
    """`Base.handler(self, ...)` is followed like `super().handler(...)`."""

    class Base(Callback):
        def handler(self, trainer):
            trainer.n = 1

    class Cb(Base):
        def handler(self, trainer):
            Base.handler(self, trainer)

    assert line(Cb.handler, owner=Cb) == "sets trainer.n = 1"


# -- what an adapter asks --


def test_said_has_it_all() -> None:
    """Place, docstring, effect, raises and nested runs of a handler, for a map."""

    def handler(self, trainer):
        """Stop early."""
        trainer.validate(None)
        raise LeaveRun

    found = said(handler, Callback, WORDS, waiting={"validate": "it does"}, notes=("mine",), passed=("trainer",))
    assert found.place is not None
    assert [(fact.kind, fact.text) for fact in found.facts] == [
        ("doc", "Stop early."),
        ("effect", "always raises LeaveRun; runs trainer.validate(None)"),
        ("wait", "trainer.validate(): it does"),
        ("note", "mine"),
    ]
    assert [(one.exception, one.certain) for one in found.raises] == [("LeaveRun", True)]
    assert found.nested == ("validate",)


@pytest.mark.parametrize("words", [WORDS, MODULE])
def test_any_function_can_be_read(words: Vocabulary) -> None:
    """All functions of some modules of the standard library, with any arguments passed."""
    import argparse
    import inspect
    import zipfile

    for module in (argparse, zipfile):
        for holder in [module, *filter(inspect.isclass, vars(module).values())]:
            owner = holder if isinstance(holder, type) else None
            for member in list(vars(holder).values()):
                assert isinstance(effects(member, owner, words, passed=("trainer", "model", "")), Effects)
