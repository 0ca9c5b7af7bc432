"""A handler that takes more than a tenth of the batch, as it was recorded."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.figures import Parts, Share, median, parts, percent, shown, span
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.durations import stats
from loopscope.findings import Finding
from loopscope.model import Handler
from loopscope.timing import EARLY

RULE = Rule(
    name="slow-handler",
    severity="warning",
    frameworks=ALL,
    needs="recording",
    says="a handler takes more than a tenth of the batch",
    why="All of the training waits for it, in every batch. Files, plots and the network are seldom needed that often.",
    do="Do it every hundredth batch, or once in an epoch; leave what is slow (files, plots, the network) to the end.",
    fires="""
        class Plots(Callback):
            def after_batch(self):
                self.figure.savefig("loss.png")

        learn.add_cb(Plots())
        """,
    silent="""
        class Plots(Callback):
            def after_epoch(self):
                self.figure.savefig("loss.png")

        learn.add_cb(Plots())
        """,
    threads=("keras#608", "keras#5008", "ignite#1346"),
)

LEAST = 20
"""Batches; with fewer, warm-up left out, a median says little."""

TENTH = 0.1

MATTERS = 500_000
"""Nanoseconds per batch: what takes less is not worth a change, whatever its share of a tiny batch."""


PREPARES = ("on_before_batch_transfer", "on_after_batch_transfer")
"""Where one works on the batch itself, which each of them needs: a note, to know what it takes."""


def findings(case: Case) -> Iterator[Finding]:
    assert case.measured is not None
    found: dict[tuple[str, str], tuple[int, Finding]] = {}
    for batches in parts(case.measured.placed, "batch"):
        for share in batches.shares.values():
            finding = _finding(batches, share)
            total = sum(int(one.sum()) for one in share.took)
            key = share.handler.callback, str(share.handler.place)
            if finding is not None and total > found.get(key, (0, None))[0]:
                found[key] = total, finding
    yield from (finding for _, finding in found.values())


def _finding(batches: Parts, share: Share) -> Finding | None:
    """Return what is to be said of a handler in batches of one kind, those of the warm-up left out."""
    handler, device = share.handler, batches.device
    took, calls = (one[EARLY:] for one in share.times(batches.count))
    whole = batches.times()[EARLY:]
    mine, batch = median(took), median(whole)
    if batches.count < LEAST or mine < MATTERS or mine <= TENTH * batch or batches.waits(handler):
        return None
    figures = stats(took)
    facts = [
        f"p50 {span(figures.p50)}, p99 {span(figures.p99)}, max {span(figures.max)} in a batch; "
        f"{span(figures.total)} in {int(calls.sum())} calls",
        f"a batch of {batches.run} takes {span(batch)} (p50 of {len(whole)}; the first {EARLY} are left out)",
    ]
    if not batches.on_cpu:
        facts.append(
            f"the model is on {device or 'a device that is not known'}: a call that waits for a device is "
            f"billed what that had still to do"
        )
    return RULE.at(
        handler,
        f"{shown(handler)} takes {span(mine)} of a batch of {span(batch)} "
        f"({percent(mine, batch)}), in the median of {len(whole)} batches",
        "observed",
        severity="warning" if _is_avoidable(batches, handler) else "note",
        evidence=tuple(facts),
    )


def _is_avoidable(batches: Parts, handler: Handler) -> bool:
    """Return whether it is one's own to change, and sure to be itself what takes the time."""
    return batches.on_cpu and not batches.shipped(handler) and handler.event not in PREPARES
