"""The loop that `Engine.run` runs, as scopes: the way of its generator, or of the older path without one.

Verified against ignite 0.5.5 by the conformance suite. What handlers may change (`Openings`) is left to the run, and
only that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from loopscope.adapters.ignite.binding import STARTED_DATA, Counted, skipping
from loopscope.adapters.ignite.doings import Openings
from loopscope.adapters.ignite.lines import DRAWING, SETTING_UP, STARTING, Lines
from loopscope.adapters.ignite.plan import BEFORE_ITERATION, Part, Plan
from loopscope.model import Catch, Event, Need, Node, Repeat, Scope, Step, Turns

TERMINATE, TERMINATE_EPOCH, INTERRUPT = "terminate()", "terminate_epoch()", "interrupt()"
"""What a handler calls to leave the run, the epoch, or the run for a while; ignite does so behind its event."""

NOT_CAUGHT = ("KeyboardInterrupt", "SystemExit", "GeneratorExit", "CancelledError")
"""What `except Exception` lets pass."""

EXHAUSTED, DRAWN = "the data is at its end", "a batch is there"
AGAIN = "DATALOADER_STOP_ITERATION is not the last event"

BATCH = ("GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", "ITERATION_COMPLETED")
"""The events of a batch that have a count."""

AT_END = Need(EXHAUSTED, True, "only when the data is at its end")


@dataclass(slots=True)
class Protocol:
    """Builds the tree of one run: `Protocol(plan, lines, openings, counted, steps).root()`.

    `steps` are those of the process function, `interrupts` says whether somebody looks at INTERRUPT, `looks_at_end`
    whether at DATALOADER_STOP_ITERATION, and `fires_at_end` whether they fire events there. `flags` are those that are
    known when the run begins.
    """

    plan: Plan
    lines: Lines
    openings: Openings
    counted: tuple[Counted, ...]
    steps: tuple[Node, ...]
    interrupts: bool = False
    looks_at_end: bool = False
    fires_at_end: bool = False
    flags: dict[str, bool | None] = field(default_factory=dict)
    iteration: int | None = 0
    epoch: int = 0
    drawn: int | None = None

    def root(self) -> Scope:
        """Return the whole run."""
        plan = self.plan
        if plan.kind == "nothing":
            return Scope("run", ())
        self.iteration, self.epoch, self.drawn = plan.iteration, plan.epochs_before, plan.drawn
        self.flags = {EXHAUSTED: None if self.may_end() else False, STARTED_DATA: plan.kind == "continued"}
        body = [self.lines.event("STARTED"), *self.asks("STARTED")] if plan.place is None else []
        body += self.epochs()
        if plan.cut is not None and not self.loose_epochs:
            body.append(self.lines.event("TERMINATE"))
        by_limit = plan.cut is not None and not self.openings.stops and not self.loose_epochs
        needs = [Need(skipping("COMPLETED"), False, "only without terminate(skip_completed=True)")]
        run = Scope(
            "run",
            tuple(body),
            catches=() if by_limit else (Catch((TERMINATE,), (self.lines.event("TERMINATE"),)),),
            exit=(self.lines.event("COMPLETED", *needs[: "terminate" in self.openings.skips]),),
            method=f"Engine.{self.lines.methods[0]}",
        )
        return self.guarded(run)

    def guarded(self, run: Scope) -> Scope:
        """Put around the run what ends it from outside: an interruption, and errors that ignite swallows."""
        catches = [Catch((INTERRUPT,), (self.lines.event("INTERRUPT"),))] if self.interrupts else []
        if self.openings.swallows:
            catches.append(Catch(("*",), (self.lines.event("EXCEPTION_RAISED"),)))
        before: tuple[Node, ...] = ()
        if self.plan.closes and self.openings.swallows:
            closing = (self.lines.event("EXCEPTION_RAISED"),)
            before = (Scope("close the interrupted run", closing, catches=(Catch(("*",)),)),)
        return Scope("run", (run,), before=before, catches=tuple(catches))

    # -- epochs ------------------------------------------------------------------------------------------

    @property
    def loose_epochs(self) -> bool:
        """Whether only the run knows how many epochs there are."""
        opened, plan = self.openings, self.plan
        early = opened.ends_epochs or opened.swallows or plan.dry
        return bool(opened.resets) or plan.epochs is None or (plan.max_iters is not None and early)

    @property
    def loose_batches(self) -> bool:
        """Whether only the run knows how many batches an epoch has."""
        opened, plan = self.openings, self.plan
        by_limit = plan.max_iters is not None and self.loose_epochs
        return bool(opened.resets & {"epoch_length", "max_iters"}) or plan.length is None or by_limit

    def epochs(self) -> Iterator[Node]:
        place = self.plan.place
        parts = list(self.plan.parts())
        if self.loose_epochs:
            first = [Part(1, parts[0].batches)] if parts and (self.plan.inside or self.plan.skipped) else []
            parts = [*first, Part(None, self.plan.length)]
        for at, part in enumerate(parts):
            if at == 0 and place is not None and self.plan.inside:
                yield self.rest_of_epoch(part, place.event)
            else:
                yield self.whole_epochs(part)

    def whole_epochs(self, part: Part) -> Scope:
        """Return epochs that are alike, from EPOCH_STARTED on."""
        need = Need(STARTED_DATA, False, "only in the first epoch")
        turns = self.turns(("EPOCH_STARTED", "EPOCH_COMPLETED"), self.epoch)
        head = (
            self.lines.event("EPOCH_STARTED"),
            *self.asks("EPOCH_STARTED"),
            self.lines.step("start the data", SETTING_UP, need),
        )
        repeat = Repeat(0, None, "max_epochs") if part.times is None else Repeat(part.times, part.times)
        made = self.around(head, self.batches(part.batches, part.times), part, repeat, turns)
        self.epoch += part.times or 0
        return made

    def rest_of_epoch(self, part: Part, event: str) -> Scope:
        """Return what is left of the epoch in which a run was interrupted behind `event`."""
        body = [] if event == "EPOCH_STARTED" else self.rest_of_batch(event)
        counted = [one for one in self.counted if one.event == "EPOCH_COMPLETED" and one.by == "epoch"]
        sets = tuple((one.flag, one.filter.at(self.plan.epoch)) for one in counted)
        made = self.around((), (*body, *self.batches(part.batches, 1)), part, Repeat(1, 1), sets=sets)
        self.epoch += 1
        return made

    def around(
        self,
        head: tuple[Node, ...],
        body: Iterable[Node],
        part: Part,
        repeat: Repeat,
        turns: tuple[Turns, ...] = (),
        sets: tuple[tuple[str, bool | None], ...] = (),
    ) -> Scope:
        restart = self.lines.step("start the data", STARTING)
        catches = [Catch((TERMINATE_EPOCH,), (self.lines.event("TERMINATE_SINGLE_EPOCH"), restart))]
        if self.openings.swallows:
            catches.append(Catch((TERMINATE, INTERRUPT, *NOT_CAUGHT), (), "raise"))
            catches.append(Catch(("*",), (self.lines.event("EXCEPTION_RAISED"),)))
        needs = [Need(skipping("EPOCH_COMPLETED"), False, "only without terminate_epoch(skip_epoch_completed=True)")]
        last = self.lines.event("EPOCH_COMPLETED", *needs[: "terminate_epoch" in self.openings.skips])
        return Scope(
            "epoch",
            tuple(body),
            before=head,
            catches=tuple(catches),
            exit=() if part.cut and not self.loose_epochs else (last, *self.asks("EPOCH_COMPLETED")),
            repeat=repeat,
            sets=sets,
            turns=turns,
            method=f"Engine.{self.lines.methods[1]}",
        )

    # -- batches -----------------------------------------------------------------------------------------

    def batches(self, count: int | None, times: int | None) -> tuple[Node, ...]:
        """Return the batches of an epoch, which comes `times` times."""
        if self.loose_batches or count is None:
            repeat = Repeat(0, None, "len(data)" if self.plan.length is None else "epoch_length")
        else:
            repeat = Repeat(0 if self.plan.dry else count, count)
        total = None if count is None or times is None or self.loose_batches else count * times
        turns = self.exhaustion()
        if not self.splits:
            drawing = None if self.iteration is None else self.iteration - 1
            turns += self.turns(("GET_BATCH_STARTED", "GET_BATCH_COMPLETED"), drawing)
            turns += self.turns(("ITERATION_STARTED", "ITERATION_COMPLETED"), self.iteration)
        body, catches, last = self.batch(self.iteration)
        early = self.openings.ends_epochs or self.openings.swallows
        self.iteration = None if total is None or early or self.iteration is None else self.iteration + total
        if total is not None:
            self.draws(total)
        if count == 0 and not self.loose_batches:
            return ()
        sets = self.reopened(turns) if self.plan.place is not None else ()
        return (Scope("batch", body, catches=catches, exit=last, repeat=repeat, sets=sets, turns=turns),)

    def reopened(self, turns: Iterable[Turns]) -> tuple[tuple[str, None], ...]:
        """Return the flags that the rest of an interrupted batch has set, and that nobody knows behind it."""
        known = {turn.flag for turn in turns}
        flags = [one.flag for one in self.counted if one.event in BATCH]
        flags += [EXHAUSTED] if self.flags[EXHAUSTED] is None else []
        return tuple((flag, None) for flag in flags if flag not in known)

    @property
    def splits(self) -> bool:
        """Whether a batch may begin without an iteration, so that the two are counted apart."""
        return self.plan.dry or self.plan.length is None or self.openings.batches_differ

    def batch(self, before: int | None) -> tuple[tuple[Node, ...], tuple[Catch, ...], tuple[Node, ...]]:
        """Return the body of one batch, what it catches, and what follows then."""
        fetch, got, iteration = self.fetch(), self.got(), self.one_iteration()
        if self.splits:
            turns = self.turns(("ITERATION_STARTED", "ITERATION_COMPLETED"), before)
            iteration = (Scope("iteration", iteration, turns=turns),) if turns else iteration
        if self.plan.dry:
            return (*fetch, self.if_drawn(got, iteration)), (), ()
        if not self.openings.exhausts:
            return (*fetch, *got, *iteration), (), ()
        again = (self.lines.event("DATALOADER_STOP_ITERATION"), *self.restart(), *got)
        return (*fetch, *got), (Catch(("StopIteration",), again),), iteration

    def if_drawn(self, *parts: tuple[Node, ...]) -> Scope:
        """Return what follows only if the data had one more batch."""
        need = Need(DRAWN, True, "only if the data has one more")
        return Scope("drawn", tuple(one for part in parts for one in part), needs=(need,))

    def fetch(self) -> tuple[Node, ...]:
        """Return what ignite does to draw a batch."""
        if not self.plan.with_data and not self.openings.data:
            return ()
        begin, drawing = self.lines.event("GET_BATCH_STARTED"), self.lines.step("draw a batch", DRAWING)
        drawn = (begin, *self.asks("GET_BATCH_STARTED"), drawing)
        if self.flags[EXHAUSTED] is False and not self.looks_at_end:
            return drawn
        stop = self.lines.event("DATALOADER_STOP_ITERATION", AT_END)
        return (*drawn, stop, *self.asks("DATALOADER_STOP_ITERATION"), *self.restart(AT_END))

    def restart(self, *needs: Need) -> tuple[Node, ...]:
        """Return how ignite starts the data again, and draws from it."""
        again = Need(AGAIN, True, "only if another event was fired meanwhile")
        begin = [self.lines.event("GET_BATCH_STARTED", again)] if self.fires_at_end else []
        start, draw = ("start the data", STARTING), ("draw a batch", DRAWING)
        return (self.lines.step(*start, *needs), *begin, self.lines.step(*draw, *needs))

    def got(self) -> tuple[Node, ...]:
        if not self.plan.with_data and not self.openings.data:
            return ()
        return (self.lines.event("GET_BATCH_COMPLETED"), *self.asks("GET_BATCH_COMPLETED"))

    def one_iteration(self) -> tuple[Node, ...]:
        """Return an iteration: the process function between its two events."""
        limit = [Step("stop at max_iters")] if self.plan.max_iters is not None and self.loose_epochs else []
        return (
            *(self.lines.event("ITERATION_STARTED"), *self.asks("ITERATION_STARTED")),
            *self.steps,
            *(self.lines.event("ITERATION_COMPLETED"), *self.asks("ITERATION_COMPLETED"), *limit),
        )

    def asks(self, event: str) -> tuple[Node, ...]:
        """Return the step in which ignite leaves the epoch or the run, where a handler of `event` may ask for it."""
        return (self.lines.step("leave if asked to", "asking"),) if event in self.openings.stops else ()

    # -- the rest of an interrupted batch ----------------------------------------------------------------

    def rest_of_batch(self, event: str) -> list[Node]:
        done = self.plan.iteration
        counts = done + (event in BEFORE_ITERATION)
        sets: list[tuple[str, bool | None]] = [
            (one.flag, one.filter.at(done if one.event.startswith("GET") else counts))
            for one in self.counted
            if one.by == "iteration" and one.event in BATCH
        ]
        supply, drawn = self.plan.supply, self.drawn
        at_end = None if supply is None or drawn is None else drawn == supply
        if event == "GET_BATCH_STARTED" and self.flags[EXHAUSTED] is None:
            sets.append((EXHAUSTED, at_end))
        if event == "DATALOADER_STOP_ITERATION":
            self.drawn = None if supply is None else 1
        elif event == "GET_BATCH_STARTED":
            self.draws(1)
        nodes = self.behind(event)
        self.iteration = counts
        return [Scope("batch", nodes, sets=tuple(sets))] if any(isinstance(one, Event) for one in nodes) else []

    def behind(self, event: str) -> tuple[Node, ...]:
        """Return what is left of a batch behind one of its events."""
        if event == "ITERATION_COMPLETED":
            return ()
        if event == "ITERATION_STARTED":
            return self.one_iteration()[1 + len(self.asks(event)) :]
        if event == "GET_BATCH_COMPLETED":
            return self.one_iteration()
        last = (*self.got(), *self.one_iteration())
        last = (self.if_drawn(last),) if self.plan.dry else last
        if event == "DATALOADER_STOP_ITERATION":
            return (*self.fetch(), *last)
        return (*self.fetch()[1 + len(self.asks("GET_BATCH_STARTED")) :], *last)

    # -- counts ------------------------------------------------------------------------------------------

    def turns(self, events: Iterable[str], before: int | None) -> tuple[Turns, ...]:
        """Return the flags of filters at `events`, by entries of a scope; the first one has the count `before + 1`."""
        here = [one for one in self.counted if one.event in events and one.by not in self.openings.resets]
        return () if before is None else tuple(Turns(one.flag, one.filter.entries(before)) for one in here)

    def may_end(self) -> bool:
        """Return whether the data may be at its end before the run is: not where it is known to be enough."""
        plan, opened = self.plan, self.openings
        known = plan.iterations is not None and plan.supply is not None and plan.drawn is not None
        sure = known and not (opened.data or opened.exhausts or self.loose_epochs or self.loose_batches)
        return not sure or (plan.drawn or 0) + (plan.iterations or 0) > (plan.supply or 0)

    def exhaustion(self) -> tuple[Turns, ...]:
        """Return at which batches the data is at its end, where that follows from its length."""
        supply, drawn, opened = self.plan.supply, self.drawn, self.openings
        if not supply or drawn is None or self.flags[EXHAUSTED] is False:
            return ()
        if opened.data or opened.ends_epochs or opened.swallows or opened.exhausts:
            return ()
        return (Turns(EXHAUSTED, ((supply - drawn + 1, None, supply),)),)

    def draws(self, count: int) -> None:
        """Take note of so many drawn batches."""
        supply, drawn = self.plan.supply, self.drawn
        self.drawn = None if not supply or drawn is None else (drawn + count - 1) % supply + 1 if count else drawn
