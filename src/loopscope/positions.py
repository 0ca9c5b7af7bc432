"""In which epoch and batch each event of a run fired, counted along the scopes of its loop, from 0."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopscope.model import Event, Loop, Node, Scope
from loopscope.placing import NAME, Block
from loopscope.report import At


@dataclass(frozen=True, slots=True)
class Positions:
    """`epoch` and `batch` of each event of a block (int64, -1 where it is in none); `codes` are the events' names."""

    run: str
    epoch: Any
    batch: Any
    codes: Any
    names: Mapping[int, Mapping[str, Any]]

    def at(self, event: int, handler: str = "") -> At:
        """Return the position of an event of the block, by its number there."""
        if not 0 <= event < len(self.codes):
            return At(self.run, handler=handler)
        epoch, batch = int(self.epoch[event]), int(self.batch[event])
        name = str(self.names[int(self.codes[event])].get("event"))
        return At(self.run, None if epoch < 0 else epoch, None if batch < 0 else batch, name, handler)


def positions(block: Block, names: Mapping[int, Mapping[str, Any]]) -> Positions:
    """Return where the events of a block fired; `names` are those of its recording."""
    codes = block.code[block.events] & NAME
    call = str(block.run.get("call", "")) if block.run else ""
    none: Any = np.full(len(codes), -1, np.int64)
    if block.loop is None or not len(codes):
        return Positions(call, none, none, codes, names)
    marks = _Marks.of(block.loop)

    def where(events: Collection[str]) -> Any:
        wanted: Any = np.zeros(max(names, default=0) + 1, bool)
        wanted[[number for number, name in names.items() if name.get("event") in events]] = True
        return wanted[codes]

    epoch = _counted(where(marks.epochs), where(marks.fits), where(marks.in_epoch))
    batch = _counted(where(marks.batches), where(marks.parts), where(marks.in_batch))
    return Positions(call, epoch, batch, codes, names)


def _counted(begins: Any, resets: Any, inside: Any) -> Any:
    """Return how many `begins` there were since the last of `resets`, from 0; -1 where not `inside`."""
    total = np.cumsum(begins)
    at_reset = np.maximum.accumulate(np.where(resets, total - begins, 0))
    return np.where(inside & (total > at_reset), total - at_reset - 1, -1)


@dataclass(frozen=True, slots=True)
class _Marks:
    """The events that begin an epoch, a batch, a fit, and a part of an epoch that has batches; and those inside."""

    fits: frozenset[str]
    epochs: frozenset[str]
    batches: frozenset[str]
    parts: frozenset[str]
    in_epoch: frozenset[str]
    in_batch: frozenset[str]

    @classmethod
    def of(cls, loop: Loop) -> _Marks:
        scopes = list(_scopes(loop.root))
        named = {name: [one for one in scopes if one.name == name] for name in ("fit", "epoch", "batch")}
        parts = [one for one in scopes if any(isinstance(n, Scope) and n.name == "batch" for n in one.nodes())]
        return cls(
            frozenset(map(_first, named["fit"])),
            frozenset(map(_first, named["epoch"])),
            frozenset(map(_first, named["batch"])),
            frozenset(map(_first, parts)),
            frozenset(event for one in named["epoch"] for event in _events(one)),
            frozenset(event for one in named["batch"] for event in _events(one)),
        )


def _scopes(node: Node) -> Iterator[Scope]:
    if isinstance(node, Scope):
        yield node
        for child in node.nodes():
            yield from _scopes(child)


def _events(node: Node) -> Iterator[str]:
    if isinstance(node, Event):
        yield node.name
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from _events(child)


def _first(scope: Scope) -> str:
    return next((name for node in (*scope.before, *scope.body) for name in _events(node)), "")
