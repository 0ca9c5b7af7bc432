"""ignite: a handler that is attached to an engine on which it cannot work."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.callbacks import Callback, Examined
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="wrong-engine",
    severity="error",
    frameworks=("ignite",),
    needs="callbacks",
    says="a handler is attached to an engine that has not what it needs",
    why="A handler sees the engine that it is attached to. A score function that reads the metrics of the evaluator "
    "fails on the trainer with a KeyError; EarlyStopping that is called when its engine is done has nothing to stop.",
    do="Attach it to the evaluator: evaluator.add_event_handler(Events.COMPLETED, handler).",
    fires="""
        Accuracy().attach(evaluator, "accuracy")
        stopping = EarlyStopping(3, lambda engine: engine.state.metrics["accuracy"], trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, stopping)
        """,
    silent="""
        Accuracy().attach(evaluator, "accuracy")
        stopping = EarlyStopping(3, lambda engine: engine.state.metrics["accuracy"], trainer)
        evaluator.add_event_handler(Events.COMPLETED, stopping)
        """,
    threads=("ignite#258", "ignite#402"),
)


def findings(case: Case) -> Iterator[Finding]:
    assert case.examined is not None  # RULE.needs
    for callback in case.callbacks.values():
        yield from _missing_metrics(case.examined, callback)
        yield from _stops_itself(callback)
        yield from _no_checkpoint(case, callback)


def _missing_metrics(examined: Examined, callback: Callback) -> Iterator[Finding]:
    """Say which metrics a score function reads of an engine that has no such ones."""
    reads, figures = callback.settings.get("reads_metrics"), examined.figures
    if not isinstance(reads, tuple) or figures is None:
        return
    missing = [name for name in reads if name not in figures]
    if missing:
        has = ", ".join(figures) or "none"
        yield RULE.of(
            callback,
            f'the score function of {callback.cls} reads engine.state.metrics["{missing[0]}"], and the engine that it '
            f"is attached to has no metric of that name: KeyError when it is called",
            "inferred",
            evidence=(f"the metrics of this engine: {has}", f"its score function reads {', '.join(reads)}"),
            event=_events(callback)[0] if _events(callback) else "",
            do=f'Attach it to the engine that has the metric, or the metric to this one: metric.attach(engine, "'
            f'{missing[0]}").',
        )


def _stops_itself(callback: Callback) -> Iterator[Finding]:
    """Say that an EarlyStopping is called only once its own engine is done."""
    if callback.settings.get("stops") == "this engine" and set(_events(callback)) == {"COMPLETED"}:
        yield RULE.of(
            callback,
            f"{callback.cls} stops the engine that it is attached to, and is called at COMPLETED, when that is done",
            "declared",
            severity="warning",
            event="COMPLETED",
            evidence=(f"{callback.cls}.trainer is this engine", "it is attached to COMPLETED alone"),
        )


def _no_checkpoint(case: Case, callback: Callback) -> Iterator[Finding]:
    """Say that a handler waits for a Checkpoint to have saved on an engine that has none."""
    unfired = callback.settings.get("unfired")
    if isinstance(unfired, tuple) and "SAVED_CHECKPOINT" in unfired:
        yield RULE.of(
            callback,
            f"{callback.cls} waits for SAVED_CHECKPOINT, and no Checkpoint is attached to this engine",
            "inferred",
            severity="warning",
            event="SAVED_CHECKPOINT",
            evidence=("a Checkpoint fires SAVED_CHECKPOINT on the engine that it is attached to", "this one has none"),
            do="Attach it to the engine that has the Checkpoint.",
        )


def _events(callback: Callback) -> tuple[str, ...]:
    found = callback.settings.get("events")
    return found if isinstance(found, tuple) else ()
