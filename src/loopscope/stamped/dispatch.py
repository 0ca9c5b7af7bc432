"""Which objects are recorded at a dispatch, and the functions that are in place for them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Any

from loopscope.errors import UnknownVersion
from loopscope.stamped.transplant import Point, stamped
from loopscope.stamped.watching import Naming, Watched


class Dispatch:
    """The dispatch of one framework: `Dispatch("transformers", "5.24.0", points, naming)`.

    `naming` says what events and handlers are called. `codes` are the code objects of all functions that it puts in
    place: a frame of one says that a handler may be open.
    """

    def __init__(self, framework: str, version: str, points: Sequence[Point], naming: Naming) -> None:
        self.framework, self.version, self.naming = framework, version, naming
        self.points = tuple(points)
        self.stock: dict[Point, FunctionType] = {point: vars(point.owner)[point.name] for point in self.points}
        self.codes: set[CodeType] = set()
        self.watched: dict[int, Watched] = {}
        self.adopters: list[Callable[[Any, Any], None]] = []
        self._forms: dict[str, dict[Point, FunctionType]] = {}

    def verify(self) -> None:
        """Raise `UnknownVersion` unless the framework's functions have the shape that the points say."""
        for point in self.points:
            now = vars(point.owner).get(point.name)
            if now is not self.stock[point] and getattr(now, "__code__", None) not in self.codes:
                raise self.unknown(f"{point.owner.__qualname__}.{point.name} was replaced since it was imported")
        self._form("one")

    def unknown(self, what: str) -> UnknownVersion:
        """Return the error that says what this version has not, or has in another shape."""
        return UnknownVersion(
            f"{self.framework} {self.version} cannot be recorded: {what}. Nothing was attached; `loopscope show` still "
            f"reads the loop."
        )

    def watch(self, obj: Any, key: Any, subject: Any) -> Callable[[], None]:
        """Record `obj`, whose recordings are found by the identity of `key`; return what detaches it.

        `key` is what `Point.key` gives: the object itself, or what dispatches for it. Detaching works in any order,
        twice, and from inside a handler. Raises `UnknownVersion`, before anything is changed.
        """
        self.verify()
        watched = Watched(obj, subject, self.naming)
        subject.watched = watched
        number = id(key)
        first = self.watched.get(number)
        self._share(number, (*(first.all if first else ()), watched))
        gone = weakref.finalize(key, self._drop, number, watched)
        gone.atexit = False
        self._install()

        def detach() -> None:
            if gone.detach() is not None:
                self._drop(number, watched)
            self._install()  # also where the object died first: what stood in for its dispatch must not stay

        return detach

    def watch_all(self, watch: Callable[[Any], Callable[[], None]]) -> Callable[[], None]:
        """Record every object that is adopted, by `watch(obj)`, once; return what detaches them all."""
        mine: list[Callable[[], None]] = []
        known: dict[int, weakref.ref[Any]] = {}

        def adopter(obj: Any, _: Any = None) -> None:
            before = known.get(id(obj))
            if before is None or before() is not obj:
                known[id(obj)] = weakref.ref(obj)
                mine.append(watch(obj))

        self.adopters.append(adopter)

        def detach() -> None:
            if adopter in self.adopters:
                self.adopters.remove(adopter)
            while mine:
                mine.pop()()

        return detach

    def adopt(self, obj: Any) -> None:
        """Have an object recorded that is met for the first time, by everybody who records all."""
        for adopter in list(self.adopters):
            adopter(obj, None)

    def _drop(self, number: int, watched: Watched) -> None:
        first = self.watched.get(number)
        self._share(number, tuple(one for one in (first.all if first else ()) if one is not watched))

    def _share(self, number: int, several: tuple[Watched, ...]) -> None:
        for one in several:
            one.all = several
        if several:
            self.watched[number] = several[0]
        else:
            self.watched.pop(number, None)

    def _form(self, name: str) -> dict[Point, FunctionType]:
        if name not in self._forms:
            made = {p: stamped(p, name, self.watched, self.unknown, self.stock[p]) for p in self.points}
            self.codes.update(function.__code__ for function in made.values())
            self._forms[name] = made
        return self._forms[name]

    def _install(self) -> None:
        """Put the form in place that the recordings of now need: none, that for one, or that for several of one."""
        if not self.watched:
            wanted = self.stock
        else:
            wanted = self._form("many" if any(len(one.all) > 1 for one in self.watched.values()) else "one")
        for point in self.points:
            now = vars(point.owner).get(point.name)
            ours = now is self.stock[point] or getattr(now, "__code__", None) in self.codes
            if ours and now is not wanted[point]:  # what somebody else has put there meanwhile is left alone
                setattr(point.owner, point.name, wanted[point])
