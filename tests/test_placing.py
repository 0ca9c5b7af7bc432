"""The proof of a recording can fail: a true one that is changed in one place is refused, and only there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.all import GradientAccumulation

from loopscope.parse import Unexpected
from loopscope.placing import Placed, place
from loopscope.recording import Recording
from tests.adapters.cases.fastai import Case, learner
from tests.adapters.cases.fastai_recorded import recorded
from tests.recorded import Group, groups, name, rebuilt
from tests.told import told

Change = tuple[str, int, list[Group]]


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Recording:
    """`fit(2)` with 2 training batches and 1 for validation in each epoch."""
    return true(tmp_path_factory.mktemp("short"), 2, 1)


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Recording:
    """`fit(2)` with 60 training batches: almost all of them are skipped over."""
    return true(tmp_path_factory.mktemp("long"), 60, 10)


def true(folder: Path, n_trn: int, n_val: int) -> Recording:
    case = Case("", lambda: learner(n_trn=n_trn, n_val=n_val), lambda learn: learn.fit(2))
    recording, left = recorded(case, folder / "run.loop")
    assert left is None
    assert unexpected(place(recording)) == []
    return recording


def unexpected(placed: Placed) -> list[Unexpected]:
    return [one for block in placed.blocks() for one in block.unexpected]


def refused(recording: Recording, run: int, events: list[Group]) -> list[Unexpected]:
    return unexpected(place(rebuilt(recording, run, events)))


def event_changes(events: list[Group], positions: list[int]) -> Iterator[Change]:
    """Each event deleted, doubled, swapped with the next one, with its handler calls."""
    for at in positions:
        yield "deleted", at, events[:at] + events[at + 1 :]
        yield "doubled", at, events[: at + 1] + events[at:]
        yield "swapped", at, events[:at] + events[at : at + 2][::-1] + events[at + 2 :]


def call_changes(events: list[Group], positions: list[int], other: int) -> Iterator[Change]:
    """Each handler call deleted, doubled, swapped with the next one, or called by another name."""
    for at in positions:
        calls = events[at].calls
        for n, call in enumerate(calls):
            for how, changed in (
                ("deleted", calls[:n] + calls[n + 1 :]),
                ("doubled", calls[: n + 1] + calls[n:]),
                ("swapped", calls[:n] + calls[n : n + 2][::-1] + calls[n + 2 :]),
                ("renamed", [*calls[:n], other, *calls[n + 1 :]]),
            ):
                yield f"{how} {call}", at, [*events[:at], Group(events[at].event, changed), *events[at + 1 :]]


def accepted(
    recording: Recording, changes: Callable[[list[Group]], Iterator[Change]]
) -> tuple[list[tuple[str, int, str]], Counter]:
    """What is taken for a true run although it was changed; and how many things were unexpected where it is refused."""
    run, events = groups(recording)
    found, counts = [], Counter()
    for how, at, changed in changes(events):
        if changed == events:
            continue
        odd = refused(recording, run, changed)
        counts[len(odd)] += 1
        if not odd:
            found.append((how, at, name(recording, events[at].event)))
    return found, counts


def interesting(events: list[Group], recording: Recording) -> list[int]:
    """The positions around the first, the last and some middle batches, and everything outside of batches."""
    batch, found = -1, []
    for at, event in enumerate(events):
        what = name(recording, event.event)
        batch = batch + 1 if what == "before_batch" else -1 if what in ("after_train", "after_validate") else batch
        if batch in (-1, 0, 1, 2, 9, 30, 58, 59):
            found.append(at)
    return found


def test_clocks_do_not_matter(short):
    """A recording on an artificial clock says the same as the real one, so that what follows speaks for real ones."""
    run, events = groups(short)
    assert told(place(rebuilt(short, run, events))) == told(place(short))
    assert refused(short, run, events) == []


EQUIVALENT: list[tuple[str, int, str]] = []
"""The changes of one event that make another true run: there is none. (All of a backward pass and its step may be
missing at once: that is a batch without targets.)"""


def test_every_changed_event_is_refused(short):
    """One event of a true run deleted, doubled or swapped, at every position, is unexpected, but for those listed."""
    found, counts = accepted(short, lambda events: event_changes(events, list(range(len(events)))))
    assert found == EQUIVALENT
    assert max(counts) <= 4


def test_every_changed_call_is_refused(short):
    """One handler call deleted, doubled, swapped or renamed, at every position, is unexpected."""
    other = next(
        code
        for code, one in short.names.items()
        if one["k"] == "handler" and one["callback"] == "ProgressCallback#4" and one["event"] == "after_fit"
    )
    found, counts = accepted(short, lambda events: call_changes(events, list(range(len(events))), other))
    assert found == []
    assert max(counts) <= 4


def test_changes_are_refused_where_batches_are_skipped(long):
    """The same holds in a long run, in which equal batches are recognised and not followed one by one."""
    _, events = groups(long)
    positions = interesting(events, long)
    found, counts = accepted(long, lambda events: event_changes(events, positions))
    assert found == EQUIVALENT
    assert max(counts) <= 4
    other = next(code for code, one in long.names.items() if one["k"] == "handler" and one["event"] == "before_fit")
    found, counts = accepted(long, lambda events: call_changes(events, positions[::3], other))
    assert found == []
    assert max(counts) <= 4


def test_a_missing_event_is_named_with_its_position(short):
    """What was deleted is what the message asks for, at the position where it was; all behind it is placed."""
    run, events = groups(short)
    for at, event in enumerate(events):
        placed = place(rebuilt(short, run, events[:at] + events[at + 1 :]))
        odd = unexpected(placed)
        gone = name(short, event.event)
        then = f"but {name(short, events[at + 1].event)} fired" if at + 1 < len(events) else "the run ended"
        assert (odd[0].position, odd[0].message) == (at, f"expected {gone}, {then}"), at
        assert len(odd) <= 2
        (block,) = placed.blocks()
        assert (block.node >= 0).sum() >= len(events) - 2


def test_a_missing_call_is_named_with_its_position(short):
    """Who was not called is named, with the event and its position; nothing else is unexpected."""
    run, events = groups(short)
    for at, event in enumerate(events):
        for n, call in enumerate(event.calls):
            calls = event.calls[:n] + event.calls[n + 1 :]
            odd = refused(short, run, [*events[:at], Group(event.event, calls), *events[at + 1 :]])
            then = f"but {name(short, calls[n])}" if n < len(calls) else "nothing"
            expected = f"{name(short, event.event)}: expected {name(short, call)}, {then} was called"
            assert [(one.position, one.message) for one in odd] == [(at, expected)]


def test_missing_and_further_batches_are_one_unexpected_thing(short):
    """Where there are fewer batches than the data loader has, or more, that is said once for all of them."""
    run, events = groups(short)
    first = events[3:11]
    assert [name(short, first[0].event), name(short, first[-1].event)] == ["before_batch", "after_batch"]
    one_less = refused(short, run, events[:3] + events[11:])
    three_more = refused(short, run, events[:3] + 3 * first + events[3:])
    assert [(one.position, one.message) for one in one_less] == [
        (11, "expected batch 1 more of 2 times, but after_train fired")
    ]
    assert [(one.position, one.message) for one in three_more] == [
        (19, "expected batch only 2 times, but before_batch fired")
    ]


def test_a_batch_without_targets_is_another_true_run(short):
    """Without a whole backward pass and its step a batch is one that had no targets; half of one is not."""
    run, events = groups(short)
    first = [name(short, one.event) for one in events[3:11]]
    assert first == ["before_batch", "after_pred", "after_loss", "before_backward", "after_backward", *first[-3:]]
    assert refused(short, run, events[:6] + events[10:]) == []
    halves = [refused(short, run, events[:6] + events[8:]), refused(short, run, events[:8] + events[10:])]
    assert [[(one.position, one.message) for one in odd] for odd in halves] == [
        [(6, "expected after_batch, but before_step fired"), (7, "expected after_batch, but after_step fired")],
        [(8, "expected before_step, but after_batch fired")],
    ]


def test_a_recording_of_nothing_but_noise_ends(short):
    """A run that has nothing to do with its loop is given up after 200 unexpected things; all of it is counted."""
    run, events = groups(short)
    noise = [events[0], *([events[-1], events[3]] * 600)]
    placed = place(rebuilt(short, run, noise))
    (block,) = placed.blocks()
    assert len(block.unexpected) == 200
    assert block.unexpected_count >= 200
    assert len(noise) - block.unexpected_count <= (block.node >= 0).sum() + 200


def test_accumulated_steps_are_placed_with_their_cancel_events(tmp_path):
    """GradientAccumulation cancels batches in before_step: the same change there is refused, too."""
    case = Case("", lambda: learner(GradientAccumulation(40), n_trn=12, n_val=1), lambda learn: learn.fit(1))
    recording, _ = recorded(case, tmp_path / "run.loop")
    run, events = groups(recording)
    assert refused(recording, run, events) == []
    assert Counter(name(recording, one.event) for one in events)["after_cancel_batch"] == 8
    found, counts = accepted(recording, lambda events: event_changes(events, list(range(len(events)))))
    assert found == EQUIVALENT
    assert max(counts) <= 4


def test_the_changes_are_changes(short):
    """The comparison that all of this rests on can fail: a swapped event is another run."""
    run, events = groups(short)
    swapped = events[:4] + events[4:6][::-1] + events[6:]
    assert told(place(rebuilt(short, run, swapped))) != told(place(short))
    lane = short.lanes[0]
    cut = replace(short, lanes=(replace(lane, code=lane.code[:-2], start=lane.start[:-2], end=lane.end[:-2]),))
    assert unexpected(place(cut)) != []
