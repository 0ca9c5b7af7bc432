"""Gradients that are clipped at each batch, while several batches are summed up for one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from loopscope.checks.gradients import accumulation, accumulator, always, before, clip, running
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.model import Handler

RULE = Rule(
    name="clip-without-step",
    severity="warning",
    frameworks=("fastai", "lightning", "transformers", "ignite"),
    needs="callbacks",
    says="gradients are clipped at batches that make no step, under gradient accumulation",
    why="While gradients are accumulated, what is in p.grad is a part of a sum. Clipping it at each batch cuts the "
    "batches that came first again and again, and the step is not that of one large batch.",
    do="Clip once, where the step is made.",
    fires="""
        class Clip(Callback):
            def after_backward(self):
                torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

        learn = Learner(dls, model, cbs=[GradientAccumulation(n_acc=64), Clip()])
        """,
    silent="""
        class Clip(Callback):
            order = GradientAccumulation.order + 1

            def before_step(self):
                torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)

        learn = Learner(dls, model, cbs=[GradientAccumulation(n_acc=64), Clip()])
        """,
    threads=("transformers#1563", "facebookresearch/lingua#59", "accelerate#641"),
)

EACH_BATCH = ("before_batch", "after_pred", "after_loss", "before_backward", "after_backward", "after_batch")
EACH_BATCH_LIGHTNING = ("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward")
DO_FASTAI = (
    "Clip at before_step with order = MixedPrecision.order + 1, as GradientClip() does: GradientAccumulation, at a "
    "lower order, has cancelled the batches without a step by then."
)
DO_LIGHTNING = "Clip in on_before_optimizer_step, or let Trainer(gradient_clip_val=...) clip."
DO_TRANSFORMERS = "Let the trainer clip: TrainingArguments(max_grad_norm=1.0)."

DO_IGNITE = "Write a process function that clips before optimizer.step()."


def findings(case: Case) -> Iterator[Finding]:
    yield from FRAMEWORKS[case.loop.framework](case)


def _fastai(case: Case) -> Iterator[Finding]:
    """GradientAccumulation cancels the batch in its before_step: what runs earlier runs at each batch."""
    one = accumulator(case)
    if one is None:
        return
    fact = f"{one.cls} cancels the batch at before_step (order {one.settings.get('order', 0)}) until it has n_acc items"
    early = [*running(case, *EACH_BATCH), *before(case, "before_step", one)]
    for handler, _, _ in early:
        yield from _clipping(
            case, handler, f"each batch, of which {_items(one.settings.get('n_acc'))}", fact, DO_FASTAI
        )


def _items(count: object) -> str:
    return f"only those that fill up {count} items make a step"


def _lightning(case: Case) -> Iterator[Finding]:
    count = accumulation(case, "accumulate_grad_batches")
    if count > 1:
        for handler, _, _ in running(case, *EACH_BATCH_LIGHTNING):
            fact = f"accumulate_grad_batches is {count}; {handler.event} comes at each batch"
            yield from _clipping(case, handler, f"each batch, of which one in {count} makes a step", fact, DO_LIGHTNING)


def _transformers(case: Case) -> Iterator[Finding]:
    count = accumulation(case, "gradient_accumulation_steps")
    if count > 1:
        for handler, _, _ in running(case, "on_substep_end"):
            fact = f"gradient_accumulation_steps is {count}; on_substep_end comes at the batches that make no step"
            yield from _clipping(case, handler, "batches that make no step", fact, DO_TRANSFORMERS)


def _ignite(case: Case) -> Iterator[Finding]:
    count = accumulation(case, "gradient_accumulation_steps")
    if count > 1:
        for handler, _, _ in running(case, "ITERATION_STARTED", "ITERATION_COMPLETED", certain=True):
            fact = f"gradient_accumulation_steps is {count}; {handler.event} comes at each batch"
            yield from _clipping(case, handler, f"each batch, of which one in {count} makes a step", fact, DO_IGNITE)


def _clipping(case: Case, handler: Handler, which: str, fact: str, do: str) -> Iterator[Finding]:
    found = clip(case.method(handler))
    if found is not None and always(found):
        message = f"{handler.callback} clips gradients at {which}"
        yield RULE.at(handler, message, "inferred", do=do, evidence=(f"{handler.method}: {found.target}", fact))


FRAMEWORKS: Mapping[str, Callable[[Case], Iterator[Finding]]] = MappingProxyType(
    {"fastai": _fastai, "lightning": _lightning, "transformers": _transformers, "ignite": _ignite}
)
