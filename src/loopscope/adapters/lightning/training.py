"""The part of a fit that trains: its epochs, batches, optimizer steps and what happens inside of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from loopscope.adapters.lightning.evaluating import Evaluating
from loopscope.adapters.lightning.folding import Part, spans
from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.hooks import EPOCH_LOOP, PRECISION
from loopscope.adapters.lightning.nodes import Nodes
from loopscope.adapters.lightning.optimizers import Optimizers, gives_loss, may_skip
from loopscope.adapters.lightning.plan import EVERY, Batch, Due, Epoch, Piece, Plan, Validation, Window
from loopscope.adapters.lightning.sites import Site
from loopscope.model import Catch, Need, Node, Repeat, Scope, Step, Turns, over

LOSS = "a loss"
SKIPPED = "the rest of the epoch is left out"
LAST = "the last batch of the epoch"
DUE = "the validation loaders are due"
STEPPING = "the optimizer steps"
ADDING = "the gradients add up for a later step"
CLEARING = "the gradients are zeroed"
CHECKING = "the epoch validates"
ASKING = "the training loaders are due"

CLEARED = {over("optimizer_zero_grad"): ((CLEARING, False),)}
"""What is so once the gradients of an optimizer step are zeroed: the batches that follow add to them."""

STOPS = Catch(("StopIteration",))
"""Lightning's loops are left when something in them raises StopIteration."""


