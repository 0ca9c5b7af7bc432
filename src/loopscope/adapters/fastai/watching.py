"""What the recorded dispatch knows of each learner: its codes in the file, its callbacks, and fastai's rule of turns.

Constraint: learners and callbacks are held weakly, or only while a call of theirs is being recorded.
"""

from __future__ import annotations

import time
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from fastai.callback.core import Callback, _events, _inner_loop
from fastai.learner import Learner
from fastcore.basics import GetAttr, noop
from torch import nn

from loopscope.adapters.fastai.binding import Member, bind, static
from loopscope.model import Binding, Flags

__all__ = [
    "ABSENT",
    "ALL",
    "CALL",
    "CALLS",
    "INNER",
    "OWN",
    "WATCHED",
    "Callback",
    "Dispatching",
    "Watched",
    "adopt",
    "again",
    "begin",
    "clock",
    "failed",
    "finish",
    "get_ident",
    "in_order",
    "let_go",
    "rebound",
    "shadows",
    "wanted",
]

ABSENT: Any = object()
CALL = vars(Callback)["__call__"]
CALLS: set[Any] = {CALL}
"""fastai's own `Callback.__call__`, and what stands in for it while a learner with its own dispatch is recorded."""
INNER = frozenset(_inner_loop)
PHASES = frozenset({"before_train", "before_validate"})
MOST_CHANGES = 500
"""So often in a run it is noted that a callback was switched; what depends on later ones is listed as unexpected."""
clock = time.perf_counter_ns
in_order = attrgetter("order")

WATCHED: dict[int, Watched] = {}
"""id of a learner -> its first recording; the others hang on that one (`Watched.all`)."""

ALL: dict[int, tuple[Watched, ...]] = {}
"""id of a learner -> all its recordings, those included that begin or end while its own dispatch is at an event."""

OWN: dict[int, Dispatching] = {}
"""id of a learner -> the event that its own dispatch is at, meanwhile it is not in `WATCHED`."""

ADOPTERS: list[Callable[[Any], Watched | None]] = []
"""Who wants every learner of the program, not one that it was given."""


def adopt(learn: Any) -> Watched | None:
    """Return the recording of a learner that is met for the first time, if anybody records every learner."""
    if id(learn) in OWN:
        return None
    for adopter in ADOPTERS:
        adopter(learn)
    return WATCHED.get(id(learn))


@dataclass(slots=True)
class Dispatching:
    """An event of a learner with its own dispatch.

    `in_handler` while one of its handlers runs, `calling` is the callback whose own `__call__` runs.
    """

    several: tuple[Watched, ...]
    event: str
    in_handler: bool = False
    calling: Any = None


class _Events(dict[str, int]):
    """Event -> its code; one that is new gets its code when it first fires."""

    def __init__(self, register: Callable[[str], int]) -> None:
        self.register = register

    def __missing__(self, event: str) -> int:
        code = self[event] = self.register(event)
        return code


class _Handlers(dict[str, dict[int, int]]):
    """Event -> id of a callback -> the code of its handler."""

    def __missing__(self, event: str) -> dict[int, int]:
        found: dict[int, int] = {}
        self[event] = found
        return found


