"""Learners with a `__call__` or `_call_one` of their own: recorded around theirs, which runs as it is.

The event is stamped around the override; its handlers at `Callback.__call__`, or at a callback's own, since only the
override knows whom it calls. Constraint: only installed while such a learner is recorded, because it costs more than
`hot.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType, FunctionType
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
from loopscope.source import STANDS_IN


class OwnDispatch:
    """The swaps that one recorded learner needs; those of all recorded learners are counted."""

    uses: dict[tuple[type, str], int] = {}  # noqa: RUF012 - one count for the whole process, as classes are
    swapped: dict[tuple[type, str], tuple[Any, Any]] = {}  # noqa: RUF012
    covered: dict[type, tuple[Any, Any]] = {}  # noqa: RUF012 - classes of callbacks with a `__call__` of their own

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

    @classmethod
    def cover(cls, kind: type) -> None:
        """Swap the `__call__` that a class of callbacks has of its own, for as long as any such learner is recorded."""
        if kind.__call__ in CALLS:
            return
        name = "__call__"
        owner = next((one for one in kind.__mro__ if name in vars(one)), kind)
        before = vars(owner).get(name)
        if owner not in cls.covered and isinstance(before, FunctionType):
            cls.covered[owner] = before, _own_call(before)
            setattr(owner, name, cls.covered[owner][1])

    def remove(self) -> None:
        """Put back what nobody needs any more; what somebody else has replaced meanwhile is left alone."""
        for place in self.places:
            self.uses[place] -= 1
            if not self.uses[place]:
                del self.uses[place]
                _put_back(*place, *self.swapped.pop(place))
        self.places = []
        while self.covered and (Callback, "__call__") not in self.uses:
            owner, (before, now) = self.covered.popitem()
            _put_back(owner, "__call__", before, now)


def _put_back(owner: type, name: str, before: Any, now: Any) -> None:
    if vars(owner).get(name) is now:
        setattr(owner, name, before)
    CALLS.discard(now)


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

    return _standing_in(dispatch)


def _recorded(several: tuple[Watched, ...], outer: Any, learn: Any, event: str, call: Callable[[], Any]) -> Any:
    ordered = list(learn.cbs.sorted("order"))
    opened = [begin(one, one.events[event]) for one in several]
    for one in several:
        rebound(one, learn, ordered)
    for cb in ordered:
        OwnDispatch.cover(type(cb))
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
        if here is None or here.calling is self:
            return CALL(self, event_name)
        before, here.in_handler = here.in_handler, True
        try:
            return ask(here.several, self, event_name)
        finally:
            here.in_handler = before

    CALLS.add(_standing_in(__call__))
    return __call__


def _own_call(before: Callable[..., Any]) -> Any:
    @functools.wraps(before)
    def __call__(self: Any, event_name: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        here = OWN.get(id(self.learn)) if OWN else None
        if here is None or here.calling is self:
            return before(self, event_name, *args, **kwargs)
        event, several = here.event, here.several
        its = [begin(one, one.handlers[event].get(id(self)) or one.handler(self, event)) for one in several]
        was = here.in_handler, here.calling
        here.in_handler, here.calling = True, self
        try:
            done = before(self, event_name, *args, **kwargs)
        except BaseException as error:
            for one, (rows, at) in zip(several, its, strict=True):
                failed(one, rows, at, error, event, self)
            raise
        finally:
            here.in_handler, here.calling = was
        finish(its)
        return done

    return _standing_in(__call__)


def _standing_in(function: Any) -> Any:
    """Say of a function that it stands in for the one that it wraps, which is what a reader of loops must read."""
    setattr(function, STANDS_IN, function.__code__)
    return function
