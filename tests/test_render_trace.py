"""The Chrome trace: valid JSON, exact times, right nesting, whatever the names."""

from __future__ import annotations

import doctest
import io
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from loopscope.render import trace
from loopscope.render.trace import TraceTrack, write

Span = tuple[int, int]

BEGIN = 7_000_000_000_000_000_123


def track(spans: Sequence[Span], tid: int = 1, **more: Any) -> TraceTrack:
    """A track of (start, end) since `BEGIN`, all called `a`, with epoch 0 and batch 3 unless told otherwise."""
    count = len(spans)
    known: dict[str, Any] = {
        "label": f"thread {tid}",
        "names": ["a"],
        "name": np.zeros(count, np.int32),
        "epoch": np.zeros(count, np.int32),
        "batch": np.full(count, 3, np.int32),
        "category": ["handler"],
        "args": [""],
    }
    start, end = (np.array([BEGIN + span[at] for span in spans], np.int64) for at in (0, 1))
    return TraceTrack(pid=4711, tid=tid, start=start, end=end, **(known | more))


def written(*tracks: TraceTrack) -> list[dict[str, Any]]:
    """The events of a trace, times as text just as they stand in the file."""
    out = io.BytesIO()
    assert write(out, tracks, begin=BEGIN) == sum(len(one.start) for one in tracks)
    whole = json.loads(out.getvalue().decode("ascii"), parse_float=str)
    assert list(whole) == ["traceEvents", "displayTimeUnit"]
    assert whole["displayTimeUnit"] == "ns"
    events = whole["traceEvents"]
    assert isinstance(events, list)
    return events


def spans(*tracks: TraceTrack) -> list[Span]:
    """(start, end) of the complete events, in ns."""
    found = [event for event in written(*tracks) if event["ph"] == "X"]
    return [(ns(event["ts"]), ns(event["ts"]) + ns(event["dur"])) for event in found]


def ns(micros: str) -> int:
    whole, _, rest = micros.partition(".")
    assert len(rest) == 3
    return int(whole) * 1_000 + int(rest)


def depths(found: Sequence[Span]) -> list[int]:
    """How deep a viewer draws each span, which knows nothing but the times: by what contains it. Refuses overlaps."""
    open_: list[Span] = []
    result = []
    for span in found:
        while open_ and open_[-1][1] <= span[0]:
            open_.pop()
        assert not open_ or (open_[-1][0] <= span[0] and span[1] <= open_[-1][1])
        result.append(len(open_))
        open_.append(span)
    return result


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[Span], list[int]]:
    """Spans as a loop makes them, in preorder, each of some length, with their depths; ends may be shared."""
    found: list[Span] = []
    deep: list[int] = []

    def grow(low: int, high: int, depth: int) -> None:
        cuts = sorted(draw(st.sets(st.integers(low, high), max_size=5)))
        for start, end in pairwise(cuts):
            if draw(st.booleans()):
                found.append((start, end))
                deep.append(depth)
                if depth < 3 and end - start > 1:
                    grow(start, end, depth + 1)

    grow(0, draw(st.sampled_from([9, 10**6, 10**15])), 0)
    return found, deep


def test_a_whole_trace() -> None:
    """One small trace, as it stands in the file."""
    out = io.BytesIO()
    one = track(
        [(0, 3_000_000), (1_005, 2_500)],
        names=["before_batch", "Recorder.before_batch"],
        name=np.array([0, 1], np.int32),
        category=["event", "handler"],
        args=["", '"place":"fastai/learner.py:187"'],
    )
    write(out, [one], begin=BEGIN)
    assert out.getvalue().decode() == (
        '{"traceEvents": [\n'
        '{"ph": "M", "name": "process_name", "pid": 4711, "tid": 0, "args": {"name": "loopscope"}},\n'
        '{"ph": "M", "name": "thread_name", "pid": 4711, "tid": 1, "args": {"name": "thread 1"}},\n'
        '{"ph": "M", "name": "thread_sort_index", "pid": 4711, "tid": 1, "args": {"sort_index": 0}},\n'
        '{"name":"before_batch","cat":"event","ph":"X","pid":4711,"tid":1,"args":{"epoch":0,"batch":3},'
        '"ts":0.000,"dur":3000.000},\n'
        '{"name":"Recorder.before_batch","cat":"handler","ph":"X","pid":4711,"tid":1,'
        '"args":{"place":"fastai/learner.py:187","epoch":0,"batch":3},"ts":1.005,"dur":1.495}\n'
        '], "displayTimeUnit": "ns"}\n'
    )


