"""A recording from start to stop: the file, the adapters that write to it, and the fit-like calls that it places.

`Session(learn, "run.loop")` records one object, `Session(None, "run.loop")` every one of the program, from the first
fit-like call on. Constraint: everything that `start` put in place, `stop` takes away, on every way
out, in any order with other sessions.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from loopscope import adapters, collector
from loopscope.adapters import Adapter
from loopscope.errors import LoopscopeError
from loopscope.fitcalls import WRAPPERS, Call, FitCalls
from loopscope.recorder import Left, Recorder, Subject
from loopscope.recording import Tape, facts
from loopscope.script import describe, known_calls

LIMIT = 4 << 30
"""How large a recording may grow, in bytes, unless something else is asked for."""


@dataclass(eq=False)
class Session:
    """One recording; `obj` None stands for every learner or trainer of the program.

    `path` may be taken: then `force` overwrites it. Raises what `adapters.find` and `Tape.create` raise, before
    anything is put in place.
    """

    obj: object | None
    path: str | os.PathLike[str]
    force: bool = False
    limit: int = LIMIT
    recorder: Recorder | None = None
    _calls: FitCalls | None = None
    _detach: dict[str, Callable[[], None]] = field(default_factory=dict)
    _subjects: dict[int, Subject] = field(default_factory=dict)
    _adapters: dict[str, Adapter] = field(default_factory=dict)
    _folder: str = ""
    _inode: tuple[int, int] = 0, 0
    _ended: bool = False
    _told: set[str] = field(default_factory=set)

    def start(self) -> Session:
        """Create the file and attach."""
        self._folder = _here()
        adapter = None if self.obj is None else adapters.find(self.obj)
        if adapter is not None:
            if not records(adapter):
                raise LoopscopeError(f"{adapter.__name__} can describe a loop, but not record one.")
            adapter.verify()
        header = {**facts(), **({} if adapter is None else {"versions": dict(adapter.versions())})}
        tape = Tape.create(ranked(self.path), header, force=self.force, limit=self.limit, on_stop=self._let_go)
        self._inode = _inode(tape.path)
        self.recorder = Recorder(tape)
        try:
            if adapter is not None:
                self._attach(adapter, self.obj)
            self._calls = FitCalls(self._on_call, recorded_calls(), wants=self._wants)
            self._calls.install()
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def runs(self) -> int:
        """How many kinds of runs were recorded so far."""
        return 0 if self.recorder is None else sum(key[0] == "run" for key in self.recorder.codes)

    @property
    def calls(self) -> FitCalls | None:
        """What notices the fit-like calls."""
        return self._calls

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that records."""
        return self.recorder is not None and self.recorder.tape.stopped == "forked child"

    @property
    def file(self) -> Path:
        """The file that is written."""
        assert self.recorder is not None
        return self.recorder.tape.path

    @property
    def there(self) -> bool:
        """Whether the file that is written still has its name: the program may have removed or replaced it."""
        return self._inode != (0, 0) and _inode(self.file) == self._inode

    @property
    def unrecorded(self) -> bool:
        """Whether it was said that something runs unrecorded."""
        return bool(self._told)

    @property
    def name(self) -> str:
        """The file as one would type it where the recording began: the program may have gone elsewhere since."""
        return shown(self.file, self._folder)

    def left_by(self, error: BaseException | None) -> Left | None:
        """Return where `error` left a recorded run, None if it comes from elsewhere."""
        left = None if self.recorder is None else self.recorder.left
        if left is None or error is None or left.key != id(error) or left.exception != type(error).__name__:
            return None
        trace = error.__traceback__
        while trace is not None:  # another exception may have got the address of one that was caught
            if trace.tb_frame.f_code in WRAPPERS and trace.tb_frame.f_locals.get("self") is self._calls:
                return left
            trace = trace.tb_next
        return None

    def stop(self) -> None:
        """Detach, and close the file; may be called twice, and in a forked child, where it does nothing."""
        if self._ended or self.recorder is None:
            return
        self._ended = True
        tape = self.recorder.tape
        end = tape.clock()
        self._let_go()
        self.obj = object()  # a recording that is over must not keep it alive
        if tape.stopped:
            tape.close(stop_clock=end, reading=self.recorder.reading)
            return
        cost: dict[str, object] = {}
        for adapter in self._adapters.values():
            if self._subjects:
                cost = dict(adapter.calibrate())
        tape.close(stop_clock=end, reading=self.recorder.reading, cost=cost)

    def _let_go(self) -> None:
        """Take away all that was put in place; the file stays open."""
        if self._calls is not None:
            self._calls.remove()
        while self._detach:
            self._detach.popitem()[1]()

    # -- attaching ---------------------------------------------------------------------------------------

    def _attach(self, adapter: Adapter, obj: object | None) -> None:
        self._adapters[adapter.__name__] = adapter
        self._detach[adapter.__name__] = adapter.attach(obj, functools.partial(self._subject, adapter))

    def _subject(self, adapter: Adapter, obj: object) -> Subject:
        assert self.recorder is not None
        subject = self.recorder.subject(obj, adapter.facts(obj))
        self._subjects[id(obj)] = subject
        return subject

    # -- fit-like calls ----------------------------------------------------------------------------------

    def _wants(self, obj: object, method: str) -> bool:
        """Return whether a call begins a run: it is the outermost of its object, or made by one of its handlers."""
        if self.obj is not None and obj is not self.obj:
            return False
        dispatching = {code for adapter in self._adapters.values() for code in adapter.DISPATCHING}
        frame: types.FrameType | None = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            if code in dispatching and self._dispatched(frame.f_locals.get(code.co_varnames[0])) is obj:
                return True
            if code in WRAPPERS and _is_under_way(frame, self._calls, obj):
                return False
            frame = frame.f_back
        return True

    def _dispatched(self, first: object) -> object:
        """Return whose handlers a dispatch calls, whose first argument is given: mostly that itself."""
        for adapter in self._adapters.values():
            found = getattr(adapter, "dispatched", None)
            obj = found(first) if found is not None else None
            if obj is not None:
                return obj
        return first

    def _on_call(self, call: Call) -> Callable[[BaseException | None], None] | None:
        subject = self._known(call.obj)
        if subject is None or self.recorder is None or self.recorder.tape.stopped:
            return None
        try:
            with collector.paused():
                return subject.begin(call.obj, lambda: describe(call), call.place)
        except Exception as error:  # what it is said here must not come up in the program in place of its own call
            why = str(error) if isinstance(error, LoopscopeError) else f"{type(error).__name__}: {error}"
            self._tell_once(f"loopscope: the loop of {call.method} cannot be read, and it runs without a map. {why}")
            return None

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            tell(line)

    def _known(self, obj: object) -> Subject | None:
        """Return what records `obj`, met for the first time by its first fit-like call perhaps."""
        subject = self._subjects.get(id(obj))
        if subject is not None and subject.ref() is obj:
            return subject
        if self.obj is not None:
            return None
        adapter = adapters.find(obj)
        if not records(adapter):
            self._tell_once(f"loopscope: {adapter.__name__} can describe a loop, not record one: it runs unrecorded")
            return None
        if adapter.__name__ not in self._adapters:  # not before: a framework is half imported for a while
            assert self.recorder is not None
            adapter.verify()
            self.recorder.tape.line("versions", versions=dict(adapter.versions()))
            self._attach(adapter, None)
        adapter.adopt(obj)
        return self._subjects.get(id(obj))


