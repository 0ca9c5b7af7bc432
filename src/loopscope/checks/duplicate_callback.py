"""One callback that is there twice, or two shipped ones that get in each other's way: work that is done twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from loopscope.callbacks import Callback
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.findings import Finding, Severity
from loopscope.model import Handler

RULE = Rule(
    name="duplicate-callback",
    severity="error",
    frameworks=ALL,
    needs="callbacks",
    says="a callback is there twice, or two that do one and the same work",
    why="What stands in a list twice is called twice: counters run at double speed, a patience of ten is one of five, "
    "what is scaled is scaled again, and two that write one file overwrite each other. Nothing fails.",
    do="Leave one of them out.",
    fires="""
        stop = EarlyStopping(patience=10)
        model.fit(x, y, validation_data=held_out, epochs=50, callbacks=[stop, *defaults, stop])
        """,
    silent="""
        stop = EarlyStopping(patience=10)
        model.fit(x, y, validation_data=held_out, epochs=50, callbacks=[stop, *defaults])
        """,
    threads=("fastai#3829",),
)


@dataclass(frozen=True, slots=True)
class Twice:
    """What two objects of a shipped class do to each other, where `same` are equal and one of `other`, if any, is not.

    `only` says what has to be set so that they do; of what `shared` lists they have one or more in common.
    """

    then: str
    severity: Severity = "error"
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    only: tuple[tuple[str, bool | str], ...] = ()
    shared: str = ""


TWICE: Mapping[str, Mapping[str, Twice]] = MappingProxyType(
    {
        "fastai": {
            "TrainEvalCallback": Twice("learn.pct_train runs to 2, and schedules with it"),
            "Recorder": Twice("each epoch is logged twice, and learn.recorder is the later one", "warning"),
            "ProgressCallback": Twice(
                "there are two bars, and learn.logger stays that of one when all is over", "warning"
            ),
            "GradientAccumulation": Twice("the loss is divided twice before backward"),
            "MixedPrecision": Twice(
                "on a GPU the loss is scaled twice, and the first step fails as one scaler is updated twice",
                "warning",
                only=(("amp_mode", "fp16"),),
            ),
            "ParamScheduler": Twice(
                "what the earlier one sets of their common hyper-parameters has no effect", "warning", shared="scheds"
            ),
            "ReduceLROnPlateau": Twice("the learning rate is reduced twice at once", same=("monitor", "patience")),
            "SaveModelCallback": Twice(
                "each overwrites the best model of the other",
                same=("fname",),
                other=("monitor",),
                only=(("every_epoch", False), ("at_end", False)),
            ),
        },
        "keras": {
            "ReduceLROnPlateau": Twice("the learning rate is reduced twice at once", same=("monitor", "patience")),
            "ModelCheckpoint": Twice(
                "each overwrites the best model of the other",
                same=("filepath",),
                other=("monitor",),
                only=(("save_best_only", True),),
            ),
        },
        "transformers": {
            "PrinterCallback": Twice("everything that is logged is printed twice", "warning"),
        },
    }
)
"""Framework -> class -> what two of them do."""

SCHEDULED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"fit_one_cycle": ("lr", "mom"), "fine_tune": ("lr", "mom"), "fit_flat_cos": ("lr",), "fit_sgdr": ("lr",)}
)
"""Run of fastai -> what the ParamScheduler sets that it adds, of which there is no object yet."""


def findings(case: Case) -> Iterator[Finding]:
    assert case.examined is not None
    for callback in case.examined.callbacks:
        if callback.same_as:
            yield _same(callback)
    yield from _attached(case)
    for first, second in combinations(case.callbacks.values(), 2):
        twice = twins(case.loop.framework, first, second)
        if twice is not None:
            yield _twins(first, second, twice)


def _attached(case: Case) -> Iterator[Finding]:
    """Yield a finding for a handler that is attached to one event twice, with the same arguments and condition."""
    if case.loop.framework != "ignite":
        return
    for event in {row.name: row for row in case.rows("event")}.values():
        alike: dict[object, list[Handler]] = {}
        for handler in (row.handler for row in event.children if row.handler is not None and row.status != "never"):
            alike.setdefault((handler.id, handler.method, handler.label, handler.needs), []).append(handler)
        for places in alike.values():
            if len(places) > 1 and not case.shipped(places[0]):
                yield _at(places[-1], places)


def _at(handler: Handler, places: list[Handler]) -> Finding:
    return RULE.at(
        handler,
        f"{handler.callback} is attached to {handler.event} {len(places)} times: it runs as often",
        "declared",
        do="Attach it once; a cell that attaches it and is run again has to make the engine anew.",
        evidence=tuple(f"{one.id}: {one.reason}" for one in places),
    )


def twins(framework: str, first: Callback, second: Callback) -> Twice | None:
    """Return what two callbacks do to each other that are of one shipped class; None where they do nothing."""
    twice = TWICE.get(framework, {}).get(first.cls)
    if twice is None or not (first.shipped and second.shipped and first.classes == second.classes):
        return None
    mine, yours = first.settings, second.settings
    same = all(name in mine and mine[name] == yours.get(name) for name in twice.same)
    other = not twice.other or any(mine.get(name) != yours.get(name) for name in twice.other)
    only = all(mine.get(name) == yours.get(name) == value for name, value in twice.only)
    return twice if same and other and only and (not twice.shared or _common(first, second, twice.shared)) else None


def _common(first: Callback, second: Callback, setting: str) -> set[str]:
    """Return what both of two lists hold: the hyper-parameters that two schedulers set."""
    return set(_listed(first, setting)) & set(_listed(second, setting))


def _listed(callback: Callback, setting: str) -> tuple[str, ...]:
    held = callback.settings.get(setting)
    if isinstance(held, tuple):
        return held
    return SCHEDULED.get(callback.origin.removeprefix("added by "), ()) if setting == "scheds" else ()


def _same(callback: Callback) -> Finding:
    return RULE.of(
        callback,
        f"{callback.same_as} is there twice, as one object: each of its handlers runs twice",
        "declared",
        evidence=(f"{callback.id} is the same object as {callback.same_as}",),
    )


def _twins(first: Callback, second: Callback, twice: Twice) -> Finding:
    names = [*twice.same, *twice.other, *(name for name, _ in twice.only)]
    common = sorted(_common(first, second, twice.shared)) if twice.shared else []
    return RULE.of(
        second,
        f"{first.id} and {second.id} are two of {first.cls}: {twice.then}",
        "declared",
        severity=twice.severity,
        evidence=tuple(f"{one.id}.{name} is {one.settings.get(name)!r}" for one in (first, second) for name in names)
        or (f"both are {first.classes[0]}",)
        if not common
        else (f"both set {', '.join(common)} before each batch, {second.id} last",),
    )
