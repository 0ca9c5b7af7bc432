"""What users and surfaces import: it finds the adapter of an object, asks it for the loop and returns what shows it."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from loopscope import adapters, catalog, checked, compared, saving, script
from loopscope.catalog import FRAMEWORKS, Framework
from loopscope.checked import FORMATS as CHECK_FORMATS
from loopscope.checked import Checked, Choice
from loopscope.checks import TABLE, chosen
from loopscope.compared import FORMATS as DIFF_FORMATS
from loopscope.compared import Difference, Side
from loopscope.errors import BadValue, LoopscopeError, UnknownChoice
from loopscope.findings import Finding
from loopscope.fitcalls import Call
from loopscope.model import Handler, Loop
from loopscope.named import Spec
from loopscope.program import Program, raised_by_program
from loopscope.recordings import LoopRecording, load
from loopscope.render import FORMATS, SUFFIXES, Options, render, renderer
from loopscope.running import Recorded, run_recorded
from loopscope.saving import ALL as SAVE_FORMATS
from loopscope.saving import SORTS
from loopscope.script import first_fit
from loopscope.session import LIMIT, Session
from loopscope.views import Landed, Row, View, landed, view

__all__ = [
    "CHECK_FORMATS",
    "DIFF_FORMATS",
    "FORMATS",
    "FRAMEWORKS",
    "LIMIT",
    "MOMENT_FORMATS",
    "SAVE_FORMATS",
    "SORTS",
    "TABLE",
    "Call",
    "Checked",
    "Choice",
    "Difference",
    "LoopMap",
    "LoopRecording",
    "Moments",
    "Program",
    "Recorded",
    "Spec",
    "called",
    "check",
    "check_call",
    "check_file",
    "check_recording",
    "chosen",
    "diff",
    "event_docs",
    "explain",
    "first_fit",
    "format_of",
    "inspect",
    "is_file_of_ours",
    "is_recording",
    "load",
    "moments",
    "raised_by_program",
    "record",
    "run_recorded",
    "show",
]

if TYPE_CHECKING:
    from rich.console import RenderableType

FOLDS = ("tree", "html")
"""The formats for which a notebook shows the map itself, which unfolds."""

MOMENT_FORMATS = ("text", "markdown", "json")
"""The formats of the moments."""


def inspect(
    obj: object,
    run: str = "",
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
    cbs: object = None,
    **arguments: object,
) -> LoopMap:
    """Return the loop that `obj.<run>(...)` would run: `inspect(learn, "fit_one_cycle", epochs=3)`; nothing is run.

    `run` is a method of the learner, trainer, model or engine that trains; by default the framework's most usual one.
    `cbs` are callbacks of your own (one or a list, instances or classes): the map shows where they land, the object
    is not changed. `arguments` are those of the run itself: `inspect(trainer, "fit", model=net, datamodule=data)`.
    Raises `UnknownObject`, `UnknownChoice` for a run, `BadCallback`, `BadValue`.
    """
    adapter = adapters.find(obj)
    more: dict[str, Any] = {"arguments": arguments} if arguments else {}  # an adapter of a third party may be older
    run = run or adapter.RUNS[0]
    return LoopMap(adapter.describe(obj, run, epochs=epochs, start_epoch=start_epoch, cbs=cbs, **more))


def show(  # noqa: PLR0913 - those of inspect, and how it looks
    obj: object,
    run: str = "",
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
    cbs: object = None,
    verbose: bool = False,
    format: str = "tree",
    file: TextIO | None = None,
    **arguments: object,
) -> None:
    """Print the loop that `obj.<run>(...)` would run: `show(learn, epochs=2, cbs=MyCallback)`.

    What `check` finds is marked. `verbose`, `format` and `file` are those of `LoopMap.show`, all others those of
    `inspect`.
    """
    renderer(format)  # a misspelt format is said before any work
    shown = inspect(obj, run, epochs=epochs, start_epoch=start_epoch, cbs=cbs, **arguments)
    run = run or adapters.find(obj).RUNS[0]
    findings, failed = checked.found_in(obj, run, shown.loop, arguments, cbs)
    if failed:
        warnings.warn(failed, stacklevel=2)
    LoopMap(shown.loop, findings).show(format, verbose=verbose, file=file)


def record(obj: object, path: str | os.PathLike[str], *, force: bool = False, limit: int = LIMIT) -> LoopRecording:
    """Record what `obj` really runs: `with record(learn, "run.loop") as rec: learn.fit(2)`, then `print(rec)`.

    Only this very object is recorded, not its copies. `force` overwrites a file that is there; at `limit` bytes
    recording stops with a warning, and training goes on. Raises `UnknownObject`, `UnknownVersion`, and what
    `recording.Tape.create` says of a path, when the `with` block begins and before anything is attached.
    """
    if obj is None:  # which stands for every object in a session
        adapters.find(obj)
    return LoopRecording(path, Session(obj, path, force=force, limit=limit))


def check(
    obj: object,
    run: str = "",
    *,
    cbs: object = None,
    select: Choice = (),
    ignore: Choice = (),
    **arguments: object,
) -> Checked:
    """Return what is wrong with the loop that `obj.<run>(...)` would run: `print(check(learn))`; nothing is run.

    `run`, `cbs` and `arguments` are those of `inspect`. `select` are the names of the rules to ask (all, if there is
    none), `ignore` those to leave out: a list, or one text with commas. Of a path, `check("run.loop")`, the recording
    is checked, its cost too, and of `check("loop.json")` the loop that was saved there.
    Raises what `inspect` does, `UnknownChoice` for a rule, `BadIgnore` for a comment in the source.
    """
    choice = _choice(select, ignore)
    chosen(*choice)
    if isinstance(obj, (str, os.PathLike)):
        return check_file(obj, select, ignore)
    run = run or adapters.find(obj).RUNS[0]
    more: dict[str, Any] = arguments
    described = inspect(obj, run, cbs=cbs, **more).loop
    return checked.check_object(obj, run, described, arguments, cbs, choice)


def check_call(call: Call, select: Choice = (), ignore: Choice = ()) -> Checked:
    """Return what is wrong with the loop of a call of the user's program, as `first_fit` hands it over."""
    return checked.check_call(call, _choice(select, ignore))


