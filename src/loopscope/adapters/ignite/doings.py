"""What handlers and the process function may do to the loop they stand in, as their source shows.

The map is exact as long as nobody changes the engine's state on the way; what somebody may change is left to the run.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ignite.engine import Engine
from ignite.engine.events import EventsList, RemovableEventHandle

from loopscope.adapters.ignite.attached import Attached, attached, event_name, walk_events
from loopscope.adapters.ignite.names import UNKNOWN, Names
from loopscope.adapters.ignite.process import CORE, FIRING, fired_name
from loopscope.adapters.ignite.vocabulary import STOPS
from loopscope.effects import Effects
from loopscope.model import Place
from loopscope.source import FunctionNode, syntax

COUNTS = ("epoch", "iteration", "epoch_length", "max_epochs", "max_iters")
"""What of the engine's state decides how long it runs."""


@dataclass(frozen=True, slots=True)
class Doings:
    """What one handler may do to its engine.

    `stops` are those of `STOPS` that it may call, `skips` says of each whether it may leave out the event that follows
    (`skip_completed`). `fires` are events that it may fire and where, `resets` what of `COUNTS` it assigns. `data` says
    that it may change the data, `adds` that it attaches handlers, `removes` whom it may detach: (function, event name),
    or None for anybody. `exhausts` says that it may raise StopIteration, which ignite takes for the end of the data.
    """

    stops: frozenset[str] = frozenset()
    skips: frozenset[str] = frozenset()
    fires: tuple[tuple[str, Place | None], ...] = ()
    resets: frozenset[str] = frozenset()
    data: bool = False
    adds: bool = False
    removes: tuple[tuple[Any, str], ...] | None = ()
    exhausts: bool = False


def doings(engine: Engine, function: Any, done: Effects, given: Iterable[Any] = ()) -> Doings:
    """Return what `function` may do to `engine`; `done` is what its source shows, `given` what it is called with."""
    names = Names.of(function, *given)
    calls = _calls(names)
    stops, skips = _stops(engine, names, calls)
    unseen = frozenset(_elsewhere(calls, done, STOPS))
    texts = [item.target for item in done.items if item.kind == "calls"]
    written = [item.target for item in done.items if item.kind == "writes" and item.on == "learner"]
    return Doings(
        stops=stops | unseen,
        skips=skips | {name for name in unseen if any(_has_arguments(text, name) for text in texts)},
        fires=tuple(_fires(engine, names, calls, done)),
        resets=frozenset(name for name in COUNTS if any(text.endswith(f".state.{name}") for text in written)),
        data=bool(done.nested(("set_data",))) or any(text.endswith(".state.dataloader") for text in written),
        adds=bool(done.nested(("add_event_handler", "on", "attach"))),
        removes=_removes(engine, names, calls, done),
        exhausts=any(item.kind == "raises" and _may_be_stop(item.target) for item in done.items),
    )


def _calls(names: Names | None) -> list[ast.Call]:
    """Return the calls of methods in a function's own source."""
    found = None if names is None else syntax(names.function)
    return [] if found is None else _method_calls(found.node)


@functools.lru_cache(maxsize=1024)
def _method_calls(node: FunctionNode) -> list[ast.Call]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)]


def _of(
    calls: Iterable[ast.Call], names: Names | None, methods: Collection[str]
) -> Iterator[tuple[ast.Call, str, Any]]:
    """Yield the calls of some methods, with the method's name and whose it is."""
    for one in calls:
        if names is not None and isinstance(one.func, ast.Attribute) and one.func.attr in methods:
            yield one, one.func.attr, names.look(one.func.value)


def _elsewhere(calls: Iterable[ast.Call], done: Effects, methods: Collection[str]) -> Iterator[str]:
    """Yield those of some methods that are called by what the function calls, not by itself."""
    here = {one.func.attr for one in calls if isinstance(one.func, ast.Attribute)}
    return (name for name in done.nested(methods) if name not in here)


def _stops(
    engine: Engine, names: Names | None, calls: Iterable[ast.Call], depth: int = 3
) -> tuple[frozenset[str], frozenset[str]]:
    """Return which of `STOPS` may be called of this engine, and which of them with an argument.

    An engine that is run inside is asked as well: early stopping stands at the evaluator, and ends the trainer.
    """
    stops, skips = set(), set()
    for call, method, whose in _of(calls, names, STOPS):
        if whose is engine or whose is UNKNOWN:
            stops.add(method)
            skips |= {method} if call.args or call.keywords else set()
    for _, _, whose in _of(calls, names, ("run",)) if depth else ():
        if whose is UNKNOWN:
            stops |= {"terminate", "terminate_epoch"}
        elif isinstance(whose, Engine) and whose is not engine:
            for one in attached(whose):
                theirs = Names.of(one.function, *given_to(one, whose))
                inner = _stops(engine, theirs, _calls(theirs), depth - 1)
                stops |= inner[0]
                skips |= inner[1]
    return frozenset(stops), frozenset(skips)


def _has_arguments(text: str, method: str) -> bool:
    return f".{method}(" in text and f".{method}()" not in text


