"""The calls that run a loop are noticed before they run, and the classes are left as they were."""

from __future__ import annotations

import inspect
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loopscope.errors import LoopscopeError
from loopscope.fitcalls import Call, FitCalls, UnknownVersion

WATCHED = {"madeup": {"madeup.engine": ("Engine.run", "Engine.run_twice", "Engine.gone")}}


class Engine:
    """The framework's own class."""

    ran: list[tuple[int, str]]

    def __init__(self) -> None:
        self.ran = []

    def run(self, epochs: int, lr: float = 0.1, *more: int, **options: str) -> str:
        """Run."""
        self.ran.append((epochs, "ok"))
        return f"ran {epochs}"

    def run_twice(self, epochs: int) -> None:
        self.run(1)
        self.run(epochs)


class Early(Engine):
    """A subclass that was there before anything was watched."""

    def run(self, epochs: int = 5, *rest: Any, **options: Any) -> str:
        return super().run(epochs * 2, *rest, **options)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("madeup.engine")
    module.Engine = Engine
    monkeypatch.setitem(sys.modules, "madeup", ModuleType("madeup"))
    monkeypatch.setitem(sys.modules, "madeup.engine", module)
    return module


@pytest.fixture
def noticed() -> list[Call]:
    return []


@pytest.fixture
def calls(noticed: list[Call]) -> Iterator[FitCalls]:
    calls = FitCalls(noticed.append, WATCHED)
    calls.install()
    yield calls
    calls.remove()


def seen(noticed: list[Call]) -> list[tuple[str, dict[str, object]]]:
    return [(call.method, dict(call.arguments)) for call in noticed]


def test_a_call_is_noticed_with_its_arguments_and_then_runs(calls: FitCalls, noticed: list[Call]) -> None:
    """The call is handed over with the passed arguments by name and the line that makes it; then it runs."""
    engine = Engine()
    assert engine.run(3, 0.5, 7, 8, mode="fast") == "ran 3"
    assert seen(noticed) == [("run", {"epochs": 3, "lr": 0.5, "more": (7, 8), "mode": "fast"})]
    assert noticed[0].obj is engine
    assert noticed[0].place is not None
    assert (noticed[0].place.file, noticed[0].note) == (__file__, "")
    assert calls.found == {"madeup": ["Engine.run", "Engine.run_twice"]}


def test_it_is_noticed_before_anything_of_it_runs(engine: ModuleType) -> None:
    """What `on_call` raises is raised in place of the call, of which nothing runs."""

    def stop(call: Call) -> None:
        raise SystemExit(7)

    calls = FitCalls(stop, WATCHED)
    calls.install()
    made = Engine()
    with pytest.raises(SystemExit):
        made.run(1)
    calls.remove()
    assert made.ran == []


def test_only_the_outermost_call_counts(calls: FitCalls, noticed: list[Call]) -> None:
    """The calls that a fit-like call makes in turn belong to it; the next one after it counts again."""
    engine = Engine()
    engine.run_twice(4)
    engine.run(2)
    assert seen(noticed) == [("run_twice", {"epochs": 4}), ("run", {"epochs": 2})]
    assert engine.ran == [(1, "ok"), (4, "ok"), (2, "ok")]


def test_an_override_is_noticed_before_it_begins(calls: FitCalls, noticed: list[Call]) -> None:
    """A subclass's own method is noticed itself, with its own arguments, whether it came before or after us."""

    class Late(Early, tag="x"):
        def __init_subclass__(cls, **kwargs: object) -> None:
            super().__init_subclass__(**kwargs)

        def run_twice(self, epochs: int, again: bool = True) -> None:
            self.ran.append((epochs, "never calls the framework's"))

    late = Late()
    late.run()
    late.run_twice(3, again=False)
    assert seen(noticed) == [("run", {}), ("run_twice", {"epochs": 3, "again": False})]
    assert late.ran == [(10, "ok"), (3, "never calls the framework's")]


