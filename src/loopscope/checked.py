"""What a check gives to users: the findings of a loop or a recording, to print, render or ask."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO

from loopscope import adapters, checks
from loopscope.checks import Case, Measured
from loopscope.errors import LoopscopeError
from loopscope.findings import SEVERITIES, Finding, Rule
from loopscope.fitcalls import Call
from loopscope.model import Loop
from loopscope.render.findings import FORMATS
from loopscope.script import describe
from loopscope.views import tree

if TYPE_CHECKING:
    from rich.console import RenderableType

    from loopscope.placing import Placed
    from loopscope.recording import Recording

__all__ = ["FORMATS", "Checked", "Choice", "check_call", "check_object", "check_recording", "check_saved"]

Choice = Iterable[str]
"""Names of rules."""


@dataclass(frozen=True, slots=True, repr=False)
class Checked:
    """What was found: `checked = loopscope.check(learn)`, then `print(checked)` or `if checked.failed: ...`.

    `of` says what was checked; `unasked` are the rules that were wanted, and read the source of callbacks, which a file
    does not hold. In a notebook it shows itself; `str()` gives plain text.
    """

    of: str
    findings: tuple[Finding, ...]
    unasked: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether there is anything above a note."""
        return any(one.severity != "note" for one in self.findings)

    def render(self, format: str = "text", *, width: int | None = None) -> str:
        """Return the findings as text of `width` columns (None: 100), or as json; raises `UnknownChoice`."""
        from loopscope.render import findings

        return findings.render(format, self.findings, self.of, _here(), width, len(self.unasked))

    def show(self, format: str = "text", *, file: TextIO | None = None) -> None:
        """Print the findings to `file` or the screen, in colour only on a terminal."""
        from rich.console import Console

        console = Console(file=file, highlight=False, force_jupyter=False)
        if format == "text" and console.is_terminal:
            console.print(self)
        else:  # without the blanks that fill up its lines
            console.file.write(self.render(format, width=console.width))

    def __str__(self) -> str:
        return self.render().removesuffix("\n")

    def __repr__(self) -> str:
        from loopscope.render.findings import summary

        return f"<check of {self.of}: {summary(self.findings)}; print() shows it>"

    def __rich__(self) -> RenderableType:
        from loopscope.render.findings import renderable

        return renderable(self.findings, self.of, _here(), len(self.unasked))

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


def found_in(
    obj: Any, run: str, loop: Loop, arguments: Mapping[str, object], cbs: object
) -> tuple[tuple[Finding, ...], str]:
    """Return what a map is to be marked with, and what went wrong, if something did: a map is shown all the same."""
    try:
        return checks.check(case_of(obj, run, loop, arguments, cbs)), ""
    except LoopscopeError as error:
        return (), f"the findings of loopscope check are not shown: {error}"
    except Exception as error:  # a fault of ours must not take the map away
        why = f"{type(error).__name__}: {error}"
        return (), f"the findings of loopscope check are not shown, by a fault of loopscope ({why}). Please report it."


def check_recording(path: str | os.PathLike[str], choice: tuple[Choice, Choice]) -> Checked:
    """Check what was recorded: each loop in the file, and once what all of it cost. Raises `LoopscopeError`."""
    from loopscope.placing import place
    from loopscope.recording import read

    names = checks.chosen(*choice)
    placed = place(read(os.fspath(path)))
    runs = [block for block in placed.blocks() if block.run is not None and block.loop is not None]
    loops = list({id(block.loop): block.loop for block in runs if block.loop is not None}.values())
    if not loops:
        raise LoopscopeError(
            f"{os.fspath(path)} holds no loop: {_loopless(placed.recording)}. "
            f"Check the script instead: loopscope check train.py"
        )
    unasked = _unasked(os.fspath(path), names, loops, ("loop", "recording"))
    found = sorted(_of_each(loops, placed, names), key=lambda one: SEVERITIES.index(one.severity))
    return Checked(os.fspath(path) + STATES.get(placed.recording.state, ""), tuple(found), unasked)


def check_saved(path: str | os.PathLike[str], choice: tuple[Choice, Choice]) -> Checked:
    """Check a loop that was saved as JSON, with the rules that read no more than that. Raises `LoopscopeError`."""
    names, loop = checks.chosen(*choice), _saved(os.fspath(path))
    unasked = _unasked(os.fspath(path), names, [loop], ("loop",))
    found = checks.check(Case(loop, tree(loop)), names) if names else ()
    return Checked(f"{os.fspath(path)}: {loop.call}", found, unasked)


