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
from loopscope.adapters.fastai.watching import ADOPTERS, WATCHED, Watched


def attach(obj: Any, sink: Any) -> Callable[[], None]:
    """Record every event and handler call of `obj` (None: of every learner) into `sink`; return what detaches it.

    Detaching works in any order, twice, and from inside a handler. Raises `UnknownVersion`.
    """
    verify()
    if obj is not None:
        return _watch(obj, sink(obj))
    mine: list[Callable[[], None]] = []

    def adopter(learn: Any) -> Watched | None:
        subject = sink(learn)
        if subject is None:
            return None
        mine.append(_watch(learn, subject))
        return WATCHED[id(learn)]

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
    first = WATCHED.get(key)
    _share(key, (*(first.all if first else ()), watched))
    gone = weakref.finalize(learn, _drop, key, watched)
    gone.atexit = False
    own = OwnDispatch.of(type(learn), CODES)
    _install()

    def detach() -> None:
        if gone.detach() is not None:
            _drop(key, watched)
            own.remove()
            _install()

    return detach


def _drop(key: int, watched: Watched) -> None:
    watched.live = False
    first = WATCHED.get(key)
    if first is not None:
        _share(key, tuple(one for one in first.all if one is not watched))


def _share(key: int, several: tuple[Watched, ...]) -> None:
    for one in several:
        one.all = several
    if several:
        WATCHED[key] = several[0]
    else:
        WATCHED.pop(key, None)


def _install() -> None:
    """Put the form in place that the recordings of now need: none, that for one, or that for several of a learner."""
    if not WATCHED and not ADOPTERS:
        wanted_now = STOCK
    elif any(len(one.all) > 1 for one in WATCHED.values()):
        wanted_now = recorded("many")
    else:
        wanted_now = recorded("one")
    if vars(Learner)["_call_one"] is not wanted_now:
        Learner._call_one = wanted_now
