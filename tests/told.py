"""What a recording says was fired and called, as the witness of a run tells it; and whether its report adds up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from loopscope.placing import NAME, Block, Placed
from loopscope.report import Report
from loopscope.seen import Call, Fired


def told(placed: Placed) -> list[Fired]:
    """What a recording says was fired and called, in order, as the witness tells it."""
    blocks = [block for _, blocks in placed.lanes for block in blocks if block.parent is None and block.around is None]
    return [one for block in blocks for one in _told(placed, block)]


def apart(placed: Placed) -> list[Fired]:
    """What a recording says other threads saw to for a run: in order within each thread."""
    blocks = [block for _, blocks in placed.lanes for block in blocks if block.around is not None]
    return [one for block in blocks for one in _told(placed, block)]


def ended(report: Report) -> str | None:
    """The exception that left the last run, None if none did; the report must say the same in other words."""
    last = report.endings[-1]
    assert (last.how in ("raised", "interrupted")) == bool(last.exception and last.how != "cancelled")
    return last.exception if last.how in ("raised", "interrupted") else None


def _told(placed: Placed, block: Block) -> list[Fired]:
    names = placed.recording.names

    def raised(code: int) -> str | None:
        return str(names[code >> 32]["exception"]) if code >> 32 else None

    between: dict[int, list[Block]] = {}
    for child in block.children:
        if child.owner < 0:
            between.setdefault(child.gap, []).append(child)
    out: list[Fired] = []
    edges = [*block.events.tolist(), len(block.code)]
    for number, (first, stop) in enumerate(itertools.pairwise(edges)):
        out += [one for child in between.get(number, ()) for one in _told(placed, child)]
        calls = []
        for row in range(first + 1, stop):
            code = int(block.code[row])
            inner = [one for child in block.children if child.owner == row for one in _told(placed, child)]
            calls.append(Call(str(names[code & NAME]["callback"]), raised(code), tuple(inner)))
        out.append(Fired(str(names[int(block.code[first]) & NAME]["event"]), tuple(calls)))
    return out + [one for child in between.get(len(edges) - 1, ()) for one in _told(placed, child)]


def plain(fired: Sequence[Fired]) -> list[Fired]:
    """What the witness saw, without what only it knows."""
    return [
        replace(one, calls=tuple(replace(call, inner=tuple(plain(call.inner)), run=None) for call in one.calls))
        for one in fired
    ]


def sums(report: Report) -> list[str]:
    """What does not add up in a report; nothing if all is well."""
    wrong = [
        f"thread {track.thread}: {track.sum} of {report.wall}" for track in report.tracks if track.sum != report.wall
    ]
    for track in report.tracks:
        if sum(category.total for category in track.categories) != report.wall:
            wrong.append(f"thread {track.thread}: categories")
        for depth, line in track.root.walk():
            if line.stats.total != line.own + sum(child.stats.total for child in line.children):
                wrong.append(f"{depth} {line.name}: {line.stats.total}, own {line.own}")
            if line.own < 0 or line.stats.total < 0 or line.stats.max > max(line.stats.total, 0):
                wrong.append(f"{depth} {line.name}: {line.own} {line.stats}")
            if line.own and not line.category:
                wrong.append(f"{depth} {line.name}: no category")
    return wrong
