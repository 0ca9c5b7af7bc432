"""async-handler: a coroutine or a generator function as a handler runs nothing of itself."""

from __future__ import annotations

import asyncio
import functools
import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import loopscope
from tests.checks.tiny import FOUR, each, made, tiny

RULE = "async-handler"

EVENT = {"fastai": "after_epoch", "lightning": "on_train_epoch_end", "transformers": "on_epoch_end"}

RAN: list[str] = []


async def coroutine(self: Any, *given: Any, **named: Any) -> None:
    RAN.append("coroutine")


def generator(self: Any, *given: Any, **named: Any) -> Iterator[None]:
    RAN.append("generator")
    yield


def plain(self: Any, *given: Any, **named: Any) -> None:
    RAN.append("plain")


def awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*given: Any, **named: Any) -> Any:
        return asyncio.run(function(*given, **named))

    return run


class Decorated:
    @awaited
    async def handler(self: Any, *given: Any, **named: Any) -> None:
        RAN.append("awaited")


@pytest.mark.parametrize("handler", [coroutine, generator])
@pytest.mark.parametrize("framework", each(*((one,) for one in FOUR)))
def test_fires(framework: str, handler: Any, tmp_path: Path) -> None:
    """The finding says that nothing runs, and in the real framework nothing does, or it fails on what it is given."""
    event = EVENT.get(framework, "on_epoch_end")
    run = tiny(framework, tmp_path, made(framework, {event: handler}))
    (found,) = run.findings(RULE)
    assert (found.severity, found.method, found.trust) == ("error", event, "declared")
    RAN.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run.fit()
        except AttributeError:  # Transformers takes what a handler returns for its TrainerControl
            assert framework == "transformers"
        del run
        gc.collect()  # the coroutine that nobody awaited: Python warns when it goes
    assert not RAN


@pytest.mark.parametrize("handler", [plain, Decorated.handler])
@pytest.mark.parametrize("framework", each(*((one,) for one in FOUR)))
def test_silent(framework: str, handler: Any, tmp_path: Path) -> None:
    """A plain function runs, and so does a coroutine function under a decorator that sees to it."""
    event = EVENT.get(framework, "on_epoch_end")
    run = tiny(framework, tmp_path, made(framework, {event: handler}))
    assert not run.findings(RULE)
    RAN.clear()
    run.fit()
    assert RAN


def engine(handler: Callable[..., Any]) -> Any:
    from ignite.engine import Engine, Events

    found = Engine(lambda engine, batch: batch)
    found.add_event_handler(Events.EPOCH_COMPLETED, handler)
    return found


@pytest.mark.framework("ignite")
@pytest.mark.parametrize("handler", [coroutine, generator])
def test_fires_on_ignite(handler: Any) -> None:
    """A function that is attached to an engine is called, too, and nothing of it runs."""
    of = engine(handler)
    (found,) = loopscope.check(of, "run", data=[1, 2], select=[RULE]).findings
    assert (found.severity, found.event) == ("error", "EPOCH_COMPLETED")
    RAN.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of.run([1, 2])
    assert not RAN


@pytest.mark.framework("ignite")
def test_silent_on_ignite() -> None:
    """A plain function runs."""
    of = engine(plain)
    assert not loopscope.check(of, "run", data=[1, 2], select=[RULE]).findings
    RAN.clear()
    of.run([1, 2])
    assert RAN


@pytest.mark.framework("ignite")
def test_fires_where_ignite_attaches_by_decorator() -> None:
    """@trainer.on gives back the very function: nothing of it runs, unless another decorator sees to it."""
    from ignite.engine import Engine, Events

    of = Engine(lambda engine, batch: batch)

    @of.on(Events.EPOCH_COMPLETED)
    async def coroutine(engine: Any) -> None:
        RAN.append("coroutine")

    @of.on(Events.COMPLETED)
    @awaited
    async def sees_to_it(engine: Any) -> None:
        RAN.append("awaited")

    (found,) = loopscope.check(of, "run", data=[1, 2], select=[RULE]).findings
    assert (found.severity, found.event) == ("error", "EPOCH_COMPLETED")
    RAN.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of.run([1, 2])
    assert RAN == ["awaited"]
