"""What handlers do, read from their source: tiny callbacks of a framework that does not exist."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from loopscope.effects import LONGEST, Effect, Effects, Vocabulary, effects

# mypy: ignore-errors
# ruff: noqa: F821, T201


class Model:
    """What the tests' framework calls a model."""

    def parameters(self): ...


class Learner:
    """What the tests' framework calls a learner."""

    def save(self, name): ...

    def without(self, callbacks):
        yield self

    def quiet(self):
        yield None


WORDS = Vocabulary(
    learner=frozenset({"learn"}),
    roots=MappingProxyType(
        {"model": "model", "opt": "optimizer", "loss_func": "loss", "dls": "data", "xb": "data", "yb": "data"}
    ),
    owners=(("learner", Learner), ("model", Model)),
    loops=frozenset({"validate", "get_preds"}),
    stores=frozenset({"store"}),
    pure=frozenset({"detached"}),
)


class Callback:
    """What the tests' framework calls a callback."""

    learn = None
    run = True


class CancelFit(Exception):
    """Steers the loop."""


class SummaryWriter:
    """A logger."""


class writer_module:  # noqa: N801
    """Stands for a module of this package."""


def read(function: Callable[..., Any], owner: type | None = None) -> Effects:
    """The effects of a handler, for a class that has it as its only method."""
    return effects(function, owner or type("Cb", (Callback,), {"handler": function}), WORDS)


def line(function: Callable[..., Any], owner: type | None = None) -> str:
    return read(function, owner).summary


def done(function: Callable[..., Any], owner: type | None = None) -> list[tuple[str, ...]]:
    """(kind, on, target, value, when) of everything but reads; `!` before what every run reaches."""
    items = read(function, owner).items
    return [(f"{'!' * i.certain}{i.kind}", i.on, i.target, i.value, i.when) for i in items if i.kind != "reads"]


# -- whose an attribute is --


def test_writes_go_to_whom_they_are_written_to() -> None:
    """`self.x = ` writes to the callback, `self.learn.x = ` to the learner, and to what the learner's attribute is."""

    def handler(self):
        self.count = 0
        self.learn.training = False
        self.learn.model = None
        self.learn.opt.hypers[0]["lr"] = 0.1
        self.learn.xb[0] = 1
        self.learn.recorder.values = []

    assert done(handler) == [
        ("!writes", "callback", "self.count", "0", ""),
        ("!writes", "learner", "learn.training", "False", ""),
        ("!writes", "model", "learn.model", "None", ""),
        ("!writes", "optimizer", "opt.hypers[0]['lr']", "0.1", ""),
        ("!writes", "data", "learn.xb[0]", "1", ""),
        ("!writes", "learner", "learn.recorder.values", "[]", ""),
    ]
    assert line(handler) == (
        "sets learn.training = False, learn.model = None, opt.hypers[0]['lr'] = 0.1, learn.xb[0] = 1, …"
    )


def test_reads_fall_through_to_learner_and_model() -> None:
    """What the callback has not of its own is the learner's; what the learner's class has not may be the model's."""

    class Own(Callback):
        kind = 1

        def __init__(self, limit, other=1):
            store()
            self.seen = []

        def handler(self):
            print(self.kind, self.limit, self.other, self.seen, self.later, self.pred, self.parameters(), self.opt)

        def more(self):
            self.later = 1

    assert [(i.kind, i.on, i.target) for i in read(Own.handler, Own).items] == [
        ("calls", "outside", "print"),
        ("reads", "learner", "learn.pred"),
        ("reads", "model", "model.parameters()"),
        ("reads", "optimizer", "opt"),
    ]


@pytest.mark.parametrize(
    ("stored", "own"),
    [("", "ab"), ("'a'", "a"), ("'a, b'", "ab"), ("names='b'", "b"), ("but='b'", "a"), ("['a']", "a")],
)
def test_stored_arguments_are_the_callback_s_own(stored: str, own: str, tmp_path: Any) -> None:
    """`store("a,b")`, `store(names=...)`, `store(but=...)` and `store()` make attributes of arguments."""
    path = tmp_path / "stored.py"
    path.write_text(
        f"class Cb(Base):\n    def __init__(self, a, b):\n        store({stored})\n"
        "    def handler(self):\n        use = self.a, self.b\n"
    )
    names: dict[str, Any] = {"Base": Callback}
    exec(compile(path.read_text(), str(path), "exec"), names)
    found = read(names["Cb"].handler, names["Cb"]).items
    assert {item.target.removeprefix("learn.") for item in found} == {"a", "b"} - set(own)


