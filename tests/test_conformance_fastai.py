"""The map is proved: what a real fastai run fires is what the tree says, in order, handler for handler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.core as core
from fastai.callback.core import Callback
from fastai.learner import Learner

from loopscope.adapters import fastai as adapter
from loopscope.model import Loop
from loopscope.parse import follow
from loopscope.seen import Fired
from loopscope.views import Row, tree
from tests.adapters.cases.fastai import CASES, At, Case, learner
from tests.adapters.cases.fastai_watch import Watch

CANCELS = list(core._ex_docs)
EVENTS = [name for name in core._events if name != "after_create"]


def watched(case: Case) -> tuple[Watch, Loop]:
    learn = case.make()
    loop = adapter.describe(learn, case.run, **case.inspect)
    watch = Watch(learn)
    with watch():
        case.call(learn)
    return watch, loop


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_fires_is_what_the_tree_says(case, tmp_path, monkeypatch):
    """Every event and handler call of a real run is placed by the map, and nothing that it promises is missing."""
    monkeypatch.chdir(tmp_path)
    watch, loop = watched(case)
    if watch.outcome != case.raises:
        raise watch.error or AssertionError(f"expected {case.raises} to leave the run")
    followed = follow(loop, watch.fired, watch.outcome, nested=watch.nested)
    assert followed.unexpected is None, (followed, watch.order[max(0, followed.events - 5) : followed.events + 3])
    assert followed.events == len(watch.fired) > 1


@pytest.mark.parametrize("case", [case for case in CASES if case.raises is None], ids=lambda case: case.name)
def test_what_a_row_says_of_always_and_never_is_so(case, tmp_path, monkeypatch):
    """A handler whose rows are all `never` is not called at that event; one that is `always` somewhere is called."""
    monkeypatch.chdir(tmp_path)
    watch, loop = watched(case)
    called = {(event, id_) for event, id_, _ in watch.codes}
    told: dict[tuple[str, str], set[str]] = {}
    for event in (row for _, row in tree(with_targets(loop)).walk() if row.kind == "event"):
        for row in event.children:
            if row.handler is not None:
                told.setdefault((event.name, row.handler.id), set()).add(row.status)
    nested = {fired.event for one in watch.fired for call in one.calls for fired in call.inner}
    never = {pair for pair, statuses in told.items() if statuses == {"never"} and pair[0] not in nested}
    assert called & never == set()
    assert {pair for pair, statuses in told.items() if "always" in statuses} <= called


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_place_of_a_handler_is_where_the_code_that_ran_stands(case, tmp_path, monkeypatch):
    """`file:line` of each handler is that of the code object which fastai really called."""
    monkeypatch.chdir(tmp_path)
    watch, loop = watched(case)
    places: dict[tuple[str, str], set[str]] = {}
    for handler in (one for found in loop.binding.handlers.values() for one in found):
        places.setdefault((handler.event, handler.id), set()).add(str(handler.place))
    wrong = [
        (event, id_, f"{code.co_filename}:{code.co_firstlineno}", places[event, id_])
        for event, id_, code in dict.fromkeys(watch.codes)
        if (event, id_) in places and f"{code.co_filename}:{code.co_firstlineno}" not in places[event, id_]
    ]
    assert wrong == []
    assert watch.codes or not loop.binding.handlers


def with_targets(loop: Loop) -> Loop:
    """The loop where every batch is known to have targets, as those of these learners do."""
    return replace(loop, flags={**loop.flags, "targets": True})


def raise_at(event: str, exception: str) -> tuple[Watch, Loop, At]:
    thrower = At(event, getattr(core, exception))
    learn = learner(thrower, n_trn=2, n_val=1)
    loop = adapter.describe(learn, "fit", epochs=2)
    watch = Watch(learn)
    with watch():
        learn.fit(2)
    return watch, loop, thrower


def rows_of(loop: Loop, event: str) -> Iterator[Row]:
    return (row for _, row in tree(loop).walk() if row.kind == "event" and row.name == event and row.status == "always")


def predicted(loop: Loop, event: str, exception: str) -> str:
    """What the map says of `exception` raised by a handler of `event`: at the first place where the event fires."""
    row = next(rows_of(with_targets(loop), event), None)
    if row is None:
        return "never reached"
    scope = next(landing.scope for landing in row.landings if landing.exception == exception)
    return f"caught by {scope}" if scope else "escapes"


def test_every_cancel_exception_at_every_event(golden):
    """Seven cancel exceptions at 23 events: what fastai does with each is what the map says."""
    lines = []
    for event in EVENTS:
        for exception in CANCELS:
            watch, loop, thrower = raise_at(event, exception)
            followed = follow(loop, watch.fired, watch.outcome)
            assert followed.unexpected is None, (event, exception, followed)
            told = predicted(loop, event, exception)
            real = "never reached" if not thrower.raised else "escapes" if watch.outcome else "caught"
            assert told.split(" by ")[0] == real, (event, exception, told, real)
            assert watch.outcome == (exception if real == "escapes" else None)
            lines.append(f"{event:24} {exception:24} {told}")
    golden("fastai-cancel-table.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("exception", [KeyboardInterrupt, ValueError, StopIteration])
@pytest.mark.parametrize("event", EVENTS)
def test_other_exceptions_at_every_event(event, exception):
    """What is no cancel exception ends the run where it is raised; only StopIteration is swallowed."""
    thrower = At(event, exception)
    learn = learner(thrower, n_trn=2, n_val=1)
    loop = adapter.describe(learn, "fit", epochs=2)
    watch = Watch(learn)
    with watch():
        learn.fit(2)
    expected = exception.__name__ if thrower.raised and exception is not StopIteration else None
    assert watch.outcome == expected
    assert follow(loop, watch.fired, watch.outcome).unexpected is None


# -- the proof can fail ------------------------------------------------------------------------------------


def true_run() -> tuple[list[Fired], Loop]:
    learn = learner(n_trn=2, n_val=1)
    loop = adapter.describe(learn, "fit", epochs=2)
    loop = with_targets(loop)
    watch = Watch(learn)
    with watch():
        learn.fit(2)
    return watch.fired, loop


def test_a_true_run_with_one_event_deleted_doubled_or_swapped_is_refused():
    """The protocol is not loose: every such change of a true run is unexpected."""
    fired, loop = true_run()
    assert follow(loop, fired).unexpected is None
    accepted = []
    for at in range(len(fired)):
        changed = {
            "deleted": fired[:at] + fired[at + 1 :],
            "doubled": fired[: at + 1] + fired[at:],
            "swapped": fired[:at] + fired[at : at + 2][::-1] + fired[at + 2 :],
        }
        accepted += [
            (how, at, fired[at].event)
            for how, run in changed.items()
            if run != fired and not follow(loop, run).unexpected
        ]
    assert accepted == []


def test_a_true_run_with_one_handler_call_deleted_doubled_or_renamed_is_refused():
    """The binding is not loose either: who was called, and how often, must be what it names."""
    fired, loop = true_run()
    accepted = []
    for at, event in enumerate(fired):
        for n, call in enumerate(event.calls):
            calls = event.calls
            for changed in (
                calls[:n] + calls[n + 1 :],
                calls[: n + 1] + calls[n:],
                (*calls[:n], replace(call, handler="Nobody#9"), *calls[n + 1 :]),
            ):
                run = [*fired[:at], replace(event, calls=changed), *fired[at + 1 :]]
                accepted += [] if follow(loop, run).unexpected else [(at, event.event, n)]
    assert accepted == []


# -- random callbacks --------------------------------------------------------------------------------------

SPECS = st.tuples(
    st.sampled_from([-20, -1, 0, 9, 50, 55, 60, 100]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(EVENTS), unique=True, min_size=1, max_size=6),
)


def make(order: int, run_train: bool, run_valid: bool, run: bool, events: list[str]) -> Callback:
    body = {name: (lambda self: None) for name in events}
    cls = type("Random", (Callback,), {"order": order, "run_train": run_train, "run_valid": run_valid, **body})
    one = cls()
    one.run = run
    return one


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(SPECS, max_size=5),
    st.lists(SPECS, max_size=2),
    st.sampled_from(["fit", "fit_one_cycle", "validate", "fine_tune"]),
)
def test_random_callbacks_are_called_as_the_map_says(own, passed, run):
    """Whatever `order`, `run_train`, `run_valid` and `run` are: calling order and skipping are predicted."""
    learn: Learner = learner(*(make(*spec) for spec in own), n_trn=2, n_val=1)
    extra = [make(*spec) for spec in passed]
    epochs = {} if run == "validate" else {"epochs": 1}
    loop = adapter.describe(learn, run, cbs=extra, **epochs)
    watch = Watch(learn)
    with watch():
        getattr(learn, run)(*epochs.values(), cbs=extra)
    assert watch.outcome is None
    assert follow(loop, watch.fired).unexpected is None
