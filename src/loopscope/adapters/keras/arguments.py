"""What the arguments of `fit`, `evaluate` and `predict` come to: how many epochs and batches, and what stops them."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras.callbacks import BackupAndRestore

from loopscope.adapters.keras import data
from loopscope.adapters.keras.members import EVENT_NAMES, Member, Members, static
from loopscope.adapters.keras.protocol import Plan, Stops
from loopscope.adapters.keras.reading import of_keras, own
from loopscope.adapters.keras.stopping import assigns, handlers
from loopscope.adapters.keras.vocabulary import STOPS
from loopscope.model import Repeat
from loopscope.passing import passed_on
from loopscope.source import unwrap

_NO_DATA = "no data is given: type x=... to see how many batches there are"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one call, by name: `given` as they are passed, `all` with Keras's defaults for the rest."""

    run: str
    given: Mapping[str, Any]
    all: Mapping[str, Any]

    @classmethod
    def of(cls, model: Any, run: str, given: Mapping[str, Any]) -> Arguments:
        function = unwrap(of_keras(model, run))
        parameters = {} if function is None else inspect.signature(function).parameters
        empty = inspect.Parameter.empty
        defaults = {name: None if one.default is empty else one.default for name, one in parameters.items()}
        mine = unwrap(getattr(type(model), run, None))
        named = dict(given) if function is None or mine is None else passed_on(mine, function, given)
        return cls(run, named, {**defaults, **named})

    def __getitem__(self, name: str) -> Any:
        return self.all.get(name)

    @property
    def callbacks(self) -> Any:
        return self["callbacks"]

    @property
    def verbose(self) -> Any:
        return self["verbose"]

    def text(self, own: Iterable[object]) -> str:
        """Return the call as one would type it: `model.fit(x, y, epochs=2)`."""
        parts = [name if name in ("x", "y") else f"{name}={_shown(value)}" for name, value in self._shown()]
        added = [f"{type(one).__name__}()" for one in own]
        held = [] if self.callbacks is None else ["..."]
        listed = [f"callbacks=[{', '.join([*held, *added])}]"] if added or held else []
        return f"model.{self.run}({', '.join([*parts, *listed])})"

    def _shown(self) -> Iterable[tuple[str, Any]]:
        return ((name, value) for name, value in self.given.items() if name != "callbacks" and value is not None)


def _shown(value: Any) -> str:
    plain = isinstance(value, (str, int, float, bool)) or (
        isinstance(value, list) and len(value) < 10 and all(isinstance(one, int) for one in value)
    )
    return repr(value) if plain and len(repr(value)) < 40 else "..."


def planned(model: Any, run: str, arguments: Arguments, found: Members) -> tuple[Plan, list[str]]:
    """Return what a run will do as often as it says, and what a reader must know of that."""
    told: list[str] = []
    stops = _stops(model, run, found.members, told)
    if run == "fit":
        return _fit(model, arguments, found, stops, told), told
    steps = data.capped(_whole(arguments["steps"]))
    several = arguments["y"], arguments["sample_weight"]
    looked = _looked(arguments["x"], *several, arguments["batch_size"], steps, told)
    repeat = data.passes(looked, steps)[0]
    valid = None if run == "predict" else repeat
    return Plan(train=(repeat,), valid=valid, apart=found.apart, stops=stops), told


def _fit(model: Any, arguments: Arguments, found: Members, stops: Stops, told: list[str]) -> Plan:
    steps = data.capped(_whole(arguments["steps_per_epoch"]))
    several = arguments["y"], arguments["sample_weight"]
    looked = _looked(arguments["x"], *several, arguments["batch_size"], steps, told)
    valid, validation = _valid(arguments, looked, told)
    if validation is None and arguments["validation_split"] and valid is not None:
        looked = _looked_at_part(looked, arguments["batch_size"], steps, arguments["validation_split"])
    last = _epochs(arguments, told)
    first = _first(model, arguments, found.members, last, told)
    freq = _freq(arguments["validation_freq"], first, last, told) if valid is not None else 1
    return Plan(first, last, _passes(looked, steps, told), valid, freq, found.apart, stops)


def _looked(x: Any, y: Any, weights: Any, batch_size: Any, steps: int | None, told: list[str]) -> data.Data:
    looked = data.look(x, y, weights, batch_size, steps)
    if looked.wrong:
        told.append(_NO_DATA if x is None else looked.wrong)
    return looked


def _looked_at_part(looked: data.Data, batch_size: Any, steps: int | None, share: float) -> data.Data:
    parts = data.split(looked, share)
    return looked if parts is None else data.of_samples(parts[0], batch_size, steps)


def _passes(looked: data.Data, steps: int | None, told: list[str]) -> tuple[Repeat, ...]:
    found = data.passes(looked, steps)
    if steps is not None and looked.batches and steps > looked.batches:
        told.append(
            f"steps_per_epoch={steps}, but the data has only {looked.batches} batches: each epoch ends there, with "
            f"Keras's warning that the input ran out of data"
        )
    if len(set(found)) > 1:
        numbers = ", ".join(map(str, found))
        told.append(
            f"steps_per_epoch={steps} does not divide the {looked.batches} batches of the data: an epoch goes on where "
            f"the one before stopped, so that epochs have {numbers} batches in turn (with Keras's warning at the last)"
        )
    return found


# -- the validation ------------------------------------------------------------------------------------------


