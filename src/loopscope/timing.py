"""A placed recording as a `Report`: every nanosecond in exactly one row, how each run ended, what was unexpected.

>>> report = reported(place(read("run.loop")))  # doctest: +SKIP

Constraint: integer arithmetic only, so that the rows sum to the wall time exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from loopscope.endings import endings, handler_name
from loopscope.model import Event, Handler, Loop, Node, Scope, Step
from loopscope.parse import Gap, Places
from loopscope.placing import NAME, Block, Placed
from loopscope.positions import positions
from loopscope.report import Category, Cost, Line, LineKind, Report, Stats, Track, Unplaced, Warmup

DATA = ("draw a batch", "move to device", "split into xb and yb")
COMPUTE = ("forward", "loss", "backward", "optimizer step", "zero_grad")
CATEGORIES = ("data", *COMPUTE, "handlers", "dispatch", "between events", "framework", "outside")
"""The rows of the summary, in the order in which they are read."""

EARLY = 10
"""The first so many training batches of a run are its warm-up."""


def reported(placed: Placed) -> Report:
    """Return what `loopscope report` shows of a placed recording."""
    recording = placed.recording
    tracks = [_Builder(placed, blocks).track(lane.thread) for lane, blocks in placed.lanes]
    if not tracks:
        wall = placed.end - placed.begin
        outside = Line("outside", "outside", Stats(1, wall, wall, wall, wall), wall, "outside")
        tracks = [Track("", Line("thread", "", outside.stats, children=(outside,)), _categories([outside]))]
    root_lines = [line for track in tracks for _, line in track.root.walk()]
    placed_events = sum(int((block.node >= 0).sum()) for block in placed.blocks() if block.node is not None)
    unplaced = list(_unplaced(placed))
    own = _by_category(root_lines)
    events = sum(len(block.events) for block in placed.blocks())
    calls = sum(len(block.code) - len(block.events) for block in placed.blocks())
    return Report(
        path=recording.path,
        state=_state(recording.state),
        wall=placed.end - placed.begin,
        header=_header(placed),
        tracks=tuple(tracks),
        endings=endings(placed),
        events=placed_events + _created(placed),
        calls=calls,
        unexpected=tuple(unplaced),
        unexpected_count=sum(block.unexpected_count for block in placed.blocks()),
        slowest=tuple(sorted(_told_apart(tracks), key=lambda line: -line.own)),
        warmups=tuple(_warmups(placed)),
        data=own.get("data", 0),
        compute=sum(own.get(name, 0) for name in COMPUTE),
        cost=_cost(placed, events, calls),
        heads=tuple(_heads(placed, len(tracks))),
        losses=tuple(recording.losses),
        spans=recording.spans,
        size=recording.size,
    )


def head(placed: Placed) -> Report:
    """Return what can be said at once of a long recording: how its runs ended, or what is open."""
    recording = placed.recording
    return Report(
        path=recording.path,
        state=_state(recording.state),
        wall=placed.end - placed.begin,
        header=_header(placed),
        tracks=(),
        endings=endings(placed),
    )


def _header(placed: Placed) -> Mapping[str, object]:
    """Return the file's header with the versions of frameworks that were only met while it was written."""
    versions: dict[str, object] = {}
    for line in (placed.recording.header, *placed.recording.lines):
        found = line.get("versions") if line.get("k") in (None, "header", "versions") else None
        versions.update(found if isinstance(found, dict) else {})
    return {**placed.recording.header, **({"versions": versions} if versions else {})}


def _told_apart(tracks: Sequence[Track]) -> Iterator[Line]:
    """Yield the handlers of all trees; one that stands in several places gets a note that says which it is."""
    found: dict[tuple[str, str], list[tuple[tuple[str, ...], Line]]] = {}
    for track in tracks:
        for path, line in _handlers(track.root, ()):
            found.setdefault((line.name, line.callback), []).append((path, line))
    for places in found.values():
        common = set.intersection(*(set(path) for path, _ in places))
        for path, line in places:
            yield replace(line, note=", ".join(name for name in path if name not in common))


def _handlers(line: Line, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Line]]:
    if line.kind == "handler":
        yield path, line
    below = (*path, line.name) if line.kind != "event" else path
    for child in line.children:
        yield from _handlers(child, below)


def _state(state: str) -> Literal["closed", "running", "killed"]:
    return "running" if state == "running" else "killed" if state == "killed" else "closed"


