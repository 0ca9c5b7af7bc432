"""Gradients that are clipped while they are still multiplied by the loss scale of fp16 training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from loopscope.callbacks import Callback, Method
from loopscope.checks.gradients import before, clip, minds_scale, running
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.model import Handler

RULE = Rule(
    name="clip-before-unscale",
    severity="error",
    frameworks=("fastai", "lightning"),
    needs="callbacks",
    says="gradients are clipped while they are still multiplied by the loss scale",
    why="fp16 training multiplies the loss by a large number (65536 at first), and the gradients with it, until just "
    "before the step. A limit that is applied earlier is that many times too low: nearly every gradient is cut, and "
    "what is left after the division is next to nothing.",
    do="Clip between the unscaling and the step.",
    fires="""
        class Clip(Callback):
            def before_step(self):
                torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

        learn = Learner(dls, model, cbs=[MixedPrecision(), Clip()])
        """,
    silent="""
        class Clip(Callback):
            order = MixedPrecision.order + 1

            def before_step(self):
                torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

        learn = Learner(dls, model, cbs=[MixedPrecision(), Clip()])
        """,
    threads=("pytorch-lightning#4151", "pytorch-lightning#9599", "pytorch-lightning#9694", "pytorch-lightning#18089"),
)

MIXED = "fastai.callback.fp16.MixedPrecision"
DO_FASTAI = "Clip at before_step with order = MixedPrecision.order + 1, as GradientClip() does."
DO_LIGHTNING = (
    "Clip in on_before_optimizer_step, which runs after the unscaling, or let Trainer(gradient_clip_val=...) clip."
)


def findings(case: Case) -> Iterator[Finding]:
    yield from FRAMEWORKS[case.loop.framework](case)


def _fastai(case: Case) -> Iterator[Finding]:
    """MixedPrecision unscales in its own before_step, at its order; after_backward comes before all of that."""
    for mixed in case.callbacks.values():
        unscales = mixed.method("before_step")
        if not mixed.isa(MIXED) or mixed.settings.get("amp_mode") != "fp16" or unscales is None or not unscales.shipped:
            continue
        order = mixed.settings.get("order", 0)
        early = [*running(case, "after_backward"), *before(case, "before_step", mixed)]
        for handler, callback, method in early:
            fact = f"{mixed.cls} unscales at before_step, at order {order}"
            mine = callback.settings.get("order", 0)
            yield from _clipping(handler, callback, method, f"(order {mine})", fact, DO_FASTAI)


def _lightning(case: Case) -> Iterator[Finding]:
    """The precision plugin unscales after the closure (forward, backward), before on_before_optimizer_step."""
    settings = {} if case.examined is None else case.examined.settings
    if settings.get("precision") != "16-mixed":
        return
    by_hand = settings.get("automatic_optimization") is False
    events = ("on_after_backward", "training_step") if by_hand else ("on_after_backward",)
    for handler, callback, method in running(case, *events):
        fact = 'precision is "16-mixed": the trainer unscales at the optimizer\'s step, after the backward pass'
        yield from _clipping(handler, callback, method, "", fact, DO_LIGHTNING)


def _clipping(
    handler: Handler, callback: Callback, method: Method, where: str, fact: str, do: str
) -> Iterator[Finding]:
    found = clip(method)
    if found is None or minds_scale(method):
        return
    at = " ".join(filter(None, (handler.event, where)))
    message = f"{callback.cls} clips gradients at {at}, before they are divided by the loss scale"
    yield RULE.at(handler, message, "inferred", do=do, evidence=(f"{handler.method}: {found.target}", fact))


FRAMEWORKS: Mapping[str, Callable[[Case], Iterator[Finding]]] = MappingProxyType(
    {"fastai": _fastai, "lightning": _lightning}
)
