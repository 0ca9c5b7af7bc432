"""How many batches an epoch has: what Keras's data adapters and its `EpochIterator` will make of the arguments.

Constraint: nothing is drawn from the data; lengths are asked for, as Keras does.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from loopscope.model import Repeat

UNKNOWN = Repeat(0, None, "batches")


@dataclass(frozen=True, slots=True)
class Data:
    """What `x` is to Keras: its number of batches (None: not known before they are drawn), and what Keras refuses.

    `samples` is the number of samples where `x` is of arrays.
    """

    batches: int | None = None
    samples: int | None = None
    wrong: str = ""


def look(x: Any, y: Any = None, sample_weight: Any = None, batch_size: Any = None, steps: Any = None) -> Data:
    """Return what Keras will make of the data: `look(np.zeros((10, 3)), batch_size=4).batches` -> 3."""
    from keras.src.trainers import data_adapters
    from keras.src.trainers.data_adapters import array_data_adapter, data_adapter

    if x is None:
        return Data(wrong="no data is given (x=...): how many batches there are is not known, and Keras fails without")
    try:
        if isinstance(x, data_adapter.DataAdapter):
            return Data(x.num_batches)
        if array_data_adapter.can_convert_arrays((x, y, sample_weight)):
            return _arrays((x, y, sample_weight), batch_size, steps)
        kind = _kind(x, data_adapters)
        if kind is None:
            return Data(wrong=f"x is a {type(x).__name__}, which Keras does not take as data: it fails there")
        if y is not None:
            return Data(wrong=f"y is given beside a {kind}, which must yield both: Keras fails there")
        return Data(_length(x, kind))
    except Exception as error:  # a user's __len__ may do anything; Keras then fails on it, too
        return Data(wrong=f"how many batches x has cannot be told ({type(error).__name__}: {error})")


def _kind(x: Any, adapters: Any) -> str | None:
    if isinstance(x, keras.utils.PyDataset):
        return "PyDataset"
    if adapters.is_torch_dataloader(x):
        return "torch DataLoader"
    if adapters.is_tf_dataset(x):
        return "tf.data.Dataset"
    if adapters.is_grain_dataset(x):
        return "grain dataset"
    return "generator" if isinstance(x, types.GeneratorType) else None


def _length(x: Any, kind: str) -> int | None:
    if kind == "PyDataset":
        number = x.num_batches
        return None if number is None else int(number)
    return len(x) if kind == "torch DataLoader" and hasattr(x.dataset, "__len__") else None


def _arrays(data: tuple[Any, Any, Any], batch_size: Any, steps: Any) -> Data:
    sizes = [int(one.shape[0]) for one in keras.tree.flatten(data) if one is not None]
    if len(set(sizes)) > 1:
        return Data(wrong=f"the arrays have {' and '.join(map(str, dict.fromkeys(sizes)))} samples: Keras fails there")
    if not sizes or not sizes[0]:
        return Data(wrong="the arrays hold no sample: Keras fails there")
    return of_samples(sizes[0], batch_size, steps)


def of_samples(number: int, batch_size: Any, steps: int | None) -> Data:
    """Return how many batches so many samples make: of 32, unless a size or a number of steps is given."""
    size = batch_size or (math.ceil(number / steps) if steps else 32)
    return Data(math.ceil(number / size), number)


def split(data: Data, share: float) -> tuple[int, int] | None:
    """Return how many samples are left to train on and how many are held out; None where Keras cannot split them."""
    if data.samples is None or not 0 < share < 1:
        return None
    kept = math.floor(data.samples * (1.0 - share))
    return (kept, data.samples - kept) if 0 < kept < data.samples else None


def unpacked(data: Any) -> tuple[Any, Any, Any] | None:
    """Return `validation_data` as x, y and sample weights; None where it is a tuple of more than these."""
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    return (*parts, None, None)[:3] if 0 < len(parts) < 4 else None


def capped(steps: int | None) -> int | None:
    """Return `steps`, or less where `KERAS_MAX_STEPS_PER_EPOCH` (`keras.config.set_max_steps_per_epoch`) says so."""
    return min(filter(None, (keras.config.max_steps_per_epoch(), steps)), default=None)


def passes(data: Data, steps: int | None) -> tuple[Repeat, ...]:
    """Return how many batches each pass over `data` has, up to where it begins again, if at most `steps` are asked for.

    A pass that needs only a part leaves the rest to the next: with 4 batches and `steps=3` they have 3, 1, 3, 1, …
    """
    if not data.batches:
        return (UNKNOWN if steps is None else Repeat(0, steps),)
    if steps is None or steps >= data.batches:
        return (_exactly(data.batches),)
    return tuple(_cut(data.batches, steps))


def _cut(batches: int, steps: int) -> Iterator[Repeat]:
    for begun in range(0, batches, steps):
        yield _exactly(min(steps, batches - begun))


def _exactly(number: int) -> Repeat:
    return Repeat(number, number)