def _is_under_way(frame: types.FrameType, calls: FitCalls | None, obj: object) -> bool:
    """Return whether a wrapper of `calls`, not one of another recording, has begun a run of `obj`."""
    found = frame.f_locals
    return found.get("self") is calls and found.get("self_") is obj and "over" in found


def records(adapter: Adapter) -> bool:
    """Return whether an adapter can record; one of a third party may only describe."""
    return all(hasattr(adapter, name) for name in ("attach", "adopt", "calibrate", "facts", "verify", "versions"))


def recorded_calls() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the calls that begin a run: those that `show` stops at, and those that only a handler makes."""
    calls = known_calls()
    for root, modules in adapters.NESTED.items():
        for module, names in modules.items():
            calls[root][module] = (*calls[root].get(module, ()), *names)
    return calls


def ranked(path: str | os.PathLike[str]) -> Path:
    """Return the file of this process: under torchrun and the like, ranks from 1 on get `run.rank1.loop`."""
    rank = os.environ.get("RANK", "")
    given = Path(os.fsdecode(path))
    if not rank.isdigit() or int(rank) == 0:
        return given
    return given.with_name(f"{given.stem}.rank{int(rank)}{given.suffix}")


def where(left: Left, file: str) -> str:
    """Return the one line that says where an exception left a recorded run, and what to type next."""
    at = f"at {left.handler}" if left.handler else f"after {left.event}" if left.event else "outside of every event"
    counts = [f"{name} {n}" for name, n in (("epoch", left.epoch), ("batch", left.batch)) if n is not None]
    detail = ", ".join([*([f"event {left.event}"] if left.handler else []), *counts])
    return (
        f"loopscope: {left.exception} left {left.run} {at}{f' ({detail})' if detail else ''}; "
        f"the calls before it: loopscope report {file}"
    )


def tell(line: str) -> None:
    """Write one line to stderr, whatever state that is in."""
    with suppress(Exception):  # closed, replaced, full: a recording must not change how the program ends
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def shown(file: Path, folder: str | None = None) -> str:
    """Return the path as one would type it in `folder`, or here."""
    here = _here() if folder is None else folder
    return shlex.quote(str(file).removeprefix(f"{here}{os.sep}")) if here else shlex.quote(str(file))


def _inode(file: Path) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""
