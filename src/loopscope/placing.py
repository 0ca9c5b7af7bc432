"""A recording placed: each thread's rows taken apart into runs, each run followed along its loop.

numpy finds the runs, checks that rows lie inside each other as events and handler calls do, and gives equal events
equal numbers; `parse` follows these, and skips over repetitions. Python looks at single rows only where something is
odd. Constraint: memory grows with the rows, and not by more than a few arrays of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopscope import codec
from loopscope.gathering import gathered
from loopscope.model import Binding, Event, Handler, Loop, Scope
from loopscope.parse import Placing, Unexpected, fired_by
from loopscope.places import Bound, Places
from loopscope.recording import Recording, Rows
from loopscope.seen import Call, Fired

NONE, EVENT, HANDLER, RUN = range(4)
KINDS = {"event": EVENT, "handler": HANDLER, "run": RUN}

OPEN = np.iinfo(np.int64).max
NAME = 0xFFFFFFFF


@dataclass(slots=True, eq=False)
class Block:
    """One fit-like call, or events that fired outside of every such call (`run` is None then).

    `code`, `start` and `end` are its own rows: events and handler calls, those of calls inside left out; ends that are
    missing are filled in. `events` are the positions of events among them, `open` those of rows that never ended.
    `lead` is what recording itself took to read the loop before it began, where that happened inside another run.
    `until` is when it was over, `ended` whether it says so itself.
    `owner` is the position of the row of `parent` in which this call was made, -1 if it was made between events.
    """

    lane: Rows
    run: Mapping[str, Any] | None
    begin: int
    stop: int
    row: int
    outcome: str = ""
    ended: bool = True
    parent: Block | None = None
    owner: int = -1
    gap: int = 0
    lead: int = 0
    until: int = 0
    children: list[Block] = field(default_factory=list)
    code: Any = None
    start: Any = None
    end: Any = None
    events: Any = None
    open: Any = None
    node: Any = None
    gaps: Any = None
    entered: dict[int, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    loop: Loop | None = None
    unexpected: list[Unexpected] = field(default_factory=list)
    unexpected_count: int = 0
    unnamed: int = 0  # so many of its handler calls have no place
    apart: dict[str, int] = field(default_factory=dict)  # events of its run that other threads are to see to
    around: Block | None = None  # the run in another thread to which these events belong

    @property
    def parent_ended(self) -> bool:
        """Whether the handler call around it, and so all that it fired, is known to have ended."""
        return self.parent is None or not bool(np.isin(self.owner, self.parent.open))

    def all(self) -> Iterator[Block]:
        """Yield it and those inside it, in the order in which they began."""
        yield self
        for child in self.children:
            yield from child.all()

    def put(self, at: int, nodes: Sequence[int], gaps: Sequence[int], times: int) -> None:
        """Place events, as `parse.Out` describes it."""
        if times == 1 and len(nodes) == 1:
            self.node[at], self.gaps[at] = nodes[0], gaps[0]
            return
        end = at + times * len(nodes)
        self.node[at:end] = np.tile(np.array(nodes, np.int32), times)
        self.gaps[at:end] = np.tile(np.array(gaps, np.int32), times)

    def entries(self, scope: int) -> tuple[Any, Any]:
        """Return the numbers of the first event of each entry of a scope, and of the one behind its last, in order."""
        runs = [one for one in self.entered.get(scope, ()) if one[1] > one[0]]
        steps: Any = [np.arange(times, dtype=np.int64) * every for _, _, every, times in runs]
        begins = np.concatenate([np.zeros(0, np.int64), *(one[0] + by for one, by in zip(runs, steps, strict=True))])
        ends = np.concatenate([np.zeros(0, np.int64), *(one[1] + by for one, by in zip(runs, steps, strict=True))])
        order = np.argsort(begins, kind="stable")
        return begins[order], ends[order]

    def entered_(self, scope: int, begin: int, end: int, every: int, times: int) -> None:
        self.entered.setdefault(scope, []).append((begin, end, every, times))


@dataclass(frozen=True, slots=True)
class Placed:
    """A whole recording: its blocks in the order in which they began, outermost first, by lane.

    `end` is where its time ends (ns): when it was closed, or the last stamp.
    """

    recording: Recording
    lanes: tuple[tuple[Rows, tuple[Block, ...]], ...]
    begin: int
    end: int
    bindings: Mapping[int, Binding]

    def blocks(self) -> Iterator[Block]:
        """Yield every block, those inside others behind them."""
        for _, blocks in self.lanes:
            yield from blocks


def place(recording: Recording) -> Placed:
    """Return the recording with every event and call placed, or named as unexpected: `place(read("run.loop"))`."""
    return _Placer(gathered(recording)).placed()


@dataclass(slots=True)
class _Out:
    block: Block

    def put(self, at: int, nodes: Sequence[int], gaps: Sequence[int], times: int) -> None:
        self.block.put(at, nodes, gaps, times)

    def entered(self, scope: int, begin: int, end: int, every: int, times: int) -> None:
        self.block.entered_(scope, begin, end, every, times)


class _Inner(Sequence[Fired]):
    """The runs that took place inside a handler call, as `Call.inner`."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, at: Any) -> Any:
        raise NotImplementedError


