"""A learning rate scheduler that is stepped at each batch, while several batches are summed up for one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from loopscope.checks.gradients import accumulation, accumulator, always, before, running, scheduler_step
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding
from loopscope.model import Handler

RULE = Rule(
    name="scheduler-under-accumulation",
    severity="warning",
    frameworks=("fastai", "lightning", "transformers", "ignite"),
    needs="callbacks",
    says="a scheduler is stepped at each batch, under gradient accumulation",
    why="The optimizer makes one step for several batches. A scheduler that is stepped at each of them runs through "
    "its schedule that many times too fast: a warm-up over 1000 steps is over after a fraction of them.",
    do="Step the scheduler where the optimizer makes its step.",
    fires="""
        class Schedule(Callback):
            def after_batch(self):
                self.scheduler.step()

        learn = Learner(dls, model, cbs=[GradientAccumulation(n_acc=64), Schedule()])
        """,
    silent="""
        class Schedule(Callback):
            def after_step(self):
                self.scheduler.step()

        learn = Learner(dls, model, cbs=[GradientAccumulation(n_acc=64), Schedule()])
        """,
    threads=("pytorch-lightning#1476",),
)

EACH_BATCH = ("before_batch", "after_pred", "after_loss", "before_backward", "after_backward", "after_batch")
EACH_BATCH_LIGHTNING = ("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward")
DO_FASTAI = "Step it in after_step, which runs only where a step was made."
DO_LIGHTNING = (
    'Return it from configure_optimizers with {"scheduler": ..., "interval": "step"}: the trainer then steps it with '
    "the optimizer."
)
DO_TRANSFORMERS = "Leave it to the trainer, which steps its scheduler with the optimizer."


def findings(case: Case) -> Iterator[Finding]:
    yield from FRAMEWORKS[case.loop.framework](case)


def _fastai(case: Case) -> Iterator[Finding]:
    one = accumulator(case)
    if one is None:
        return
    items = one.settings.get("n_acc")
    fact = f"{one.cls} lets only those batches make a step that fill up {items} items; after_step runs there alone"
    for handler, _, _ in [*running(case, *EACH_BATCH), *before(case, "before_step", one)]:
        yield from _stepping(case, handler, "each batch", fact, DO_FASTAI)


def _lightning(case: Case) -> Iterator[Finding]:
    count = accumulation(case, "accumulate_grad_batches")
    if count > 1:
        fact = f"accumulate_grad_batches is {count}"
        for handler, _, _ in running(case, *EACH_BATCH_LIGHTNING):
            which = f"each batch, of which one in {count} makes a step"
            yield from _stepping(case, handler, which, fact, DO_LIGHTNING)


def _transformers(case: Case) -> Iterator[Finding]:
    count = accumulation(case, "gradient_accumulation_steps")
    if count > 1:
        fact = f"gradient_accumulation_steps is {count}; on_substep_end comes at the batches that make no step"
        for handler, _, _ in running(case, "on_substep_end"):
            yield from _stepping(case, handler, "batches that make no step", fact, DO_TRANSFORMERS)


def _ignite(case: Case) -> Iterator[Finding]:
    """Only one's own functions: what ignite ships counts iterations, and says so."""
    count = accumulation(case, "gradient_accumulation_steps")
    if count > 1:
        fact = f"gradient_accumulation_steps is {count}"
        for handler, _, method in running(case, "ITERATION_STARTED", "ITERATION_COMPLETED", certain=True):
            if not method.shipped:
                which = f"each iteration, of which one in {count} makes a step"
                do = f"Attach it to Events.ITERATION_COMPLETED(every={count})."
                yield from _stepping(case, handler, which, fact, do)


def _stepping(case: Case, handler: Handler, which: str, fact: str, do: str) -> Iterator[Finding]:
    found = scheduler_step(case.method(handler))
    if found is not None and always(found):
        message = f"{handler.callback} steps a scheduler at {which}"
        yield RULE.at(handler, message, "inferred", do=do, evidence=(f"{handler.method}: {found.target}", fact))


FRAMEWORKS: Mapping[str, Callable[[Case], Iterator[Finding]]] = MappingProxyType(
    {"fastai": _fastai, "lightning": _lightning, "transformers": _transformers, "ignite": _ignite}
)
