"""Watches a real Lightning run from outside: every event and handler call, by `sys.settrace`, with nothing patched.

The trace function looks at the frames of `trainer/call.py`, which call the hooks, at what these call directly, and at
the names that reach `Profiler.start` and `stop`. It is the independent witness that loopscope's map is compared with:
of the adapter it only uses the rule for ids, and `describe_call` for the map of a run inside a handler.
"""

from __future__ import annotations

import functools
import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

from loopscope.model import Loop, over
from loopscope.seen import Call, Fired

CALLBACKS = ("_call_callback_hooks", "_call_callbacks_on_save_checkpoint", "_call_callbacks_on_load_checkpoint")
OTHERS = ("_call_lightning_module_hook", "_call_lightning_datamodule_hook", "_call_strategy_hook")
RUNS = ("fit", "validate", "test", "predict")
EDGES = {
    "batch_to_device",
    "transfer_batch_to_device",
    "optimizer_step",
    "training_step",
    "validation_step",
    "test_step",
    "predict_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
}
"""The hooks that are calls around something, an event or a step of the framework's own."""

STEPS = {"training_step", "validation_step", "test_step", "predict_step"}
QUIET = {"on_sanity_check_start", "on_sanity_check_end", "on_load_checkpoint", "on_exception"}
"""The events at which nothing but callbacks is called: a recording sees nothing of them where no callback has them."""


@dataclass
class Open:
    """An event to which calls are still added: it stands at `at` in `into`, and was fired by the frame `caller`.

    One that nobody sees who records does not stand there before it has a call.
    """

    name: str
    caller: FrameType | None
    into: list[Fired]
    quiet: bool = False
    at: int = -1
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.quiet:
            self.write()

    def write(self) -> None:
        if self.at < 0:
            self.at = len(self.into)
            self.into.append(Fired(self.name))
        self.into[self.at] = Fired(self.name, tuple(self.calls))


@dataclass
class Calling:
    """A handler call that is under way; `inner` are the events that fire inside of it."""

    frame: FrameType
    event: Open
    at: int
    inner: list[Fired] = field(default_factory=list)
    run: str | None = None
    before: Open | None = None


