"""swallowed-errors: ignite drops every error for which somebody handles EXCEPTION_RAISED and does not raise again."""

from __future__ import annotations

from typing import Any

import pytest

import loopscope

RULE = "swallowed-errors"
SEEN: list[object] = []
pytestmark = pytest.mark.framework("ignite")


def failing() -> Any:
    from ignite.engine import Engine

    def step(engine: Any, batch: int) -> None:
        raise ValueError("a broken batch")

    return Engine(step)


def note(engine: Any, error: BaseException) -> None:
    SEEN.append(error)


def again(engine: Any, error: BaseException) -> None:
    SEEN.append(error)
    raise error


def test_fires() -> None:
    """A handler that only notes the error lets the run end as if all had been well."""
    from ignite.engine import Events

    engine = failing()
    engine.add_event_handler(Events.EXCEPTION_RAISED, note)
    (found,) = loopscope.check(engine, data=[1], select=[RULE]).findings
    assert (found.event, found.severity, found.trust) == ("EXCEPTION_RAISED", "warning", "inferred")
    assert found.message == "note handles EXCEPTION_RAISED and raises nothing: every error of this run is dropped"
    assert engine.run([1]).iteration == 1


def test_fires_for_the_profiler() -> None:
    """HandlersTimeProfiler makes the list of handlers when it looks it up, and with it drops every error."""
    from ignite.handlers.time_profilers import HandlersTimeProfiler

    engine = failing()
    HandlersTimeProfiler().attach(engine)
    (found,) = loopscope.check(engine, data=[1], select=[RULE]).findings
    assert (found.event, found.severity) == ("STARTED", "warning")
    assert engine.run([1]).iteration == 1


def test_silent() -> None:
    """Nobody who handles it, and somebody who raises it again: the error ends the run."""
    from ignite.engine import Events

    for handlers in ([], [again], [note, again]):
        engine = failing()
        for one in handlers:
            engine.add_event_handler(Events.EXCEPTION_RAISED, one)
        assert not loopscope.check(engine, data=[1], select=[RULE]).findings
        with pytest.raises(ValueError, match="a broken batch"):
            engine.run([1])
