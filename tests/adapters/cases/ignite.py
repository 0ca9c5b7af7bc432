"""ignite's cases for the conformance suite: small real engines, and the call that is made on each."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.contrib.engines.tbptt import create_supervised_tbptt_trainer
from ignite.engine import Engine, Events
from ignite.engine.deterministic import DeterministicEngine
from ignite.handlers import (
    Checkpoint,
    DiskSaver,
    EarlyStopping,
    LRScheduler,
    ProgressBar,
    TerminateOnNan,
    Timer,
)
from ignite.metrics import Average, RunningAverage

from tests.adapters.cases.ignite_engines import (
    CORE,
    Backprop,
    Counter,
    Net,
    Stream,
    data,
    evaluator,
    everywhere,
    keep,
    log,
    log_more,
    state,
    stepped,
    trainer,
    with_validation,
)
from tests.adapters.cases.ignite_watch import Watch
from tests.conformance import Case

__all__ = ["CASES", "EQUIVALENT", "EVENTS_THAT_RAISE", "IMPOSSIBLE", "state", "thrower", "watch"]

IMPOSSIBLE: Mapping[str, str] = {}

EQUIVALENT: frozenset[tuple[str, str]] = frozenset()

Make = Callable[[Path], Engine]


def watch(engine: Engine) -> Watch:
    return Watch(engine)


def run(case_data: Callable[[], Any] = data, **arguments: Any) -> dict[str, Any]:
    """The call of a case and what is asked of the map: the same data, made anew for each."""

    def call(engine: Engine) -> object:
        with warnings.catch_warnings():  # that data ran dry, ignite says itself
            warnings.filterwarnings("ignore", "Data iterator can not provide data")
            return engine.run(case_data(), **arguments)

    asked = {("epochs" if name == "max_epochs" else name): value for name, value in arguments.items()}
    return {"call": call, "run": "run", "inspect": lambda engine: {"data": case_data(), **asked}}


TWO = run(max_epochs=2)


def made(attach: Callable[[Engine], object] = lambda engine: None, make: Callable[[], Engine] = trainer) -> Make:
    """Return what makes an engine and attaches what a case is about."""

    def build(folder: Path) -> Engine:
        engine = make()
        engine.folder = folder
        attach(engine)
        return engine

    return build


def case(name: str, attach: Callable[[Engine], object] = lambda engine: None, kind: str = "", **more: Any) -> Case:
    """A case of a trainer with handlers that `attach` adds; two epochs of three batches, unless `more` says more."""
    make = more.pop("make", trainer)
    raises = more.pop("raises", None)
    return Case(name, kind, made(attach, make), **{**TWO, **more}, raises=raises)


# -- what is attached --------------------------------------------------------------------------------------


def usual(engine: Engine) -> None:
    """Metrics, filters, an object at several events, arguments, a partial, a lambda."""
    everywhere(engine)
    counter = Counter()
    engine.add_event_handler(Events.EPOCH_STARTED, counter.begin)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)
    engine.add_event_handler(Events.ITERATION_COMPLETED, counter.end, 2)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), counter)
    engine.add_event_handler(Events.EPOCH_COMPLETED | Events.COMPLETED, functools.partial(log_more, why="partial"))
    engine.add_event_handler(Events.GET_BATCH_STARTED(every=3), lambda engine: engine.log.append("third"))
    RunningAverage(output_transform=lambda loss: loss).attach(engine, "loss")
    Average(output_transform=lambda loss: loss).attach(engine, "mean")


def few_filters(engine: Engine) -> None:
    everywhere(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)
    engine.add_event_handler(Events.GET_BATCH_STARTED(once=3), log)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), log)


def early_stop(engine: Engine) -> None:
    everywhere(engine)
    with_validation(engine, data(2))
    stop = EarlyStopping(1, lambda one: -one.state.epoch, engine)
    engine.evaluators[0].add_event_handler(Events.COMPLETED, stop)


def terminates(at: Any, when: int, **arguments: Any) -> Callable[[Engine], None]:
    def attach(engine: Engine) -> None:
        everywhere(engine)

        @engine.on(at)
        def leave(engine: Engine) -> None:
            if engine.state.iteration == when:
                engine.terminate(**arguments)

    return attach


def leaves_epoch(at: Any, when: int, **arguments: Any) -> Callable[[Engine], None]:
    def attach(engine: Engine) -> None:
        everywhere(engine)

        @engine.on(at)
        def leave(engine: Engine) -> None:
            if engine.state.iteration == when and not engine.log.count("left"):
                engine.log.append("left")
                engine.terminate_epoch(**arguments)

    return attach


def interrupts(at: Any, when: int) -> Callable[[Engine], None]:
    def attach(engine: Engine) -> None:
        everywhere(engine)

        @engine.on(at)
        def leave(engine: Engine) -> None:
            if engine.state.iteration == when and not engine.log.count("left"):
                engine.log.append("left")
                engine.interrupt()

    return attach


def interrupted(at: Any, when: int, batches: int = 3, **more: Any) -> Callable[[Engine], None]:
    """An engine that has been interrupted already: the call goes on."""

    def attach(engine: Engine) -> None:
        interrupts(at, when)(engine)
        engine.run(data(batches), max_epochs=2, **more)
        assert engine.log.count("left")

    return attach


def raises(at: Any, error: type[BaseException], when: int = 0) -> Callable[[Engine], None]:
    def attach(engine: Engine) -> None:
        everywhere(engine)

        @engine.on(at)
        def fail(engine: Engine) -> None:
            if engine.state.iteration >= when:
                raise error("on purpose")

    return attach


def swallows(again: bool, at: Any = Events.ITERATION_STARTED) -> Callable[[Engine], None]:
    """An error in an epoch, and a handler of EXCEPTION_RAISED that raises it again or not."""

    def attach(engine: Engine) -> None:
        everywhere(engine)

        @engine.on(at)
        def fail(engine: Engine) -> None:
            if engine.state.iteration == 2:
                raise ValueError("on purpose")

        @engine.on(Events.EXCEPTION_RAISED)
        def handle(engine: Engine, error: Exception) -> None:
            engine.log.append(type(error).__name__)
            if again:
                raise error

    return attach


def saves(engine: Engine) -> None:
    everywhere(engine)
    saver = DiskSaver(str(engine.folder / "kept"), create_dir=True, require_empty=False)
    keeper = Checkpoint({"model": engine.model}, saver, n_saved=1)
    engine.add_event_handler(Events.EPOCH_COMPLETED, keeper)


def sees_checkpoints(engine: Engine) -> None:
    saves(engine)
    engine.register_events("SAVED_CHECKPOINT")
    engine.add_event_handler("SAVED_CHECKPOINT", log)


def fires_own(engine: Engine) -> None:
    everywhere(engine)
    engine.register_events("halfway")

    @engine.on(Events.ITERATION_COMPLETED)
    def tell(engine: Engine) -> None:
        if engine.state.iteration % 2:
            engine.fire_event("halfway")

    engine.add_event_handler("halfway", log)


def at_end_of_data(engine: Engine) -> None:
    """An event of one's own at the end of the data: GET_BATCH_STARTED then fires twice for one batch."""
    everywhere(engine)
    engine.register_events("again")

    @engine.on(Events.DATALOADER_STOP_ITERATION)
    def tell(engine: Engine) -> None:
        engine.fire_event("again")

    engine.add_event_handler("again", log)