def _fires(
    engine: Engine, names: Names | None, calls: list[ast.Call], done: Effects
) -> Iterator[tuple[str, Place | None]]:
    """Yield the events that a handler may fire at this engine; all of the user's own where it is not known which."""
    if not done.nested(FIRING):
        return
    found: dict[str, Place | None] = {}
    here, unsure = False, False
    for call, _, whose in _of(calls, names, FIRING):
        here = True
        if call.args and names is not None and (whose is engine or not isinstance(whose, Engine)):
            name = fired_name(call.args[0], names)
            unsure |= name is None
            if name is not None:
                found.setdefault(name, Place(names.function.__code__.co_filename, call.lineno))
    if not here:  # fired by a function that it calls
        shown = [_last_name(item.target) for item in done.items if ".fire_event(" in item.target]
        unsure = not shown or None in shown
        found = {name: None for name in shown if name}
    yield from found.items()
    if unsure:
        yield from ((name, None) for name in walk_events(engine) if name not in CORE and name not in found)


def _last_name(text: str) -> str | None:
    """Return `SAVED` of `engine.fire_event(Saving.SAVED)`, or a literal text; None for anything else."""
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(call, ast.Call) or not call.args:
        return None
    event = call.args[0]
    if isinstance(event, ast.Constant) and isinstance(event.value, str):
        return event.value
    return event.attr if isinstance(event, ast.Attribute) else None


def _removes(
    engine: Engine, names: Names | None, calls: list[ast.Call], done: Effects
) -> tuple[tuple[Any, str], ...] | None:
    """Return whom a handler may detach: by `remove_event_handler`, or by the handle that attaching gave."""
    found: list[tuple[Any, str]] = []
    for call, method, whose in _of(calls, names, ("remove", "remove_event_handler")):
        if method == "remove":
            if isinstance(whose, RemovableEventHandle) and whose.engine() is engine:
                listed = whose.event_name if isinstance(whose.event_name, EventsList) else [whose.event_name]
                found += [(whose.handler(), event_name(event)) for event in listed]
        elif names is not None and (whose is engine or not isinstance(whose, Engine)):
            event = fired_name(call.args[1], names) if len(call.args) == 2 else None
            function = names.look(call.args[0]) if call.args else UNKNOWN
            if event is None or function is UNKNOWN:
                return None
            found.append((function, event))
    if not found and done.nested(("remove_event_handler", "detach")):
        return None
    return tuple(found)


def _may_be_stop(name: str) -> bool:
    """Return whether what is raised may be StopIteration: it is called so, or by a name that is no class's."""
    return name == "StopIteration" or not (name[:1].isupper() or hasattr(builtins, name))


@dataclass(slots=True)
class Openings:
    """What all handlers together leave to the run.

    `stops` and `skips` are by the event behind which ignite asks for it; `swallows` says that errors do not end the
    run.
    """

    stops: dict[str, frozenset[str]] = field(default_factory=dict)
    skips: frozenset[str] = frozenset()
    resets: frozenset[str] = frozenset()
    data: bool = False
    exhausts: bool = False
    swallows: bool = False

    def add(self, event: str, doing: Doings) -> None:
        """Take note of what a handler of `event` may do; ignite asks for it behind that event, or the next one."""
        self.resets |= doing.resets
        self.data |= doing.data
        self.exhausts |= doing.exhausts and event in ("GET_BATCH_STARTED", "GET_BATCH_COMPLETED")
        if event in ("COMPLETED", "TERMINATE", "INTERRUPT"):
            return
        self.skips |= doing.skips
        stops = doing.stops - {"terminate_epoch"} if event == "EPOCH_COMPLETED" else doing.stops
        at = ASKED.get(event, event)
        if stops:
            self.stops[at] = self.stops.get(at, frozenset()) | stops

    def settle(self, fired_at: Mapping[str, Iterable[str]]) -> None:
        """Ask behind the events of ignite's own for what is done at those that fire inside them."""
        for event in [name for name in self.stops if name not in ASKING]:
            stops = self.stops.pop(event)
            for outer in fired_at.get(event, ()):
                at = ASKED.get(outer, outer)
                if at in ASKING:
                    self.stops[at] = self.stops.get(at, frozenset()) | stops

    @property
    def interrupts(self) -> bool:
        return any("interrupt" in stops for stops in self.stops.values())

    @property
    def ends_epochs(self) -> bool:
        return any("terminate_epoch" in stops for stops in self.stops.values())

    @property
    def batches_differ(self) -> bool:
        """Whether a batch may begin without an iteration of its own, so that counts of the two drift apart."""
        early = ("GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "DATALOADER_STOP_ITERATION")
        return self.swallows or any("terminate_epoch" in self.stops.get(event, ()) for event in early)


ASKING = (
    *("STARTED", "EPOCH_STARTED", "GET_BATCH_STARTED", "DATALOADER_STOP_ITERATION", "GET_BATCH_COMPLETED"),
    *("ITERATION_STARTED", "ITERATION_COMPLETED", "EPOCH_COMPLETED"),
)
"""Events behind which ignite asks whether it has to stop."""

ASKED = {"TERMINATE_SINGLE_EPOCH": "EPOCH_COMPLETED", "EXCEPTION_RAISED": "EPOCH_COMPLETED"}
"""Events behind which ignite does not ask whether it has to stop -> the next one behind which it does."""


def given_to(one: Attached, engine: Engine) -> tuple[Any, ...]:
    """Return what a handler is called with, as far as it is known."""
    return (engine, *one.given) if one.takes_engine else one.given
