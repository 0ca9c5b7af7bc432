"""The moments of the catalogue are proved: each event really fires where its moment says, and nobody where it says so.

Twice: against real runs, in which what the framework does between its events is seen in torch itself, and against the
loop that the adapter describes before the run.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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

every = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.framework(name)) for name in FRAMEWORKS])


def suite(name: str) -> Any:
    """The cases that a framework has for the conformance suite."""
    return cases({"fastai": "fastai_suite"}.get(name, name))


def case(name: str, kind: str) -> Case:
    return next(one for one in suite(name).CASES if one.kind == kind)


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
    return {kind: Run(list(line(name, case(name, kind)))) for kind in DESCRIBED}


def line(name: str, one: Case) -> Iterator[Item]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        obj = one.make(Path(folder))
        inspect = one.inspect(obj) if callable(one.inspect) else one.inspect
        yield from items(loopscope.inspect(obj, one.run, **inspect).root, not one.kind.endswith("alone"), 0)


def items(row: Row, training: bool, drawn_from: int) -> Iterator[Item]:
    """Yield what happens in a row if nothing is cancelled; what is repeated happens twice."""
    if row.kind == "cancel" or row.status == "never":
        return
    if row.kind == "event":
        yield row.name
    for kind in STEPS.get(row.name, ()) if row.kind == "step" else ():
        yield Mark(kind, training, drawn_from)
    training = training and row.name not in ("validate", "test", "predict")
    most = 1 if row.repeat is None else row.repeat.most
    for time in range(2 if most is None else min(most, 2)):
        for child in row.children if row.kind in ("run", "scope") else ():
            yield from items(child, training, drawn_from if row.name == "batch" else hash((drawn_from, row.name, time)))


@every
def test_every_event_fires_where_its_moment_says(name: str) -> None:
    """Held against real runs: what is named fires there, and what fires there is named."""
    assert complaints(framework(name), real(name)) == []


@every
def test_every_event_stands_where_its_moment_says(name: str) -> None:
    """Held against the loop that the adapter describes, its steps included."""
    assert complaints(framework(name), described(name)) == []


SAME = (
    ("run begins", "epoch begins"),
    ("epoch's training ends", "validation begins"),
    ("validation ends", "epoch ends"),
    ("epoch ends", "run ends"),
)
"""Moments with nothing between them but events: at the end of the one it is already the other."""


def false(of: Framework) -> Iterator[tuple[str, Framework]]:
    """Yield catalogues that are not true: an event is missing at a moment, or is named where it does not fire."""
    for moment, events in of.moments.items():
        for event in events:
            less = tuple(one for one in events if one != event)
            yield f"{moment} without {event}", replace(of, moments={**of.moments, moment: less})
        for other in MOMENTS:
            there = of.moments.get(other, ())
            its = {one for one, named in of.moments.items() if events[-1] in named}
            if other not in its and not any({one, other} == {*pair} for one in its for pair in SAME):
                more = {**of.moments, other: (*there, events[-1])}
                yield f"{other} with {events[-1]}", replace(of, moments=more)


@every
def test_a_false_catalogue_is_refused(name: str) -> None:
    """An event left out of its moment, or named at one where it does not fire, is noticed."""
    runs = real(name)
    assert [what for what, one in false(framework(name)) if not complaints(one, runs)] == []
