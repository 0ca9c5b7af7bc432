"""What rules about gradients ask of a handler: does it clip them, does it step a scheduler, and at each of its calls?

No rule itself. Constraint: reads what effects say of the source, so a helper that a handler calls is seen as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from loopscope.callbacks import Callback, Method
from loopscope.checks.rule import Case
from loopscope.effects import Effect
from loopscope.model import Handler

CLIPS = re.compile(r"(?:^|\.)(?:clip_grad_norm_?|clip_grad_value_?|clip_grads_with_norm_?|clip_gradients)\(")
IN_PLACE = re.compile(r"\.grad(?:\.data)?\.(?:clamp|clip)_\(")
GRADIENT = re.compile(r"\.grad(?:\.data)?$")
STEPS = re.compile(r"sched\w*(?:\(\)|\[[^\]]*\]|\.\w+)*\.step\([^,()]*\)$", re.IGNORECASE)
OTHERS = re.compile(r"noise|diffusion|beta|temp|prof", re.IGNORECASE)
"""What is called a scheduler and has a `step`, but nothing to do with the optimizer."""

HARMLESS = re.compile(r"\.grad is|\bis not None$|^[\w.]*\btraining$|\brequires_grad$|^max_norm\b|^self\.max_norm\b")
"""Conditions that do not choose some batches from the others."""

ACCUMULATES = "fastai.callback.training.GradientAccumulation"


def clip(method: Method | None) -> Effect | None:
    """Return what a method does to clip gradients: `clip_grad_norm_(...)`, `p.grad.clamp_(...)`."""
    found = () if method is None else method.effects
    return next((one for one in found if _clips(one)), None)


def scheduler_step(method: Method | None) -> Effect | None:
    """Return the call of a learning rate scheduler's `step()`."""
    found = () if method is None else method.effects
    steps = (one for one in found if one.kind == "calls" and STEPS.search(one.target))
    return next((one for one in steps if not OTHERS.search(one.target)), None)


def always(effect: Effect) -> bool:
    """Return whether it happens at each call, as far as the conditions around it tell: `p.grad is not None` is none."""
    condition = "" if effect.when.startswith("for ") else effect.when.partition(" for ")[0]
    return all(HARMLESS.search(one.strip()) for one in condition.split(" and ")) if condition else True


def minds_scale(method: Method) -> bool:
    """Return whether a method knows of the loss scale: it unscales by itself, or reckons with it."""
    source = "" if method.node is None else ast.unparse(method.node)
    texts = [source, *(f"{one.target} {one.value} {one.when}" for one in method.effects)]
    return any("scale" in text.lower() for text in texts)


def running(case: Case, *events: str, certain: bool = False) -> Iterator[tuple[Handler, Callback, Method]]:
    """Yield the handlers of some events that this run reaches, with the callback and method behind each.

    `certain` leaves out those that are called under a condition.
    """
    for event, row in case.handlers():
        handler = row.handler
        if handler is None or event.name not in events or row.status == "never":
            continue
        if certain and handler.needs:
            continue
        callback, method = case.callbacks.get(handler.id), case.method(handler)
        if callback is not None and method is not None:
            yield handler, callback, method


def before(case: Case, event: str, other: Callback) -> Iterator[tuple[Handler, Callback, Method]]:
    """Yield the handlers of an event that run before that of another callback; none where it has none there."""
    found = list(running(case, event))
    place = next((n for n, (handler, _, _) in enumerate(found) if handler.id == other.id), 0)
    yield from found[:place]


def number(value: object) -> float | None:
    """Return a setting as a number, None where it is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def accumulation(case: Case, name: str) -> int:
    """Return over how many batches the trainer accumulates, by its own setting; 1 where it says nothing."""
    value = None if case.examined is None else number(case.examined.settings.get(name))
    return 1 if value is None else int(value)


def accumulator(case: Case) -> Callback | None:
    """Return fastai's GradientAccumulation, if some batches of this run make no step under it."""
    found = (one for one in case.callbacks.values() if one.isa(ACCUMULATES))
    return next((one for one in found if trains(case) and _skips(case, one)), None)


def trains(case: Case) -> bool:
    """Return whether a run of fastai makes any steps: `validate()` does not."""
    return any(row.name == "before_step" for row in case.rows("event"))


def _skips(case: Case, one: Callback) -> bool:
    method = one.method("before_step")
    items = number(one.settings.get("n_acc"))
    size = None if case.examined is None else number(case.examined.settings.get("bs"))
    few = items is not None and size is not None and items <= size
    return method is not None and method.shipped and not few and one.settings.get("run") is not False


def own_hands(case: Case) -> bool:
    """Return whether somebody changes when Lightning's gradients are made zero, stepped, or how many are summed up."""
    steps = ("optimizer_step", "optimizer_zero_grad", "backward")
    everybody = case.callbacks.values()
    scheduled = any(name.endswith(".GradientAccumulationScheduler") for one in everybody for name in one.classes)
    return scheduled or any(not own.shipped for one in everybody for own in one.methods if own.name in steps)


def _clips(effect: Effect) -> bool:
    if effect.kind == "calls":
        found = CLIPS.search(effect.target) or IN_PLACE.search(effect.target)
        return found is not None and not _asks_only(effect.target)
    written = effect.kind == "writes" and GRADIENT.search(effect.target)
    return bool(written) and any(f"{word}(" in effect.value for word in ("clamp", "clip"))


def _asks_only(call: str) -> bool:
    """Return whether the limit is so high that nobody means to clip, but asks for the norm."""
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d*)?(?:e[+-]?\d+)?(?!\w)", call)
    return "inf" in call or any(float(one) >= 1e5 for one in numbers)
