"""The profiler of a recorded trainer: Lightning tells it of every hook, and it passes all on to the program's own.

To everybody else it is the program's own profiler: attributes, `isinstance`, copies and pickles are that one's.
"""

from __future__ import annotations

import copy
import sys
from _thread import get_ident
from collections.abc import Sequence
from typing import Any

from loopscope.adapters.lightning.stamps import AROUND, LAST, NOTHING, PLAIN, UNSURE, Action, Around, Both, Row, Started
from loopscope.adapters.lightning.watching import Watched

OWN = frozenset({"_loopscope_theirs", "_loopscope_plain", "_loopscope_watched", "_loopscope_started", "_loopscope_one"})


class Recording:
    """Stands in for `trainer.profiler`: `Recording(trainer.profiler, plain=True)`.

    `plain` says that the program's own profiler does nothing, so that it need not be asked.
    """

    __slots__ = tuple(OWN)

    def __init__(self, theirs: Any, plain: bool) -> None:
        for name, value in (
            ("_loopscope_theirs", theirs),
            ("_loopscope_plain", plain),
            ("_loopscope_watched", ()),
            ("_loopscope_one", None),
            ("_loopscope_started", {}),
        ):
            object.__setattr__(self, name, value)

    # -- what Lightning asks for ---------------------------------------------------------------------------

    def profile(self, action_name: str) -> Any:
        """Return what writes the row of an action, and what the program's own profiler makes of it."""
        one = self._loopscope_one
        if one is None:
            return _several(self, action_name)
        try:
            action = one.actions[action_name]
        except KeyError:
            action = one.action(action_name)
        if action is None:
            return NOTHING
        return Row(one.lanes, action) if action.kind == PLAIN else _row(self, one, action, 3)

    def start(self, action_name: str) -> None:
        """Open the rows of an action of which Lightning says by itself that it ends."""
        if not self._loopscope_plain:
            self._loopscope_theirs.start(action_name)
        pending, handling = _started(self), sys.exc_info()[1]
        for watched in self._loopscope_watched:
            action = _action(watched, action_name)
            if action is not None:
                row = Row(watched.lanes, action)
                row.__enter__()
                pending.append(Started(action_name, row, handling))

    def stop(self, action_name: str) -> None:
        """Close the rows that `start` opened; an exception that passes through is told by Python."""
        pending = _started(self)
        error = sys.exc_info()[1]
        for started in [one for one in pending if one.name == action_name][-len(self._loopscope_watched) :]:
            pending.remove(started)
            raised = None if error is started.handling or isinstance(error, StopIteration) else error
            started.row.__exit__(None, raised, None)
        if not self._loopscope_plain:
            self._loopscope_theirs.stop(action_name)

    # -- everything else is the program's own ----------------------------------------------------------------

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._loopscope_theirs)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_loopscope_theirs"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loopscope_theirs, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._loopscope_theirs, name)

    def __dir__(self) -> Any:
        return dir(self._loopscope_theirs)

    def __repr__(self) -> str:
        return repr(self._loopscope_theirs)

    def __copy__(self) -> Any:
        return copy.copy(self._loopscope_theirs)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self._loopscope_theirs, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._loopscope_theirs.__reduce_ex__(protocol)


def theirs(recording: Recording) -> Any:
    """Return the program's own profiler."""
    return object.__getattribute__(recording, "_loopscope_theirs")


def watch(recording: Recording, watched: Sequence[Watched]) -> None:
    """Have a profiler write to these recordings from now on."""
    alone = watched[0] if len(watched) == 1 and recording._loopscope_plain else None
    object.__setattr__(recording, "_loopscope_watched", tuple(watched))
    object.__setattr__(recording, "_loopscope_one", alone)


def watching(recording: Recording) -> tuple[Watched, ...]:
    """Return the recordings that a profiler writes to."""
    found: tuple[Watched, ...] = recording._loopscope_watched
    return found


def _started(recording: Recording) -> list[Started]:
    started: dict[int, list[Started]] = recording._loopscope_started
    return started.setdefault(get_ident(), [])


def _several(recording: Recording, name: str) -> Any:
    """Return the rows of several recordings, and what the program's own profiler makes of the action, as one."""
    parts: list[Any] = [] if recording._loopscope_plain else [recording._loopscope_theirs.profile(name)]
    for watched in recording._loopscope_watched:
        action = _action(watched, name)
        if action is not None:
            parts.append(_row(recording, watched, action, 4))
    return Both(parts) if parts else NOTHING


def _row(recording: Recording, watched: Watched, action: Action, depth: int) -> Any:
    """Return what writes the row of an action; `depth` is how many frames below the caller of `profile` this is."""
    if action.kind == AROUND:
        return Around(watched.lanes, action, _started(recording))
    if action.kind == LAST:
        watched.look(action.event)
    elif action.kind == UNSURE:
        found = watched.resolved(action, depth)
        return NOTHING if found is None else Row(watched.lanes, found)
    return Row(watched.lanes, action)


def _action(watched: Watched, name: str) -> Action | None:
    return watched.actions[name] if name in watched.actions else watched.action(name)
