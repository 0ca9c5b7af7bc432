"""What rich prints, as text: for formats that are kept in a file, and the same on every machine."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType


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
