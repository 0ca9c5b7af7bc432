"""The recorded forms of fastai's `Learner._call_one`: the hot path, written to be transplanted.

Nothing here runs in this module. `transplant.py` takes the syntax tree of `one` or `many`, puts fastai's own first
statement and own loop where `fastai_asks_first()` and `fastai_calls_all()` stand, and compiles the result as fastai's
function at fastai's lines, so that an exception which passes through has the very frames that it has without recording.
What is a callback's turn, and what is not worth one, is fastai's own rule, asked in a cheaper way: fastai looks an
absent handler up through learner and model (9 µs each), and sorts through `L` (5 µs). Constraint: every line costs
every event of a recorded run (see docs/overhead.md).
"""

from __future__ import annotations

from typing import Any

from loopscope.adapters.fastai.asking import ask
from loopscope.adapters.fastai.watching import (
    ABSENT,
    CALL,
    CALLS,
    INNER,
    WATCHED,
    Callback,
    adopt,
    again,
    begin,
    clock,
    failed,
    finish,
    get_ident,
    in_order,
    let_go,
    rebound,
    shadows,
    wanted,
)


def fastai_asks_first() -> None:
    """Stands for the statements of fastai's `_call_one` before its loop."""


def fastai_calls_all() -> None:
    """Stands for the loop of fastai's `_call_one`."""


def one(self: Any, event_name: Any) -> None:
    """Write the stamps of one recording; a learner that nobody records is called as fastai calls it."""
    fastai_asks_first()
    watched = WATCHED.get(id(self)) or adopt(self)
    if watched is None:
        fastai_calls_all()
        return
    lane = watched.lanes.get(get_ident()) or watched.lane()
    code = watched.events[event_name]
    rows = lane.rows
    at = lane.at
    try:
        rows[at + 1] = clock()
        rows[at] = code
    except (IndexError, ValueError):
        rows, at = again(lane, code)
    lane.at = at + 3
    loose = False
    try:
        ordered = None
        try:
            ordered = sorted(self.cbs.items, key=in_order)
            same = [*map(id, ordered)] == watched.ids  # not ==, which would run a callback's own __eq__
        except Exception:
            pass
        if ordered is None:  # whatever fastai makes of it, it does so itself
            ordered = self.cbs.sorted("order")
            same = False
        if not same:
            loose = rebound(watched, self, ordered)
        codes = watched.handlers[event_name]
        plain = watched.plain if Callback.__call__ is CALL else ()
        always = event_name not in INNER
        shadowed = None
        for cb in ordered:
            kind = type(cb)
            if kind not in plain or cb.learn is not self:
                if kind.__call__ in CALLS:
                    ask((watched,), cb, event_name)
                    continue
                its = True
            elif getattr(kind, event_name, ABSENT) is ABSENT and event_name not in cb.__dict__:
                if shadowed is None:
                    shadowed = shadows(self, event_name)
                if shadowed:
                    ask((watched,), cb, event_name)
                    continue
                its = False
            elif always:
                its = cb.run or watched.skips(cb)
            elif "training" in cb.__dict__:
                its = wanted(cb, event_name) or watched.skips(cb)
            else:
                its = (cb.run and (cb.run_train if self.training else cb.run_valid)) or watched.skips(cb)
            if not its:
                if event_name == "after_fit":
                    cb(event_name)  # fastai sets cb.run to True there, called or not
                continue
            code = codes.get(id(cb)) or watched.handler(cb, event_name)
            its_rows = lane.rows
            its_at = lane.at
            try:
                its_rows[its_at + 1] = clock()
                its_rows[its_at] = code
            except (IndexError, ValueError):
                its_rows, its_at = again(lane, code)
            lane.at = its_at + 3
            try:
                cb(event_name)
            except BaseException as error:
                failed(watched, its_rows, its_at, error, event_name, cb)
                raise
            try:
                its_rows[its_at + 2] = clock()
            except ValueError:  # a child that was forked meanwhile, which never writes
                pass
    except BaseException as error:
        failed(watched, rows, at, error, event_name, None)
        if loose:
            watched.forget()
        raise
    try:
        rows[at + 2] = clock()
    except ValueError:
        pass
    if loose:
        watched.forget()


def many(self: Any, event_name: Any) -> None:
    """Write the stamps of all recordings of a learner; installed while there is more than one of any."""
    fastai_asks_first()
    watched = WATCHED.get(id(self)) or adopt(self)
    if watched is None:
        fastai_calls_all()
        return
    several = watched.all
    opened = [begin(one, one.events[event_name]) for one in several]
    loose = False
    try:
        ordered = self.cbs.sorted("order")
        for one in several:
            loose = rebound(one, self, ordered) or loose
        for cb in ordered:
            if type(cb).__call__ in CALLS:
                ask(several, cb, event_name)
                continue
            its = [begin(one, one.handlers[event_name].get(id(cb)) or one.handler(cb, event_name)) for one in several]
            try:
                cb(event_name)
            except BaseException as error:
                for one, (rows, at) in zip(several, its, strict=True):
                    failed(one, rows, at, error, event_name, cb)
                raise
            finish(its)
    except BaseException as error:
        for one, (rows, at) in zip(several, opened, strict=True):
            failed(one, rows, at, error, event_name, None)
        if loose:
            let_go(several)
        raise
    finish(opened)
    if loose:
        let_go(several)
