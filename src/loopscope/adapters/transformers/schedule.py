"""Which optimizer steps a training consists of, and what is logged, evaluated and saved behind which: pure arithmetic.

Constraint: the same decisions as `DefaultFlowCallback` makes, from the same numbers; knows no trainer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

Sure: TypeAlias = bool | None
"""True or False; None where the schedule is not unrolled so far, so that only the run shows it."""

KINDS = ("log", "evaluate", "save")

MOST = 5
"""A schedule with more different steps than this is not unrolled: what is irregular in it is left open."""

MOST_STEPS, MOST_CHANGES = 2_000_000, 4_000
"""Above these numbers (of steps, and of stretches of equal steps in an epoch) nobody looks for a pattern."""


@dataclass(frozen=True, slots=True)
class Every:
    """When one thing is done: `Every(by_steps=True, steps=10)`, or at each `epoch`; not before `delay`.

    `first` adds the very first step, `last` the step that ends the run.
    """

    by_steps: bool = False
    steps: int = 0
    epoch: bool = False
    first: bool = False
    last: bool = False
    delay: float = 0


NEVER = Every()


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a run: `epochs` of `steps` optimizer steps of `accumulation` batches, `batches` in an epoch.

    None where the data has no length. It `stops` at `max_steps` if a DefaultFlowCallback is there to stop it. `done`
    steps were made before (the run is resumed); unless `skips` is False their batches are passed over.
    """

    epochs: int | None
    steps: int | None
    batches: int | None
    accumulation: int
    max_steps: int
    log: Every = NEVER
    evaluate: Every = NEVER
    save: Every = NEVER
    stops: bool = True
    done: int = 0
    skips: bool = True


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Times(Generic[T]):
    """Something and how often: `Times((one, other), 3)`; `times` is None where only the run knows."""

    what: tuple[T, ...]
    times: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """An optimizer step: its number of batches, and what follows it."""

    batches: int | None
    log: Sure = False
    evaluate: Sure = False
    save: Sure = False


