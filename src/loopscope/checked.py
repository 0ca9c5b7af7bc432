"""What a check gives to users: the findings of a loop or a recording, to print, render or ask."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from loopscope import adapters, checks
from loopscope.checks import Case, Measured
from loopscope.errors import LoopscopeError
from loopscope.findings import Finding
from loopscope.fitcalls import Call
from loopscope.model import Loop
from loopscope.render.findings import FORMATS
from loopscope.script import describe
from loopscope.views import tree

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["FORMATS", "Checked", "Choice", "check_call", "check_object", "check_recording"]

Choice = Iterable[str]
"""Names of rules."""


@dataclass(frozen=True, slots=True, repr=False)
class Checked:
    """What was found: `checked = loopscope.check(learn)`, then `print(checked)` or `if checked.failed: ...`.

    `of` says what was checked. In a notebook it shows itself; `str()` gives plain text.
    """

    of: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether there is anything above a note."""
        return any(one.severity != "note" for one in self.findings)

    def render(self, format: str = "text", *, width: int | None = None) -> str:
        """Return the findings as text of `width` columns (None: 100), or as json; raises `UnknownChoice`."""
        from loopscope.render import findings

        return findings.render(format, self.findings, self.of, _here(), width)

    def show(self, format: str = "text", *, file: TextIO | None = None) -> None:
        """Print the findings to `file` or the screen, in colour only on a terminal."""
        from rich.console import Console

        console = Console(file=file, highlight=False, force_jupyter=False)
        if format == "text":
            console.print(self)
        else:
            console.file.write(self.render(format))

    def __str__(self) -> str:
        return self.render().removesuffix("\n")

    def __repr__(self) -> str:
        from loopscope.render.findings import summary

        return f"<check of {self.of}: {summary(self.findings)}; print() shows it>"

    def __rich__(self) -> RenderableType:
        from loopscope.render.findings import renderable

        return renderable(self.findings, self.of, _here())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self)}


def check_object(
    obj: Any, run: str, described: Loop, arguments: Mapping[str, object], cbs: object, choice: tuple[Choice, Choice]
) -> Checked:
    """Check a run of a live object, whose loop was described; `choice` are the rules to select and to ignore."""
    return _checked(case_of(obj, run, described, arguments, cbs), choice)


def check_call(call: Call, choice: tuple[Choice, Choice]) -> Checked:
    """Check the loop that a call of the user's program would run."""
    checks.chosen(*choice)
    loop = describe(call)
    with call.lifted():
        return _checked(case_of(call.obj, call.method, loop, call.arguments, None), choice)


def check_recording(path: str | os.PathLike[str], choice: tuple[Choice, Choice]) -> Checked:
    """Check what was recorded: each loop in the file, and what its run cost. Raises `LoopscopeError`."""
    from loopscope.placing import place
    from loopscope.recording import read
    from loopscope.timing import reported

    checks.chosen(*choice)
    placed = place(read(os.fspath(path)))
    loops = list({id(block.loop): block.loop for block in placed.blocks() if block.loop is not None}.values())
    if not loops:
        raise LoopscopeError(
            f"{os.fspath(path)} holds no loop: nothing was trained while it was recorded, or its program died before. "
            f"Check the script instead: loopscope check train.py"
        )
    measured = Measured(reported(placed), placed)
    found = [one for loop in loops for one in checks.check(Case(loop, tree(loop), None, measured), *choice)]
    return Checked(os.fspath(path), tuple(dict.fromkeys(found)))


def case_of(obj: Any, run: str, loop: Loop, arguments: Mapping[str, object], cbs: object) -> Case:
    """Return what rules are given of a run; an adapter of a third party may not examine its callbacks."""
    adapter: Any = adapters.find(obj)
    examine = getattr(adapter, "examined", None)
    return Case(loop, tree(loop), None if examine is None else examine(obj, run, arguments, cbs))


def _checked(case: Case, choice: tuple[Choice, Choice]) -> Checked:
    return Checked(case.loop.call, checks.check(case, *choice))


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was removed under us
        return ""
