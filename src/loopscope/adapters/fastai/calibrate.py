"""What recording costs here and now: the stamps, the clock, and fastai's own dispatch beside the recorded one.

Measured in the recorded process when recording ends, on objects of its own; nothing of the user's is called. Minimum
of many, since everything else that the machine does only adds.
"""

from __future__ import annotations

from typing import Any

from fastai.callback.core import Callback
from fastai.learner import Learner
from fastcore.foundation import L
from torch import nn

from loopscope.adapters.fastai.transplant import STOCK, recorded
from loopscope.adapters.fastai.watching import WATCHED, Watched
from loopscope.stamped.calibrating import Scratch, least, turn
from loopscope.stamped.calibrating import calibrate as stamps

CALLBACKS = 4
"""With so many callbacks one event's dispatch is measured: fastai's defaults and one more."""

ROWS = 60


def calibrate() -> dict[str, object]:
    """Return, in ns: `per_event`, `per_call`, `clock` (one read), `dispatch` and `framework_dispatch` of one event."""
    learn, watched = _learner()
    stamped = recorded("one")
    theirs = least(lambda: STOCK(learn, "after_step"))
    WATCHED[id(learn)] = watched
    try:
        ours = least(lambda: stamped(learn, "after_step"))
    finally:
        del WATCHED[id(learn)]
    empty = turn()
    return {
        **stamps(),
        "dispatch": round(ours - empty, 1),
        "framework_dispatch": round(theirs - empty, 1),
        "callbacks": CALLBACKS,
    }


class _Sink:
    """Codes that mean nothing."""

    runs: tuple[Any, ...] = (None,)  # one is under way: callbacks are not let go of behind each event

    def __init__(self) -> None:
        self.only = Scratch(ROWS)
        self.lanes: dict[int, Any] = {}

    def lane(self) -> Any:
        return self.only

    def event(self, event: str) -> int:
        return 7

    def callbacks(self) -> tuple[str, ...]:
        return ()

    def bound(self, obj: Any, members: Any) -> None:
        pass


def _learner() -> tuple[Learner, Watched]:
    learn = Learner.__new__(Learner)
    callbacks = [Callback() for _ in range(CALLBACKS)]
    learn.__dict__.update(cbs=L(callbacks), model=nn.Module(), training=True)
    for one in callbacks:
        one.__dict__.update(learn=learn)
    return learn, Watched(learn, _Sink())
