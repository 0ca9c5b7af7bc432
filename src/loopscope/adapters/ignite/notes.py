"""What a reader of an ignite map must know beside the tree: traps of this engine's state, overrides, lost handlers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ignite.engine import Engine
from ignite.engine.deterministic import DeterministicEngine
from ignite.handlers.time_profilers import HandlersTimeProfiler

from loopscope.adapters.ignite.attached import appends, owner, walk_events
from loopscope.adapters.ignite.binding import Member
from loopscope.adapters.ignite.doings import Openings
from loopscope.adapters.ignite.plan import Plan
from loopscope.adapters.ignite.process import CORE, Process
from loopscope.source import place

LOOP = (
    *("run", "_internal_run", "_internal_run_as_gen", "_run_once_on_dataset_as_gen", "_internal_run_legacy"),
    *("_run_once_on_dataset_legacy", "_maybe_terminate_or_interrupt", "_maybe_terminate_legacy", "_handle_exception"),
    *("_fire_event", "fire_event", "_setup_engine", "_setup_dataloader_iter", "_is_done"),
)
"""The methods of an engine that make its loop."""


def overridden(engine: Engine) -> list[str]:
    """Return which of the loop's methods this engine has of its own, those of ignite's DeterministicEngine left out."""
    cls = type(engine)
    found = []
    for name in LOOP:
        own = getattr(cls, name, None)
        known = (getattr(Engine, name, None), getattr(DeterministicEngine, name, None))
        if name in vars(engine) or own not in known:
            found.append(name)
    return found


def notes(engine: Engine, plan: Plan, members: list[Member], process: Process, openings: Openings) -> Iterator[str]:
    yield from _state(plan)
    for name in overridden(engine):
        where = place(vars(engine).get(name, getattr(type(engine), name)))
        yield f"{type(engine).__name__} has its own {name} ({where}): the map shows ignite's, which may not run"
    yield from _swallowing(engine, members, openings)
    for member in members:
        yield from _changes(member)
    for text, names in _never(members, plan, process):
        yield f"{text}: {', '.join(names)}"
    yield from _unregistered(engine, members, process)
    if process.dynamic:
        yield "the process function fires events under names or conditions that only the run knows: those are optional"


def _state(plan: Plan) -> Iterator[str]:
    if not plan.given:
        yield "the data is not known: type inspect(engine, data=loader) for the number of batches"
    if plan.kind == "nothing":
        yield (
            "the last run of this engine ended with an error: ignite only clears up after it in this call, runs "
            "nothing and returns None. Call run once more, or set engine.state.max_epochs = None first"
        )
    elif plan.kind == "resumed":
        yield (
            f"this run goes on from epoch {plan.epoch} and iteration {plan.iteration} of the engine's state; "
            "engine.state.max_epochs = None starts from the beginning"
        )
    elif plan.kind == "continued" and plan.place is not None:
        yield (
            f"the last run was interrupted behind {plan.place.event}: this one goes on there, with the data of that "
            "one, whatever data it is given"
        )
    if plan.dry:
        yield "the data has no length: how many batches it has is only known when it ends"


def _swallowing(engine: Engine, members: list[Member], openings: Openings) -> Iterator[str]:
    profilers = sorted({type(owner(one.one.function)).__name__ for one in members if _is_profiler(one)})
    for name in profilers:
        yield (
            f"{name} looks up the handlers of EXCEPTION_RAISED when the run starts: from then on ignite swallows every "
            "error of this engine"
        )
    if not openings.swallows:
        return
    if profilers:
        return
    if any(member.one.event == "EXCEPTION_RAISED" for member in members):
        yield "somebody handles EXCEPTION_RAISED: an error ends the run only if a handler there raises it again"
    else:
        yield (
            "engine._event_handlers has an empty list for EXCEPTION_RAISED: ignite swallows every error without a "
            "word. Type engine._event_handlers.pop(Events.EXCEPTION_RAISED)"
        )


def profiled(members: Iterable[Member]) -> bool:
    """Return whether the one of ignite's own profilers is attached that makes it swallow errors."""
    return any(map(_is_profiler, members))


def _is_profiler(member: Member) -> bool:
    return isinstance(owner(member.one.function), HandlersTimeProfiler)


def _changes(member: Member) -> Iterator[str]:
    name, doing = f"{member.id} at {member.one.event}", member.doing
    if doing.adds:
        yield f"{name} attaches handlers while the run goes on: they are not shown"
    if appends(member.one):
        yield f"{name} attaches handlers while the run goes on: of those only the one at STARTED is shown"
    if doing.removes is None:
        yield f"{name} detaches handlers while the run goes on: any of them may be missing from there on"
    if doing.resets or doing.data:
        what = [f"engine.state.{one}" for one in sorted(doing.resets)] + ["the data"] * doing.data
        yield f"{name} changes {', '.join(what)}: how often things run is only known while the run goes on"


def _never(members: list[Member], plan: Plan, process: Process) -> Iterator[tuple[str, list[str]]]:
    """Yield who stands at an event that nobody fires, as far as that can be read."""
    fired = {*process.fires, *(name for member in members for name, _ in member.doing.fires)}
    waiting = [member for member in members if member.one.event not in CORE and member.one.event not in fired]
    if waiting and not process.dynamic:
        yield "nothing was found that fires these events", _named(waiting)
    if not plan.with_data:
        events = ("GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "DATALOADER_STOP_ITERATION")
        without = [member for member in members if member.one.event in events]
        if without:
            yield "without data ignite fires no event for drawing a batch, so these are never called", _named(without)


def _unregistered(engine: Engine, members: list[Member], process: Process) -> Iterator[str]:
    """Yield which events are fired that the engine does not know, which ends the run."""
    known = {*CORE, *walk_events(engine)}
    by = [(f"{member.id} at {member.one.event}", name) for member in members for name, _ in member.doing.fires]
    for who, name in dict.fromkeys([*(("the process function", name) for name in process.fires), *by]):
        if name not in known:
            yield (
                f"{who} fires {name}, which is not registered: ignite raises a ValueError there. "
                f"Type engine.register_events(...) with it before the run"
            )


def _named(members: Iterable[Member]) -> list[str]:
    return [f"{member.id} at {member.one.event}" for member in members]


def of_version(version: str, tested: tuple[str, str]) -> Iterator[str]:
    """Yield a note for a version that the tests do not hold the map against."""
    least, below = (_numbers(one) for one in tested)
    if not least <= _numbers(version) < below:
        yield f"pytorch-ignite {version} was not tested: this map was held against {tested[0]} up to before {tested[1]}"


def _numbers(version: str) -> tuple[int, ...]:
    found = []
    for part in version.partition("+")[0].split("."):
        digits = "".join(one for one in part if one.isdigit())
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)


def call_text(arguments: Any) -> str:
    """Return a run as one would type it: `engine.run(data, max_epochs=2)`."""
    words = []
    for name, value in arguments.items():
        if name == "data":
            words.append("data" if value is not None else "")
        elif value is not None:
            words.append(f"{name}={value!r}")
    return f"engine.run({', '.join(filter(None, words))})"
