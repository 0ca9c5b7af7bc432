"""A loop as the tree of rows that every renderer shares: what runs always, conditionally, never, and why.

The protocol is walked once with the flags that are known before training (an abstract run): a guard or a
handler whose flags are known to fail is `never`, one whose flags only the run decides is `conditional`. A
repeated scope is walked twice, so that a row speaks for its first repetition and the later ones. Constraint:
reads the model, knows no framework and no output format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from loopscope.findings import Finding
from loopscope.model import Catch, Event, Flags, Handler, Loop, Need, Node, Place, Repeat, Scope, Step

Status = Literal["always", "conditional", "never"]
Kind = Literal["run", "scope", "cancel", "event", "step", "handler"]


@dataclass(frozen=True, slots=True)
class Landing:
    """Where an exception raised at an event lands: `Landing("CancelFitException", "fit")`; None: it leaves the run."""

    exception: str
    scope: str | None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Who stands directly before and after one's own handler at an event; None at either end."""

    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree.

    `kind` says which fields speak: a `scope` has `repeat` and `note`; an `event` has `text` (its description)
    and `landings`; a `step` has `text` (its source line); a `handler` has `handler` and, where it is the
    reader's own, `neighbours`; a `cancel` is what happens when the exception `name` is raised in its scope: its
    `text` says whether then the scope's `exit` follows, the exception goes on (`raise`), or both (`exit, raise`).
    `status` holds along the normal way of the loop, `why` says what it depends on or what prevents it.
    """

    kind: Kind
    name: str
    status: Status = "always"
    why: str = ""
    text: str = ""
    place: Place | None = None
    repeat: Repeat | None = None
    handler: Handler | None = None
    neighbours: Neighbours | None = None
    landings: tuple[Landing, ...] = ()
    children: tuple[Row, ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Row]]:
        """Yield (depth, row) for this row and everything below it, in the order in which it is read."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True, slots=True)
class View:
    """What a renderer is given: a loop, its tree of rows, and what a check found in it, if one was made."""

    loop: Loop
    root: Row
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Landed:
    """One's own callback at one event: its handler's row, and the scopes around it, outermost first."""

    path: tuple[str, ...]
    row: Row


def view(loop: Loop, findings: tuple[Finding, ...] = ()) -> View:
    """Return `loop` with its tree, as every renderer takes it."""
    return View(loop, tree(loop), findings)


def concerns(finding: Finding, handler: Handler) -> bool:
    """Return whether a finding is about a handler, or about all of its callback."""
    where = (finding.event in ("", handler.event), finding.method in ("", handler.method))
    return finding.callback == handler.id and all(where)


def unplaced(view: View) -> tuple[Finding, ...]:
    """Return the findings about nothing that has a row: the loop as a whole, or a method that no event calls."""
    handlers = [row.handler for _, row in view.root.walk() if row.handler is not None] if view.findings else []
    return tuple(one for one in view.findings if not any(concerns(one, handler) for handler in handlers))


def landed(row: Row, path: tuple[str, ...] = ()) -> Iterator[Landed]:
    """Yield where the reader's own callbacks stand in the tree under `row`, in the order in which they are called."""
    for child in row.children:
        if child.handler is not None and child.handler.mine:
            yield Landed(path, child)
        yield from landed(child, (*path, child.name) if child.kind == "scope" else path)


def tree(loop: Loop) -> Row:
    """Return the tree of `loop`; its root row is the run itself.

    >>> [row.name for _, row in tree(loop).walk() if row.kind == "event"]
    ['before_fit', 'before_epoch', 'before_train', ...]
    """
    walker = _Walker(loop)
    rows = walker.scope_rows(loop.root, _Reach())
    return Row("run", loop.run, text=loop.call, place=loop.root.place, children=tuple(rows))


