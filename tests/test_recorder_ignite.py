"""What the conformance suite does not see of recording ignite: filters, what is put in place, ignite's profilers."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("ignite")

from ignite.engine import Engine, Events
from ignite.handlers import BasicTimeProfiler, HandlersTimeProfiler

import loopscope
from loopscope.adapters import ignite as adapter
from loopscope.placing import place
from loopscope.recording import read
from loopscope.report import Report
from loopscope.session import Session
from loopscope.timing import reported
from tests.adapters.cases.ignite_engines import Counter, data, evaluator, log, stepped
from tests.told import sums, told

STOCK = Engine._fire_event
THREE = [1, 2, 3]


def nothing(engine: Engine, batch: Any) -> None:
    pass


def recorded(one: Engine, folder: Path, call: Callable[[], object]) -> tuple[Report, list[Any]]:
    """The report of a call that was recorded, and what it says was fired."""
    with loopscope.record(one, folder / "run.loop"):
        call()
    placed = place(read(folder / "run.loop"))
    return reported(placed), told(placed)


def calls(fired: list[Any], handler: str) -> list[int]:
    """How often the events at which a handler may stand called it, event by event."""
    return [sum(call.handler == handler for call in one.calls) for one in fired if one.event == "ITERATION_STARTED"]


def unexpected(report: Report) -> list[str]:
    return [one.message for one in report.unexpected] + sums(report)


# -- filters -----------------------------------------------------------------------------------------------


def test_a_filter_is_asked_once_and_only_what_it_lets_through_is_a_call(tmp_path: Path) -> None:
    """A filter of one's own that counts says the same as without a recording; a refused call has no row."""

    def made() -> tuple[Engine, list[int], list[int]]:
        asked: list[int] = []
        ran: list[int] = []
        one = Engine(nothing)

        def asks(engine: Engine, event: int) -> bool:
            asked.append(event)
            return len(asked) % 2 == 0

        def handler(engine: Engine) -> None:
            ran.append(engine.state.iteration)

        one.add_event_handler(Events.ITERATION_STARTED(event_filter=asks), handler)
        return one, asked, ran

    plain, *before = made()
    plain.run(THREE, max_epochs=2)
    one, *after = made()
    report, fired = recorded(one, tmp_path, lambda: one.run(THREE, max_epochs=2))
    assert after == before == [[1, 2, 3, 4, 5, 6], [2, 4, 6]]
    assert calls(fired, "handler#1") == [0, 1, 0, 1, 0, 1]
    assert unexpected(report) == []


def test_what_a_filter_raises(tmp_path: Path) -> None:
    """An error of a filter is an error of the event, not of the handler that was not called."""

    def asks(engine: Engine, event: int) -> bool:
        raise LookupError("no answer")

    one = Engine(nothing)
    one.add_event_handler(Events.ITERATION_STARTED(event_filter=asks), log)
    with pytest.raises(LookupError, match="no answer"):
        recorded(one, tmp_path, lambda: one.run(THREE))
    placed = place(read(tmp_path / "run.loop"))
    assert unexpected(reported(placed)) == []
    assert calls(told(placed), "log#1") == [0]


def test_the_frames_of_an_exception_are_those_without_a_recording(tmp_path: Path) -> None:
    """Through a filter as well: file, line and name of each frame, those of the wrapper included."""

    def frames(run: Callable[[Engine], object]) -> list[tuple[str, int | None, str]]:
        def fail(engine: Engine) -> None:
            raise ZeroDivisionError

        one = Engine(nothing)
        one.add_event_handler(Events.ITERATION_STARTED(every=2), fail)
        with pytest.raises(ZeroDivisionError) as caught:
            run(one)
        own = str(Path(loopscope.__file__).parent)
        trace = traceback.extract_tb(caught.value.__traceback__)
        return [(f.filename, f.lineno, f.name) for f in trace if not f.filename.startswith(own)]

    plain = [frame for frame in frames(lambda one: one.run(THREE)) if frame[0] != __file__]
    with_it = frames(lambda one: recorded(one, tmp_path, lambda: one.run(THREE)))
    assert [frame for frame in with_it if frame[0] != __file__] == plain
    assert [name for _, _, name in plain][-2:] == ["_fire_event", "wrapper"]