class Watched:
    """One learner in one recording.

    `sink` is the neutral side (`recorder.Subject`): it gives the codes and the lanes. `known` are the callbacks of the
    last event in calling order, `ids` their identities, `plain` those of their classes that leave fastai's rule of
    turns alone. `switches` are their `run`, `run_train` and `run_valid` as the file has them, `changes` how often these
    were found to be others.
    """

    __slots__ = (
        *("all", "cbs", "changes", "events", "handlers", "ids", "known", "labels", "lane", "lanes", "phases", "plain"),
        *("ref", "sink", "switches"),
    )

    def __init__(self, learn: Any, sink: Any) -> None:
        self.ref = weakref.ref(learn)
        self.sink = sink
        self.lanes = sink.lanes
        self.lane = sink.lane
        self.all: tuple[Watched, ...] = (self,)
        self.events = _Events(sink.event)
        self.forget()

    def forget(self) -> None:
        """Let go of the callbacks, as at the end of each run: nothing of the user's is kept alive by a recording."""
        self.known: list[Any] = []
        self.ids: list[int] = []
        self.cbs: list[Any] = []
        self.labels: dict[int, str] = {}
        self.handlers = _Handlers()
        self.plain: frozenset[type] = frozenset()
        self.switches: dict[int, Any] = {}
        self.phases: dict[tuple[str, int], int] = {}
        self.changes = 0

    def number(self, learn: Any) -> None:
        """Name the callbacks as the map does, from where they stand when a run begins."""
        self.forget()
        for at, cb in enumerate(learn.cbs, 1):
            self.cbs.append(cb)
            self.labels[id(cb)] = f"{type(cb).__name__}#{at}"
            self.switches[id(cb)] = _switches(cb)

    def label(self, cb: Any, learn: Any = None) -> str:
        """Return the id of a callback: that of the map for its class where one is free, else by its position."""
        if id(cb) not in self.labels:
            learn = learn if learn is not None else self.ref()
            present = {id(one) for one in learn.cbs}
            taken = {label for key, label in self.labels.items() if key in present}
            name = type(cb).__name__
            free = [one for one in self.sink.callbacks() if one.rpartition("#")[0] == name and one not in taken]
            at = next((n for n, one in enumerate(learn.cbs, 1) if one is cb), 0)
            while not free and f"{name}#{at}" in taken:
                at += 1
            label = free[0] if free else f"{name}#{at}"
            former = [self.switches[id(one)] for one in self.cbs if self.labels[id(one)] == label]
            self.cbs.append(cb)
            self.labels[id(cb)] = label
            # of one that takes another's place the file has the other's switches: `skips` finds what is not so any more
            self.switches[id(cb)] = former[-1] if former else _switches(cb)
        return self.labels[id(cb)]

    def handler(self, cb: Any, event: str) -> int:
        """Return the code of a handler, registered when it is first called in a run.

        At the events with which a phase begins it is asked for each time, so that switches are looked at then.
        """
        for one in self.known if event in PHASES else (cb,):
            self.skips(one)
        code = self.phases.get((event, id(cb)))
        if code is None:
            method = event if type(cb).__call__ in CALLS else "__call__"
            code = self.phases[event, id(cb)] = self.sink.handler(self.label(cb), event, method, type(cb).__name__)
        if event not in PHASES:
            self.handlers[event][id(cb)] = code
        return code

    def skips(self, cb: Any) -> bool:
        """Return False, which says that `cb` has no turn; take note if somebody changed the switches that decide it."""
        before, now = self.switches.get(id(cb)), _switches(cb)
        if now != before and now is not None and before is not None and self.changes < MOST_CHANGES:
            self.changes += 1
            self.switches[id(cb)] = now
            for codes in self.handlers.values():  # so that its next turn is noticed as well
                codes.pop(id(cb), None)
            label, learn = self.label(cb), self.ref()
            if now[1:] != before[1:] and learn is not None:
                self.sink.rebound(learn, self.members(learn))
            else:
                self.sink.switched({f"run {label}": now[0]})
        return False

    def members(self, learn: Any) -> dict[str, Any]:
        """Return the callbacks of the last event that a map would name, by their ids, in calling order."""
        named = set(self.sink.callbacks())
        labels = ((self.label(cb, learn), cb) for cb in self.known)
        return {label: cb for label, cb in labels if label in named or _handles(cb)}

    def where(self) -> tuple[int | None, int | None]:
        """Return the epoch and the batch that the learner says it is in, from 0."""
        learn = self.ref()
        epoch, batch = (vars(learn).get(name) for name in ("epoch", "iter")) if learn is not None else (None, None)
        return epoch if type(epoch) is int else None, batch if type(batch) is int else None

    def bind(self, learn: Any, members: Mapping[str, Any]) -> tuple[Binding, Flags]:
        """Return who is called where from now on: callbacks were added, removed or moved while the run went on."""
        run = self.sink.runs[-1]
        listed = [
            Member(type(cb), cb, "added while it ran" if label not in run.ids else "learner", _number(label))
            for label, cb in sorted(members.items(), key=lambda item: _number(item[0]))
        ]
        flags = {one.run_flag: bool(one.setting("run", True)) for one in listed}
        return bind(learn, listed, dict.fromkeys([*run.loop.docs, *run.loop.binding.handlers])), flags


def _number(label: str) -> int:
    return int(label.rpartition("#")[2])


def rebound(watched: Watched, learn: Any, ordered: Iterable[Any]) -> bool:
    """Take note of callbacks that were added, removed or moved since the last event.

    Return whether the event is outside of every run: then they must be let go of (`forget`) behind it.
    """
    now = list(ordered)
    ids = [*map(id, now)]
    if ids == watched.ids:
        return not watched.sink.runs
    ours = "training" in vars(learn) and not hasattr(type(learn), "training")
    watched.plain = frozenset(filter(_is_plain, map(type, now))) if ours else frozenset()
    before = [watched.labels.get(id(cb)) for cb in watched.known]
    watched.known, watched.ids = now, ids
    if [watched.label(cb, learn) for cb in now] != before:
        watched.sink.bound(learn, watched.members(learn))
    return not watched.sink.runs


