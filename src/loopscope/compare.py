"""What differs between two loops, and between two recordings: handlers, events, scopes, times.

>>> compare_loops(inspect(learn).loop, inspect(learn.to_fp16()).loop)  # doctest: +SKIP
(Change('added', 'handler', 'MixedPrecision.before_fit', ...), ...)

Callbacks are told by their class, and among several of one class by how they show themselves and by their turn: the
numbers in their ids shift with everything that is added. Lines of source are not compared: they shift, too. Constraint:
reads the model, knows no framework and no output format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from loopscope.changes import Change, ChangeKind, What
from loopscope.errors import BadValue
from loopscope.model import Event, Handler, Loop, Node, Repeat, Scope
from loopscope.pacing import Run, paced, runs, shared_factor
from loopscope.placing import Placed
from loopscope.views import Row, tree

T = TypeVar("T")
Key = tuple[str, str, int]
"""A handler at an event: its callback's id in B, its method, and its turn among those of the same names."""


def compare_loops(a: Loop, b: Loop) -> tuple[Change, ...]:
    """Return what differs in B: of the loop itself, its scopes, events and steps, and its handlers.

    Raises `BadValue` for loops of two frameworks.
    """
    if a.framework != b.framework:
        raise BadValue(
            f"A is a loop of {a.framework}, B one of {b.framework}: their events have different names. Give two loops "
            f"of one framework; loopscope events {a.framework} {b.framework} shows which moments are the same."
        )
    return tuple(_Comparison(a, b).changes())


