"""The loop of each run as a tree of timed lines, one tree for each thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from loopscope.durations import CATEGORIES, READING, Between, Timed, between, found_in, grouped, joined, numbered, stats
from loopscope.endings import handler_name
from loopscope.model import Event, Handler, Loop, Node, Scope
from loopscope.places import Places
from loopscope.placing import NAME, Block, Placed
from loopscope.report import Category, Line, LineKind, Stats, Track


def track(placed: Placed, blocks: Sequence[Block], thread: str) -> Track:
    """Return the tree of one thread: `track(placed, blocks, "MainThread")`; its lines sum to the wall time exactly."""
    return _Builder(placed, blocks).track(thread)


def outside(placed: Placed) -> Track:
    """Return the tree of a recording in which no thread did anything: all of its time is outside."""
    wall = placed.end - placed.begin
    line = Line("outside", "outside", Stats(1, wall, wall, wall, wall), wall, "outside")
    return Track("", Line("thread", "", line.stats, children=(line,)), categories([line]))


def by_category(lines: Iterable[Line]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        if line.category:
            found[line.category] = found.get(line.category, 0) + line.own
    return found


def categories(lines: Sequence[Line]) -> tuple[Category, ...]:
    own = by_category(lines)
    count = {name: sum(line.stats.count for line in lines if line.category == name) for name in own}
    return tuple(Category(name, count[name], own[name]) for name in CATEGORIES if name in own)


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
        self.apart: dict[int, _Group] = {}
        homes: dict[int, _Group] = {}
        timed: dict[int, Timed] = {}
        for block in blocks:
            timed[id(block)] = Timed(block)
            store = self.groups
            if block.parent is not None:
                store = homes[id(block.parent)].inner.setdefault(self.owner(block), {})
            elif block.around is not None:
                group = self.apart.setdefault(id(block.around.loop), self.of(block))
                homes[id(block)] = group
                group.timed.append(timed[id(block)])
                continue
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

    def of(self, block: Block) -> _Group:
        """Return a group for what this thread does for a run of another one."""
        assert block.around is not None
        run = block.around.run or {}
        subject = self.names.get(int(run.get("object", 0)), {})
        learner = f"{subject.get('cls', '')} {subject.get('number', '')}".strip()
        return _Group(block.loop, block.places, f"for {run.get('call', '')}", learner, str(subject.get("device", "")))

    def track(self, thread: str) -> Track:
        lines = [self.run(group) for group in self.groups.values()]
        lines += [self.run(group, stray=True) for group in self.apart.values()]
        wall = self.placed.end - self.placed.begin
        if self.strays.timed:
            lines.append(self.run(self.strays, stray=True))
        rest = wall - sum(line.stats.total for line in lines)
        outside = Line("outside", "outside", Stats(1, rest, rest, rest, rest), rest, "outside")
        root = Line("thread", thread, Stats(1, wall, wall, wall, wall), children=(*lines, outside))
        return Track(thread, root, categories([line for _, line in root.walk()]))

    def run(self, group: _Group, stray: bool = False) -> Line:
        rows = _Rows(self, group, stray)
        lengths = [one.block.until - one.block.begin + one.block.lead for one in group.timed]
        if stray:
            lengths = [int(one.events.sum()) for one in group.timed]
        children = rows.children()
        leads = stats(np.array([one.block.lead for one in group.timed if one.block.lead], np.int64))
        if leads.count:
            children = (Line("framework", READING, leads, leads.total, READING), *children)
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
        events, dispatch = joined([one.events for one in timed]), joined([one.dispatch for one in timed])
        self.events = dict(grouped(joined(nodes), events, dispatch))
        self.handlers: dict[int, list[Line]] = {}
        self.calls(nodes)
        self.steps: dict[tuple[tuple[int, ...], str], list[Any]] = {}
        self.leads: dict[tuple[tuple[int, ...], str], tuple[Between, Event | None]] = {}
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
        keys = joined(
            [own[one.owner] * most + (one.block.code[one.calls] & NAME) for own, one in zip(nodes, timed, strict=True)]
        )
        if not len(keys):
            return
        known, small = numbered(keys)
        del keys  # 8 bytes for each call, of tens of millions perhaps
        nested, unclosed = [0] * len(known), [0] * len(known)
        base = 0
        for one in timed:
            for at, ns in one.inside.items():
                nested[small[base + at]] += ns
            for at in found_in(one.calls, one.block.open):
                unclosed[small[base + at]] += 1
            base += len(one.calls)
        raised = self.raised(small)
        for at, (took,) in grouped(small, joined([one.took for one in timed])):
            node, name = divmod(int(known[at]), most)
            line = self.handler(node, name, took, nested[at])
            line = replace(line, open=unclosed[at], raised=raised.get(at, {}))
            self.handlers.setdefault(node, []).append(line)

    def handler(self, node: int, number: int, took: Any, nested: int) -> Line:
        name = self.names[number]
        callback = str(name.get("callback"))
        fact = self.facts.get((str(name.get("event")), callback.partition("|")[0]))
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
            callback=callback,
            note="merged" if "|" in callback else "",
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
        gaps = joined([one.block.gaps for one in group.timed])
        took = joined([one.gaps for one in group.timed])
        root = (group.loop.root,) if group.loop is not None else ()
        for number, (durations,) in grouped(gaps + 1, took):
            lies = names[number - 1] if number else Between("framework", "framework", root)
            after = group.places.gaps[number - 1].after if number else None
            self.step(lies, after, durations)
        tails = np.array([one.tail for one in group.timed], np.int64)
        self.step(Between("framework", "framework", root), None, tails)

    def step(self, lies: Between, after: Event | None, durations: Any) -> None:
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
                if number in self.events and node.how != "edge":
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

    def step_line(self, lies: Between, key: tuple[tuple[int, ...], str]) -> Line:
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


def _events_below(node: Node) -> Iterator[int]:
    if isinstance(node, Event):
        yield id(node)
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from _events_below(child)
