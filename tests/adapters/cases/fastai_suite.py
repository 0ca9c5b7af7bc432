"""fastai's cases for the conformance suite that all frameworks share; `fastai.py` has many more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastai.callback.all as cb
import fastai.callback.core as core
import torch
from fastai.callback.progress import ProgressCallback
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.learner import Learner

from tests.adapters.cases.fastai import At, ValidatesAfterTrain, ValidatesInTheMiddle, learner
from tests.adapters.cases.fastai_watch import Watch
from tests.conformance import Case


def case(kind: str, make: Callable[[Path], Learner], run: str = "fit", epochs: int | None = 2, **more: Any) -> Case:
    given: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    call = more.pop("call", lambda learn: getattr(learn, run)(*given.values()))
    return Case(kind, kind, make, call, run, more.pop("inspect", given), **more)


def resumed(folder: Path) -> Learner:
    """A learner that has the weights and the optimizer of one that was trained for an epoch."""
    before = learner(path=folder)
    before.fit(1)
    before.save("before")
    torch.manual_seed(1)
    return learner(path=folder).load("before")


def without_validation(folder: Path) -> Learner:
    """A learner with nothing to validate on; its progress bar would warn of that."""
    learn = learner(n_val=0)
    learn.remove_cb(ProgressCallback)
    return learn


CASES = (
    case("normal", lambda folder: learner(n_trn=2, n_val=1)),
    case("early stop", lambda folder: learner(EarlyStoppingCallback(min_delta=1e9, patience=1)), epochs=5),
    case("exception in a callback", lambda folder: learner(At("after_loss", ValueError)), raises="ValueError"),
    case("KeyboardInterrupt", lambda folder: learner(At("after_step", KeyboardInterrupt)), raises="KeyboardInterrupt"),
    case("accumulation", lambda folder: learner(cb.GradientAccumulation(32), n_trn=4)),
    case("validation in the middle of an epoch", lambda folder: learner(ValidatesInTheMiddle())),
    case("no validation", without_validation),
    case("validation alone", lambda folder: learner(), run="validate", epochs=None),
    case("prediction alone", lambda folder: learner(), run="get_preds", epochs=None),
    case(
        "resumed from a checkpoint",
        resumed,
        epochs=3,
        inspect={"epochs": 3, "start_epoch": 1},
        call=lambda learn: learn.fit(3, start_epoch=1),
    ),
    case("nested run", lambda folder: learner(ValidatesAfterTrain())),
)

IMPOSSIBLE: Mapping[str, str] = {
    "two validation loaders": "a fastai learner validates on one DataLoader, learn.dls[1]; another is a run of its own",
}

EQUIVALENT: frozenset[tuple[str, str]] = frozenset()

EVENTS_THAT_RAISE = tuple(
    name for name in core._events if name != "after_create" and not name.startswith("after_cancel")
)


class Witness(Watch):
    """`fastai_watch.Watch` with what the suite asks for."""

    @property
    def places(self) -> list[tuple[str, str, str]]:
        return [(e, id_, f"{c.co_filename}:{c.co_firstlineno}") for e, id_, c in self.codes if c is not None]

    @contextmanager
    def __call__(self) -> Iterator[None]:  # type: ignore[override]
        for one in self.learn.cbs:
            self.id(one)
        with super().__call__():
            yield


def watch(obj: Learner) -> Witness:
    return Witness(obj)


def thrower(
    event: str, exception: type[BaseException]
) -> tuple[Callable[[Path], Any], Callable[[Any], object], str, Any]:
    return (
        lambda folder: learner(At(event, exception), n_trn=2, n_val=1),
        lambda learn: learn.fit(1),
        "fit",
        {"epochs": 1},
    )


def state(obj: Learner) -> Mapping[str, Any]:
    found: dict[str, Any] = {f"model.{name}": value for name, value in obj.model.state_dict().items()}
    found["losses"] = [float(loss) for loss in getattr(obj.recorder, "losses", [])]
    found["values"] = str([list(values) for values in getattr(obj.recorder, "values", [])])
    found["rng"] = torch.get_rng_state()
    return found
