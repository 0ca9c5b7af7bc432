"""What recording costs here and now: the stamps, the clock, and Keras's own dispatch beside the recorded one.

Measured in the recorded process when recording ends, on objects of its own; nothing of the user's is called. Minimum
of many, since everything else that the machine does only adds.
"""

from __future__ import annotations

from typing import Any

from keras.callbacks import Callback, CallbackList

from loopscope.adapters.keras.dispatch import DISPATCH
from loopscope.stamped import Watched
from loopscope.stamped import calibrate as stamps
from loopscope.stamped.calibrating import Scratch, least, turn

CALLBACKS = 3
"""With so many callbacks one event's dispatch is measured: Keras's defaults and one more."""

EVENT = "on_train_batch_begin"

ROWS = 60


class _Model:
    """Stands for a model, which a dispatch only looks at to know whose it is."""


class _Sink:
    """Codes that mean nothing."""

    runs: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.only = Scratch(ROWS)
        self.lanes: dict[int, Any] = {}

    def lane(self) -> Any:
        return self.only

    def event(self, event: str) -> int:
        return 7


def calibrate() -> dict[str, object]:
    """Return, in ns: `per_event`, `per_call`, `clock` (one read), `dispatch` and `framework_dispatch` of one event."""
    point = next(one for one in DISPATCH.points if one.name == EVENT)
    held, model = CallbackList.__new__(CallbackList), _Model()
    held.__dict__.update(callbacks=[Callback() for _ in range(CALLBACKS)], _model=model)
    stock, stamped = DISPATCH.stock[point], DISPATCH._form("one")[point]
    theirs = least(lambda: stock(held, 0))
    DISPATCH.watched[id(model)] = Watched(model, _Sink(), DISPATCH.naming)
    try:
        ours = least(lambda: stamped(held, 0))
    finally:
        del DISPATCH.watched[id(model)]
        DISPATCH.naming.end(model)
    empty = turn()
    return {
        **stamps(),
        "dispatch": round(ours - empty, 1),
        "framework_dispatch": round(theirs - empty, 1),
        "callbacks": CALLBACKS,
    }
