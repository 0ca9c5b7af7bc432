"""What differs between two loops or two recordings, as plain frozen data; `compare.py` finds it, renderers show it.

Constraint: standard library only, no behaviour beyond small look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChangeKind = Literal["added", "removed", "moved", "changed", "slower", "faster"]
What = Literal["loop", "run", "scope", "event", "step", "cancel", "handler"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long one row took in one recording: `Pace(count=20, median=190_000, low=180_000, high=204_000)`, in ns.

    `low` to `high` is where the median stood in the course of the run: that is its noise. `share` is the part of the
    run that all its calls took together.
    """

    count: int
    median: int
    low: int
    high: int
    share: float


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs between A and B.

    `name` says what: an event, a step, a scope, `MixedPrecision.after_pred` for a handler, `call` or `fastai version`
    for the loop itself. `where` are the places in the tree, each with its scopes: `fit > epoch > train`. `run` says in
    which run of a recording.

    `changed` has `field` (what of it), `old` and `new`. So has a handler that moved: why it stood, and stands, where it
    does. A scope that was removed or added has its events in them. A handler has `callback` (the class), `id` (in B; in
    A where it was removed) and `event`. What was added, removed or moved stands between `follows` and `precedes` there
    (None: it is first, or last). A handler that moved runs `now_before` and `now_after` those with which it ran the
    other way round. A time that differs (`slower`, `faster`) has the paces of both in `paces`.
    """

    kind: ChangeKind
    what: What
    name: str
    run: str = ""
    where: tuple[str, ...] = ()
    field: str = ""
    old: str = ""
    new: str = ""
    callback: str = ""
    id: str = ""
    event: str = ""
    reason: str = ""
    follows: str | None = None
    precedes: str | None = None
    now_before: tuple[str, ...] = ()
    now_after: tuple[str, ...] = ()
    paces: tuple[Pace, Pace] | None = None

    @property
    def ratio(self) -> float:
        """How many times as long it takes in B; 1.0 for what is no time."""
        return self.paces[1].median / max(self.paces[0].median, 1) if self.paces else 1.0


@dataclass(frozen=True, slots=True)
class Sides:
    """What was compared: `Sides("before.json: learn.fit(2)", "after.json: learn.fit(3)")`, and notes on both."""

    a: str
    b: str
    notes: tuple[str, ...] = ()


FORMATS = ("text", "json", "markdown")
"""How a difference can be shown."""
