"""A cancel that skips what a later handler relies on: a stale loss is counted, or a figure is missing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopscope.callbacks import Callback, Method
from loopscope.checks.cancels import Cancel, asks_phase, cancels
from loopscope.checks.rule import Case, Rule
from loopscope.checks.trackers import Tracker, hears, trackers
from loopscope.findings import Finding
from loopscope.model import Handler
from loopscope.views import Row

if TYPE_CHECKING:
    from typing import TypeGuard

RULE = Rule(
    name="after-cancel-state",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="a cancel skips what a callback that still runs relies on",
    why="The after_X of a cancelled scope runs nevertheless. Recorder then counts the loss and the prediction of the "
    "batch before, or logs fewer figures for the epoch, and a tracker that looks for its own by place misses it. So "
    "does a handler of one's own that reads what another one, which was skipped, would have set.",
    do="Cancel where the state is there: in after_loss for a batch, in after_epoch for an epoch that a tracker "
    "watches; or leave out the data in the DataLoader instead. Set in before_fit what a handler behind a cancel reads.",
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
    yield from _unset(case)


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


# -- what a callback keeps for itself ------------------------------------------------------------------------------

LATE = re.compile(r"\b(?:iter|epoch|n_iter|train_iter|pct_train)\s*(?:>=?|==)\s*0*[1-9.]")
"""A condition that holds only later: by then every handler has run once."""

BEHIND_ALL = (ast.If, ast.Try, ast.For, ast.While, ast.IfExp, ast.BoolOp, ast.Lambda, ast.comprehension)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Unset:
    """A handler that reads an attribute of its own callback before any other has set it."""

    handler: Handler
    name: str
    setter: str


def _unset(case: Case) -> Iterator[Finding]:
    """Yield a finding for each handler behind a cancel that reads what only a skipped handler of its own sets."""
    events = list(case.rows("event"))
    told: set[tuple[str, str, str]] = set()
    for one in cancels(case):
        for found in _missed(case, one, events):
            key = found.handler.id, found.handler.event, found.name
            if key not in told:
                told.add(key)
                yield _before_set(one, found)


def _missed(case: Case, one: Cancel, events: list[Row]) -> Iterator[Unset]:
    if one.scope is None or LATE.search(one.raised.when):
        return
    at = next(place for place, event in enumerate(events) if event is one.event)
    first: dict[str, int] = {}
    for place, event in enumerate(events):
        first.setdefault(event.name, place)
    for event in events[at + 1 :]:
        if event.name in (f"after_cancel_{one.scope}", f"after_{one.scope}"):
            yield from _reading(case, event, at, first)
        if event.name == f"after_{one.scope}":
            return


def _reading(case: Case, event: Row, at: int, first: dict[str, int]) -> Iterator[Unset]:
    """Yield what the handlers of an event read that is first set behind place `at`, and not before this event."""
    for row in event.children:
        handler = row.handler
        callback = None if handler is None else case.callbacks.get(handler.id)
        if handler is None or callback is None or row.status == "never" or case.shipped(handler):
            continue
        method = callback.method(handler.method)
        for name in () if method is None else _reads(method):
            setters = _setters(callback, name)
            skipped = [setter for setter in setters if first.get(setter, -1) > at and setter != event.name]
            if setters and len(skipped) == len(setters) and not _elsewhere(case, callback, name):
                yield Unset(handler, name, skipped[0])


def _reads(method: Method) -> list[str]:
    """Return the attributes of `self` that a method reads, whatever happens, and does not set or ask for itself."""
    if method.node is None or isinstance(method.node, ast.Lambda):
        return []
    whole = list(ast.walk(method.node))
    texts = {one.value for one in whole if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    stored = {one.attr for one in whole if _is_own(one) and isinstance(one.ctx, ast.Store)}
    added = {one.target.attr for one in whole if isinstance(one, ast.AugAssign) and _is_own(one.target)}
    kept = texts | (stored - added)
    reads = [one.attr for one in _always(method.node.body) if _is_own(one) and isinstance(one.ctx, ast.Load)]
    also = [one.target.attr for one in method.node.body if isinstance(one, ast.AugAssign) and _is_own(one.target)]
    return [name for name in dict.fromkeys([*reads, *also]) if name not in kept]


def _is_own(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _always(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes that are run whenever a body is, up to the first statement that may leave it."""
    for node in body:
        yield from _within(node)
        if any(isinstance(one, (ast.Return, ast.Raise)) for one in ast.walk(node)):
            return


def _within(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, (*BEHIND_ALL, *FUNCTIONS)):
        for child in ast.iter_child_nodes(node):
            yield from _within(child)


def _setters(callback: Callback, name: str) -> list[str]:
    """Return the methods of a callback that set an attribute; none where it is there already, or a name is computed."""
    if name in callback.attributes:
        return []
    found = []
    for method in callback.methods:
        nodes = [] if method.node is None else list(ast.walk(method.node))
        words = {one.id for one in nodes if isinstance(one, ast.Name)}
        if words & {"setattr", "store_attr", "vars"} or any(getattr(one, "attr", "") == "__dict__" for one in nodes):
            return []
        added = {id(one.target) for one in nodes if isinstance(one, ast.AugAssign)}
        if any(
            _is_own(one) and one.attr == name and isinstance(one.ctx, ast.Store) and id(one) not in added
            for one in nodes
        ):
            found.append(method.name)
    return found


def _elsewhere(case: Case, callback: Callback, name: str) -> bool:
    """Return whether the learner has the name, to which a callback falls through, or another callback sets it."""
    assert case.examined is not None
    of_learner = case.examined.settings.get("attributes")
    if isinstance(of_learner, tuple) and name in of_learner:
        return True
    return any(
        effect.kind == "writes" and effect.target.endswith(f".{name}") and effect.target != f"self.{name}"
        for other in case.callbacks.values()
        for method in other.methods
        for effect in method.effects
    )


def _before_set(one: Cancel, found: Unset) -> Finding:
    handler, canceller = found.handler, f"{one.handler.callback}.{one.event.name}"
    return RULE.at(
        handler,
        f"{handler.callback}.{handler.event} reads self.{found.name}, which {found.setter} sets: where {canceller} "
        f"cancels the first {one.scope}, it is not there yet (AttributeError)",
        "inferred",
        do=f"Set self.{found.name} in before_fit.",
        evidence=(
            f"{canceller} raises {one.raised.exception}{one.condition}",
            f"of {handler.callback}'s methods only {found.setter} sets self.{found.name}",
        ),
        threads=(),
    )
