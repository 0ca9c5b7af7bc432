"""How each run of a recording ended: finished, cancelled, interrupted, raised, killed, and what stood there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from loopscope.model import Loop, Scope
from loopscope.placing import NAME, Block, Placed
from loopscope.positions import Positions, positions
from loopscope.report import At, Ended, Ending, Spoken
from loopscope.views import caught

BEFORE = 20
"""So many calls before the end are told."""


def endings(placed: Placed) -> tuple[Ending, ...]:
    """Return how the outermost runs of a placed recording ended, in the order in which they began."""
    runs = [block for block in placed.blocks() if block.run is not None and block.parent is None]
    return tuple(_ending(placed, block) for block in sorted(runs, key=lambda block: block.begin))


def _ending(placed: Placed, block: Block) -> Ending:
    assert block.run is not None
    names = placed.recording.names
    where = positions(block, names)
    how, exception, row = _how(placed, block)
    told = how != "finished"
    learner = names.get(int(block.run.get("object", 0)), {})
    stop = _stop(block, row, how)
    return Ending(
        run=str(block.run.get("call")),
        learner=f"{learner.get('cls', '')} {learner.get('number', '')}".strip(),
        how=how,
        start=block.begin - placed.begin,
        wall=block.until - block.begin,
        exception=exception,
        message=_message(placed, block) if how in ("raised", "interrupted") else "",
        at=_at(placed, block, row, where) if told else At(str(block.run.get("call"))),
        before=tuple(_spoken(placed, block, where, range(max(block.row + 1, stop - BEFORE), stop))) if told else (),
        open=tuple(_open(placed, block, where)) if not block.ended else (),
        cancels=_cancels(placed, block, row if how == "raised" else -1),
    )


def _how(placed: Placed, block: Block) -> tuple[Ended, str, int]:
    """Return how a run ended, with which exception, and the row (of its lane) of the handler that raised it, or -1."""
    if not block.ended:
        state: Mapping[str, Ended] = {"running": "running", "killed": "killed"}
        return state.get(placed.recording.state, "detached"), "", -1
    if block.outcome:
        return "interrupted" if block.outcome == "KeyboardInterrupt" else "raised", block.outcome, _raiser(block)
    loop = block.loop
    if loop is None or not len(block.events):
        return "finished", "", -1
    raised = np.flatnonzero(block.code >> 32)
    for at in reversed(raised.tolist()):
        exception = str(placed.recording.names.get(int(block.code[at]) >> 32, {}).get("exception"))
        if placed.recording.names[int(block.code[at]) & NAME].get("k") == "handler" and _ends_the_run(loop, exception):
            return "cancelled", exception, _row(block, at)
        if not _ends_the_run(loop, exception):
            break
    return "finished", "", -1


def _ends_the_run(loop: Loop, exception: str) -> bool:
    """Return whether the outermost scope that catches anything catches this: then the run is over."""
    scope: Scope | None = loop.root
    while scope is not None:
        if any(caught(catch, exception) for catch in scope.catches):
            return exception in loop.cancels
        inner = [node for node in scope.nodes() if isinstance(node, Scope)]
        scope = inner[0] if len(inner) == 1 and not scope.catches else None
    return False


def _row(block: Block, at: int) -> int:
    """Return the row in its lane of a block's own row."""
    return int(np.searchsorted(block.lane.start, block.start[at]))


def _raiser(block: Block) -> int:
    """Return the row of the innermost handler that the exception came out of, -1 where it came from between events."""
    code, end = block.lane.code, block.lane.end
    outcome = int(code[block.row]) >> 32
    for row in range(min(block.stop, len(code)) - 1, block.row, -1):
        if int(code[row]) >> 32 == outcome:
            return row
        if end[row] and int(code[row]) >> 32 == 0:
            break
    return -1


def _stop(block: Block, row: int, how: Ended) -> int:
    """Return the row behind the last call that is told."""
    return block.stop if row < 0 or how in ("killed", "running", "detached") else row + 1


def _at(placed: Placed, block: Block, row: int, where: Positions) -> At:
    names = placed.recording.names
    lane = block.lane
    if row < 0:
        opened = [one for one in _open_rows(block) if names[int(lane.code[one]) & NAME].get("k") == "handler"]
        if not opened:
            return where.at(len(block.events) - 1)
        row = opened[-1]
    name = names[int(lane.code[row]) & NAME]
    event = int(np.searchsorted(block.start[block.events], lane.start[row], "right")) - 1
    handler = handler_name(name) if name.get("k") == "handler" else ""
    found = where.at(event, handler)
    return At(found.run, found.epoch, found.batch, str(name.get("event", found.event)), handler)


def handler_name(name: Mapping[str, Any]) -> str:
    """Return how a handler is called in a report: `Recorder.after_batch`."""
    return f"{name.get('cls')}.{name.get('method')}"


def _spoken(placed: Placed, block: Block, where: Positions, rows: Any) -> Iterator[Spoken]:
    names, lane = placed.recording.names, block.lane
    for row in rows:
        code = int(lane.code[row])
        name = names[code & NAME]
        if name.get("k") == "run":
            continue
        event = int(np.searchsorted(block.start[block.events], lane.start[row], "right")) - 1
        end = int(lane.end[row])
        yield Spoken(
            str(name.get("event")),
            handler_name(name) if name.get("k") == "handler" else "",
            int(lane.start[row]) - placed.begin,
            end - int(lane.start[row]) if end else None,
            str(names.get(code >> 32, {}).get("exception", "")) if code >> 32 else "",
            where.at(event),
        )


def _open_rows(block: Block) -> list[int]:
    """Return the rows (of its lane) of the calls in a run that were under way at the end, outermost first.

    A row that never ended, but lies before others that did, lost its end to an interrupt and is not one of these.
    """
    if not len(block.events):
        return []
    last = int(block.events[-1]), len(block.code) - 1
    found = [_row(block, at) for at in block.open.tolist() if at in last]
    for child in block.children[-1:]:
        if not child.ended and child.run is not None:
            found += [child.row, *_open_rows(child)]
    return found


def _open(placed: Placed, block: Block, where: Positions) -> Iterator[Spoken]:
    yield from _spoken(placed, block, where, _open_rows(block))


def _message(placed: Placed, block: Block) -> str:
    run = int(block.lane.code[block.row]) & NAME
    lines = [line for line in placed.recording.lines if line.get("k") == "left" and line.get("run") == run]
    near = [
        line for line in lines if isinstance(line.get("clock"), int) and block.begin <= line["clock"] <= block.until
    ]
    return str(near[-1].get("message", "")) if near else ""


def _cancels(placed: Placed, block: Block, left: int) -> Mapping[tuple[str, str], int]:
    """Count the exceptions of handlers that were caught, by exception and handler; that of row `left` was not."""
    names = placed.recording.names
    codes, counts = np.unique(block.code[np.flatnonzero(block.code >> 32)], return_counts=True)
    uncaught = int(block.lane.code[left]) if left >= 0 else 0
    found = {
        (str(names.get(code >> 32, {}).get("exception")), handler_name(names[code & NAME])): count - (code == uncaught)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        if names[code & NAME].get("k") == "handler"
    }
    return {what: count for what, count in found.items() if count}
