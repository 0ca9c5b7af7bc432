"""The conformance suite: what holds of every framework. A file `tests/test_conformance_<framework>.py` brings it in:

    pytestmark = need("keras")
    FRAMEWORK = "keras"
    from tests.suite import *

Each run is made three times, each time by a new object: described, recorded, and seen by a witness that patches
nothing. What fires is what the map says; what the recording holds is what the witness saw, and all of it has a place.
"""

from __future__ import annotations

import contextlib
import io
import random
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopscope
from loopscope.model import Loop
from loopscope.parse import follow
from loopscope.placing import place
from loopscope.recording import Recording, read
from loopscope.report import Report
from loopscope.seen import Call, Fired
from loopscope.session import Session
from loopscope.timing import reported
from tests.conformance import KINDS, Case, Witness, cases
from tests.told import apart, ended, plain, sums, told

__all__ = [
    "framework",
    "pytest_generate_tests",
    "test_a_recording_holds_what_ran_and_all_of_it_has_a_place",
    "test_a_true_run_with_one_call_deleted_doubled_or_renamed_is_refused",
    "test_a_true_run_with_one_event_deleted_doubled_or_swapped_is_refused",
    "test_every_kind_of_run_has_a_case",
    "test_one_object_is_recorded_and_two_recordings_end_in_any_order",
    "test_other_exceptions_at_every_event",
    "test_recording_changes_nothing",
    "test_the_place_of_a_handler_is_where_the_code_that_ran_stands",
    "test_what_fires_is_what_the_tree_says",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    here = cases(metafunc.module.FRAMEWORK)
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", here.CASES, ids=lambda case: case.name)
    if "exception" in metafunc.fixturenames:
        metafunc.parametrize("exception", [KeyboardInterrupt, ValueError], ids=lambda one: one.__name__)


@pytest.fixture
def framework(request: pytest.FixtureRequest) -> Any:
    """The module of the framework's cases."""
    return cases(request.module.FRAMEWORK)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def made(case: Case, folder: Path) -> Any:
    """A new object, made with the same random numbers each time."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        return case.make(folder)


def described(case: Case, obj: Any) -> Loop:
    given = case.inspect(obj) if callable(case.inspect) else case.inspect
    with quiet():
        return loopscope.inspect(obj, case.run, **given).loop


def witnessed(framework: Any, case: Case, folder: Path) -> tuple[Witness, Loop]:
    obj = made(case, folder)
    loop = described(case, obj)
    watch: Witness = framework.watch(obj)
    with quiet(), watch():
        case.call(obj)
    if watch.outcome != case.raises:
        raise watch.error or AssertionError(f"expected {case.raises} to leave the run")
    return watch, loop


def recorded(case: Case, folder: Path) -> tuple[Recording, BaseException | None, Any]:
    """Run a case as `loopscope run` does: every object is recorded."""
    obj = made(case, folder)
    session = Session(None, folder / "run.loop")
    left = None
    with quiet():
        session.start()
        try:
            case.call(obj)
        except BaseException as error:
            left = error
        finally:
            session.stop()
    return read(folder / "run.loop"), left, obj


def test_every_kind_of_run_has_a_case(framework: Any) -> None:
    """Nothing is left out without a word; what is impossible is not there."""
    there = {case.kind for case in framework.CASES} - {""}
    assert there | framework.IMPOSSIBLE.keys() == set(KINDS)
    assert not there & framework.IMPOSSIBLE.keys()
    assert all(len(why) > 20 for why in framework.IMPOSSIBLE.values())
    assert len({case.name for case in framework.CASES}) == len(framework.CASES)


def test_what_fires_is_what_the_tree_says(framework: Any, case: Case, tmp_path: Path) -> None:
    """Every event and handler call of a real run is placed by the map, and nothing that it promises is missing."""
    watch, loop = witnessed(framework, case, tmp_path)
    followed = follow(loop, watch.fired, watch.outcome, nested=watch.nested)
    at = followed.events
    assert followed.unexpected is None, (followed, [one.event for one in watch.fired[max(0, at - 5) : at + 3]])
    assert followed.events == len(watch.fired) > 1


def test_the_place_of_a_handler_is_where_the_code_that_ran_stands(framework: Any, case: Case, tmp_path: Path) -> None:
    """`file:line` of each handler is that of the code which the framework really called."""
    watch, loop = witnessed(framework, case, tmp_path)
    places: dict[tuple[str, str], set[str]] = {}
    for handler in (one for found in loop.binding.handlers.values() for one in found):
        places.setdefault((handler.event, handler.id), set()).add(str(handler.place))
    wrong = [
        (event, id_, ran, places[event, id_])
        for event, id_, ran in dict.fromkeys(watch.places)
        if (event, id_) in places and ran not in places[event, id_]
    ]
    assert wrong == []
    assert watch.places or not loop.binding.handlers


def test_a_recording_holds_what_ran_and_all_of_it_has_a_place(framework: Any, case: Case, tmp_path: Path) -> None:
    """Events, handlers and exceptions are those that an independent witness saw; all are placed, the rows add up."""
    recording, left, _ = recorded(case, tmp_path / "recorded")
    placed = place(recording)
    report = reported(placed)
    watch, _ = witnessed(framework, case, tmp_path / "witnessed")

    assert (type(left).__name__ if left else None) == watch.outcome == case.raises, left
    assert [(one.position, one.message) for one in report.unexpected] == []
    assert seen_alike(told(placed)) == seen_alike(plain(watch.fired))
    assert sorted(map(str, apart(placed))) == sorted(map(str, plain(getattr(watch, "apart", []))))
    assert report.unexpected_count == 0
    assert all((block.node >= 0).all() for block in placed.blocks())
    edges = [sum(block.places.nodes[n].how == "edge" for n in block.node.tolist()) for block in placed.blocks()]
    assert report.events == sum(len(block.events) for block in placed.blocks()) - sum(edges) > 1
    assert sums(report) == []
    assert ended(report) == case.raises
    assert (recording.state, recording.losses) == ("closed", ())


def seen_alike(fired: list[Fired]) -> list[Fired]:
    """Events as recording and witness both see them: calls recorded under one name are so in both.

    What a recording cannot see (nobody handles it, `how="unseen"`) the witness leaves out itself.
    """
    return [replace(one, raised=None, calls=tuple(_call(call) for call in one.calls)) for one in fired]


def _call(call: Call) -> Call:
    return replace(call, run=None, inner=tuple(seen_alike(list(call.inner))))


# -- the proof can fail ------------------------------------------------------------------------------------


def normal(framework: Any, folder: Path) -> tuple[list[Fired], Loop, Witness]:
    case = next(case for case in framework.CASES if case.kind == "normal")
    watch, loop = witnessed(framework, case, folder)
    return list(watch.fired), loop, watch


def test_a_true_run_with_one_event_deleted_doubled_or_swapped_is_refused(framework: Any, tmp_path: Path) -> None:
    """The protocol is not loose: every such change of a true run is unexpected, but for those that are named."""
    fired, loop, watch = normal(framework, tmp_path)
    assert follow(loop, fired, nested=watch.nested).unexpected is None
    accepted = set()
    for at in range(len(fired)):
        changed = {
            "deleted": fired[:at] + fired[at + 1 :],
            "doubled": fired[: at + 1] + fired[at:],
            "swapped": fired[:at] + fired[at : at + 2][::-1] + fired[at + 2 :],
        }
        accepted |= {
            (how, fired[at].event)
            for how, run in changed.items()
            if run != fired and not follow(loop, run, nested=watch.nested).unexpected
        }
    assert accepted == set(framework.EQUIVALENT)


def test_a_true_run_with_one_call_deleted_doubled_or_renamed_is_refused(framework: Any, tmp_path: Path) -> None:
    """The binding is not loose either: who was called, and how often, must be what it names."""
    fired, loop, watch = normal(framework, tmp_path)
    accepted = []
    tried = 0
    for at, event in enumerate(fired):
        for n, call in enumerate(event.calls):
            calls = event.calls
            for changed in (
                calls[:n] + calls[n + 1 :],
                calls[: n + 1] + calls[n:],
                (*calls[:n], replace(call, handler="Nobody#9"), *calls[n + 1 :]),
            ):
                tried += 1
                run = [*fired[:at], replace(event, calls=changed), *fired[at + 1 :]]
                accepted += [] if follow(loop, run, nested=watch.nested).unexpected else [(at, event.event, n)]
    assert tried
    assert accepted == []


# -- exceptions everywhere ---------------------------------------------------------------------------------


def test_other_exceptions_at_every_event(framework: Any, exception: type[BaseException], tmp_path: Path) -> None:
    """An exception at the first time that each event fires goes the way that the map says, seen and recorded."""
    wrong = []
    events = framework.EVENTS_THAT_RAISE
    for number, event in enumerate(events):
        thrower = framework.thrower(event, exception)
        case = Case(event, "", thrower[0], thrower[1], *thrower[2:])
        watch, loop = _thrown(framework, case, tmp_path / f"{number}w")
        followed = follow(loop, watch.fired, watch.outcome, nested=watch.nested)
        recording, left, _ = recorded(case, tmp_path / f"{number}r")
        report: Report = reported(place(recording))
        name = type(left).__name__ if left else None
        if followed.unexpected or report.unexpected or sums(report) or name != watch.outcome:
            wrong.append((event, followed.unexpected, report.unexpected, sums(report), name, watch.outcome))
    assert wrong == []
    assert events


def _thrown(framework: Any, case: Case, folder: Path) -> tuple[Witness, Loop]:
    obj = made(case, folder)
    loop = described(case, obj)
    watch: Witness = framework.watch(obj)
    with quiet(), watch():
        case.call(obj)
    return watch, loop


# -- it changes nothing ------------------------------------------------------------------------------------


def test_recording_changes_nothing(framework: Any, case: Case, tmp_path: Path) -> None:
    """Weights, losses and random states are the same to the last bit, and an exception is the same with its frames."""
    plain_obj = made(case, tmp_path / "plain")
    plain_left = None
    with quiet():
        try:
            case.call(plain_obj)
        except BaseException as error:
            plain_left = error
    before = dict(framework.state(plain_obj))
    _, left, obj = recorded(case, tmp_path / "recorded")
    assert different(before, framework.state(obj)) == []
    assert (type(left), str(left.args) if left else "") == (
        type(plain_left),
        str(plain_left.args) if plain_left else "",
    )
    assert frames(left) == frames(plain_left)
    assert before


def different(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    assert before.keys() == after.keys()
    return [name for name, value in before.items() if not same(value, after[name])]


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last bit; a NaN is the same as a NaN."""
    import torch

    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def frames(error: BaseException | None) -> list[tuple[str, str, int | None]]:
    """The frames that an exception came through, without loopscope's own and the test's."""
    ours = str(Path(loopscope.__file__).parent)
    return [
        (one.filename, one.name, one.lineno)
        for one in (traceback.extract_tb(error.__traceback__) if error else ())
        if not one.filename.startswith(ours) and one.filename != __file__
    ]


def test_one_object_is_recorded_and_two_recordings_end_in_any_order(framework: Any, tmp_path: Path) -> None:
    """`record(obj)` twice at once, the outer one ended first: both hold the same run, and nothing stays in place."""
    case = next(case for case in framework.CASES if case.kind == "normal")
    obj = made(case, tmp_path)
    outer, inner = (loopscope.record(obj, tmp_path / f"{name}.loop") for name in ("outer", "inner"))
    with quiet():
        outer.__enter__()
        inner.__enter__()
        case.call(obj)
        outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)
    runs = [told(place(read(tmp_path / f"{name}.loop"))) for name in ("outer", "inner")]
    watch, _ = witnessed(framework, case, tmp_path / "witnessed")
    assert runs[0] == runs[1] == plain(watch.fired)
    files = [(tmp_path / f"{name}.loop").read_bytes() for name in ("outer", "inner")]
    again = made(case, tmp_path / "again")
    with quiet():
        case.call(again)
    assert [(tmp_path / f"{name}.loop").read_bytes() for name in ("outer", "inner")] == files
    assert [read(tmp_path / f"{name}.loop").state for name in ("outer", "inner")] == ["closed", "closed"]
