"""The recorded form of a dispatch: a toy framework, whose functions get stamps inside and are put back."""

from __future__ import annotations

import gc
import inspect
import threading
import traceback
import weakref
from types import FunctionType
from typing import Any

import pytest

from loopscope.errors import UnknownVersion
from loopscope.model import Binding, Event, Handler, Loop, Scope
from loopscope.placing import place
from loopscope.recorder import Recorder
from loopscope.recording import Tape, read
from loopscope.report import Report
from loopscope.stamped import Dispatch, Named, Point
from loopscope.timing import reported


class Callback:
    def begin(self, state: list[Any]) -> None:
        """Do nothing."""

    def end(self, state: list[Any]) -> str | None:
        return None


class Trainer:
    """A framework in little: it calls each callback at an event, and tells what the last one answered."""

    def __init__(self, *callbacks: Callback) -> None:
        self.callbacks = list(callbacks)
        self.state: list[Any] = []

    def fire(self, event: str, state: list[Any]) -> Any:
        """Call them all."""
        answer = None
        for callback in self.callbacks:
            answer = getattr(callback, event)(state)
        return answer

    def run(self) -> Any:
        self.fire("begin", self.state)
        return self.fire("end", self.state)


STOCK = vars(Trainer)["fire"]
POINT = Point(Trainer, "fire", event="event", call="getattr(callback, event)", handler="callback",
              handlers="self.callbacks")  # fmt: skip


class Naming:
    """Ids are the class and the place in the list."""

    def event(self, event: str) -> str:
        return event

    def begin(self, obj: Trainer) -> None: ...

    def end(self, obj: Trainer) -> None: ...

    def handler(self, obj: Trainer, handler: Callback, event: str) -> Named | None:
        if getattr(type(handler), event) is getattr(Callback, event):
            return None
        number = next((n for n, one in enumerate(obj.callbacks, 1) if one is handler), 0)
        return Named(f"{type(handler).__name__}#{number}", event, type(handler).__name__)

    def listed(self, obj: Trainer, listed: Any) -> Any:
        return listed

    def bind(self, obj: Trainer) -> tuple[Binding, dict[str, bool | None]]:
        found = {}
        for event in ("begin", "end"):
            named = [self.handler(obj, one, event) for one in obj.callbacks]
            found[event] = tuple(
                Handler(one.id, one.cls, one.cls, event, one.method, "as listed") for one in named if one is not None
            )
        return Binding(found), {}

    def where(self, obj: Trainer) -> tuple[int | None, int | None]:
        return 3, 4


class Both(Callback):
    def begin(self, state: list[Any]) -> None:
        state.append("begin")

    def end(self, state: list[Any]) -> str:
        state.append("end")
        return "done"


class Last(Callback):
    def end(self, state: list[Any]) -> str:
        state.append(threading.get_ident())
        return "last"


class Raises(Callback):
    def end(self, state: list[Any]) -> str:
        raise ValueError("on purpose")


class LeavesItself(Callback):
    def __init__(self) -> None:
        self.trainer: Trainer | None = None

    def begin(self, state: list[Any]) -> None:
        assert self.trainer is not None
        self.trainer.callbacks.remove(self)


@pytest.fixture
def dispatch():
    made = Dispatch("toy", "1.0", (POINT,), Naming())
    yield made
    assert vars(Trainer)["fire"] is STOCK


class Recorded:
    """One trainer recorded into one file, its run given to the recorder by hand."""

    def __init__(self, dispatch: Dispatch, trainer: Trainer, path: Any) -> None:
        self.path, self.trainer = path, trainer
        self.recorder = Recorder(Tape.create(path, {}))
        self.subject = self.recorder.subject(trainer, {"cls": "Trainer"})
        self.detach = dispatch.watch(trainer, trainer, self.subject)

    def run(self) -> Any:
        binding, _ = Naming().bind(self.trainer)
        root = Scope("run", (Event("begin"), Event("end")))
        loop = Loop("toy", "Trainer", "run", "trainer.run()", root, binding)
        over = self.subject.begin(self.trainer, lambda: loop, None)
        try:
            answer = self.trainer.run()
        except BaseException as error:
            over(error)
            raise
        over(None)
        return answer

    def report(self) -> Report:
        self.detach()
        self.recorder.tape.close()
        return reported(place(read(self.path)))


