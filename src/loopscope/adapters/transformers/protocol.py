"""A training as scopes, events and steps: what the schedule, the handlers and the overrides make of it.

Its order is that of the methods of `Trainer` in 5.24; `lines.changed` says where an installed one has another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from loopscope.adapters.transformers.lines import line
from loopscope.adapters.transformers.opening import EVALUATION, GOES_ON, KIND, STEP, TAIL, Open, flag
from loopscope.adapters.transformers.pieces import FIRED_BY, UNLOGGED, Pieces, fired, guarded, may_end_with
from loopscope.adapters.transformers.schedule import KINDS, Epoch, Every, Part, Schedule, Times, Unit, leaves, schedule
from loopscope.adapters.transformers.settings import Pass, Settings
from loopscope.adapters.transformers.vocabulary import EVALUATE, LOG, SAVE, STOP, STOP_EPOCH
from loopscope.model import Need, Node, Repeat, Scope


def evaluate(pieces: Pieces) -> Scope:
    """Return the root of `Trainer.evaluate`."""
    return root("evaluate", pieces.evaluation())


def predict(pieces: Pieces, over: Pass) -> Scope:
    """Return the root of `Trainer.predict`."""
    nodes = (*pieces.batches(over), pieces.event("on_predict", "predict"))
    return root("predict", pieces.own("predict", nodes))


def unknown(pieces: Pieces, run: str) -> Scope:
    """Return the root of a run of which only the events are known."""
    return root(run, (pieces.anything(run, FIRED_BY[run], f"as {pieces.owner}.{run} does"),))


def root(run: str, nodes: tuple[Node, ...]) -> Scope:
    return Scope(run, nodes, place=line(run, "self._memory_tracker.start").place, method=f"Trainer.{run}")


def scheduled(settings: Settings, open_: Open) -> Schedule:
    """Return the schedule of a training, with what handlers may change of it left open."""
    plan, shaky = settings.plan, open_.shaky
    if "all" in shaky or open_.may(STOP, (*STEP, *TAIL), False):
        plan = replace(plan, epochs=None, steps=None)
    elif loses_count(settings, open_):
        plan = replace(plan, stops=False)
        shaky = shaky | {kind for kind in KINDS if getattr(plan, kind).by_steps and getattr(plan, kind).steps != 1}
    return schedule(plan, breaks=open_.stops((*STEP, *TAIL)), shaky=shaky - {"all"})


def loses_count(settings: Settings, open_: Open) -> bool:
    """Return whether handlers may end an epoch early: from there on no step has the number that was planned for it."""
    plan, events = settings.plan, [*STEP]
    for name, fires in ((LOG, ("on_log",)), (EVALUATE, EVALUATION), (SAVE, ("on_save",))):
        every: Every = getattr(plan, KIND[name])
        follows = every.by_steps or every.first or (name == SAVE and settings.saves_best)
        if follows or open_.needs(name, False, "step", every) is not None:
            events += fires
    return open_.ends_epochs(events)


@dataclass(frozen=True, slots=True)
class Training:
    """Builds the protocol of `Trainer.train`: `Training(pieces, settings, open, scheduled(settings, open)).root()`."""

    pieces: Pieces
    settings: Settings
    open: Open
    schedule: Schedule

    def root(self) -> Scope:
        """Return the root scope."""
        own = self.pieces.own
        return root("train", own("train", own("_inner_training_loop", self.nodes())))

    def nodes(self) -> tuple[Node, ...]:
        pieces = self.pieces
        return (
            pieces.step("prepare", "_inner_training_loop", "self._prepare_for_training"),
            pieces.event("on_train_begin", "_inner_training_loop"),
            *(pieces.own("_evaluate", pieces.evaluation()) if self.settings.starts_with_evaluation else ()),
            *self.epochs(),
            *pieces.own("_finalize_training", self.finale()),
        )

    def finale(self) -> tuple[Node, ...]:
        """Return what ends a training: its summary is logged, and the best model loaded."""
        pieces = self.pieces
        ends = [self.tail(epoch, "epoch") for epoch in self.all_epochs()]
        text = "always; where the log of the last epoch came as well, the two are told apart"
        alike = (Need("a log of its own", True, text),) if any(may_end_with("on_log", end) for end in ends) else ()
        best = (pieces.step("load the best model", "_finalize_training", "self._load_best_model"),)
        return (
            *guarded("log", pieces.log(), alike, ()),
            *(best if self.settings.loads_best else ()),
            pieces.event("on_train_end", "_finalize_training"),
        )

    # -- epochs --------------------------------------------------------------------------------------------------

    def all_epochs(self) -> list[Epoch]:
        return [epoch for times in self.schedule.epochs for epoch in times.what]

    def epochs(self) -> Iterator[Scope]:
        shaken = False
        for times in self.schedule.epochs:
            (epoch,) = times.what
            scope = self.epoch(epoch)
            stops = self.open.may(STOP, [*self.open.early, *fired(scope)])
            needs = GOES_ON[:1] if shaken else ()
            yield replace(scope, repeat=repeated(times.times, stops, "epochs"), needs=needs)
            shaken = shaken or stops

    def epoch(self, epoch: Epoch) -> Scope:
        pieces = self.pieces
        ends = (pieces.event("on_epoch_end", "_run_epoch"), *self.tail(epoch, "epoch"))
        begins = pieces.event("on_epoch_begin", "_inner_training_loop")
        return Scope(
            "epoch",
            (begins, *pieces.own("_run_epoch", (*self.parts(epoch.parts), *ends))),
            sets=(*self.open.resets(STOP_EPOCH), *(((UNLOGGED, False),) if self.logs_plainly("epoch") else ())),
            place=line("_inner_training_loop", "range").place,
            method="Trainer._run_epoch",
        )

    def parts(self, parts: Iterable[Part]) -> tuple[Scope, ...]:
        """Return the steps of an epoch; behind one at which a handler may stop it, the next needs that it goes on."""
        found: list[Scope] = []
        shaken = False
        for part in parts:
            scope = self.part(part)
            found.append(replace(scope, needs=GOES_ON) if shaken else scope)
            shaken = shaken or self.stops(scope)
        return tuple(found)

    def part(self, part: Part) -> Scope:
        if not isinstance(part, Times):
            return self.unit(part)
        inner = self.parts(part.what)
        scope = inner[0] if len(inner) == 1 else Scope("steps", inner)
        return replace(scope, repeat=repeated(part.times, self.stops(scope), "steps"))

    def stops(self, scope: Scope) -> bool:
        """Return whether handlers may end the epoch at an event in `scope`, or have done so before its first one."""
        return self.open.stops(fired(scope))

    # -- a step --------------------------------------------------------------------------------------------------

    def unit(self, unit: Unit) -> Scope:
        """Return an optimizer step: one batch, or several of which the last one steps."""
        pieces = self.pieces
        begins = (
            pieces.step("draw a batch", "_run_epoch", "self.get_batch_samples"),
            *pieces.besides("get_batch_samples"),
            pieces.event("on_step_begin", "_run_epoch"),
        )
        ends = (*pieces.backward(), *self.optimizer(), *self.tail(unit, "step"))
        sets, place = self.begins(unit), line("_run_epoch", "enumerate").place
        counted: tuple[tuple[str, bool | None], ...] = ((UNLOGGED, True),) if self.counts_logs() else ()
        if self.settings.plan.accumulation == 1:
            return Scope("batch", (*begins, *ends), sets=(*sets, *counted), place=place, method="Trainer._run_epoch")
        last = Scope("batch", ends, needs=self.finishes(unit), sets=counted, place=place)
        first = () if unit.batches == 1 else (self.accumulated(unit.batches),)
        return Scope("step", (*begins, *first, last), sets=sets, place=place, method="Trainer._run_epoch")

    def begins(self, unit: Unit) -> tuple[tuple[str, bool | None], ...]:
        """Return what is known of the flags when a step begins: they are False, or what the schedule makes of them."""
        known = ((LOG, unit.log), (EVALUATE, unit.evaluate), (SAVE, unit.save))
        return tuple((flag(name), value) for name, value in known if self.open.tracks(name))

    def accumulated(self, batches: int | None) -> Scope:
        body = (*self.pieces.backward(), self.pieces.event("on_substep_end", "_run_epoch"))
        repeat = repeated(None if batches is None else batches - 1, self.open.halves, "batches")
        return Scope("batch", body, repeat=repeat, place=line("_run_epoch", "enumerate").place)

    def finishes(self, unit: Unit) -> tuple[Need, ...]:
        """Return what the last batch of a step needs."""
        whole = () if unit.batches else (Need("whole step", True, "only if the data does not end within the step"),)
        return (*whole, *(GOES_ON if self.open.halves and unit.batches != 1 else ()))

    def optimizer(self) -> Iterator[Node]:
        pieces = self.pieces
        if self.settings.clips:
            yield pieces.step("clip the gradients", "_run_epoch", "self._clip_grad_norm")
        yield pieces.event("on_pre_optimizer_step", "_run_epoch")
        yield pieces.step("optimizer step", "_run_epoch", "self.optimizer.step")
        yield pieces.event("on_optimizer_step", "_run_epoch")
        yield pieces.step("zero_grad", "_run_epoch", "model.zero_grad")
        yield pieces.event("on_step_end", "_run_epoch")

    # -- what follows a step or an epoch -------------------------------------------------------------------------

    def tail(self, what: Unit | Epoch, level: str) -> tuple[Node, ...]:
        """Return what is logged, evaluated and saved: `Trainer._maybe_log_save_evaluate`."""
        nodes: list[Node] = []
        needs = self.logs(what, level)
        if needs is not None:
            known = self.counts_logs() and not self.logs_plainly(level)
            since: tuple[tuple[str, bool | None], ...] = ((UNLOGGED, False),) if known else ()
            nodes += guarded("log", self.pieces.log(), needs, (*self.open.resets(LOG), *since))
        needs = self.open.needs(EVALUATE, what.evaluate, level, self.settings.plan.evaluate)
        best = self.settings.saves_best and needs is not None
        if needs is not None:
            sets = (*self.open.resets(EVALUATE), *(((flag(SAVE), None),) if best else ()))
            nodes += guarded("evaluate", self.pieces.own("_evaluate", self.pieces.evaluation()), needs, sets)
            if self.settings.may_lack_metric(self.pieces.has_metrics):
                nodes.append(self.pieces.step("best metric", "_maybe_log_save_evaluate", "self._determine_best_metric"))
        needs = self.open.needs(SAVE, what.save, level, self.settings.plan.save)
        if best:
            needs = (Need(flag(SAVE), True, "only if the metric is the best so far (save_strategy='best')"),)
        if needs is not None:
            nodes += guarded("save", self.pieces.save(), needs, self.open.resets(SAVE))
        return self.pieces.own("_maybe_log_save_evaluate", tuple(nodes))

    def logs(self, what: Unit | Epoch, level: str) -> tuple[Need, ...] | None:
        """Return what a log needs; None where there never is one: an epoch without a step has nothing to log."""
        needs = self.open.needs(LOG, what.log, level, self.settings.plan.log)
        if needs is None or isinstance(what, Unit):
            return needs
        new = Need(UNLOGGED, True, "only if a step was made since the last log")
        return (*needs, *((new,) if self.counts_logs() else ())) if what.parts else None

    def counts_logs(self) -> bool:
        """Return whether a log behind an epoch may find nothing new: there was one, or no step was finished."""
        epochs = self.all_epochs()
        units = [unit for epoch in epochs for unit in leaves(epoch.parts)]
        unfinished = self.open.halves or any(unit.batches is None for unit in units)
        return self.any_log(epochs, "epoch") and (unfinished or self.any_log(units, "step"))

    def logs_plainly(self, level: str) -> bool:
        """Return whether each epoch ends with a log of all that was trained: the next one begins with nothing new."""
        plain = not self.open.tracks(LOG) and self.counts_logs()
        return level == "epoch" and plain and all(epoch.log is True for epoch in self.all_epochs())

    def any_log(self, all_: Sequence[Unit | Epoch], level: str) -> bool:
        every = self.settings.plan.log
        return any(self.open.needs(LOG, one.log, level, every) is not None for one in all_)


def repeated(times: int | None, stops: bool, label: str) -> Repeat:
    """Return how often something runs that may be left early where it `stops`."""
    if times is None:
        return Repeat(0, None, label)
    return Repeat(1 if stops and times else times, times)