def test_an_attribute_is_what_its_class_puts_there() -> None:
    """A part of the model, a file, a logger or a list: seen from what the class's methods assign."""

    class Holds(Callback):
        def before(self):
            self.critic = self.model.critic
            self.layers = [m for m in flatten(self.model) if m.training]
            self.file = (self.path / "x").open("w")
            self.writer = SummaryWriter()
            self.seen = []

        def handler(self):
            self.critic.eval()
            for layer in self.layers:
                layer.train()
            self.file.write("x")
            self.writer.add_scalar("loss", self.loss)
            self.seen.append(self.loss)

    assert done(Holds.handler, Holds) == [
        ("!calls", "model", "self.critic.eval()", "", ""),
        ("calls", "model", "layer.train()", "", "for layer in self.layers"),
        ("!calls", "outside", "self.file.write('x')", "", ""),
        ("!calls", "outside", "self.writer.add_scalar('loss', learn.loss)", "", ""),
        ("!writes", "callback", "self.seen", "learn.loss", ""),
    ]


# -- kinds of statements --


def test_aliases_lead_back_to_what_they_stand_for() -> None:
    """Local names, tuples, loops and `with ... as` are followed to the learner."""

    def handler(self):
        rec, opt = self.learn.recorder, self.opt
        rec.done = True
        for h in opt.hypers:
            h["lr"] = h["lr"] / 2
        self.old, self.learn.loss_func = self.learn.loss_func, self.other
        with self.learn.without([self]) as quiet:
            quiet.get_preds(dl=self.dl)
        with self.learn.quiet() as nothing:
            nothing.get_preds()

    assert done(handler) == [
        ("!writes", "learner", "learn.recorder.done", "True", ""),
        ("writes", "optimizer", "h['lr']", "h['lr'] / 2", "for h in opt.hypers"),
        ("!writes", "callback", "self.old", "learn.loss_func", ""),
        ("!writes", "loss", "learn.loss_func", "learn.other", ""),
        ("!calls", "learner", "learn.without([self])", "", ""),
        ("!calls", "learner", "learn.get_preds(dl=learn.dl)", "", ""),
        ("!calls", "learner", "learn.quiet()", "", ""),
        ("!calls", "learner", "nothing.get_preds()", "", ""),
    ]
    assert read(handler).nested(("get_preds", "validate")) == ("get_preds",)


def test_changes_in_place() -> None:
    """Operators with `=`, lists, `setattr`, `delattr` and `del` say what they change and how."""

    def handler(self):
        self.learn.loss_grad /= 2
        self.log += [1]
        self.names.append("x")
        self.learn.a = 1
        self.b = 2
        delattr(self, "c")
        del self.learn.d, self.learn.e[0]

    assert line(handler) == (
        "changes learn.loss_grad /= 2; appends 'x' to learn.names; sets learn.a = 1; deletes learn.d, learn.e[0]; …"
    )
    assert [(i.kind, i.how) for i in read(handler).items if i.kind != "reads"] == [
        ("writes", "/="),
        ("writes", "+="),
        ("writes", "append"),
        ("writes", "="),
        ("writes", "="),
        ("deletes", ""),
        ("deletes", ""),
        ("deletes", ""),
    ]


def test_calls_are_of_what_they_are_called_on() -> None:
    """Model, optimizer, learner, data, and functions that are given them; what only returns something is no call."""

    def handler(self):
        self.model.train()
        self.opt.set_hyper("lr", self.lr)
        clip_grad_norm_(self.parameters(), 1.0)
        self.learn.save("x")
        self.size = self.yb.size(0) + len(self.model.state_dict()) + self.learn.detached(self.pred)
        self.batch = self.dls.one_batch()
        self.scaler.step(self)
        self.context.__enter__()

    assert done(handler) == [
        ("!calls", "model", "model.train()", "", ""),
        ("!calls", "optimizer", "opt.set_hyper('lr', learn.lr)", "", ""),
        ("!calls", "model", "clip_grad_norm_(model.parameters(), 1.0)", "", ""),
        ("!calls", "learner", "learn.save('x')", "", ""),
        (
            "!writes",
            "callback",
            "self.size",
            "learn.yb.size(0) + len(model.state_dict()) + learn.detached(learn.pred)",
            "",
        ),
        ("!calls", "data", "learn.dls.one_batch()", "", ""),
        ("!writes", "callback", "self.batch", "learn.dls.one_batch()", ""),
        ("!calls", "learner", "learn.scaler.step(self)", "", ""),
        ("!calls", "outside", "learn.context.__enter__()", "", ""),
    ]


