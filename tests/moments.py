"""Holds what the catalogue says of a framework against runs of it: `complaints(framework("keras"), runs, told)`.

A run is a line of its events and what was done between them (`tests.marks`). A complaint is an event that is not where
its moment is, one that fires there and is not named, or one that fires where nobody is said to be called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopscope.catalog import MOMENTS, Framework
from tests.marks import Item, Mark

PREDICTING = ("prediction begins", "prediction ends")
"""The moments around a run that predicts, which has others only with its batches."""

STEPS = ("batch drawn", "after the forward", "after the loss", "after backward", "after the optimizer step")
"""The moments between two things that are done with one batch."""

OF_FIT = tuple(moment for moment in MOMENTS if moment not in PREDICTING)
OF_TRAINING = tuple(moment for moment in OF_FIT if not moment.startswith("validation"))
OF_PREDICTION = (*PREDICTING, *STEPS, "validation batch begins", "validation batch ends")


@dataclass(frozen=True)
class Batch:
    """One batch of a run, by positions in its line; `number` is that of the pass over the data."""

    number: int
    draw: int
    forward: int
    loss: int
    last: int
    backward: int | None = None
    step: int | None = None
    zero: int | None = None


@dataclass(frozen=True)
class Run:
    """One run: its line, its batches of training, and those of validation or prediction.

    `whole` says whether what is logged and saved is in the line.
    """

    line: Sequence[Item]
    whole: bool = True
    trained: Sequence[Batch] = field(init=False)
    answered: Sequence[Batch] = field(init=False)

    def __post_init__(self) -> None:
        for name, training in ("trained", True), ("answered", False):
            object.__setattr__(self, name, _zeroed(self.line, list(batches(self.line, training))))

    def events(self, low: int, high: int) -> list[str]:
        """The events between two positions, in order."""
        return [item for item in self.line[low + 1 : high] if isinstance(item, str)]

    def at(self, event: str) -> list[int]:
        """The positions at which `event` fires."""
        return [at for at, item in enumerate(self.line) if item == event]

    def before(self, at: int) -> int:
        """The position at which all was done with the batch before `at`; -1 at the begin."""
        return max((one.last for one in (*self.trained, *self.answered) if one.last < at), default=-1)

    def after(self, at: int) -> int:
        """The position of the next forward behind `at`; the length of the line at the end."""
        return min((one.forward for one in (*self.trained, *self.answered) if one.forward > at), default=len(self.line))

    def next(self, at: int) -> int:
        """The position at which the next batch is drawn or, if it was drawn ahead, used."""
        marks = enumerate(self.line[at + 1 :], at + 1)
        used = (at for at, item in marks if isinstance(item, Mark) and item.kind in ("draw", "forward"))
        return next(used, len(self.line))

    def passes(self, batches: Sequence[Batch]) -> list[tuple[Batch, Batch]]:
        """The first and the last batch of each pass over the data."""
        numbers = dict.fromkeys(one.number for one in batches)
        whole = [[one for one in batches if one.number == number] for number in numbers]
        return [(one[0], one[-1]) for one in whole]


def batches(line: Sequence[Item], training: bool) -> Iterator[Batch]:
    """Yield the batches of training, or the others: one for each forward, with the draw that was made for it."""
    marks = [(at, item) for at, item in enumerate(line) if isinstance(item, Mark)]
    forwards = [(at, mark) for at, mark in marks if mark.kind == "forward"]
    drawn: dict[int, list[int]] = {}
    for at, mark in marks:
        if mark.kind == "draw":
            drawn.setdefault(mark.drawn_from, []).append(at)
    used = [draws for draws in drawn.values() if _used(marks, draws[0]) is training]
    draws = [(number, at) for number, draws in enumerate(used) for at in draws]
    mine = [at for at, mark in forwards if mark.training is training]
    for (number, draw), forward in zip(draws, mine, strict=False):
        end = min((at for at, _ in forwards if at > forward), default=len(line))
        inside = [(at, mark.kind) for at, mark in marks if forward < at < end]
        loss, backward, step = (_first(inside, kind) for kind in ("loss", "backward", "step"))
        last = max(at for at in (forward, loss, backward, step) if at is not None)
        yield Batch(number, draw, forward, forward if loss is None else loss, last, backward, step)


def _zeroed(line: Sequence[Item], batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """Return the batches with where the gradients are zeroed, if that belongs to each batch that has a step."""
    zeros = [_zero(line, one) for one in batches]
    if any(zero is None for zero, one in zip(zeros, batches, strict=True) if one.step is not None):
        return tuple(batches)
    return tuple(
        one if zero is None else replace(one, zero=zero, last=zero) for zero, one in zip(zeros, batches, strict=True)
    )


def _zero(line: Sequence[Item], batch: Batch) -> int | None:
    """Return where gradients are zeroed behind the step of a batch, and before anything else is done."""
    behind = len(line) if batch.step is None else batch.step + 1
    marks = ((at, item.kind) for at, item in enumerate(line[behind:], behind) if isinstance(item, Mark))
    at, kind = next(marks, (0, ""))
    return at if kind == "zero" else None


def _used(marks: Sequence[tuple[int, Mark]], first: int) -> bool | None:
    """Return whether what is drawn first of some data is trained with; None if it is drawn to look at it only."""
    source = next(mark.drawn_from for at, mark in marks if at == first)
    for at, mark in marks:
        if at > first and mark.kind == "forward":
            return mark.training
        if at > first and mark.kind == "draw" and mark.drawn_from != source:
            return None
    return None


def _first(marks: Sequence[tuple[int, str]], kind: str) -> int | None:
    return next((at for at, found in marks if found == kind), None)


def complaints(of: Framework, runs: Mapping[str, Run], told: Collection[str]) -> list[str]:
    """Return what is wrong with the moments of a framework; `runs` are named as the kinds of the conformance suite.

    `told` are the events that have to be named where they fire.
    """
    judge = _Judge(of, runs, told)
    parts = {
        "normal": judge.fit,
        "accumulation": judge.accumulated,
        "validation alone": judge.validation,
        "prediction alone": judge.prediction,
        "exception in a callback": judge.raised,
    }
    return [one for kind, run in runs.items() for one in parts[kind](run)]


@dataclass(frozen=True)
class _Judge:
    of: Framework
    runs: Mapping[str, Run]
    told: Collection[str]

    def named(self, *moments: str) -> list[str]:
        return [event for moment in moments for event in self.of.moments.get(moment, ())]

    def there(self, moment: str, events: Iterable[str], others: Collection[str] = ()) -> list[str]:
        """Return which of `events` are named at a moment, or ought to be; `others` may be there for another reason."""
        named = self.named(moment)
        found = dict.fromkeys(events)
        return [one for one in found if one in named or (one in self.told and one not in others)]

    # -- runs ------------------------------------------------------------------------------------------------------

    def fit(self, run: Run) -> Iterator[str]:
        """Yield what is wrong in a run that trains and validates."""
        passes = run.passes(run.trained)
        if (
            len(passes) < 2
            or len(run.trained) < 4
            or any(one.backward is None or one.step is None for one in run.trained)
        ):
            yield f"a normal run has two epochs of two batches at least, all with an optimizer step; not {run.trained}"
            return
        yield from self.spans("run begins", run, [(-1, _drawn(run, passes[0][0]))])
        yield from self.order(run, "run begins", "epoch begins")
        yield from self.spans("epoch begins", run, [(run.before(one.forward), _drawn(run, one)) for one, _ in passes])
        for moment in STEPS:
            yield from self.step(moment, run, run.trained)
        yield from self.every("batch ends", run, run.trained)
        yield from self.spans("epoch's training ends", run, [(one.last, run.next(one.last)) for _, one in passes])
        if run.answered:
            yield from self.validation(run)
        ends = [*(one.forward for one, _ in passes[1:]), len(run.line)]
        yield from self.spans("epoch ends", run, [(run.before(end), end) for end in ends])
        yield from self.spans("run ends", run, [(run.before(len(run.line)), len(run.line))])
        yield from self.order(run, "epoch ends", "run ends")
        if run.whole:
            yield from self.beside("metrics logged", run, "log")
            yield from self.beside("checkpoint saved", run, "save")

    def validation(self, run: Run) -> Iterator[str]:
        """Yield what is wrong with the passes that validate."""
        yield from self.answers("validation", run)
        yield from self.step("validation batch begins", run, run.answered)
        yield from self.every("validation batch ends", run, run.answered)

    def prediction(self, run: Run) -> Iterator[str]:
        """Yield what is wrong with the passes that predict."""
        return self.answers("prediction", run)

    def answers(self, what: str, run: Run) -> Iterator[str]:
        """Yield what is wrong with the begin and the end of the passes without training."""
        passes = run.passes(run.answered)
        begins = [(run.before(first.forward), _drawn(run, first)) for first, _ in passes]
        yield from self.spans(f"{what} begins", run, begins)
        yield from self.spans(f"{what} ends", run, [(last.last, run.after(last.last)) for _, last in passes])

    def accumulated(self, run: Run) -> Iterator[str]:
        """Yield which events do not fire in batches without a step only, though they should, or the other way round."""
        found: dict[bool, list[set[str]]] = {True: [], False: []}
        for one in run.trained:
            found[one.step is not None].append(set(run.events(one.backward or one.last, run.next(one.last))))
        if not all(found.values()):
            yield f"accumulated: {len(found[True])} batches with a step, {len(found[False])} without"
        only = set.union(set(), *found[False]) - set.union(set(), *found[True])
        if set(self.there("accumulated", only)) != set(self.named("accumulated")):
            yield f"accumulated: {self.named('accumulated')} are named, {sorted(only)} fire there only"

    def raised(self, run: Run) -> Iterator[str]:
        """Yield which events should fire only where an exception leaves the run and do not, or the other way round."""
        only = set(run.events(-1, len(run.line))) - {event for one in self.normal() for event in one}
        if set(self.there("run raised", only)) != set(self.named("run raised")):
            yield f"run raised: {self.named('run raised')} are named, {sorted(only)} fire there only"

    def normal(self) -> Iterator[list[str]]:
        return (run.events(-1, len(run.line)) for kind, run in self.runs.items() if kind != "exception in a callback")

    # -- judgements ------------------------------------------------------------------------------------------------

    def step(self, moment: str, run: Run, batches: Sequence[Batch]) -> Iterator[str]:
        """Yield what is wrong between two things that are done with each batch."""
        if moment == "after the optimizer step" and all(one.zero is None for one in batches):
            yield from self.every(moment, run, batches)  # the gradients stay until the next batch
            return
        for batch in batches:
            low, high = _between(moment, batch, run)
            others: list[str] = []
            if high == batch.forward and low != batch.draw:  # drawn ahead, so that other things come in between
                others = self.named(*(name for name in MOMENTS if name != moment))
            found = self.there(moment, run.events(low, high), others)
            yield from self.compared(moment, found, f"with the batch at {batch.forward}")

    def every(self, moment: str, run: Run, batches: Sequence[Batch]) -> Iterator[str]:
        """Yield what is wrong behind all that is done with each batch: the events that fire behind each of them."""
        found = [run.events(one.last, run.next(one.last)) for one in batches]
        others = self.named("metrics logged", "checkpoint saved", *(STEPS if batches is run.answered else ()))
        if not found:
            yield f"{moment}: there is nothing to hold it against"
            return
        common = [one for one in self.there(moment, found[0], others) if all(one in events for events in found)]
        if len(run.passes(batches)) == len(batches):  # behind each batch there is the end of its pass, too
            common = [one for one in common if one in self.named(moment)]
        yield from self.compared(moment, common, "behind each batch")

    def spans(self, moment: str, run: Run, spans: Sequence[tuple[int, int]]) -> Iterator[str]:
        """Yield which events of a moment do not fire in each span, or elsewhere as well."""
        yield from self.within(moment, run, spans)
        for event in self.named(moment):
            if event not in self.named("metrics logged") and len(run.at(event)) != len(spans):
                yield f"{moment}: {event} fires {len(run.at(event))} times, and {len(spans)} are expected"

    def within(self, moment: str, run: Run, spans: Sequence[tuple[int, int]]) -> Iterator[str]:
        """Yield which events of a moment do not fire in each span, in their order, and which are named nowhere."""
        if not spans:
            yield f"{moment}: there is nothing to hold it against"
        for low, high in spans:
            events = run.events(low, high)
            known = self.named(*(OF_PREDICTION if moment in PREDICTING else OF_FIT if run.answered else OF_TRAINING))
            if moment in PREDICTING and len(run.answered) > 1:  # there is no moment for the batches of a prediction
                known += [one for one in events if len(run.at(one)) >= len(run.answered)]
            yield from self.compared(moment, self.there(moment, events, known), f"between {low} and {high}")

    def compared(self, moment: str, found: Sequence[str], where: str) -> Iterator[str]:
        if list(found) != self.named(moment):
            yield f"{moment}: {self.named(moment)} are named, {list(found)} fire {where}"

    def beside(self, moment: str, run: Run, kind: str) -> Iterator[str]:
        """Yield which events of a moment do not fire together with something that is done, as often as that."""
        done = [at for at, item in enumerate(run.line) if isinstance(item, Mark) and item.kind == kind]
        first = [at for at in done if at - 1 not in done]
        for event in self.named(moment):
            at = run.at(event)
            if not at or len(at) != len(first) or any(not {one - 1, one + 1} & {*done} for one in at):
                yield f"{moment}: {event} fires {len(at)} times, not beside the {len(first)} times of a {kind}"

    def order(self, run: Run, first: str, second: str) -> Iterator[str]:
        """Yield which events of one moment do not all come before those of another."""
        for event in self.named(first):
            for other in self.named(second):
                if event != other and max(run.at(event), default=-1) > min(run.at(other), default=len(run.line)):
                    yield f"{first}: {event} fires behind {other}"


def _between(moment: str, batch: Batch, run: Run) -> tuple[int, int]:
    backward, step, zero = (batch.loss if at is None else at for at in (batch.backward, batch.step, batch.zero))
    return {
        "batch drawn": _before(run, batch),
        "validation batch begins": _before(run, batch),
        "after the forward": (batch.forward, batch.loss),
        "after the loss": (batch.loss, backward),
        "after backward": (backward, step),
        "after the optimizer step": (step, zero),
    }[moment]


def _before(run: Run, batch: Batch) -> tuple[int, int]:
    """Return between what a batch is there and not used yet."""
    return max(batch.draw, run.before(batch.forward)), batch.forward


def _drawn(run: Run, batch: Batch) -> int:
    """Return where a batch is drawn or, if that was done ahead, used."""
    return batch.draw if batch.draw > run.before(batch.forward) else batch.forward
