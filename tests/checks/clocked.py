"""Runs of the loop of tests/loops.py on a clock of their own: what each handler takes is exactly what a test says.

`case(lambda who, number: 2 * MS if who == "Mine.after_batch" else 0)` is 40 batches; `number` counts the calls of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from loopscope.checks import Case, Measured, check
from loopscope.findings import Finding
from loopscope.model import Binding, Fact, Handler
from loopscope.placing import place
from loopscope.timing import reported
from loopscope.views import tree
from tests.test_timing import Written, loop

MS = 1_000_000

Takes = Callable[[str, int], int]
"""(handler, number of its call, from 0) -> ns."""

WAITS = Fact("wait", "self.loss.item()", "inferred")


@dataclass
class Clocked(Written):
    """A recording whose handlers take what `takes` says; `steps` is what the loop itself takes before each event."""

    takes: Takes = lambda who, number: 0
    steps: Takes = lambda event, number: MS
    seen: Counter[str] = field(default_factory=Counter)

    def fire(self, event: str, raised: str = "", last: str = "", took: int = 0) -> list[int]:
        self.clock += self.counted(event, self.steps)
        row = self.open(self.code("event", object=1, event=event))
        for one in self.called(event):
            self.clock += 1
            call = self.handler(one.id, event)
            self.clock += 1 + self.counted(f"{one.callback}.{event}", self.takes)
            self.close(call)
            self.training = dict(one.sets).get("training", self.training)
        self.clock += 1
        self.close(row)
        return row

    def counted(self, name: str, takes: Takes) -> int:
        self.seen[name] += 1
        return takes(name, self.seen[name] - 1)


def case(
    takes: Takes,
    steps: Takes = lambda event, number: MS,
    *,
    train: int = 40,
    epochs: int = 1,
    device: str = "cpu",
    waits: tuple[str, ...] = (),
) -> Case:
    """Return a run that was recorded; the handlers of the callbacks in `waits` are known to wait for the device."""
    made = replace(loop(epochs, train, 2), framework="fastai")
    made = replace(made, binding=Binding({k: tuple(_waiting(one, waits) for one in v) for k, v in bound(made)}))
    written = Clocked(made, takes=takes, steps=steps)
    written.names[1]["device"] = device
    run = written.run()
    written.fire("before_fit")
    for _ in range(epochs):
        written.epoch(train, 2)
    written.fire("after_fit")
    written.close(run)
    placed = place(written.recording())
    unexpected = [one.message for block in placed.blocks() for one in block.unexpected]
    assert not unexpected, unexpected[0]
    (block,) = placed.blocks()
    assert block.loop is not None
    return Case(block.loop, tree(block.loop), None, Measured(reported(placed), placed))


def bound(made: Any) -> Any:
    return made.binding.handlers.items()


def _waiting(handler: Handler, waits: tuple[str, ...]) -> Handler:
    return replace(handler, facts=(*handler.facts, WAITS)) if handler.callback in waits else handler


def found(rule: str, of: Case) -> list[Finding]:
    """Return what one rule says."""
    return list(check(of, [rule]))
