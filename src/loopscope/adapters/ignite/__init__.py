"""ignite: which loop `engine.run(...)` runs, which handlers stand at each of its events, and why they stand there.

The loop is that of the installed Engine, as often as its state and the call's arguments say; who is called comes from
the engine's own lists. Verified against pytorch-ignite 0.5.5 by the conformance suite. Constraint: the engine, its
handlers and its data are looked at, never touched (`attached.py` says what must not even be looked up).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import ignite
import torch
from ignite.engine import Engine
from ignite.engine.events import Events

from loopscope import collector
from loopscope.adapters.ignite import notes
from loopscope.adapters.ignite.attached import Ids, attached, late, walk_events
from loopscope.adapters.ignite.binding import Filters, Member, bind, flags, members, step_effects
from loopscope.adapters.ignite.dispatch import DISPATCHING, adopt, attach, calibrate, verify
from loopscope.adapters.ignite.doings import Doings, Openings, doings
from loopscope.adapters.ignite.examining import examine
from loopscope.adapters.ignite.given import attached_by
from loopscope.adapters.ignite.lines import Lines
from loopscope.adapters.ignite.names import Names
from loopscope.adapters.ignite.plan import NAMES, planned
from loopscope.adapters.ignite.process import Process, process
from loopscope.adapters.ignite.protocol import Protocol
from loopscope.callbacks import Examined
from loopscope.catalog import described
from loopscope.catalog.ignite import EVENTS
from loopscope.errors import BadValue, UnknownChoice
from loopscope.model import Loop
from loopscope.passing import passed_on
from loopscope.source import unwrap

__all__ = [
    "DISPATCHING",
    "RUNS",
    "TESTED",
    "accepts",
    "adopt",
    "attach",
    "calibrate",
    "describe",
    "describe_call",
    "event_docs",
    "examined",
    "facts",
    "verify",
    "versions",
]

RUNS = ("run",)
"""The runs that `inspect` names."""

TESTED = ("0.5.5", "0.6")
"""The versions of ignite that the tests hold the map against: from the first, below the second."""


def event_docs() -> dict[str, str]:
    """Return every event of the installed ignite with its description."""
    return described(EVENTS, dict.fromkeys([*(event.name for event in Events), *EVENTS]))


def versions() -> dict[str, str]:
    """Return the versions that a map or a recording depends on."""
    return {"ignite": ignite.__version__, "torch": torch.__version__, "python": platform.python_version()}


def accepts(obj: object) -> bool:
    """Return whether `obj` is an engine of ignite's."""
    return isinstance(obj, Engine)


def facts(obj: Engine) -> dict[str, object]:
    """Return what a recording says of an engine: its class, that of the one model that its step uses, the device."""
    names = Names.of(obj._process_function, obj)
    held = [] if names is None else [*_cells(names.function), *names.known.values()]
    models = [one for one in held if isinstance(one, torch.nn.Module) and not type(one).__module__.endswith(".loss")]
    model = models[0] if len({id(one) for one in models}) == 1 else None
    first = next(model.parameters(), None) if model is not None else None
    device = "" if first is None else str(first.device)
    name = "" if model is None else type(model).__name__
    return {"cls": type(obj).__name__, "model": name, "device": device, "framework": "ignite"}


def _cells(function: Any) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return found


def describe(
    obj: Engine,
    run: str,
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
    cbs: object = None,
    arguments: Mapping[str, object] = MappingProxyType({}),
) -> Loop:
    """Return the loop of `obj.run(**arguments, max_epochs=epochs)`; `cbs` are pairs of an event and a function.

    Without `data` the number of batches stays open. Raises `UnknownChoice` for another run, `BadValue` for an argument
    that ignite refuses, `BadCallback` for something in `cbs` that cannot be attached.
    """
    if run not in RUNS:
        raise UnknownChoice.of("run", run, RUNS)
    if unknown := [name for name in arguments if name not in NAMES]:
        raise BadValue(f"run takes no {unknown[0]}. Accepted: {', '.join(NAMES)}.")
    if start_epoch:
        raise BadValue(
            f"run takes no start_epoch (got {start_epoch!r}). An engine goes on from its state: type "
            f'engine.load_state_dict({{"epoch": {start_epoch!r}, "max_epochs": ..., "epoch_length": ...}}) first.'
        )
    given = dict(arguments)
    if epochs is not None:
        given["max_epochs"] = epochs
    with collector.paused():
        return _described(obj, given, cbs)


