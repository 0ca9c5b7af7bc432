"""How each run of a recording ended: finished, cancelled, interrupted, raised, killed, and what stood there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from loopscope.model import Event, Loop, Node, Scope, over
from loopscope.placing import NAME, Block, Placed
from loopscope.positions import Positions, positions
from loopscope.report import At, Ended, Ending, Spoken
from loopscope.views import caught

BEFORE = 20
"""So many calls before the end are told."""

FAR = 2_000
"""So many rows are looked at for the last calls, and for the end of one."""


def endings(placed: Placed) -> tuple[Ending, ...]:
    """Return how the outermost runs of a placed recording ended, in the order in which they began."""
    runs = [block for block in placed.blocks() if block.run is not None and block.parent is None]
    return tuple(_ending(placed, block) for block in sorted(runs, key=lambda block: block.begin))


def _ending(placed: Placed, block: Block) -> Ending:
    assert block.run is not None
    names = placed.recording.names
    where = _Where(names)
    how, exception, at, row = _how(placed, block)
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
        at=_at(placed, at, row, where) if told else At(str(block.run.get("call"))),
        before=tuple(_spoken(placed, block, where, _last_calls(placed, block, stop))) if told else (),
        open=tuple(_open(placed, block, where)) if not block.ended else (),
        cancels=_cancels(placed, block, _own(block, at, row) if block.outcome else -1),
    )


class _Where(dict[int, Positions]):
    """The positions of runs inside each other, each found when it is asked for."""

    def __init__(self, names: Mapping[int, Mapping[str, Any]]) -> None:
        self.names = names

    def at(self, block: Block, row: int, handler: str = "") -> At:
        """Return the position at a row of the lane, in the innermost run that it belongs to."""
        start = int(block.lane.start[row])
        inner = [one for one in block.children if one.begin <= start < one.until and one.row != row]
        if inner:
            return self.at(inner[-1], row, handler)
        event = int(np.searchsorted(block.start[block.events], start, "right")) - 1
        return self.of(block).at(event, handler)

    def of(self, block: Block) -> Positions:
        if id(block) not in self:
            self[id(block)] = positions(block, self.names)
        return self[id(block)]


def _how(placed: Placed, block: Block) -> tuple[Ended, str, Block, int]:
    """Return how a run ended, with which exception, the run inside which it was raised, and by which row of the lane.

    The row is -1 where no handler raised anything.
    """
    if not block.ended:
        state: Mapping[str, Ended] = {"running": "running", "killed": "killed"}
        return state.get(placed.recording.state, "detached"), "", block, -1
    if block.outcome:
        how: Ended = "interrupted" if block.outcome == "KeyboardInterrupt" else "raised"
        return how, block.outcome, *_raiser(block)
    loop = block.loop
    if loop is None or not len(block.events):
        return "finished", "", block, -1
    raised = np.flatnonzero(block.code >> 32)
    for at in reversed(raised.tolist()):
        exception = str(placed.recording.names.get(int(block.code[at]) >> 32, {}).get("exception"))
        if placed.recording.names[int(block.code[at]) & NAME].get("k") == "handler" and _ends_the_run(loop, exception):
            return "cancelled", exception, block, _row(block, at)
        if not _ends_the_run(loop, exception):
            break
    return "finished", "", block, -1


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
    lane, start = block.lane, block.start[at]
    first, stop = (int(np.searchsorted(lane.start, start, side)) for side in ("left", "right"))
    same = np.flatnonzero(lane.code[first:stop] == block.code[at])  # an event may begin with its first call
    return first + (int(same[0]) if len(same) else 0)


def _raiser(block: Block) -> tuple[Block, int]:
    """Return the innermost run that its exception came out of, and the row of the handler (or event) that raised it.

    The row is -1 where the exception came from between events. What a `finally` fires behind it is passed over.
    """
    outcome = int(block.lane.code[block.row]) >> 32
    late = _always(block.loop.root) if block.loop is not None else set()
    edges = [*block.events.tolist(), len(block.code)]
    for number in range(len(block.events) - 1, -1, -1):
        if block.node[number] >= 0 and id(block.places.nodes[int(block.node[number])]) in late:
            continue
        rows = [at for at in range(edges[number], edges[number + 1]) if int(block.code[at]) >> 32 == outcome]
        if not rows:
            break
        inner = [child for child in block.children if child.owner == rows[-1] and child.outcome == block.outcome]
        if inner and inner[-1].run is not None:
            found = _raiser(inner[-1])
            if found[1] >= 0 or inner[-1].ended:
                return found
        return block, _row(block, rows[-1])
    inner = [child for child in block.children[-1:] if child.owner < 0 and child.outcome == block.outcome]
    return _raiser(inner[0]) if inner and inner[0].run is not None else (block, -1)


def _always(node: Node) -> set[int]:
    """Return the events, by identity, that fire behind an exception on its way out."""
    if not isinstance(node, Scope):
        return set()
    own = {id(one) for one in node.exit if isinstance(one, Event)} if node.always else set()
    for catch in node.catches:
        own |= {id(one) for one in catch.body if isinstance(one, Event) and catch.then == "raise"}
    return own.union(*(_always(one) for one in node.nodes()))


def _stop(block: Block, row: int, how: Ended) -> int:
    """Return the row behind the last call that is told."""
    return block.stop if row < 0 or how in ("killed", "running", "detached") else row + 1


def _own(block: Block, inner: Block, row: int) -> int:
    """Return the row of `block` itself out of which an exception came that was raised by a row of a run inside it."""
    while inner is not block and inner.parent is not None:
        row = _row(inner.parent, inner.owner) if inner.owner >= 0 else -1
        inner = inner.parent
    return row


def _at(placed: Placed, block: Block, row: int, where: _Where) -> At:
    names = placed.recording.names
    if row < 0:
        opened = [one for one in _open_rows(block) if names[int(block.lane.code[one]) & NAME].get("k") == "handler"]
        if not opened:
            return where.of(block).at(len(block.events) - 1)
        row = opened[-1]
    name = names[int(block.lane.code[row]) & NAME]
    return where.at(block, row, handler_name(name) if name.get("k") == "handler" else "")


def handler_name(name: Mapping[str, Any]) -> str:
    """Return how a handler is called in a report: `Recorder.after_batch`, and `say` for a plain function."""
    cls, method = name.get("cls"), name.get("method")
    return str(cls) if cls == method else f"{cls}.{method}"


def _spoken(placed: Placed, block: Block, where: _Where, rows: Any) -> Iterator[Spoken]:
    names, lane = placed.recording.names, block.lane
    for row in rows:
        code = int(lane.code[row])
        name = names[code & NAME]
        if name.get("k") == "run":
            continue
        end = _end(placed, block, row)
        yield Spoken(
            str(name.get("event")),
            handler_name(name) if name.get("k") == "handler" else "",
            int(lane.start[row]) - placed.begin,
            end - int(lane.start[row]) if end else None,
            str(names.get(code >> 32, {}).get("exception", "")) if code >> 32 else "",
            where.at(block, row),
        )


def _last_calls(placed: Placed, block: Block, stop: int) -> list[int]:
    """Return the last rows of a lane before `stop`, but for the edges of enclosing calls: nothing is called there."""
    names = placed.recording.names
    edges = [number for number, name in names.items() if name.get("edge")]
    first = max(block.row + 1, stop - FAR)
    rows: list[int] = (np.flatnonzero(~np.isin(block.lane.code[first:stop] & NAME, edges)) + first).tolist()
    return rows[-BEFORE:]


def _end(placed: Placed, block: Block, row: int) -> int:
    """Return when the call of a row ended, 0 if it is not known: one that encloses others ends at its other edge."""
    names, lane = placed.recording.names, block.lane
    name = names[int(lane.code[row]) & NAME]
    if not name.get("encloses"):
        return int(lane.end[row])
    wanted = [n for n, one in names.items() if one.get("event") == over(str(name.get("event")))]
    found = np.flatnonzero(np.isin(lane.code[row : row + FAR] & NAME, wanted))
    return int(lane.start[row + int(found[0])]) if len(found) else 0


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


def _open(placed: Placed, block: Block, where: _Where) -> Iterator[Spoken]:
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
