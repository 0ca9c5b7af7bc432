"""In which epoch and batch each event of a run fired, counted along the scopes of its loop, from 0."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopscope.model import Scope
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


EPOCHS, BATCHES = ("epoch",), ("batch",)
"""The scopes that are counted, by name."""

FITS = ("fit",)
"""The scopes in each entry of which epochs are counted anew."""

PASSES = ("epoch", "train", "validate", "test", "predict")
"""The scopes in each entry of which batches are counted anew: those of a validation inside an epoch by themselves."""


def positions(block: Block, names: Mapping[int, Mapping[str, Any]]) -> Positions:
    """Return where the events of a block fired; `names` are those of its recording."""
    codes = block.code[block.events] & NAME
    call = str(block.run.get("call", "")) if block.run else ""
    if block.loop is None or not len(codes):
        none: Any = np.full(len(codes), -1, np.int64)
        return Positions(call, none, none, codes, names)
    return Positions(call, _counted(block, EPOCHS, FITS), _counted(block, BATCHES, PASSES), codes, names)


def _counted(block: Block, counted: Collection[str], anew: Collection[str]) -> Any:
    """Return for each event the number of the entry of a counted scope that it is in, from 0; -1 where in none.

    Entries are counted from each entry of the innermost scope around them that is in `anew`, else from the run's begin.
    """
    found: Any = np.full(len(block.events), -1, np.int64)
    groups: dict[int, tuple[int, Scope | None, list[int]]] = {}
    for number in block.entered:
        scope, path = block.places.scopes[number], block.places.scope_paths[number]
        if scope.name in counted:
            around = next((one for one in reversed(path) if one.name in anew), None)
            depth = len(path)
            groups.setdefault(id(around), (depth, around, []))[2].append(number)
    for _, around, numbers in sorted(groups.values(), key=lambda group: group[0]):
        entries = [block.entries(number) for number in numbers]
        begins = np.concatenate([begin for begin, _ in entries])
        ends = np.concatenate([end for _, end in entries])
        order = np.argsort(begins, kind="stable")
        begins, ends = _placed(block, begins[order]), ends[order]
        if not len(begins):
            continue
        resets = np.zeros(0, np.int64) if around is None else block.entries(block.places.known_scopes[id(around)])[0]
        since = np.searchsorted(resets, begins, "right") - 1  # the entry of `around` that each is in
        first = np.where(since >= 0, np.searchsorted(begins, resets[np.maximum(since, 0)]) if len(resets) else 0, 0)
        at = np.arange(len(found))
        entry = np.searchsorted(begins, at, "right") - 1
        inside = (entry >= 0) & (at < ends[np.maximum(entry, 0)])
        found[inside] = (np.arange(len(begins)) - first)[entry[inside]]
    return found


def _placed(block: Block, begins: Any) -> Any:
    """Return the first event of each entry that has a place: those before it were only met on the way there."""
    if not len(begins) or (block.node >= 0).all():
        return begins
    placed = np.flatnonzero(block.node >= 0)
    at = np.searchsorted(placed, begins)
    return np.where(at < len(placed), placed[np.minimum(at, len(placed) - 1)], begins)
