"""Notice the fit-like calls of a program, before anything of them runs.

Constraints: the calls are replaced on their classes once the program itself has imported the framework, never by
importing one, and put back by identity. Only this process is watched: what a forked child calls simply runs.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from loopscope.errors import LoopscopeError, UnknownVersion
from loopscope.model import Place
from loopscope.source import STANDS_IN


@dataclass(frozen=True, slots=True)
class Call:
    """One fit-like call of the program: `Call(learn, "fit", {"n_epoch": 2}, Place("train.py", 12))`.

    `arguments` are those that were passed, by parameter name, `**kwargs` spread out; `place` is the line that calls;
    `note` is what a reader must know where the call was noticed late; within `lifted()` the classes are as the
    program left them, so that what reads their methods reads the program's own (of a recording they stay as they are,
    because other threads train; `source.unwrap` passes over what stands there).
    """

    obj: object
    method: str
    arguments: Mapping[str, object]
    place: Place | None = None
    note: str = ""
    lifted: Callable[[], AbstractContextManager[None]] = nullcontext


_ABSENT: Any = object()


@dataclass(slots=True, eq=False)
class _Swap:
    """One entry of a class's own dict that was replaced; put in and taken out only while nobody else replaced it."""

    owner: type
    name: str
    before: Any
    now: Any

    def put_in(self) -> None:
        if self._stands(self.before):
            setattr(self.owner, self.name, self.now)

    def take_out(self) -> None:
        if not self._stands(self.now):
            return
        while id(self.before) in _COVERED:
            self.before = _COVERED.pop(id(self.before)).before  # kept, so that `put_in` finds what it looks for
        if self.before is _ABSENT:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.before)

    def remove(self) -> None:
        if self._stands(self.now):
            self.take_out()
        else:
            _COVERED[id(self.now)] = self

    def _stands(self, value: Any) -> bool:
        return vars(self.owner).get(self.name, _ABSENT) is value


_COVERED: dict[int, _Swap] = {}
"""What was removed while somebody else's replacement lay on top: whoever takes that off passes over it."""


@dataclass(eq=False)
class FitCalls:
    """Hands each outermost fit-like call of the program to `on_call` before anything of it runs; then it runs.

    >>> calls = FitCalls(print, adapters.FIT_LIKE); calls.install(); learn.fit(1); calls.remove()  # doctest: +SKIP

    What `on_call` raises is raised in place of the call. What it returns, if that can be called, is called when the
    call is over, with the exception that left it or None. Calls that such a call makes in turn are not handed over,
    unless `wants(obj, method)` decides; nor are those in forked children; one that `on_call` itself leads to (it
    imports a file that trains) is refused.
    A subclass that overrides a call is covered as soon as the class exists. A method that was put in place later (a
    patch, an instance attribute) is noticed when it comes to one that is watched: its frame is then looked up.
    `watched` is root -> module -> `Class.method`s; `found` holds, by root, what the imported frameworks have of it.
    """

    on_call: Callable[[Call], object]
    watched: Mapping[str, Mapping[str, Sequence[str]]]
    wants: Callable[[object, str], bool] | None = None
    found: dict[str, list[str]] = field(default_factory=dict)
    _methods: dict[type, set[str]] = field(default_factory=dict)
    _swaps: list[_Swap] = field(default_factory=list)
    _pid: int = field(default_factory=os.getpid)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _thread: threading.local = field(default_factory=threading.local)
    _removed: bool = False

    def install(self) -> None:
        """Watch the calls of each framework that is imported, and of each one that will be."""
        from wrapt import register_post_import_hook

        _INSTALLED.append(self)
        for root, modules in self.watched.items():
            for module, names in modules.items():
                register_post_import_hook(functools.partial(self._imported, root, names), module)

    def remove(self) -> None:
        """Put back what `install` replaced, in any order with others who replace; may be called twice."""
        self._removed = True  # a wrapper that somebody kept, as `_orig_fit` say, only calls through from now on
        for swap in reversed(self._swaps):
            swap.remove()
        self._swaps.clear()
        if self in _INSTALLED:
            _INSTALLED.remove(self)

    def _imported(self, root: str, names: Sequence[str], module: types.ModuleType) -> None:
        if self._removed:  # wrapt offers no way to take a hook back
            return
        present = [name for name in names if self._watch(module, name)]
        if not present:
            raise UnknownVersion(
                f"{module.__name__} ({getattr(module, '__file__', None)}) has none of {', '.join(names)}: this version "
                f"of {root} is not known, and nothing would stop the script. Nothing was run of it from here on."
            )
        self.found.setdefault(root, []).extend(present)

    def _watch(self, module: types.ModuleType, name: str) -> bool:
        owner_name, _, method = name.rpartition(".")
        owner = functools.reduce(lambda at, part: getattr(at, part, None), owner_name.split("."), module)  # type: ignore[arg-type, return-value]
        if not isinstance(owner, type) or not hasattr(owner, method):
            return False
        if owner not in self._methods:
            self._methods[owner] = set()
            self._watch_subclasses(owner)
        self._methods[owner].add(method)
        for one in _family(owner):
            self._wrap(one, {method})
        return True

    def _watch_subclasses(self, owner: Any) -> None:
        before = vars(owner).get("__init_subclass__", _ABSENT)

        def __init_subclass__(cls: Any, /, **kwargs: Any) -> None:  # noqa: N807
            if before is _ABSENT:
                super(owner, cls).__init_subclass__(**kwargs)
            else:
                before.__get__(None, cls)(**kwargs)
            self._wrap(cls, self._methods[owner])

        self._swap(owner, "__init_subclass__", before, classmethod(__init_subclass__))

    def _wrap(self, owner: type, names: set[str]) -> None:
        for name in names:
            before = vars(owner).get(name, _ABSENT)
            if before is not _ABSENT and hasattr(before, "__get__") and not isinstance(before, _NOT_CALLS):
                self._swap(owner, name, before, self._wrapper(name, before))

    def _swap(self, owner: type, name: str, before: Any, now: Any) -> None:
        if self._removed or any(one.now is before for one in self._swaps):
            return
        self._swaps.append(_Swap(owner, name, before, now))
        self._swaps[-1].put_in()

    def _wrapper(self, name: str, before: Any) -> Callable[..., Any]:
        @functools.wraps(before)
        def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
            method = before.__get__(self_, type(self_))
            if not self._is_wanted(self_, name):
                return method(*args, **kwargs)
            arguments = _bind(method, args, kwargs)
            if arguments is None:  # python's own TypeError comes from there, or from what it passes them on to
                return method(*args, **kwargs)
            with self._lock, self._as("looking at"):
                over = self.on_call(self._noticed(self_, name, arguments))
            over = over if callable(over) else _nothing
            try:
                with self._as("inside"):
                    done = method(*args, **kwargs)
            except BaseException as error:
                over(error)
                raise
            over(None)
            return done

        made: Any = call
        WRAPPERS.add(made.__code__)
        setattr(made, STANDS_IN, made.__code__)
        return call

    def _is_wanted(self, obj: object, method: str) -> bool:
        state = getattr(self._thread, "state", "")
        if state == "looking at":
            raise LoopscopeError(
                f'{_caller()} trains while it is imported. Put that behind: if __name__ == "__main__":'
            )
        if self._removed or os.getpid() != self._pid:
            return False
        return not state if self.wants is None else self.wants(obj, method)

    @contextmanager
    def _as(self, state: str) -> Iterator[None]:
        """Say of this thread that it is looking at a fit-like call, or inside one."""
        before = getattr(self._thread, "state", "")
        self._thread.state = state
        try:
            yield
        finally:
            self._thread.state = before

    def _noticed(self, obj: object, method: str, arguments: Mapping[str, object]) -> Call:
        names = {name for owner, names in self._methods.items() if isinstance(obj, owner) for name in names}
        late = _late_call(obj, method, names) if self.wants is None else None  # nested: the outer one is running, too
        call = late or Call(obj, method, arguments, _caller())
        if self.wants is not None:  # another thread may come to a call at this moment, which must be noticed
            return call
        return replace(call, lifted=self._lifted)

    @contextmanager
    def _lifted(self) -> Iterator[None]:
        swaps = [swap for one in _INSTALLED for swap in one._swaps]
        for swap in reversed(swaps):
            swap.take_out()
        try:
            yield
        finally:
            for swap in swaps:
                swap.put_in()


