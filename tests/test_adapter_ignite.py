"""What the conformance suite does not see of the ignite adapter: bad input, notes, words, what it leaves alone."""

from __future__ import annotations

import functools
import gc
import linecache
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("ignite")

import torch
import torch.nn.functional
from ignite.engine import Engine, EventEnum, Events, create_supervised_trainer
from ignite.engine.deterministic import DeterministicEngine
from ignite.handlers import BasicTimeProfiler, EarlyStopping, HandlersTimeProfiler, ProgressBar
from ignite.metrics import MeanSquaredError
from torch import nn

import loopscope
from loopscope.adapters import ignite as adapter
from loopscope.errors import BadCallback, BadValue, UnknownChoice
from loopscope.model import Event, Loop, Node, Scope, Step
from loopscope.views import Row, tree
from tests.adapters.cases.ignite_engines import data, evaluator, log, stepped, trainer

THREE = [1, 2, 3]


def engine(step: Callable[[Engine, Any], Any] = lambda engine, batch: None, kind: type[Engine] = Engine) -> Engine:
    return kind(step)


def loop(one: Engine, given: Any = THREE, **more: Any) -> Loop:
    return loopscope.inspect(one, data=given, **more).loop


def nodes(node: Node) -> list[Node]:
    below = [one for child in node.nodes() for one in nodes(child)] if isinstance(node, Scope) else []
    return [node, *below]


def rows(found: Loop, kind: str, name: str) -> list[Row]:
    return [row for _, row in tree(found).walk() if (row.kind, row.name) == (kind, name)]


def note(found: Loop, start: str) -> str:
    """The one note that begins so."""
    (one,) = [text for text in found.notes if text.startswith(start)]
    return one


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"run": "fit"}, "unknown run 'fit'. Did you mean 'run'?|unknown run 'fit'. Accepted: run."),
        ({"batches": 3}, "run takes no batches. Accepted: data, max_epochs, max_iters, epoch_length."),
        ({"data": 3}, "data=3 cannot be iterated over."),
        ({"data": []}, "an epoch needs at least one batch."),
        ({"data": THREE, "epoch_length": 0}, "an epoch needs at least one batch."),
        ({"data": THREE, "epochs": 2, "max_iters": 5}, "run takes max_epochs or max_iters, not both."),
        ({"data": THREE, "epochs": "two"}, "max_epochs='two' is no whole number."),
        ({"data": THREE, "start_epoch": 2}, "run takes no start_epoch (got 2). An engine goes on from its state: type"),
    ],
)
def test_arguments_that_ignite_refuses(asked: dict[str, Any], said: str) -> None:
    """What `run` would refuse is refused here, in words that say what to type instead."""
    with pytest.raises((UnknownChoice, BadValue)) as caught:
        loopscope.inspect(engine(), asked.pop("run", ""), **asked)
    assert any(str(caught.value).startswith(one) for one in said.split("|")), caught.value


@pytest.mark.parametrize(
    ("ran", "asked", "said"),
    [
        ({"max_epochs": 2}, {"max_iters": 9}, "this engine has run with max_epochs=2, and ignite refuses to go on"),
        ({"max_iters": 4}, {"max_epochs": 9}, "this engine has run with max_iters=4, and ignite refuses to go on"),
        (
            {"max_epochs": 3},
            {"max_epochs": 2},
            "max_epochs=2 is less than the epoch that this engine's state is at (3).",
        ),
        (
            {"max_epochs": 3},
            {"max_epochs": 5, "epoch_length": 2},
            "this run goes on with epoch_length=3; ignite refuses",
        ),
    ],
)
def test_arguments_that_do_not_go_with_the_state(ran: dict[str, int], asked: dict[str, int], said: str) -> None:
    """An engine that has run goes on from its state: what ignite refuses then is refused here, too."""
    one = engine()
    one.run(THREE, **ran)
    with pytest.raises(BadValue) as caught:
        loop(one, **asked)
    assert str(caught.value).startswith(said)
    with pytest.raises(ValueError, match=r"."):
        one.run(THREE, **asked)


