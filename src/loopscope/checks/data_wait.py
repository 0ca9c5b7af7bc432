"""A run that waits longer for its data than it computes, as it was recorded."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.figures import Parts, median, parts, percent, span
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.durations import joined
from loopscope.findings import Finding

RULE = Rule(
    name="data-wait",
    severity="warning",
    frameworks=ALL,
    needs="recording",
    says="batches take longer to draw than to compute",
    why="The model stands idle for most of the time: a faster one, or a faster machine for it, changes little.",
    do="Draw batches in worker processes (num_workers=4 in the DataLoader), do once what __getitem__ does each time "
    "(decoding, resizing), or keep the result on a fast disk.",
    fires="""
        class Photos(Dataset):
            def __getitem__(self, at):
                return transform(Image.open(self.files[at])), self.labels[at]

        loader = DataLoader(Photos(), batch_size=64, num_workers=0)
        """,
    silent="""
        class Photos(Dataset):
            def __getitem__(self, at):
                return transform(Image.open(self.files[at])), self.labels[at]

        loader = DataLoader(Photos(), batch_size=64, num_workers=8, persistent_workers=True)
        """,
)

LEAST = 20
"""Batches; with fewer, starting the workers is what is seen."""

MATTERS = 1_000_000
"""Nanoseconds per batch: a tiny model computes for less than that, whatever it is fed with."""

ALL_OF_IT = 300_000_000
"""Nanoseconds in all that are worth a word."""


def findings(case: Case) -> Iterator[Finding]:
    assert case.measured is not None
    report = case.measured.report
    batches = max(parts(case.measured.placed, "batch"), key=lambda one: int(one.times().sum()), default=None)
    if batches is None or not 0 < report.compute < report.data or report.data < ALL_OF_IT:
        return
    data, compute = median(joined(batches.data)), median(joined(batches.compute))
    if batches.count >= LEAST and data >= MATTERS and data > compute:
        yield _found(batches, data, compute, report.data, report.compute)


def _found(batches: Parts, data: int, compute: int, all_data: int, all_compute: int) -> Finding:
    facts = [
        f"in a batch of {batches.run}: data {span(data)}, compute {span(compute)} (p50 of {batches.count})",
        f"in all that was recorded: data {span(all_data)}, compute {span(all_compute)}",
    ]
    if not batches.on_cpu:
        where = batches.device or "a device that is not known"
        facts.append(f"the model is on {where}: what it computes while the data are drawn is in neither figure")
    share = percent(data, median(batches.times()))
    return RULE.found(
        f"To draw a batch takes {span(data)}, to compute it {span(compute)}: {share} of its time is waiting for data",
        "observed",
        severity="warning" if batches.on_cpu else "note",
        evidence=tuple(facts),
    )
