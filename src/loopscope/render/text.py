"""The loop as plain text: ASCII but for the names themselves, one thing per line, made to be kept and compared."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.render import Options
from loopscope.render import phrases as say
from loopscope.render.entries import Entry, entries
from loopscope.views import View, landed

INDENT = "  "


def render(view: View, options: Options) -> str:
    """Return the loop, indented by its scopes; `verbose` gives each handler lines of its own."""
    lines = [f"{say.plain(view.loop.call)} [{say.versions(view.loop)}]"]
    lines += [f"note: {say.plain(note)}" for note in view.loop.notes]
    lines += ["", *(line for entry in entries(view, options) for line in _lines(entry, "", options.verbose))]
    own = list(landed(view.root))
    if own:
        lines += ["", "* yours"]
        lines += [f"{INDENT}{say.mine_inside(one)}: {say.yours(one)}" for one in own]
    found = [f"{what}: {text}" for what, text in say.found(view)]
    lines += ["", *found] if found else []
    if options.verbose:
        lines += ["", *(f"{what}: {meaning}" for what, meaning in say.legend(view.loop))]
    return "\n".join(lines) + "\n"


def _lines(entry: Entry, pad: str, verbose: bool) -> Iterator[str]:
    head = pad + _head(entry, verbose)
    if entry.kind == "cancel":
        yield from _cancel(entry, head, pad, verbose)
        return
    called = "" if verbose else ", ".join(_head(one, verbose) for one in entry.handlers)
    yield f"{head}: {called}" if called else head
    for what, text in entry.about if verbose else ():
        yield f"{pad}{INDENT * 2}{what}: {text}"
    for child in (*entry.children, *(entry.handlers if verbose else ())):
        yield from _lines(child, pad + INDENT, verbose)


def _cancel(entry: Entry, head: str, pad: str, verbose: bool) -> Iterator[str]:
    """Yield what follows an exception: on one line, unless there are handlers to describe or scopes to show."""
    if entry.brief and not (verbose and any(child.handlers for child in entry.children)):
        yield f"{head}: {', '.join(filter(None, [*map(_fired, entry.children), entry.after]))}"
        return
    yield f"{head}: this, {entry.after}" if entry.after else f"{head}: this"
    for child in entry.children:
        yield from _lines(child, pad + INDENT, verbose)


def _fired(event: Entry) -> str:
    called = ", ".join(_head(one, False) for one in event.handlers)
    return _head(event, False) + (f" [{called}]" if called else "")


def _head(entry: Entry, verbose: bool) -> str:
    name = {"step": "- ", "cancel": "on "}.get(entry.kind, "* " if entry.mine else "") + ", ".join(entry.names)
    times = f" x {entry.times}".replace("–", "-") if entry.times else ""
    aside = "; ".join(entry.shown(verbose))
    return f"{name}{times} ({aside})" if aside else name + times
