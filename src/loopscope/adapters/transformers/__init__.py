"""Hugging Face Transformers: which loop a `Trainer` runs, who is called at each of its events, and why there.

The loop is that of the installed Trainer with the numbers of this one: how many steps, and behind which of them it
logs, evaluates and saves; what handlers may do to `control` on the way is left open there. Verified against
transformers 5.24.0 by the conformance suite. Constraint: the trainer, its callbacks and its data are looked at, never
touched.
"""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
import transformers
from transformers.trainer import Trainer
from transformers.trainer_callback import CallbackHandler

from loopscope import collector
from loopscope.adapters.transformers import notes
from loopscope.adapters.transformers.binding import Read, bind, opened, read, with_open_end
from loopscope.adapters.transformers.control import HOME, NOTHING, Steering
from loopscope.adapters.transformers.dispatch import DISPATCHING, adopt, attach, calibrate, dispatched, verify
from loopscope.adapters.transformers.examining import examine
from loopscope.adapters.transformers.members import Member, flow, instances, members
from loopscope.adapters.transformers.notes import TESTED
from loopscope.adapters.transformers.opening import Open
from loopscope.adapters.transformers.overrides import Overrides, overrides
from loopscope.adapters.transformers.pieces import UNLOGGED, Pieces, fired
from loopscope.adapters.transformers.protocol import Training, evaluate, loses_count, predict, scheduled, unknown
from loopscope.adapters.transformers.settings import (
    NO_PLAN,
    Passes,
    Settings,
    evaluation,
    prediction,
    resumption,
    training,
    without_model,
)
from loopscope.adapters.transformers.vocabulary import EVENT_NAMES, NESTING
from loopscope.callbacks import Examined
from loopscope.catalog import described
from loopscope.catalog.transformers import EVENTS
from loopscope.errors import BadValue, UnknownChoice
from loopscope.model import Binding, Loop, Scope
from loopscope.passing import passed_on
from loopscope.source import unwrap

__all__ = [
    "DISPATCHING",
    "RUNS",
    "TESTED",
    "accepts",
    "adopt",
    "attach",
    "calibrate",
    "describe",
    "describe_call",
    "dispatched",
    "event_docs",
    "examined",
    "facts",
    "verify",
    "versions",
]

RUNS = NESTING
"""The runs that `inspect` names: the methods of a trainer that call callbacks."""

EMPTY: Mapping[str, object] = MappingProxyType({})


def event_docs() -> dict[str, str]:
    """Return every event of the installed Transformers with its description."""
    return described(EVENTS, EVENT_NAMES)


