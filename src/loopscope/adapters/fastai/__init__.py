"""fastai: which loop a `Learner` runs, which callbacks stand at each of its events, and why they stand there.

The loop is read from the learner's own methods as they resolve (an override or a patch included); who is called
comes from the callbacks as they are now, without running any of them. Verified against fastai 2.8.12 by the
conformance suite. Constraint: the learner is looked at, never touched.
"""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import fastai
import fastai.learner
import torch
from fastai.callback.core import Callback, _events, _ex_docs
from fastai.callback.schedule import LRFinder
from fastai.learner import Learner, SkipToEpoch

from loopscope import collector
from loopscope.adapters.fastai.binding import LAST, SKIPPED, Member, bind, changed
from loopscope.adapters.fastai.calibrate import calibrate
from loopscope.adapters.fastai.dialect import FINDING, FastaiDialect
from loopscope.adapters.fastai.dispatch import attach
from loopscope.adapters.fastai.examining import examine
from loopscope.adapters.fastai.notes import asked_batches, batches_of, fired, notes, unheard
from loopscope.adapters.fastai.shape import verify
from loopscope.adapters.fastai.transplant import CODES as DISPATCHING
from loopscope.adapters.fastai.vocabulary import NESTING
from loopscope.adapters.fastai.watching import adopt
from loopscope.callbacks import Examined
from loopscope.catalog import described
from loopscope.catalog.fastai import EVENTS
from loopscope.errors import BadCallback, BadValue, UnknownChoice
from loopscope.evaluate import Built, Evaluator, Known, Method, Several, Value
from loopscope.model import ONCE, Loop, Node, Repeat, Scope
from loopscope.reader import Reader
from loopscope.source import place, unwrap

__all__ = [
    "DISPATCHING",
    "accepts",
    "adopt",
    "attach",
    "calibrate",
    "callbacks",
    "describe",
    "describe_call",
    "event_docs",
    "examined",
    "facts",
    "verify",
    "versions",
]

RUNS = ("fit", "fit_one_cycle", "fine_tune", "validate", "get_preds", "lr_find", "fit_flat_cos", "fit_sgdr", "tta")
"""The runs that `inspect` names; any other method of the learner that fires events can be asked for too."""

BY_EPOCHS = ("fit", "fit_one_cycle", "fine_tune", "fit_flat_cos")
"""The runs whose first argument is a number of epochs."""

EPOCHS = ("n_epoch", "epochs")
"""The parameter that holds the number of epochs, by run."""


def event_docs() -> dict[str, str]:
    """Return every event of the installed fastai with its description."""
    return described(EVENTS, _events)


def versions() -> dict[str, str]:
    """Return the versions that a map or a recording depends on."""
    return {"fastai": fastai.__version__, "torch": torch.__version__, "python": platform.python_version()}


def facts(obj: Learner) -> dict[str, object]:
    """Return what a recording says of a learner: its class, the class of its model, and the model's device."""
    model = vars(obj).get("model")
    first = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
    device = "" if first is None else str(first.device)
    return {"cls": type(obj).__name__, "model": type(model).__name__, "device": device, "framework": "fastai"}


def accepts(obj: object) -> bool:
    """Return whether `obj` is a fastai learner."""
    return isinstance(obj, Learner)


def describe(
    obj: Learner,
    run: str,
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
    cbs: object = None,
    arguments: Mapping[str, object] = MappingProxyType({}),
) -> Loop:
    """Return the loop of `obj.<run>(epochs, start_epoch=start_epoch, cbs=cbs, **arguments)`; `cbs` are one's own.

    Raises `UnknownChoice` for a run that the learner lacks, `BadValue` for a number that makes no sense there,
    `BadCallback` for what is no callback.
    """
    method = _method(obj, run)
    parameters = inspect.signature(method.function).parameters
    names = list(parameters)
    if unknown := [name for name in arguments if name not in names and not _takes_more(parameters)]:
        counts = ["epochs"] if any(name in EPOCHS for name in names) else []  # by the name that inspect has for it
        accepted = [*names[len(method.first) :], *counts, "cbs"]
        raise BadValue(f"{run} takes no {unknown[0]}. Accepted: {', '.join(dict.fromkeys(accepted))}.")
    given = dict(arguments)
    if epochs is not None:
        spread = [name for name, one in parameters.items() if one.kind is inspect.Parameter.VAR_POSITIONAL]
        first = names[len(method.first) :][:1] if run in BY_EPOCHS else []  # an override may call it what it likes
        name = next((name for name in (*EPOCHS, *first, *spread) if name in names), None)
        if name is None:
            raise BadValue(f"{run} takes no number of epochs (got epochs={epochs!r}). Leave epochs out.")
        number = _natural("epochs", epochs)
        given[name] = (number,) if name in spread else number
    if start_epoch != 0:
        if "start_epoch" not in names and not (_takes_more(parameters) and run in BY_EPOCHS):
            raise BadValue(f"{run} takes no start_epoch (got {start_epoch!r}). Leave start_epoch out.")
        given["start_epoch"] = _natural("start_epoch", start_epoch)
    loop = describe_call(obj, run, given, cbs)
    function = unwrap(method.function, through_wraps=False)
    if function is not None and FastaiDialect().is_own(function) and not any(fired(loop.root)):
        raise UnknownChoice.of("run", run, RUNS)  # a method of fastai's that fires nothing: freeze, save, summary
    return loop