Part: TypeAlias = "Unit | Times[Part]"


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch: its steps, and what follows the last one."""

    parts: tuple[Part, ...]
    log: Sure = False
    evaluate: Sure = False
    save: Sure = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """The epochs of a run, equal ones together; `opened` are the things whose steps were not unrolled."""

    epochs: tuple[Times[Epoch], ...]
    opened: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """How many different steps would have to be drawn."""
        return sum(_size(epoch.parts) for times in self.epochs for epoch in times.what)


def schedule(plan: Plan, *, breaks: bool = False, shaky: Collection[str] = (), most: int = MOST) -> Schedule:
    """Return the schedule of `plan`, as far unrolled as `most` different steps allow.

    `breaks` says that handlers may end an epoch early, `shaky` what they may change the intervals of.
    """
    if plan.epochs is None or plan.steps is None or plan.batches is None:
        return loose(plan, shaky)
    for count in range(len(KINDS)):
        for opened in combinations(KINDS, count):
            if (unrolled := _unrolled(plan, _Loose(frozenset(opened), frozenset(shaky), breaks), most)) is not None:
                return unrolled
    return _unrolled(plan, _Loose(frozenset(KINDS), frozenset(shaky), breaks), MOST_CHANGES) or loose(plan, shaky)


@dataclass(frozen=True, slots=True)
class _Loose:
    """What is left open of a schedule: the steps of what is `opened`, all of what is `shaky`."""

    opened: frozenset[str]
    shaky: frozenset[str]
    breaks: bool

    def sure(self, plan: Plan, kind: str, start: float, end: float) -> Sure:
        """Return whether something follows an epoch that lasts from `start` to `end`, or ends before that."""
        every: Every = getattr(plan, kind)
        if kind in self.shaky:
            return None
        if not every.epoch or every.delay > end:
            return False
        return None if self.breaks and every.delay > start else True


def loose(plan: Plan, shaky: Collection[str] = ()) -> Schedule:
    """Return the schedule of a run of which neither the number of epochs nor that of steps is known."""
    every: dict[str, Every] = {kind: getattr(plan, kind) for kind in KINDS}
    each = {kind: None if one.by_steps or one.first or kind in shaky else False for kind, one in every.items()}
    even = plan.batches is not None and plan.batches % plan.accumulation == 0
    known = even or plan.accumulation == 1
    unit = Unit(plan.accumulation if known else None, **each)
    left = _Loose(frozenset(KINDS), frozenset(shaky), breaks=True)
    ends = {kind: left.sure(plan, kind, 0, float("inf")) for kind in KINDS}
    return Schedule((Times((Epoch((Times((unit,), None),), **ends),), None),), frozenset(KINDS))


def _unrolled(plan: Plan, left: _Loose, most: int) -> Schedule | None:
    """Return the schedule with some of it left open; None if it is too long, or too irregular."""
    assert plan.epochs is not None
    assert plan.steps is not None
    assert plan.batches is not None
    first, skipped = divmod(plan.done, plan.steps)
    skipped = skipped if plan.skips else 0
    total = max((plan.epochs - first) * plan.steps - skipped, 0) if plan.batches else 0
    if plan.stops:
        total = min(total, max(plan.max_steps - plan.done, 1))
    if total > MOST_STEPS:
        return None
    codes = _codes(plan, left, total)
    epochs: list[Epoch] = []
    size = 0
    # an epoch without a single batch ends the run
    for epoch in range(first, plan.epochs if plan.batches else min(first + 1, plan.epochs)):
        begin = max((epoch - first) * plan.steps - skipped, 0)
        if begin >= total and plan.batches:
            break
        found = codes[begin : (epoch - first + 1) * plan.steps - skipped]
        offset = skipped if epoch == first else 0
        parts = _parts(plan, found.tobytes(), offset)
        if parts is None:
            return None
        end = epoch + _batches(plan, offset + len(found)) / plan.batches if plan.batches else 0
        epochs.append(Epoch(parts, **{kind: left.sure(plan, kind, epoch, end) for kind in KINDS}))
        size += _size(parts) if len(epochs) < 2 or epochs[-1] != epochs[-2] else 0
        if size > most:
            return None
    return Schedule(
        tuple(Times((epoch,), len(list(same))) for epoch, same in groupby(epochs)), left.opened | left.shaky
    )


def _batches(plan: Plan, steps: int) -> int:
    """Return how many batches so many steps of an epoch take."""
    assert plan.batches is not None
    return min(steps * plan.accumulation, plan.batches)


def _codes(plan: Plan, left: _Loose, total: int) -> Any:
    """Return a number for each step, in which the base-3 digits say what follows: 0 nothing, 1 something, 2 open."""
    numbers = np.arange(plan.done + 1, plan.done + total + 1)
    codes: Any = np.zeros(total, np.uint8)
    for digit, kind in enumerate(KINDS):
        every: Every = getattr(plan, kind)
        found: Any = np.zeros(total, np.uint8)
        if every.by_steps and every.steps > 0:
            found[(numbers % every.steps == 0) & (numbers >= every.delay)] = 1
        if every.first:
            found[numbers == 1] = 1
        if every.last and total and plan.stops and numbers[-1] >= max(plan.max_steps, every.delay):
            found[-1] = 1
        if kind in left.shaky or (kind in left.opened and found.any() and not found.all()):
            found[:] = 2
        codes += found * np.uint8(3**digit)
    return codes


def _parts(plan: Plan, codes: bytes, offset: int) -> tuple[Part, ...] | None:
    return _folded(codes, plan.accumulation, plan.batches or 0, plan.steps or 0, offset)


@functools.lru_cache(maxsize=64)
def _folded(codes: bytes, accumulation: int, batches: int, steps: int, offset: int) -> tuple[Part, ...] | None:
    """Return an epoch's steps, from number `offset` on, with equal stretches folded; None if they are too many."""
    values = np.frombuffer(codes, np.uint8)
    edges: Any = np.flatnonzero(np.diff(values)) + 1
    if len(edges) > MOST_CHANGES:
        return None
    uneven = batches % accumulation
    parts: list[Part] = []
    for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True):
        if end == begin:
            continue
        unit = _unit(int(values[begin]), accumulation)
        short = bool(uneven) and offset + end == steps  # the last step of a whole epoch
        parts += _repeated(unit, end - begin - short)
        parts += [replace(unit, batches=uneven)] if short else []
    return tuple(folded(parts))


def _unit(code: int, accumulation: int) -> Unit:
    digits = [(False, True, None)[code // 3**digit % 3] for digit in range(len(KINDS))]
    return Unit(accumulation, *digits)


def _repeated(unit: Unit, times: int) -> list[Part]:
    return [] if times < 1 else [unit] if times == 1 else [Times((unit,), times)]


LONGEST = 8
"""So many parts may be repeated together."""


def folded(parts: Iterable[Part]) -> list[Part]:
    """Return `parts` with what is repeated written once: `[a, b, a, b, c]` -> `[Times((a, b), 2), c]`."""
    found = list(parts)
    length = 2
    while length <= min(LONGEST, len(found) // 2):
        shorter = _fold(found, length)
        length = 2 if len(shorter) < len(found) else length + 1
        found = shorter
    return found


def _fold(parts: Sequence[Part], length: int) -> list[Part]:
    found: list[Part] = []
    at = 0
    while at < len(parts):
        block, times = parts[at : at + length], 1
        while len(block) == length and parts[at + times * length : at + (times + 1) * length] == block:
            times += 1
        found.append(Times(tuple(block), times) if times > 1 else parts[at])
        at += times * length if times > 1 else 1
    return found


def _size(parts: Iterable[Part]) -> int:
    return sum(_size(part.what) if isinstance(part, Times) else 1 for part in parts)


def leaves(parts: Iterable[Part]) -> Iterable[Unit]:
    """Yield the different steps of an epoch, in the order in which they stand."""
    for part in parts:
        if isinstance(part, Times):
            yield from leaves(part.what)
        else:
            yield part


def any_unit(epochs: Iterable[Times[Epoch]], asks: Callable[[Unit], Sure]) -> bool:
    """Return whether something may follow a step of these epochs: `any_unit(epochs, lambda unit: unit.log)`."""
    return any(asks(unit) is not False for times in epochs for epoch in times.what for unit in leaves(epoch.parts))