def told(report: Report) -> list[str]:
    """The lines of the trees in words: what was called, and how often."""
    return [
        f"{line.kind} {line.name} {line.stats.count}"
        for track in report.tracks
        for _, line in track.root.walk()
        if line.kind in ("event", "handler")
    ]


def test_events_and_calls_are_recorded_and_the_answer_is_theirs(dispatch, tmp_path):
    """A handler that does nothing is no call; docstring, signature and answer of the function are as they were."""
    recorded = Recorded(dispatch, Trainer(Both(), Last()), tmp_path / "run.loop")
    assert recorded.run() == "last"
    now = vars(Trainer)["fire"]
    assert now is not STOCK
    assert (now.__doc__, inspect.signature(now)) == (STOCK.__doc__, inspect.signature(STOCK))
    assert (now.__code__.co_filename, now.__code__.co_firstlineno) == (__file__, STOCK.__code__.co_firstlineno)
    report = recorded.report()
    assert report.unexpected == ()
    assert told(report) == [
        "event begin 1", "handler Both.begin 1", "event end 1", "handler Both.end 1", "handler Last.end 1",
    ]  # fmt: skip
    assert report.tracks[0].sum == report.wall


def test_an_exception_has_the_frames_that_it_has_without_recording(dispatch, tmp_path):
    """The same lines of the same functions; the recording knows who raised, and where the object said that it was."""

    def frames(call: Any) -> list[Any]:
        with pytest.raises(ValueError, match="on purpose") as caught:
            call()
        return [
            (one.name, one.lineno, getattr(one, "colno", None), getattr(one, "end_colno", None))  # from Python 3.11 on
            for one in traceback.extract_tb(caught.value.__traceback__)
            if one.name in ("fire", "end")
        ]

    plain = frames(Trainer(Both(), Raises()).run)
    recorded = Recorded(dispatch, Trainer(Both(), Raises()), tmp_path / "run.loop")
    assert frames(recorded.run) == plain
    assert len(plain) == 2
    left = recorded.recorder.left
    assert left is not None
    assert (left.exception, left.handler, left.event, left.epoch, left.batch) == (
        "ValueError",
        "Raises.end",
        "end",
        3,
        4,
    )
    report = recorded.report()
    assert (report.unexpected, [one.how for one in report.endings]) == ((), ["raised"])


def test_who_is_not_recorded_runs_as_ever(dispatch, tmp_path):
    """Another trainer of the class leaves no rows."""
    recorded = Recorded(dispatch, Trainer(Both()), tmp_path / "run.loop")
    other = Trainer(Both(), Last())
    assert other.run() == "last"
    recorded.run()
    assert [line for line in told(recorded.report()) if "Last" in line] == []


def test_several_recordings_of_one_trainer_in_any_order(dispatch, tmp_path):
    """Three at once, detached first to last: each holds what ran while it was there, and the function is put back."""
    trainer = Trainer(Both(), Last())
    several = [Recorded(dispatch, trainer, tmp_path / f"{n}.loop") for n in range(3)]
    trainer.run()
    assert "many" in dispatch._forms
    for one in several:
        one.detach()
        one.detach()
    assert vars(Trainer)["fire"] is STOCK
    for one in several:
        report = one.report()
        assert told(report) == [
            "event begin 1", "handler Both.begin 1", "event end 1", "handler Both.end 1", "handler Last.end 1",
        ]  # fmt: skip


def test_an_exception_with_two_recordings(dispatch, tmp_path):
    """Both say who raised it."""
    trainer = Trainer(Raises())
    outer, inner = (Recorded(dispatch, trainer, tmp_path / f"{n}.loop") for n in range(2))
    with pytest.raises(ValueError, match="on purpose"):
        trainer.run()
    assert [one.subject.raised.handler for one in (outer, inner)] == ["Raises.end", "Raises.end"]
    outer.report()
    inner.report()


