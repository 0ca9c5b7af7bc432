"""The loop of one run as a tree of scopes: epochs, batches and validation, as often as the arguments say."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loopscope.adapters.keras.members import APART
from loopscope.adapters.keras.reading import Source, of_keras, steps_of
from loopscope.model import Event, Need, Node, Repeat, Scope, Step, enclosing
from loopscope.source import place

DUE = "validation is due"
"""The flag under which an epoch validates, where the run decides."""

MOST_KINDS = 30
"""So many stretches of equal epochs are shown one by one; a run with more is told with a condition instead."""


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

    def validates(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, ends with a validation: `Trainer._should_eval`."""
        if self.valid is None or self.freq is None:
            return False
        return (epoch + 1) % self.freq == 0 if isinstance(self.freq, int) else epoch + 1 in self.freq


def fit(model: Any, plan: Plan) -> Scope:
    """Return the loop of `Model.fit`."""
    function = of_keras(model, "fit")
    source = Source.of(function)
    body: tuple[Node, ...] = (
        source.step("build", "self._symbolic_build"),
        source.event("on_train_begin"),
        *_epochs(model, plan, source),
        source.step("finalize the variables", "self.optimizer.finalize_variable_values"),
        source.event("on_train_end"),
    )
    return Scope("fit", body, method="Model.fit", place=place(function))


def evaluate(model: Any, plan: Plan) -> Scope:
    """Return the loop of `Model.evaluate`, by itself or as a validation inside of `fit`."""
    function = of_keras(model, "evaluate")
    source = Source.of(function)
    batches = plan.valid if plan.valid is not None else Repeat(0, 0)
    body = (
        source.step("build", "self._symbolic_build"),
        source.event("on_test_begin"),
        _batches(model, "test", source, batches, plan),
        source.step("metrics", "self._get_metrics_result_or_logs"),
        source.event("on_test_end"),
    )
    return Scope("validate", body, method="Model.evaluate", place=place(function))


def predict(model: Any, plan: Plan) -> Scope:
    """Return the loop of `Model.predict`."""
    function = of_keras(model, "predict")
    source = Source.of(function)
    body = (
        source.event("on_predict_begin"),
        _batches(model, "predict", source, plan.train[0], plan),
        source.event("on_predict_end"),
        source.step("join the outputs", "tree.map_structure_up_to"),
    )
    return Scope("predict", body, method="Model.predict", place=place(function))


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


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of epoch: how many batches it has and whether it validates (None: the run decides)."""

    batches: Repeat
    validates: bool | None


_Stretch = tuple[_Kind, int]


def _epochs(model: Any, plan: Plan, source: Source) -> Iterator[Scope]:
    """Yield the epochs: stretches of equal ones, and where these recur, a scope around them."""
    if plan.first is None:
        yield _epoch(model, plan, source, _open(plan), Repeat(0, plan.last))
        return
    number = max(0, plan.last - plan.first)
    least = 1
    for times, stretches in _layout(plan, plan.first, number):
        inner = _stretches(model, plan, source, stretches, least if times == 1 else 1)
        if times == 1:
            yield from inner
        else:
            size = sum(count for _, count in stretches)
            repeat = Repeat(least if plan.stops.epochs else times, times)
            yield Scope(f"every {size} epochs", tuple(inner), repeat=repeat, place=source.place(_loop(source)))
        least = 0


def _stretches(model: Any, plan: Plan, source: Source, stretches: Sequence[_Stretch], least: int) -> Iterator[Scope]:
    for kind, count in stretches:
        yield _epoch(model, plan, source, kind, Repeat(min(least, count) if plan.stops.epochs else count, count))
        least = 0


def _layout(plan: Plan, first: int, number: int) -> list[tuple[int, list[_Stretch]]]:
    """Return (times, stretches): what recurs, and what is left."""
    period = _period(plan)

    def kind(epoch: int) -> _Kind:
        return _Kind(plan.train[epoch % len(plan.train)], plan.validates(first + epoch))

    if period is None:  # a list of epochs that validate: none behind its last
        last = max((one for one in plan.freq if isinstance(one, int)), default=0)  # type: ignore[union-attr]
        horizon = min(number, max(0, last - first))
        found = [(1, _runs(kind, horizon))]
        if number > horizon:
            found.append((1, [(_Kind(plan.train[0], False), number - horizon)]))
        parts = [stretch for _, stretches in found for stretch in stretches]
        return [(1, parts)] if len(plan.train) == 1 and len(parts) <= MOST_KINDS else [(1, [(_open(plan), number)])]
    times, rest = divmod(number, period)
    if times < 2:
        times, rest = 0, number
    if min(period, number) > MOST_KINDS * 20 or len(_runs(kind, min(period, number))) > MOST_KINDS:
        return [(1, [(_open(plan), number)])]
    once = period == 1 and times
    found = [(1, [(kind(0), times)])] if once else [(times, _runs(kind, period))] if times else []
    return [*found, *([(1, _runs(kind, rest))] if rest else [])]


def _period(plan: Plan) -> int | None:
    """Return after how many epochs they recur; None where that is given epoch by epoch."""
    if plan.valid is None or plan.freq is None:
        return len(plan.train)
    return math.lcm(len(plan.train), plan.freq) if isinstance(plan.freq, int) else None


def _runs(kind: Callable[[int], _Kind], number: int) -> list[_Stretch]:
    return [(one, len(list(same))) for one, same in itertools.groupby(map(kind, range(number)))]


def _open(plan: Plan) -> _Kind:
    """Return the kind of an epoch of which only the run knows which one it is."""
    lengths = [one.least for one in plan.train]
    most = None if any(one.most is None for one in plan.train) else max(one.most or 0 for one in plan.train)
    due = plan.valid is not None and (None if plan.freq != 1 else True)
    return _Kind(plan.train[0] if len(plan.train) == 1 else Repeat(min(lengths), most), due)


def _epoch(model: Any, plan: Plan, source: Source, kind: _Kind, repeat: Repeat) -> Scope:
    body: list[Node] = [
        source.step("reset metrics", "self.reset_metrics"),
        source.event("on_epoch_begin"),
        _batches(model, "train", source, kind.batches, plan),
        source.step("metrics", "self._get_metrics_result_or_logs"),
    ]
    if kind.validates is not False:
        inner = evaluate(model, plan)
        needs = () if kind.validates else (Need(DUE, True, f"validation_freq={plan.freq}"),)
        at = source.place(source.called("self.evaluate"))
        body.append(Scope("validate", inner.body, needs=needs, method=inner.method, place=at))
    body.append(source.event("on_epoch_end"))
    return Scope("epoch", tuple(body), repeat=repeat, place=source.place(_loop(source)))


def _loop(source: Source) -> Any:
    return source.first(ast.For, lambda node: ast.unparse(node.target) == "epoch")
