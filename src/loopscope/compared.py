"""What a comparison gives to users: how A and B differ, to print, render or ask.

Constraint: numpy and what is built on it are imported when something is compared: every surface imports this.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from loopscope.changes import FORMATS, Change, Sides
from loopscope.errors import BadValue, LoopscopeError
from loopscope.model import Loop
from loopscope.render import phrases
from loopscope.render.json import load

if TYPE_CHECKING:
    from rich.console import RenderableType

    from loopscope.placing import Placed

__all__ = ["FORMATS", "Difference", "Side", "compared", "opened"]

ACCEPTED = (
    "Give two loops saved as JSON (loopscope show -o a.json train.py) or two recordings (loopscope run train.py)."
)


@dataclass(frozen=True, slots=True, repr=False)
class Difference:
    """What differs: `found = loopscope.diff(a, b)`, then `print(found)` or `if not found.empty: ...`.

    `a` and `b` say what was compared, `notes` what one must know of both. In a notebook it shows itself; `str()` gives
    plain text.
    """

    a: str
    b: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not self.changes

    def render(self, format: str = "text", *, width: int | None = None) -> str:
        """Return it as text of `width` columns (None: 100), as json or as markdown; raises `UnknownChoice`."""
        from loopscope.render import difference

        return difference.render(format, self.changes, self._sides(), width)

    def show(self, format: str = "text", *, file: TextIO | None = None) -> None:
        """Print it to `file` or the screen, in colour only on a terminal."""
        from rich.console import Console

        console = Console(file=file, highlight=False, force_jupyter=False)
        if format == "text" and console.is_terminal:
            console.print(self)
        else:  # without the blanks that fill up a table's lines
            text = self.render(format, width=console.width)
            encoding = getattr(console.file, "encoding", None) or "utf-8"
            console.file.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def __str__(self) -> str:
        return self.render().removesuffix("\n")

    def __repr__(self) -> str:
        from loopscope.render import difference

        return f"<difference of {self.a} and {self.b}: {difference.summary(self.changes)}; print() shows it>"

    def __rich__(self) -> RenderableType:
        from loopscope.render import difference

        return difference.renderable(self.changes, self._sides())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/markdown": self.render("markdown"), "text/plain": str(self)}

    def _sides(self) -> Sides:
        return Sides(self.a, self.b, self.notes)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a loop, or a placed recording; `name` is the file, "" for an object."""

    name: str
    found: Loop | Placed

    def __str__(self) -> str:
        from loopscope.pacing import runs

        if isinstance(self.found, Loop):
            told = f"{self.found.call} [{phrases.versions(self.found)}]"
        else:
            told = ", ".join(one.call for one in runs(self.found))
        return f"{self.name}: {told}" if self.name else told


def compared(a: Side, b: Side) -> Difference:
    """Return what differs; a loop and a recording are compared by what both have, the loop. Raises `BadValue`."""
    from loopscope.compare import compare_loops, compare_recordings

    loops = isinstance(a.found, Loop), isinstance(b.found, Loop)
    if not isinstance(a.found, Loop) and not isinstance(b.found, Loop):
        changes, notes = compare_recordings(a.found, b.found)
        return Difference(str(a), str(b), changes, notes)
    ours, theirs = _loop(a, b), _loop(b, a)
    notes = () if all(loops) else (f"{'BA'[loops[1]]} is a recording, the other a loop: times are not compared",)
    return Difference(str(a), str(b), compare_loops(ours, theirs), notes)


def _loop(side: Side, other: Side) -> Loop:
    """Return the loop of one side; of a recording, the one that is the same kind of run as the other side's."""
    from loopscope.pacing import runs

    if isinstance(side.found, Loop):
        return side.found
    assert isinstance(other.found, Loop)
    kind = other.found.run
    recorded = runs(side.found)
    same = [one.loop for one in recorded if one.loop.run == kind]
    if len(same) != 1:
        held = ", ".join(one.call for one in recorded)
        raise BadValue(
            f"{other.name or other} is the loop of one {kind}, and {side.name} holds {len(same) or 'none'} of that "
            f"kind ({held}). Give a loop of what was recorded, or two recordings."
        )
    return same[0]


def opened(path: str | os.PathLike[str], recording: Callable[[str | os.PathLike[str]], bool]) -> Side:
    """Return what is in a file; `recording` says whether it is a recording. Raises `LoopscopeError`."""
    name = os.fspath(path)
    if not Path(path).exists():
        raise LoopscopeError(f"there is no file {name}.{_near(Path(path))} {ACCEPTED}")
    if Path(path).is_dir():
        raise LoopscopeError(f"{name} is a folder. {ACCEPTED}")
    return _recorded(name) if recording(path) else _saved(name)


def _near(path: Path) -> str:
    try:
        files = [one.name for one in path.parent.iterdir() if one.suffix in (".json", ".loop")]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, files, n=1)
    return f" Did you mean {str(path.parent / near[0])!r}?" if near else ""


def _recorded(name: str) -> Side:
    from loopscope.pacing import runs
    from loopscope.placing import place
    from loopscope.recording import read

    placed = place(read(name))
    if not runs(placed):
        raise LoopscopeError(
            f"{name} holds no loop: nothing was trained while it was recorded, or its program died before. "
            f"Compare loops instead: loopscope show -o loop.json train.py"
        )
    return Side(name, placed)


def _saved(name: str) -> Side:
    try:
        text = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise LoopscopeError(f"{name} cannot be read ({error.strerror}). {ACCEPTED}") from None
    except UnicodeDecodeError:
        raise LoopscopeError(f"{name} is neither a loop nor a recording. {ACCEPTED}") from None
    try:
        return Side(name, load(text))
    except (LoopscopeError, RecursionError) as error:
        raise LoopscopeError(f"{name} is neither a loop nor a recording: {error} {ACCEPTED}") from None