# -- what is put in place ----------------------------------------------------------------------------------


def test_nothing_stays_in_place(tmp_path: Path) -> None:
    """The class has its own method again, and the lists of handlers hold the very same things all the time."""
    one = Engine(nothing)
    one.add_event_handler(Events.ITERATION_STARTED(every=2), log)
    one.add_event_handler(Events.ITERATION_STARTED, lambda engine: None)
    one.log = []
    held = [id(call) for call, *_ in one._event_handlers[Events.ITERATION_STARTED]]
    seen: list[list[int]] = []
    one.add_event_handler(
        Events.EPOCH_STARTED,
        lambda: seen.append([id(call) for call, *_ in one._event_handlers[Events.ITERATION_STARTED]]),
    )
    recorded(one, tmp_path, lambda: one.run(THREE))
    assert Engine.__dict__["_fire_event"] is STOCK
    assert seen == [held] == [[id(call) for call, *_ in one._event_handlers[Events.ITERATION_STARTED]]]
    assert Events.EXCEPTION_RAISED not in one._event_handlers
    assert vars(one).keys() - vars(Engine(nothing)).keys() == {"log"}


def test_no_engine_and_no_handler_is_kept(tmp_path: Path) -> None:
    """Once the recording is over, nothing of it holds the engine, its handlers or their twins."""
    one: Any = Engine(nothing)
    one.add_event_handler(Events.ITERATION_STARTED(every=2), Counter())
    with loopscope.record(one, tmp_path / "run.loop"):
        one.run(THREE)
    dead = weakref.ref(one), weakref.ref(one._event_handlers[Events.ITERATION_STARTED][0][0].__wrapped__)
    one = None
    gc.collect()
    assert [ref() for ref in dead] == [None, None]


def test_copies_and_pickles_are_as_without_a_recording(tmp_path: Path) -> None:
    """What is copied or pickled while it is recorded holds nothing of loopscope's, and is not recorded itself."""
    one = Engine(nothing)
    one.add_event_handler(Events.EPOCH_STARTED, log_to(one, "epoch"))
    taken: list[Any] = []
    one.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: taken.extend([pickle.dumps(nothing), clone(one)]))
    report, fired = recorded(one, tmp_path, lambda: one.run(THREE))
    assert b"loopscope" not in taken[0]
    before = (tmp_path / "run.loop").read_bytes()
    taken[1].run([1])
    assert (tmp_path / "run.loop").read_bytes() == before
    assert unexpected(report) == []
    assert len(fired) == 4 + 4 * 3


def clone(one: Engine) -> Engine:
    """A copy of an engine that does not share its lists; a run that is under way cannot be copied."""
    copied = copy.copy(one)
    copied._internal_run_generator = None
    copied.state = copy.deepcopy(one.state)
    copied.state.max_epochs = None
    copied._event_handlers = copy.copy(one._event_handlers)
    copied._dataloader_iter = None
    return copied


def log_to(one: Engine, what: str) -> Callable[[], None]:
    noted: list[str] = []
    return lambda: noted.append(what)


def test_handlers_that_come_and_go_on_the_way(tmp_path: Path) -> None:
    """One that is attached while the run goes on gets the next number; from there on it is expected."""
    one = Engine(nothing)

    def late(engine: Engine) -> None:
        pass

    @one.on(Events.ITERATION_STARTED(once=2))
    def add(engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, late)

    report, fired = recorded(one, tmp_path, lambda: one.run(THREE, max_epochs=2))
    assert calls(fired, "late#2") == [0, 1, 1, 1, 1, 1]
    assert [message for message in unexpected(report) if "late#2" not in message] == []
    assert len(unexpected(report)) == 1  # in the event in which it was attached, nobody could expect it


