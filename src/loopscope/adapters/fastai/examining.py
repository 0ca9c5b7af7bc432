"""What rules read of a fastai run beside its loop: the callbacks with their methods and settings, and the learner."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import fastai
import fastcore
from fastai.callback.core import Callback as Base
from fastai.callback.fp16 import AMPMode
from fastai.learner import Learner, Recorder

from loopscope.adapters.fastai.binding import Member, shadow, static
from loopscope.adapters.fastai.vocabulary import VOCABULARY
from loopscope.callbacks import Callback, Examined, Setting
from loopscope.examining import PLAIN, Passed, Reader, plain_settings

SETTINGS = (
    *("order", "run", "run_train", "run_valid", "run_after", "run_before", "name", "monitor", "patience", "fname"),
    *("n_acc", "max_norm", "norm_type", "reset_on_fit", "every_epoch", "at_end", "add_save", "min_delta", "every"),
)
"""Attributes of callbacks that rules ask for."""


def examine(learn: Learner, members: Sequence[Member], events: Sequence[str]) -> Examined:
    """Return the callbacks of a run, in the order in which they were added, and what the learner is set to."""
    read = reader(events)
    found = tuple(_callback(member, members, read) for member in members)
    return Examined(
        callbacks=found,
        settings=_settings(learn),
        events=tuple(events),
        attributes=dict(_shadows(learn, events)),
        figures=_figures(learn, members, found),
    )


def reader(events: Iterable[str]) -> Reader:
    """Return how fastai's callbacks are read: a handler is called without arguments."""
    known = frozenset(events)
    homes = tuple(os.path.dirname(module.__file__) + os.sep for module in (fastai, fastcore))
    return Reader(Base, homes, lambda name: Passed() if name in known else None, VOCABULARY)


def _callback(member: Member, members: Sequence[Member], read: Reader) -> Callback:
    cls, own = member.cls, member.attributes
    first = next(one for one in members if one.obj is member.obj or one is member)
    attributes = {name: value for name, value in own.items() if name != "learn"}
    settings: dict[str, Setting] = plain_settings(SETTINGS, own, cls)
    for name in ("order", "run"):
        value = member.setting(name)
        if isinstance(value, PLAIN):
            settings[name] = value
    settings["class_run"] = plain_settings(("run",), {}, cls).get("run")  # what it is again for a new instance
    scheds = own.get("scheds")
    if type(scheds) is dict:
        settings["scheds"] = tuple(name for name in scheds if isinstance(name, str))
    mode = own.get("amp_mode")
    if isinstance(mode, AMPMode):
        settings["amp_mode"] = str(mode.value)
    return read.callback(
        member.id,
        cls,
        attributes,
        origin=member.origin,
        mine=member.mine,
        same_as=first.id if first is not member and member.obj is not None else "",
        name=member.name,
        settings=settings,
    )


def _settings(learn: Learner) -> Mapping[str, Setting]:
    own = vars(learn)
    found: dict[str, Setting] = {
        name: own[name]
        for name in ("training", "create_mbar", "wd", "lr", "train_bn")
        if isinstance(own.get(name), PLAIN)
    }
    dls = own.get("dls")
    loaders = getattr(dls, "loaders", None)
    if isinstance(loaders, list):
        found["loaders"] = len(loaders)
        size = getattr(loaders[0], "__dict__", {}).get("bs") if loaders else None
        if isinstance(size, int):
            found["bs"] = size
    found["attributes"] = tuple(sorted({*own, *vars(type(learn))}))
    return found


def _shadows(learn: Learner, events: Iterable[str]) -> Iterator[tuple[str, str]]:
    for event in events:
        found = shadow(learn, event)
        if found is not None:
            yield event, found.method.rpartition(".")[0]


def _figures(learn: Learner, members: Sequence[Member], found: Iterable[Callback]) -> tuple[str, ...] | None:
    """Return the names of Recorder's figures as its `before_fit` makes them: `("train_loss", "valid_loss", "time")`.

    None where a name cannot be read, and where somebody else has a hand in them. Without a recorder there are none.
    """
    recorder = next((one for one in reversed(members) if one.name == "recorder"), None)
    if recorder is None:
        return ()
    if static(recorder.cls, "before_fit") is not vars(Recorder)["before_fit"] or any(map(_names_figures, found)):
        return None
    metrics = vars(learn).get("_metrics", ())
    names = [name for name in (getattr(metric, "name", None) for metric in metrics) if isinstance(name, str)]
    if len(names) < len(metrics):
        return None
    train, valid, time = (bool(recorder.setting(what)) for what in ("train_metrics", "valid_metrics", "add_time"))
    if train and valid:
        names = [f"{part}_{name}" for part in ("train", "valid") for name in ("loss", *names)]
    else:
        names = ["train_loss", *(["valid_loss"] * valid), *names]
    return (*names, *(["time"] * time))


def _names_figures(callback: Callback) -> bool:
    """Return whether a callback changes the names of Recorder's figures."""
    return callback.cls != "Recorder" and any(
        effect.kind == "writes" and effect.target.endswith("metric_names")
        for method in callback.methods
        for effect in method.effects
    )
