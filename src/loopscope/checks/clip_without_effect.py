"""Gradients that are clipped where the optimizer never sees it: before the backward pass, or after the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from loopscope.checks.gradients import accumulation, accumulator, clip, own_hands, running, trains
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="clip-without-effect",
    severity="error",
    frameworks=("fastai", "lightning", "transformers", "ignite"),
    needs="callbacks",
    says="gradients are clipped before the backward pass or after the step",
    why="The optimizer steps by what the backward pass left in p.grad. What is clipped before that pass, or after the "
    "step, is gone when the next step comes: the training runs as if nothing was clipped.",
    do="Clip between the backward pass and the step.",
    fires="""
        class Clip(Callback):
            def after_batch(self):
                torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

        learn = Learner(dls, model, cbs=[Clip()])
        """,
    silent="""
        learn = Learner(dls, model, cbs=[GradientClip(1.0)])
        """,
    threads=("awslabs/graphstorm#1366", "VGraphRNN/VGRNN#4", "simchowitzlabpublic/nano-world-model#22"),
)

Late = Mapping[str, str]
"""Event -> where it stands."""

BEFORE, STEPPED, ZEROED = "before the backward pass", "after the step", "when the gradients are zero again"
FASTAI: Late = MappingProxyType(
    {
        **dict.fromkeys(("before_batch", "after_pred", "after_loss", "before_backward"), BEFORE),
        "after_batch": ZEROED,
        "after_step": STEPPED,
    }
)
LIGHTNING: Late = MappingProxyType(
    {
        **dict.fromkeys(("on_train_batch_start", "training_step", "on_before_zero_grad", "on_before_backward"), BEFORE),
        "on_train_batch_end": STEPPED,
    }
)
TRANSFORMERS: Late = MappingProxyType({"on_step_begin": BEFORE, "on_optimizer_step": STEPPED, "on_step_end": ZEROED})
IGNITE: Late = MappingProxyType({"ITERATION_STARTED": BEFORE, "ITERATION_COMPLETED": STEPPED})


def findings(case: Case) -> Iterator[Finding]:
    places, do = FRAMEWORKS[case.loop.framework](case)
    for handler, callback, method in running(case, *places):
        found = clip(method)
        if found is not None:
            message = f"{callback.cls} clips gradients at {handler.event}, {places[handler.event]}: it has no effect"
            facts = (f"{handler.method}: {found.target}", f"{handler.event} comes {places[handler.event]}")
            yield RULE.at(handler, message, "inferred", do=do, evidence=facts)


def _fastai(case: Case) -> tuple[Late, str]:
    """Under accumulation, what is clipped after a batch is a part of the next step."""
    places = FASTAI if accumulator(case) is None else {"after_step": STEPPED}
    return places if trains(case) else {}, "Add GradientClip(max_norm), which clips at before_step."


def _lightning(case: Case) -> tuple[Late, str]:
    settings = {} if case.examined is None else case.examined.settings
    each = accumulation(case, "accumulate_grad_batches") == 1 and settings.get("automatic_optimization") is True
    places = {} if not each or own_hands(case) else LIGHTNING
    return places, "Type Trainer(gradient_clip_val=...), or clip in on_before_optimizer_step."


def _transformers(case: Case) -> tuple[Late, str]:
    return TRANSFORMERS, "Let the trainer clip: TrainingArguments(max_grad_norm=1.0)."


def _ignite(case: Case) -> tuple[Late, str]:
    """Only where the step is ignite's own, and each iteration makes one."""
    settings = {} if case.examined is None else case.examined.settings
    places = IGNITE if settings.get("gradient_accumulation_steps") == 1 else {}
    return places, "Write a process function that clips between loss.backward() and optimizer.step()."


FRAMEWORKS: Mapping[str, Callable[[Case], tuple[Late, str]]] = MappingProxyType(
    {"fastai": _fastai, "lightning": _lightning, "transformers": _transformers, "ignite": _ignite}
)
