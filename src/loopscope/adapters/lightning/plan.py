"""Which batches and validations a fit has, epoch by epoch, as its settings decide it: counted, never run.

The rules are those of Lightning's loops: when gradients are accumulated, when it validates, when `max_steps` ends an
epoch in the middle, when loaders are asked for again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from loopscope.adapters.lightning.folding import Part, folded, joined, times
from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.loaders import batches
from loopscope.adapters.lightning.resume import Start
from loopscope.adapters.lightning.stops import Stops

UNLIMITED = -1
"""What `max_epochs` and `max_steps` are where there is no limit."""

EVERY = "val_check_interval"
"""The label of batches of which at least one comes before a validation."""

MOST_EPOCHS = 20_000
"""Of so many epochs each one is looked at; more are taken for as many as come."""


Kind = Literal["plain", "adds", "steps", "open"]
"""A batch with an optimizer step of its own; one whose gradients add up for a later step; one that has the step of
several batches; one of which only the run knows that."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A training batch; `last`: of those that come in a row the last one is the last one of the epoch."""

    kind: Kind = "plain"
    last: bool = False


@dataclass(frozen=True, slots=True)
class Validation:
    """A validation among the batches; `clears`: the gradients are zeroed before, None: only the run knows.

    `sure` is False where only the run knows whether it comes: because of the time, or because something stops the fit.
    """

    clears: bool | None = True
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """The batches of one optimizer step, where gradients are accumulated, with the validations among them."""

    parts: Parts


Piece: TypeAlias = "Batch | Validation | Window"
Parts: TypeAlias = "tuple[Part[Piece], ...]"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: `parts` in order; `loose` says that it may be left after any batch, because something may stop it.

    `full` says that its last batch is the last one of the data; `ahead` that a batch is drawn before the first one;
    `resumed` that it begins where a checkpoint was saved in its middle.
    """

    parts: Parts
    loose: bool = False
    full: bool = True
    ahead: bool = False
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """What an epoch does that others do not: it validates, asks for the training loaders, or for those to validate."""

    checks: bool = False
    train: bool = False
    val: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole fit: `skipped` says why there is no training, `least` how many epochs there are at least.

    `due` has an entry for each of the epochs that are planned. `label` says what ends them where their number is open;
    `asks_val` that the validation loaders are asked for before the first epoch.
    """

    epochs: tuple[Part[Epoch], ...] = ()
    due: tuple[Due, ...] = ()
    least: int = 0
    skipped: str = ""
    label: str = ""
    sanity: bool = False
    asks_val: bool = False


