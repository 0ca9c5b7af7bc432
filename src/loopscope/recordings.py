"""The recording that users hold: a context manager while it is made, and a report to print, save or ask afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from loopscope import adapters
from loopscope.errors import LoopscopeError
from loopscope.recording import BadPath
from loopscope.render.report import Options, renderer
from loopscope.report import Report
from loopscope.session import Session, shown, tell, where

if TYPE_CHECKING:
    from rich.console import RenderableType


MANY = 500_000
"""With more spans than that, what a running program is doing now is said before the figures are worked out."""


class LoopRecording:
    """A recording: `with loopscope.record(learn, "run.loop") as rec: learn.fit(2)`, then `print(rec)`.

    `load("run.loop")` gives one that was made before. `report()` gives the figures as data. What is read is the file:
    while it is still written to, the report says so.
    """

    def __init__(self, path: str | os.PathLike[str], session: Session | None = None) -> None:
        try:
            self.path = Path(os.fsdecode(path))
        except TypeError:
            raise BadPath(f"{path!r} is no path. Give the name of a file, for example run.loop.") from None
        self._session = session
        self._report: tuple[tuple[int, int], Report] | None = None

    def __enter__(self) -> LoopRecording:
        if self._session is None or self._session.recorder is not None:
            raise LoopscopeError(
                f"{self.path} is recorded already. For another recording: loopscope.record(learn, 'another.loop')"
            )
        if self._session.obj is None:  # which is how `loopscope run` asks for every learner
            adapters.find(None)
        self.path = self._session.start().file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        assert self._session.recorder is not None
        left = self._session.left_by(error)
        self._session.stop()
        if left is not None:
            tell(where(left, self._session.name))

    def report(self) -> Report:
        """Return all that the file says; read again if the file has changed since. Raises `LoopscopeError`."""
        return self._read(lambda first: None)

    def _read(self, first: Callable[[Report], None]) -> Report:
        """Return the report; `first` is given its head while the figures of a long run are still being worked out."""
        from loopscope.placing import place
        from loopscope.recording import read
        from loopscope.timing import head, reported

        try:
            found = os.stat(self.path)
            stamp = found.st_mtime_ns, found.st_size
        except OSError:
            stamp = 0, 0  # `read` says what is wrong
        if self._report is None or self._report[0] != stamp or self._report[1].state == "running":
            placed = place(read(self.path))
            if placed.recording.state == "running" and placed.recording.spans > MANY:
                first(self._named(head(placed)))
            self._report = stamp, self._named(reported(placed))
        return self._report[1]

    def _named(self, report: Report) -> Report:
        """Return the report with the file named as one would type it where it was recorded, or as it was asked for."""
        session = self._session
        return report if session is None or session.recorder is None else replace(report, path=session.name)

    def render(self, format: str = "text", *, depth: int | None = None, sort: str = "tree", top: int = 10) -> str:
        """Return the report as text, json, csv or markdown; `depth` folds the tree, `sort` orders what stands in it."""
        return renderer(format).render(self.report(), _options(depth, sort, top))

    def show(self, *, depth: int | None = None, sort: str = "tree", top: int = 10, file: TextIO | None = None) -> None:
        """Print the report to `file` or the screen, in colour only on a terminal."""
        from rich.console import Console

        from loopscope.render.report import screen

        console = Console(file=file, highlight=False, force_jupyter=False)
        report = self._read(lambda first: console.print(screen.now(first)))
        console.print(screen.renderable(report, _options(depth, sort, top)))

    def brief(self, file: TextIO) -> None:
        """Print how it ended, where the time went, and the slowest handlers: what `loopscope run` shows at its end."""
        from rich.console import Console

        from loopscope.render.report import screen

        console = Console(file=file, highlight=False, force_jupyter=False)
        console.print(screen.renderable(self.report(), Options(top=5, brief=True)))

    def save(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        depth: int | None = None,
        sort: str = "tree",
        top: int = 10,
        force: bool = False,
    ) -> None:
        """Write the report to a file, as its suffix says: `rec.save("run.csv")`, `.md`, `.json`, `.txt`, or a trace.

        `format="trace"` writes a Chrome trace, which Perfetto opens. Raises `LoopscopeError` if the file exists, unless
        `force`.
        """
        from loopscope.saving import save

        save(self.path, self.report, Path(path), format, _options(depth, sort, top), force)

    def __str__(self) -> str:
        return self.render().removesuffix("\n")

    def __repr__(self) -> str:
        return f"<recording {shown(self.path)}; print() shows its report>"

    def __rich__(self) -> RenderableType:
        return self._drawn(Options())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/markdown": self.render("markdown"), "text/plain": str(self)}

    def _drawn(self, options: Options) -> RenderableType:
        from loopscope.render.report import screen

        return screen.renderable(self.report(), options)


def load(path: str | os.PathLike[str]) -> LoopRecording:
    """Return a recording that was made before, or is being made: `print(load("run.loop"))`; raises `LoopscopeError`."""
    recording = LoopRecording(path)
    recording.report()
    return recording


def _options(depth: int | None, sort: Any, top: int) -> Options:
    return Options(depth=depth, sort=sort, top=top)