def let_go(several: Iterable[Watched]) -> None:
    """Let go of the callbacks in those recordings in which no run is under way."""
    for one in several:
        if not one.sink.runs:
            one.forget()


def _switches(cb: Any) -> tuple[bool, ...] | None:
    """Return `run`, `run_train` and `run_valid`, None where they cannot be read without running a user's code."""
    if not _switched_plainly(type(cb)):
        return None
    try:
        return bool(cb.run), bool(cb.run_train), bool(cb.run_valid)
    except Exception:  # a tensor of several values: fastai's own call fails on it, too
        return None


def _switched_plainly(kind: type) -> bool:
    return static(kind, "__getattribute__") is object.__getattribute__ and not any(
        hasattr(static(kind, name, None), "__get__") for name in ("run", "run_train", "run_valid")
    )


def _handles(cb: Any) -> bool:
    """Return whether a callback has a handler at all, or a `__call__` of its own, so that a map would name it."""
    own = getattr(cb, "__dict__", {})
    return type(cb).__call__ not in CALLS or any(
        event in own or static(type(cb), event, ABSENT) is not ABSENT for event in _events
    )


def _is_plain(kind: type) -> bool:
    """Return whether fastai's `Callback.__call__` decides alone, from plain attributes, whether a handler is called."""
    return (
        issubclass(kind, Callback)
        and static(kind, "__call__") is CALL
        and static(kind, "__getattr__") is vars(GetAttr)["__getattr__"]
        and static(kind, "__getattribute__") is object.__getattribute__
        and static(kind, "_xtra") is None
        and static(kind, "_default") == "learn"
        and static(kind, "training", ABSENT) is ABSENT
        and not any(hasattr(static(kind, name), "__get__") for name in ("run", "run_train", "run_valid", "learn"))
    )


def shadows(learn: Any, event: str) -> bool:
    """Return whether a callback without a handler may fall through to one: of the learner, or of its model."""
    model = learn.__dict__.get("model")
    if static(type(learn), "__getattr__") is not _LEARNER_GETATTR or event in learn.__dict__:
        return True
    if hasattr(type(learn), event) or hasattr(type(model), event):
        return True
    if not isinstance(model, nn.Module):
        return model is not None and (hasattr(type(model), "__getattr__") or event in getattr(model, "__dict__", ()))
    return (
        static(type(model), "__getattr__") is not _MODULE_GETATTR
        or event in model.__dict__
        or event in model._modules
        or event in model._parameters
        or event in model._buffers
    )


_LEARNER_GETATTR = static(Learner, "__getattr__")
_MODULE_GETATTR = vars(nn.Module)["__getattr__"]


def wanted(cb: Any, event: str) -> bool:
    """Return whether fastai calls a handler of `cb` at `event`: by the same rule as its `Callback.__call__`.

    A callback with a `__call__` of its own is called whatever it makes of that. What a user's property raises here, it
    raises again in fastai's own call, which is the place for it.
    """
    if type(cb).__call__ not in CALLS:
        return True
    try:
        if not cb.run:
            return False
        if event in INNER and not (
            (cb.run_train and getattr(cb, "training", True)) or (cb.run_valid and not getattr(cb, "training", False))
        ):
            return False
        return getattr(cb, event, noop) is not noop
    except Exception:
        return True


def again(lane: Any, code: int) -> tuple[Any, int]:
    """Write a start stamp into the next segment of a lane: the last one is full, or was taken from a forked child."""
    lane.more()
    rows, at = lane.rows, lane.at
    rows[at + 1] = clock()
    rows[at] = code
    return rows, at


def begin(watched: Watched, code: int) -> tuple[Any, int]:
    """Write a start stamp; return where its row is."""
    lane = watched.lanes.get(get_ident()) or watched.lane()
    opened: tuple[Any, int] = lane.begin(code, clock)
    return opened


def finish(opened: Iterable[tuple[Any, int]]) -> None:
    """Write the end stamps of rows that `begin` opened."""
    now = clock()
    for rows, at in opened:
        try:
            rows[at + 2] = now
        except ValueError:  # a child that was forked meanwhile, which never writes
            return


def failed(watched: Watched, rows: Any, at: int, error: BaseException, event: str, cb: Any) -> None:
    """Write the end stamp of a row that was left by an exception, and the exception's class."""
    now = clock()
    try:
        start = rows[at + 1]
        number = watched.sink.outcome(error, event, "" if cb is None else f"{type(cb).__name__}.{event}", start)
        rows[at] = (rows[at] & 0xFFFFFFFF) | number << 32
        rows[at + 2] = now
    except ValueError:
        return
