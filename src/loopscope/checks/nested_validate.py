"""A run inside the run: `self.learn.validate()` in a handler, which waits for itself, or changes the run around it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from loopscope.callbacks import Method
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding, Severity
from loopscope.model import Handler
from loopscope.views import Row

RULE = Rule(
    name="nested-validate",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="a handler starts a run of the same learner inside the run",
    why="A run fires its events to all callbacks, the one that started it included, and holds a lock that a second one "
    "waits for without end. It also sets learn.epoch, learn.train_iter, learn.training and learn.dl, and nobody puts "
    "them back for the run around it.",
    do="Compute what you need in after_validate from the validation that fit runs anyway (a metric, or what after_pred "
    "collects), or call the learner when fit has returned. learn.get_preds(inner=True) in after_epoch fires no fit or "
    "epoch events.",
    fires="""
        class Check(Callback):
            def after_epoch(self): print(self.learn.validate())

        learn.fit(2, cbs=Check())
        """,
    silent="""
        class Check(Callback):
            order = 70
            def after_epoch(self): print(self.learn.recorder.values[-1])

        learn.fit(2, cbs=Check())
        """,
)

BATCH = ("before_batch", "after_pred", "after_loss", "after_batch")
PHASE = ("before_validate", *BATCH, "after_validate")
WHOLE = ("before_fit", "before_epoch", *PHASE, "after_epoch", "after_fit")
TRAINING = ("before_train", *BATCH, "before_backward", "after_backward", "before_step", "after_step")
FITS = ("fit", "fit_one_cycle", "fit_flat_cos", "fit_sgdr", "fine_tune", "lr_find")
EVALUATIONS = ("validate", "get_preds", "predict", "show_results")
NAMED = re.compile(r"^learn\.(\w+)\((.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A run that a handler starts: `Call("validate", "learn.validate()", certain=True, inner=False, guarded=False)`.

    `certain` says that it does each time, `inner` that only the events of a validation are fired, `guarded` that the
    callback is taken out of the loop or switched off meanwhile.
    """

    name: str
    text: str
    certain: bool
    inner: bool
    guarded: bool

    def fires(self) -> tuple[str, ...]:
        return PHASE if self.inner else WHOLE


def findings(case: Case) -> Iterator[Finding]:
    told: set[tuple[str, str]] = set()
    for event, row in case.handlers():
        handler = row.handler
        if handler is None or row.status == "never" or case.shipped(handler) or (handler.id, event.name) in told:
            continue
        method = case.method(handler)
        for call in _calls(method, row) if method is not None and not method.shipped else ():
            found = _judged(case, event, handler, call)
            if found is not None:
                told.add((handler.id, event.name))
                yield _finding(handler, call, *found)
                break


def _calls(method: Method, row: Row) -> Iterator[Call]:
    guarded = _is_guarded(method)
    for effect in method.effects:
        match = NAMED.match(effect.target) if effect.kind == "calls" and effect.on == "learner" else None
        if match is None or match[1] not in (*FITS, *EVALUATIONS, "_do_epoch_validate"):
            continue
        unread = match[1] == "get_preds" and "…" in match[2]
        if not unread:
            inner = match[1] == "_do_epoch_validate" or "inner=True" in match[2]
            certain = effect.certain and row.status == "always" and not guarded
            yield Call(match[1], effect.target, certain, inner, guarded)


def _is_guarded(method: Method) -> bool:
    """Return whether a method takes the callback out of the loop, or switches it off, around what it calls."""
    text = "" if method.node is None else ast.unparse(method.node)
    return bool(re.search(r"\bremove(d)?_cbs?\b|\.run(_valid)?\s*=|\.set_training\b", text))


def _judged(case: Case, event: Row, handler: Handler, call: Call) -> tuple[Severity, str] | None:
    """Return how bad it is, and what comes of it; None where nothing certain can be said."""
    callback = case.callbacks.get(handler.id)
    in_validation = callback is None or callback.settings.get("run_valid", True) is not False
    again = event.name in call.fires() and (event.name not in BATCH or in_validation)
    if call.name in FITS:
        return ("error", "it calls itself again without end (RecursionError)") if call.certain else _around(call, True)
    if again and call.certain:
        waits = call.name != "_do_epoch_validate" and not (call.inner and event.name in BATCH)
        return "error", "it is called again inside, and " + ("waits for ever" if waits else "never comes to an end")
    if event.name in TRAINING and _is_training(event):
        rest = "the epoch" if event.name == "before_train" else "this epoch"
        outcome = f"learn.training is then False, so the rest of {rest} trains nothing"
        return ("error" if call.certain else "warning"), outcome
    return None if call.inner or event.name == "after_create" else _around(call, again)


def _around(call: Call, again: bool) -> tuple[Severity, str]:
    outcome = "it sets learn.epoch and learn.train_iter to 0 and empties Recorder's lists"
    if again and not call.guarded:
        outcome += ", and never comes to an end unless its condition keeps it from calling itself"
    return "warning", outcome


def _is_training(event: Row) -> bool:
    return any(landing.exception == "CancelTrainException" and landing.scope for landing in event.landings)


def _finding(handler: Handler, call: Call, severity: Severity, outcome: str) -> Finding:
    kind = "a validation" if call.inner else "a whole run"
    return RULE.at(
        handler,
        f"{handler.callback}.{handler.event} calls {call.text}, {kind} inside the run: {outcome}",
        "inferred",
        severity=severity,
        evidence=(
            f"{handler.callback}.{handler.method} calls {call.text}{'' if call.certain else ' under a condition'}",
        ),
    )