def backprop() -> Engine:
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine: Engine, batch: Any) -> float:
        x, y = batch
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        engine.fire_event(Backprop.LOSS_COMPUTED)
        loss.backward()
        if engine.state.iteration % 2 == 0:
            engine.fire_event(Backprop.BACKWARD_COMPLETED)
        optimizer.step()
        return loss.item()

    engine = keep(Engine(step), model, optimizer)
    engine.register_events(*Backprop)
    for event in Backprop:
        engine.add_event_handler(event, log)
    return engine


def tbptt() -> Engine:
    class Cell(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = torch.nn.RNN(2, 2, batch_first=True)

        def forward(self, x: Any, hidden: Any = None) -> Any:
            return self.cell(x, hidden)

    torch.manual_seed(0)
    model = Cell()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = create_supervised_tbptt_trainer(model, optimizer, torch.nn.functional.mse_loss, 2, dim=1)
    return keep(engine, model, optimizer)


def sequences() -> list[Any]:
    return [(torch.ones(1, 5, 2), torch.zeros(1, 5, 2)) for _ in range(2)]


def removes_itself(engine: Engine) -> None:
    everywhere(engine)

    @engine.on(Events.ITERATION_COMPLETED)
    def once(engine: Engine) -> None:
        engine.log.append("once")
        engine.remove_event_handler(once, Events.ITERATION_COMPLETED)

    engine.add_event_handler(Events.ITERATION_COMPLETED, log)


def removes_by_handle(engine: Engine) -> None:
    everywhere(engine)
    handle = engine.add_event_handler(Events.EPOCH_COMPLETED, log)

    @engine.on(Events.EPOCH_STARTED)
    def drop(engine: Engine) -> None:
        if engine.state.epoch == 2:
            handle.remove()


def resumed(state_dict: Mapping[str, Any]) -> Callable[[Engine], None]:
    def attach(engine: Engine) -> None:
        usual(engine)
        engine.load_state_dict(state_dict)

    return attach


def terminated(engine: Engine) -> None:
    """An engine that was terminated in its second epoch: the call goes on behind that epoch."""
    terminates(Events.ITERATION_COMPLETED, 4)(engine)
    engine.run(data(), max_epochs=4)


def failed(engine: Engine) -> None:
    """An engine whose last run failed: ignite clears up after it, and only in the call after that goes on."""
    raises(Events.ITERATION_STARTED, ValueError, 2)(engine)
    try:
        engine.run(data(), max_epochs=2)
    except ValueError:
        engine.run(data(), max_epochs=2)


def trained(engine: Engine) -> None:
    everywhere(engine)
    engine.run(data(), max_epochs=2)


def without_data(engine: Engine) -> None:
    everywhere(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)


def handlers_of_ignite(engine: Engine) -> None:
    """What ignite itself brings: a progress bar, a timer, schedulers, a guard against NaN."""
    ProgressBar(persist=False).attach(engine, output_transform=lambda loss: {"loss": loss})
    Timer(average=True).attach(
        engine,
        start=Events.EPOCH_STARTED,
        pause=Events.ITERATION_COMPLETED,
        resume=Events.ITERATION_STARTED,
        step=Events.ITERATION_COMPLETED,
    )
    scheduler = torch.optim.lr_scheduler.StepLR(engine.optimizer, 1)
    engine.add_event_handler(Events.ITERATION_STARTED, LRScheduler(scheduler))
    engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    engine.add_event_handler(Events.COMPLETED, print)


def filters(engine: Engine) -> None:
    """One of each filter, at events that count differently."""
    for at in (Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED, Events.EPOCH_STARTED):
        for given in (
            {"every": 2},
            {"once": 2},
            {"once": [1, 4]},
            {"after": 1},
            {"before": 3},
            {"every": 2, "after": 1, "before": 5},
            {"event_filter": lambda engine, event: event % 3 == 1},
        ):
            engine.add_event_handler(at(**given), log)
    for at in (Events.STARTED, Events.COMPLETED):
        engine.add_event_handler(at(every=2), log)
        engine.add_event_handler(at(once=3), log)


def several_engines(engine: Engine) -> None:
    """A trainer whose evaluator runs a third engine inside one of its own handlers."""
    with_validation(engine, data(2))
    inner = evaluator(engine.model, "deep")

    @engine.evaluators[0].on(Events.EPOCH_COMPLETED)
    def deeper() -> None:
        inner.run(data(1), max_epochs=2)


def changes_data(engine: Engine) -> None:
    everywhere(engine)

    @engine.on(Events.ITERATION_COMPLETED(once=2))
    def other(engine: Engine) -> None:
        engine.set_data(data(2))


def changes_length(engine: Engine) -> None:
    everywhere(engine)

    @engine.on(Events.EPOCH_COMPLETED(once=1))
    def more(engine: Engine) -> None:
        engine.state.max_epochs = 3


class Legacy(Engine):
    """Runs in the way of ignite before 0.4.10."""

    interrupt_resume_enabled = False


class Deterministic(DeterministicEngine):
    """As ignite's own, by another name."""


def predicting() -> Engine:
    model = Net()

    def predict(engine: Engine, batch: Any) -> Any:
        with torch.no_grad():
            return model(batch[0])

    return keep(Engine(predict), model)


def validating() -> Engine:
    torch.manual_seed(0)
    return evaluator(None, "mse", "other")


def raises_once(at: Any, error: type[BaseException]) -> Callable[[Engine], None]:
    def attach(engine: Engine) -> None:
        everywhere(engine)

        @engine.on(at)
        def fail(engine: Engine) -> None:
            if not engine.log.count("raised"):
                engine.log.append("raised")
                raise error

    return attach


def terminating_step(engine: Engine, batch: Any) -> None:
    if engine.state.iteration == 4:
        engine.terminate()


def failing_step(engine: Engine, batch: Any) -> None:
    if engine.state.iteration == 4:
        raise ValueError("on purpose")


class FailingData:
    """Batches of which the third cannot be had."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Any:
        yield from list(data(2))
        raise ValueError("on purpose")


CASES = [
    case("normal", usual, "normal"),
    case("early stopping by an evaluator", early_stop, "early stop", **run(max_epochs=5)),
    case(
        "an error in a handler",
        raises(Events.ITERATION_COMPLETED, ValueError, 2),
        "exception in a callback",
        raises="ValueError",
    ),
    case(
        "KeyboardInterrupt in a handler",
        raises(Events.GET_BATCH_COMPLETED, KeyboardInterrupt, 1),
        "KeyboardInterrupt",
        raises="KeyboardInterrupt",
    ),
    case(
        "gradients accumulated",
        everywhere,
        "accumulation",
        **run(lambda: data(4), max_epochs=2),
        make=lambda: trainer(gradient_accumulation_steps=2),
    ),
    case(
        "validation every two iterations",
        lambda engine: with_validation(engine, data(2), at=Events.ITERATION_COMPLETED(every=2)),
        "validation in the middle of an epoch",
    ),
    case("nothing attached", kind="no validation"),
    case(
        "two evaluators in one handler",
        lambda engine: with_validation(engine, data(2), data(1)),
        "two validation loaders",
    ),
    case("an evaluator alone", everywhere, "validation alone", **run(), make=validating),
    case("a prediction alone", everywhere, "prediction alone", **run(), make=predicting),
    case(
        "resumed from a checkpoint",
        resumed({"iteration": 4, "max_epochs": 3, "epoch_length": 3}),
        "resumed from a checkpoint",
        **run(max_epochs=3),
    ),
    case("an engine in an engine in an engine", several_engines, "nested run"),
    case("resumed at an epoch", resumed({"epoch": 1, "max_epochs": 3, "epoch_length": 3}), **run()),
    case("resumed behind a termination", terminated, **run()),
    case("run again with more epochs", trained, **run(max_epochs=4)),
    case("run again from the beginning", trained, **run(max_epochs=2)),
    case("run again behind a failure", failed, raises="ValueError"),
    case("an epoch shorter than the data", usual, **run(lambda: data(5), max_epochs=4, epoch_length=3)),
    case("an epoch longer than the data", usual, **run(lambda: data(2), max_epochs=3, epoch_length=5)),
    case("a limit of iterations", usual, **run(max_iters=7)),
    case("a limit of iterations at an epoch's end", usual, **run(max_iters=6)),
    case("a limit of iterations within the first epoch", usual, **run(max_iters=2)),
    case("resumed with a limit of iterations", resumed({"iteration": 4, "max_iters": 8, "epoch_length": 3}), **run()),
    case("no epoch at all", usual, **run(max_epochs=0)),
    case(
        "without data",
        without_data,
        make=lambda: stepped(lambda engine, batch: engine.state.iteration),
        **run(lambda: None, max_epochs=2, epoch_length=3),
    ),
    case("data that ends", few_filters, **run(lambda: iter(list(data(4))), max_epochs=3)),
    case(
        "data that ends sooner than the epoch",
        few_filters,
        **run(lambda: iter(list(data(4))), max_epochs=3, epoch_length=3),
    ),
    case("data without a length", usual, **run(lambda: Stream(3), max_epochs=3)),
    case("data without a length and a limit", usual, **run(lambda: Stream(3), max_iters=7)),
    case("data without an end", usual, **run(lambda: itertools.cycle(list(data(4))), max_epochs=3, epoch_length=3)),
    case("filters", filters, **run(lambda: data(4), max_epochs=3)),
    case("filters of a run that goes on", lambda engine: (filters(engine), trained(engine)), **run(max_epochs=5)),
    case("a long run with filters", usual, **run(lambda: data(12), max_epochs=3)),
    case("terminated in an iteration", terminates(Events.ITERATION_COMPLETED, 2)),
    case("terminated where a batch is drawn", terminates(Events.GET_BATCH_STARTED, 1)),
    case("terminated at the start", terminates(Events.STARTED, 0)),
    case("terminated at an epoch's end", terminates(Events.EPOCH_COMPLETED, 3)),
    case("terminated without COMPLETED", terminates(Events.ITERATION_STARTED, 2, skip_completed=True)),
    case("terminated by the step", make=lambda: stepped(terminating_step), attach=everywhere),
    case("an epoch left", leaves_epoch(Events.ITERATION_COMPLETED, 2), **run(max_epochs=3)),
    case("an epoch left where a batch is drawn", leaves_epoch(Events.GET_BATCH_COMPLETED, 1), **run(max_epochs=3)),
    case(
        "an epoch left without EPOCH_COMPLETED",
        leaves_epoch(Events.ITERATION_STARTED, 2, skip_epoch_completed=True),
        **run(max_epochs=3),
    ),
    case("an epoch left at its end", leaves_epoch(Events.EPOCH_COMPLETED, 3), **run(max_epochs=3)),
    case("an epoch left before it began", leaves_epoch(Events.EPOCH_STARTED, 0), raises="RuntimeError"),
    case("interrupted", interrupts(Events.ITERATION_COMPLETED, 2)),
    case("interrupted at the start", interrupts(Events.STARTED, 0)),
    *(
        case(f"going on behind {at.name} {when}", interrupted(at, when), **run(max_epochs=2))
        for at, when in (
            (Events.STARTED, 0),
            (Events.EPOCH_STARTED, 3),
            (Events.GET_BATCH_STARTED, 1),
            (Events.GET_BATCH_STARTED, 3),
            (Events.DATALOADER_STOP_ITERATION, 3),
            (Events.GET_BATCH_COMPLETED, 4),
            (Events.ITERATION_STARTED, 2),
            (Events.ITERATION_COMPLETED, 2),
            (Events.ITERATION_COMPLETED, 3),
            (Events.ITERATION_COMPLETED, 6),
            (Events.EPOCH_COMPLETED, 3),
        )
    ),
    case("an error that is swallowed", swallows(False), **run(max_epochs=3)),
    case("an error that is handled and raised", swallows(True), raises="ValueError"),
    case("an error that is swallowed outside of an epoch", swallows(False, Events.EPOCH_COMPLETED(once=1))),
    case(
        "an empty list of handlers of errors",
        lambda engine: (
            raises(Events.ITERATION_STARTED, ValueError, 2)(engine),
            engine._event_handlers[Events.EXCEPTION_RAISED],
        ),
    ),
    case("StopIteration in a handler", raises_once(Events.GET_BATCH_STARTED, StopIteration)),
    case("an error of the step", everywhere, make=lambda: stepped(failing_step), raises="ValueError"),
    case("an error of the data", everywhere, **run(FailingData), raises="ValueError"),
    case("checkpoints", saves),
    case("checkpoints and who looks at them", sees_checkpoints),
    case("an event of one's own in a handler", fires_own),
    case("an event of one's own at the end of the data", at_end_of_data, **run(max_epochs=3)),
    case("events of one's own in the step", everywhere, make=backprop),
    case("chunks of sequences", make=tbptt, **run(sequences, max_epochs=2)),
    case("a handler that detaches itself", removes_itself),
    case("a handler that detaches another", removes_by_handle, **run(max_epochs=3)),
    case("handlers of ignite", handlers_of_ignite),
    case("other data on the way", changes_data, **run(max_epochs=3)),
    case("more epochs on the way", changes_length, **run(max_epochs=2)),
    case("the older way", usual, make=lambda: stepped(kind=Legacy)),
    case("the older way terminated", terminates(Events.ITERATION_COMPLETED, 2), make=lambda: stepped(kind=Legacy)),
    case("a deterministic engine", usual, make=lambda: stepped(kind=Deterministic)),
]


EVENTS_THAT_RAISE = CORE
"""All of them: what a normal run does not come to, the thrower's engine is made to."""

LEADING = {
    "TERMINATE": terminates(Events.ITERATION_STARTED, 2),
    "TERMINATE_SINGLE_EPOCH": leaves_epoch(Events.ITERATION_STARTED, 2),
    "INTERRUPT": interrupts(Events.ITERATION_STARTED, 2),
    "EXCEPTION_RAISED": raises(Events.ITERATION_STARTED, ValueError, 2),
}
"""Event -> what makes it happen."""


def thrower(event: str, exception: type[BaseException]) -> tuple[Make, Callable[[Any], object], str, Any]:
    def attach(engine: Engine) -> None:
        LEADING.get(event, everywhere)(engine)

        @engine.on(getattr(Events, event))
        def throw(engine: Engine, *more: Any, **iter_counter: Any) -> None:
            if not engine.log.count("thrown"):
                engine.log.append("thrown")
                raise exception("on purpose")

    return made(attach), TWO["call"], "run", TWO["inspect"]
