"""What a rule is given, and what its module offers: the seam between the checks and everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from loopscope.findings import ALL, Finding, Rule

if TYPE_CHECKING:  # what the api imports has to be light: the first map of a process waits for it
    from loopscope.callbacks import Callback, Examined, Method
    from loopscope.model import Handler, Loop
    from loopscope.placing import Placed
    from loopscope.report import Report
    from loopscope.views import Row

__all__ = ["ALL", "Case", "Check", "Measured", "Rule"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A recording, for rules about cost: its figures, and every call at its place."""

    report: Report
    placed: Placed


@dataclass(frozen=True, slots=True)
class Case:
    """One loop to be checked.

    `root` is its tree of rows: what runs always, under a condition or never, and where exceptions land. `examined` is
    None where only the map is at hand (a saved one), `measured` where nothing was recorded.
    """

    loop: Loop
    root: Row
    examined: Examined | None = None
    measured: Measured | None = None
    callbacks: Mapping[str, Callback] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        known = {one.id: one for one in self.examined.callbacks if not one.same_as} if self.examined else {}
        object.__setattr__(self, "callbacks", known)

    def rows(self, kind: str) -> Iterator[Row]:
        """Yield the rows of a kind, in the order in which they are read: `rows("event")`."""
        return (row for _, row in self.root.walk() if row.kind == kind)

    def handlers(self) -> Iterator[tuple[Row, Row]]:
        """Yield every handler's row with that of its event; an event that stands twice in the loop gives both."""
        for event in self.rows("event"):
            yield from ((event, row) for row in event.children if row.handler is not None)

    def method(self, handler: Handler) -> Method | None:
        """Return what is known of a handler's method, None where its callback was not examined."""
        callback = self.callbacks.get(handler.id)
        return None if callback is None else callback.method(handler.method)

    def shipped(self, handler: Handler) -> bool:
        """Return whether a handler is the framework's own code."""
        return bool(self.loop.home and handler.place and handler.place.file.startswith(self.loop.home))


class Check(Protocol):
    """What the module of a rule offers."""

    RULE: Rule

    def findings(self, case: Case) -> Iterator[Finding]:
        """Yield what is wrong; the framework is one of `RULE.frameworks`, and what `RULE.needs` says is there."""