def test_an_event_that_is_not_registered() -> None:
    """The error names the event and those that are near."""
    with pytest.raises(BadCallback) as caught:
        loop(engine(), cbs=("EPOCH_COMPLETE", log))
    assert str(caught.value).startswith(
        "the event EPOCH_COMPLETE is not registered with this Engine. Did you mean EPOCH_COMPLETED or "
    )
    with pytest.raises(BadCallback, match="Did you mean ITERATION_STARTED"):
        loop(engine(), cbs=[("iteration_started", log)])

    class Own(EventEnum):
        HALFWAY = "halfway"

    with pytest.raises(BadCallback, match=r"has to be registered first: engine\.register_events"):
        loop(engine(), cbs=(Own.HALFWAY, log))
    one = engine()
    one.register_events(*Own)
    assert [handler.mine for handler in loop(one, cbs=(Own.HALFWAY, log)).binding.at("HALFWAY")] == [True]


def test_an_event_that_is_fired_and_not_registered() -> None:
    """The map says who fires it, and that run ends there, as it does; one that is registered is not spoken of."""

    class Own(EventEnum):
        HALFWAY = "halfway"

    def fire(one: Engine) -> None:
        one.fire_event(Own.HALFWAY)

    one = engine()
    one.add_event_handler(Events.EPOCH_STARTED, fire)
    assert [note for note in loop(one).notes if "fires HALFWAY, which is not registered" in note]
    with pytest.raises(ValueError, match="HALFWAY is not a valid event"):
        one.run(THREE)
    other = engine()
    other.register_events(*Own)
    other.add_event_handler(Events.EPOCH_STARTED, fire)
    assert not [note for note in loop(other).notes if "not registered" in note]


@pytest.mark.parametrize(
    ("cbs", "said"),
    [
        (log, "does not say at which event it stands. Type cbs=[(Events.EPOCH_COMPLETED, your_function)]."),
        ([log], "does not say at which event it stands."),
        (MeanSquaredError(), "attaches itself: type its attach(engine, ...) before the map is asked for."),
        (3, "3 (int) is no pair of an event and a function."),
        ((Events.STARTED, 3), "3 (int) cannot be called."),
        ((Events.STARTED, lambda a, b, c: None), "ignite cannot call this at STARTED: "),
        (EarlyStopping, "does not say at which event it stands.|attaches itself"),
    ],
    ids=["function", "list", "metric", "number", "not callable", "too many", "class"],
)
def test_what_cannot_be_attached(cbs: Any, said: str) -> None:
    """Something that is no pair of an event and a function, or that ignite could not call, is named."""
    with pytest.raises(BadCallback) as caught:
        loop(engine(), cbs=cbs)
    assert any(one in str(caught.value) for one in said.split("|")), caught.value


# -- it leaves alone ---------------------------------------------------------------------------------------


def test_the_lists_of_handlers_are_not_asked_for() -> None:
    """ignite swallows errors once its list for EXCEPTION_RAISED exists: describing an engine makes none."""

    def fail(engine: Engine, batch: Any) -> None:
        raise ZeroDivisionError

    one = engine(fail)
    one.add_event_handler(Events.STARTED, lambda: None)
    before = list(one._event_handlers)
    found = loop(one, cbs=(Events.EPOCH_STARTED, log))
    assert list(one._event_handlers) == before == [Events.STARTED]
    assert found.notes == ()
    with pytest.raises(ZeroDivisionError):
        one.run(THREE)


def test_nothing_is_kept() -> None:
    """A map that was read keeps neither its engine nor its handlers alive."""
    one = trainer()
    one.add_event_handler(Events.STARTED, nn.Linear(1, 1).train)
    loop(one, data())
    dead = weakref.ref(one), weakref.ref(one._event_handlers[Events.STARTED][0][0].__self__)
    one = None
    gc.collect()
    assert [ref() for ref in dead] == [None, None]


def test_filters_and_handlers_are_not_run() -> None:
    """Neither is the process function."""
    ran: list[str] = []

    def asks(engine: Engine, event: int) -> bool:
        ran.append("filter")
        return True

    one = engine(lambda engine, batch: ran.append("step"))
    one.add_event_handler(Events.ITERATION_STARTED(event_filter=asks), lambda: ran.append("handler"))
    (handler,) = loop(one, epochs=2).binding.at("ITERATION_STARTED")
    assert ran == []
    assert [need.text for need in handler.needs] == ["only if asks(engine, iteration) says so"]


# -- what is said ------------------------------------------------------------------------------------------


