"""What a framework brings to the conformance suite: `tests/adapters/cases/<framework>.py`, read by `suite.py`.

Such a file has the names that `Cases` lists. Everything in it is the real framework, small and offline.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loopscope.model import Loop
from loopscope.seen import Call, Fired

FRAMEWORKS = ("fastai", "lightning", "transformers", "keras", "ignite")

KINDS = (
    "normal",
    "early stop",
    "exception in a callback",
    "KeyboardInterrupt",
    "accumulation",
    "validation in the middle of an epoch",
    "no validation",
    "two validation loaders",
    "validation alone",
    "prediction alone",
    "resumed from a checkpoint",
    "nested run",
)
"""The runs that every framework has a case of; one that a framework does not have is in its `IMPOSSIBLE`, with why."""


@dataclass(frozen=True)
class Case:
    """One run: `make(folder)` gives a fresh learner or trainer, seeded, `call` runs it, `loop` is its map before that.

    `kind` is one of `KINDS`, or "" for one more. `raises` is the class name of what must leave the call, None where it
    must end normally. `run` and `inspect` are what `loopscope.inspect(obj, run, **inspect)` is asked;
    `inspect` may be a function of the object.
    """

    name: str
    kind: str
    make: Callable[[Path], Any]
    call: Callable[[Any], object]
    run: str = ""
    inspect: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] = field(default_factory=dict)
    raises: str | None = None


class Witness(Protocol):
    """Sees a real run from outside (`sys.settrace`): patches nothing, and uses nothing of the recorder.

    `fired` are the events in order as `parse.follow` takes them, those that fire in other threads left out; `outcome`
    is the class name of what left the run. `places` are (event, handler id, "file:line" of the code that really ran).
    Handlers have the ids of the map. A handler that the framework calls although it does nothing (the empty method of
    the base class) is no call.
    """

    fired: list[Fired]
    outcome: str | None
    error: BaseException | None
    places: list[tuple[str, str, str]]

    def __call__(self) -> AbstractContextManager[None]:
        """Watch what runs in the `with` block, and take what leaves it."""

    def nested(self, call: Call) -> Loop:
        """Return the map of the run that took place inside a handler call, read when it began."""


class Cases(Protocol):
    """The module of a framework's cases."""

    CASES: Sequence[Case]
    IMPOSSIBLE: Mapping[str, str]
    EQUIVALENT: frozenset[tuple[str, str]]
    """(how, event): changes of the normal run that cannot be told from a true one; a comment says why of each."""

    def watch(self, obj: Any) -> Witness:
        """Return a witness of the runs of `obj`."""

    EVENTS_THAT_RAISE: Sequence[str]
    """The events at which an exception is tried: all that a handler can stand at and the normal run comes to."""

    def thrower(
        self, event: str, exception: type[BaseException]
    ) -> tuple[Callable[[Path], Any], Callable[[Any], object], str, Any]:
        """Return what makes an object whose handler raises at the first `event`, the call, its run and `inspect`."""

    def state(self, obj: Any) -> Mapping[str, Any]:
        """Return all that training left behind, to be compared bit for bit: weights, losses, RNG states."""


def cases(name: str) -> Any:
    """Return the module of a framework's cases, by the name of its file; imports the framework."""
    return importlib.import_module(f"tests.adapters.cases.{name}")
