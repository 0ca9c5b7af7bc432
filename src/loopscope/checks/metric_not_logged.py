"""A watcher of a figure which this run does not log, callback or schedule: it stops the run, or never does its work."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from loopscope.callbacks import Callback, Method, Setting
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding, Severity

RULE = Rule(
    name="metric-not-logged",
    severity="error",
    frameworks=("fastai", "lightning", "transformers", "keras"),
    needs="callbacks",
    says="a callback or schedule watches a figure that this run does not log",
    why="Early stopping, checkpoints and schedules that follow a figure look it up by its name. Where there is none of "
    "that name the run ends with an error, often only after its first epoch, or the callback does nothing at all.",
    do="Give the figure's name as it is logged, or log it.",
    fires="""
        learn = Learner(dls, model, metrics=accuracy)
        learn.fit(10, cbs=EarlyStoppingCallback(monitor="val_accuracy"))
        """,
    silent="""
        learn = Learner(dls, model, metrics=accuracy)
        learn.fit(10, cbs=EarlyStoppingCallback(monitor="accuracy"))
        """,
    threads=("transformers#28530", "keras#13689"),
)


@dataclass(frozen=True, slots=True)
class Watcher:
    """A shipped class that looks a figure up at one of `events`, and what it does where there is none.

    `only` are settings without which it does not look, `unless` those with which it does not.
    """

    events: tuple[str, ...]
    then: str
    severity: Severity = "error"
    only: tuple[tuple[str, Setting], ...] = ()
    unless: tuple[tuple[str, Setting], ...] = ()


EPOCH, VALIDATION = "on_epoch_end", ("on_train_epoch_end", "on_validation_end")

WATCHERS: Mapping[str, Mapping[str, Watcher]] = MappingProxyType(
    {
        "fastai": {"TrackerCallback": Watcher(("before_fit",), "the run fails in before_fit")},
        "keras": {
            "EarlyStopping": Watcher((EPOCH,), "Keras warns, and it never stops", "warning"),
            "ReduceLROnPlateau": Watcher((EPOCH,), "Keras warns, and it never reduces the learning rate", "warning"),
            "ModelCheckpoint": Watcher(
                (EPOCH,),
                "Keras warns, and it saves every epoch, the best or not",
                "warning",
                (("save_best_only", True), ("save_freq", "epoch")),
            ),
        },
        "lightning": {
            "EarlyStopping": Watcher(VALIDATION, "the run fails when it first looks", only=(("strict", True),)),
            "ModelCheckpoint": Watcher(
                VALIDATION,
                "the run fails when it saves",
                unless=(("save_top_k", 0), ("every_n_epochs", 0), ("monitor", "epoch"), ("monitor", "step")),
            ),
        },
    }
)
"""Framework -> class -> how it watches."""

SHIPPED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"fastai": ("fastai.",), "keras": ("keras.",), "lightning": ("lightning.", "pytorch_lightning.")}
)
"""Framework -> how the qualified names of its own classes begin."""

READING = ("get_monitor_value", "_should_save_model", "_set_monitor_op", "_validate_condition_metric")
"""Methods with which a watcher looks: what a class of the user's does in one of its own is not judged."""


def findings(case: Case) -> Iterator[Finding]:
    yield from _of_trainer(case) if case.loop.framework == "transformers" else _of_callbacks(case)


def _of_callbacks(case: Case) -> Iterator[Finding]:
    figures = None if case.examined is None else case.examined.figures
    if case.examined is None or figures is None or case.examined.settings.get("fast_dev_run"):
        return
    called = {(row.handler.id, event.name) for event, row in case.handlers() if row.handler and row.status != "never"}
    for callback in case.callbacks.values():
        monitor, watcher = callback.settings.get("monitor"), _watcher(case.loop.framework, callback)
        if watcher is None or not isinstance(monitor, str) or monitor in figures:
            continue
        if any((callback.id, event) in called for event in watcher.events):
            yield _found(callback, monitor, figures, _in_mode(watcher, callback, monitor, figures))
    yield from _of_schedules(case, figures)