def test_read_as_a_user_would() -> None:
    """A trainer with metrics, filters, an evaluator and a progress bar, as text."""
    one = trainer()
    inner = evaluator(one.model)

    @one.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        inner.run(data(2))

    EarlyStopping(2, lambda engine: 0.0, one).attach(inner, Events.COMPLETED)
    one.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)
    one.add_event_handler(Events.EPOCH_COMPLETED(once=2), log)
    one.add_event_handler(Events.ITERATION_STARTED(every=100), log)
    shown = str(loopscope.inspect(one, data=data(), epochs=3, cbs=(Events.COMPLETED, functools.partial(log))))
    assert shown.splitlines() == [
        "engine.run(data, max_epochs=3) [Engine, ignite 0.5.5]",
        "",
        "run",
        "  STARTED",
        "  epoch x 3",
        "    EPOCH_STARTED",
        "    - start the data (only in the first epoch)",
        "    batch x 3",
        "      GET_BATCH_STARTED",
        "      - draw a batch",
        "      DATALOADER_STOP_ITERATION (only when the data is at its end)",
        "      - start the data, draw a batch (only when the data is at its end)",
        "      GET_BATCH_COMPLETED",
        "      ITERATION_STARTED: log (never: only every 100 iterations, and this run does not get there)",
        "      - zero_grad, move to device, forward, loss, backward, optimizer step",
        "      ITERATION_COMPLETED: log (only every 2 iterations)",
        "    on terminate_epoch(): this, then EPOCH_COMPLETED",
        "      TERMINATE_SINGLE_EPOCH",
        "      - start the data",
        "    EPOCH_COMPLETED: validate (calls run(), a loop of its own), log (only at epoch 2)",
        "    - leave if asked to",
        "  on terminate(): TERMINATE, then COMPLETED",
        "  COMPLETED: * log",
        "",
        "* yours",
        "  log at COMPLETED in run: alone",
    ]


def test_what_is_known_of_a_handler() -> None:
    """Who it is, what it says and does, where it stands and why."""
    one = trainer()
    bar = ProgressBar()
    bar.attach(one, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)

    @one.on(Events.EPOCH_COMPLETED, "loud")
    def tell(engine: Engine, how: str) -> None:
        """Say what the loss was."""
        print(how, engine.state.output)  # noqa: T201 - it is what handlers do
        if engine.state.output > 1e6:
            engine.terminate()

    MeanSquaredError(output_transform=lambda loss: (torch.tensor([loss]), torch.zeros(1))).attach(one, "error")
    at = {handler.id: handler for handler in loop(one, data(), epochs=2).binding.at("EPOCH_COMPLETED")}
    assert list(at) == ["_OutputHandler#1", "tell#2", "MeanSquaredError#3"]
    told, said, error = at.values()
    assert (told.origin, error.origin, said.origin) == ("ProgressBar.attach", "MeanSquaredError.attach", "engine")
    assert said.label == "test_what_is_known_of_a_handler.<locals>.tell with 'loud'"
    assert error.label == "MeanSquaredError() with 'error'"
    assert (error.method, error.callback) == ("completed", "MeanSquaredError")
    assert said.reason == "2nd of 3 here, in the order of attaching"
    assert said.doc() == "Say what the loss was."
    assert said.effect() == "calls engine.terminate() if engine.state.output > 1000000.0; prints a message"
    assert said.place is not None
    assert "def tell" in linecache.getline(said.place.file, said.place.line)


def test_one_object_has_one_id() -> None:
    """Bound methods of one object, whether with a filter or not, share its number; another of its class has its own."""
    one = trainer()
    metrics = [MeanSquaredError(lambda loss: (torch.tensor([loss]), torch.zeros(1))) for _ in range(2)]
    for number, metric in enumerate(metrics):
        metric.attach(one, str(number))
    one.add_event_handler(Events.COMPLETED(every=2), metrics[1].reset)
    found = loop(one, data()).binding
    assert [handler.id for handler in found.at("EPOCH_STARTED")] == ["MeanSquaredError#1", "MeanSquaredError#2"]
    assert [handler.id for handler in found.at("EPOCH_COMPLETED")] == ["MeanSquaredError#1", "MeanSquaredError#2"]
    assert [handler.id for handler in found.at("COMPLETED")] == ["MeanSquaredError#2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"every": 2}, "only every 2 iterations"),
        ({"once": 3}, "only at iteration 3"),
        ({"once": [2, 5]}, "only at iteration 2, 5"),
        ({"after": 2}, "only from iteration 3 on"),
        ({"before": 4}, "only from iteration 1 on up to 3"),
        ({"every": 2, "after": 1, "before": 6}, "only every 2 iterations from 2 on up to 5"),
    ],
    ids=str,
)
def test_filters_in_words(given: dict[str, Any], said: str) -> None:
    """Each of ignite's filters, as one would say it."""
    one = engine()
    one.add_event_handler(Events.ITERATION_STARTED(**given), log)
    (row,) = rows(loop(one, epochs=2), "event", "ITERATION_STARTED")
    assert [(child.status, child.why) for child in row.children] == [("conditional", said)]


