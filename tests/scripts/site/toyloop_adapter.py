"""What an adapter of a third party looks like: registered by entry points, imported only with its framework."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType

from loopscope.errors import BadCallback
from loopscope.model import Binding, Event, Handler, Loop, Place, Repeat, Scope

from toyloop.engine import Hook, Trainer


def accepts(obj: object) -> bool:
    return isinstance(obj, Trainer)


def describe(obj: Trainer, run: str, *, epochs: int | None = None, start_epoch: int = 0, cbs: object = None) -> Loop:
    return describe_call(obj, run, {} if epochs is None else {"epochs": epochs}, cbs)


def describe_call(obj: Trainer, method: str, arguments: Mapping[str, object], cbs: object = None) -> Loop:
    own = [_hook(one) for one in cbs] if isinstance(cbs, list) else []
    given = arguments.get("cbs", [])
    assert isinstance(given, list)
    handlers = [_handler(n, hook, hook in own) for n, hook in enumerate([*obj.callbacks, *given, *own])]
    epochs = arguments.get("epochs")
    repeat = Repeat(epochs, epochs) if isinstance(epochs, int) else Repeat(0, None, "epochs")
    epoch = Scope("epoch", (Event("before_epoch"),), repeat=repeat)
    return Loop(
        framework="toyloop",
        subject=type(obj).__name__,
        run=method,
        call=f"{method}({', '.join(f'{k}={v!r}' for k, v in arguments.items() if k != 'cbs')})",
        root=Scope(method, (Event("before_fit"), epoch, Event("after_fit")), place=_place(getattr(type(obj), method))),
        binding=Binding(MappingProxyType({"before_epoch": tuple(handlers)})),
    )


def _hook(one: object) -> Hook:
    hook = one() if isinstance(one, type) else one
    if not isinstance(hook, Hook):
        raise BadCallback(f"{one!r} is no Hook. Accepted: a Hook or a class of it.")
    return hook


def _handler(number: int, hook: Hook, mine: bool) -> Handler:
    name = type(hook).__name__
    return Handler(f"{name}#{number}", name, name, "before_epoch", "before_epoch", "insertion", mine=mine)


def _place(function: object) -> Place:
    code = function.__code__
    assert inspect.iscode(code)
    return Place(code.co_filename, code.co_firstlineno)