def test_the_outside_is_files_output_processes_and_loggers() -> None:
    """By the module that a function comes from, or by the name that such things have."""

    def handler(self):
        print("x")
        with open("f") as file:
            file.write(str(self.loss))
        subprocess.run(["ls"], check=False)
        (self.path / "a").mkdir()
        torch.save(self.pred, "p")
        seed(1)

    assert done(handler) == [
        ("!calls", "outside", "print", "", ""),
        ("!calls", "outside", "open('f')", "", ""),
        ("!calls", "outside", "file.write(str(learn.loss))", "", ""),
        ("!calls", "outside", "subprocess.run(['ls'], check=False)", "", ""),
        ("!calls", "outside", "(learn.path / 'a').mkdir()", "", ""),
        ("!calls", "outside", "torch.save(learn.pred, 'p')", "", ""),
        ("!calls", "outside", "seed(1)", "", ""),
    ]


# -- conditions --


def test_conditions_are_kept_and_early_returns_negated() -> None:
    """`when` is everything that has to hold on the way; only what nothing stands before is certain."""

    def handler(self):
        self.a = 1
        if not self.training:
            return
        self.b = 2
        if self.n > 1 and self.m:
            self.c = 3
        elif self.k is None:
            self.d = 4
        else:
            return
        self.e = 5

    assert done(handler) == [
        ("!writes", "callback", "self.a", "1", ""),
        ("writes", "callback", "self.b", "2", "learn.training"),
        ("writes", "callback", "self.c", "3", "learn.training and learn.n > 1 and learn.m"),
        ("writes", "callback", "self.d", "4", "learn.training and (learn.n <= 1 or not learn.m) and learn.k is None"),
        ("writes", "callback", "self.e", "5", "learn.training"),
    ]


def test_raises_say_when() -> None:
    """One exception under either of two conditions is one clause; a second kind needs that the first was not raised."""

    def either(self):
        if self.loss > 4 * self.best:
            raise CancelFit()
        if self.n >= self.most:
            raise CancelFit

    def other(self):
        if self.training:
            raise CancelFit
        if self.short:
            raise exceptions.CancelValid("x")

    def always(self):
        raise CancelFit()

    assert line(either) == "raises CancelFit if learn.loss > 4 * learn.best or learn.n >= learn.most"
    assert line(other) == "raises CancelFit if learn.training; raises CancelValid if not learn.training and learn.short"
    assert line(always) == "always raises CancelFit"
    assert [(i.target, i.when, i.certain) for i in read(always).items] == [("CancelFit", "", True)]


def test_errors_are_not_what_a_handler_is_for() -> None:
    """Python's own errors and assertions come last, and what follows them is still certain."""

    def handler(self):
        assert self.n > 0, "too few"
        if self.n > 9:
            raise ValueError("too many")
        self.learn.n = 1

    assert line(handler) == "sets learn.n = 1; asserts learn.n > 0; raises ValueError if learn.n > 9"
    assert done(handler) == [
        ("raises", "callback", "AssertionError", "learn.n > 0", "learn.n <= 0"),
        ("raises", "callback", "ValueError", "", "learn.n > 9"),
        ("!writes", "learner", "learn.n", "1", ""),
    ]


def test_caught_exceptions_do_not_leave() -> None:
    """A `try` takes away what it catches; its handlers are for errors, whatever else is in them."""

    def handler(self):
        try:
            raise CancelFit()
        except CancelFit:
            self.learn.a = 1
        try:
            self.learn.b = 2
        except ValueError as error:
            print(error)
            raise
        finally:
            self.learn.c = 3

    assert line(handler) == (
        "sets learn.b = 2, learn.c = 3; sets learn.a on CancelFit; prints a message and raises ValueError on ValueError"
    )
    assert done(handler)[:1] == [("writes", "learner", "learn.a", "1", "on CancelFit")]


def test_loops_and_matches_are_not_certain() -> None:
    """`for`, `while`, `match`, and all that follows a `return` inside them."""

    def handler(self):
        while self.more:
            self.learn.a = 1
        match self.mode:
            case "x":
                self.learn.b = 1
        for k, v in self.opts.items():
            if k:
                return
            self.learn.c = v
        self.learn.d = 1

    assert [(i.target, i.when, i.certain) for i in read(handler).items if i.kind == "writes"] == [
        ("learn.a", "while learn.more", False),
        ("learn.b", "learn.mode matches 'x'", False),
        ("learn.c", "not k for k, v in learn.opts.items()", False),
        ("learn.d", "", False),
    ]