class _Trace:
    """The events of one block, equal ones with equal numbers; `table` has one `Fired` for each number."""

    def __init__(self, numbers: Any, table: list[Fired], single: frozenset[int]) -> None:
        self.numbers: Any = np.append(numbers, np.int32(-1))
        self.listed: list[int] = numbers.tolist()
        self.table = table
        self.single = single

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, at: int) -> Fired:
        return self.table[self.listed[at]]

    def window(self, at: int, length: int) -> bytes | None:
        if at + length > len(self.listed):
            return None
        if self.single and not self.single.isdisjoint(self.listed[at : at + length + 1]):
            return None
        window: bytes = self.numbers[at : at + length + 1].tobytes()
        return window

    def repeats(self, at: int, length: int, most: int) -> int:
        limit = (most - 1) * length + 1
        same, step = 0, max(4 * length, 64)
        while same < limit:
            ahead = self.numbers[at + same + length : at + same + length + step]
            here = self.numbers[at + same : at + same + len(ahead)]
            different = np.flatnonzero(ahead != here)
            if len(different):
                same += int(different[0])
                break
            same += len(ahead)
            if len(ahead) < step:
                break
            step = min(step * 4, 1 << 20)
        return 1 + min(most - 1, max(0, same - 1) // length)


class _Placer:
    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.names = recording.names
        most = max(self.names, default=0) + 1
        self.kinds: Any = np.zeros(most, np.int8)
        for number, name in self.names.items():
            self.kinds[number] = KINDS.get(str(name.get("k")), NONE)
        self.loops: dict[int, Loop | None] = {}
        self.places: dict[tuple[int, int], Places] = {}
        self.bindings: dict[int, Binding] = {}
        self.leads = {
            line["start"]: line["ns"]
            for line in recording.lines
            if line.get("k") == "read" and isinstance(line.get("start"), int) and isinstance(line.get("ns"), int)
        }
        self.others: dict[tuple[int, int], list[int]] = {}
        self.by_handlers: dict[tuple[int, str, str], tuple[Loop, Places]] = {}
        self.hash = np.random.default_rng(7).integers(1, 1 << 63, most, np.uint64) | np.uint64(1)
        self.end = self.last()

    def last(self) -> int:
        """Return when the recording ended: when it stopped early, as it says itself, or at the last stamp."""
        starts = [int(lane.start[-1]) for lane in self.recording.lanes if len(lane.start)]
        least = max(starts, default=self.recording.begin)  # damage, or a thread that had not noticed yet
        stops = [line for line in self.recording.lines if line.get("k") == "stop"]
        for line in [*stops, *reversed(self.recording.lines)]:
            if line.get("k") in ("end", "stop"):
                for key in ("stop_clock", "clock"):
                    clock = line.get(key)
                    if isinstance(clock, int):
                        return max(clock, self.recording.begin, least)
        now = self.recording.now
        return max(self.recording.end, now or 0, self.recording.begin)

    def placed(self) -> Placed:
        found = [(lane, self.blocks(lane)) for lane in self.recording.lanes]
        runs = [block for _, blocks in found for block in blocks if block.run is not None]
        for run in runs:
            run.loop = self.loop(run)
            run.until = self.until(run)
        runs.sort(key=lambda run: run.begin)
        found = [(lane, [part for block in blocks for part in self.parted(block, runs)]) for lane, blocks in found]
        for _, blocks in found:
            for block in blocks:
                self.cut(block)
        outer = [(lane, [block for block in blocks if block.parent is None]) for lane, blocks in found]
        # those first that belong to a run of another thread: how many they are is compared when that run is followed
        for alone in (True, False):
            for _, blocks in outer:
                for block in blocks:
                    if (block.around is not None) is alone:
                        self.follow(block, None)
        for run in runs:
            self.count_apart(run, [b for _, blocks in outer for b in blocks if b.around is run])
        lanes = [(lane, tuple(one for block in blocks for one in block.all())) for lane, blocks in outer]
        return Placed(self.recording, tuple(lanes), self.recording.begin, self.end, self.bindings)

    # -- what other threads do for a run -----------------------------------------------------------------

    def parted(self, block: Block, runs: Sequence[Block]) -> Iterator[Block]:
        """Yield a stray block taken apart by the runs of other threads that its events belong to.

        Of several it is the innermost: `runs` are in the order in which they began.
        """
        lane, first = block.lane, block.row + 1
        codes = lane.code[first : block.stop] & NAME
        rows = np.flatnonzero(self.kinds[codes] == EVENT)
        others = [run for run in runs if run.lane is not lane and run.loop is not None]
        if block.run is not None or not len(rows) or not others:
            yield block
            return
        starts, owner = lane.start[first + rows], np.full(len(rows), -1)
        for number, run in enumerate(others):
            over = run.until if not run.outcome else self.end  # of one that raised, they may still be at it
            low, high = int(np.searchsorted(starts, run.begin)), int(np.searchsorted(starts, over + 1))
            if low < high:
                owner[low:high][np.isin(codes[rows[low:high]], self.handed_over(run))] = number
        edges = [0, *(np.flatnonzero(owner[1:] != owner[:-1]) + 1).tolist(), len(rows)]
        rows[0] = 0  # what stands before the first event stays with it
        for begin, end in itertools.pairwise(edges):
            stop = block.stop if end == len(rows) else first + int(rows[end])
            part = self.stray(lane, first + int(rows[begin]), stop)
            part.around = None if owner[begin] < 0 else others[owner[begin]]
            yield part

    def handed_over(self, run: Block) -> list[int]:
        """Return the codes of the events that other threads see to in a run."""
        assert run.run is not None
        assert run.loop is not None
        key = int(run.run["loop"]), int(run.run["object"])
        if key not in self.others:
            known = {node.name for node in _apart(run.loop.root)}
            self.others[key] = [
                n for n, name in self.names.items() if name.get("event") in known and name.get("object") == key[1]
            ]
        return self.others[key]

    def apart(self, block: Block, trace: _Trace) -> None:
        """Place the events of a block that belongs to a run of another thread: by name, against its binding."""
        run = block.around
        assert run is not None
        assert run.loop is not None
        assert run.run is not None
        block.loop = run.loop
        block.places = self.places.setdefault((int(run.run["loop"]), int(run.run["object"])), Places())
        nodes: dict[str, int] = {}
        for path, node in _paths(run.loop.root):
            if node.how == "apart":
                nodes.setdefault(node.name, block.places.node(node, path))
        table = np.array([nodes[fired.event] for fired in trace.table], np.int32)
        block.node[:] = table[np.array(trace.listed, np.int64)]
        for number, fired in enumerate(trace.table):
            allowed = [one.id for one in run.loop.binding.at(fired.event)]
            for call in fired.calls:
                if call.handler not in allowed:
                    at = trace.listed.index(number)
                    message = f"{fired.event}: {call.handler} was called, which the binding does not name there"
                    block.unexpected.append(Unexpected(at, message))
                    block.unexpected_count += trace.listed.count(number)

    def count_apart(self, run: Block, blocks: Sequence[Block]) -> None:
        """Compare how many events other threads saw to with how many the run left to them."""
        if not run.apart or run.outcome or not run.ended:
            return
        seen: dict[str, int] = {}
        for block in blocks:
            for code, count in zip(*np.unique(block.code[block.events] & NAME, return_counts=True), strict=True):
                name = str(self.names[int(code)].get("event"))
                seen[name] = seen.get(name, 0) + int(count)
        for name in sorted(run.apart.keys() | seen.keys()):
            wanted, found = run.apart.get(name, 0), seen.get(name, 0)
            if wanted != found:
                message = f"expected {name} {wanted} times in other threads, but it fired {found} times"
                run.unexpected.append(Unexpected(len(run.events), message))
                run.unexpected_count += 1

    # -- which rows belong to which run ------------------------------------------------------------------

    def blocks(self, lane: Rows) -> list[Block]:
        """Return the runs of a lane and what lies between them, in the order in which they began."""
        kinds = self.kinds[lane.code & NAME]
        found: list[Block] = []
        stack: list[Block] = []
        at = 0
        count = len(lane.code)
        for row in np.flatnonzero(kinds == RUN).tolist():
            while stack and stack[-1].stop <= row:
                stack.pop()
            if not stack and at < row:
                found.append(self.stray(lane, at, row))
            end = self.over(lane, row)
            stop = int(np.searchsorted(lane.start, end)) if end else count
            name = self.names[int(lane.code[row]) & NAME]
            parent = stack[-1] if stack else None
            block = Block(lane, name, int(lane.start[row]), max(stop, row + 1), row)
            block.outcome, block.ended, block.parent = self.exception(int(lane.code[row])), bool(end), parent
            if parent is not None:
                block.lead = self.lead(lane, row)
                block.stop = min(block.stop, parent.stop)
                parent.children.append(block)
            found.append(block)
            stack.append(block)
            at = max(at, stack[0].stop)
        if at < count:
            found.append(self.stray(lane, at, count))
        return found

    def lead(self, lane: Rows, row: int) -> int:
        """Return how long loopscope read before a run: at most since the row before it, whatever the file says."""
        start, before = int(lane.start[row]), int(lane.end[row - 1])
        since = before if 0 < before <= start else int(lane.start[row - 1])
        return max(0, min(int(self.leads.get(start, 0)), start - since))

    def over(self, lane: Rows, row: int) -> int:
        """Return when the call of a row ended, 0 if not within the recording: its end is stamped where that stopped."""
        end = int(lane.end[row])
        return end if end <= self.end else 0

    def stray(self, lane: Rows, first: int, stop: int) -> Block:
        return Block(lane, None, int(lane.start[first]), stop, first - 1)

    def exception(self, code: int) -> str:
        return str(self.names.get(code >> 32, {}).get("exception", "")) if code >> 32 else ""

    def cut(self, block: Block) -> None:
        """Take a block's own rows out of its lane, and see to it that they lie inside each other."""
        lane, children = block.lane, block.children
        block.until = self.until(block)
        pieces, at, count = [], block.row + 1, 0
        for child in children:
            pieces.append(slice(at, child.row))
            count += child.row - at
            child.owner = count - 1
            at = child.stop
        pieces.append(slice(at, block.stop))
        code, start, end = (_joined(column, pieces) for column in (lane.code, lane.start, lane.end))
        is_event = self.kinds[code & NAME] == EVENT
        self.direct(block, code, start, end, is_event)
        code, start, end, is_event = block.code, block.start, block.end, block.events
        events = np.flatnonzero(is_event)
        if len(events) and events[0]:  # handlers without an event: what was recorded from the middle of one on
            code, start, end = code[events[0] :], start[events[0] :], end[events[0] :]
            for child in children:
                child.owner -= int(events[0])
            events = events - events[0]
        elif not len(events):
            code, start, end = code[:0], start[:0], end[:0]
        block.open = np.flatnonzero(end == 0)
        block.code, block.start, block.events = code, start, events
        block.end = self.closed(block, start, end, events)
        for child in children:
            self.own(block, child)
        children.sort(key=lambda child: child.begin)

    def direct(self, block: Block, code: Any, start: Any, end: Any, is_event: Any) -> None:
        """Move events that a handler fired by itself, with no fit-like call around them, into blocks of their own."""
        while True:
            events = np.flatnonzero(is_event)
            ends = np.where(end[events] == 0, OPEN, end[events])
            inside = np.flatnonzero(start[events[1:]] < ends[:-1])
            if not len(inside):
                break
            first = int(events[inside[0] + 1])
            around = first - 1
            handler = around > int(events[inside[0]]) and (end[around] == 0 or end[around] >= start[first])
            if not handler:  # no handler is open there: the event before just lost its end
                end = end.copy()
                end[events[inside[0]]] = start[first]
                continue
            limit = min(int(end[around]) or OPEN, int(ends[inside[0]]))
            stop = max(first + 1, int(np.searchsorted(start, limit)))
            child = Block(block.lane, None, int(start[first]), stop, -1, parent=block, owner=around)
            child.code, child.start, child.end, child.events = (
                code[first:stop], start[first:stop], end[first:stop], is_event[first:stop]
            )  # fmt: skip
            over = limit if (child.end == 0).any() else int(child.end.max())
            child.children = [one for one in block.children if first <= one.owner < stop and one.begin < over]
            block.children[:] = [one for one in block.children if not any(one is inner for inner in child.children)]
            for inner in child.children:
                inner.parent, inner.owner = child, inner.owner - first
            self.direct(child, child.code, child.start, child.end, child.events)
            events = np.flatnonzero(child.events)
            child.open = np.flatnonzero(child.end == 0)
            child.ended, child.until = False, min(limit, block.until)
            child.events = events
            child.end = self.closed(child, child.start, child.end, events)
            child.until = int(child.end[events[-1]])
            for inner in child.children:
                self.own(child, inner)
            for other in block.children:
                if other.owner >= first:  # behind, or in the same handler once these events were over
                    other.owner = max(other.owner - (stop - first), around)
            block.children.append(child)
            code, start, end, is_event = (
                np.concatenate([column[:first], column[stop:]]) for column in (code, start, end, is_event)
            )
        block.code, block.start, block.end, block.events = code, start, end, is_event

    def until(self, block: Block) -> int:
        """Return when a block was over."""
        if block.run is None:
            stop = block.stop
            return int(block.lane.start[stop]) if stop < len(block.lane.start) else self.end
        end = self.over(block.lane, block.row) or self.end
        return end if block.parent is None else min(end, block.parent.until)

    def closed(self, block: Block, start: Any, end: Any, events: Any) -> Any:
        """Return the ends, those that are missing or too late filled in with the latest that is possible."""
        if not len(start):
            return end
        done = np.where(end == 0, OPEN, end)
        latest = np.empty_like(done)
        latest[:-1] = start[1:]
        latest[-1] = block.until
        done[events] = np.minimum(done[events], np.append(start[events[1:]], block.until))
        last: Any = np.append(events[1:], len(start)) - 1  # the last row of each event: bounded by its event's end
        done[events] = np.maximum(done[events], start[last])  # damage: it ended before its own calls began
        behind = last > events
        latest[last[behind]] = done[events][behind]
        is_event: Any = np.zeros(len(start), bool)
        is_event[events] = True
        done = np.where(is_event, done, np.minimum(done, latest))
        return np.maximum(done, start)

    def own(self, block: Block, child: Block) -> None:
        """Say in which row of `block` a call inside was made: the handler that was open, or none."""
        at = child.owner
        if at < 0 or at >= len(block.start):
            child.owner, child.gap = -1, 0
            return
        is_event = bool(self.kinds[int(block.code[at]) & NAME] == EVENT)
        if is_event or not block.start[at] <= child.begin <= block.end[at]:
            child.owner = -1
            child.gap = int(np.searchsorted(block.start[block.events], child.begin))

    # -- following ---------------------------------------------------------------------------------------

    def follow(self, block: Block, flags: dict[str, bool | None] | None) -> None:
        """Place the events of a block, and of those inside it."""
        events = len(block.events)
        block.node = np.full(events, -1, np.int32)
        block.gaps = np.full(events, -1, np.int32)
        block.loop = self.loop(block)
        trace = self.trace(block)
        if block.around is not None:
            self.apart(block, trace)
            return
        if block.loop is None:
            self.unplaced(block, trace, flags)
            return
        assert block.run is not None
        block.places = self.places.setdefault((int(block.run["loop"]), int(block.run["object"])), Places())
        cut = not block.ended
        opened = bool(events) and bool(np.any(block.open >= block.events[-1]))
        placing = Placing(
            trace, _Out(block), block.places, self.inside, self.bounds(block), cut=cut, opened=opened
        )  # fmt: skip
        known = dict(block.loop.flags)
        if flags is not None:
            flags.update(known)
            known = flags
        placing.place(block.loop, block.outcome or None, known)
        block.unexpected = placing.unexpected
        block.unexpected_count = len(placing.unexpected) + placing.given_up
        block.unnamed = placing.unnamed
        block.apart = placing.apart
        followed = {id(child) for child in block.children if child.node is not None}
        for child in block.children:
            if id(child) not in followed:  # made between events, or in a call that was not placed
                self.follow(child, None)

    def inside(self, call: Call, flags: dict[str, bool | None], handler: Handler | None = None) -> tuple[int, bool]:
        assert isinstance(call.inner, _Inner)
        shaken = False
        for child in call.inner.blocks:
            around = child.parent.loop if child.parent is not None else None
            if child.run is None and handler is not None and handler.inside and around is not None:
                self.fired_inside(child, handler, around, flags)
                continue
            own = self.loop(child)
            apart = own is not None and own.own_flags
            self.follow(child, None if apart else flags)
            shaken = shaken or not apart
        return 0, shaken

    def fired_inside(self, block: Block, handler: Handler, around: Loop, flags: dict[str, bool | None]) -> None:
        """Place what a handler fired by itself, where it may do so; its places are kept by handler."""
        key = id(around), handler.id, handler.event
        if key not in self.by_handlers:
            self.by_handlers[key] = fired_by(handler, around), Places()
        block.loop, block.places = self.by_handlers[key]
        block.node = np.full(len(block.events), -1, np.int32)
        block.gaps = np.full(len(block.events), -1, np.int32)
        raised = self.exception(int(block.parent.code[block.owner])) if block.parent is not None else ""
        placing = Placing(self.trace(block), _Out(block), block.places, self.inside, cut=not block.parent_ended)
        placing.place(block.loop, raised or None, flags)
        block.unexpected, block.unnamed = placing.unexpected, placing.unnamed
        block.unexpected_count = len(placing.unexpected) + placing.given_up

    def unplaced(self, block: Block, trace: _Trace, flags: dict[str, bool | None] | None) -> None:
        """What fired outside of every fit-like call has no place, but for the making of a learner, wherever that is."""
        for at in range(len(trace)):
            event = trace[at].event
            if event == "after_create":
                continue
            where = "a handler" if block.parent is not None else "every recorded call that runs a loop"
            side = "inside" if block.parent is not None else "outside of"
            block.unexpected_count += 1
            block.unnamed += len(trace[at].calls)
            if len(block.unexpected) < 200:
                block.unexpected.append(Unexpected(at, f"{event} fired {side} {where}"))
        for child in block.children:
            self.follow(child, flags)

    def loop(self, block: Block) -> Loop | None:
        if block.run is None:
            return None
        number = block.run.get("loop")
        if not isinstance(number, int):
            return None
        if number not in self.loops:
            self.loops[number] = _decoded(self.names.get(number, {}).get("loop"), Loop)
        return self.loops[number]

    def bounds(self, block: Block) -> list[Bound]:
        """Return the bindings that came into force while this block, and none inside it, was running."""
        assert block.run is not None
        found = []
        for line in self.recording.lines:
            clock = line.get("clock")
            if line.get("k") != "bound" or line.get("object") != block.run.get("object") or not isinstance(clock, int):
                continue
            inner = any(child.run and child.begin <= clock < child.until for child in block.children)
            if inner or not block.begin <= clock < block.until:
                continue
            number = line.get("binding")
            if isinstance(number, int) and number not in self.bindings:
                self.bindings[number] = _decoded(self.names.get(number, {}).get("binding"), Binding) or Binding()
            at = int(np.searchsorted(block.start[block.events], clock, "right")) - 1
            given = line.get("flags")
            flags = {str(name): value for name, value in given.items()} if isinstance(given, dict) else {}
            found.append(Bound(max(at, 0), self.bindings.get(number) if isinstance(number, int) else None, flags))
        return found

    def trace(self, block: Block) -> _Trace:
        """Give equal events equal numbers: the same event with the same calls, in order, with the same ends."""
        code, events = block.code, block.events
        if not len(events):
            return _Trace(np.zeros(0, np.int32), [], frozenset())
        counts: Any = np.diff(np.append(events, len(code)))
        position = np.arange(len(code)) - np.repeat(events, counts)
        weights = np.cumprod(np.full(int(counts.max()) + 1, 0x9E3779B97F4A7C15, np.uint64))
        mixed = self.hash[code & NAME] ^ ((code >> 32).astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F))
        sums = np.add.reduceat(mixed * weights[position], events)
        del mixed, position
        by_event: dict[int, list[Block]] = {}
        for child in block.children:
            if child.owner >= 0:
                by_event.setdefault(int(np.searchsorted(events, child.owner, "right")) - 1, []).append(child)
        for n, at in enumerate(by_event):
            sums[at] ^= np.uint64((n + 1) * 0x100000001B3)
        known, numbers = _numbered(sums)
        first: Any = np.zeros(len(known), np.int64)
        first[numbers[::-1]] = np.arange(len(numbers))[::-1]
        table = [self.fired(block, int(at), by_event.get(int(at), ())) for at in first]
        single = frozenset(int(numbers[at]) for at in by_event)
        return _Trace(numbers, table, single)

    def fired(self, block: Block, at: int, children: Sequence[Block]) -> Fired:
        first = int(block.events[at])
        stop = int(block.events[at + 1]) if at + 1 < len(block.events) else len(block.code)
        calls = []
        event = int(block.code[first])
        fired = self.names[event & NAME].get("event")
        for row in range(first + 1, stop):
            code = int(block.code[row])
            name = self.names[code & NAME]
            who = (
                str(name.get("callback"))
                if name.get("event") == fired
                else f"{name.get('callback')} at {name.get('event')}"
            )
            inner = [child for child in children if child.owner == row]
            calls.append(Call(who, self.exception(code) or None, _Inner(inner) if inner else ()))
        return Fired(str(fired), tuple(calls), self.exception(event) or None)


def _paths(scope: Scope, path: tuple[Scope, ...] = ()) -> Iterator[tuple[tuple[Scope, ...], Event]]:
    """Yield each event below a scope with the scopes around it, outermost first."""
    inner = (*path, scope)
    for node in scope.nodes():
        if isinstance(node, Event):
            yield inner, node
        elif isinstance(node, Scope):
            yield from _paths(node, inner)


def _apart(scope: Scope) -> Iterator[Event]:
    return (node for _, node in _paths(scope) if node.how == "apart")


def _numbered(sums: Any) -> tuple[Any, Any]:
    known = np.unique(sums)
    return known, np.searchsorted(known, sums).astype(np.int32)


def _joined(column: Any, pieces: list[slice]) -> Any:
    return column[pieces[0]] if len(pieces) == 1 else np.concatenate([column[piece] for piece in pieces])


def _decoded(value: Any, wanted: Any) -> Any:
    try:
        return codec.decode(value, wanted)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None  # a damaged line: its runs are shown, and not placed
