"""Where the loop depends on what handlers do to `control`: which flags they may set, and what is asked of them when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from loopscope.adapters.transformers.control import NOTHING, Steering
from loopscope.adapters.transformers.schedule import Every, Sure
from loopscope.adapters.transformers.vocabulary import EVALUATE, FLAGS, LOG, SAVE, STOP, STOP_EPOCH
from loopscope.model import Need

BEFORE = ("on_train_begin", "on_epoch_begin")
STEP = ("on_step_begin", "on_substep_end", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end")
EVALUATION = ("on_prediction_step", "on_log", "on_evaluate")
TAIL = (*EVALUATION, "on_save")

ASKED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "step": {LOG: STEP, EVALUATE: (*STEP, "on_log"), SAVE: (*STEP, *EVALUATION)},
    "epoch": dict.fromkeys((LOG, EVALUATE, SAVE), ("on_epoch_end", *TAIL)),
}
"""Behind a step, and behind an epoch: the events at which a flag may have been set that counts there."""

CUT_SHORT = ("on_step_begin", "on_substep_end")
"""What is set there is asked behind the epoch, if a handler also stops the step half-way."""

KIND = {LOG: "log", EVALUATE: "evaluate", SAVE: "save"}
WORDS = {"log": "logging_steps", "evaluate": "eval_steps", "save": "save_steps"}


def flag(name: str) -> str:
    """Return the name of a flag of the model: `control.should_log`."""
    return f"control.{name}"


GOES_ON = tuple(Need(flag(name), False, f"only until {flag(name)} is set") for name in (STOP, STOP_EPOCH))
"""What the next step needs where a handler may have stopped the loop; the next epoch needs the first of these."""


@dataclass(frozen=True, slots=True)
class Open:
    """What handlers may do, by event, and `free`, what is done outside of handlers at any time.

    `sums_up`: an optimizer step has several batches, between which the loop may be stopped. `early` are the events that
    fire before the first step.
    """

    by: Mapping[str, Steering] = field(default_factory=dict)
    free: Steering = NOTHING
    sums_up: bool = False
    early: tuple[str, ...] = BEFORE

    def may(self, name: str, events: Iterable[str], value: bool = True) -> bool:
        """Return whether a flag may be set to `value` at one of these events."""
        return self.free.may(name, value) or any(self.by.get(event, NOTHING).may(name, value) for event in events)

    def tracks(self, name: str) -> bool:
        """Return whether what is known of a flag changes with the handlers: not if it may change at any time."""
        return name not in self.free.flags and any(name in done.flags for done in self.by.values())

    @property
    def whole(self) -> Steering:
        """What all handlers together may do."""
        return reduce(or_, self.by.values(), self.free)

    @property
    def shaky(self) -> frozenset[str]:
        """The parts of the schedule whose intervals may be changed."""
        return self.whole.numbers

    @property
    def halves(self) -> bool:
        """Whether an optimizer step may be left between two of its batches."""
        return self.sums_up and self.stops(CUT_SHORT)

    def stops(self, events: Iterable[str]) -> bool:
        """Return whether an epoch may be stopped at one of these events, or was already when its first step began."""
        found = tuple(events)
        return self.may(STOP, (*self.early, *found)) or self.ends_epochs(found)

    def ends_epochs(self, events: Iterable[str]) -> bool:
        """Return whether an epoch, and it alone, may be ended at one of these events, or by what its begin fires."""
        return self.may(STOP_EPOCH, ("on_epoch_begin", *events))

    def known(self) -> dict[str, bool | None]:
        """Return the flags as a run finds them."""
        stops = [name for name in (STOP, STOP_EPOCH) if name not in self.free.flags]
        return {flag(name): False for name in FLAGS if name in stops or self.tracks(name)}

    def resets(self, *names: str) -> tuple[tuple[str, bool | None], ...]:
        """Return that these flags are False from here on, as far as it is known what becomes of them."""
        return tuple((flag(name), False) for name in names if self.tracks(name))

    # -- what is asked -----------------------------------------------------------------------------------------

    def needs(self, name: str, known: Sure, level: str, every: Every) -> tuple[Need, ...] | None:
        """Return what must be so that something follows a step or an epoch; None where it never does.

        `known` is what the schedule says of it.
        """
        events = ASKED[level][name]
        if level == "epoch" and self.halves:
            events = (*CUT_SHORT, *events)
        set_, unset = self.may(name, events), self.may(name, events, False)
        if known is False and not set_:
            return None
        if known is True and not unset:
            return ()
        if known is False:
            return (Need(flag(name), True, f"only if a handler sets {flag(name)}"),)
        text = f"only if no handler sets {flag(name)} to False" if known else self.interval(name, every)
        return (Need(flag(name) if level == "step" else f"{flag(name)} at the epoch's end", True, text),)

    def interval(self, name: str, every: Every) -> str:
        """Say when something happens that the map does not unroll."""
        kind = KIND[name]
        if kind in self.shaky or not (every.by_steps or every.first):
            return f"only where {flag(name)} is set then"
        if not every.by_steps:
            return "only at the first step (logging_first_step)"
        also = [text for text, so in (("at the first", every.first), ("at the last", every.last)) if so]
        words = " and ".join([f"every {every.steps:g} steps", *also])
        return f"only {words} ({WORDS[kind]})"
