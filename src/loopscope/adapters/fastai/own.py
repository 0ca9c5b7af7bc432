"""Learners with a `__call__` or `_call_one` of their own: recorded around theirs, which runs as it is.

The event is stamped around the override; its handlers at `Callback.__call__`, since only the override knows whom it
calls. Constraint: only installed while such a learner is recorded, because it costs more than `hot.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any

from fastai.callback.core import Callback
from fastai.learner import Learner

from loopscope.adapters.fastai.asking import ask
from loopscope.adapters.fastai.watching import (
    ALL,
    CALL,
    CALLS,
    OWN,
    WATCHED,
    Dispatching,
    Watched,
    adopt,
    begin,
    failed,
    finish,
    let_go,
    rebound,
)


class OwnDispatch:
    """The swaps that one recorded learner needs; those of all recorded learners are counted."""

    uses: dict[tuple[type, str], int] = {}  # noqa: RUF012 - one count for the whole process, as classes are
    swapped: dict[tuple[type, str], tuple[Any, Any]] = {}  # noqa: RUF012

    def __init__(self, places: list[tuple[type, str]], codes: set[CodeType]) -> None:
        self.places = places
        for place in places:
            self.uses[place] = self.uses.get(place, 0) + 1
            if place not in self.swapped:
                owner, name = place
                before = vars(owner)[name]
                now = _callback_call() if owner is Callback else _around(before)
                codes.add(now.__code__)
                self.swapped[place] = before, now
                setattr(owner, name, now)

    @classmethod
    def of(cls, kind: type, codes: set[CodeType]) -> OwnDispatch:
        """Swap what a class of learners overrides of the dispatch; nothing where it is fastai's."""
        above = kind.__mro__[: kind.__mro__.index(Learner)]
        own = [(one, name) for one in above for name in ("__call__", "_call_one") if name in vars(one)]
        return cls([*own, (Callback, "__call__")] if own else [], codes)

    def remove(self) -> None:
        """Put back what nobody needs any more; what somebody else has replaced meanwhile is left alone."""
        for place in self.places:
            self.uses[place] -= 1
            if not self.uses[place]:
                owner, name = place
                before, now = self.swapped.pop(place)
                if vars(owner).get(name) is now:
                    setattr(owner, name, before)
                CALLS.discard(now)
        self.places = []


def _around(before: Callable[..., Any]) -> Any:
    @functools.wraps(before)
    def dispatch(self: Any, event_name: Any, *args: Any, **kwargs: Any) -> Any:
        outer = OWN.get(id(self))
        if outer is None and id(self) not in ALL:
            adopt(self)
        several = ALL.get(id(self), ())
        inside = outer is not None and outer.event == event_name and not outer.in_handler
        if not several or inside or not isinstance(event_name, str):
            return before(self, event_name, *args, **kwargs)
        return _recorded(several, outer, self, event_name, functools.partial(before, self, event_name, *args, **kwargs))

    return dispatch


def _recorded(several: tuple[Watched, ...], outer: Any, learn: Any, event: str, call: Callable[[], Any]) -> Any:
    ordered = list(learn.cbs.sorted("order"))
    opened = [begin(one, one.events[event]) for one in several]
    for one in several:
        rebound(one, learn, ordered)
    OWN[id(learn)] = Dispatching(several, event)
    WATCHED.pop(id(learn), None)
    try:
        done = call()
    except BaseException as error:
        for one, (rows, at) in zip(several, opened, strict=True):
            failed(one, rows, at, error, event, None)
        raise
    finally:
        let_go(several)
        if outer is None:
            del OWN[id(learn)]
            if id(learn) in ALL:  # as it is now: recordings may have begun and ended meanwhile
                WATCHED[id(learn)] = ALL[id(learn)][0]
        else:
            OWN[id(learn)] = outer
    finish(opened)
    return done


def _callback_call() -> Any:
    @functools.wraps(CALL)
    def __call__(self: Any, event_name: Any) -> Any:  # noqa: N807
        here = OWN.get(id(self.learn)) if OWN else None
        if here is None:
            return CALL(self, event_name)
        before, here.in_handler = here.in_handler, True
        try:
            return ask(here.several, self, event_name)
        finally:
            here.in_handler = before

    CALLS.add(__call__)
    return __call__
