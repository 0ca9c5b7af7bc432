"""The loop as Markdown (GitHub's): nested lists, every name and text escaped where it is inserted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from loopscope.render import Options
from loopscope.render import phrases as say
from loopscope.render.entries import Entry, entries
from loopscope.views import View, landed

SPECIAL = re.compile(r"[\\`*\[\]<>~|$&#!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What means something in the middle of a line; an underscore between letters does not."""

LEADING = re.compile(r"^(\d*)([-+=.)])")
"""What makes a list or a heading of a line that starts with it."""


def render(view: View, options: Options) -> str:
    """Return the loop under a heading; `verbose` gives each handler an item of its own."""
    lines = [f"# {escape(say.plain(view.loop.call))}", "", f"Read from {escape(say.versions(view.loop))}", ""]
    for note in view.loop.notes:
        lines += [f"> {escape(say.plain(note))}", ""]
    lines += [line for entry in entries(view, options) for line in _lines(entry, "", options.verbose)]
    own = list(landed(view.root))
    if own:
        lines += ["", "★ yours:", ""]
        lines += [f"- {escape(say.mine_inside(one))}: {escape(say.yours(one))}" for one in own]
    found = [f"- *{what}:* {escape(text)}" for what, text in say.found(view)]
    lines += ["", *found] if found else []
    if options.verbose:
        lines += ["", "; ".join(f"*{what}:* {meaning}" for what, meaning in say.legend(view.loop))]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return Markdown that shows `text`, which is one line or a part of one."""
    return LEADING.sub(r"\g<1>\\\g<2>", SPECIAL.sub(r"\\\g<0>", text))


def _lines(entry: Entry, pad: str, verbose: bool) -> Iterator[str]:
    """Yield an entry as a list item with the items below it."""
    inner = pad + "  "
    if entry.kind == "cancel" and entry.brief and not verbose:
        yield f"{pad}- {_cancelled(entry)}"
        return
    rest = f": this, {escape(entry.after)}" if entry.after else "" if verbose else _chain(entry)
    yield f"{pad}- {_head(entry, verbose)}{rest}"
    for what, text in entry.about if verbose else ():
        yield f"{inner}- *{what}:* {escape(text)}"
    for child in (*entry.children, *(entry.handlers if verbose else ())):
        yield from _lines(child, inner, verbose)


def _cancelled(entry: Entry) -> str:
    fired = [f"{_head(event, False)}{_chain(event)}" for event in entry.children]
    return f"{_head(entry, False)} → {', '.join(filter(None, [*fired, escape(entry.after)]))}"


def _chain(event: Entry) -> str:
    called = " → ".join(_head(one, False) for one in event.handlers)
    return f": {called}" if called else ""


def _head(entry: Entry, verbose: bool) -> str:
    name = ", ".join(_name(entry, escape(name)) for name in entry.names)
    aside = "; ".join(escape(text) for text in entry.shown(verbose))
    times = f" × {escape(entry.times)}" if entry.times else ""
    return f"{name}{times} ({aside})" if aside else name + times


def _name(entry: Entry, name: str) -> str:
    if entry.status == "never":
        name = f"~~{name}~~"
    elif entry.kind == "step":
        return f"· *{name}*"
    elif entry.kind == "scope" or entry.mine:
        name = f"**{name}**"
    sign = "✗ " if entry.kind == "cancel" else "★ " if entry.mine else ""
    return sign + name