class Watch:
    """What happened in the runs of one trainer: `fired` as `parse.follow` takes it."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.fired: list[Fired] = []
        self.outcome: str | None = None
        self.error: BaseException | None = None
        self.places: list[tuple[str, str, str]] = []
        self.loops: dict[str, Loop] = {}
        self.calling: list[Calling] = []
        self.event: Open | None = None
        self.ids: dict[int, str] = {}
        self.numbers: dict[int, list[Any]] = {}  # of each trainer that was met: itself, then its callbacks
        self.dispatches: list[tuple[FrameType, str]] = []
        root = type(trainer).__mro__[-2].__module__.partition(".trainer")[0]
        self.call = sys.modules[f"{root}.trainer.call"]
        self.package = sys.modules[root]
        self.strategy = sys.modules[f"{root}.strategies"].Strategy  # type: ignore[attr-defined]
        self.profiler = sys.modules[f"{root}.profilers"].Profiler  # type: ignore[attr-defined]
        # by identity: each call of python's is looked up here, and code objects are slow to compare
        self.codes = {id(getattr(self.call, name).__code__): name for name in (*CALLBACKS, *OTHERS)}
        self.runs = {id(getattr(self.package.Trainer, name).__code__): name for name in RUNS}
        self.interrupt = self.call._interrupt.__code__

    def nested(self, call: Call) -> Loop:
        return self.loops[call.run or ""]

    @contextmanager
    def __call__(self) -> Iterator[Watch]:
        before = sys.gettrace()
        sys.settrace(self.trace)
        try:
            yield self
        except BaseException as error:  # the outcome of a run is what is being watched
            self.outcome, self.error = type(error).__name__, error
        finally:
            sys.settrace(before)

    # -- frames ------------------------------------------------------------------------------------------

    def trace(self, frame: FrameType, kind: str, arg: object) -> Any:
        code = frame.f_code
        known = id(code)
        if known in self.codes:
            return self.dispatch(frame, self.codes[known])
        if known in self.runs and self.calling:
            return self.run(frame)
        if code.co_name in ("start", "stop") and self.is_profiler(frame):
            return self.action(frame)
        if code is self.interrupt and self.watched(frame.f_locals["trainer"]):
            return self.in_dispatch  # the strategy is called from here, without a dispatch
        if code.co_name == "on_exception" or self.dispatches:
            return self.handler(frame)
        return None

    def watched(self, trainer: Any) -> bool:
        return trainer is self.trainer or bool(self.calling)

    def is_profiler(self, frame: FrameType) -> bool:
        asked = frame.f_locals.get("self")
        known = asked is self.trainer.profiler or (bool(self.calling) and isinstance(asked, self.profiler))
        return known and "action_name" in frame.f_locals

    @property
    def into(self) -> list[Fired]:
        return self.calling[-1].inner if self.calling else self.fired

    def dispatch(self, frame: FrameType, function: str) -> Any:
        """A function begins that calls one hook."""
        trainer = frame.f_locals["trainer"]
        if not self.watched(trainer):
            return None
        frame.f_trace_lines = False
        self.number(trainer)
        hook = frame.f_locals.get("hook_name") or function.removeprefix("_call_callbacks_")
        if hook == "on_load_checkpoint" and function == "_call_lightning_module_hook":
            hook = "LightningModule.on_load_checkpoint"
        if hook in EDGES:
            self.edge(hook)
            self.dispatches.append((frame, hook))
            return self.in_edge
        self.dispatches.append((frame, hook))
        self.begin(hook, frame.f_back)
        return self.in_dispatch

    def begin(self, name: str, caller: FrameType | None) -> None:
        """Begin an event, or go on with it where one function calls the same hook of others."""
        event = self.event
        if event is not None and event.name == name and event.caller is caller and event.into is self.into:
            return
        quiet = name in QUIET and not (name == "on_exception" and self.trainer.datamodule is not None)
        self.event = Open(name, caller, self.into, quiet)

    def edge(self, name: str) -> None:
        self.event = Open(name, None, self.into)

    def in_edge(self, frame: FrameType, kind: str, arg: Any) -> Any:
        if kind == "return":
            _, hook = self.dispatches.pop()
            self.edge(over(hook))
        return self.in_edge

    def in_dispatch(self, frame: FrameType, kind: str, arg: Any) -> Any:
        if kind == "exception" and self.event is not None and self.event.calls:
            last = self.event.calls[-1]
            self.event.calls[-1] = Call(last.handler, arg[0].__name__, last.inner, last.run)
            self.event.write()
        elif kind == "return" and self.dispatches and self.dispatches[-1][0] is frame:
            self.dispatches.pop()
        return self.in_dispatch

    def action(self, frame: FrameType) -> Any:
        """Something that is no hook begins or ends, as it tells the profiler."""
        name = str(frame.f_locals["action_name"])
        if name.startswith(("[Callback]", "[LightningModule]", "[Strategy]", "[LightningDataModule]")):
            return None
        name = name.rpartition(".")[2]
        starts = frame.f_code.co_name == "start"
        if name == "optimizer_step":  # by hand: where that raises, Lightning does not say that it ended
            stepping = frame.f_back.f_back if starts and frame.f_back is not None else None
            if stepping is not None:
                self.edge(name)
                stepping.f_trace = self.in_step
            return None
        self.edge(name if starts else over(name))
        return None

    def in_step(self, frame: FrameType, kind: str, arg: Any) -> Any:
        if kind == "return":
            self.edge(over("optimizer_step"))
        return self.in_step

    # -- handlers ----------------------------------------------------------------------------------------

    def handler(self, frame: FrameType) -> Any:
        """A handler begins, if this frame is one: a dispatch called it, and it is not the framework's own."""
        code = frame.f_code
        if frame.f_back is not None and frame.f_back.f_code is self.interrupt and code.co_name == "on_exception":
            owner = frame.f_locals["self"]
            if code is not self.strategy.on_exception.__code__ and isinstance(owner, self.strategy):
                self.begin("on_exception", frame.f_back)
                return self.calls(frame, f"{type(owner).__name__}#0", "on_exception")
            return None
        if not self.dispatches:
            return None
        dispatch, hook = self.dispatches[-1]
        if hook in STEPS and not self.stepped(hook) and code is first_code(getattr(self.module(dispatch), hook)):
            return self.edge_call(hook, f"{type(self.module(dispatch)).__name__}#0", code)
        if frame.f_back is not dispatch:
            return None
        owner, function, base = self.called(dispatch, hook)
        if code is not first_code(function):
            return None
        if code is getattr(getattr(base, hook.rpartition(".")[2], None), "__code__", None):
            return None
        number = self.ids.get(id(owner), f"{type(owner).__name__}#0")
        return self.edge_call(hook, number, code) if hook in EDGES else self.calls(frame, number, hook)

    def stepped(self, hook: str) -> bool:
        return self.event is None or self.event.name != hook or bool(self.event.calls)

    def module(self, dispatch: FrameType) -> Any:
        return dispatch.f_locals["trainer"].lightning_module

    def called(self, dispatch: FrameType, hook: str) -> tuple[Any, Any, Any]:
        """Return whose hook a dispatch is about to call, the function, and the class in which it does nothing."""
        names, trainer = dispatch.f_locals, dispatch.f_locals["trainer"]
        function = self.codes[id(dispatch.f_code)]
        if function == "_call_strategy_hook":
            return trainer.strategy, names.get("fn"), self.strategy
        if function == "_call_lightning_datamodule_hook":
            return trainer.datamodule, names.get("fn"), self.package.LightningDataModule
        if function == "_call_lightning_module_hook":
            return names.get("pl_module"), names.get("fn"), self.package.LightningModule
        callback = names.get("callback")
        found = names.get("fn") if function == "_call_callback_hooks" else getattr(callback, hook, None)
        return callback, found, self.package.Callback

    def edge_call(self, hook: str, handler: str, code: CodeType) -> None:
        if self.event is not None and self.event.name == hook and not self.event.calls:
            self.event.calls.append(Call(handler))
            self.event.write()
            self.places.append((hook, handler, where(code)))

    def calls(self, frame: FrameType, handler: str, hook: str) -> Any:
        assert self.event is not None
        self.event.calls.append(Call(handler))
        self.event.write()
        self.calling.append(Calling(frame, self.event, len(self.event.calls) - 1, before=self.event))
        self.places.append((hook, handler, where(frame.f_code)))
        frame.f_trace_lines = False
        self.event = None
        return self.in_call

    def in_call(self, frame: FrameType, kind: str, arg: Any) -> Any:
        if kind == "return":
            top = self.calling.pop()
            top.event.calls[top.at] = Call(top.event.calls[top.at].handler, None, tuple(top.inner), top.run)
            top.event.write()
            self.event = top.before
        return self.in_call

    def run(self, frame: FrameType) -> Any:
        """A run begins inside a handler: its map is read now."""
        method = self.runs[id(frame.f_code)]
        top = self.calling[-1]
        if top.run is None:
            names = frame.f_code.co_varnames[1 : frame.f_code.co_argcount]
            arguments = {name: frame.f_locals[name] for name in names if frame.f_locals[name] is not None}
            top.run = f"{method} {len(self.loops)}"
            tracing = sys.gettrace()
            sys.settrace(None)
            from loopscope.adapters import lightning as adapter

            self.loops[top.run] = adapter.describe_call(frame.f_locals["self"], method, arguments)
            sys.settrace(tracing)
        return None

    def number(self, trainer: Any) -> None:
        """Give the callbacks of a trainer the ids of the map: class and place in the list, later ones behind."""
        if trainer.state.fn is None or not self.attached(trainer):
            return
        known = self.numbers.setdefault(id(trainer), [trainer])
        for one in trainer.callbacks:
            if id(one) not in self.ids:
                known.append(one)
                self.ids[id(one)] = f"{type(one).__name__}#{len(known) - 1}"

    def attached(self, trainer: Any) -> bool:
        """Whether the model's own callbacks are in the list: not before `configure_callbacks` has returned."""
        return not any(hook == "configure_callbacks" for _, hook in self.dispatches) and self.event is not None


def first_code(function: Any) -> CodeType | None:
    """The code that calling a function runs first."""
    if isinstance(function, MethodType):
        return first_code(function.__func__)
    if isinstance(function, functools.partial):
        return first_code(function.func)
    if isinstance(function, FunctionType):
        return function.__code__
    return getattr(vars(type(function)).get("__call__"), "__code__", None)


def where(code: CodeType) -> str:
    """The line of the `def`, behind its decorators."""
    line = code.co_firstlineno
    for number in range(line, line + 20):
        if linecache.getline(code.co_filename, number).lstrip().startswith(("def ", "async def ")):
            line = number
            break
    return f"{code.co_filename}:{line}"