def test_filters_that_are_always_or_never_so() -> None:
    """What the counts of this run decide is not left open."""
    one = engine()
    one.add_event_handler(Events.EPOCH_STARTED(before=9), log)
    one.add_event_handler(Events.EPOCH_COMPLETED(once=3), log)
    one.add_event_handler(Events.COMPLETED(every=2), log)
    one.add_event_handler(Events.STARTED(once=1), log)
    found = loop(one, epochs=2)
    answers = {name: rows(found, "event", name)[0].children[0].status for name in found.binding.handlers}
    assert answers == {"EPOCH_STARTED": "always", "EPOCH_COMPLETED": "never", "COMPLETED": "always", "STARTED": "never"}


def test_a_filter_at_an_event_without_a_count() -> None:
    """ignite has no count for TERMINATE: its filter raises when the event fires, and the map says so."""
    one = engine()
    one.add_event_handler(Events.TERMINATE(every=2), log)
    (handler,) = loop(one).binding.at("TERMINATE")
    assert [need.text for need in handler.needs] == ["TERMINATE has no count: its filter raises RuntimeError"]


def test_handlers_that_ignite_cannot_call() -> None:
    """At TERMINATE_SINGLE_EPOCH ignite hands over iter_counter by name; attaching only looks at the number."""
    one = engine()
    one.add_event_handler(Events.TERMINATE_SINGLE_EPOCH, lambda engine, batches: None)
    one.add_event_handler(Events.TERMINATE_SINGLE_EPOCH, lambda engine, iter_counter: None)
    notes = [
        [fact.text for fact in handler.facts if fact.kind == "note"]
        for handler in loop(one).binding.at("TERMINATE_SINGLE_EPOCH")
    ]
    assert notes == [
        ["ignite hands over iter_counter by that name, which it does not take: TypeError when the event fires"],
        [],
    ]


# -- notes -------------------------------------------------------------------------------------------------


def test_data_that_is_not_known() -> None:
    """Without data the number of batches stays open, and the map says what to type."""
    found = loopscope.inspect(engine(), epochs=2).loop
    assert found.notes == ("the data is not known: type inspect(engine, data=loader) for the number of batches",)
    assert str(rows(found, "scope", "batch")[0].repeat) == "len(data)"
    assert found.call == "engine.run(max_epochs=2)"


def test_a_run_behind_a_failure_runs_nothing() -> None:
    """ignite's generator is still there after an error: the next call only clears up, and returns None."""

    def fail(engine: Engine, batch: Any) -> None:
        raise ZeroDivisionError

    one = engine(fail)
    with pytest.raises(ZeroDivisionError):
        one.run(THREE)
    found = loop(one)
    assert note(found, "the last run of this engine ended with an error").endswith("max_epochs = None first")
    assert [node.name for node in nodes(found.root)] == ["run"]
    assert one.run(THREE) is None