def versions() -> dict[str, str]:
    """Return the versions that a map or a recording depends on."""
    return {
        "transformers": transformers.__version__,
        "accelerate": str(getattr(sys.modules.get("accelerate"), "__version__", "")),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def facts(obj: Any) -> dict[str, object]:
    """Return what a recording says of a trainer: its class, the class of its model, and the model's device."""
    model = vars(obj).get("model")
    first = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
    device = "" if first is None else str(first.device)
    return {"cls": type(obj).__name__, "model": type(model).__name__, "device": device, "framework": "transformers"}


def accepts(obj: object) -> bool:
    """Return whether `obj` is a trainer of Transformers."""
    return isinstance(obj, Trainer)


def describe(
    obj: Any,
    run: str,
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
    cbs: object = None,
    arguments: Mapping[str, object] = EMPTY,
) -> Loop:
    """Return the loop of `obj.<run>(**arguments)`; `epochs` stands for `num_train_epochs`, and no `max_steps`.

    `cbs` are marked as one's own and stand where `obj.add_callback` would put them. Raises `UnknownChoice` for a run,
    `BadValue` where data, a setting or an argument is missing or makes no sense, `BadCallback` for what is no callback.
    """
    if run not in RUNS:
        raise UnknownChoice.of("run", run, RUNS)
    if start_epoch:
        raise BadValue(
            f"{run} takes no start_epoch (got {start_epoch!r}). A training begins later only from a checkpoint: "
            f"give resume_from_checkpoint."
        )
    if epochs is not None and run != "train":
        raise BadValue(f"{run} has no epochs (got epochs={epochs!r}). Leave epochs out.")
    _check(obj, run, arguments)
    with collector.paused():
        asked = _Asked(obj, run, arguments, cbs, None if epochs is None else _natural("epochs", epochs))
        if asked.problems:
            said = asked.problems[0]
            own = said.startswith(("this ", "there "))  # others begin with what the user typed
            raise BadValue(said[0].upper() + said[1:] if own else said)
        return asked.loop()


def describe_call(obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Loop:
    """Return the loop of one call of `obj.<method>` with these arguments, by parameter name.

    `cbs` are further callbacks, marked as one's own. What Transformers itself will fail on is a note of the map: the
    call then ends with its own error.
    """
    if method not in RUNS:
        raise UnknownChoice.of("run", method, RUNS)
    with collector.paused():
        try:
            return _Asked(obj, method, arguments, cbs, None).loop()
        except BadValue as error:
            return _bare(obj, method, str(error))


def examined(obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Examined:
    """Return what rules read of the callbacks of the same call, beside its loop."""
    with collector.paused():
        try:
            found = _members(obj, method, arguments, cbs)
        except (BadValue, AttributeError):  # it was never set up, which the map says
            return Examined((), events=EVENT_NAMES)
        return examine(obj, method, found, overrides(obj), arguments)


def _named(trainer: Any, run: str, arguments: Mapping[str, object]) -> Mapping[str, object]:
    """Return the arguments of a run by Transformers' names, whatever a Trainer of one's own calls them."""
    return passed_on(unwrap(getattr(type(trainer), run)), unwrap(getattr(Trainer, run)), arguments)


def _members(trainer: Any, run: str, arguments: Mapping[str, object], cbs: object) -> list[Member]:
    resumed = resumption(trainer, arguments) if run == "train" else None
    return members(trainer, instances(cbs), resumed)


def _check(obj: Any, run: str, arguments: Mapping[str, object]) -> None:
    """Raise `BadValue` for an argument that the run does not take, and for one that it cannot do without."""
    taken = inspect.signature(getattr(type(obj), run)).parameters
    names = [name for name, one in taken.items() if name != "self" and one.kind is not one.VAR_KEYWORD]
    more = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    if not more and (unknown_ := [name for name in arguments if name not in names]):
        raise BadValue(f"{run} takes no {unknown_[0]}. Accepted: {', '.join(names)}.")
    if run == "predict" and arguments.get("test_dataset") is None:
        raise BadValue("predict needs data: type test_dataset=..., the dataset that it is to be run on.")


def _natural(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadValue(f"{name}={value!r} is no whole number. Type {name}=1, say.")
    number = int(value.__index__())
    if number < 0:
        raise BadValue(f"{name}={number} is negative. Accepted: 0 or more.")
    return number


class _Asked:
    """One run that is asked about: what was read of the trainer, and the loop that this makes."""

    def __init__(
        self, trainer: Any, run: str, arguments: Mapping[str, object], cbs: object, epochs: int | None
    ) -> None:
        if not isinstance(vars(trainer).get("callback_handler"), CallbackHandler):
            name = type(trainer).__name__
            raise BadValue(f"this {name} has no callback_handler. Was its __init__ run? Type {name}(model, args, ...).")
        arguments = _named(trainer, run, arguments)
        self.trainer, self.run, self.arguments, self.epochs = trainer, run, arguments, epochs
        self.overrides = overrides(trainer)
        self.members: list[Member] = _members(trainer, run, arguments, cbs)
        self.handlers: list[Read] = read(self.members)
        found = self._settings()
        self.settings = replace(found, problems=(*without_model(trainer, run), *found.problems))
        self.open = self._open()
        if run == "train" and loses_count(self.settings, self.open):
            self.handlers = with_open_end(self.handlers)
            self.open = self._open()
        self.problems = self.settings.problems

    def _settings(self) -> Settings:
        counts = self.overrides.counts
        problems: list[str] = []
        if self.run == "train":
            return training(self.trainer, self.arguments, flow(self.members), self.epochs, counts)
        if self.run == "evaluate":
            passes = evaluation(self.trainer, self.arguments.get("eval_dataset"), counts, problems)
        else:
            passes = prediction(self.trainer, self.arguments.get("test_dataset"), counts)
        return Settings(NO_PLAN, passes, problems=tuple(problems))

    def _open(self) -> Open:
        free: Steering = NOTHING
        for one in self.overrides.found.values():
            free = free | one.steering
        return opened(
            self.handlers,
            free,
            sums_up=self.settings.plan.accumulation > 1,
            starts_with_evaluation=self.settings.starts_with_evaluation,
        )

    def loop(self) -> Loop:
        root = self._root()
        events = dict.fromkeys(fired(root))
        handlers = [one for one in self.handlers if one.event in events]
        return _loop(
            self.trainer,
            self.run,
            self.arguments,
            root,
            binding=bind(handlers, self.open),
            flags={**self.open.known(), UNLOGGED: False},
            notes=tuple(dict.fromkeys(self._notes(list(events)))),
        )

    def _root(self) -> Scope:
        pieces = _pieces(self.trainer, self.run, self.overrides, self.settings)
        if self.run == "train":
            return Training(pieces, self.settings, self.open, scheduled(self.settings, self.open)).root()
        return evaluate(pieces) if self.run == "evaluate" else predict(pieces, self.settings.passes.all[0])

    def _notes(self, events: list[str]) -> Iterator[str]:
        yield from (f"this call will fail: {problem}" for problem in self.settings.problems)
        yield from notes.of_version(transformers.__version__)
        yield from notes.of_overrides(self.trainer, self.overrides)
        yield from notes.of_callbacks(self.members, events)
        if self.run == "train":
            yield from notes.of_training(self.settings, self.members, self.open, self.trainer)
        if self.epochs is not None:
            yield f"with num_train_epochs={self.epochs} in place of what its args say"


def _pieces(trainer: Any, run: str, found: Overrides, settings: Settings) -> Pieces:
    own = vars(trainer)
    return Pieces(
        type(trainer).__name__,
        found,
        settings,
        has_metrics=own.get("compute_metrics") is not None,
        has_loss=own.get("compute_loss_func") is not None or own.get("label_smoother") is not None,
        generates=bool(getattr(own.get("args"), "predict_with_generate", False)),
    )


def _bare(trainer: Any, run: str, problem: str) -> Loop:
    """Return the map of a run of a trainer that nothing can be read of: its events, in any order."""
    root = unknown(_pieces(trainer, run, Overrides(), Settings(NO_PLAN, Passes())), run)
    return _loop(trainer, run, EMPTY, root, binding=Binding(), notes=(f"this call will fail: {problem}",))


def _loop(trainer: Any, run: str, arguments: Mapping[str, object], root: Scope, **more: Any) -> Loop:
    return Loop(
        framework="transformers",
        subject=type(trainer).__name__,
        run=run,
        call=_call(run, arguments),
        root=root,
        docs=event_docs(),
        versions=versions(),
        home=HOME,
        own_flags=run != "train",
        **more,
    )


def _call(run: str, arguments: Mapping[str, object]) -> str:
    """Return the call as one would type it; what is no plain value goes by its name."""
    shown = []
    for name, value in arguments.items():
        if name == "test_dataset":
            shown.append(name)
        elif value is not None:
            plain = isinstance(value, (str, int, float)) or (isinstance(value, list) and len(repr(value)) < 60)
            shown.append(f"{name}={value!r}" if plain else f"{name}={name}")
    return f"trainer.{run}({', '.join(shown)})"
