"""fastai's trackers (early stopping, saving the best model, ...), and the figures that they look among."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loopscope.callbacks import Callback
from loopscope.checks.rule import Case

TRACKER = "fastai.callback.tracker.TrackerCallback"
SAVING = "fastai.callback.tracker.SaveModelCallback"


@dataclass(frozen=True, slots=True)
class Tracker:
    """One that looks at its figure after each epoch: `Tracker(callback, "valid_loss", 1, ...)`.

    `place` is where `monitor` stands among `figures`, those that fit logs of an epoch.
    """

    callback: Callback
    monitor: str
    place: int
    figures: tuple[str, ...]

    @property
    def trained(self) -> list[str]:
        """The figures that the training part of an epoch logs."""
        return [name for name in self.figures if name.startswith("train_")]

    @property
    def validated(self) -> list[str]:
        """The figures that the validation logs; the time is only shown."""
        return [name for name in self.figures if name != "time" and not name.startswith("train_")]


def trackers(case: Case) -> Iterator[Tracker]:
    """Yield the trackers of a run that read their figure by place, as far as the figures are known."""
    figures = case.examined.figures if case.examined else None
    if figures is None or not {"train_loss", "valid_loss"} <= set(figures):
        return
    heard = _heard(case, "after_epoch")
    for callback in case.callbacks.values():
        monitor = callback.settings.get("monitor")
        if callback.id in heard and monitor in figures and _reads(callback):
            yield Tracker(callback, str(monitor), figures.index(str(monitor)), figures)


def hears(case: Case, callback: Callback, event: str) -> bool:
    """Return whether a callback has a handler at an event that this run may call."""
    return callback.id in _heard(case, event)


def _heard(case: Case, event: str) -> Sequence[str]:
    rows = [row for at, row in case.handlers() if at.name == event and row.status != "never"]
    return [row.handler.id for row in rows if row.handler is not None]


def _reads(callback: Callback) -> bool:
    """Return whether fastai's own `TrackerCallback.after_epoch` runs: a model saved every epoch asks for no figure."""
    method = callback.method("after_epoch")
    by_epoch = callback.isa(SAVING) and bool(callback.settings.get("every_epoch"))
    return callback.isa(TRACKER) and not by_epoch and method is not None and (method.shipped or method.calls_super)