def _valid(arguments: Arguments, looked: data.Data, told: list[str]) -> tuple[Repeat | None, Any]:
    """Return how many batches a validation has, None where there is none, and the data that was passed for it."""
    given, share = arguments["validation_data"], arguments["validation_split"]
    size = arguments["validation_batch_size"] or arguments["batch_size"]
    steps = data.capped(_whole(arguments["validation_steps"]))
    if given is not None:
        if share:
            told.append("validation_split is ignored, since validation_data is given")
        parts = data.unpacked(given)
        if parts is None:
            told.append(f"validation_data has {len(given)} parts: Keras takes x, y and sample weights, and fails there")
            return None, given
        x, y, weights = parts
        inner = data.look(x, y, weights, size, steps)
        if inner.wrong:
            told.append(f"validation_data: {inner.wrong}")
        return data.passes(inner, steps)[0], given
    if not share:
        return None, None
    sizes = data.split(looked, share)
    if sizes is None:
        if arguments["x"] is not None:
            told.append(f"validation_split={share!r} cannot be made of this data: Keras fails there")
        return data.UNKNOWN, None
    return data.passes(data.of_samples(sizes[1], size, steps), steps)[0], None


def _freq(freq: Any, first: int | None, last: int, told: list[str]) -> Any:
    """Return `validation_freq` as Keras takes it: an int or a list of epochs; None where it fails on it."""
    if isinstance(freq, list) and not any((first or 0) < one <= last for one in freq):
        told.append(f"validation_freq={freq!r}: no epoch of this run is among them, so that nothing is validated")
    if (isinstance(freq, int) and freq) or isinstance(freq, list):
        return int(freq) if isinstance(freq, int) else freq
    told.append(
        f"validation_freq={freq!r} ({type(freq).__name__}): Keras takes an int from 1 on or a list of epochs, and "
        f"fails at the end of the first epoch"
    )
    return None


# -- the epochs ----------------------------------------------------------------------------------------------


def _epochs(arguments: Arguments, told: list[str]) -> int:
    number = _whole(arguments["epochs"])
    if number is None:
        told.append(f"epochs={arguments['epochs']!r} is no whole number: Keras fails behind on_train_begin")
        return 0
    most = keras.config.max_epochs()
    if most and most < number:
        told.append(f"KERAS_MAX_EPOCHS (keras.config.set_max_epochs) allows {most} of {number} epochs")
        return int(most)
    return number


def _first(model: Any, arguments: Arguments, members: Iterable[Member], last: int, told: list[str]) -> int | None:
    """Return the epoch with which fit begins, from 0; None where a handler of `on_train_begin` decides."""
    asked = _whole(arguments["initial_epoch"]) or 0
    resumed = getattr(model, "_initial_epoch", None)
    if resumed:
        told.append(
            f"model._initial_epoch is {resumed}, left there by an earlier BackupAndRestore: fit begins with that "
            f"epoch, whatever initial_epoch says"
        )
    for member in members:
        begin = member.found("on_train_begin")
        if begin is None or not assigns(begin.target, member.cls, member.obj, ["_initial_epoch"]):
            continue
        if not isinstance(member.obj, BackupAndRestore) or not _restores_as_keras(member):
            told.append(f"{member.id} may set model._initial_epoch: with which epoch fit begins is known only then")
            return None
        backup = _backup(member)
        if backup is not None:
            resumed = backup
            told.append(f"{member.id} finds the backup of an earlier run: fit begins with epoch {backup}, from 0")
    first = resumed or asked
    if first >= last:
        told.append(f"no epoch will run: fit begins with epoch {first}, from 0, and there are {last}")
    return int(first)


def _restores_as_keras(member: Member) -> bool:
    return all(static(member.cls, name) is vars(BackupAndRestore)[name] for name in ("on_train_begin", "_load_model"))


def _backup(member: Member) -> int | None:
    """Return the epoch that a BackupAndRestore will begin with, None where it has no backup."""
    path = member.attributes.get("_training_metadata_path", "")
    try:
        with open(os.fspath(path), encoding="utf-8") as file:
            return _whole(json.load(file)["epoch"])
    except (OSError, TypeError, ValueError, KeyError):
        return None


def _whole(value: Any) -> int | None:
    return int(value.__index__()) if hasattr(value, "__index__") else None


# -- what ends a run early -----------------------------------------------------------------------------------

_LATE = ("on_epoch_end", "on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end")
"""Where a stop no longer concerns the batches of the epoch."""


_LOOKS = {
    "fit": "behind each batch and each epoch",
    "evaluate": "behind each batch",
    "predict": "behind each batch",
}


def _stops(model: Any, run: str, members: tuple[Member, ...], told: list[str]) -> Stops:
    own_code = _stopped_by_model(model)
    found = list(handlers(members, EVENT_NAMES, STOPS.values()))
    name = STOPS[run]
    for member in dict.fromkeys(member for member, _, what in found if what == name):
        told.append(f"{member.id} may end the run early: it sets model.{name}, which {run} looks at {_LOOKS[run]}")
    at = [event for _, event, what in found if what == name]
    tests = run != "predict" and any(what == STOPS["evaluate"] for _, _, what in found)
    if run != "fit":
        return Stops(bool(at) or name in own_code, False, tests or STOPS["evaluate"] in own_code)
    early = name in own_code or any(event not in _LATE for event in at)
    return Stops(early, bool(at) or name in own_code, tests or STOPS["evaluate"] in own_code)


def _stopped_by_model(model: Any) -> frozenset[str]:
    """Return which stops the model itself may set, in a `train_step` or `test_step` of its own."""
    found: set[str] = set()
    for name in ("train_step", "test_step", "predict_step", "compute_loss", "call"):
        mine = own(model, name)
        if mine is not None:
            found |= assigns(mine, type(model), model, STOPS.values())
    return frozenset(found)