@given(tree=trees(), rows=st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_times_are_exact_and_nest_as_they_did(tree: tuple[list[Span], list[int]], rows: int) -> None:
    """Every start and end is there to the nanosecond, and containment alone gives back how deep each span was."""
    found, deep = tree
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "ROWS", rows)
        assert spans(track(found)) == found
    assert depths(found) == deep


@given(raw=st.lists(st.tuples(st.integers(-5, 30), st.integers(-5, 30)), max_size=30), rows=st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_no_span_reaches_over_the_one_around_it(raw: list[Span], rows: int) -> None:
    """Whatever the times are: starts never go back, nothing is negative, and outer ends cut inner ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "ROWS", rows)
        made = spans(track(raw))
    assert [start for start, _ in made] == sorted(start for start, _ in made)
    assert all(0 <= start <= end for start, end in made)
    depths(made)


def test_a_child_is_cut_where_its_parent_ends() -> None:
    """Of two that overlap, the one that began later ends with the other."""
    assert spans(track([(0, 10), (4, 15), (10, 12)])) == [(0, 10), (4, 10), (10, 12)]


@pytest.mark.parametrize("rows", [1, 2, 50_000])
def test_epochs_and_batches_stand_where_they_are_known(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """-1 is no epoch and no batch; a name's own arguments stand before them; pieces make no difference."""
    monkeypatch.setattr(trace, "ROWS", rows)
    one = track(
        [(at, at + 1) for at in range(6)],
        names=["a", "b"],
        category=["", ""],
        args=["", '"x": [1]'],
        name=np.array([0, 1, 0, 1, 0, 1]),
        epoch=np.array([-1, -1, 2, 2, 2, -1]),
        batch=np.array([-1, -1, -1, -1, 7, 8]),
    )
    args = [event["args"] for event in written(one) if event["ph"] == "X"]
    own = {"x": [1]}
    assert args == [{}, own, {"epoch": 2}, {**own, "epoch": 2}, {"epoch": 2, "batch": 7}, {**own, "batch": 8}]


def test_each_track_has_a_name_and_its_place() -> None:
    """Tracks are named and stand in the order given; a process is named once; no track at all is a valid trace."""
    events = written(track([(0, 1)], tid=5), track([], tid=2))
    assert [(event["name"], event["tid"], event["args"]) for event in events if event["ph"] == "M"] == [
        ("process_name", 0, {"name": "loopscope"}),
        ("thread_name", 5, {"name": "thread 5"}),
        ("thread_sort_index", 5, {"sort_index": 0}),
        ("thread_name", 2, {"name": "thread 2"}),
        ("thread_sort_index", 2, {"sort_index": 1}),
    ]
    assert written() == []


@pytest.mark.parametrize(
    "odd", ['"', "\\", '"}],"x":', "</script>", "\n\t", "\x00\x1b[31m", "\ud800", "é→😀", "%s%d{}"]
)
def test_hostile_names_are_text(odd: str) -> None:
    """Names, labels and categories never get out of their strings; what does not print is shown as an escape."""
    events = written(track([(0, 1)], names=[odd], category=[odd], label=odd))
    shown = trace.plain(odd)
    assert [(event["name"], event["cat"]) for event in events if event["ph"] == "X"] == [(shown, shown)]
    assert [event["args"]["name"] for event in events if event["name"] == "thread_name"] == [shown]


def test_the_examples() -> None:
    """The examples in the docstrings are true."""
    assert doctest.testmod(trace).failed == 0
