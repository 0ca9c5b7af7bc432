"""Which handlers may end a run early: those whose code assigns `stop_training` or its like, itself or by a helper.

What decides is the code that would run, not whose the attribute is: a handler may reach the model by `self.model`, by a
closure, or by a global name. Constraint: nothing is run.
"""

from __future__ import annotations

import dis
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

from loopscope.adapters.keras.members import Member
from loopscope.source import unwrap

MOST = 200
"""So many functions are looked through for one handler."""


def assigns(target: object, owner: type, holder: object, names: Iterable[str]) -> frozenset[str]:
    """Return which of `names` are assigned as attributes by `target`, or by what it calls of its own and its module's.

    `holder` is the object whose method `target` is, of class `owner`.
    """
    wanted = frozenset(names)
    found: set[str] = set()
    known: set[CodeType] = set()
    waiting = [unwrap(target)]
    while waiting and len(known) < MOST:
        function = waiting.pop()
        if function is None or function.__code__ in known:
            continue
        known.add(function.__code__)
        for code in _codes(function.__code__):
            named = wanted & set(code.co_names)  # a quick look: disassembling takes a thousand times as long
            found |= {*named} & set(_stored(code)) if named else set()
            found |= wanted & set(_set(code, holder)) if "setattr" in code.co_names else set()
            waiting += [unwrap(one) for one in _used(function, code, owner, holder)]
    return frozenset(found)


def handlers(
    members: Iterable[Member], events: Iterable[str], names: Iterable[str]
) -> Iterator[tuple[Member, str, str]]:
    """Yield (member, event, name) of each handler at `events` that may assign one of `names`."""
    wanted = list(names)
    for member in members:
        for event in events:
            found = member.found(event)
            if found is not None:
                for name in sorted(assigns(found.target, member.cls, member.obj, wanted)):
                    yield member, event, name


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _codes(part)


def _stored(code: CodeType) -> Iterator[str]:
    return (str(one.argval) for one in dis.get_instructions(code) if one.opname == "STORE_ATTR")


def _set(code: CodeType, holder: object) -> Iterator[str]:
    """Yield every text that a code with a `setattr`, or its object, has at hand: any may be the attribute's name."""
    return (part for part in (*code.co_consts, *getattr(holder, "__dict__", {}).values()) if type(part) is str)


def _used(function: FunctionType, code: CodeType, owner: type, holder: object) -> Iterator[Any]:
    """Yield the functions that a code names: of its own class, its instance, its module, its closure."""
    attributes = getattr(holder, "__dict__", {})
    for name in code.co_names:
        inherited = (vars(base)[name] for base in owner.__mro__ if name in vars(base))  # `super()` may mean any of them
        for found in (attributes.get(name), *inherited, function.__globals__.get(name)):
            if _is_function(found):
                yield found
    for cell in function.__closure__ or ():
        try:
            if _is_function(cell.cell_contents):
                yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _is_function(one: object) -> bool:
    return not isinstance(one, type) and unwrap(one) is not None