def compare_recordings(a: Placed, b: Placed) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Return what differs between two recordings, run by run, and what one must know of their times in general."""
    theirs = runs(a), runs(b)
    changes: list[Change] = []
    notes: list[str] = []
    pairs, alone = _aligned([one.loop.run for one in theirs[0]], [one.loop.run for one in theirs[1]])
    for index, ones in enumerate(theirs):
        kind: ChangeKind = "added" if index else "removed"
        changes += [Change(kind, "run", ones[at].call) for at in alone[index]]
    several = max(map(len, theirs)) > 1
    for at, other in pairs:
        found, note = _compare_runs(theirs[0][at], theirs[1][other])
        run = theirs[1][other].call if several else ""
        changes += [replace(one, run=run) for one in found]
        notes += [f"{run}: {note}" if run else note] if note else []
    return tuple(changes), tuple(notes)


def _compare_runs(a: Run, b: Run) -> tuple[list[Change], str]:
    found = list(compare_loops(a.loop, b.loop))
    found += _went(a, b, {(*one.where, one.name) for one in found if one.field == "repeats"})
    names = {new: old for old, new in callbacks(a.loop, b.loop).items()}
    times, factor = paced(a, b, names), shared_factor(a, b, names)
    if 0.8 < factor < 1.25:
        return found + times, ""
    return found + times, (
        f"the rows of B take {factor:.2f} times as long as those of A throughout (another machine, or a busy one): "
        "times are listed that differ beyond that, too"
    )


def _went(a: Run, b: Run, told: set[tuple[str, ...]]) -> Iterator[Change]:
    """Yield what differs in how two runs went: how they ended, and how often scopes ran; `told` are other repeats."""
    old, new = ", ".join(a.ended), ", ".join(b.ended)
    if old != new:
        yield Change("changed", "run", b.call, field="ended", old=old, new=new)
    ours, theirs = a.entered(), b.entered()
    for path in ours:
        where = " > ".join(path[:-1])
        if path not in theirs or (where, path[-1]) in told:
            continue
        per = [ones[path] / max(ones.get(path[:-1], len(run.blocks)), 1) for ones, run in ((ours, a), (theirs, b))]
        if per[0] != per[1]:  # where more only ran because what is around it did, that says it
            counts = str(ours[path]), str(theirs[path])
            places = (where,) if where else ()
            yield Change(
                "changed", "scope", path[-1], where=places, field="times that it ran", old=counts[0], new=counts[1]
            )


# -- which callbacks are the same -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Callback:
    """One callback object of a loop, as far as it can be told in another loop."""

    id: str
    cls: str
    label: str
    at: tuple[tuple[str, str], ...]
    origin: str
    reason: str


def callbacks(a: Loop, b: Loop) -> dict[str, str]:
    """Return the callbacks that both loops have: id in A -> id in B.

    >>> callbacks(loop, loop_with_another_clip)  # doctest: +SKIP
    {'TrainEvalCallback#1': 'TrainEvalCallback#1', 'GradientClip#2': 'GradientClip#3'}
    """
    ours, theirs = _callbacks(a), _callbacks(b)
    found: dict[str, str] = {}
    for like in _LIKENESS:
        store: dict[Hashable, list[str]] = {}
        taken = set(found.values())
        for one in theirs:
            if one.id not in taken:
                store.setdefault(like(one), []).append(one.id)
        for one in ours:
            if one.id not in found and store.get(like(one)):
                found[one.id] = store[like(one)].pop(0)
    return found


_LIKENESS: tuple[Callable[[_Callback], Hashable], ...] = (
    lambda one: (one.cls, one.label, one.at, one.origin, one.reason),
    lambda one: (one.cls, one.label, one.at, one.origin),
    lambda one: (one.cls, one.label),
    lambda one: (one.cls, one.at),
    lambda one: one.cls,
)
"""What two callbacks must have in common to be the same one, strictest first."""


def _callbacks(loop: Loop) -> list[_Callback]:
    handlers: dict[str, list[Handler]] = {}
    for ones in loop.binding.handlers.values():
        for one in ones:
            handlers.setdefault(one.id, []).append(one)
    made = [
        _Callback(
            id,
            ones[0].callback,
            _bare(ones[0].label),
            tuple(sorted((one.event, one.method) for one in ones)),
            ones[0].origin,
            _bare(ones[0].reason),
        )
        for id, ones in handlers.items()
    ]
    return sorted(made, key=_turn)


def _turn(callback: _Callback) -> int:
    number = callback.id.rpartition("#")[2]
    return int(number) if number.isdecimal() else 0


def _bare(text: str) -> str:
    """Return a text without what differs from one object to the next: numbers of callbacks, addresses in memory."""
    return re.sub(r"#\d+| at 0x[0-9a-fA-F]+", "", text)


# -- order -------------------------------------------------------------------------------------------------------------


def _aligned(a: Sequence[T], b: Sequence[T]) -> tuple[list[tuple[int, int]], tuple[list[int], list[int]]]:
    """Return the positions of a longest common subsequence, and those that are not in it."""
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            same = length[i + 1][j + 1] + 1 if a[i] == b[j] else 0
            length[i][j] = max(same, length[i + 1][j], length[i][j + 1])
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j] and length[i][j] == length[i + 1][j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif length[i + 1][j] >= length[i][j + 1]:
            i += 1
        else:
            j += 1
    kept = {i for i, _ in pairs}, {j for _, j in pairs}
    return pairs, ([i for i in range(len(a)) if i not in kept[0]], [j for j in range(len(b)) if j not in kept[1]])


def stayed(order: Sequence[int], steady: Sequence[bool]) -> frozenset[int]:
    """Return the longest part of `order` that rises, with as many as possible that are `steady`: the rest has moved.

    >>> sorted(stayed([0, 2, 1], [True, False, True]))
    [0, 1]
    """
    best: list[tuple[int, int, tuple[int, ...]]] = []
    for at, one in enumerate(order):
        longest = max((best[i] for i in range(at) if order[i] < one), key=lambda it: it[:2], default=(0, 0, ()))
        best.append((longest[0] + 1, longest[1] + steady[at], (*longest[2], one)))
    return frozenset(max(best, key=lambda it: it[:2], default=(0, 0, ()))[2])


# -- the comparison ----------------------------------------------------------------------------------------------------


class _Comparison:
    """Two loops side by side; `same` is id in A -> id in B."""

    def __init__(self, a: Loop, b: Loop) -> None:
        self.a, self.b = a, b
        self.same = callbacks(a, b)
        self.names = self._names(a), self._names(b)
        self.statuses: dict[Change, list[str]] = {}
        self.told: set[tuple[str, str]] = set()

    def _names(self, loop: Loop) -> Mapping[str, str]:
        """Return how each callback is called: by its class; by its id where several have the same."""
        ones = _callbacks(loop)
        often = Counter(one.cls for one in ones)
        return {one.id: one.cls if often[one.cls] == 1 else one.id for one in ones}

    def changes(self) -> Iterator[Change]:
        yield from self.loop()
        yield from self.rows(tree(self.a), tree(self.b), ())
        bound = {**self.b.binding.handlers, **self.a.binding.handlers}
        for event in dict.fromkeys([*_events(self.b.root), *_events(self.a.root), *bound]):
            yield from self.event(event)
        for change, where in self.statuses.items():
            yield replace(change, where=tuple(dict.fromkeys(where)))

    def loop(self) -> Iterator[Change]:
        """Yield what differs of the loop as a whole."""
        a, b = self.a, self.b
        fields = [("subject", a.subject, b.subject), ("call", a.call, b.call)]
        for name in dict.fromkeys([*a.versions, *b.versions]):
            fields.append((f"{name} version", a.versions.get(name, "none"), b.versions.get(name, "none")))
        fields.append(("cancel exceptions", ", ".join(a.cancels), ", ".join(b.cancels)))
        fields.append(("swallowed exceptions", ", ".join(a.swallowed), ", ".join(b.swallowed)))
        for name, old, new in fields:
            if old != new:
                yield Change("changed", "loop", name, field=name, old=old, new=new)
        ours, theirs = ({_bare(note): note for note in loop.notes} for loop in (a, b))
        yield from (Change("removed", "loop", "note", old=text) for note, text in ours.items() if note not in theirs)
        yield from (Change("added", "loop", "note", new=text) for note, text in theirs.items() if note not in ours)

    # -- the tree

    def rows(self, a: Row, b: Row, path: tuple[str, ...]) -> Iterator[Change]:
        """Yield what differs below a row that both have: what stands there, and in which order."""
        where = (" > ".join(path),) if path else ()
        ours, theirs = a.children, b.children
        pairs, (gone, new) = _aligned([_word(one) for one in ours], [_word(one) for one in theirs])
        for at in gone:
            back = next((other for other in new if _word(theirs[other]) == _word(ours[at])), None)
            if back is None:
                yield self.standing("removed", ours, at, where)
            else:
                new.remove(back)
                pairs.append((at, back))
                yield self.standing("moved", theirs, back, where)
        for at in new:
            yield self.standing("added", theirs, at, where)
        for at, other in sorted(pairs, key=lambda pair: pair[1]):
            yield from self.row(ours[at], theirs[other], (a, b), path)

    def standing(self, kind: ChangeKind, rows: Sequence[Row], at: int, where: tuple[str, ...]) -> Change:
        one = rows[at]
        held = ", ".join(dict.fromkeys(row.name for _, row in one.walk() if row.kind == "event" and row is not one))
        follows = _called(rows[at - 1]) if at else None
        precedes = _called(rows[at + 1]) if at + 1 < len(rows) else None
        return Change(
            kind,
            _what(one),
            one.name,
            where=where,
            old=held if kind == "removed" else "",
            new=held if kind == "added" else "",
            event=one.name if one.kind == "event" else "",
            follows=follows,
            precedes=precedes,
        )

    def row(self, a: Row, b: Row, above: tuple[Row, Row], path: tuple[str, ...]) -> Iterator[Change]:
        """Yield what differs of a row that both have."""
        place = " > ".join(path)
        what = _what(b)
        event = b.name if b.kind == "event" else ""
        self.status(Change("changed", what, b.name, field="status", event=event), (a, b), above, place)
        if a.kind == "event":
            self.handlers(a, b, place)
            return
        for field, old, new in (("repeats", _times(a.repeat), _times(b.repeat)), ("then", *_texts(a, b))):
            if old != new:
                yield Change("changed", what, b.name, where=(place,) if place else (), field=field, old=old, new=new)
        if "never" not in (a.status, b.status):  # what never runs shows nothing below it
            yield from self.rows(a, b, (*path, b.name))

    def status(self, of: Change, rows: tuple[Row, Row], above: tuple[Row, Row], place: str) -> None:
        """Note another status, unless it is that of what stands above."""
        old, new = map(_status, rows)
        if old != new and (old, new) != (_status(above[0]), _status(above[1])):
            self.statuses.setdefault(replace(of, old=old, new=new), []).append(place)

    def handlers(self, a: Row, b: Row, place: str) -> None:
        """Note the handlers of an event whose status differs there."""
        ours = {self.key(row.handler): row for row in a.children if row.handler is not None}
        for row in b.children:
            one = row.handler
            if one is not None and (one.id, one.method) in ours:
                name = f"{self.names[1][one.id]}.{one.method}"
                of = Change(
                    "changed", "handler", name, field="status", callback=one.callback, id=one.id, event=one.event
                )
                self.status(of, (ours[one.id, one.method], row), (a, b), place)

    def key(self, handler: Handler) -> tuple[str, str]:
        """Return what tells a handler of A in B."""
        return self.same.get(handler.id, f"{handler.id} of A"), handler.method

    # -- the binding

    def event(self, event: str) -> Iterator[Change]:
        """Yield what differs among the handlers of one event."""
        before, after = self.a.binding.at(event), self.b.binding.at(event)
        ours = dict(zip(_numbered(self.key(one) for one in before), before, strict=True))
        theirs = dict(zip(_numbered((one.id, one.method) for one in after), after, strict=True))
        common = [key for key in theirs if key in ours]
        place = {key: n for n, key in enumerate(key for key in ours if key in theirs)}
        steady = [_bare(ours[key].reason) == _bare(theirs[key].reason) for key in common]
        still = stayed([place[key] for key in common], steady)
        for at, key in enumerate(ours):
            if key not in theirs:
                yield self.one("removed", 0, list(ours.values()), at)
        for at, key in enumerate(theirs):
            if key not in ours:
                yield self.one("added", 1, list(theirs.values()), at)
            elif place[key] not in still:
                earlier, later = self.turned(key, common, place, theirs)
                moved = self.one("moved", 1, list(theirs.values()), at)
                old, new = ours[key].reason, theirs[key].reason
                yield replace(moved, now_before=earlier, now_after=later, old=old, new=new)
        for key in common:
            yield from self.contents(ours[key], theirs[key])

    def one(self, kind: ChangeKind, side: int, handlers: Sequence[Handler], at: int) -> Change:
        names, one = self.names[side], handlers[at]
        return Change(
            kind,
            "handler",
            f"{names[one.id]}.{one.method}",
            callback=one.callback,
            id=one.id,
            event=one.event,
            reason=one.reason,
            follows=names[handlers[at - 1].id] if at else None,
            precedes=names[handlers[at + 1].id] if at + 1 < len(handlers) else None,
        )

    def turned(
        self, key: Key, common: Sequence[Key], place: Mapping[Key, int], theirs: Mapping[Key, Handler]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return which of the others a handler now runs before, and after, with which it ran the other way round."""
        mine, names = common.index(key), self.names[1]
        crossed = [
            (now, names[theirs[other].id])
            for now, other in enumerate(common)
            if (now < mine) != (place[other] < place[key])
        ]
        return tuple(name for now, name in crossed if now > mine), tuple(name for now, name in crossed if now < mine)

    def contents(self, a: Handler, b: Handler) -> Iterator[Change]:
        """Yield what differs of a handler that both have."""
        name = f"{self.names[1][b.id]}.{b.method}"
        for field, tell in _CONTENTS:
            old, new = _bare(tell(a)), _bare(tell(b))
            if old != new and (b.id, field) not in self.told:
                self.told |= {(b.id, field)} if field in _OF_ALL else set()
                yield Change(
                    "changed",
                    "handler",
                    name,
                    field=field,
                    old=old,
                    new=new,
                    callback=b.callback,
                    id=b.id,
                    event=b.event,
                )