@dataclass(frozen=True, slots=True)
class Training:
    """Builds the training of a plan: `Training(given, nodes, optimizers, evaluating).train(plan)`."""

    given: Given
    nodes: Nodes
    optimizers: Optimizers
    evaluating: Evaluating
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # -- epochs ------------------------------------------------------------------------------------------

    def train(self, plan: Plan) -> Iterator[Node]:
        """Yield what `_FitLoop.run` does."""
        if self.given.sources["train"].asks and self.given.trainer.limit_train_batches != 0:
            yield self.nodes.event("train_dataloader")
        yield self.nodes.step("set up the training data", "loops.fit_loop", "_FitLoop.run", "setup_data")
        if plan.skipped:
            return
        before = [self.nodes.event("on_train_start")]
        if plan.asks_val and self.given.sources["val"].asks:
            before.insert(0, self.nodes.event("val_dataloader"))
        yield Scope(
            "train",
            tuple(self.epochs(plan)),
            before=tuple(before),
            catches=(STOPS,),
            exit=(self.nodes.event("on_train_end"),),
            needs=(Need("trained", True, "the training is stopped before it begins"),) if plan.least == 0 else (),
            method="_FitLoop.run",
        )

    def epochs(self, plan: Plan) -> Iterator[Node]:
        least, at = plan.least, 0
        varies = not all(due.checks for due in plan.due)
        for part in plan.epochs:
            count = _count(part)
            yield self.epoch_part(part, least, plan, plan.due[at : at + count], varies)
            least, at = max(0, least - count), at + count

    def epoch_part(self, part: Part[Epoch], least: int, plan: Plan, due: tuple[Due, ...], varies: bool) -> Scope:
        most = None if plan.label else part.most
        if isinstance(part.item, Epoch):
            repeat = Repeat(0 if plan.label else min(least, part.most or 0), most, plan.label)
            return self.epoch(part.item, repeat, self.turns(due, bool(plan.label)), varies)
        inner = _count(Part(part.item, 1))
        repeat = Repeat(0 if plan.label else min(-(-least // inner), part.most or 0), most, plan.label)
        once = replace(plan, label="")
        body = tuple(self.epoch_part(one, _count(one) if least else 0, once, due[:1], varies) for one in part.item)
        return Scope("epochs", body, repeat=repeat, method="_FitLoop.run")

    def turns(self, due: tuple[Due, ...], endless: bool) -> tuple[Turns, ...]:
        """Return what is so in some epochs only."""
        flags = {
            CHECKING: [one.checks for one in due],
            ASKING: [one.train for one in due],
            DUE: [one.val for one in due],
        }
        return tuple(Turns(flag, spans(values, endless)) for flag, values in flags.items() if any(values))

    def epoch(self, epoch: Epoch, repeat: Repeat, turns: tuple[Turns, ...], varies: bool) -> Scope:
        nodes, training = self.nodes, [*self.pieces(epoch, varies)]
        begins = (Need("begun", True, "the checkpoint was saved after it"),) if epoch.resumed else ()
        if epoch.ahead:
            training.insert(0, self.draw())
        asks = self.given.sources["train"].asks and any(turn.flag == ASKING for turn in turns)
        asked = (nodes.event("train_dataloader", Need(ASKING, True, "they are there already")),) if asks else ()
        return Scope(
            "epoch",
            (
                *asked,
                nodes.event("on_train_epoch_start", *begins),
                nodes.around("run_training_epoch", *training, catches=(STOPS,)),
                nodes.event("on_train_epoch_end"),
                *self.schedulers("epoch", True),
            ),
            repeat=repeat,
            sets=((LAST, False if epoch.full and not epoch.resumed and _sized(epoch) else None),),
            turns=turns,
            method="_FitLoop.advance",
            note="goes on where the checkpoint was saved" if epoch.resumed else "",
        )

    # -- the pieces of an epoch --------------------------------------------------------------------------

    def pieces(self, epoch: Epoch, varies: bool) -> Iterator[Node]:
        for part in epoch.parts:
            yield from self.piece(part, epoch, varies)

    def piece(self, part: Part[Piece], epoch: Epoch, varies: bool) -> Iterator[Node]:
        item, least = part.item, part.most or 0
        if epoch.loose or part.label or self.skips:
            least = 1 if part.label == EVERY else 0
        repeat = Repeat(least, part.most, part.label)
        if isinstance(item, Batch):
            yield self.batch(item, repeat)
        elif isinstance(item, Validation):
            yield from self.validation(item, varies)
        elif isinstance(item, Window):
            yield self.window(item, epoch, varies, repeat)
        else:
            body = tuple(node for one in item for node in self.piece(one, epoch, varies))
            yield Scope("batches", body, repeat=repeat, method="_TrainingEpochLoop.run")

    def window(self, item: Window, epoch: Epoch, varies: bool, repeat: Repeat) -> Scope:
        """Return the batches of one optimizer step, of which the first zeroes the gradients and the last one steps."""
        body = tuple(node for one in item.parts for node in self.piece(one, epoch, varies))
        return Scope("step", body, repeat=repeat, sets=((CLEARING, True),), method="_TrainingEpochLoop.run")

    def validation(self, item: Validation, varies: bool) -> tuple[Node, ...]:
        needs = [Need(CHECKING, True, "check_val_every_n_epoch: not in this epoch")] if varies else []
        if not item.sure or self.skips:
            flag = f"validated {next(self.numbers)}"  # each is decided by itself
            needs.append(Need(flag, True, "only the run decides whether it validates here"))
        return self.evaluating.inside(item.clears, DUE, tuple(needs))

    @property
    def skips(self) -> bool:
        """Whether the module may leave out the rest of an epoch."""
        return self.given.overrides("on_train_batch_start") and may_skip(self.given.model, "on_train_batch_start")

    def draw(self) -> Scope:
        nodes = self.nodes
        step = nodes.step("draw a batch", EPOCH_LOOP, "_TrainingEpochLoop.advance", "next")
        return nodes.around("train_dataloader_next", step)

    # -- one batch ---------------------------------------------------------------------------------------

    def batch(self, item: Batch, repeat: Repeat) -> Scope:
        nodes = self.nodes
        skipped = (Need(SKIPPED, False, "on_train_batch_start gave back -1"),) if self.skips else ()
        body: list[Node] = []
        if not self.given.draws_itself("train"):
            moved = self.evaluating.transfer(Site(EPOCH_LOOP, "_TrainingEpochLoop.advance"))
            body += [self.draw(), *moved]
        body.append(nodes.event("on_train_batch_start"))
        inner = self.automatic(item) if self.given.automatic else (self.manual(),)
        catches = () if self.given.automatic else (STOPS,)
        body.append(nodes.around("run_training_batch", *inner, catches=catches, needs=skipped))
        body += [*self.schedulers("step", False, item), *self.schedulers("epoch", False, item)]
        body.append(nodes.event("on_train_batch_end", *skipped))
        body += self.schedulers("step", True, item)
        return Scope(
            "batch",
            tuple(body),
            repeat=repeat,
            last_sets=((LAST, True),) if item.last else (),
            method="_TrainingEpochLoop.advance",
            note="its gradients add up for a later optimizer step" if item.kind == "adds" else "",
        )

    def automatic(self, item: Batch) -> tuple[Node, ...]:
        if item.kind != "open":
            return self.closure(item) if item.kind == "adds" else (self.optimizer_step(item, ()),)
        return (
            self.optimizer_step(item, (Need(STEPPING, True, ADDING),)),
            Scope("accumulate", self.closure(item), needs=(Need(STEPPING, False, "the optimizer steps"),)),
        )

    def optimizer_step(self, item: Batch, needs: tuple[Need, ...]) -> Scope:
        """Return the hook that encloses all that the optimizer's step leads to."""
        nodes = self.nodes
        free = self.given.overrides("optimizer_step")
        after: tuple[Node, ...] = (
            nodes.event("on_before_optimizer_step", *self.if_free(free)),
            nodes.around("configure_gradient_clipping", *self.clipping(), needs=self.if_free(free)),
        )
        step = nodes.step("optimizer step", PRECISION, "Precision.optimizer_step", "step", *self.if_free(free))
        inner: tuple[Node, ...] = (*self.closure(item), *after)
        if free or not self.optimizers.once:
            label = "optimizer_step decides" if free else "as often as the optimizer asks for it"
            inner = (Scope("closure", inner, repeat=Repeat(0 if free else 1, None, label), method="Closure.closure"),)
        return nodes.around("optimizer_step", *inner, step, needs=needs)

    def if_free(self, free: bool) -> tuple[Need, ...]:
        name = type(self.given.model).__name__
        return (Need("stepped", True, f"{name}.optimizer_step decides"),) if free else ()

    def clipping(self) -> tuple[Step, ...]:
        if not self.given.trainer.gradient_clip_val:
            return ()
        function = "LightningModule.configure_gradient_clipping"
        return (self.nodes.step("clip the gradients", "core.module", function, "clip_gradients"),)

    def closure(self, item: Batch) -> tuple[Node, ...]:
        """Return what computes the gradients of one batch."""
        nodes = self.nodes
        flag = f"{CLEARING} here" if item.kind == "open" else CLEARING
        why = "the first batch of an optimizer step has zeroed them"
        clears = () if item.kind == "plain" else (Need(flag, True, why),)
        zero = nodes.step("zero_grad", "core.module", "LightningModule.optimizer_zero_grad", "zero_grad")
        return (
            self.training_step(),
            nodes.event("on_before_zero_grad", *clears),
            nodes.around("optimizer_zero_grad", zero, needs=clears),
            self.backward(),
        )

    def training_step(self) -> Scope:
        inner: list[Node] = []
        if self.given.draws_itself("train"):
            inner.append(Scope("draw", (self.draw(),), repeat=Repeat(0, None, "training_step decides")))
        inner.append(self.nodes.step("forward", "strategies.strategy", "Strategy.training_step", "training_step"))
        return self.nodes.around("training_step", *inner)

    def backward(self) -> Scope:
        nodes = self.nodes
        certain = not self.given.automatic or gives_loss(self.given.model)
        needs = () if certain else (Need(LOSS, True, "training_step gave back None"),)
        return nodes.around("backward", *self.backward_inside(), needs=needs)

    def backward_inside(self) -> tuple[Node, ...]:
        nodes = self.nodes
        return (
            nodes.event("on_before_backward"),
            nodes.step("backward", PRECISION, "Precision.backward", "backward"),
            nodes.event("on_after_backward"),
        )

    def manual(self) -> Scope:
        """Return a training step that does its own backward passes and optimizer steps."""
        nodes = self.nodes
        site = Site("loops.optimization.manual", "_ManualOptimization.advance")
        backward = Scope(
            "backward",
            self.backward_inside(),
            needs=(Need("backward here", True, "training_step decides"),),
            method="LightningModule.manual_backward",
        )
        again = Scope("backward", self.backward_inside(), repeat=Repeat(0, None, "the closure decides"))
        step = nodes.around(
            "optimizer_step",
            again,
            nodes.event("on_before_optimizer_step"),
            nodes.step("optimizer step", PRECISION, "Precision.optimizer_step", "step"),
            site=Site("loops.optimization.manual", "_ManualOptimization._on_before_step"),
            needs=(Need("step here", True, "training_step decides"),),
        )
        forward = nodes.step("forward", "strategies.strategy", "Strategy.training_step", "training_step")
        free = Scope("by hand", (backward, step), repeat=Repeat(0, None, "training_step decides"))
        inner: list[Node] = [forward, free]
        if self.given.draws_itself("train"):
            inner.insert(0, Scope("draw", (self.draw(),), repeat=Repeat(0, None, "training_step decides")))
        return nodes.around("training_step", *inner, site=site)

    # -- schedulers --------------------------------------------------------------------------------------

    def schedulers(self, interval: str, plateau: bool, item: Batch | None = None) -> list[Node]:
        """Return the schedulers that Lightning steps at one of its four moments for that."""
        found = self.optimizers.steps(interval, plateau)
        if not self.given.automatic or found == () or (interval == "step" and item is not None and item.kind == "adds"):
            return []
        needs: list[Need] = []
        if interval == "step" and item is not None and item.kind == "open":
            needs.append(Need(STEPPING, True, ADDING))
        if interval == "epoch" and item is not None:
            needs.append(Need(LAST, True, "only after the last batch of the epoch"))
        label = "as configure_optimizers says"
        certain = found is not None and all(one.frequency == 1 for one in found) and not self.skips and not plateau
        repeat = Repeat(len(found or ()), len(found or ())) if certain else Repeat(0, None, label)
        if repeat.most == 1:
            return [replace(self.schedule(), needs=tuple(needs))]
        return [Scope("schedulers", (self.schedule(),), needs=tuple(needs), repeat=repeat)]

    def schedule(self) -> Scope:
        call = self.nodes.step("scheduler step", "core.module", "LightningModule.lr_scheduler_step", "step")
        return self.nodes.around("lr_scheduler_step", call)


def _sized(epoch: Epoch) -> bool:
    """Return whether it is known which batch is the last one."""
    return not any(part.label for part in epoch.parts)


def _count(part: Part[Epoch]) -> int:
    """Return how many epochs a part has."""
    inner = 1 if isinstance(part.item, Epoch) else sum(_count(one) for one in part.item)
    return inner * (part.most or 0)
