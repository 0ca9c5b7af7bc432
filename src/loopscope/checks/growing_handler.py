"""A handler whose calls take longer the longer a run goes on, as it was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopscope.checks.figures import Parts, Share, median, parts, shown, span
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="growing-handler",
    severity="warning",
    frameworks=ALL,
    needs="recording",
    says="a handler takes longer the longer the run goes on",
    why="It probably goes through all that it has kept, a list of losses say, at each call: over a run its time grows "
    "with the square of the number of calls.",
    do="Keep a sum or a mean in place of the list, add only what is new, or empty the list at the end of each epoch.",
    fires="""
        class Smooth(Callback):
            def before_fit(self):
                self.losses = []

            def after_batch(self):
                self.losses = self.losses + [self.loss.detach()]
                self.mean = torch.stack(self.losses).mean()

        learn.add_cb(Smooth())
        """,
    silent="""
        class Smooth(Callback):
            def before_fit(self):
                self.total, self.count = 0, 0

            def after_batch(self):
                self.total, self.count = self.total + self.loss.detach(), self.count + 1

        learn.add_cb(Smooth())
        """,
)

TWICE = 2.0
"""So many times what it took in the first third of its calls, in the last third."""

STEADY = 1.15
"""And so many times from each third to the next: what begins to work in the middle of a run does not grow there."""

AGREE = 0.85
"""Kendall's tau of up to `CHUNKS` medians with their order: 1.0 where each is above the one before."""

CHUNKS = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """What is compared: the entries of a scope, at least how many, and what growth matters (ns, part of an entry)."""

    name: str
    without: str
    least: int
    matters: int
    share: float


KINDS = (Kind("batch", "", 30, 200_000, 0.02), Kind("epoch", "batch", 8, 50_000_000, 0.01))


def findings(case: Case) -> Iterator[Finding]:
    assert case.measured is not None
    found: dict[tuple[str, str, str], tuple[int, Finding]] = {}
    for kind in KINDS:
        for entries in parts(case.measured.placed, kind.name, kind.without):
            for share in entries.shares.values():
                growth, finding = _finding(kind, entries, share)
                key = share.handler.callback, share.handler.event, str(share.handler.place)
                if finding is not None and growth > found.get(key, (0, None))[0]:
                    found[key] = growth, finding
    yield from (finding for _, finding in found.values())


def _finding(kind: Kind, entries: Parts, share: Share) -> tuple[int, Finding | None]:
    """Return by how much a handler grew (ns), and what is to be said of that."""
    handler, (took, calls) = share.handler, share.times(entries.count)
    there = calls > 0
    count, rest = int(there.sum()), thirds((entries.times() - took)[there])
    first, middle, last = thirds(took[there])
    matters = last - first >= max(kind.matters, kind.share * rest[2])
    alone = last * max(rest[0], 1) >= TWICE * first * rest[2]  # else all of the loop became slower
    if count < kind.least or entries.waits(handler) or not (matters and alone and grows(took[there])):
        return 0, None
    each = "batches" if kind.name == "batch" else "epochs"
    return last - first, RULE.at(
        handler,
        f"{shown(handler)} takes longer and longer: {span(last)} in the last third of {count} {each}, {span(first)} in "
        f"the first",
        "observed",
        severity="note" if entries.shipped(handler) else "warning",
        evidence=(
            f"medians of the three thirds of {entries.run}: {span(first)}, {span(middle)}, {span(last)}",
            f"all else in a {kind.name}: {', '.join(map(span, rest))}",
        ),
    )


def thirds(took: Any) -> tuple[int, int, int]:
    """Return the medians of the first, the middle and the last third of durations."""
    first, middle, last = (median(one) for one in np.array_split(took, 3))
    return first, middle, last


def grows(took: Any) -> bool:
    """Return whether durations grow all along: `grows(np.arange(1, 41))`; noise, a peak and a step do not."""
    first, middle, last = thirds(took)
    return last >= TWICE * first and middle >= STEADY * first and last >= STEADY * middle and agreement(took) >= AGREE


def agreement(took: Any) -> float:
    """Return Kendall's tau of the medians of equal stretches with their order."""
    medians = [median(one) for one in np.array_split(took, min(CHUNKS, max(1, len(took))))]
    signs = [np.sign(later - one) for n, one in enumerate(medians) for later in medians[n + 1 :]]
    return float(np.mean(signs)) if signs else 0.0