_CONTENTS: tuple[tuple[str, Callable[[Handler], str]], ...] = (
    ("shows itself as", lambda one: one.label),
    ("comes from", lambda one: one.origin),
    ("does", lambda one: one.effect() or ""),
    ("raises", lambda one: ", ".join(f"{it.exception} if {it.when}" if it.when else it.exception for it in one.raises)),
    ("runs inside", lambda one: ", ".join([*one.nested, *_named(one.inside)])),
    ("note", lambda one: "; ".join(fact.text for fact in one.facts if fact.kind == "note")),
    ("waits", lambda one: "; ".join(fact.text for fact in one.facts if fact.kind == "wait")),
)
"""What is compared of a handler, and how it is told."""

_OF_ALL = ("shows itself as", "comes from")
"""What is the same at all events of a callback, and so told once."""


def _named(nodes: Sequence[Node]) -> list[str]:
    return [node.name for node in nodes]


def _events(scope: Scope) -> Iterator[str]:
    """Yield the events below a scope, in the order in which they fire."""
    for node in scope.nodes():
        if isinstance(node, Scope):
            yield from _events(node)
        elif isinstance(node, Event):
            yield node.name


def _numbered(keys: Iterator[tuple[str, str]]) -> list[Key]:
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for key in keys:
        made.append((*key, seen[key]))
        seen[key] += 1
    return made


def _word(row: Row) -> tuple[str, str]:
    return row.kind, row.name


def _what(row: Row) -> What:
    return "loop" if row.kind == "run" else row.kind


def _called(row: Row) -> str:
    """Return how a neighbour in the tree is called."""
    return f"on {row.name}" if row.kind == "cancel" else row.name


def _status(row: Row) -> str:
    return f"{row.status} ({_bare(row.why)})" if row.why else row.status


def _times(repeat: Repeat | None) -> str:
    return "" if repeat is None else str(repeat)


def _texts(a: Row, b: Row) -> tuple[str, str]:
    """Return the words of two rows that matter: what follows an exception, the note of a scope."""
    return (a.text, b.text) if b.kind in ("cancel", "scope") else ("", "")