# -- calls that are followed --


def test_own_methods_are_read_where_they_are_called() -> None:
    """With their arguments, through properties and `super()`, conditions kept, literals decided."""

    class Base(Callback):
        def handler(self):
            self.learn.base = 1

        def set(self, value, loud=False):
            if loud:
                print(value)
            if value is None:
                self.learn.none = 1
            else:
                self.learn.value = value

        @property
        def part(self):
            self.learn.asked = True
            return self.model.part

    class Derived(Base):
        def handler(self):
            if self.on:
                super().handler()
            self.set(True)
            self.part.eval()

    assert done(Derived.handler, Derived) == [
        ("writes", "learner", "learn.base", "1", "learn.on"),
        ("!writes", "learner", "learn.value", "True", ""),
        ("!writes", "learner", "learn.asked", "True", ""),
        ("!calls", "model", "self.part.eval()", "", ""),
    ]
    assert done(Base.handler, Derived) == [("!writes", "learner", "learn.base", "1", "")]


def freeze(model):
    for p in model.parameters():
        p.requires_grad_(False)


def count(model):
    n = 0
    for p in model.parameters():
        n += p.numel()
    return n


def stop_if(value):
    if value > 3:
        raise CancelFit


def test_functions_of_the_package_are_named_and_looked_into() -> None:
    """One that changes the loop is a call by its name; one that only counts is not; what they raise is raised here."""

    def handler(self):
        freeze(self.model)
        self.n = count(self.model)
        stop_if(self.n)
        self.learn.after = 1

    assert done(handler) == [
        ("!calls", "model", "freeze(model)", "", ""),
        ("!writes", "callback", "self.n", "count(model)", ""),
        ("raises", "learner", "CancelFit", "", "self.n > 3"),
        ("writes", "learner", "learn.after", "1", ""),
    ]


def test_helpers_that_call_each_other_end() -> None:
    """Recursion, direct or not, is read once."""

    class Round(Callback):
        def handler(self):
            self.learn.n = 1
            self.handler()
            self.ping()

        def ping(self):
            self.learn.ping = 1
            self.pong()

        def pong(self):
            self.learn.pong = 1
            self.ping()

    assert line(Round.handler, Round) == "sets learn.n = 1, learn.ping = 1, learn.pong = 1"


# -- what an adapter asks --


def test_assigned_gives_the_expression() -> None:
    """The node of what is assigned; where it depends on a condition, none that could pass for a constant."""

    def handler(self):
        self.run = not hasattr(self, "finder") and self.rank == 0
        self.learn.training = False
        if self.x:
            self.off = True

    found = read(handler)
    assert ast.unparse(found.assigned("run")) == "not hasattr(self, 'finder') and self.rank == 0"
    assert ast.unparse(found.assigned("training", "learner")) == "False"
    assert isinstance(found.assigned("off"), ast.IfExp)
    assert (found.assigned("training"), found.assigned("nothing")) == (None, None)


def test_only_reads_and_nothing() -> None:
    """Reads are only told where there is nothing else to tell."""

    def reads(self):
        return self.learn.loss + self.opt.lr

    def nothing(self):
        """Does nothing."""

    assert line(reads) == "only reads learn.loss, opt.lr"
    assert (line(nothing), read(nothing)) == ("does nothing", Effects((), "does nothing", True))


def test_a_condition_that_all_share_is_said_once() -> None:
    """In front, and the rest of each condition behind its clause."""

    def handler(self):
        if self.training:
            self.learn.a = 1
            if self.deep:
                self.model.eval()

    assert line(handler) == "if learn.training: sets learn.a = 1; calls model.eval() if learn.deep"


def test_long_lines_lose_the_least_important_first() -> None:
    """Values, conditions and what the callback keeps for itself go first; an exception that steers never goes."""

    def handler(self):
        self.a_rather_long_name_of_its_own = compute_something_with(self.learn, self.model, self.opt)
        self.learn.another_rather_long_name = compute_something_with(self.learn, self.model, self.opt)
        self.learn.yet_another_rather_long_name = compute_something_with(self.learn, self.model, self.opt)
        if self.learn.another_rather_long_name > self.a_rather_long_name_of_its_own * self.a_factor:
            raise CancelFit

    assert line(handler) == (
        "raises CancelFit if learn.another_rather_long_name > self.a_rather_long_name_of_its_own * learn.a_factor; …"
    )


# -- anything that can be called --


