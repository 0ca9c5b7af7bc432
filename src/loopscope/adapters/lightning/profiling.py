"""The profiler of a recorded trainer: Lightning tells it of every hook, and it passes all on to the program's own.

To everybody else it is the program's own profiler: attributes, `isinstance`, copies and pickles are that one's.
"""

from __future__ import annotations

import copy
import functools
import sys
from _thread import get_ident
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from loopscope.adapters.lightning.stamps import NOTHING, Both, Started
from loopscope.adapters.lightning.watching import Watched

OWN = tuple(f"_loopscope_{name}" for name in ("theirs", "plain", "watched", "started", "ready"))
"""What it has itself, each under a name that nobody else has."""


class Recording:
    """Stands in for `trainer.profiler`: `recording(trainer.profiler, PassThroughProfiler)` makes it.

    `plain` says that the program's own profiler does nothing, so that it need not be asked. `ready` lends, by action,
    what writes its row: those of the only recording, where nobody else is to be told.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _loopscope_theirs: Any
        _loopscope_plain: bool
        _loopscope_watched: tuple[Watched, ...]
        _loopscope_started: dict[int, list[Started]]
        _loopscope_ready: dict[str, Callable[[], Any]]

    # -- what Lightning asks for -----------------------------------------------------------------------------

    def profile(self, action_name: str) -> Any:
        """Return what writes the row of an action, and what the program's own profiler makes of it."""
        found = None
        try:  # noqa: SIM105 - entering a context manager costs more than all of this
            found = self._loopscope_ready[action_name]()
        except (KeyError, IndexError):
            pass  # what comes next must not have these as its context
        return _found(self, action_name) if found is None else found

    def start(self, action_name: str) -> None:
        """Open the rows of an action of which Lightning says by itself that it ends."""
        if not self._loopscope_plain:
            self._loopscope_theirs.start(action_name)
        pending: list[Started] = self._loopscope_started.setdefault(get_ident(), [])
        handling = sys.exc_info()[1]
        for watched in self._loopscope_watched:
            row = watched.lend(action_name, self._loopscope_started)
            if row is not NOTHING:
                row.__enter__()
                pending.append(Started(action_name, row, handling))

    def stop(self, action_name: str) -> None:
        """Close the rows that `start` opened; an exception that passes through is told by Python."""
        pending: list[Started] = self._loopscope_started.get(get_ident(), [])
        error = sys.exc_info()[1]
        ended = [one for one in pending if one.name == action_name][-len(self._loopscope_watched) :]
        pending[:] = [one for one in pending if not any(one is other for other in ended)]
        for started in reversed(ended):
            raised = None if error is started.handling or isinstance(error, StopIteration) else error
            started.row.__exit__(None, raised, None)
        if not self._loopscope_plain:
            self._loopscope_theirs.stop(action_name)

    # -- everything else is the program's own ------------------------------------------------------------------

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._loopscope_theirs)

    def __repr__(self) -> str:
        return repr(self._loopscope_theirs)

    def __copy__(self) -> Any:
        return copy.copy(self._loopscope_theirs)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self._loopscope_theirs, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._loopscope_theirs.__reduce_ex__(protocol)


class Passing(Recording):
    """In front of a profiler of the program's own, whatever that is."""

    __slots__ = OWN

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loopscope_theirs, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loopscope_theirs, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._loopscope_theirs, name)

    def __dir__(self) -> Any:
        return dir(self._loopscope_theirs)


@functools.cache
def _plain(cls: type) -> type[Recording]:
    """Return the class that stands in for a profiler that does nothing.

    It derives from that one's class and shares its `__dict__`. A class with a `__getattr__` is slower at each look-up,
    and Lightning asks for `profile` some forty times in a batch: of 1.5 ms they took 50 µs more.
    """
    return type("Recording", (Recording, cls), {"__slots__": OWN, "__module__": __name__})


def recording(theirs: Any, plain: type) -> Recording:
    """Return what stands in for a profiler; `plain` is the class of one that does nothing."""
    is_plain = type(theirs) is plain
    made: Recording = object.__new__(_plain(plain) if is_plain else Passing)
    for name, value in zip(OWN, (theirs, is_plain, (), {}, {}), strict=True):
        object.__setattr__(made, name, value)
    if is_plain:
        object.__setattr__(made, "__dict__", vars(theirs))
    return made


def theirs(recording: Recording) -> Any:
    """Return the program's own profiler."""
    return recording._loopscope_theirs


def watch(recording: Recording, watched: Sequence[Watched]) -> None:
    """Have a profiler write to these recordings from now on."""
    alone = len(watched) == 1 and recording._loopscope_plain
    object.__setattr__(recording, "_loopscope_watched", tuple(watched))
    object.__setattr__(recording, "_loopscope_ready", watched[0].ready if alone else {})


def _found(recording: Recording, name: str) -> Any:
    """Return the rows of all recordings, and what the program's own profiler makes of the action, as one."""
    parts: list[Any] = [] if recording._loopscope_plain else [recording._loopscope_theirs.profile(name)]
    rows = [watched.lend(name, recording._loopscope_started) for watched in recording._loopscope_watched]
    parts += [row for row in rows if row is not NOTHING]
    return Both(parts) if len(parts) > 1 else parts[0] if parts else NOTHING