def test_events_outside_of_a_run(tmp_path: Path) -> None:
    """`fire_event` by hand is recorded and belongs to no run; nothing breaks."""
    one = Engine(nothing)
    one.register_events("by hand")
    one.add_event_handler("by hand", lambda: None)
    report, fired = recorded(one, tmp_path, lambda: (one.fire_event("by hand"), one.run(THREE)))
    assert [len(event.calls) for event in fired if event.event == "by hand"] == [1]
    assert sums(report) == []


def test_engines_in_two_threads(tmp_path: Path) -> None:
    """Each has rows of its own, in its own thread; all of them are placed."""
    engines = [stepped() for _ in range(2)]
    session = Session(None, tmp_path / "run.loop")
    session.start()
    threads = [threading.Thread(target=one.run, args=(data(),), kwargs={"max_epochs": 2}) for one in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.stop()
    report = reported(place(read(tmp_path / "run.loop")))
    assert unexpected(report) == []
    assert len(report.tracks) >= 2
    assert len(report.endings) == 2


def test_a_replaced_dispatch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody has put another method in place, recording says so before anything is changed."""
    monkeypatch.setattr(Engine, "_fire_event", lambda self, event_name: None)
    with pytest.raises(
        loopscope.errors.UnknownVersion, match=r"Engine\._fire_event was replaced since it was imported"
    ):
        recorded(Engine(nothing), tmp_path, lambda: None)
    assert not (tmp_path / "run.loop").exists()


# -- beside ignite's own profilers -------------------------------------------------------------------------


@pytest.mark.parametrize("profiler", [BasicTimeProfiler, HandlersTimeProfiler])
def test_ignites_own_profilers_count_the_same(profiler: type, tmp_path: Path) -> None:
    """What they report of a recorded run are the events and handlers that they report without one."""

    def results(around: Callable[[Engine, Callable[[], object]], object]) -> list[Any]:
        one = Engine(nothing)
        one.log = []
        one.add_event_handler(Events.ITERATION_STARTED, log)
        one.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)
        own = profiler()
        own.attach(one)
        around(one, lambda: one.run(THREE, max_epochs=2))
        found = own.get_results()
        rows = found if isinstance(found, list) else sorted(found["event_handlers_names"].items())
        return [[str(cell) for cell in row[:2]] for row in rows] + [one.log]

    found: list[Any] = []

    def watched(one: Engine, call: Callable[[], object]) -> None:
        found.extend(recorded(one, tmp_path, call))

    assert results(watched) == results(lambda one, call: call())
    assert calls(found[1], "log#1") == [1] * 6
    assert sums(found[0]) == []


@pytest.mark.parametrize("first", [BasicTimeProfiler, HandlersTimeProfiler])
@pytest.mark.parametrize("second", [BasicTimeProfiler, HandlersTimeProfiler, None])
def test_what_ignites_own_profilers_attach_is_expected(first: type, second: type | None, tmp_path: Path) -> None:
    """The one that attaches to STARTED while that is fired, too; in the next run as well."""
    one = Engine(nothing)
    one.log = []
    one.add_event_handler(Events.STARTED, log)
    one.add_event_handler(Events.EPOCH_COMPLETED(every=2), log)
    for profiler in filter(None, (first, second)):
        profiler().attach(one)

    def twice() -> None:
        one.run(THREE, max_epochs=2)
        one.run(THREE, max_epochs=2)

    report, fired = recorded(one, tmp_path, twice)
    assert unexpected(report) == []
    names = [call.handler.partition("#")[0] for call in next(at for at in fired if at.event == "STARTED").calls]
    basic = [BasicTimeProfiler.__name__] * (first, second).count(BasicTimeProfiler)
    assert sorted(names) == sorted(
        [*basic, *basic, "log", *("HandlersTimeProfiler",) * (2 - len(basic) - (not second))]
    )


# -- where it was ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "when", "said"),
    [
        (Events.STARTED, 0, (None, None)),
        (Events.EPOCH_STARTED, 3, (1, None)),
        (Events.GET_BATCH_STARTED, 4, (1, 1)),
        (Events.GET_BATCH_COMPLETED, 0, (0, 0)),
        (Events.ITERATION_STARTED, 1, (0, 0)),
        (Events.ITERATION_COMPLETED, 5, (1, 1)),
        (Events.EPOCH_COMPLETED, 6, (1, None)),
        (Events.COMPLETED, 6, (1, None)),
    ],
    ids=str,
)
def test_where_an_engine_is(event: Any, when: int, said: tuple[int | None, int | None]) -> None:
    """Epoch and batch as the engine's state counts them, from 0."""
    one = Engine(nothing)
    seen: list[Any] = []

    @one.on(event)
    def look(engine: Engine) -> None:
        if engine.state.iteration == when:
            seen.append(adapter.dispatch.NAMING.where(engine))

    one.run(THREE, max_epochs=2)
    assert seen == [said]


def test_the_cost_is_measured() -> None:
    """What recording costs here, in ns: for an event, a call, and what ignite's own dispatch takes."""
    cost = adapter.calibrate()
    assert cost["callbacks"] == 4
    assert all(0 < cost[name] < 1e6 for name in ("per_event", "per_call", "clock", "framework_dispatch"))


def test_an_evaluator_is_read_once(tmp_path: Path) -> None:
    """Its map is written once, however often it is run inside the trainer."""
    one = stepped()
    inner = evaluator(one.model)
    one.add_event_handler(Events.EPOCH_COMPLETED, lambda: inner.run(data(1)))
    session = Session(None, tmp_path / "run.loop")
    session.start()
    one.run(data(), max_epochs=4)
    session.stop()
    recording = read(tmp_path / "run.loop")
    assert sum("loop" in name and "call" not in name for name in recording.names.values()) == 2
    assert unexpected(reported(place(recording))) == []


# -- what the map cannot read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_epochs": 1}, "greater than or equal to the start epoch"),
        ({"max_epochs": "a"}, "not supported between"),
        ({"max_epochs": 9, "max_iters": 9}, "mutually exclusive"),
    ],
)
def test_a_run_that_ignite_refuses(
    arguments: dict[str, Any], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it is recorded ignite's own error comes up, of its own class, and a line says why there is no map."""
    one = Engine(nothing)
    one.run(THREE, max_epochs=3)
    with loopscope.record(one, tmp_path / "run.loop"), pytest.raises((ValueError, TypeError), match=error) as caught:
        one.run(THREE, **arguments)
    assert not type(caught.value).__module__.startswith("loopscope")
    assert "loopscope: the loop of run cannot be read, and it runs without a map. " in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [{"max_epochs": 2.0}, {"max_iters": 4.0}, {"max_epochs": True}, {"epoch_length": 3.0}]
)
def test_numbers_that_are_whole_to_ignite(given: dict[str, Any], tmp_path: Path) -> None:
    """1e4 and True are counted up to as ignite does."""
    one = Engine(nothing)
    report, _ = recorded(one, tmp_path, lambda: one.run(list(THREE), **given))
    assert unexpected(report) == []


def test_an_engine_whose_run_passes_all_on(tmp_path: Path) -> None:
    """The arguments in `*args` are known by ignite's names for their places."""

    class Own(Engine):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return super().run(*args, **kwargs)

    one = Own(nothing)
    report, fired = recorded(one, tmp_path, lambda: one.run(THREE, 2))
    assert unexpected(report) == []
    assert [event.event for event in fired].count("ITERATION_COMPLETED") == 6