_INSTALLED: list[FitCalls] = []
"""All that are installed, in order: who reads a method must not take a wrapper of another one for the program's own."""

WRAPPERS: set[types.CodeType] = set()
"""The code of what stands in for fit-like calls: a frame of one says that such a call is under way."""


def _nothing(error: BaseException | None) -> None:
    """What is done at the end of a call whose end nobody waits for."""


_NOT_CALLS = (staticmethod, classmethod, property)


def _family(owner: type) -> set[type]:
    below: list[type] = type.__subclasses__(owner)
    return {owner}.union(*map(_family, below))


def _bind(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object] | None:
    """Return the arguments by parameter name, `**kwargs` spread out; None if the signature refuses them."""
    try:
        bound = inspect.signature(method).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None
    arguments: dict[str, object] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = value
    return arguments


def _frames() -> Iterator[types.FrameType]:
    """Yield the frames of the program, from the innermost outwards, without ours."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is not globals():
            yield frame
        frame = frame.f_back


def _caller() -> Place | None:
    return next((Place(frame.f_code.co_filename, frame.f_lineno) for frame in _frames()), None)


def _late_call(obj: object, reached: str, names: set[str]) -> Call | None:
    """Return the outermost fit-like method of `obj` that is already running, if it was not watched itself."""
    frames = list(_frames())
    running = [number for number, frame in enumerate(frames) if _is_method(frame, obj, names)]
    if not running:
        return None
    frame = frames[running[-1]]
    name = frame.f_code.co_name
    caller = frames[running[-1] + 1 : running[-1] + 2]
    return Call(
        obj,
        name,
        _arguments(frame),
        Place(caller[0].f_code.co_filename, caller[0].f_lineno) if caller else None,
        f"{name} ({frame.f_code.co_filename}:{frame.f_code.co_firstlineno}) had begun when it came to {reached}: "
        f"its arguments are shown as they stood then",
    )


def _is_method(frame: types.FrameType, obj: object, names: set[str]) -> bool:
    code = frame.f_code
    return code.co_name in names and code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is obj


def _arguments(frame: types.FrameType) -> dict[str, object]:
    parameters, positional, keywords, values = inspect.getargvalues(frame)
    names = [*parameters[1:], *([positional] if positional else [])]
    return {name: values[name] for name in names if name in values} | (values.get(keywords, {}) if keywords else {})