@dataclass(frozen=True, slots=True)
class _Reach:
    """Whether control gets here at all, and which scopes would catch what is raised here, innermost last."""

    status: Status = "always"
    why: str = ""
    guards: tuple[Scope, ...] = ()

    def narrowed(self, needs: Iterable[Need], flags: Flags) -> _Reach:
        status, why = judge(needs, flags)
        if self.status == "never" or status == "always":
            return self
        return replace(self, status=status, why=why)


def judge(needs: Iterable[Need], flags: Flags) -> tuple[Status, str]:
    """Return the status of something that needs `needs`, and the reasons that decide it."""
    met = [(need.met(flags), need) for need in needs]
    failed = [need.text for known, need in met if known is False]
    if failed:
        return "never", "; ".join(failed)
    open_ = [need.text for known, need in met if known is None]
    return ("conditional", "; ".join(open_)) if open_ else ("always", "")


class _Walker:
    """One abstract run over a loop: carries the flags from row to row, and a raise that is certain outwards."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.flags: dict[str, bool | None] = dict(loop.flags)
        self.raised: tuple[str, str] | None = None  # an exception that certainly flies here, and who raises it
        self.at_last: tuple[str, str] | None = None  # the same, but only from the last repetition of a scope
        self.last_flags = frozenset(_last_flags(loop.root))
        self.known: dict[tuple[int, ...], tuple[Landing, ...]] = {}  # by the scopes around: it is asked at every event

    def node(self, node: Node, reach: _Reach) -> Row:
        if self.raised is not None:
            reach = replace(reach, status="never", why=f"{self.raised[1]} raises {self.raised[0]}")
        reach = reach.narrowed(node.needs, self.flags)
        if isinstance(node, Event):
            return self.event(node, reach)
        if isinstance(node, Step):
            return Row("step", node.name, reach.status, reach.why, text=node.text, place=node.place)
        if node.repeat.most == 0:
            reach = replace(reach, status="never", why="no repetition")
        # a scope that is never entered has nothing below it to read: what it would hold stands in the protocol
        rows = [] if reach.status == "never" else self.repeated(node, reach)
        return Row(
            "scope",
            node.name,
            reach.status,
            reach.why,
            text=node.note,
            place=node.place,
            repeat=node.repeat,
            children=tuple(rows),
        )

    def repeated(self, scope: Scope, reach: _Reach) -> list[Row]:
        if scope.repeat.most != 1:
            start, flying = dict(self.flags), self.raised
            self.scope_rows(scope, reach)
            self.flags = {k: v if start.get(k) == v else None for k, v in self.flags.items()}
            self.raised = flying
        self.flags.update(scope.last_sets)
        rows = self.scope_rows(scope, reach)
        self.raised, self.at_last = self.at_last or self.raised, None
        return rows

    def scope_rows(self, scope: Scope, reach: _Reach) -> list[Row]:
        self.flags.update(scope.sets)
        self.flags.update((turn.flag, None) for turn in scope.turns)
        inside = replace(reach, guards=(*reach.guards, scope))
        rows = self.rows(scope.before, reach)
        rows += self.rows(scope.body, inside)
        rows += [self.catch(catch, scope, reach) for catch in scope.catches]
        closes = not all(isinstance(node, Event) and node.how == "edge" for node in scope.exit)
        if scope.always and closes and not any("*" in catch.exceptions for catch in scope.catches):
            name = f"any {'other ' if scope.catches else ''}exception"
            status: Status = "never" if reach.status == "never" else "conditional"
            rows.append(Row("cancel", name, status, f"only after {name}", text="exit, raise"))
        flying = self.raised
        if scope.always:
            self.raised = None
        rows += self.rows(scope.exit, reach)
        self.raised = self.raised or flying
        return rows

    def rows(self, nodes: Iterable[Node], reach: _Reach) -> list[Row]:
        """Return the rows of nodes; the edge of a call that nobody handles is where its scope begins or ends."""
        found = [(node, self.node(node, reach)) for node in nodes]
        return [row for node, row in found if row.children or not isinstance(node, Event) or node.how != "edge"]

    def catch(self, catch: Catch, scope: Scope, reach: _Reach) -> Row:
        name = " or ".join("any exception" if e == "*" else e for e in catch.exceptions)
        then = "exit, raise" if scope.always and catch.then == "raise" else catch.then
        flying = self.raised
        if flying is not None and caught(catch, flying[0]):
            self.raised = flying if catch.then == "raise" else None
            why = f"{flying[1]} raises it"
            children = tuple(self.node(node, replace(reach, why=why)) for node in catch.body)
            return Row("cancel", name, reach.status, why, text=then, children=children)
        kept = dict(self.flags)
        self.raised = None
        if reach.status != "never":
            reach = replace(reach, status="conditional", why=f"only after {name}")
        children = tuple(self.node(node, reach) for node in catch.body)
        self.raised, self.flags = flying, kept
        return Row("cancel", name, reach.status, reach.why, text=then, children=children)

    def event(self, event: Event, reach: _Reach) -> Row:
        rows: list[Row] = []
        reached = reach.status != "never"
        for handler in self.loop.binding.at(event.name):
            if self.raised is not None and reached:
                rows.append(
                    Row(
                        "handler",
                        handler.callback,
                        "never",
                        f"{self.raised[1]} raises {self.raised[0]}",
                        handler=handler,
                    )
                )
                continue
            here = reach.narrowed(handler.needs, self.flags)
            rows.append(Row("handler", handler.callback, here.status, here.why, place=handler.place, handler=handler))
            if here.status != "never":
                self.ran(handler, here.status)
        if self.raised is not None and reached and self.raised[0] in self.loop.swallowed:
            self.raised = None
        if reached:
            self.flags.update(self.loop.binding.resets.get(event.name, ()))
        return Row(
            "event",
            event.name,
            reach.status,
            reach.why,
            text=self.loop.docs.get(event.name, ""),
            place=event.place,
            landings=self.landings(reach.guards),
            children=tuple(_with_neighbours(rows)),
        )

    def landings(self, guards: tuple[Scope, ...]) -> tuple[Landing, ...]:
        scopes = tuple(map(id, guards))
        if scopes not in self.known:
            self.known[scopes] = tuple(Landing(x, landing(x, guards)) for x in self.loop.cancels)
        return self.known[scopes]

    def ran(self, handler: Handler, status: Status) -> None:
        for flag, value in handler.sets:
            self.flags[flag] = value if status == "always" or self.flags.get(flag) == value else None
        for raise_ in handler.raises:
            if status == "always" and raise_.certain and all(need.met(self.flags) for need in raise_.needs):
                raised = raise_.exception, f"{handler.callback}.{handler.method}"
                if any(need.flag in self.last_flags for need in raise_.needs):
                    self.at_last = raised  # only the last repetition ends so: the rows speak for the others too
                    continue
                self.raised = raised
                return


def _last_flags(scope: Scope) -> Iterator[str]:
    yield from (flag for flag, _ in scope.last_sets)
    for node in scope.nodes():
        if isinstance(node, Scope):
            yield from _last_flags(node)


def caught(catch: Catch, exception: str) -> bool:
    """Return whether `catch` names `exception` (or any)."""
    return exception in catch.exceptions or "*" in catch.exceptions


def landing(exception: str, guards: tuple[Scope, ...]) -> str | None:
    """Return the innermost of `guards` (scopes in whose body something is raised) that stops `exception`."""
    for scope in reversed(guards):
        if any(caught(catch, exception) and catch.then == "exit" for catch in scope.catches):
            return scope.name
    return None


def _with_neighbours(rows: list[Row]) -> Iterator[Row]:
    running = [row for row in rows if row.status != "never"]
    for row in rows:
        if row.handler is None or not row.handler.mine:
            yield row
            continue
        order = rows if row.status == "never" else running
        at = next(i for i, other in enumerate(order) if other is row)
        before = order[at - 1].name if at else None
        after = order[at + 1].name if at + 1 < len(order) else None
        yield replace(row, neighbours=Neighbours(before, after))