def describe_call(obj: Engine, method: str, arguments: Mapping[str, object], cbs: object = None) -> Loop:
    """Return the loop of one call of `obj.run` with these arguments, by parameter name; `cbs` stand behind others."""
    if method not in RUNS:
        raise UnknownChoice.of("run", method, RUNS)
    with collector.paused():
        return _described(obj, {"data": None, **_named(obj, arguments)}, cbs)


def _named(engine: Engine, arguments: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of a run by ignite's names, whatever an engine of one's own calls them."""
    return passed_on(unwrap(type(engine).run), unwrap(Engine.run), arguments)


def examined(obj: Engine, method: str, arguments: Mapping[str, object], cbs: object = None) -> Examined:
    """Return what rules read of the handlers of the same call, beside its loop.

    `arguments` may have the `epochs` of `describe` among those of the call.
    """
    if method not in RUNS:
        raise UnknownChoice.of("run", method, RUNS)
    own: dict[str, object] = {"data": None, **{name: value for name, value in arguments.items() if name in NAMES}}
    if arguments.get("epochs") is not None:
        own["max_epochs"] = arguments["epochs"]
    with collector.paused():
        found = _members(obj, cbs)
        return examine(obj, found, planned(obj, own, Lines.of(obj)), process(obj, _fired(found)))


def _members(engine: Engine, cbs: object) -> list[Member]:
    """Return who is attached, those of `cbs` behind the others."""
    entries = [*attached(engine), *attached_by(engine, cbs)]
    entries += late(entries)
    return members(engine, entries, Ids(entries))


def _fired(found: list[Member]) -> tuple[str, ...]:
    return tuple(name for member in found for name, _ in member.doing.fires)


def _described(engine: Engine, arguments: Mapping[str, object], cbs: object) -> Loop:
    lines = Lines.of(engine)
    plan = planned(engine, arguments, lines)
    found = _members(engine, cbs)
    doing = doings(engine, engine._process_function, step_effects(engine), (engine,))
    openings = _openings(engine, found, doing)
    steps = process(engine, _fired(found))
    filters = Filters(plan, openings)
    binding = bind(found, filters)
    protocol = Protocol(
        plan,
        lines,
        openings,
        tuple(filters.counted.values()),
        steps.nodes,
        interrupts=not lines.legacy and (openings.interrupts or bool(binding.at("INTERRUPT"))),
        looks_at_end=bool(binding.at("DATALOADER_STOP_ITERATION")),
        fires_at_end=any(one.inside for one in binding.at("DATALOADER_STOP_ITERATION")),
    )
    root = protocol.root()
    return Loop(
        framework="ignite",
        subject=type(engine).__name__,
        run="run",
        call=notes.call_text(arguments),
        root=root,
        binding=binding,
        flags={**flags(found, doing), **protocol.flags},
        docs={**event_docs(), **_own_events(engine, found, steps)},
        notes=tuple(
            dict.fromkeys(
                [*notes.of_version(ignite.__version__, TESTED), *notes.notes(engine, plan, found, steps, openings)]
            )
        ),
        versions=versions(),
        home=os.path.dirname(ignite.__file__),
        own_flags=True,
    )


def _openings(engine: Engine, found: list[Member], process_does: Doings) -> Openings:
    """Return what the handlers and the process function leave to the run."""
    openings = Openings()
    fired_at: dict[str, set[str]] = {}
    for name, doing in [*((member.one.event, member.doing) for member in found), ("ITERATION_COMPLETED", process_does)]:
        openings.add(name, doing)
        for fired, _ in doing.fires:
            fired_at.setdefault(fired, set()).add(name)
    openings.settle(fired_at)
    handled = any(member.one.event == "EXCEPTION_RAISED" for member in found)
    openings.swallows = handled or Events.EXCEPTION_RAISED in engine._event_handlers or notes.profiled(found)
    return openings


def _own_events(engine: Engine, found: list[Member], steps: Process) -> dict[str, str]:
    """Return what is said of events that are not ignite's own: who fires them."""
    by: dict[str, list[str]] = {name: ["the process function"] for name in steps.fires}
    for member in found:
        for name, _ in member.doing.fires:
            by.setdefault(name, []).append(member.id)
    names = [name for name in dict.fromkeys([*walk_events(engine), *by]) if name not in EVENTS]
    who = {name: ", ".join(dict.fromkeys(by.get(name, ["nobody that was found"]))) for name in names}
    return {name: f"An event of the program's own, fired by {who[name]}." for name in names}