def test_errors_that_are_swallowed() -> None:
    """Somebody who handles EXCEPTION_RAISED, an empty list of such, and one of ignite's profilers: errors vanish."""
    one, two, three = engine(), engine(), engine()
    one.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None)
    note(loop(one), "somebody handles EXCEPTION_RAISED: an error ends the run only if a handler there raises it again")
    two._event_handlers[Events.EXCEPTION_RAISED]
    note(loop(two), "engine._event_handlers has an empty list for EXCEPTION_RAISED: ignite swallows every error")
    HandlersTimeProfiler().attach(three)
    note(loop(three), "HandlersTimeProfiler looks up the handlers of EXCEPTION_RAISED when the run starts")
    note(loop(three), "HandlersTimeProfiler#1 at STARTED attaches handlers while the run goes on")
    BasicTimeProfiler().attach(four := engine())
    four.add_event_handler(Events.STARTED, log)
    note(loop(four), "BasicTimeProfiler#1 at STARTED attaches handlers while the run goes on: of those only the one at")
    assert [one.method for one in loop(four).binding.at("STARTED")] == ["_as_first_started", "log", "_as_last_started"]
    assert not any("swallows" in said for said in loop(four).notes)
    BasicTimeProfiler().attach(five := engine())
    five.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        five.run(THREE)
    for found in map(loop, (one, two, three)):
        assert "EXCEPTION_RAISED" in [node.name for node in nodes(found.root)]
    assert "EXCEPTION_RAISED" not in [node.name for node in nodes(loop(engine()).root)]


def test_a_run_that_goes_on() -> None:
    """Resumed and interrupted runs say where they go on."""
    one = engine()
    one.load_state_dict({"iteration": 4, "max_epochs": 3, "epoch_length": 3})
    found = loop(one)
    note(found, "this run goes on from epoch 1 and iteration 4 of the engine's state;")
    assert [str(row.repeat) for row in rows(found, "scope", "batch")] == ["2", "3"]
    two = engine()

    @two.on(Events.ITERATION_STARTED(once=2))
    def stop(engine: Engine) -> None:
        engine.interrupt()

    two.run(THREE, max_epochs=2)
    found = loop(two, [])
    note(found, "the last run was interrupted behind ITERATION_STARTED: this one goes on there")
    assert [str(row.repeat) for row in rows(found, "scope", "batch")] == ["1", "1", "3"]


def test_methods_of_its_own() -> None:
    """An engine that overrides the loop says so, with the line; ignite's own DeterministicEngine is known."""

    class Mine(Engine):
        def _run_once_on_dataset_as_gen(self) -> Any:
            return super()._run_once_on_dataset_as_gen()

    assert "the map shows ignite's, which may not run" in note(loop(engine(kind=Mine)), "Mine has its own _run_once_on")
    assert loop(engine(kind=DeterministicEngine)).notes == ()


def test_events_that_nobody_fires() -> None:
    """A handler of an event of one's own that nothing fires, and of drawing batches where there is no data."""
    one = engine()
    one.register_events("halfway")
    one.add_event_handler("halfway", log)
    assert note(loop(one), "nothing was found that fires these events").endswith(": log#1 at halfway")
    two = engine()
    two.add_event_handler(Events.GET_BATCH_STARTED, log)
    assert note(loop(two, None, epoch_length=3), "without data ignite fires no event").endswith(
        "log#1 at GET_BATCH_STARTED"
    )


def test_who_fires_an_event_of_ones_own() -> None:
    """The step and handlers that fire an event are named; a handler's own events stand inside it."""

    def step(engine: Engine, batch: Any) -> None:
        engine.fire_event("stepped")

    one = engine(step)
    one.register_events("stepped", "told")

    @one.on("stepped")
    def tell(engine: Engine) -> None:
        engine.fire_event("told")

    found = loop(one)
    assert found.docs["stepped"] == "An event of the program's own, fired by the process function."
    assert found.docs["told"] == "An event of the program's own, fired by tell#1."
    assert [node.name for node in found.binding.at("stepped")[0].inside] == ["told"]
    events = [node.name for node in nodes(found.root) if isinstance(node, Event)]
    assert events[events.index("ITERATION_STARTED") :][:3] == ["ITERATION_STARTED", "stepped", "ITERATION_COMPLETED"]


