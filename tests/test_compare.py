"""What `diff` finds between two loops and between two recordings: everything that differs, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import loopscope
from loopscope.changes import Change
from loopscope.compare import callbacks, compare_loops, compare_recordings, stayed
from loopscope.errors import BadValue, LoopscopeError, UnknownChoice
from loopscope.model import Binding, Catch, Fact, Handler, Loop, Node, Place, Raise, Repeat, Scope
from loopscope.pacing import FEWEST, FLOOR, LEAST, beyond
from loopscope.placing import NAME, place
from loopscope.recording import Recording, read
from loopscope.render.difference import FORMATS, Sides, render, renderable
from tests.loops import event, fit, handler, level, reworded, step
from tests.recorded import timed
from tests.test_recording_fuzz import MUTATIONS

Golden = Callable[[str, str], None]

RECORDED = Path(__file__).parent / "fastai_recordings" / "closed.loop"
LOOP = fit()
EVENTS = tuple(LOOP.binding.handlers)


# -- loops that differ -------------------------------------------------------------------------------------------------


def bound(loop: Loop, at: str, handlers: tuple[Handler, ...]) -> Loop:
    """The loop with these handlers at an event."""
    return replace(loop, binding=Binding(MappingProxyType({**loop.binding.handlers, at: handlers})))


def added(loop: Loop, at: str, position: int, one: Handler) -> Loop:
    ones = loop.binding.at(at)
    return bound(loop, at, (*ones[:position], one, *ones[position:]))


def removed(loop: Loop, at: str, position: int) -> Loop:
    ones = loop.binding.at(at)
    return bound(loop, at, (*ones[:position], *ones[position + 1 :]))


def crowded(count: int) -> Loop:
    """The loop with so many more callbacks at after_batch: C0, C1, ..."""
    more = tuple(handler(f"C{n}", "after_batch", n) for n in range(count))
    return bound(LOOP, "after_batch", more)


def renumbered(loop: Loop, by: int) -> Loop:
    """The loop with other numbers in the ids of its callbacks."""

    def other(one: Handler) -> Handler:
        name, _, number = one.id.rpartition("#")
        return replace(one, id=f"{name}#{int(number) + by}")

    handlers = {at: tuple(map(other, ones)) for at, ones in loop.binding.handlers.items()}
    return replace(loop, binding=Binding(MappingProxyType(handlers)))


def each_scope(node: Node, change: Callable[[Scope], Scope]) -> Node:
    """A node with every scope in it changed, innermost first."""
    if not isinstance(node, Scope):
        return node
    body = tuple(each_scope(one, change) for one in node.body)
    before, exit = (tuple(each_scope(one, change) for one in ones) for ones in (node.before, node.exit))
    return change(replace(node, body=body, before=before, exit=exit))


def scoped(name: str, change: Callable[[Scope], Scope]) -> Loop:
    """The loop with the scopes of a name changed."""
    root = each_scope(LOOP.root, lambda one: change(one) if one.name == name else one)
    assert isinstance(root, Scope)
    return replace(LOOP, root=root)


def altered(at: str, position: int, **fields: Any) -> Loop:
    """The loop with other fields of one handler."""
    ones = LOOP.binding.at(at)
    return bound(LOOP, at, (*ones[:position], replace(ones[position], **fields), *ones[position + 1 :]))


def found(a: Loop, b: Loop) -> list[tuple[str, str, str]]:
    return [(one.kind, one.what, one.name) for one in compare_loops(a, b)]


# -- the same is the same ----------------------------------------------------------------------------------------------

LOOPS = st.builds(
    lambda orders, epochs: replace(
        fit(epochs), binding=Binding(MappingProxyType({at: tuple(ones) for at, ones in orders.items()}))
    ),
    st.fixed_dictionaries({at: st.permutations(LOOP.binding.at(at)) for at in EVENTS}),
    st.one_of(st.none(), st.integers(0, 3)),
)


@given(LOOPS, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_loop_does_not_differ_from_itself(loop: Loop, by: int) -> None:
    """`diff(a, a)` is empty, whatever order the handlers are in, and also where all numbers in their ids are others."""
    assert compare_loops(loop, loop) == ()
    assert compare_loops(loop, renumbered(loop, by)) == ()


@given(st.dictionaries(st.characters(), st.text(max_size=5), max_size=5), st.text(max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_loop_with_any_words_does_not_differ_from_itself(words: dict[str, str], more: str) -> None:
    """Names without a number, without a letter, with line ends or markup in them: nothing differs, all can be shown."""
    loop = reworded(LOOP, lambda field, text: "".join(words.get(c, c) for c in text) + more)
    assert compare_loops(loop, loop) == ()
    changes = compare_loops(loop, bound(loop, next(iter(loop.binding.handlers)), ()))
    assert changes
    for format in FORMATS:
        assert render(format, changes, Sides(more, "b"))


@given(LOOPS, LOOPS)
@settings(max_examples=60, deadline=None)
def test_the_other_way_round(a: Loop, b: Loop) -> None:
    """From B to A as much differs as from A to B, and two loops that were said to differ are not equal."""
    forth, back = compare_loops(a, b), compare_loops(b, a)
    assert len(forth) == len(back)
    assert bool(forth) == (a != b)


# -- handlers ----------------------------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(EVENTS), st.sampled_from(["New", "Recorder"]))
@settings(max_examples=60, deadline=None)
def test_a_handler_that_was_added_is_named_with_its_neighbours(data: Any, at: str, callback: str) -> None:
    """That one and no other, also where its class is there already; the other way round it was removed."""
    ones = LOOP.binding.at(at)
    position = data.draw(st.integers(0, len(ones)))
    new = replace(handler(callback, at, 7), id=f"{callback}#9", reason="order 7, put there", label="the new one")
    (change,) = compare_loops(LOOP, added(LOOP, at, position, new))
    shown = "New" if callback == "New" else "Recorder#9"
    expected = [*(one.callback for one in ones[:position]), None, *(one.callback for one in ones[position:])]
    follows = expected[position - 1] if position else None
    precedes = expected[position + 1] if position < len(ones) else None
    names = {None: None, "Recorder": "Recorder#1"} if callback == "Recorder" else {}
    assert (change.kind, change.what, change.name) == ("added", "handler", f"{shown}.{at}")
    assert (change.callback, change.id, change.event) == (callback, f"{callback}#9", at)
    assert (change.follows, change.precedes) == (names.get(follows, follows), names.get(precedes, precedes))
    (back,) = compare_loops(added(LOOP, at, position, new), LOOP)
    assert back == replace(change, kind="removed")


@given(st.integers(3, 7), st.data())
@settings(max_examples=60, deadline=None)
def test_a_handler_that_was_moved_is_named_with_what_it_now_runs_before_or_after(count: int, data: Any) -> None:
    """That one alone has moved, past exactly those that it jumped over; a swap is told by whose order is another."""
    loop = crowded(count)
    ones = list(loop.binding.at("after_batch"))
    start = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(0, count - 1).filter(lambda it: it != start))
    moved = replace(ones.pop(start), reason="order 99")
    ones.insert(end, moved)
    (change,) = compare_loops(loop, bound(loop, "after_batch", tuple(ones)))
    assert (change.kind, change.name) == ("moved", f"C{start}.after_batch")
    jumped = tuple(f"C{n}" for n in (range(start + 1, end + 1) if end > start else range(end, start)))
    assert (change.now_after, change.now_before) == ((jumped, ()) if end > start else ((), jumped))
    assert (change.old, change.new) == (f"order {start}", "order 99")


def test_a_callback_that_moved_at_one_event_and_left_another() -> None:
    """Each event speaks for itself."""
    a = crowded(3)
    b = removed(bound(a, "after_batch", tuple(reversed(a.binding.at("after_batch")))), "after_epoch", 0)
    kinds = [(one.kind, one.event) for one in compare_loops(a, b)]
    assert sorted(kinds) == [("moved", "after_batch")] * 2 + [("removed", "after_epoch")]


def test_several_callbacks_of_one_class() -> None:
    """They are told by what they show of themselves, then by their events and reasons, then by their turn."""
    first, second, third = (
        replace(handler("Clip", "after_batch", n), id=f"Clip#{n}", label=f"Clip({n})", reason=f"order {n}")
        for n in (1, 2, 3)
    )
    a = bound(LOOP, "after_batch", (first, second, third))
    b = bound(LOOP, "after_batch", (replace(second, id="Clip#1"), replace(third, id="Clip#2")))
    assert callbacks(a, b)["Clip#2"] == "Clip#1"
    assert [(one.kind, one.name) for one in compare_loops(a, b)] == [("removed", "Clip#1.after_batch")]
    twins = [replace(one, label="Clip", reason="order 1") for one in (first, second)]
    assert callbacks(bound(LOOP, "after_batch", tuple(twins)), bound(LOOP, "after_batch", tuple(twins[1:])))["Clip#1"]


@given(st.permutations(range(6)), st.lists(st.booleans(), min_size=6, max_size=6))
def test_as_few_as_possible_have_moved(order: list[int], steady: list[bool]) -> None:
    """What stays rises, and no longer part of the order does."""
    kept = [one for one in order if one in stayed(order, steady)]
    assert kept == sorted(kept)
    parts = ([order[i] for i in range(6) if mask >> i & 1] for mask in range(64))
    assert len(kept) == max(len(part) for part in parts if part == sorted(part))


# -- everything else: a comparison that cannot fail would pass each of the tests above ---------------------------------

BATCH = "fit > epoch > train > batch", "fit > epoch > validate > batch"

CASES: dict[str, tuple[Loop, list[tuple[str, str, str]], tuple[str, str, str]]] = {
    "call": (replace(LOOP, call="learn.fit(3)"), [("changed", "loop", "call")],
             ("call", "learn.fit(2, cbs=[Mine])", "learn.fit(3)")),
    "subject": (replace(LOOP, subject="Own"), [("changed", "loop", "subject")], ("subject", "Learner", "Own")),
    "version": (replace(LOOP, versions=MappingProxyType({"toy": "2", "python": "3.11.7"})),
                [("changed", "loop", "toy version")], ("toy version", "1.2.3", "2")),
    "a version more": (replace(LOOP, versions=MappingProxyType({**LOOP.versions, "torch": "2"})),
                       [("changed", "loop", "torch version")], ("torch version", "none", "2")),
    "cancels": (replace(LOOP, cancels=LOOP.cancels[:1]), [("changed", "loop", "cancel exceptions")],
                ("cancel exceptions", ", ".join(LOOP.cancels), LOOP.cancels[0])),
    "swallowed": (replace(LOOP, swallowed=()), [("changed", "loop", "swallowed exceptions")],
                  ("swallowed exceptions", "StopIteration", "")),
    "a note more": (replace(LOOP, notes=(*LOOP.notes, "odd")), [("added", "loop", "note")], ("", "", "odd")),
    "a note less": (replace(LOOP, notes=()), [("removed", "loop", "note")], ("", LOOP.notes[0], "")),
    "repeats": (scoped("epoch", lambda one: replace(one, repeat=Repeat(3, 3))), [("changed", "scope", "epoch")],
                ("repeats", "2", "3")),
    "an event more": (scoped("train", lambda one: replace(one, body=(*one.body, event("odd")))),
                      [("added", "event", "odd")], ("", "", "")),
    "an event less": (scoped("train", lambda one: replace(one, exit=())), [("removed", "event", "after_train")],
                      ("", "", "")),
    "a step more": (scoped("train", lambda one: replace(one, body=(step("sync", "s()", line=3), *one.body))),
                    [("added", "step", "sync")], ("", "", "")),
    "a scope more": (scoped("train", lambda one: replace(one, body=(*one.body, level("extra", (event("odd"),))))),
                     [("added", "scope", "extra")],
                     ("", "", "before_extra, odd, after_cancel_extra, after_extra")),
    "a scope less": (scoped("epoch", lambda one: replace(one, body=one.body[:2])), [("removed", "scope", "validate")],
                     ("", "before_validate, before_batch, after_pred, after_loss, after_cancel_batch, after_batch, "
                      "after_cancel_validate, after_validate", "")),
    "a catch less": (scoped("train", lambda one: replace(one, catches=())),
                     [("removed", "cancel", "CancelTrainException")], ("", "after_cancel_train", "")),
    "a catch that goes on": (scoped("epoch", lambda one: replace(one, catches=(Catch(
        ("CancelEpochException",), one.catches[0].body, "raise"),))),
        [("changed", "cancel", "CancelEpochException")], ("then", "exit", "raise")),
    "a flag": (replace(LOOP, flags=MappingProxyType({"training": False, "run Tracker": False})),
               [("changed", "handler", "Tracker.after_epoch")],
               ("status", "conditional (run is False)", "never (run is False)")),
    "what it does": (altered("before_fit", 0, facts=(Fact("effect", "raises", "inferred"),)),
                     [("changed", "handler", "TrainEval.before_fit")],
                     ("does", "sets learn.iter = 0", "raises")),
    "what it raises": (altered("after_loss", 0, raises=(Raise("KeyError"),)),
                       [("changed", "handler", "Mine.after_loss")],
                       ("raises", "ValueError if self.loss > 3", "KeyError")),
    "what it runs": (altered("after_fit", 0, nested=("fit",)), [("changed", "handler", "Tracker.after_fit")],
                     ("runs inside", "validate", "fit")),
    "where it is from": (altered("after_fit", 0, origin="cbs"), [("changed", "handler", "Tracker.after_fit")],
                         ("comes from", "learner", "cbs")),
    "its label": (altered("after_fit", 0, label="Tracker(3)"), [("changed", "handler", "Tracker.after_fit")],
                  ("shows itself as", "Tracker", "Tracker(3)")),
    "its note": (altered("after_pred", 0, facts=()), [("changed", "handler", "Shadowed.after_pred")],
                 ("note", "not its own: learn.model.after_pred (of Net)", "")),
    "its wait": (altered("after_pred", 0, facts=(*LOOP.binding.at("after_pred")[0].facts,
                                                 Fact("wait", ".item()", "inferred"))),
                 [("changed", "handler", "Shadowed.after_pred")], ("waits", "", ".item()")),
    "another method": (altered("after_fit", 0, method="other"),
                       [("removed", "handler", "Tracker.after_fit"), ("added", "handler", "Tracker.other")],
                       ("", "", "")),
}  # fmt: skip
"""What was done -> the other loop, what is found, and the field of the first with its old and new value."""


@pytest.mark.parametrize("name", CASES)
def test_what_differs_is_found_and_named(name: str) -> None:
    """One thing of a loop is another, and exactly that is found."""
    loop, expected, values = CASES[name]
    assert found(LOOP, loop) == expected
    first = compare_loops(LOOP, loop)[0]
    assert (first.field, first.old, first.new) == values


def test_where_it_is() -> None:
    """A change in the tree says in which scopes it stands; a status that is another in two places is told once."""
    (one,) = compare_loops(LOOP, CASES["an event more"][0])
    assert (one.where, one.follows, one.precedes) == (("fit > epoch > train",), "batch", "on CancelTrainException")
    loop = altered("after_batch", 1, needs=LOOP.binding.at("after_batch")[0].needs)
    (one,) = compare_loops(LOOP, loop)
    assert (one.name, one.where, one.old) == ("Mine.after_batch", BATCH[1:], "always")
    assert one.new == "never (run_valid is False: skipped while validating)"


def test_an_event_that_moved() -> None:
    """It stands between other things now, and was neither added nor removed."""
    loop = scoped("epoch", lambda one: replace(one, body=(one.body[0], one.body[2], one.body[1])))
    (one,) = compare_loops(LOOP, loop)
    assert (one.kind, one.what) == ("moved", "scope")
    assert (one.name, one.follows, one.precedes) in [
        ("validate", "before_epoch", "train"),
        ("train", "validate", "on CancelEpochException"),
    ]


def test_what_never_runs_is_told_once() -> None:
    """A scope that one of both does not enter has another status; nothing below it was added or removed."""
    loop = scoped("validate", lambda one: replace(one, repeat=Repeat(0, 0)))
    assert found(LOOP, loop) == [("changed", "scope", "validate")] * 2
    assert {one.field for one in compare_loops(LOOP, loop)} == {"repeats", "status"}


def test_lines_of_source_do_not_matter() -> None:
    """A file in which every line has moved has the same loop."""
    loop = altered("after_fit", 0, place=Place("/elsewhere/toy.py", 1))
    assert compare_loops(LOOP, loop) == ()


def test_what_is_the_same_at_all_events_is_told_once() -> None:
    """A label and an origin belong to the callback; addresses in memory and numbers of callbacks do not matter."""

    def relabelled(**fields: str) -> Loop:
        handlers = {
            at: tuple(replace(one, **fields) if one.callback == "Mine" else one for one in ones)  # type: ignore[arg-type]
            for at, ones in LOOP.binding.handlers.items()
        }
        return replace(LOOP, binding=Binding(MappingProxyType(handlers)))

    assert len(found(LOOP, relabelled(label="Mine(3)", origin="learner"))) == 2
    assert found(relabelled(label="<Mine object at 0x7f12>"), relabelled(label="<Mine object at 0x7fA3>")) == []
    assert found(replace(LOOP, notes=("Mine#1 may end",)), replace(LOOP, notes=("Mine#2 may end",))) == []


def test_two_frameworks_cannot_be_compared() -> None:
    """The error names both, and where to look for what is the same in them."""
    with pytest.raises(BadValue, match=r"A is a loop of toy, B one of keras: .* loopscope events toy keras"):
        compare_loops(LOOP, replace(LOOP, framework="keras"))


# -- times -------------------------------------------------------------------------------------------------------------


def noisy(seed: int, count: int = 100, middle: float = 100_000) -> Any:
    return np.random.default_rng(seed).lognormal(np.log(middle), 0.3, count).astype(np.int64)


def test_equal_times_rarely_differ() -> None:
    """Of 3 000 pairs of rows drawn alike, at most a few are said to differ: with few calls and with many."""
    for count in FEWEST, 12, 16, 100:
        pairs = [(noisy(2 * n, count), noisy(2 * n + 1, count)) for n in range(750)]
        assert sum(beyond(a, b) for a, b in pairs) <= 2


def test_times_that_differ_are_found() -> None:
    """Three times as long is beyond this noise; a little longer, or a few calls, or a few microseconds, are not."""
    assert beyond(noisy(1), noisy(2, middle=300_000))
    assert beyond(noisy(2, middle=300_000), noisy(1))
    assert not beyond(noisy(1)[: FEWEST - 1] * 0 + 5, noisy(1)[: FEWEST - 1] * 0 + 6)
    steady = np.full(100, 100_000)
    assert beyond(steady, (steady * (LEAST + 0.01)).astype(int))
    assert not beyond(steady, (steady * (LEAST - 0.01)).astype(int))
    assert not beyond(np.full(100, FLOOR), np.full(100, 2 * FLOOR - 1))


def test_a_slower_machine_does_not_slow_a_row() -> None:
    """What all rows took longer is no news of one of them; a row must differ beyond that."""
    a, b = noisy(1), noisy(2, middle=200_000)
    assert not beyond(a, b, 2.0)
    assert beyond(a, noisy(3, middle=500_000), 2.0)
    assert not beyond(a, noisy(4), 2.0)  # as long as before, on a slower machine: perhaps it is faster


def delayed(recording: Recording, handler: str, by: int) -> Recording:
    """The recording with every call of a handler `by` nanoseconds longer."""
    (lane,) = recording.lanes
    codes = [code for code, name in recording.names.items() if name["k"] == "handler" and handler == _told(name)]
    ends = np.sort(lane.end[np.isin(lane.code & NAME, codes)])
    start = lane.start + by * np.searchsorted(ends, lane.start, "right")
    end = lane.end + by * np.searchsorted(ends, lane.end, "right")
    rows = np.stack([lane.code, start, end], 1).tolist()
    return replace(timed(recording, [rows], recording.end + by * len(ends)), begin=recording.begin)


def _told(name: Any) -> str:
    return f"{str(name['callback']).partition('#')[0]}.{name['event']}"


def test_a_recording_does_not_differ_from_itself() -> None:
    """`diff(a, a)` is empty."""
    assert loopscope.diff(RECORDED, RECORDED).empty
    assert compare_recordings(place(read(RECORDED)), place(read(RECORDED))) == ((), ())


def test_a_handler_that_takes_longer_is_found() -> None:
    """In each run and scope that has calls enough; the batches and epochs around it are longer, too."""
    recording = read(RECORDED)
    changes, notes = compare_recordings(place(recording), place(delayed(recording, "Checks.after_pred", 300_000)))
    handlers = [one for one in changes if one.what == "handler"]
    assert {(one.kind, one.name, one.event) for one in handlers} == {("slower", "Checks.after_pred", "after_pred")}
    assert {one.what for one in changes} <= {"handler", "scope"}
    assert {one.run for one in handlers} <= {"learn.fit(2)", "learn.fine_tune(1)"}
    for one in handlers:
        assert one.paces is not None
        a, b = one.paces
        assert b.median - a.median == 300_000
        assert (a.count, a.low <= a.median <= a.high, 0 < a.share < b.share < 1) == (b.count, True, True)
    assert notes == ()


def test_it_is_faster_the_other_way_round() -> None:
    """What takes longer in B takes less in A."""
    recording = read(RECORDED)
    slow = delayed(recording, "Checks.after_pred", 300_000)
    forth, back = (compare_recordings(place(a), place(b))[0] for a, b in ((recording, slow), (slow, recording)))
    assert {one.name for one in forth if one.kind == "slower"} == {one.name for one in back if one.kind == "faster"}


def test_how_runs_went() -> None:
    """How they ended, and how often a scope ran for each time that what is around it did."""
    paths = [RECORDED.with_name(f"{name}.loop") for name in ("closed", "raised")]
    changes = loopscope.diff(*paths).changes
    assert [(one.kind, one.name, one.old, one.new) for one in changes if one.what == "run"] == [
        ("removed", "learn.fit(1)", "", ""),
        ("removed", "learn.lr_find(num_it=5, show_plot=False)", "", ""),
        ("removed", "learn.fine_tune(1)", "", ""),
        ("changed", "learn.fit(2)", "finished", "raised ValueError"),
    ]
    ran = {(*one.where, one.name): (one.old, one.new) for one in changes if one.field == "times that it ran"}
    assert ran["fit > epoch > train", "batch"] == ("12", "11")
    assert ran["fit > epoch", "validate"] == ("2", "1")
    assert ("fit > epoch > validate", "batch") not in ran  # as often as before, for each validation


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_recording(seed: int, tmp_path: Path) -> None:
    """It is refused with words, or compared: with a whole one, and with itself, from which it does not differ."""
    moments = random.Random(seed)
    data = bytearray(RECORDED.read_bytes())
    moments.choice(MUTATIONS)(data, moments)
    damaged = tmp_path / "a.loop"
    damaged.write_bytes(data)
    with contextlib.suppress(LoopscopeError):
        assert loopscope.diff(damaged, damaged).empty
        assert str(loopscope.diff(RECORDED, damaged))


# -- how it looks ------------------------------------------------------------------------------------------------------

SAMPLE = (
    *(
        one
        for name in ("call", "a note more", "repeats", "a scope more", "a flag")
        for one in compare_loops(LOOP, CASES[name][0])
    ),
    *compare_loops(LOOP, added(removed(LOOP, "after_epoch", 1), "after_batch", 1, handler("New", "after_batch", 7))),
    *compare_loops(
        crowded(4),
        bound(crowded(4), "after_batch", tuple(crowded(4).binding.at("after_batch")[i] for i in (1, 2, 3, 0))),
    ),
)


def sample() -> tuple[Change, ...]:
    """Changes of all kinds, times of artificial recordings among them."""
    recording = read(RECORDED)
    times, _ = compare_recordings(place(recording), place(delayed(recording, "Checks.after_pred", 300_000)))
    return (*SAMPLE, *times)


SIDES = Sides("before.loop: learn.fit(2)", "after.loop: learn.fit(3)", ("a note",))


@pytest.mark.parametrize(("format", "width"), [("text", 80), ("text", 120), ("markdown", None)])
def test_the_whole_output(format: str, width: int | None, golden: Golden) -> None:
    """Each format, whole; no line is wider than it may be."""
    text = render(format, sample(), SIDES, width)
    golden(f"diff-{format}{'' if width is None else f'-{width}'}.txt", text)
    assert all(len(line) <= (width or 1000) for line in text.splitlines())


def test_nothing_differs(golden: Golden) -> None:
    """Both are named, and that nothing differs."""
    golden("diff-empty.txt", render("text", (), Sides("a.json", "a.json")))


def test_json_has_every_field() -> None:
    """The JSON says all that the changes do."""
    changes = sample()
    whole = json.loads(render("json", changes, SIDES))
    assert (whole["schema"], whole["version"], whole["a"], whole["notes"]) == (
        "loopscope/difference", 1, SIDES.a, ["a note"],
    )  # fmt: skip
    assert [one["name"] for one in whole["changes"]] == [one.name for one in changes]
    assert set(whole["changes"][0]) == set(Change.__dataclass_fields__)
    assert {one["paces"][0]["count"] for one in whole["changes"] if one["paces"]}


def test_another_format_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(UnknownChoice, match="Accepted: text, json, markdown"):
        render("html", (), SIDES)


def test_a_terminal_without_signs() -> None:
    """Where only ASCII can be written nothing breaks."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Console(file=out, width=80, force_terminal=False).print(renderable(sample(), SIDES))
    out.flush()
    text = raw.getvalue().decode("ascii")
    assert "slower" in text
    assert "repeats  2 > 3" in text
