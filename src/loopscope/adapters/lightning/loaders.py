"""How many batches a pass over some data has, as far as that is known before the run: lengths, modes and limits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from loopscope.adapters.lightning.given import Given, Kind


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of one pass: `of` has their number for each loader that is gone through in turn, None where unknown.

    `sized` says that Lightning can tell the last batch by counting (else it draws one ahead); `upto` that a loader may
    run dry sooner; `zero` that a limit of 0 leaves out all of it; `why` what it depends on where it is not known.
    """

    of: tuple[int | None, ...]
    sized: bool | None = True
    upto: bool = False
    why: str = ""

    @property
    def total(self) -> int | None:
        return None if None in self.of else sum(n for n in self.of if n is not None)

    @property
    def none(self) -> bool:
        """Whether it is known that there are none."""
        return self.total == 0


def batches(given: Given, kind: Kind, *, sanity: bool = False) -> Batches:
    """Return the batches of a pass over the data of one kind; `sanity` is the check before the training."""
    if (kind, sanity) not in given.counted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Lightning causes by itself; the run says it again
            given.counted[kind, sanity] = _batches(given, kind, sanity)
    return cast(Batches, given.counted[kind, sanity])


def _batches(given: Given, kind: Kind, sanity: bool) -> Batches:
    source = given.sources[kind]
    limit = _limit(given, kind)
    if limit == 0:
        return Batches((0,))
    if source.owner is not None:
        return Batches((None,), None, False, f"len({source.hook})")
    combined = given.package.cls("utilities.combined_loader.CombinedLoader")
    loader = source.value
    if not isinstance(loader, combined):
        loader = combined(loader, "max_size_cycle" if kind == "train" else "sequential")
    counts = [_count(given, one, limit) for one in loader.flattened]
    known = [length for length, _ in counts]
    if any(length is None for length in known):
        return Batches((None,), None, False, f"len({source.hook})")
    lengths = [float(length) for length in known if length is not None]
    if sanity:
        lengths = [min(given.trainer.num_sanity_val_steps, length) for length in lengths]
    upto = any(open_ for _, open_ in counts)
    if loader._mode != "sequential":
        lengths = [_joined(loader._mode, lengths)]
    if any(math.isinf(length) for length in lengths):
        return Batches((None,), False, False, "the data has no length")
    return Batches(tuple(map(int, lengths)) or (0,), True, upto)


def _limit(given: Given, kind: Kind) -> float:
    limit = getattr(given.trainer, f"limit_{kind}_batches")
    return limit if isinstance(limit, (int, float)) else 1.0


def _count(given: Given, loader: Any, limit: float) -> tuple[float | None, bool]:
    """Return the batches of one loader, and whether it may end sooner: inf if it has no length, None if not known.

    A limit that is an int is a number of batches, a float a part of them.
    """
    if given.trainer.world_size > 1 and given.trainer._accelerator_connector.use_distributed_sampler:
        return None, False
    plain = not isinstance(loader, DataLoader) or isinstance(loader.sampler, (RandomSampler, SequentialSampler))
    if given.trainer.overfit_batches and not plain:  # its sampler is replaced
        return None, False
    length: float
    try:
        length = len(loader)
    except (TypeError, NotImplementedError):
        length = math.inf
    except Exception:  # a user's own __len__ may do anything; the run will say what
        return None, False
    if isinstance(limit, int):
        return min(length, limit), math.isinf(length)
    return (length, False) if math.isinf(length) else (int(length * limit), False)


def _joined(mode: str, lengths: Iterable[float]) -> float:
    """Return the length of several loaders that are drawn from at the same time."""
    return (min if mode == "min_size" else max)(lengths, default=0)
