"""Following a run: repetitions that were seen before are skipped over, and that changes nothing of what is said."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.core as core
from fastai.callback.all import GradientAccumulation
from fastai.callback.core import Callback
from fastai.learner import Learner

from loopscope import parse, places
from loopscope.parse import Unexpected, follow
from loopscope.placing import Placed, place
from loopscope.recording import Recording
from loopscope.seen import Call, Fired
from tests import loops
from tests.adapters.cases.fastai import Case, learner
from tests.adapters.cases.fastai_recorded import Does, Marks, Sometimes, recorded
from tests.recorded import Group, groups, rebuilt

EVENTS = [name for name in core._events if name != "after_create"]


@contextmanager
def unskipped() -> Iterator[None]:
    """No repetition is kept, so that every event is followed by itself."""
    before, places.MOST_KEPT = places.MOST_KEPT, -1
    try:
        yield
    finally:
        places.MOST_KEPT = before


def said(placed: Placed) -> list[dict[str, Any]]:
    """All that is said of each run, in names rather than numbers: these depend on what was met first."""
    return [
        {
            "events": len(block.events),
            "nodes": [event(block, one) for one in block.node.tolist()],
            "gaps": [gap(block, one) for one in block.gaps.tolist()],
            "entered": sorted(entries(block)),
            "unexpected": (block.unexpected_count, block.unexpected),
        }
        for block in placed.blocks()
    ]


def event(block: Any, number: int) -> tuple[object, ...]:
    if number < 0:
        return ()
    places = block.places
    return id(places.nodes[number]), tuple(map(id, places.paths[number]))


def gap(block: Any, number: int) -> tuple[object, ...]:
    if number < 0:
        return ()
    found = block.places.gaps[number]
    return id(found.before), found.raised, id(found.after), tuple(id(step) for step, _ in found.steps)


def entries(block: Any) -> Iterator[tuple[str, int, int, int]]:
    for number, runs in block.entered.items():
        scope = block.places.scopes[number]
        path = block.places.scope_paths[number]
        for begin, end, every, times in runs:
            for n in range(times):
                yield "/".join(one.name for one in (*path, scope)), begin + n * every, end + n * every, 0


def check(recording: Recording) -> Placed:
    """Place a recording in both ways; the loops are the same objects, so that identities can be compared."""
    with same_loops():
        fast = place(recording)
        with unskipped():
            slow = place(recording)
    assert said(fast) == said(slow)
    return fast


@contextmanager
def same_loops() -> Iterator[None]:
    """Let a map that is decoded twice be the same object."""
    from loopscope import placing

    decode, known = placing._decoded, {}

    def once(value: Any, wanted: Any) -> Any:
        if id(value) not in known:
            known[id(value)] = decode(value, wanted)
        return known[id(value)]

    placing._decoded = once
    try:
        yield
    finally:
        placing._decoded = decode


class Counts:
    """Counts what is followed, event by event."""

    def __init__(self) -> None:
        self.events = 0

    @contextmanager
    def __call__(self) -> Iterator[Counts]:
        before, counts = parse._Follower.event, self

        def event(self: Any, node: Any) -> None:
            counts.events += 1
            before(self, node)

        parse._Follower.event = event
        try:
            yield self
        finally:
            parse._Follower.event = before


def run(make: Callable[[], Learner], call: Callable[[Learner], object] = lambda learn: learn.fit(2)) -> Recording:
    with tempfile.TemporaryDirectory() as folder:
        recording, left = recorded(Case("", make, call), Path(folder) / "run.loop")
    if left is not None and type(left).__name__ not in vars(core)["_ex_docs"]:
        raise left
    return recording


def cancels(when: Iterable[int]) -> Callback:
    return Sometimes("before_batch", core.CancelBatchException, list(when))


def test_a_long_run_is_skipped_over():
    """Of 1,214 events only some dozens are followed: the first batches, and what stands around them."""
    recording = run(lambda: learner(n_trn=70, n_val=10))
    counts = Counts()
    with counts():
        placed = place(recording)
    (block,) = placed.blocks()
    assert (len(block.events), block.unexpected) == (1214, [])
    assert counts.events < 100
    check(recording)


@pytest.mark.parametrize(
    "make",
    [
        lambda: learner(GradientAccumulation(40), n_trn=40, n_val=5),
        lambda: learner(GradientAccumulation(48), cancels(range(0, 90, 7)), n_trn=40),
        lambda: learner(Sometimes("after_loss", core.CancelTrainException, [30, 61]), n_trn=40),
        lambda: learner(Sometimes("after_pred", StopIteration, range(3, 80, 5)), n_trn=40),
        lambda: learner(Does("after_batch", lambda learn: learn.validate(), 25), n_trn=40),
        lambda: learner(Does("after_batch", lambda learn: learn.add_cb(Marks()), 25), n_trn=40),
        lambda: learner(Does("after_batch", lambda learn: setattr(learn.recorder, "run_valid", False), 25), n_trn=40),
    ],
    ids=["accumulated", "accumulated and cancelled", "trains cut short", "swallowed", "nested", "added", "switched"],
)  # fmt: skip
def test_skipping_is_exact(make):
    """Nodes, gaps, scopes, counts and what is unexpected are the same as without skipping."""
    check(run(make))


SPECS = st.tuples(
    st.sampled_from([-20, -1, 0, 9, 50, 55, 60, 100]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(EVENTS), unique=True, min_size=1, max_size=6),
)
CANCELS = st.tuples(
    st.sampled_from([("before_batch", core.CancelBatchException), ("after_loss", core.CancelBatchException),
                     ("after_pred", core.CancelTrainException), ("before_step", core.CancelStepException),
                     ("before_backward", core.CancelBackwardException), ("after_loss", core.CancelFitException)]),
    st.sets(st.integers(0, 60), max_size=4),
)  # fmt: skip


def make(order: int, run_train: bool, run_valid: bool, run: bool, events: list[str]) -> Callback:
    body = {name: (lambda self: None) for name in events}
    one = type("Random", (Callback,), {"order": order, "run_train": run_train, "run_valid": run_valid, **body})()
    one.run = run
    return one


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(SPECS, max_size=4),
    st.lists(CANCELS, max_size=2),
    st.sampled_from([None, 32, 40, 1000]),
    st.data(),
)
def test_skipping_is_exact_for_random_runs(specs, cancels, accumulated, data):
    """Whatever callbacks there are and whatever they cancel: the same, also where a random event is then taken out."""
    cbs = [make(*spec) for spec in specs]
    cbs += [Sometimes(event, exception, sorted(when)) for (event, exception), when in cancels]
    cbs += [GradientAccumulation(accumulated)] if accumulated else []
    recording = run(lambda: learner(*cbs, n_trn=23, n_val=3))
    placed = check(recording)
    assert [one for block in placed.blocks() for one in block.unexpected] == []
    code, events = groups(recording)
    at = data.draw(st.integers(0, len(events) - 1))
    check(rebuilt(recording, code, [*events[:at], *events[at + 1 :]]))
    other = data.draw(st.integers(0, len(events) - 1))
    changed = Group(events[at].event, events[at].calls[1:])
    check(rebuilt(recording, code, [*events[:at], changed, *events[at + 1 :]]))
    check(rebuilt(recording, code, [*events[:at], events[other], *events[at:]]))


def test_the_comparison_can_fail():
    """What is compared changes with one event, and with one place."""
    recording = run(lambda: learner(n_trn=12))
    code, events = groups(recording)
    with same_loops():
        true = said(place(recording))
        assert said(place(recording)) == true
        assert said(place(rebuilt(recording, code, events[:-1]))) != true
        placed = place(recording)
        (block,) = placed.blocks()
        block.node[7] = block.node[8]
        assert said(placed) != true


# -- a loop that is no framework's -------------------------------------------------------------------------


def test_follow_stops_at_the_first_unexpected_thing():
    """`follow` gives the position and says what was expected; events before it are counted."""
    loop = loops.fit()
    fired = [
        Fired("before_fit", (Call("TrainEval#1"), Call("Mine#1"), Call("Recorder#1"))),
        Fired("before_epoch"),
        Fired("before_train", (Call("TrainEval#1"),)),
        Fired("after_train"),
    ]
    followed = follow(loop, fired)
    assert (followed.events, followed.calls) == (3, 4)
    assert followed.unexpected == Unexpected(3, "expected before_batch, but after_train fired")


def test_an_exception_of_the_framework_s_own_code_may_leave_a_run():
    """With an outcome, a run may end wherever a step stands; without one it must go on."""
    loop = loops.fit()
    fired = [
        Fired("before_fit", (Call("TrainEval#1"), Call("Mine#1"), Call("Recorder#1"))),
        Fired("before_epoch"),
        Fired("before_train", (Call("TrainEval#1"),)),
        Fired("before_batch"),
    ]
    assert follow(loop, fired, "ValueError").unexpected is None
    assert follow(loop, fired).unexpected == Unexpected(4, "expected after_pred, the run ended")