@pytest.mark.parametrize("version", ["0.5.4", "0.6.0", "1.0"])
def test_a_version_that_was_not_tested(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map for another ignite says so."""
    monkeypatch.setattr("ignite.__version__", version)
    assert loop(engine()).notes == (
        f"pytorch-ignite {version} was not tested: this map was held against 0.5.5 up to before 0.6",
    )


def test_changes_on_the_way() -> None:
    """Handlers that change the counts, the data or other handlers are named, and what depends on it is left open."""
    one = engine()

    @one.on(Events.EPOCH_COMPLETED)
    def longer(engine: Engine) -> None:
        engine.state.max_epochs = 5

    @one.on(Events.STARTED)
    def other(engine: Engine) -> None:
        engine.set_data([1])

    @one.on(Events.STARTED)
    def drop(engine: Engine) -> None:
        for known in list(engine._event_handlers):
            engine.remove_event_handler(log, known)

    found = loop(one)
    note(found, "longer#1 at EPOCH_COMPLETED changes engine.state.max_epochs: how often things run is only known")
    note(found, "other#2 at STARTED changes the data")
    note(found, "drop#3 at STARTED detaches handlers while the run goes on: any of them may be missing")
    assert str(rows(found, "scope", "epoch")[0].repeat) == "max_epochs"


# -- lines and steps ---------------------------------------------------------------------------------------


def test_the_lines_that_fire_events() -> None:
    """The place of each event is the line of the installed source that fires it."""
    one = engine()
    one.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None)
    one.add_event_handler(Events.INTERRUPT, lambda engine: None)
    seen = set()
    for node in nodes(loop(one, epochs=2).root):
        if isinstance(node, Event):
            assert node.place is not None
            assert f"Events.{node.name}" in linecache.getline(node.place.file, node.place.line)
            seen.add(node.name)
    assert seen == {event.name for event in Events}


def test_the_steps_of_a_supervised_trainer() -> None:
    """Those that ignite's own step shows, at its lines; with accumulation some are conditional."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    one = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss, gradient_accumulation_steps=2)
    steps = [node for node in nodes(loop(one).root) if isinstance(node, Step)]
    found = {step.name: [need.text for need in step.needs] for step in steps}
    assert [name for name in found if name not in ("start the data", "draw a batch")] == [
        *("zero_grad", "move to device", "forward", "loss", "backward", "optimizer step"),
    ]
    assert found["optimizer step"] == ["only if engine.state.iteration % gradient_accumulation_steps == 0"]
    backward = next(step for step in steps if step.name == "backward")
    assert backward.place is not None
    assert "loss.backward()" in linecache.getline(backward.place.file, backward.place.line)


def test_a_step_of_ones_own() -> None:
    """A process function that shows nothing is called by its name; helpers that get the engine are read, too."""

    def quiet(engine: Engine, batch: Any) -> None:
        return None

    (step,) = [node for node in nodes(loop(engine(quiet)).root) if isinstance(node, Step) and node.name == "quiet"]
    assert step.text == "quiet(engine, batch)"
    model = nn.Linear(1, 1)

    def helper(engine: Engine, batch: Any) -> Any:
        if len(batch) > 1:
            engine.fire_event("twice")
        return model(batch)

    def outer(engine: Engine, batch: Any) -> None:
        helper(engine, batch).sum().backward()

    one = engine(outer)
    one.register_events("twice")
    inner = [node.name for node in nodes(loop(one).root)]
    assert inner[inner.index("ITERATION_STARTED") :][:5] == [
        *("ITERATION_STARTED", "if len(batch) > 1", "twice", "forward", "backward"),
    ]


# -- the rest ----------------------------------------------------------------------------------------------


def test_facts_and_versions() -> None:
    """What a recording says of an engine, and of what it ran with."""
    assert adapter.facts(trainer()) == {"cls": "Engine", "model": "Net", "device": "cpu", "framework": "ignite"}
    assert adapter.facts(engine())["model"] == ""
    assert adapter.versions()["ignite"] == "0.5.5"
    assert adapter.accepts(evaluator())
    assert not adapter.accepts(Engine)
    assert set(adapter.event_docs()) >= {event.name for event in Events}


def test_early_stopping_stands_at_the_evaluator() -> None:
    """What a handler of the evaluator does to the trainer is seen in the trainer's map, and only there."""
    one = stepped()
    inner = evaluator(one.model)

    @one.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        inner.run(data(1))

    steps = [node.name for node in nodes(loop(one, data()).root) if isinstance(node, Step)]
    assert "leave if asked to" not in steps
    inner.add_event_handler(Events.COMPLETED, EarlyStopping(2, lambda engine: 0.0, one))
    steps = [node.name for node in nodes(loop(one, data()).root) if isinstance(node, Step)]
    assert steps.count("leave if asked to") == 1
    assert loop(one, data()).binding.at("EPOCH_COMPLETED")[0].nested == ("run",)
    assert "leave if asked to" not in [node.name for node in nodes(loop(inner, data()).root)]