def _of_schedules(case: Case, figures: Sequence[str]) -> Iterator[Finding]:
    """Yield the ReduceLROnPlateau that Lightning asks for its figure after each epoch, and fails without."""
    assert case.examined is not None
    trained = any(row.name == "on_train_epoch_end" and row.status != "never" for row in case.rows("event"))
    if not trained or case.examined.settings.get("automatic_optimization") is False:
        return
    for callback in case.callbacks.values():
        monitor, method = callback.settings.get("plateau_monitor"), callback.method("configure_optimizers")
        if method is not None and isinstance(monitor, str) and monitor not in figures:
            yield RULE.on(
                callback,
                method,
                f"ReduceLROnPlateau watches {monitor!r}, which this run does not log: the run fails when it first "
                "looks",
                "inferred",
                do=_do(monitor, figures),
                evidence=(f"{callback.cls}.configure_optimizers gives {monitor!r} as monitor", _logged(figures)),
                threads=(),
            )


def _watcher(framework: str, callback: Callback) -> Watcher | None:
    """Return how a callback watches; None for another class, and where the user's own code has a say in it."""
    names = [name.rpartition(".")[2] for name in callback.classes if name.startswith(SHIPPED[framework])]
    watcher = next((one for name, one in WATCHERS[framework].items() if name in names), None)
    if watcher is None or any(callback.settings.get(name) != value for name, value in watcher.only):
        return None
    if any(callback.settings.get(name) == value for name, value in watcher.unless):
        return None
    own = [method for method in callback.methods if method.name in (*watcher.events, *READING)]
    return watcher if all(method.shipped or _passes_on(method, watcher) for method in own) else None


def _passes_on(method: Method, watcher: Watcher) -> bool:
    return method.calls_super and method.name in watcher.events


def _in_mode(watcher: Watcher, callback: Callback, monitor: str, figures: Sequence[str]) -> Watcher:
    """Keras has to guess from the metric whether less is better: without one it raises, unless it is a loss."""
    known = {name.removeprefix("val_") for name in figures}
    if callback.settings.get("mode") != "auto" or monitor.removeprefix("val_") in known:
        return watcher
    return replace(
        watcher, then="Keras cannot tell whether less of it is better, and raises ValueError", severity="error"
    )


def _found(callback: Callback, monitor: str, figures: Sequence[str], watcher: Watcher) -> Finding:
    return RULE.of(
        callback,
        f"{callback.cls} watches {monitor!r}, which this run does not log: {watcher.then}",
        "inferred",
        severity=watcher.severity,
        do=_do(monitor, figures),
        evidence=(f"{callback.id}.monitor is {monitor!r}", _logged(figures)),
    )


def _do(monitor: str, figures: Sequence[str]) -> str:
    if monitor.startswith("val_") and monitor.removeprefix("val_") in figures:
        return f"Give fit validation data, or watch {monitor.removeprefix('val_')!r}."
    near = difflib.get_close_matches(monitor, figures, n=1, cutoff=0.6)
    parts = [name for name in figures if monitor.rpartition("_")[2] == name.rpartition("_")[2]]
    best = [*(name for name in figures if monitor.endswith(name) or name.endswith(monitor)), *near, *parts][:1]
    return f"Watch {best[0]!r}, or log {monitor!r}." if best else RULE.do


def _logged(figures: Sequence[str]) -> str:
    return f"this run logs {', '.join(figures)}" if figures else "this run logs no figures"


def _of_trainer(case: Case) -> Iterator[Finding]:
    """Yield what Transformers does not find: its trainer looks the figure up itself after each evaluation."""
    assert case.examined is not None
    settings, figures = case.examined.settings, case.examined.figures
    name = settings.get("metric_for_best_model")
    if case.loop.run != "train" or figures is None or not isinstance(name, str):
        return
    monitor = name if name.startswith("eval_") else f"eval_{name}"
    evaluates = settings.get("eval_strategy") not in (None, "no") and settings.get("eval_dataset")
    if evaluates and monitor not in figures:
        yield RULE.found(
            f"metric_for_best_model is {name!r}, and no evaluation gives {monitor}: the run fails after its first one",
            "inferred",
            do=f"Return {name.removeprefix('eval_')!r} from compute_metrics, or name one that is there.",
            evidence=(f"args.metric_for_best_model is {name!r}", _logged(figures)),
        )