def _created(placed: Placed) -> int:
    """Return the events outside of every run that have a place there: the making of a learner."""
    strays = [block for block in placed.blocks() if block.run is None]
    return sum(len(block.events) for block in strays) - sum(block.unexpected_count for block in strays)


def _unplaced(placed: Placed) -> Iterable[Unplaced]:
    for _, blocks in placed.lanes:
        odd = [block for block in blocks if block.unexpected]
        starts = np.sort(np.concatenate([block.start[block.events] for block in blocks])) if odd else None
        for block in odd:
            where = positions(block, placed.recording.names)
            own = block.start[block.events]
            for one in block.unexpected:
                begin = own[one.position] if one.position < len(own) else block.until
                yield Unplaced(int(np.searchsorted(starts, begin)), one.message, where.at(one.position))


def _cost(placed: Placed, events: int, calls: int) -> Cost:
    end: Mapping[str, Any] = next((line for line in reversed(placed.recording.lines) if line.get("k") == "end"), {})
    found: Any = end.get("cost")
    cost: Mapping[str, Any] = found if isinstance(found, dict) else {}
    known = {
        name: float(cost[name]) for name in ("per_event", "per_call", "clock", "dispatch") if _number(cost.get(name))
    }
    theirs = cost.get("framework_dispatch")
    reading = end.get("reading")
    return Cost(
        events,
        calls,
        **known,
        reading=reading if isinstance(reading, int) else 0,
        framework_dispatch=float(theirs) if _number(theirs) else None,  # type: ignore[arg-type]
        callbacks=cost["callbacks"] if isinstance(cost.get("callbacks"), int) else 0,
    )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12


def _heads(placed: Placed, threads: int) -> Iterable[str]:
    devices = {str(name.get("device")) for name in placed.recording.names.values() if name.get("k") == "object"}
    if any(device.startswith("cuda") for device in devices):
        yield (
            "times are the host's: kernels run on the GPU meanwhile, and are billed to whoever waits for them first "
            "(the handlers marked as waiting do; nothing was synchronised for this recording)"
        )
    if threads > 1:
        yield f"{threads} threads were recorded: each has a tree of its own, and each sums to the wall time"


def _warmups(placed: Placed) -> Iterable[Warmup]:
    for block in placed.blocks():
        if block.run is None or block.parent is not None or not len(block.events):
            continue
        for number, scope in enumerate(block.places.scopes):
            path = [one.name for one in block.places.scope_paths[number]]
            if scope.name != "batch" or "train" not in path:
                continue
            took = Timed(block).entries(number)
            if len(took) >= 2 * EARLY:
                early, rest = took[:EARLY], took[EARLY:]
                yield Warmup(
                    str(block.run.get("call")),
                    int(took[0]),
                    int(np.median(early)),
                    len(early),
                    int(np.median(rest)),
                    len(rest),
                )


