"""Which exceptions that steer the loop a handler may raise, and where they land: what several rules ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from loopscope.checks.rule import Case
from loopscope.model import Handler, Raise
from loopscope.views import Row

PHASE = re.compile(r"\b(?:training|dls?)\b")
"""In a condition: it may ask whether the loop trains or validates, which a row cannot answer."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """One cancel that a handler may raise at an event: `scope` is where it lands, None if it leaves the run."""

    event: Row
    row: Row
    handler: Handler
    raised: Raise
    scope: str | None

    @property
    def certain(self) -> bool:
        """Whether every run raises it as soon as the event fires."""
        return self.raised.certain and not self.raised.needs and self.row.status == "always"

    @property
    def verb(self) -> str:
        return "raises" if self.certain else "may raise"

    @property
    def condition(self) -> str:
        """What it depends on, as one would write it: `" if learn.iter > 10"`."""
        return f" if {self.raised.when}" if self.raised.when else ""


def cancels(case: Case) -> Iterator[Cancel]:
    """Yield each cancel of a handler that may run, in the order of the tree."""
    for event, row in case.handlers():
        if row.handler is None or row.status == "never":
            continue
        lands = {one.exception: one.scope for one in event.landings}
        for raised in row.handler.raises:
            if raised.exception in lands:
                yield Cancel(event, row, row.handler, raised, lands[raised.exception])


def asks_phase(raised: Raise) -> bool:
    """Return whether a raise may depend on the phase: `if self.training: raise CancelTrainException`."""
    return bool(PHASE.search(raised.when))
