"""A loop's rows as entries in words, which tree, text, markdown and html then lay out, each in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loopscope.findings import Finding
from loopscope.model import Loop
from loopscope.render import Options
from loopscope.render import phrases as say
from loopscope.views import Row, Status, View, concerns


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to show.

    `names` has one name, or several where steps (or things that never run) stand together. `why` is what the status
    depends on and `remarks` what else must be known, `aside` what can be left out: source line, order, place.
    `about` are further lines, each with what it is: `("says", "Set the model to training mode")`. `after` is what
    follows a caught exception; its `children` are what it fires. `found` are the rules that a check found broken here:
    `("warning: dead-order",)`.
    """

    kind: Literal["scope", "event", "step", "cancel", "handler"]
    names: tuple[str, ...]
    status: Status = "always"
    mine: bool = False
    times: str = ""
    why: str = ""
    remarks: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    about: tuple[tuple[str, str], ...] = ()
    handlers: tuple[Entry, ...] = ()
    children: tuple[Entry, ...] = ()
    after: str = ""
    found: tuple[str, ...] = ()

    @property
    def brief(self) -> bool:
        """Whether a cancel fits one line: it only fires events."""
        return all(child.kind == "event" for child in self.children)

    def shown(self, verbose: bool) -> tuple[str, ...]:
        """Return what stands behind the name: why and remarks, and with `verbose` the rest instead of the remarks."""
        parts = (self.why, *self.aside) if verbose else (self.why, *self.remarks, *self.found)
        return tuple(filter(None, parts))


def entries(view: View, options: Options) -> tuple[Entry, ...]:
    """Return the loop's outermost entries; steps stand together unless `verbose`."""
    return tuple(_Teller(view.loop, options, view.findings).rows(view.root.children, view.root))


@dataclass(frozen=True, slots=True)
class _Teller:
    loop: Loop
    options: Options
    findings: tuple[Finding, ...] = ()

    def rows(self, rows: Sequence[Row], above: Row) -> Iterator[Entry]:
        for group in ((row,) for row in rows) if self.options.verbose else say.groups(rows):
            row = group[0]
            if row.kind == "event" and row.status != "never":
                yield self.event(row, above)
            elif row.kind == "cancel":
                yield self.cancel(row, rows, above)
            else:
                yield self.plain(group, above)

    def plain(self, group: Sequence[Row], above: Row) -> Entry:
        """Return a scope, or the entry of some steps or of what never runs."""
        row = group[0]
        return Entry(
            "scope" if row.kind == "scope" else "event" if row.kind == "event" else "step",
            tuple(map(say.name, group)),
            row.status,
            times=say.times(row) if row.status != "never" else "",
            why=say.reason(row, above),
            remarks=(say.plain(row.text),) if row.kind == "scope" and row.text else (),
            aside=tuple(filter(None, ["" if row.text == row.name else say.plain(row.text), self.place(row)])),
            children=tuple(self.rows(row.children, row)) if row.kind == "scope" else (),
        )

    def event(self, row: Row, above: Row) -> Entry:
        return Entry(
            "event",
            (say.name(row),),
            row.status,
            why=say.reason(row, above),
            aside=(self.place(row),),
            about=_kept(("when", say.plain(row.text)), ("uncaught here", say.uncaught(row))),
            handlers=tuple(self.handler(one, row) for one in row.children),
        )

    def cancel(self, row: Row, siblings: Sequence[Row], above: Row) -> Entry:
        return Entry(
            "cancel",
            (say.name(row),),
            row.status,
            why=say.reason(row, above),
            children=tuple(self.rows(row.children, row)),
            after=say.onwards(row, siblings),
        )

    def handler(self, row: Row, event: Row) -> Entry:
        handler = row.handler
        assert handler is not None
        doc, effect = handler.doc() or "", handler.effect() or ""
        found = [one for one in self.findings if concerns(one, handler)]
        return Entry(
            "handler",
            (say.name(row),),
            row.status,
            handler.mine,
            why=say.reason(row, event),
            remarks=tuple(say.remarks(row, event, self.loop)),
            aside=tuple(filter(None, [say.plain(handler.reason), say.origin(row), self.place(row)])),
            about=_kept(
                ("says", say.summary(doc)),
                ("does", say.plain(effect)),
                *(("note", remark) for remark in say.remarks(row, event, self.loop, verbose=True)),
                *((one.severity, say.plain(f"{one.rule}: {one.message}")) for one in found),
                ("stands", say.stands(row.neighbours) if handler.mine and row.status != "never" else ""),
            ),
            found=tuple(dict.fromkeys(f"{one.severity}: {one.rule}" for one in found if one.severity != "note")),
        )

    def place(self, row: Row) -> str:
        return "" if row.place is None else say.short(row.place, self.options.here)


def _kept(*lines: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((what, text) for what, text in lines if text)