def _by_category(lines: Iterable[Line]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        if line.category:
            found[line.category] = found.get(line.category, 0) + line.own
    return found


def _categories(lines: Sequence[Line]) -> tuple[Category, ...]:
    own = _by_category(lines)
    count = {name: sum(line.stats.count for line in lines if line.category == name) for name in own}
    return tuple(Category(name, count[name], own[name]) for name in CATEGORIES if name in own)


# -- what lies between two events --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Between:
    """What a gap is called, in which category it counts, and in which scope it stands (the innermost last)."""

    name: str
    category: str
    path: tuple[Scope, ...]


def between(gap: Gap, places: Places, loop: Loop | None) -> _Between:
    """Name the stretch before an event: by its step where the framework's own code takes exactly one there.

    Where a loop is overridden, a step's name may be wrong: the stretch is then called by the events around it.
    """
    before = () if gap.before is None else places.paths[places.known_nodes[id(gap.before)]]
    after = () if gap.after is None else places.paths[places.known_nodes[id(gap.after)]]
    common = tuple(one for one, other in zip(before, after, strict=False) if one is other)
    if gap.before is None:
        common = after[:1]
    steps = [] if gap.raised else list(gap.steps)
    home = loop.home if loop is not None else ""
    foreign = [step for step, _ in steps if step.place is None or not home or not step.place.file.startswith(home)]
    words = list(dict.fromkeys("data" if step.name in DATA else step.name for step, _ in steps if _known(step)))
    if foreign and (words or len(foreign) == len(steps)) and gap.before is not None and gap.after is not None:
        return _Between(f"{gap.before.name} → {gap.after.name}", "between events", common)
    if len(words) == 1:
        path = next(path for step, path in steps if _known(step))
        return _Between(words[0], words[0], path)
    if words and gap.before is not None and gap.after is not None:
        return _Between(f"{gap.before.name} → {gap.after.name}", "between events", common)
    return _Between("framework", "framework", common)


def _known(step: Step) -> bool:
    return step.name in DATA or step.name in COMPUTE


# -- durations ---------------------------------------------------------------------------------------------


class Timed:
    """The durations of one block, each nanosecond of it once: events, calls, what lies between, and calls inside.

    `gaps` are those before each event, `tail` the one behind the last, both without runs that took place there;
    `dispatch` is what of each event no handler took. `calls` are the rows of handler calls, `took` their durations,
    `owner` the number of the event of each, `inside` what nested runs took of a call, by its number.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        start, end, events = block.start, block.end, block.events
        self.begins, self.ends = start[events], end[events]
        last = int(self.ends[-1]) if len(events) else block.begin
        self.gaps = self.begins - np.append(np.int64(block.begin), self.ends[:-1])[: len(events)]
        self.tail = block.until - last
        self.events = self.ends - self.begins
        handlers: Any = np.ones(len(start), bool)
        handlers[events] = False
        self.calls: Any = np.flatnonzero(handlers).astype(np.int32 if len(start) < 1 << 31 else np.int64)
        self.took = end[self.calls] - start[self.calls]
        counts: Any = np.diff(np.append(events, len(start))) - 1
        self.owner: Any = np.repeat(np.arange(len(events), dtype=np.int32), counts)
        running: Any = np.append(np.int64(0), np.cumsum(self.took))
        edges: Any = np.append(np.int64(0), np.cumsum(counts))
        self.dispatch = self.events - (running[edges[1:]] - running[edges[:-1]])
        self.inside: dict[int, int] = {}
        for child in block.children:
            took = child.until - child.begin
            if child.owner >= 0:
                at = int(np.searchsorted(self.calls, child.owner))
                self.inside[at] = self.inside.get(at, 0) + took
            elif child.gap < len(events):
                self.gaps[child.gap] -= took
            else:
                self.tail -= took

    def entered(self, scope: int) -> tuple[Any, Any]:
        """Return the numbers of the first event of each entry of a scope, and of the one behind its last."""
        runs = [one for one in self.block.entered.get(scope, ()) if one[1] > one[0]]
        steps: Any = [np.arange(times, dtype=np.int64) * every for _, _, every, times in runs]
        begins = np.concatenate([np.zeros(0, np.int64), *(one[0] + by for one, by in zip(runs, steps, strict=True))])
        ends = np.concatenate([np.zeros(0, np.int64), *(one[1] + by for one, by in zip(runs, steps, strict=True))])
        order = np.argsort(begins, kind="stable")
        return begins[order], ends[order]

    def leads(self, scope: int, begins: Any) -> Any:
        """Return whether what lies before these events belongs to the scope that they begin: drawing the batch, say."""
        places, one = self.block.places, self.block.places.scopes[scope]
        rows = [any(inner is one for inner in between(gap, places, self.block.loop).path) for gap in places.gaps]
        return np.array([*rows, False], bool)[self.block.gaps[begins]]

    def entries(self, scope: int) -> Any:
        """Return how long each entry of a scope took: from its first event to its last, and what led to it."""
        begins, ends = self.entered(scope)
        led = np.where(self.leads(scope, begins), self.gaps[begins], 0)
        return self.ends[ends - 1] - self.begins[begins] + led


def stats(took: Any) -> Stats:
    """Return the figures of a row: `stats(np.array([3, 5]))`, in ns; p50 and p99 are durations that occurred."""
    count = len(took)
    if not count:
        return Stats(0, 0, 0, 0, 0)
    ranks = (count - 1) // 2, min(count - 1, -(-count * 99 // 100) - 1)
    ordered = np.partition(took, ranks)
    return Stats(count, int(took.sum()), int(ordered[ranks[0]]), int(ordered[ranks[1]]), int(took.max()))


def grouped(keys: Any, *columns: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield each key with its part of every column: `dict(grouped(np.array([1, 0, 1]), durations))`."""
    if not len(keys):
        return
    known, small = _numbered(keys)
    order = np.argsort(small, kind="stable").astype(np.int32 if len(keys) < 1 << 31 else np.int64)
    edges = np.cumsum(np.bincount(small)).tolist()
    for key, first, stop in zip(known.tolist(), [0, *edges], edges, strict=False):
        rows = order[first:stop]
        yield key, tuple(column[rows] for column in columns)


def _numbered(keys: Any) -> tuple[Any, Any]:
    """Return the different keys in order, and for each key its number among them, in as few bytes as that takes."""
    if int(keys.min()) >= 0 and int(keys.max()) < 1 << 22:  # faster than sorting where they are few and small
        known = np.flatnonzero(np.bincount(keys))
        kind = np.uint16 if len(known) < 1 << 16 else np.int32
        table: Any = np.zeros(int(keys.max()) + 1, kind)
        table[known] = np.arange(len(known))
        return known, table[keys]
    known = np.unique(keys)
    return known, np.searchsorted(known, keys)


def _all(arrays: Sequence[Any]) -> Any:
    """Return one array of all; of one, that itself: a long run is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


# -- the tree ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Group:
    """Runs of one loop of one object, in one place: their durations go into the same rows."""

    loop: Loop | None
    places: Places
    call: str
    learner: str
    device: str = ""
    timed: list[Timed] = field(default_factory=list)
    inner: dict[tuple[int, int] | None, dict[object, _Group]] = field(default_factory=dict)


class _Builder:
    """The tree of one thread."""

    def __init__(self, placed: Placed, blocks: Sequence[Block]) -> None:
        self.placed = placed
        self.names = placed.recording.names
        self.strays = _Group(None, Places(), "events outside of every run", "")
        self.groups: dict[object, _Group] = {}
        homes: dict[int, _Group] = {}
        timed: dict[int, Timed] = {}
        for block in blocks:
            timed[id(block)] = Timed(block)
            store = self.groups
            if block.parent is not None:
                store = homes[id(block.parent)].inner.setdefault(self.owner(block), {})
            elif block.run is None:
                homes[id(block)] = self.strays
                self.strays.timed.append(timed[id(block)])
                continue
            homes[id(block)] = self.group(store, block)
            homes[id(block)].timed.append(timed[id(block)])

    def owner(self, block: Block) -> tuple[int, int] | None:
        """Return the row, (node, name), of the handler inside which a run took place; None: between events."""
        parent = block.parent
        assert parent is not None
        if block.owner < 0:
            return None
        event = int(np.searchsorted(parent.events, block.owner, "right")) - 1
        return self.node(parent, event), int(parent.code[block.owner]) & NAME

    def node(self, block: Block, event: int) -> int:
        """Return the number of an event's row: that of its node; behind those that of its name, if it has no place."""
        node = int(block.node[event])
        return node if node >= 0 else UNPLACED + (int(block.code[block.events[event]]) & NAME)

    def group(self, store: dict[object, _Group], block: Block) -> _Group:
        run = block.run or {}
        key = run.get("loop"), run.get("object"), run.get("call")
        if key not in store:
            subject = self.names.get(int(run.get("object", 0)), {})
            learner = f"{subject.get('cls', '')} {subject.get('number', '')}".strip()
            call = str(run.get("call", "events that no run fired"))
            store[key] = _Group(block.loop, block.places, call, learner, str(subject.get("device", "")))
        return store[key]

    def track(self, thread: str) -> Track:
        lines = [self.run(group) for group in self.groups.values()]
        wall = self.placed.end - self.placed.begin
        if self.strays.timed:
            lines.append(self.run(self.strays, stray=True))
        rest = wall - sum(line.stats.total for line in lines)
        outside = Line("outside", "outside", Stats(1, rest, rest, rest, rest), rest, "outside")
        root = Line("thread", thread, Stats(1, wall, wall, wall, wall), children=(*lines, outside))
        return Track(thread, root, _categories([line for _, line in root.walk()]))

    def run(self, group: _Group, stray: bool = False) -> Line:
        rows = _Rows(self, group, stray)
        lengths = [one.block.until - one.block.begin for one in group.timed]
        if stray:
            lengths = [int(one.events.sum()) for one in group.timed]
        children = rows.children()
        return Line("run", group.call, stats(np.array(lengths, np.int64)), note=group.learner, children=children)


UNPLACED = 1 << 20
"""Events without a place have row numbers from here on."""


class _Rows:
    """The rows of one group: durations by node, by handler, and by what lies between events."""

    def __init__(self, builder: _Builder, group: _Group, stray: bool) -> None:
        self.builder, self.group, self.names = builder, group, builder.names
        self.facts = self.handlers_by_name()
        timed = group.timed
        nodes = [self.nodes(one.block) for one in timed]
        events, dispatch = _all([one.events for one in timed]), _all([one.dispatch for one in timed])
        self.events = dict(grouped(_all(nodes), events, dispatch))
        self.handlers: dict[int, list[Line]] = {}
        self.calls(nodes)
        self.steps: dict[tuple[tuple[int, ...], str], list[Any]] = {}
        self.leads: dict[tuple[tuple[int, ...], str], tuple[_Between, Event | None]] = {}
        self.shown: set[tuple[tuple[int, ...], str]] = set()
        if not stray:
            self.between()

    def nodes(self, block: Block) -> Any:
        codes = (block.code[block.events] & NAME).astype(np.int64)
        placed = block.node if block.node is not None else np.full(len(codes), -1)
        return np.where(placed >= 0, placed, UNPLACED + codes)

    def handlers_by_name(self) -> dict[tuple[str, str], Handler]:
        """Return (event, callback) -> what the map knows of it, the bindings that came later included."""
        loop = self.group.loop
        bindings = [*([loop.binding] if loop else []), *self.builder.placed.bindings.values()]
        return {
            (event, one.id): one
            for found in reversed(bindings)
            for event, ones in found.handlers.items()
            for one in ones
        }

    def calls(self, nodes: Sequence[Any]) -> None:
        timed = self.group.timed
        most = max(self.names, default=0) + 1
        keys = _all(
            [own[one.owner] * most + (one.block.code[one.calls] & NAME) for own, one in zip(nodes, timed, strict=True)]
        )
        if not len(keys):
            return
        known, small = _numbered(keys)
        del keys  # 8 bytes for each call, of tens of millions perhaps
        nested, unclosed = [0] * len(known), [0] * len(known)
        base = 0
        for one in timed:
            for at, ns in one.inside.items():
                nested[small[base + at]] += ns
            for at in _found(one.calls, one.block.open):
                unclosed[small[base + at]] += 1
            base += len(one.calls)
        raised = self.raised(small)
        for at, (took,) in grouped(small, _all([one.took for one in timed])):
            node, name = divmod(int(known[at]), most)
            line = self.handler(node, name, took, nested[at])
            line = replace(line, open=unclosed[at], raised=raised.get(at, {}))
            self.handlers.setdefault(node, []).append(line)

    def handler(self, node: int, number: int, took: Any, nested: int) -> Line:
        name = self.names[number]
        fact = self.facts.get((str(name.get("event")), str(name.get("callback"))))
        inner = self.group.inner.get((node, number), {})
        figures = stats(took)
        elsewhere = not self.group.device.startswith("cpu")  # on the CPU there is nothing to wait for
        waits = [one.text for one in fact.facts if one.kind == "wait"] if fact and elsewhere else []
        return Line(
            "handler",
            handler_name(name),
            figures,
            figures.total - nested,
            "handlers",
            callback=str(name.get("callback")),
            place=str(fact.place) if fact and fact.place else "",
            doc=(fact.doc() or "") if fact else "",
            waits=waits[0] if waits else "",
            children=tuple(self.builder.run(group) for group in inner.values()),
        )

    def raised(self, small: Any) -> Mapping[int, Mapping[str, int]]:
        """Return for each handler, by its number, how often it ended with which exception."""
        base, found = 0, []
        for one in self.group.timed:
            codes = one.block.code[one.calls]
            rows = np.flatnonzero(codes > NAME)
            found.append(small[base + rows].astype(np.int64) << 32 | codes[rows] >> 32)
            base += len(codes)
        keys, counts = np.unique(np.concatenate(found), return_counts=True)
        raised: dict[int, dict[str, int]] = {}
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            exception = str(self.names.get(key & NAME, {}).get("exception"))
            raised.setdefault(key >> 32, {})[exception] = count
        return raised

    def between(self) -> None:
        """Collect what lies between events, by its scope and its name."""
        group = self.group
        names = [between(gap, group.places, group.loop) for gap in group.places.gaps]
        gaps = _all([one.block.gaps for one in group.timed])
        took = _all([one.gaps for one in group.timed])
        root = (group.loop.root,) if group.loop is not None else ()
        for number, (durations,) in grouped(gaps + 1, took):
            lies = names[number - 1] if number else _Between("framework", "framework", root)
            after = group.places.gaps[number - 1].after if number else None
            self.step(lies, after, durations)
        tails = np.array([one.tail for one in group.timed], np.int64)
        self.step(_Between("framework", "framework", root), None, tails)

    def step(self, lies: _Between, after: Event | None, durations: Any) -> None:
        key = tuple(map(id, lies.path)), lies.name
        self.steps.setdefault(key, []).append(durations)
        self.leads.setdefault(key, (lies, after))

    def children(self) -> tuple[Line, ...]:
        """Return the lines below a run: its scopes as they stand in the loop, and what has no place there."""
        lines = list(self.scope(self.group.loop.root, ())) if self.group.loop is not None else []
        lines += [self.event(node, None) for node in sorted(self.events) if node >= UNPLACED]
        lines += [self.step_line(lies, key) for key, (lies, _) in self.leads.items() if key not in self.shown]
        lines += [self.builder.run(group) for group in self.group.inner.get(None, {}).values()]
        return tuple(lines)

    def scope(self, scope: Scope, around: tuple[Scope, ...]) -> Iterator[Line]:
        """Yield the lines below a scope, steps before the events that they lead to."""
        path = (*around, scope)
        mine = [(lies, after, key) for key, (lies, after) in self.leads.items() if key[0] == tuple(map(id, path))]
        for node in scope.nodes():
            inside = set(_events_below(node))
            for lies, after, key in mine:
                if after is not None and id(after) in inside and lies.category != "framework":
                    yield self.step_line(lies, key)
            if isinstance(node, Event):
                number = self.group.places.known_nodes.get(id(node))
                if number in self.events:
                    yield self.event(number, node)
            elif isinstance(node, Scope):
                yield from self.scope_line(node, path)
        for lies, _, key in mine:
            if lies.category == "framework":
                yield self.step_line(lies, key)

    def scope_line(self, scope: Scope, path: tuple[Scope, ...]) -> Iterator[Line]:
        children = tuple(self.scope(scope, path))
        number = self.group.places.known_scopes.get(id(scope))
        if not children or number is None:
            yield from children
            return
        took = np.concatenate([one.entries(number) for one in self.group.timed])
        total, found = sum(line.stats.total for line in children), stats(took)
        most = (min(one, total) for one in (found.p50, found.p99, found.max))  # what has no place stands elsewhere
        yield Line("scope", scope.name, Stats(found.count, total, *most), children=children)

    def step_line(self, lies: _Between, key: tuple[tuple[int, ...], str]) -> Line:
        self.shown.add(key)  # a line that stood nowhere would be missing in the sum
        figures = stats(np.concatenate(self.steps[key]))
        kind: LineKind = "framework" if lies.category == "framework" else "step"
        return Line(kind, lies.name, figures, figures.total, lies.category)

    def event(self, number: int, node: Event | None) -> Line:
        took, dispatch = self.events[number]
        name = node.name if node is not None else str(self.names[number - UNPLACED].get("event"))
        figures = stats(dispatch)
        own = Line("dispatch", "dispatch", figures, figures.total, "dispatch")
        handlers = sorted(self.handlers.get(number, []), key=self.order(name))
        note = "" if node is not None else "unexpected" if self.group.loop is not None else ""
        place = str(node.place) if node is not None and node.place else ""
        return Line("event", name, stats(took), place=place, note=note, children=(*handlers, own))

    def order(self, event: str) -> Callable[[Line], int]:
        known = self.group.loop.binding.at(event) if self.group.loop is not None else ()
        ids = {one.id: n for n, one in enumerate(known)}
        return lambda line: ids.get(line.callback, len(ids))


def _found(ordered: Any, wanted: Any) -> list[int]:
    """Return where those of `wanted` stand that are in `ordered`."""
    at: Any = np.searchsorted(ordered, wanted)
    there = at < len(ordered)
    at = at[there]
    found: list[int] = at[ordered[at] == wanted[there]].tolist()
    return found


def _events_below(node: Node) -> Iterator[int]:
    if isinstance(node, Event):
        yield id(node)
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from _events_below(child)
