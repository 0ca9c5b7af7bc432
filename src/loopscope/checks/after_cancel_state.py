"""A cancel that skips what a later handler relies on: a stale loss is counted, or a figure is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loopscope.callbacks import Method
from loopscope.checks.cancels import Cancel, asks_phase, cancels
from loopscope.checks.rule import Case, Rule
from loopscope.checks.trackers import Tracker, hears, trackers
from loopscope.findings import Finding
from loopscope.model import Handler

RULE = Rule(
    name="after-cancel-state",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="a cancel skips what a callback that still runs relies on",
    why="The after_X of a cancelled scope runs nevertheless. Recorder then counts the loss and the prediction of the "
    "batch before, or logs fewer figures for the epoch, and a tracker that looks for its own by place misses it.",
    do="Cancel where the state is there: in after_loss for a batch, in after_epoch for an epoch that a tracker "
    "watches; or leave out the data in the DataLoader instead.",
    fires="""
        class SkipBatches(Callback):
            def before_batch(self):
                if self.train_iter < 100: raise CancelBatchException

        learn.add_cb(SkipBatches())
        """,
    silent="""
        class SkipBatches(Callback):
            def after_loss(self):
                if self.train_iter < 100: raise CancelBatchException

        learn.add_cb(SkipBatches())
        """,
    threads=("fastai#4029", "fastai#4030"),
)

RECORDER = "fastai.learner.Recorder"
ENDS = ("after_cancel_fit", "after_fit")
RESTORED = frozenset({"learn.loss", "learn.pred", "learn.yb"})
"""What a handler may set itself before it cancels a batch; without targets Recorder counts nothing."""


def findings(case: Case) -> Iterator[Finding]:
    told: set[tuple[str, str, str]] = set()
    tracking = list(trackers(case))
    for one in cancels(case):
        key = one.handler.id, one.event.name, one.raised.exception
        if one.scope is None or key in told:
            continue
        found = [*_stale(case, one), *_short(tracking, one)]
        if found:
            told.add(key)
            yield from found
    yield from _unlogged(case)


def _stale(case: Case, one: Cancel) -> Iterator[Finding]:
    """Yield a finding where a batch is cancelled before its loss is known, and Recorder counts it."""
    if one.scope != "batch" or one.event.name not in ("before_batch", "after_pred") or case.shipped(one.handler):
        return
    method = case.method(one.handler)
    if method is None or any(effect.kind == "writes" and effect.target in RESTORED for effect in method.effects):
        return
    counting = [callback for callback in case.callbacks.values() if callback.isa(RECORDER)]
    if counting and hears(case, counting[0], "after_batch"):
        name = counting[0].cls
        what = "the loss and the prediction" if one.event.name == "before_batch" else "the loss"
        yield RULE.at(
            one.handler,
            f"{one.handler.callback}.{one.event.name} {one.verb} CancelBatchException: {name}.after_batch still runs "
            f"and counts {what} of the batch before",
            "inferred",
            evidence=(
                f"{one.handler.callback}.{one.handler.method} raises CancelBatchException{one.condition}",
                f"learn.loss is set behind {one.event.name}, {name}.after_batch reads it",
            ),
        )


def _short(tracking: Iterable[Tracker], one: Cancel) -> Iterator[Finding]:
    """Yield a finding for each tracker whose figure is not logged in an epoch that is cut short."""
    for tracker in tracking:
        left = _left(tracker, one)
        if left is not None and tracker.place >= len(left):
            yield _missing(one, tracker, left)


def _left(tracker: Tracker, one: Cancel) -> list[str] | None:
    """Return the figures that are logged for an epoch all the same; None where all are, or where it cannot be told."""
    if one.scope == "train":
        return tracker.validated
    if one.scope == "validate":
        return tracker.trained
    if one.scope != "epoch" or asks_phase(one.raised):
        return None
    around = {landing.exception for landing in one.event.landings if landing.scope is not None}
    if "CancelValidException" in around:
        return tracker.trained
    return [] if "CancelTrainException" in around or one.event.name == "before_epoch" else None


def _missing(one: Cancel, tracker: Tracker, left: list[str]) -> Finding:
    name = tracker.callback.cls
    return RULE.at(
        one.handler,
        f"{one.handler.callback}.{one.event.name} {one.verb} {one.raised.exception}: {name} then looks for "
        f"{tracker.monitor} where an epoch has {', '.join(left) or 'no figures'}, and fails with IndexError",
        "inferred",
        severity="error" if one.certain else "warning",
        evidence=(
            f"{one.handler.callback}.{one.handler.method} raises {one.raised.exception}{one.condition}",
            f"{name}.after_epoch reads recorder.values[-1][{tracker.place}]",
        ),
        threads=("fastai#3780",),
    )


def _unlogged(case: Case) -> Iterator[Finding]:
    """Yield a finding for each handler at the end of fit that reads the last epoch, where there may be none."""
    ending = [
        one for one in cancels(case) if one.scope == "fit" and one.event.name not in ("before_fit", "after_epoch")
    ]
    told: set[str] = set()
    for event, row in case.handlers():
        handler = row.handler
        if not ending or handler is None or event.name not in ENDS or case.shipped(handler) or handler.id in told:
            continue
        method = case.method(handler)
        if row.status != "never" and method is not None and _reads_last(method):
            told.add(handler.id)
            yield _none(handler, ending[0])


def _reads_last(method: Method) -> bool:
    reads = [effect for effect in method.effects if effect.kind == "reads" and effect.certain]
    return any(effect.target.startswith("learn.recorder.values[-1]") for effect in reads)


def _none(handler: Handler, one: Cancel) -> Finding:
    raising = f"{one.handler.callback}.{one.event.name}"
    return RULE.at(
        handler,
        f"{handler.callback}.{handler.event} reads recorder.values[-1]: where {raising} ends the run in its first "
        f"epoch, there is none (IndexError)",
        "inferred",
        do="Ask first: if self.recorder.values: ...",
        evidence=(
            f"{raising} raises {one.raised.exception}{one.condition}",
            "Recorder adds to recorder.values in after_epoch, which a cancelled fit leaves out",
        ),
        threads=(),
    )
