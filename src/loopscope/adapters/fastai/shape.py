"""Whether this fastai's dispatch has the shape that `hot.py` and `watching.wanted` take it for: asked, not guessed.

fastai's own functions are run on callbacks and a learner made for that; nothing of the user's is touched.
"""

from __future__ import annotations

import functools

from fastai.callback.core import Callback
from fastai.learner import Learner
from fastcore.basics import GetAttr
from fastcore.foundation import L

from loopscope.adapters.fastai.asking import telling
from loopscope.adapters.fastai.binding import static
from loopscope.adapters.fastai.transplant import CODES, STOCK, parts
from loopscope.adapters.fastai.unknown import unknown
from loopscope.adapters.fastai.watching import CALLS, INNER, wanted


def verify() -> None:
    """Raise `UnknownVersion` unless this fastai's dispatch is what `hot.py` and `wanted` take it for."""
    now = vars(Learner).get("_call_one")
    if now is not STOCK and getattr(now, "__code__", None) not in CODES:
        raise unknown("Learner._call_one was replaced by something else since it was imported")
    if vars(Callback).get("__call__") not in CALLS:
        raise unknown("Callback.__call__ was replaced by something else since it was imported")
    _verified()


@functools.cache
def _verified() -> None:
    parts(STOCK)
    telling()
    _probe_callback()
    _probe_dispatch()


def _probe_callback() -> None:
    """Ask fastai's own `Callback.__call__` under every setting of the flags whether it calls; compare with `wanted`."""

    class Probe(Callback):
        def before_fit(self) -> None:
            self.__dict__["called"] = True

        def after_batch(self) -> None:
            self.__dict__["called"] = True

    if "before_fit" in INNER or "after_batch" not in INNER:
        raise unknown("the events that run_train and run_valid decide about are others")
    for bits in range(32):
        probe = Probe()
        run, train, valid, known, training = (bool(bits >> n & 1) for n in range(5))
        probe.__dict__.update(run=run, run_train=train, run_valid=valid, called=False)
        if known:
            probe.__dict__.update(training=training)
        for event in ("before_fit", "after_batch", "after_epoch"):
            probe.__dict__.update(called=False)
            expected = wanted(probe, event)
            probe(event)
            if vars(probe)["called"] is not expected:
                raise unknown("Callback.__call__ calls a handler under other conditions")
    probe.__dict__.update(run=False)
    probe("after_fit")
    if vars(probe).get("run") is not True:
        raise unknown("Callback.__call__ does not set run back after a fit")


def _probe_dispatch() -> None:
    """Fire an event at a learner that has nothing but callbacks: they must be called through `_call_one`, in order."""
    seen: list[str] = []

    class Probe(Callback):
        def before_fit(self) -> None:
            seen.append(self.name)

    class Last(Probe):
        order = 2

    class Bare(Learner):
        def _call_one(self, event_name: str) -> None:
            seen.append("_call_one")
            STOCK(self, event_name)

    learn = Bare.__new__(Bare)
    learn.__dict__.update(cbs=L(Last(), Probe()), model=None, training=False)
    learn("before_fit")
    if seen != ["_call_one", "probe", "last"]:
        raise unknown(f"an event reached {', '.join(seen) or 'nobody'} where two callbacks were due")
    if not issubclass(Callback, GetAttr) or static(Callback, "_default") != "learn":
        raise unknown("callbacks do not look up what they lack on their learner")
