"""Recording at fastai's dispatch: `Learner._call_one` is swapped at class level, and put back.

A class-level swap keeps pickle, deepcopy and export working: nothing is added to the learner. What is put in place is
fastai's own function with stamps inside (`hot.py`), compiled at fastai's own lines. Constraint: attaching fails loudly
where this fastai's dispatch has another shape, because a recorder that silently records nothing is the worst outcome.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from fastai.learner import Learner

from loopscope.adapters.fastai.own import OwnDispatch
from loopscope.adapters.fastai.shape import verify
from loopscope.adapters.fastai.transplant import CODES, STOCK, recorded
from loopscope.adapters.fastai.watching import ADOPTERS, ALL, OWN, WATCHED, Watched


def attach(obj: Any, sink: Any) -> Callable[[], None]:
    """Record every event and handler call of `obj` (None: of every learner) into `sink`; return what detaches it.

    Detaching works in any order, twice, and from inside a handler. Raises `UnknownVersion`.
    """
    verify()
    if obj is not None:
        return _watch(obj, sink(obj))
    mine: list[Callable[[], None]] = []
    ours: set[Watched] = set()

    def adopter(learn: Any) -> None:
        if ours.isdisjoint(ALL.get(id(learn), ())):
            subject = sink(learn)
            mine.append(_watch(learn, subject))
            ours.add(subject.watched)

    ADOPTERS.append(adopter)
    _install()

    def detach() -> None:
        if adopter in ADOPTERS:
            ADOPTERS.remove(adopter)
        for one in mine:
            one()
        mine.clear()
        _install()

    return detach


def _watch(learn: Any, subject: Any) -> Callable[[], None]:
    watched = Watched(learn, subject)
    subject.watched = watched
    key = id(learn)
    _share(key, (*ALL.get(key, ()), watched))
    gone = weakref.finalize(learn, _drop, key, watched)
    gone.atexit = False
    own = OwnDispatch.of(type(learn), CODES)
    _install()

    def detach() -> None:
        if gone.detach() is not None:
            _drop(key, watched)
        own.remove()  # also where the learner died first: what stood in for its dispatch must not stay
        _install()

    return detach


def _drop(key: int, watched: Watched) -> None:
    _share(key, tuple(one for one in ALL.get(key, ()) if one is not watched))


def _share(key: int, several: tuple[Watched, ...]) -> None:
    for one in several:
        one.all = several
    if not several:
        ALL.pop(key, None)
        WATCHED.pop(key, None)
        return
    ALL[key] = several
    if key not in OWN:  # its dispatch does so itself, at the end of the event
        WATCHED[key] = several[0]


def _install() -> None:
    """Put the form in place that the recordings of now need: none, that for one, or that for several of a learner."""
    if not ALL and not ADOPTERS:
        wanted_now = STOCK
    elif any(len(several) > 1 for several in ALL.values()):
        wanted_now = recorded("many")
    else:
        wanted_now = recorded("one")
    now = vars(Learner)["_call_one"]
    ours = now is STOCK or getattr(now, "__code__", None) in CODES
    if ours and now is not wanted_now:  # what somebody else has put there meanwhile is left alone
        Learner._call_one = wanted_now
