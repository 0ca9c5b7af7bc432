"""The moments of the catalogue are proved: each event really fires where its moment says, and nobody where it says so.

Twice: against real runs, in which what the framework does between its events is seen in torch itself, and against the
loop that the adapter describes before the run.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import loopscope
from loopscope.catalog import FRAMEWORKS, MOMENTS, Framework, framework
from loopscope.views import Row
from tests.conformance import Case, cases
from tests.marks import Item, Mark, marked
from tests.moments import Run, complaints

KINDS = ("normal", "accumulation", "validation alone", "prediction alone", "exception in a callback")
DESCRIBED = ("normal", "validation alone", "prediction alone")

STEPS = {
    "draw a batch": ("draw",),
    "forward": ("forward",),
    "loss": ("loss",),
    "backward": ("backward",),
    "optimizer step": ("step",),
    "zero_grad": ("zero",),
}
"""What a step of a map is called -> what is done there."""

HANDLED = {"ignite": "an error that is handled and raised"}
"""Where nobody is told of an exception unless he handles it: the case in which somebody does."""

ELSEWHERE = (("lightning", "checkpoint saved"), ("ignite", "checkpoint saved"))
"""What fires inside of a handler, and is proved in tests/test_catalog_lightning.py and tests/test_catalog_ignite.py."""

PASSES = ("epoch", "validate", "test", "predict")
"""The scopes in which data is drawn from the beginning."""

every = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.framework(name)) for name in FRAMEWORKS])


def suite(name: str) -> Any:
    """The cases that a framework has for the conformance suite."""
    return cases({"fastai": "fastai_suite"}.get(name, name))


def case(name: str, kind: str) -> Case:
    better = HANDLED.get(name) if kind == "exception in a callback" else None
    return next(one for one in suite(name).CASES if (one.name == better if better else one.kind == kind))


def catalogue(name: str) -> Framework:
    """What the catalogue says of a framework, without what is proved in a file of its own."""
    of = framework(name)
    return replace(
        of, moments={moment: events for moment, events in of.moments.items() if (name, moment) not in ELSEWHERE}
    )


def told(name: str) -> set[str]:
    """The events that somebody is told by, and that have to be named at the moment at which they fire."""
    events = set(framework(name).events)
    if name == "lightning":  # other hooks, those of the model and the strategy, are called to do something
        from lightning.pytorch import Callback

        return events & set(vars(Callback))
    if name == "ignite":  # there is no moment between asking for a batch and having it
        return events - {"GET_BATCH_STARTED", "DATALOADER_STOP_ITERATION"}
    return events


@functools.cache
def real(name: str) -> Mapping[str, Run]:
    """Real runs of a framework, by kind: the conformance suite's own, watched by its witness."""
    return {kind: Run(run(name, case(name, kind))) for kind in KINDS}


def run(name: str, one: Case) -> list[Item]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        obj = one.make(Path(folder))
        watch = suite(name).watch(obj)
        with marked(watch.fired) as marks, watch():
            one.call(obj)
        if watch.outcome != one.raises:
            raise watch.error or AssertionError(f"expected {one.raises} to leave the run")
        return marks.line()


@functools.cache
def described(name: str) -> Mapping[str, Run]:
    """The same runs as the adapter describes them, none of them made."""
    return {kind: Run(line(name, case(name, kind)), whole=False) for kind in DESCRIBED}


def line(name: str, one: Case) -> list[Item]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        obj = one.make(Path(folder))
        inspect = one.inspect(obj) if callable(one.inspect) else one.inspect
        line = list(items(loopscope.inspect(obj, one.run, **inspect).root, not one.kind.endswith("alone"), 0))
        line = [item for item in line if isinstance(item, Mark) or item in framework(name).events]
    marks = [(at, item.kind) for at, item in enumerate(line) if isinstance(item, Mark)]
    in_vain = {at for (at, kind), (_, following) in pairwise(marks) if kind == following == "draw"}
    return [item for at, item in enumerate(line) if at not in in_vain]


def items(row: Row, training: bool, drawn_from: int) -> Iterator[Item]:
    """Yield what happens in a row if nothing is cancelled; what is repeated happens twice."""
    if row.kind == "cancel" or row.status == "never":
        return
    if row.kind in ("event", "scope"):  # what encloses others is a scope that has the event's name
        yield row.name
    for kind in STEPS.get(row.name, ()) if row.kind == "step" else ():
        yield Mark(kind, training, drawn_from)
    training = training and row.name not in ("validate", "test", "predict")
    most = 1 if row.repeat is None else row.repeat.most
    for time in range(2 if most is None else min(most, 2)):
        own = hash((drawn_from, row.name, time)) if row.name in PASSES else drawn_from
        for child in row.children if row.kind in ("run", "scope") else ():
            yield from items(child, training, own)


@every
def test_every_event_fires_where_its_moment_says(name: str) -> None:
    """Held against real runs: what is named fires there, and what fires there is named."""
    assert complaints(catalogue(name), real(name), told(name)) == []


@every
def test_every_event_stands_where_its_moment_says(name: str) -> None:
    """Held against the loop that the adapter describes, its steps included."""
    assert complaints(catalogue(name), described(name), told(name)) == []


SAME = (
    # Nothing but events lies between them: at the end of the one it is already the other.
    ("run begins", "epoch begins"),
    ("epoch's training ends", "validation begins"),
    ("epoch's training ends", "epoch ends"),
    ("validation ends", "epoch ends"),
    ("epoch ends", "run ends"),
    # The same where what is logged or saved is so once for each epoch.
    ("epoch's training ends", "metrics logged"),
    ("epoch ends", "metrics logged"),
    ("validation ends", "metrics logged"),
    ("validation ends", "checkpoint saved"),
    ("epoch ends", "checkpoint saved"),
    # The same where a validation is a run of its own.
    ("run begins", "validation begins"),
    ("epoch begins", "validation begins"),
    ("batch ends", "validation batch ends"),
    ("run ends", "validation ends"),
)
"""Moments that may be one: what is named at either of them is not missing at the other."""


def false(of: Framework, told: Collection[str]) -> Iterator[tuple[str, Framework]]:
    """Yield catalogues that are not true: an event is missing at a moment, or is named where it does not fire."""
    for moment, events in of.moments.items():
        for event in events:
            its = {one for one, named in of.moments.items() if event in named}
            if event in told and not same(moment, its):
                less = tuple(one for one in events if one != event)
                yield f"{moment} without {event}", replace(of, moments={**of.moments, moment: less})
            for other in MOMENTS:
                if other not in its and not same(other, its):
                    more = (*of.moments.get(other, ()), event)
                    yield f"{other} with {event}", replace(of, moments={**of.moments, other: more})


def same(moment: str, others: Collection[str]) -> bool:
    return any((moment, other) in SAME or (other, moment) in SAME for other in others)


@every
def test_a_false_catalogue_is_refused(name: str) -> None:
    """An event left out of its moment, or named at one where it does not fire, is noticed."""
    catalogues = list(false(catalogue(name), told(name)))
    assert len(catalogues) > 100
    assert [what for what, one in catalogues if not complaints(one, real(name), told(name))] == []