@dataclass(slots=True)
class _State:
    """What changes from epoch to epoch: numbers from 0, and the epochs at which loaders were last asked for."""

    epoch: int
    steps: int
    batches: int
    asked: int
    val_asked: float = -math.inf
    val_there: bool = False


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans a fit from `start` on; `factor(epoch)` is how many batches make one optimizer step, None if that is open.

    `counts` says that a scheduler may count epochs.
    """

    given: Given
    start: Start
    stops: Stops
    factor: Callable[[int], int | None]
    counts: bool = False

    # -- what is asked ------------------------------------------------------------------------------------

    @property
    def validates(self) -> bool:
        """Whether a fit validates at all."""
        trainer, source = self.given.trainer, self.given.sources["val"]
        return bool(trainer.limit_val_batches > 0 and source.defined and self.given.overrides("validation_step"))

    @property
    def max_steps(self) -> int:
        return int(self.given.trainer.fit_loop.max_steps)

    @property
    def max_epochs(self) -> int:
        """The number at which the epochs end, -1 where nothing but steps or a handler ends them."""
        if self.given.epochs is not None:
            return self.start.epochs + self.given.epochs
        limit = self.given.trainer.fit_loop.max_epochs
        if limit is None:
            timer = self.given.package.part("callbacks").Timer
            timed = any(isinstance(one, timer) for one in self.given.trainer.callbacks)
            limit = UNLIMITED if timed or self.max_steps != UNLIMITED else 1000
        return int(limit)

    @property
    def known(self) -> bool:
        """Whether the number of batches of an epoch is known, and with it that of the optimizer steps."""
        train = batches(self.given, "train")
        return train.total is not None and not train.upto

    @property
    def limited(self) -> bool:
        """Whether `max_steps` ends the fit at a batch that is known."""
        return self.max_steps != UNLIMITED and self.known and self.given.automatic

    @property
    def open_ended(self) -> bool:
        """Whether `max_steps` ends the fit, and only the run knows when."""
        return self.max_steps != UNLIMITED and not self.limited

    def checks(self, epoch: int) -> bool:
        """Return whether an epoch is one that validates."""
        every = self.given.trainer.check_val_every_n_epoch
        return self.validates and (every is None or (epoch + 1) % every == 0)

    # -- the whole ---------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        start, last = self.start, self.max_epochs
        sanity = self.validates and self.given.trainer.num_sanity_val_steps > 0 and not start.restarting
        if batches(self.given, "train").none:
            return Plan(skipped="there is no training batch", sanity=sanity)
        if start.known and 0 <= last <= start.epochs:
            return Plan(skipped=f"max_epochs={last} is reached already", sanity=sanity)
        if start.known and 0 <= self.max_steps <= start.steps:
            return Plan(skipped=f"max_steps={self.max_steps} is reached already", sanity=sanity)
        state = _State(start.epochs, start.steps, start.batches, start.epochs, val_there=sanity)
        if sanity and self.checks(state.epoch):
            state.val_asked = state.epoch
        asks_val = self.checks(state.epoch) and not state.val_there
        if asks_val:
            state.val_there, state.val_asked = True, state.epoch
        planned = list(self.epochs(state, last))
        epochs, due = [epoch for epoch, _ in planned], tuple(one for _, one in planned)
        label = ""
        if len(epochs) > MOST_EPOCHS or (last == UNLIMITED and not self.limited):
            label = "n"
        if self.open_ended or not start.known:
            label = "max_steps" if self.max_steps != UNLIMITED else "max_epochs"
        return Plan(folded(epochs), due, self.least(len(epochs)), "", label, sanity, asks_val)

    def least(self, most: int) -> int:
        """Return after how many epochs the training may be stopped at the earliest."""
        if not self.stops.any:
            return most
        loop = self.given.trainer.fit_loop
        wanted = loop.min_epochs if loop.min_epochs is not None else int(loop.min_steps is not None)
        return min(most, max(0 if self.stops.before else 1, wanted - self.start.epochs))

    def epochs(self, state: _State, last: int) -> Iterator[tuple[Epoch, Due]]:
        """Yield the epochs, one by one; of endless ones enough for what is due to come again."""
        if self.start.inside:
            yield self.resumed(state)
        if last == UNLIMITED and not self.limited:
            trainer = self.given.trainer
            every, reload = trainer.check_val_every_n_epoch or 1, trainer.reload_dataloaders_every_n_epochs or 1
            last = state.epoch + 3 * math.lcm(every, reload)
        for _ in range(MOST_EPOCHS + 1):
            if 0 <= last <= state.epoch or (self.limited and state.steps >= self.max_steps):
                return
            yield self.epoch(state)

    # -- one epoch ---------------------------------------------------------------------------------------

    def epoch(self, state: _State) -> tuple[Epoch, Due]:
        number, factor = state.epoch, self.factor(state.epoch)
        due, loose, full = self.due(state), self.is_loose(number), True
        train = batches(self.given, "train")
        if self.known and factor is not None and train.total is not None:
            done = train.total
            if self.limited:
                done = min(done, (self.max_steps - state.steps) * factor)
            full = done == train.total
            parts = self.parts(number, done, factor, state.batches, full)
            parts = _marked(parts) if full and self.counts else parts
            state.steps += math.ceil(done / factor) if full else done // factor
            state.batches += done
        else:
            parts = self.open_parts(factor, train.why, train.total)
        state.epoch += 1
        return Epoch(parts, loose, full, train.sized is False and number > 0), due

    def due(self, state: _State) -> Due:
        """Return what is due in the next epoch."""
        number, reload = state.epoch, self.given.trainer.reload_dataloaders_every_n_epochs
        checks = self.checks(number)
        train = bool(reload and number - state.asked >= reload)
        val = checks and (not state.val_there or bool(reload and number - state.val_asked >= reload))
        state.asked = number if train else state.asked
        state.val_asked = number if val else state.val_asked
        state.val_there = state.val_there or val
        return Due(checks, train, val)

    def is_loose(self, number: int) -> bool:
        """Return whether something may stop the training in the middle of an epoch."""
        return self.stops.inside and number >= (self.given.trainer.fit_loop.min_epochs or 0)

    def resumed(self, state: _State) -> tuple[Epoch, Due]:
        """Return the epoch in which a checkpoint was saved: where it goes on there is only known while it runs."""
        check: Parts = (Part(Validation(None, sure=False)),) if self.validates else ()
        rest: Part[Piece] = Part(Batch("open"), None, "the rest")
        due = self.due(state)
        state.epoch += 1
        return Epoch((*check, rest, *check), resumed=True), replace(due, val=True)

    def interval(self, total: int | None) -> int | None:
        """Return after how many batches it validates; 0: after the last one, None: only the run knows."""
        trainer = self.given.trainer
        if trainer._val_check_time_interval is not None:
            return None
        interval = trainer.val_check_interval
        if isinstance(interval, int):
            return interval
        if interval == 1.0:
            return 0
        return None if total is None else max(1, int(total * interval))

    def parts(self, number: int, done: int, factor: int, before: int, full: bool) -> Parts:
        """Return the `done` batches of an epoch, `before` having run before it, with the validations among them.

        They are those of an epoch that validates; that others do not is said by `Due`.
        """
        total = batches(self.given, "train").total
        interval = self.interval(total) if self.validates else 0
        before = before if self.given.trainer.check_val_every_n_epoch is None else 0
        handles = bool(self.given.trainer.strategy.handles_gradient_accumulation)
        script = _Script(factor, interval, before, handles)
        period = math.lcm(factor, interval or 1)
        whole = (done - 1) // period
        first = script.parts(0, period, False) if whole else ()
        found = joined(times(first, whole), script.parts(whole * period, done, full))
        if not self.validates:
            return found
        if interval == 0 and full:
            return (*found, Part(Validation()))
        ends = isinstance(found[-1].item, Validation)
        return (*found, Part(Validation(None, sure=False))) if self.is_loose(number) and not ends else found

    def open_parts(self, factor: int | None, why: str, most: int | None) -> Parts:
        """Return the parts of an epoch whose number of batches only the run knows."""
        one = factor == 1 or not self.given.automatic
        batch = Batch("plain" if one else "open")
        interval, label = self.interval(None), why or "max_steps"
        all_of_them: Part[Piece] = Part(batch, most, label)
        if not self.validates:
            return (all_of_them,)
        if interval == 0:
            sure = not self.open_ended and most is None
            return all_of_them, Part(Validation(True if one else None, sure))
        group: Parts = (Part(batch, interval, EVERY), Part(Validation(None, sure=False)))
        return (Part(group, None, label),)


def _marked(parts: Parts) -> Parts:
    """Return parts in which the last batch is marked as such; a group that it is in is taken apart for that."""
    *before, last = parts
    if isinstance(last.item, Validation):
        return (*_marked(tuple(before)), last)
    if isinstance(last.item, Batch):
        return (*before, replace(last, item=replace(last.item, last=True)))
    if last.most is not None and last.most > 1:
        return _marked((*before, replace(last, most=last.most - 1), replace(last, most=1)))
    if isinstance(last.item, Window):
        return (*before, replace(last, item=Window(_marked(last.item.parts))))
    return (*before, *_marked(last.item))


@dataclass(frozen=True, slots=True)
class _Script:
    """The batches of an epoch one by one: what each does, and after which of them it validates.

    `interval` is 0 where it does not validate among them, None where it may do so after any.
    """

    factor: int
    interval: int | None
    before: int
    handles: bool

    def parts(self, begin: int, end: int, full: bool) -> Parts:
        """Return the batches `begin` + 1 .. `end`; `full`: the last of them is the last one of the epoch."""
        pieces: list[Piece] = []
        window: list[Piece] = []
        for number in range(begin + 1, end + 1):
            steps = number % self.factor == 0 or (full and number == end)
            check = self.validation(number, steps)
            if self.factor == 1:
                pieces += [Batch(), *check]
                continue
            batch = Batch("steps" if steps or self.handles else "adds")
            window += [batch] if steps else [batch, *check]
            if steps:
                pieces += [Window(tuple(folded(window))), *check]
                window = []
        if window:
            pieces.append(Window(tuple(folded(window))))
        return folded(pieces)

    def validation(self, number: int, steps: bool) -> list[Validation]:
        if self.interval is None:
            return [Validation(None, sure=False)]
        due = self.interval and (self.before + number) % self.interval == 0
        return [Validation(steps)] if due else []