def check_recording(path: str | os.PathLike[str], select: Choice = (), ignore: Choice = ()) -> Checked:
    """Return what is wrong with what was recorded, what it cost included: `check_recording("run.loop")`."""
    return checked.check_recording(path, _choice(select, ignore))


def check_file(path: str | os.PathLike[str], select: Choice = (), ignore: Choice = ()) -> Checked:
    """Return what is wrong with a recording, or with a loop that was saved as JSON: `check_file("loop.json")`."""
    if Path(path).suffix == ".json" and not is_recording(path):
        return checked.check_saved(path, _choice(select, ignore))
    return check_recording(path, select, ignore)


def is_file_of_ours(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is to be read, and not run: a recording, or a loop that was saved as JSON."""
    return Path(path).suffix == ".json" or is_recording(path)


def _choice(select: Choice, ignore: Choice) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _names(select), _names(ignore)


def _names(given: Choice) -> tuple[str, ...]:
    """Return the names of rules, of which one text may hold several: `"dead-order, run-off"`."""
    if not isinstance(given, str):
        return tuple(given)
    return tuple(name.strip() for name in given.split(",") if name.strip())


def is_recording(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is to be read as a recording: by its suffix, or by how the file begins."""
    from loopscope.recording.layout import MAGIC

    if Path(path).suffix == ".loop":
        return True
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def diff(a: object, b: object, run: str = "", **arguments: Any) -> Difference:
    """Return what differs in `b`: `print(diff("before.json", "after.json"))`, or of two learners `diff(old, new)`.

    Each is a loop (`inspect(learn)`, or the path of one saved as JSON), a recording (`load("run.loop")`, or its path),
    or a learner, trainer, model or engine, of which the loop of `run` is taken, with the `arguments` of `inspect`. Two
    recordings are compared in their times, too. Raises `BadValue` for two that cannot be compared, and what `inspect`
    and `load` do.
    """
    more = {"run": run, **arguments} if run or arguments else {}
    return compared.compared(_side(a, more), _side(b, more))


def _side(given: object, more: Mapping[str, Any]) -> Side:
    """Return one of two to compare; `more` are the arguments for `inspect`, which only a live object takes."""
    known = isinstance(given, (LoopMap, Loop, LoopRecording, str, os.PathLike))
    if known and more:
        raise BadValue(
            f"{', '.join(more)} say which loop a learner or trainer would run, and {given!r} is one already. "
            "Leave them out."
        )
    if isinstance(given, LoopRecording):
        return compared.opened(given.path, is_recording)
    if isinstance(given, (str, os.PathLike)):
        return compared.opened(given, is_recording)
    if isinstance(given, Loop):
        return Side("", given)
    return Side("", given.loop if isinstance(given, LoopMap) else inspect(given, **more).loop)


def explain(rule: str = "") -> str:
    """Return a rule's page as Markdown: `print(explain("dead-order"))`; without a name, the list of all rules.

    Raises `UnknownChoice` for a name that is none.
    """
    from loopscope import checks
    from loopscope.render import rules

    return rules.page(checks.rule(rule)) if rule else rules.index(checks.rules())


def called(call: Call, cbs: object = None, on_failure: Callable[[str], object] | None = None) -> LoopMap:
    """Return the loop that a call of the user's program would run, as `first_fit` hands it over; `cbs` are marked.

    So is what `check` finds, if `on_failure` is there to be told where it cannot be found.
    """
    loop = script.describe(call, cbs)
    if on_failure is None:
        return LoopMap(loop)
    with call.lifted():
        findings, failed = checked.found_in(call.obj, call.method, loop, call.arguments, cbs)
    if failed:
        on_failure(failed)
    return LoopMap(loop, findings)


def event_docs(framework: str) -> Mapping[str, str]:
    """Return every event of an installed framework with its description: `event_docs("fastai")["before_fit"]`.

    This imports the framework. Raises `UnknownChoice` for one that loopscope does not know.
    """
    known = {**adapters.third_parties(), **adapters.TABLE}
    if framework not in known:
        raise UnknownChoice.of("framework", framework, known)
    return cast(adapters.Adapter, importlib.import_module(known[framework])).event_docs()


def moments(*frameworks: str) -> Moments:
    """Return which events are the same moment in each framework: `print(moments("fastai", "keras"))`; none: in all.

    No framework has to be installed, and none is imported. Raises `UnknownChoice` for one that is not in `FRAMEWORKS`.
    """
    return Moments(tuple(map(catalog.framework, dict.fromkeys(frameworks or FRAMEWORKS))))


@dataclass(frozen=True, slots=True, repr=False)
class Moments:
    """The same moment in several frameworks; of one alone, also all its events. Print it, or render it."""

    frameworks: tuple[Framework, ...]

    def render(self, format: str = "text", *, width: int | None = None) -> str:
        """Return it as text of `width` columns (None: 100), as markdown or as json."""
        from loopscope.render.moments import render

        return render(format, self.frameworks, width)

    def show(self, file: TextIO | None = None) -> None:
        """Print it to `file` or the screen, in colour only on a terminal."""
        from rich.console import Console

        console = Console(file=file, highlight=False, force_jupyter=False)
        if console.is_terminal:
            console.print(self)
        else:  # without the blanks that fill up a table's lines
            _write(self.render(width=console.width), file or sys.stdout)

    def __str__(self) -> str:
        return self.render().removesuffix("\n")

    def __repr__(self) -> str:
        return f"<the moments of {', '.join(one.name for one in self.frameworks)}; print() shows them>"

    def __rich__(self) -> RenderableType:
        from loopscope.render.moments import renderable

        return renderable(self.frameworks)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/markdown": self.render("markdown"), "text/plain": str(self)}


@dataclass(frozen=True, slots=True, repr=False)
class LoopMap:
    """The map of one loop: print it, save it, or ask it: `LoopMap(loop).handlers("after_batch")`.

    `loop` is the neutral data; the tree of rows under `root` says what runs always, conditionally or never. `findings`
    are those of a check, which are marked. In a notebook the map shows itself; `str()` gives plain text.
    """

    loop: Loop
    findings: tuple[Finding, ...] = ()
    _view: View = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_view", view(self.loop, self.findings))

    @property
    def root(self) -> Row:
        """The tree of rows; its first one is the run itself."""
        return self._view.root

    def events(self) -> tuple[str, ...]:
        """Return the events in the order in which they fire if nothing is cancelled, those of repeated scopes once."""
        return tuple(row.name for row in _normal(self.root) if row.kind == "event")

    def handlers(self, event: str) -> tuple[Handler, ...]:
        """Return what is called at `event`, in calling order; raises `UnknownChoice` for an event of no such name."""
        known = dict.fromkeys([*self.loop.docs, *self.loop.binding.handlers, *self.events()])
        if event not in known:
            raise UnknownChoice.of("event", event, known)
        return self.loop.binding.at(event)

    def mine(self) -> tuple[Landed, ...]:
        """Return where the callbacks given as `cbs` land, each with its neighbours."""
        return tuple(landed(self.root))

    def render(self, format: str = "text", *, verbose: bool = False) -> str:
        """Return the map as tree, text, article, markdown, json or html; `verbose` adds docs, effects and places."""
        return render(format, self._view, _options(verbose))

    def show(self, format: str = "tree", *, verbose: bool = False, file: TextIO | None = None) -> None:
        """Print the map to `file` or the screen, in colour only on a terminal; in a notebook it unfolds."""
        if file is None and format in FOLDS and _in_notebook():
            _display(self._bundle(verbose))
        elif format == "tree":
            self._print(verbose, file)
        else:
            _write(self.render(format, verbose=verbose), file or sys.stdout)

    def save(
        self, path: str | os.PathLike[str], format: str | None = None, *, verbose: bool = False, force: bool = False
    ) -> None:
        """Write the map to a file, as its suffix says: `save("loop.html")`, `.md`, `.json` or `.txt`.

        Raises `LoopscopeError` if the file exists, unless `force`.
        """
        text = self.render(format or format_of(Path(path), f"save({os.fspath(path)!r}, format=...)"), verbose=verbose)
        try:
            with open(path, "wb" if force else "xb") as file:
                file.write(text.encode())
        except FileExistsError:
            shown = os.fspath(path)
            raise LoopscopeError(f"{shown} exists already. To overwrite it: save({shown!r}, force=True)") from None

    def __str__(self) -> str:
        return self.render("text").removesuffix("\n")

    def __repr__(self) -> str:
        kinds = [row.kind for row in _normal(self.root)]
        counts = f"{kinds.count('event')} events, {kinds.count('handler')} handlers"
        return f"<loop of {self.loop.call}: {self.loop.subject}, {counts}; print() shows it>"

    def __rich__(self) -> RenderableType:
        return self._drawn(False)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return self._bundle(False)

    def _bundle(self, verbose: bool) -> dict[str, str]:
        from loopscope.render import html

        return {
            "text/html": html.fragment(self._view, _options(verbose)),
            "text/plain": self.render(verbose=verbose).removesuffix("\n"),
        }

    def _drawn(self, verbose: bool) -> RenderableType:
        from loopscope.render import tree as drawing

        return drawing.renderable(self._view, _options(verbose))

    def _print(self, verbose: bool, file: TextIO | None) -> None:
        from rich.console import Console

        terminal = False if _in_notebook() else None  # a kernel sets FORCE_COLOR, which is not meant for files
        Console(file=file, highlight=False, force_jupyter=False, force_terminal=terminal).print(self._drawn(verbose))


def _normal(row: Row) -> list[Row]:
    """Return what runs below `row` if nothing is cancelled."""
    below = (child for child in row.children if child.kind != "cancel" and child.status != "never")
    return [one for child in below for one in (child, *_normal(child))]


def _options(verbose: bool) -> Options:
    try:
        return Options(verbose=verbose, here=os.getcwd())
    except OSError:  # the folder was removed under us: paths stay whole
        return Options(verbose=verbose)


def format_of(path: Path, or_say: str) -> str:
    """Return the format that the suffix of `path` stands for; `or_say` tells how else to name one.

    Raises `LoopscopeError` for another suffix.
    """
    return saving.format_of(path, or_say, SUFFIXES, FORMATS)


def _write(text: str, file: TextIO) -> None:
    """Write `text`, escaping what the encoding of `file` lacks: a name must not end in a UnicodeEncodeError."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(text.encode(encoding, "backslashreplace").decode(encoding))
    file.flush()


def _in_notebook() -> bool:
    """Return whether output goes to a notebook's cell; IPython in a terminal has no kernel."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _display(bundle: dict[str, str]) -> None:
    from IPython.display import display  # type: ignore[import-not-found,unused-ignore]  # there, or we are no notebook

    display(bundle, raw=True)  # type: ignore[no-untyped-call,unused-ignore]