def _takes_more(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def describe_call(obj: Learner, method: str, arguments: Mapping[str, object], cbs: object = None) -> Loop:
    """Return the loop of one call of `obj.<method>` with these arguments, by parameter name.

    `cbs` are further callbacks, marked as one's own: they are passed on by `cbs=` where the call takes it, else
    they stand as if they had been added to the learner first.
    """
    with collector.paused():
        return _described(obj, method, arguments, cbs)


def examined(obj: Learner, method: str, arguments: Mapping[str, object], cbs: object = None) -> Examined:
    """Return what rules read of the callbacks of the same call, beside its loop."""
    with collector.paused():
        return examine(obj, _gathered(obj, method, arguments, cbs).members, [*_events])


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What was read of a call: its nodes, the callbacks of the run, those that were given, and one's own."""

    nodes: tuple[Node, ...]
    members: list[Member]
    dialect: FastaiDialect
    reader: Reader
    function: Any
    given: list[Any]
    own: list[Callback]


def _gathered(obj: Learner, method: str, arguments: Mapping[str, object], cbs: object) -> _Gathered:
    if "cbs" not in vars(obj) or obj.cbs is None:
        raise BadValue(f"this {type(obj).__name__} has no list of callbacks (learn.cbs). Was its __init__ run?")
    found = _method(obj, method)
    own = callbacks(cbs)
    takes_cbs = "cbs" in inspect.signature(found.function).parameters
    values: dict[str, Value] = {k: _value(v) for k, v in arguments.items() if k != "cbs"}
    given = _listed(arguments.get("cbs"))
    if takes_cbs:
        values["cbs"] = Several(tuple(Known(one) for one in [*given, *own]))
    dialect = FastaiDialect()
    reader = Reader(Evaluator(obj, dialect))
    nodes = reader.read(found, _spread(found, values))
    members = list(_members(obj, [] if takes_cbs else own, dialect, own, method))
    return _Gathered(nodes, members, dialect, reader, found.function, given, own)


def _described(obj: Learner, method: str, arguments: Mapping[str, object], cbs: object) -> Loop:
    found = _gathered(obj, method, arguments, cbs)
    members, dialect = found.members, found.dialect
    nodes = _split_last(found.nodes, dialect, obj)
    root = Scope(
        method, _split_skipped(nodes, members, dialect.added), method=f"Learner.{method}", place=place(found.function)
    )
    events = dict.fromkeys([*_events, *fired(root)])
    binding = bind(obj, members, events)
    inside = dict.fromkeys(fired(root))
    root = _opened(root, {name for event in inside for one in binding.at(event) for name in changed(one)})
    return Loop(
        framework="fastai",
        subject=type(obj).__name__,
        run=method,
        call=_call(method, arguments, found.given, found.own),
        root=root,
        binding=binding,
        flags={
            "training": bool(obj.training),
            "never": False,
            LAST: False,
            **{m.run_flag: bool(m.setting("run", True)) for m in members},
        },
        docs=described(EVENTS, _events),
        cancels=tuple(_ex_docs),
        swallowed=("StopIteration",),
        outline=tuple(fastai.learner._loop),
        notes=tuple(
            dict.fromkeys([*notes(obj, found.reader, dialect, binding, root), *unheard(members, binding, root)])
        ),
        versions=versions(),
        home=os.path.dirname(fastai.__file__),
    )


def callbacks(cbs: object) -> list[Callback]:
    """Return `cbs` (a callback, a callback class, or a list of either) as instances, built as fastai would."""
    return [_instance(one) for one in _listed(cbs)]


def _listed(cbs: object) -> list[Any]:
    if cbs is None:
        return []
    return (
        [cbs]
        if isinstance(cbs, (Callback, type)) or not isinstance(cbs, Iterable) or isinstance(cbs, str)
        else list(cbs)
    )


def _instance(one: object) -> Callback:
    if isinstance(one, Callback):
        return one
    if not isinstance(one, type) or not issubclass(one, Callback):
        what = f"the class {one.__name__}" if isinstance(one, type) else f"{one!r} ({type(one).__name__})"
        raise BadCallback(
            f"{what} is no fastai callback. Accepted: a Callback, a Callback class, or a list of either; "
            f"for a plain function type Callback(after_batch=your_function)."
        )
    try:
        return one()
    except Exception as error:
        raise BadCallback(
            f"{one.__name__}() cannot be built without arguments ({type(error).__name__}: {error}). "
            f"Pass an instance: cbs={one.__name__}(...)."
        ) from error


def _natural(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadValue(f"{name}={value!r} is no whole number. Type {name}=1, say.")
    number = int(value.__index__())
    if number < 0:
        raise BadValue(f"{name}={number} is negative. Accepted: 0 or more.")
    return number


def _method(learn: Learner, run: str) -> Method:
    public = type(run) is str and (not run.startswith("_") or run in NESTING)
    method = Evaluator(learn, FastaiDialect()).resolve(run) if public else None
    if method is None:
        raise UnknownChoice.of("run", run, RUNS)
    return method


def _value(value: object) -> Value:
    return Several(tuple(Known(one) for one in value)) if isinstance(value, (list, tuple)) else Known(value)


def _spread(method: Method, values: dict[str, Value]) -> dict[str, Value]:
    """Return `values` with those that are no parameter of the function inside its `*args` and `**kwargs`."""
    function = unwrap(method.function, through_wraps=False)
    assert function is not None
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    known = {name: value for name, value in values.items() if name in code.co_varnames[:count]}
    if code.co_flags & inspect.CO_VARARGS:
        given = values.get(code.co_varnames[count])
        known[code.co_varnames[count]] = Several(
            (*method.first[code.co_argcount :], *(given.items if isinstance(given, Several) else ()))
        )
    if code.co_flags & inspect.CO_VARKEYWORDS:
        last = count + bool(code.co_flags & inspect.CO_VARARGS)
        known[code.co_varnames[last]] = Known({name: value for name, value in values.items() if name not in known})
    return known


def _members(
    learn: Learner, first: list[Callback], dialect: FastaiDialect, own: list[Callback], run: str
) -> Iterator[Member]:
    """Yield the callbacks of the run as they are inserted: the learner's, then those that the call adds."""
    number = 0
    for one in [*learn.cbs, *first]:
        number += 1
        mine = any(one is other for other in first) and number > len(learn.cbs)
        leaves = any(_names(value, one) for value in dialect.removed)
        yield Member(type(one), one, "cbs" if mine else "learner", number, mine, leaves)
    for value in dialect.added:
        number += 1
        if isinstance(value, Built):
            yield Member(value.cls, None, f"added by {run}", number)
        elif isinstance(value, Known) and isinstance(value.value, Callback):
            mine = any(value.value is other for other in own)
            yield Member(type(value.value), value.value, "cbs", number, mine)
        elif isinstance(value, Known) and isinstance(value.value, type) and issubclass(value.value, Callback):
            yield Member(value.value, None, "cbs", number)


def _names(value: Value, one: Callback) -> bool:
    """Return whether a removal may mean this callback: by class, by itself, or by a name that only the run knows."""
    if isinstance(value, Known):
        return isinstance(one, value.value) if isinstance(value.value, type) else value.value is one
    return not isinstance(value, Built) or isinstance(one, value.cls)


def _split_last(nodes: tuple[Node, ...], dialect: FastaiDialect, learn: Learner) -> tuple[Node, ...]:
    """Split the epochs of lr_find into the whole ones and the one in which LRFinder ends the run."""
    finders = [one for one in dialect.added if isinstance(one, Built) and issubclass(one.cls, LRFinder)]
    number, batches = (asked_batches(finders[0]) if finders else None), batches_of(dialect, learn)
    return tuple(_ending(node, number or 0, batches or 0) for node in nodes)


def _ending(node: Node, number: int, batches: int) -> Node:
    """Replace the epochs of lr_find below `node` by whole ones and one whose training stops at batch `number` of all.

    An epoch has so many `batches`; where either is 0 it is not known, and the epochs stay as they are.
    """
    if not isinstance(node, Scope):
        return node
    body: list[Node] = []
    for child in node.body:
        if not isinstance(child, Scope) or child.note != FINDING:
            body.append(_ending(child, number, batches))
        elif not number or not batches:
            body.append(replace(child, note=""))
        else:
            whole = (number - 1) // batches
            body += [replace(child, repeat=Repeat(whole, whole), note="")] if whole else []
            ending = tuple(_last_batches(part, number - whole * batches) for part in child.body)
            body.append(replace(child, repeat=ONCE, body=ending))
    return replace(node, body=tuple(body))


def _last_batches(node: Node, last: int) -> Node:
    if not isinstance(node, Scope) or node.name != "train":
        return node
    ends = ((LAST, True),)
    return replace(
        node,
        body=tuple(
            replace(part, repeat=Repeat(last, last), last_sets=ends)
            if isinstance(part, Scope) and part.name == "batch"
            else part
            for part in node.body
        ),
    )


COUNTED = {"learn.dls": ("batch", "len(dl)"), "learn.dl": ("batch", "len(dl)"), "learn.n_epoch": ("epoch", "n_epoch")}
"""What a handler may change on the way -> the scopes that are then repeated as often as only the run knows."""


def _opened(scope: Scope, names: set[str]) -> Scope:
    """Return `scope` with the repetitions left open that depend on what handlers change, by the names in `COUNTED`."""
    labels = dict(COUNTED[name] for name in names if name in COUNTED)
    return _open(scope, labels) if labels else scope


def _open(scope: Scope, labels: Mapping[str, str]) -> Scope:
    before, body = (
        tuple(_open(node, labels) if isinstance(node, Scope) else node for node in nodes)
        for nodes in (scope.before, scope.body)
    )
    counted = scope.name in labels and not scope.last_sets and scope.repeat.most is not None
    repeat = Repeat(0, None, labels[scope.name]) if counted else scope.repeat
    return replace(scope, before=before, body=body, repeat=repeat)


def _split_skipped(nodes: tuple[Node, ...], members: list[Member], added: list[Value]) -> tuple[Node, ...]:
    """Split an epoch scope where `SkipToEpoch` cancels the first ones: they fire less, before fewer callbacks."""
    skips = [first for first in (_skip_to(member) for member in members if member.obj is not None) if first]
    skips += [
        v.arguments[0].value
        for v in added
        if isinstance(v, Built) and issubclass(v.cls, SkipToEpoch) and isinstance(v.arguments[0], Known)
    ]
    return tuple(_skipping(node, max(skips)) for node in nodes) if skips else nodes


def _skip_to(member: Member) -> int | None:
    return member.attributes.get("_skip_to") if issubclass(member.cls, SkipToEpoch) else None


def _skipping(node: Node, skip: int) -> Node:
    if not isinstance(node, Scope):
        return node
    body: list[Node] = []
    for child in node.body:
        if isinstance(child, Scope) and child.name == "epoch" and child.repeat != Repeat(1, 1):
            body += _epochs(child, skip)
        else:
            body.append(_skipping(child, skip))
    return replace(node, body=tuple(body), before=tuple(_skipping(n, skip) for n in node.before))


def _epochs(scope: Scope, skip: int) -> list[Node]:
    most = scope.repeat.most
    skipped = skip if most is None else min(skip, most)
    first = replace(
        scope, repeat=Repeat(skipped, skipped), sets=((SKIPPED, True),), note=f"skipped: below start_epoch={skip}"
    )
    rest = (
        Repeat(0, None, f"({scope.repeat.label} - {skip})") if most is None else Repeat(most - skipped, most - skipped)
    )
    later = replace(scope, repeat=rest, sets=((SKIPPED, False),))
    return [first] if rest.most == 0 else [first, later]


def _is_plain(value: object) -> bool:
    return type(value) in (int, float, bool, str)


def _call(method: str, arguments: Mapping[str, object], given: list[Any], own: list[Callback]) -> str:
    """Return the call as one would type it: `learn.fit(2, cbs=[GradientClip])`."""
    shown = [f"{one!r}" for value in arguments.values() if type(value) is tuple for one in value if _is_plain(one)]
    shown += [
        f"{value}" if name in EPOCHS else f"{name}={value!r}"
        for name, value in arguments.items()
        if name != "cbs" and _is_plain(value)
    ]
    names = [one.__name__ if isinstance(one, type) else type(one).__name__ for one in [*given, *own]]
    if names:
        shown.append(f"cbs=[{', '.join(names)}]")
    return f"learn.{method}({', '.join(shown)})"