def test_lambdas_partials_and_functions_that_are_bound() -> None:
    """The callback is the argument that is left, or the one that is already bound."""

    class Plain(Callback):
        def handler(self):
            self.learn.a = 1

    def given(how, cb):
        cb.learn.n = how

    def named(cb, how):
        cb.learn.n = how

    def none():
        print("x")

    class Other:
        def handler(self, cb):
            self.x = 1
            cb.learn.y = 2

    assert line(lambda cb: cb.learn.save("x")) == "calls learn.save('x')"
    assert line(functools.partial(given, 3), Plain) == "sets learn.n = 3"
    assert line(functools.partial(named, how=None), Plain) == "sets learn.n = None"
    assert line(functools.partial(given, 3, Plain()), Plain) == "sets learn.n = 3"
    assert line(functools.partial(Other().handler, Plain()), Plain) == "sets learn.y = 2"
    assert line(Plain().handler, Plain) == "sets learn.a = 1"
    assert line(none) == "prints a message"


def test_what_cannot_be_read_is_empty() -> None:
    """Built-in functions, exec'd and typed ones, objects without source: no effects, and not complete."""
    names: dict[str, Any] = {}
    exec("def handler(self):\n    self.learn.a = 1", names)
    exec(compile("def typed(self):\n    self.learn.a = 1", "<stdin>", "exec"), names)
    for thing in (len, names["handler"], names["typed"], 3, None, "x", dict, [], property(len), functools.partial(len)):
        assert effects(thing, Callback, WORDS) == Effects(), thing
    assert Effects().complete is False


def test_callable_objects_and_strange_ones() -> None:
    """An object is read by its `__call__`; one that answers to every name, or cannot be hashed, does no harm."""

    class Calls:
        __hash__ = None

        def __call__(self, cb):
            cb.learn.n = 1

    class Answers:
        def __getattr__(self, name):
            raise RuntimeError(name)

    class Strange(Callback):
        def __getattr__(self, name):
            raise RuntimeError(name)

        def handler(self):
            self.anything.at_all = self.learn.x

    assert effects(Calls(), Callback, WORDS).complete
    assert effects(Answers(), Callback, WORDS) == Effects()
    assert line(Strange.handler, Strange) == "sets learn.anything.at_all = learn.x"


def test_a_function_of_a_thousand_lines(tmp_path: Any) -> None:
    """A long function, a deep one and one with a very long expression are read, or given up, without an error."""
    path = tmp_path / "long.py"
    lines = "".join(f"    self.learn.a{n} = {n}\n" for n in range(1000))
    deep = "".join(f"{'  ' * n}  if self.x{n}:\n" for n in range(18)) + "  " * 20 + "self.learn.a = 1\n"
    wide = "    self.learn.a = " + " + ".join(f"self.x{n}" for n in range(1500)) + "\n"
    path.write_text(f"def long(self):\n{lines}\ndef deep(self):\n{deep}\ndef wide(self):\n{wide}")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    assert len(read(names["long"]).items) == 1000
    assert len(line(names["long"])) <= LONGEST
    assert read(names["deep"]).items[0].certain is False
    assert isinstance(read(names["wide"]), Effects)


def test_any_function_can_be_read() -> None:
    """All functions of some large modules of the standard library, each as a handler of its own class."""
    import argparse
    import asyncio.base_events
    import collections
    import dataclasses
    import inspect
    import json.decoder
    import pickle
    import typing
    import unittest.mock
    import zipfile

    read_ones = 0
    for module in (
        argparse,
        asyncio.base_events,
        collections,
        dataclasses,
        inspect,
        json.decoder,
        pickle,
        typing,
        unittest.mock,
        zipfile,
        ast,
        sys.modules[__name__],
    ):
        for holder in [module, *filter(inspect.isclass, vars(module).values())]:
            owner = holder if isinstance(holder, type) else Callback
            for member in list(vars(holder).values()):
                found = effects(member, owner, WORDS)
                assert isinstance(found, Effects)
                assert len(found.summary) <= 2 * LONGEST
                assert all(isinstance(item, Effect) for item in found.items)
                read_ones += found.complete
    assert read_ones > 500


def test_reading_leaves_no_trace() -> None:
    """Nothing of what is read is run, imported or changed: a property that raises, a module that is not loaded."""

    class Trap(Callback):
        @property
        def part(self):
            raise RuntimeError("run")

        def handler(self):
            import a_module_that_does_not_exist as missing

            missing.go(self.part)

    before = set(sys.modules)
    assert isinstance(line(Trap.handler, Trap), str)
    assert set(sys.modules) == before
