"""What a reader of a trainer's map must know beside the tree: overrides, misspelt hooks, what never happens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any

from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from loopscope.adapters.transformers.control import HOME
from loopscope.adapters.transformers.lines import changed
from loopscope.adapters.transformers.members import Member, static, unheard
from loopscope.adapters.transformers.opening import Open
from loopscope.adapters.transformers.overrides import COUNTING, FIRING, Override, Overrides, is_stock
from loopscope.adapters.transformers.schedule import NEVER, Plan
from loopscope.adapters.transformers.settings import Settings
from loopscope.adapters.transformers.vocabulary import EVENT_NAMES
from loopscope.model import Place
from loopscope.source import unwrap

TESTED = ("5.24", "5.25")
"""The versions that the map was tested with: from the first on, up to below the second."""


def of_version(version: str) -> Iterator[str]:
    """Yield what is to be said of the installed version."""
    least, below = TESTED
    if not _numbers(least) <= _numbers(version) < _numbers(below):
        yield (
            f"transformers {version} is not among the tested versions (from {least} on, below {below}): "
            f"what is fired may differ from this map"
        )
    if others := changed():
        names = ", ".join(f"Trainer.{one}" for one in others)
        yield f"{names}: the source in this version is not the one that the map goes by, which may be wrong there"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:3])


def of_overrides(trainer: Any, found: Overrides) -> Iterator[str]:
    """Yield a note for each method of the loop that is the user's own."""
    for one in found.found.values():
        yield f"{one.owner} has its own {one.method} ({short(one.place)}): {_meaning(one)}"
    handler = trainer.callback_handler
    if type(handler) is not CallbackHandler or not is_stock(static(type(handler), "call_event")):
        where = f"{type(handler).__name__}.call_event"
        yield f"callbacks are called by {where}, not Transformers' own: it may call others, or in another order"


def _meaning(one: Override) -> str:
    if one.method in FIRING and not one.known:
        return "what it fires, and in which order, is not known"
    besides = ", ".join(dict.fromkeys(fires.method for fires in one.fires))
    if one.method in FIRING:
        more = f", and fires {besides} besides" if besides else ""
        return f"it calls Transformers' own{more}"
    if one.method in COUNTING:
        return "how many batches there are is not known"
    return (
        f"the loop is the same, what a batch does is its affair{f'; it fires {besides} in between' if besides else ''}"
    )


def of_callbacks(members: Sequence[Member], events: Iterable[str]) -> Iterator[str]:
    """Yield what is odd about the callbacks: misspelt hooks, things that are none, those that nothing calls."""
    for one in members:
        if not issubclass(one.cls, TrainerCallback):
            yield f"{one.label} ({one.cls.__name__}) is in the list of callbacks and is no TrainerCallback"
        yield from _misspelt(one.cls)
    silent = [one for one in unheard(members, events) if one.mine or not one.cls.__module__.startswith("transformers.")]
    for one in silent:
        yield f"nothing in this run calls {one.cls.__name__}: it handles none of the events that fire"


def _misspelt(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        file = _file(base)
        if base in (object, TrainerCallback) or file.startswith(HOME + os.sep):
            continue
        for name, value in vars(base).items():
            if name in EVENT_NAMES or name.startswith("_") or not callable(value):
                continue
            near = get_close_matches(name, EVENT_NAMES, 3, 0.5 if name.startswith("on_") else 0.8)
            if name.startswith("on_") or near:
                hint = f" (did you mean {_either(near)}?)" if near else ""
                yield f"{base.__name__}.{name} is never called: Transformers has no such event{hint}"


def _either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _file(cls: type) -> str:
    plain = (unwrap(value) for value in vars(cls).values())
    return next((one.__code__.co_filename for one in plain if one is not None), "")


def of_training(settings: Settings, members: Sequence[Member], open_: Open, trainer: Any) -> Iterator[str]:
    """Yield what the settings of a training mean that the tree does not show."""
    plan = settings.plan
    if not any(issubclass(one.cls, DefaultFlowCallback) for one in members):
        yield (
            "there is no DefaultFlowCallback: nothing is logged, evaluated or saved by the settings, and max_steps "
            "stops nothing"
        )
    yield from _no_strategy(trainer.args)
    yield from _never_comes(plan)
    if plan.batches is None and not settings.problems:
        yield "the number of batches of an epoch is only known when the run asks its data loader"
    if trainer.args.auto_find_batch_size:
        yield "auto_find_batch_size: where memory runs out, the whole loop begins again with a smaller batch, not shown"
    evaluates = plan.evaluate != NEVER or settings.starts_with_evaluation
    if vars(trainer).get("eval_dataset") is not None and trainer.args.eval_strategy == "no" and not evaluates:
        yield "eval_strategy is 'no': train does not use the eval_dataset"
    keys = [over.name for over in settings.passes.all]
    metric = (settings.metric or "").removeprefix("eval_")
    if (
        keys
        and settings.passes.split
        and settings.metric is not None
        and not any(metric.startswith(f"{key}_") for key in keys)
    ):
        yield (
            f"metric_for_best_model={settings.metric!r}: the figures of a dict of datasets are called eval_{keys[0]}_… "
            f"and so on; where none has this name, the run fails behind its first evaluation"
        )
    if settings.resumed is not None:
        yield f"resumed from {settings.resumed.folder}, which {settings.resumed.step} steps led to"
    if open_.whole.adds:
        yield "a handler may add callbacks while the run goes on: from there on others are called, too"


def _no_strategy(args: Any) -> Iterator[str]:
    """Yield which strategy was set to a value that Transformers does not know, and so compares with in vain."""
    kinds: tuple[tuple[str, str, type[Enum]], ...] = (
        ("logging_strategy", "logged", IntervalStrategy),
        ("eval_strategy", "evaluated", IntervalStrategy),
        ("save_strategy", "saved", SaveStrategy),
    )
    for name, what, kind in kinds:
        given = getattr(args, name)
        accepted = [one.value for one in kind]
        if not isinstance(given, str) or given not in accepted:
            known = ", ".join(map(repr, accepted))
            yield f"{name}={given!r} is no {kind.__name__}: nothing is {what} by it. Accepted: {known}"


def _never_comes(plan: Plan) -> Iterator[str]:
    """Yield which interval is longer than the run, as the default of 500 steps often is."""
    if plan.epochs is None or plan.max_steps <= 0:
        return
    for every, what, word in (
        (plan.log, "is logged", "logging_steps"),
        (plan.evaluate, "is evaluated", "eval_steps"),
        (plan.save, "is saved", "save_steps"),
    ):
        if every.by_steps and every.steps > plan.max_steps and not every.first:
            few = f"the {plan.max_steps} steps of the run"
            yield f"{word}={every.steps:g} is more than {few}: nothing {what} before its end"


def short(place: Place | None) -> str:
    """Return a place, below the current folder without that folder."""
    return "no file" if place is None else str(place).removeprefix(os.getcwd() + os.sep)
