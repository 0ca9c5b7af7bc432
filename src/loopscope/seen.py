"""A real run as it was seen: events and calls, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One handler call that was seen: `Call("Recorder#2")`; `raised` is the class name of what it raised.

    `inner` are the events of a loop that ran inside it, `run` the fit-like call that ran them.
    """

    handler: str
    raised: str | None = None
    inner: Sequence[Fired] = ()
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Fired:
    """One event that was seen, with its calls in order; `raised` is the class name of what left it, if known."""

    event: str
    calls: tuple[Call, ...] = ()
    raised: str | None = None
