"""The historic layout: the framework's own list of its loop, with the callbacks after each event.

It says what the framework says, wrong where that is wrong, and keeps its every blank: other programs and articles
compare with it. The true order is what the other formats show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopscope.model import Handler
from loopscope.render import Options
from loopscope.views import View


def render(view: View, options: Options) -> str:
    """Return the outline of the loop's framework; a loop without one gives `""`."""
    return "".join(f"{line}\n" for line in _lines(view, options.verbose))


def _lines(view: View, verbose: bool) -> Iterator[str]:
    indent = 0
    for entry in view.loop.outline:
        indent -= 3 * entry.startswith("End")
        pad = " " * indent
        if entry.startswith(("Start", "End")):
            yield pad + entry
        else:
            handlers = view.loop.binding.at(entry)
            yield from _verbose(entry, handlers, pad) if verbose else [_plain(entry, handlers, pad)]
        indent += 3 * entry.startswith("Start")


def _plain(event: str, handlers: Sequence[Handler], pad: str) -> str:
    return f"{pad} - {event}: [{', '.join(handler.label for handler in handlers)}]"


def _verbose(event: str, handlers: Sequence[Handler], pad: str) -> Iterator[str]:
    yield f"{pad} - {event}:"
    for handler in handlers:
        doc = handler.doc()
        yield f"{pad}     - {handler.label}" + ("" if doc is None else ": ")
        if doc is not None:
            yield f"{pad}         - {doc}"
