"""What rich prints, as text: for formats that are kept in a file, and the same on every machine."""

from __future__ import annotations

import io
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

ASCII = str.maketrans(
    {"µ": "u", "×": "x", "█": "#", "▌": "#", "│": "|", "├": "|", "└": "`", "─": "-", "→": ">", "…": "~"}
)
"""What terminals without other signs get instead."""


def printed(page: RenderableType, width: int, color: bool) -> str:
    """Return `page` as it looks in a terminal of `width` columns, with its colours if `color`."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_jupyter=False,  # or rich would display it there, file or not
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        _environ={},
    )
    console.print(page)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@dataclass(frozen=True, slots=True)
class Readable:
    """A page that also a terminal can show which has no other signs than ASCII."""

    page: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not options.ascii_only:
            yield self.page
            return
        for line in console.render_lines(self.page, options, pad=False):
            for piece in line:
                text = piece.text.translate(ASCII).encode("ascii", "backslashreplace").decode()
                yield piece._replace(text=text)
            yield Text()