def _saved(path: str) -> Loop:
    from loopscope.render.json import load

    give = "Give a script, a recording (loopscope run train.py) or a saved loop (loopscope show -o loop.json train.py)."
    try:
        with open(path, encoding="utf-8") as file:
            return load(file.read())
    except OSError as error:
        raise LoopscopeError(f"{path} cannot be read ({error.strerror}). {give}") from None
    except (LoopscopeError, UnicodeDecodeError, RecursionError) as error:
        raise LoopscopeError(f"{path} is no saved loop: {error} {give}") from None


def _unasked(path: str, names: Iterable[str], loops: Iterable[Loop], held: tuple[str, ...]) -> tuple[str, ...]:
    """Return the rules among `names` that read the callbacks' source; raises if there is none that can be asked.

    `held` is what there is of what a rule may need; `path` says of what.
    """
    frameworks = {loop.framework for loop in loops}
    wanted = [one for one in map(checks.rule, names) if frameworks.intersection(one.frameworks)]
    unasked = [one for one in wanted if one.needs not in held]
    if unasked and len(unasked) == len(wanted):
        told, instead = (
            ("the source of the callbacks", "the script: loopscope check train.py")
            if any(one.needs == "callbacks" for one in unasked)
            else ("a recording of the run", "a recording: loopscope check run.loop")
        )
        does = "reads" if len(unasked) == 1 else "read"
        listed = ", ".join(one.name for one in unasked)
        raise LoopscopeError(f"{listed} {does} {told}, which {path} does not hold. Check {instead}")
    return tuple(one.name for one in unasked if one.needs == "callbacks")


def _of_each(loops: Iterable[Loop], placed: Placed, names: Iterable[str]) -> list[Finding]:
    """Return what rules find in each loop, once where several have it; those on cost read all of them at a time."""
    from loopscope.timing import reported

    measured, wanted = Measured(reported(placed), placed), list(names)
    found: dict[Finding, None] = {}
    for loop in loops:
        here = checks.check(Case(loop, tree(loop), None, measured), wanted) if wanted else ()
        known = set(map(_about, found))
        found.update((one, None) for one in here if _about(one) not in known)
        wanted = [name for name in wanted if not _has_read_all(checks.rule(name), loop)]
    return list(found)


def _has_read_all(rule: Rule, loop: Loop) -> bool:
    return rule.needs == "recording" and loop.framework in rule.frameworks


STATES = {"running": " (still being written)", "killed": " (its program was killed)"}


def _loopless(recording: Recording) -> str:
    """Return why a recording holds no loop."""
    if any(name.get("k") in ("loop", "run") for name in recording.names.values()):
        return "what it says of its loop cannot be read"
    if recording.state == "running":
        return "nothing has been trained yet while it is recorded"
    if recording.state == "killed":
        return "its program died before anything was trained"
    return "nothing was trained while it was recorded"


def _about(finding: Finding) -> tuple[object, ...]:
    """Return what a finding is about, the same in each loop of one file: a callback's number may differ there."""
    callback = finding.callback.partition("#")[0]
    return finding.rule, callback, finding.event, finding.method, finding.place


def case_of(obj: Any, run: str, loop: Loop, arguments: Mapping[str, object], cbs: object) -> Case:
    """Return what rules are given of a run; an adapter of a third party may not examine its callbacks."""
    adapter: Any = adapters.find(obj)
    examine = getattr(adapter, "examined", None)
    if examine is None:
        return Case(loop, tree(loop))
    found = examine(obj, run, arguments, cbs)
    where = {"device": str(adapter.facts(obj).get("device", ""))}
    return Case(loop, tree(loop), replace(found, settings={**where, **found.settings}))


def _checked(case: Case, choice: tuple[Choice, Choice]) -> Checked:
    held = ("loop", "callbacks") if case.examined is not None else ("loop",)
    unasked = _unasked(case.loop.call, checks.chosen(*choice), [case.loop], held)
    return Checked(case.loop.call, checks.check(case, *choice), unasked)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was removed under us
        return ""
