"""What one call of `Engine.run` will go through: a new run, one that resumes, or the rest of an interrupted one.

The same decisions in the same order as `Engine.run`, taken from the engine's state and the call's arguments, without
changing either. Constraint: of the user's data only the length is asked for, as ignite does.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import GeneratorType
from typing import Any

from ignite.engine import Engine
from ignite.engine.deterministic import DeterministicEngine

from loopscope.adapters.ignite.lines import Lines
from loopscope.errors import BadValue

NAMES = ("data", "max_epochs", "max_iters", "epoch_length")
"""The parameters of `Engine.run`."""

BEFORE_ITERATION = ("GET_BATCH_STARTED", "DATALOADER_STOP_ITERATION", "GET_BATCH_COMPLETED")
"""The events of a batch behind which its iteration has not been counted yet."""

MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an interrupted run stands: behind `event`, with `counter` batches of its epoch counted by ignite."""

    event: str
    counter: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The counts of one run; None where only the run knows.

    `kind` is "new", "resumed", "continued" (an interrupted run goes on), or "nothing" (a run that failed has left its
    generator behind: ignite then only drops it). `epoch` and `iteration` are the state's at the beginning, `skipped`
    the batches that the first epoch counts as done, `length` those of an epoch, `epochs` how many epochs there are,
    `cut` the batches of a last one that `max_iters` ends on the way. `supply` is how many batches the data gives before
    it starts again, `drawn` how many of these are gone; `dry` says that it may have no more at some time, `given` that
    the data is known. `closes` says that an interrupted run is closed first.
    """

    kind: str
    with_data: bool
    epoch: int = 0
    iteration: int = 0
    skipped: int = 0
    length: int | None = None
    epochs: int | None = None
    cut: int | None = None
    max_iters: int | None = None
    supply: int | None = None
    drawn: int | None = 0
    dry: bool = False
    given: bool = True
    place: Place | None = None
    closes: bool = False

    @property
    def epochs_before(self) -> int:
        """Return the number of the epoch before the first one that runs or goes on in this run."""
        return self.epoch - self.inside

    @property
    def inside(self) -> bool:
        """Return whether the run goes on in the middle of an epoch."""
        return self.place is not None and self.place.event not in ("STARTED", "EPOCH_COMPLETED")

    @property
    def iterations(self) -> int | None:
        """Return how many iterations begin, None where only the run knows."""
        known = [(part.times, part.batches) for part in self.parts()]
        if self.dry or any(None in one for one in known):
            return None
        begun = self.place is not None and self.place.event in BEFORE_ITERATION
        return sum((times or 0) * (batches or 0) for times, batches in known) + begun

    def parts(self) -> Iterator[Part]:
        """Yield the epochs in order, equal ones together."""
        if self.length is None or self.epochs is None:
            if self.inside:
                yield Part(1, None)
            yield Part(None if self.epochs is None else self.epochs - self.inside, None)
            return
        left = self.epochs - (self.cut is not None)
        if left and (self.skipped or self.kind == "continued"):
            yield Part(1, self.length - self.skipped)
            left -= 1
        if left > 0:
            yield Part(left, self.length)
        if self.cut is not None:
            yield Part(1, self.cut, True)


@dataclass(frozen=True, slots=True)
class Part:
    """Epochs that are alike: how many, and the batches of each; `cut`: `max_iters` ends the run in it."""

    times: int | None
    batches: int | None
    cut: bool = False


def planned(engine: Engine, arguments: Mapping[str, Any], lines: Lines) -> Plan:
    """Return the plan of `engine.run(**arguments)`; `data` may be left out: then all that depends on it stays open.

    Raises `BadValue` where ignite refuses the call.
    """
    given: dict[str, Any] = {name: arguments.get(name) for name in NAMES}
    _check(engine, given)
    given |= {name: int(given[name]) for name in COUNTED if given[name] is not None}
    state = engine.state
    max_epochs, max_iters = state.max_epochs, state.max_iters
    if max_epochs is not None:
        max_epochs = _limit("max_epochs", given["max_epochs"], "epoch", state.epoch, max_epochs)
    if max_iters is not None:
        max_iters = _limit("max_iters", given["max_iters"], "iteration", state.iteration, max_iters)
    generator = engine._internal_run_generator
    known = "data" in arguments or given["epoch_length"] is not None
    fresh = engine._dataloader_iter is None
    data = (given["data"] if known else MISSING) if fresh else state.dataloader
    if (max_epochs is None and max_iters is None) or (_done(state, max_epochs, max_iters) and generator is None):
        closes = isinstance(generator, GeneratorType) and inspect.getgeneratorstate(generator) == inspect.GEN_SUSPENDED
        if closes:  # which closes the data of the interrupted run as well
            data, fresh = given["data"] if known else MISSING, True
        length = _first_of(given["epoch_length"], _length(given["data"]), state.epoch_length)
        limits = (None if given["max_iters"] is not None else _first_of(given["max_epochs"], 1)), given["max_iters"]
        plan = _new(length, *limits)
        return replace(_with_data(engine, plan, data, fresh), closes=closes)
    return _resumed(engine, generator, data, fresh, (given["epoch_length"], max_epochs, max_iters), lines)


def _resumed(
    engine: Engine,
    generator: Any,
    data: Any,
    fresh: bool,
    limits: tuple[int | None, int | None, int | None],
    lines: Lines,
) -> Plan:
    state, (asked, max_epochs, max_iters) = engine.state, limits
    length = _first_of(state.epoch_length, asked, None if data is MISSING else _length(data))
    skipped = 0
    if fresh and length and (not engine.should_terminate or isinstance(engine, DeterministicEngine)):
        skipped = state.iteration % length
    counts = _counted(state.epoch, state.iteration, skipped, length, max_epochs, max_iters)
    plan = replace(counts, kind="resumed")
    if engine.interrupt_resume_enabled and isinstance(generator, GeneratorType):
        if inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED:
            return Plan("nothing", True)
        place = lines.suspended(generator)
        if place is not None:
            plan = _continued(state, Place(*place), length, max_epochs, max_iters)
    return _with_data(engine, plan, data, fresh)


def _continued(state: Any, place: Place, length: int | None, max_epochs: int | None, max_iters: int | None) -> Plan:
    """Return the plan of what is left of an interrupted run; `skipped` are the batches of its epoch that are over."""
    if place.event in ("STARTED", "EPOCH_COMPLETED"):
        plan = _counted(state.epoch, state.iteration, 0, length, max_epochs, max_iters)
    else:
        begun = place.event in BEFORE_ITERATION
        skipped = place.counter + begun
        ahead = state.iteration + begun
        plan = _counted(state.epoch - 1, ahead, skipped, length, max_epochs, max_iters, inside=True)
        plan = replace(plan, epoch=state.epoch, iteration=state.iteration)
    return replace(plan, kind="continued", place=place)


def _new(length: int | None, max_epochs: int | None, max_iters: int | None) -> Plan:
    return _counted(0, 0, 0, length, max_epochs, max_iters)


def _counted(  # noqa: PLR0913 - the state and the limits of a run
    epoch: int,
    iteration: int,
    skipped: int,
    length: int | None,
    max_epochs: int | None,
    max_iters: int | None,
    inside: bool = False,
) -> Plan:
    """Return how many epochs begin and with how many batches a last one is cut; `inside`: in the first one already."""
    plan = Plan("new", True, epoch, iteration, skipped, length, max_iters=max_iters)
    if length is None:
        return replace(plan, epochs=None if max_iters is not None else max(0, (max_epochs or 0) - epoch))
    first = length - skipped
    if max_iters is not None:
        left = max(0, max_iters - iteration)
        if not left and not inside:
            return replace(plan, epochs=0)
        whole = 0 if left < first else 1 + (left - first) // length
        cut = left if left < first else (left - first) % length or None
        return replace(plan, epochs=whole + (cut is not None), cut=cut)
    left = max(0, length * (max_epochs or 0) - iteration)
    if not left and not inside:
        return replace(plan, epochs=0)
    by_count = 1 + max(0, -(-(left - first) // length))
    return replace(plan, epochs=max(0, min(by_count, (max_epochs or 0) - epoch)))


def _with_data(engine: Engine, plan: Plan, data: Any, fresh: bool) -> Plan:
    """Return the plan with what is known of the data: how much it gives, and how much of that is gone."""
    if data is MISSING:
        return replace(plan, supply=None, drawn=None, given=False)
    if data is None:
        return replace(plan, with_data=False, supply=None, drawn=None)
    supply = _length(data)
    dry = supply is None
    if fresh:
        drawn = plan.iteration % supply if supply and isinstance(engine, DeterministicEngine) else 0
        return replace(plan, supply=supply, drawn=drawn, dry=dry)
    left = _left(engine._dataloader_iter)
    drawn_now = None if left is None or not supply else supply - left
    return replace(plan, supply=supply, drawn=drawn_now, dry=dry)


def _left(iterator: Any) -> int | None:
    """Return how many batches an iterator has left, where it says so without being moved."""
    yielded = getattr(iterator, "_num_yielded", None)
    if isinstance(yielded, int):  # that of a DataLoader
        whole = _length(iterator)
        return None if whole is None else whole - yielded
    if type(iterator).__module__ != "builtins" or isinstance(iterator, GeneratorType):
        return None
    return operator.length_hint(iterator, -1) if operator.length_hint(iterator, -1) >= 0 else None


def _done(state: Any, max_epochs: int | None, max_iters: int | None) -> bool:
    by_iteration = max_iters is not None and state.iteration >= max_iters
    by_count = (
        state.epoch_length is not None and max_epochs is not None and state.iteration >= state.epoch_length * max_epochs
    )
    return by_iteration or by_count or (max_epochs is not None and state.epoch >= max_epochs)


def _first_of(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _length(data: Any) -> int | None:
    """Return `len(data)`, None for data without a length; ignite asks in the same way."""
    if data is None or not hasattr(data, "__len__"):
        return None
    try:
        return len(data)
    except TypeError:
        return None


COUNTED = ("max_epochs", "max_iters", "epoch_length")


def _is_whole(value: Any) -> bool:
    """Return whether ignite counts up to a value as to a whole number: 1e4 and True are such to it."""
    return hasattr(value, "__index__") or (isinstance(value, float) and value.is_integer())


def _check(engine: Engine, given: Mapping[str, Any]) -> None:
    """Raise `BadValue` for arguments that `Engine.run` refuses."""
    state, data = engine.state, given["data"]
    if data is not None and not isinstance(data, Iterable):
        raise BadValue(
            f"data={data!r} cannot be iterated over. Accepted: a DataLoader, a list of batches, an iterator."
        )
    for name in COUNTED:
        if given[name] is not None and not _is_whole(given[name]):
            raise BadValue(f"{name}={given[name]!r} is no whole number. Type {name}=1, say.")
    if given["max_epochs"] is not None and given["max_iters"] is not None:
        raise BadValue("run takes max_epochs or max_iters, not both. Leave one of them out.")
    for name, other in (("max_iters", "max_epochs"), ("max_epochs", "max_iters")):
        if given[name] is not None and getattr(state, other, None) is not None:
            raise BadValue(
                f"this engine has run with {other}={getattr(state, other)}, and ignite refuses to go on with {name}. "
                f"Type engine.state.{other} = None first."
            )
    length = given["epoch_length"]
    whole = _length(data)
    counts = state.epoch_length is None or _starts_anew(engine, given)
    if (length is not None and length < 1) or (length is None and whole == 0 and counts):
        raise BadValue("an epoch needs at least one batch. Give data that has some, or epoch_length=1, say.")
    if length is not None and state.epoch_length not in (None, length) and not _starts_anew(engine, given):
        raise BadValue(
            f"this run goes on with epoch_length={state.epoch_length}; ignite refuses another (got {length}). "
            f"Leave epoch_length out."
        )


def _starts_anew(engine: Engine, given: Mapping[str, Any]) -> bool:
    state = engine.state
    limits = [
        _first_of(given[name], getattr(state, name)) if getattr(state, name) is not None else None
        for name in ("max_epochs", "max_iters")
    ]
    return limits == [None, None] or (_done(state, *limits) and engine._internal_run_generator is None)


def _limit(name: str, value: int | None, of: str, progress: int, known: int) -> int:
    """Return a limit that is set anew by the call, or the one that the state has."""
    if value is None:
        return known
    if value < 1 or value < progress:
        raise BadValue(
            f"{name}={value} is less than the {of} that this engine's state is at ({progress}). Type a greater one, or "
            f"engine.state.{name} = None to start from the beginning."
        )
    return value