@pytest.fixture(autouse=True)
def _accept_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Engine` takes class keywords, as a framework with an `__init_subclass__` of its own may."""

    def accept(cls: type, tag: str = "") -> None:
        cls.tag = tag

    monkeypatch.setattr(Engine, "__init_subclass__", classmethod(accept), raising=False)


def test_the_frameworks_own_init_subclass_still_runs(calls: FitCalls) -> None:
    """A class keyword reaches the `__init_subclass__` that the framework has."""

    class Tagged(Engine, tag="mine"):
        pass

    assert Tagged.tag == "mine"


def test_a_method_put_in_place_later_is_looked_up(calls: FitCalls, noticed: list[Call]) -> None:
    """A patch or an instance attribute is noticed when it comes to a watched call, and the note says so."""

    def patched(self: Engine, epochs: int, *rest: int, size: str, **options: str) -> str:
        return Engine.run(self, epochs + 1, lr=1.0)

    patched.__code__ = patched.__code__.replace(co_name="run_twice")
    engine = Engine()
    engine.run_twice = patched.__get__(engine)
    engine.run_twice(4, 5, size="big", mode="x")
    assert seen(noticed) == [("run_twice", {"epochs": 4, "size": "big", "rest": (5,), "mode": "x"})]
    first = patched.__code__.co_firstlineno
    assert noticed[0].note == (
        f"run_twice ({__file__}:{first}) had begun when it came to run: its arguments are shown as they stood then"
    )
    assert noticed[0].place is not None
    assert noticed[0].place.line > first


def test_bad_arguments_are_pythons_business(calls: FitCalls, noticed: list[Call]) -> None:
    """A call with arguments that the method does not take raises its own TypeError and is not handed over."""
    calls.remove()
    with pytest.raises(TypeError) as without:
        Engine().run_twice(1, 2)
    again = FitCalls(noticed.append, WATCHED)
    again.install()
    with pytest.raises(TypeError) as with_us:
        Engine().run_twice(1, 2)
    again.remove()
    assert str(with_us.value) == str(without.value)
    assert noticed == []


def test_the_classes_are_as_before(noticed: list[Call]) -> None:
    """Afterwards each class holds the very objects that it held, subclasses included; removing twice is harmless."""
    before = [dict(vars(one)) for one in (Engine, Early)]
    calls = FitCalls(noticed.append, WATCHED)
    calls.install()
    assert [dict(vars(one)) for one in (Engine, Early)] != before
    calls.remove()
    calls.remove()
    assert [dict(vars(one)) for one in (Engine, Early)] == before


def test_without_an_init_subclass_none_is_left(noticed: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that had no `__init_subclass__` of its own has none afterwards, and needed none meanwhile."""
    monkeypatch.delattr(Engine, "__init_subclass__")
    calls = FitCalls(noticed.append, WATCHED)
    calls.install()
    late = type("Late", (Engine,), {"run": lambda self: "own"})
    assert late().run() == "own"
    calls.remove()
    assert "__init_subclass__" not in vars(Engine)
    assert seen(noticed) == [("run", {})]


def test_what_others_replaced_meanwhile_stays(noticed: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch made on top of ours stays in place, and what it kept of ours only calls through."""
    monkeypatch.setattr(Engine, "run", Engine.run)  # puts the true one back in the end
    calls = FitCalls(noticed.append, WATCHED)
    calls.install()
    kept = Engine.run

    def theirs(self: Engine, epochs: int) -> str:
        return f"their {kept(self, epochs)}"

    Engine.run = theirs
    calls.remove()
    assert Engine.run is theirs
    assert Engine().run(2) == "their ran 2"
    assert noticed == []


def test_two_at_once_in_any_order(noticed: list[Call]) -> None:
    """Two that watch the same class may be removed in either order; each sees the call."""
    before = dict(vars(Engine))
    for order in (0, 1), (1, 0):
        noticed.clear()
        both = [FitCalls(noticed.append, WATCHED), FitCalls(noticed.append, WATCHED)]
        for one in both:
            one.install()
        Engine().run(1)
        assert len(noticed) == 2
        for number in order:
            both[number].remove()
        Engine().run(1)
        assert len(noticed) == 2
        for one in both:
            one.remove()
    assert {key: vars(Engine)[key] for key in before} == before


def test_the_method_looks_the_same(calls: FitCalls) -> None:
    """Name, docstring, signature and pickling of a watched method are those of the original."""
    assert (Engine.run.__name__, Engine.run.__doc__) == ("run", "Run.")
    assert list(inspect.signature(Engine.run).parameters) == ["self", "epochs", "lr", "more", "options"]
    assert pickle.loads(pickle.dumps(Engine.run)) is Engine.run


def test_the_classes_are_shown_without_us(noticed: list[Call]) -> None:
    """Within `call.lifted()` the classes hold the program's own methods, and the calls are watched again after it."""
    plain = vars(Engine)["run"]
    found: list[bool] = []

    def look(call: Call) -> None:
        with call.lifted():
            found.append(vars(Engine)["run"] is plain)
        found.append(vars(Engine)["run"] is plain)

    calls = FitCalls(look, WATCHED)
    calls.install()
    Engine().run(1)
    calls.remove()
    assert found == [True, False]


def test_training_while_we_look_is_refused() -> None:
    """A fit-like call that looking at one leads to, by importing a file that trains, is an error that says where."""
    made = Engine()
    calls = FitCalls(lambda call: made.run(1), WATCHED)
    calls.install()
    with pytest.raises(LoopscopeError, match=r"test_fitcalls\.py:\d+ trains while it is imported\. Put that behind"):
        Engine().run(1)
    calls.remove()
    assert made.ran == []


def test_other_kinds_of_attributes(calls: FitCalls, noticed: list[Call]) -> None:
    """An override that is a partialmethod counts as a call; one that is a property or a static method is left alone."""

    class Odd(Engine):
        run_twice = partialmethod(Engine.run, 9)
        run = property(lambda self: 5)

    assert Odd().run == 5
    assert Odd().run_twice(lr=1.0) == "ran 9"
    assert seen(noticed) == [("run_twice", {"lr": 1.0})]


def test_an_unknown_version_is_an_error(engine: ModuleType) -> None:
    """A framework that has none of the calls is an error that names them: nothing would be noticed."""
    engine.Engine = object
    with pytest.raises(UnknownVersion, match=r"^madeup\.engine \(None\) has none of Engine\.run, Engine\.run_twice"):
        FitCalls(print, WATCHED).install()


def test_an_import_after_removal_is_not_watched(
    noticed: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A framework imported only once we are gone stays as it is."""
    (tmp_path / "imported_late.py").write_text("class Engine:\n    def run(self): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    calls = FitCalls(noticed.append, {"imported_late": {"imported_late": ("Engine.run",)}})
    calls.install()
    calls.remove()
    import imported_late

    assert imported_late.Engine().run() == 1
    assert noticed == []
    monkeypatch.delitem(sys.modules, "imported_late")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_left_alone(calls: FitCalls, noticed: list[Call]) -> None:
    """In a forked child the call simply runs."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if Engine().run(1) == "ran 1" and not noticed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_another_thread_is_watched_too(calls: FitCalls, noticed: list[Call]) -> None:
    """A call in another thread is noticed on its own, also while one runs here."""
    engine = Engine()
    thread = threading.Thread(target=engine.run, args=(1,))
    engine.ran = Starts(thread)
    Engine.run(engine, 6)
    assert [call.arguments["epochs"] for call in noticed] == [6, 1]


class Starts(list[tuple[int, str]]):
    """A list that runs a thread when something is appended for the first time."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__()
        self.thread = thread

    def append(self, item: tuple[int, str]) -> None:
        super().append(item)
        if len(self) == 1:
            self.thread.start()
            self.thread.join(10)
