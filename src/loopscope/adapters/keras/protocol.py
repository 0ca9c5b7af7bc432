"""The loop of one run as a tree of scopes: epochs, batches and validation, as often as the arguments say."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from loopscope.adapters.keras.members import APART, nth
from loopscope.adapters.keras.reading import Source, of_keras, steps_of
from loopscope.model import Event, Need, Node, Repeat, Scope, Step, Turns, enclosing
from loopscope.source import place

DUE = "validation is due"
"""The flag under which an epoch validates, where not all do."""

BUILD = "build"

REST = "the rest of the data"
"""The flag of an epoch that gets fewer batches than the others, since they left so many."""


@dataclass(frozen=True, slots=True)
class Stops:
    """What a handler may end early, by setting `model.stop_training` or its like: the batches of a pass, the epochs."""

    batches: bool = False
    epochs: bool = False
    tests: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What the arguments of a run come to.

    Epochs are counted from `first` to `last` (excluded); `first` is None where only the run knows it. `train` holds the
    batches of the epochs, in turn; `valid` the batches of a validation, None where there is none; `freq` says after
    which epochs it comes.
    """

    first: int | None = 0
    last: int = 1
    train: tuple[Repeat, ...] = ()
    valid: Repeat | None = None
    freq: int | Sequence[int] | None = 1
    apart: frozenset[str] = frozenset()
    stops: Stops = Stops()

    def due(self) -> tuple[tuple[int, int | None, int], ...] | None:
        """Return which epochs of this run validate, from 1: `Turns.spans`; None where only the run knows."""
        if self.freq is None:
            return ()
        if self.first is None:
            return None
        if isinstance(self.freq, int):
            return ((self.freq - self.first % self.freq, None, self.freq),)
        listed = sorted({one - self.first for one in self.freq if self.first < one <= self.last})
        return tuple((one, one, 1) for one in listed)


def fit(model: Any, plan: Plan) -> Scope:
    """Return the loop of `Model.fit`."""
    source = Source.of(model, "fit")
    body: tuple[Node, ...] = (
        source.step(BUILD, "self._symbolic_build"),
        source.event("on_train_begin"),
        _epochs(model, plan, source),
        source.step("finalize the variables", "self.optimizer.finalize_variable_values"),
        source.event("on_train_end"),
    )
    return Scope("fit", body, method="Model.fit", place=place(of_keras(model, "fit")))


def evaluate(model: Any, plan: Plan) -> Scope:
    """Return the loop of `Model.evaluate`, by itself or as a validation inside of `fit`."""
    source = Source.of(model, "evaluate")
    batches = plan.valid if plan.valid is not None else Repeat(0, 0)
    body = (
        source.step(BUILD, "self._symbolic_build"),
        source.event("on_test_begin"),
        _batches(model, "test", source, batches, plan),
        source.step("metrics", "self._get_metrics_result_or_logs"),
        source.event("on_test_end"),
    )
    return Scope("validate", body, method="Model.evaluate", place=place(of_keras(model, "evaluate")))


def predict(model: Any, plan: Plan) -> Scope:
    """Return the loop of `Model.predict`."""
    source = Source.of(model, "predict")
    body = (
        source.event("on_predict_begin"),
        _batches(model, "predict", source, plan.train[0], plan),
        source.event("on_predict_end"),
        source.step("join the outputs", "tree.map_structure_up_to"),
    )
    return Scope("predict", body, method="Model.predict", place=place(of_keras(model, "predict")))


def _batches(model: Any, mode: str, source: Source, repeat: Repeat, plan: Plan) -> Scope:
    draw = source.draw()
    ends = source.event(APART[mode], plan.apart)
    early = plan.stops.tests if mode == "test" else plan.stops.batches
    body: tuple[Node, ...] = (
        draw,
        source.event(f"on_{mode}_batch_begin"),
        *steps_of(model, f"{mode}_step"),
        ends if ends.how == "calls" else _handed_over(ends),
    )
    return Scope("batch", body, repeat=_at_most(repeat) if early else repeat, place=draw.place)


def handed_over(event: str) -> str:
    """Return what the moment is called at which an event is given to the pool of threads that calls its handlers."""
    return f"{event} handed over"


def _handed_over(ends: Event) -> Scope:
    step = Step("submit to the pool", f"self._async_dispatch(self._{ends.name}, batch, logs)", ends.place)
    return enclosing("hand over", step, ends, event=handed_over(ends.name), place=ends.place)


def _at_most(repeat: Repeat) -> Repeat:
    return Repeat(min(1, repeat.least), repeat.most, repeat.label)


# -- the epochs ----------------------------------------------------------------------------------------------


def _epochs(model: Any, plan: Plan, source: Source) -> Scope:
    loop = source.first(ast.For, lambda node: ast.unparse(node.target) == "epoch")
    valid, turns = _validation(model, plan, source)
    batches, more = _shares(model, plan, source)
    body: tuple[Node, ...] = (
        source.step("reset metrics", "self.reset_metrics"),
        source.event("on_epoch_begin"),
        *batches,
        source.step("metrics", "self._get_metrics_result_or_logs"),
        *valid,
        source.event("on_epoch_end"),
    )
    return Scope("epoch", body, repeat=_times(plan), turns=(*turns, *more), place=source.place(loop))


def _times(plan: Plan) -> Repeat:
    number = max(0, plan.last - (plan.first or 0))
    least = 0 if plan.first is None else min(1, number) if plan.stops.epochs else number
    return Repeat(least, number)


def _shares(model: Any, plan: Plan, source: Source) -> tuple[list[Scope], list[Turns]]:
    """Return the batches of an epoch; where epochs have different numbers of them, those of both kinds."""
    whole, *_, rest = *plan.train, plan.train[-1]
    if whole == rest:
        return [_batches(model, "train", source, whole, plan)], []
    every = len(plan.train)
    turn = Turns(REST, ((every, None, every),))
    kinds = (
        (whole, Need(REST, False, f"not in every {nth(every)} epoch, which gets what is left of the data")),
        (rest, Need(REST, True, f"only in every {nth(every)} epoch, which gets what is left of the data")),
    )
    return [replace(_batches(model, "train", source, times, plan), needs=(need,)) for times, need in kinds], [turn]


def _validation(model: Any, plan: Plan, source: Source) -> tuple[list[Scope], list[Turns]]:
    """Return the validation of an epoch, and in which epochs it comes, where that is not in all of them."""
    spans = plan.due()
    if plan.valid is None or spans == ():
        return [], []
    inner = evaluate(model, plan)
    place = source.place(source.called("self.evaluate"))
    which = f"in every {nth(plan.freq)} epoch" if isinstance(plan.freq, int) else "in some epochs"
    needs = () if plan.freq == 1 else (Need(DUE, True, f"only {which} (validation_freq={plan.freq})"),)
    body = tuple(node for node in inner.body if not isinstance(node, Step) or node.name != BUILD)  # it is built by then
    scope = Scope("validate", body, needs=needs, method=inner.method, place=place)
    return [scope], [Turns(DUE, spans)] if needs and spans is not None else []