def test_a_callback_that_leaves_during_the_run(dispatch, tmp_path):
    """From then on another binding holds: nothing is unexpected."""
    leaves = LeavesItself()
    trainer = Trainer(leaves, Both(), Last())
    leaves.trainer = trainer
    recorded = Recorded(dispatch, trainer, tmp_path / "run.loop")
    recorded.run()
    report = recorded.report()
    # its own removal makes the loop skip the one behind it, as it does without recording
    assert trainer.state == ["end", trainer.state[-1]]
    assert [one.message for one in report.unexpected] == ["begin: expected Both#2, nothing was called"]


def test_threads_have_lanes_of_their_own(dispatch, tmp_path):
    """An event that fires in another thread is in that thread's tree."""
    trainer = Trainer(Both())
    recorded = Recorded(dispatch, trainer, tmp_path / "run.loop")
    thread = threading.Thread(target=trainer.fire, args=("end", trainer.state), name="other")
    thread.start()
    thread.join()
    assert [track.thread for track in recorded.report().tracks] == ["other"]


def test_a_trainer_that_is_gone_is_forgotten(dispatch, tmp_path):
    """A recording keeps nothing alive, and what was in place goes when the last one goes."""
    trainer = Trainer(Both())
    recorder = Recorder(Tape.create(tmp_path / "run.loop", {}))
    detach = dispatch.watch(trainer, trainer, recorder.subject(trainer, {}))
    gone = weakref.ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None
    assert dispatch.watched == {}
    detach()
    recorder.tape.close()
    assert vars(Trainer)["fire"] is STOCK


def test_every_trainer_is_recorded_once(dispatch, tmp_path):
    """Those that are adopted, however often; and none once that is over."""
    recorder = Recorder(Tape.create(tmp_path / "run.loop", {}))
    stop = dispatch.watch_all(lambda obj: dispatch.watch(obj, obj, recorder.subject(obj, {})))
    one, other = Trainer(Both()), Trainer(Last())
    for trainer in (one, other, one):
        dispatch.adopt(trainer)
    assert len(dispatch.watched) == len(recorder.subjects) == 2
    stop()
    stop()
    dispatch.adopt(Trainer())
    assert dispatch.watched == {}
    recorder.tape.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"handlers": "self.others"}, "Trainer.fire has 0 loops over self.others"),
        ({"call": "callback.begin"}, r"Trainer.fire calls callback.begin\(...\) 0 times"),
    ],
)
def test_another_shape_is_refused_and_nothing_is_changed(change, said, tmp_path):
    """A recorder that silently records nothing is the worst outcome."""
    fields = {name: getattr(POINT, name) for name in ("owner", "name", "event", "call", "handler", "handlers")}
    odd = Dispatch("toy", "9.9", (Point(**{**fields, **change}),), Naming())
    with pytest.raises(UnknownVersion, match=f"toy 9.9 cannot be recorded: {said}"):
        odd.verify()
    assert vars(Trainer)["fire"] is STOCK


def test_what_somebody_else_has_put_there_is_left_alone(tmp_path, monkeypatch):
    """Another patch that came later stays, and recording anew is refused while it is there."""
    dispatch = Dispatch("toy", "1.0", (POINT,), Naming())
    recorded = Recorded(dispatch, Trainer(Both()), tmp_path / "run.loop")

    def theirs(self: Trainer, event: str, state: list[Any]) -> None: ...

    ours: FunctionType = vars(Trainer)["fire"]
    monkeypatch.setattr(Trainer, "fire", theirs)
    recorded.detach()
    assert vars(Trainer)["fire"] is theirs
    with pytest.raises(UnknownVersion, match="was replaced since it was imported"):
        dispatch.verify()
    monkeypatch.undo()
    assert vars(Trainer)["fire"] is ours
    dispatch._install()
    assert vars(Trainer)["fire"] is STOCK
    recorded.recorder.tape.close()
