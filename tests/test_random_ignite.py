"""Random ignite runs are what the map says: lengths, limits, filters, interruptions, runs that go on, many at once."""

from __future__ import annotations

import logging
import random
import warnings
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("ignite")

from ignite.engine import Engine, Events

import loopscope
from loopscope.errors import BadValue
from loopscope.parse import follow
from tests.adapters.cases.ignite_engines import everywhere
from tests.adapters.cases.ignite_watch import Watch

COUNTING = (
    *(Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED),
    *(Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.STARTED, Events.COMPLETED),
)


class Stream:
    """Data without a length that can be had again."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(range(self.batches))


def nothing(engine: Engine, *batch: Any) -> None:
    pass


def some_filter(draw: random.Random) -> dict[str, Any]:
    kind = draw.choice(["every", "once", "several", "between"])
    if kind == "every":
        return {"every": draw.randint(1, 5)}
    if kind == "once":
        return {"once": draw.randint(1, 9)}
    if kind == "several":
        return {"once": [draw.randint(1, 9) for _ in range(3)]}
    return {"after": draw.randint(0, 5), "before": draw.randint(0, 9), "every": draw.randint(1, 4)}


def some_engine(draw: random.Random) -> Engine:
    """An engine with filtered handlers anywhere, that may be interrupted once."""
    one = Engine(nothing)
    one.log = []
    for _ in range(draw.randint(0, 6)):
        one.add_event_handler(draw.choice(COUNTING)(**some_filter(draw)), lambda engine: None)
    everywhere(one)
    if draw.random() < 0.4:
        when, at = draw.randint(0, 5), draw.choice(COUNTING[:6])

        @one.on(at)
        def leave(engine: Engine) -> None:
            if engine.state.iteration == when and "left" not in engine.log:
                engine.log.append("left")
                engine.interrupt()

    return one


@pytest.mark.parametrize("seed", range(30))
def test_random_runs(seed: int) -> None:
    """Up to three runs of one engine, each from the state that the last one left, are followed to the last call."""
    draw = random.Random(seed)
    one, batches = some_engine(draw), draw.randint(1, 5)
    kind = draw.choice(["list", "list", "stream", "none"])
    given: dict[str, Any] = {}
    if kind == "none" or draw.random() < 0.5:
        given["epoch_length"] = draw.randint(1, 6)
    given |= {"max_epochs": draw.randint(1, 4)} if draw.random() < 0.7 else {"max_iters": draw.randint(1, 9)}
    logging.disable(logging.CRITICAL)
    try:
        for _ in range(draw.randint(1, 3)):
            data = {"list": list(range(batches)), "stream": Stream(batches), "none": None}[kind]
            try:
                loop = loopscope.inspect(one, data=data, **given).loop
            except BadValue:
                with pytest.raises(ValueError, match=r"."):
                    one.run(data, **given)
                return
            watch = Watch(one)
            with warnings.catch_warnings(), watch():
                warnings.simplefilter("ignore")
                one.run(data, **given)
            followed = follow(loop, watch.fired, watch.outcome, nested=watch.nested)
            assert followed.unexpected is None, (given, batches, kind, loop.notes)
            given = {} if draw.random() < 0.7 else {"max_epochs": (one.state.max_epochs or 1) + draw.randint(0, 2)}
    finally:
        logging.disable(logging.NOTSET)
