"""The part of a fit that trains: its epochs, batches, optimizer steps and what happens inside of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loopscope.adapters.lightning.evaluating import Evaluating
from loopscope.adapters.lightning.folding import Part
from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.hooks import EPOCH_LOOP, PRECISION
from loopscope.adapters.lightning.nodes import Nodes
from loopscope.adapters.lightning.optimizers import Optimizers, gives_loss, may_skip
from loopscope.adapters.lightning.plan import Batch, Epoch, Piece, Plan, Validation, Window
from loopscope.adapters.lightning.sites import Site
from loopscope.model import ONCE, Catch, Event, Need, Node, Repeat, Scope, Step

LOSS = "a loss"
SKIPPED = "the rest of the epoch is left out"
LAST = "the last batch of the epoch"
DUE = "the validation loaders are due"
STEPPING = "the optimizer steps"
CLEARING = "the gradients are zeroed"

STOPS = Catch(("StopIteration",))
"""Lightning's loops are left when something in them raises StopIteration."""


@dataclass(frozen=True, slots=True)
class Training:
    """Builds the training of a plan: `Training(given, nodes, optimizers, evaluating).train(plan)`."""

    given: Given
    nodes: Nodes
    optimizers: Optimizers
    evaluating: Evaluating

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
        least = plan.least
        for part in plan.epochs:
            yield self.epoch_part(part, least, plan.label)
            least = max(0, least - _count(part))

    def epoch_part(self, part: Part[Epoch], least: int, label: str) -> Scope:
        most = None if label else part.most
        if isinstance(part.item, Epoch):
            repeat = Repeat(0 if label else min(least, part.most or 0), most, label)
            return self.epoch(part.item, repeat)
        inner = _count(Part(part.item, 1))
        repeat = Repeat(0 if label else min(-(-least // inner), part.most or 0), most, label)
        body = tuple(self.epoch_part(one, min(least, _count(one)), "") for one in part.item)
        return Scope("epochs", body, repeat=repeat, method="_FitLoop.run")

    def epoch(self, epoch: Epoch, repeat: Repeat) -> Scope:
        nodes, training = self.nodes, [*self.pieces(epoch)]
        begins = (Need("begun", True, "the checkpoint was saved after it"),) if epoch.resumed else ()
        if epoch.ahead:
            training.insert(0, self.draw())
        asked = (nodes.event("train_dataloader"),) if epoch.asks and self.given.sources["train"].asks else ()
        sets: list[tuple[str, bool | None]] = [(LAST, None if not epoch.full or epoch.resumed else False)]
        sets += [(DUE, epoch.asks_val)] if self.given.sources["val"].asks else []
        ends = [nodes.event("on_train_epoch_end"), *self.schedulers("epoch", True, epoch)]
        return Scope(
            "epoch",
            (
                *asked,
                nodes.event("on_train_epoch_start", *begins),
                nodes.around("run_training_epoch", *training, catches=(STOPS,)),
                *ends,
            ),
            repeat=repeat,
            sets=tuple(sets),
            method="_FitLoop.advance",
            note="goes on where the checkpoint was saved" if epoch.resumed else "",
        )

    # -- the pieces of an epoch --------------------------------------------------------------------------

    def pieces(self, epoch: Epoch) -> Iterator[Node]:
        for number, part in enumerate(epoch.parts):
            yield self.piece(part, epoch, number == 0, epoch.full and number == len(epoch.parts) - 1)

    def piece(self, part: Part[Piece], epoch: Epoch, first: bool = False, last: bool = False) -> Node:
        label = part.label
        least = part.most or 0
        if epoch.loose or label or self.skips:
            least = 1 if part.label == "val_check_interval" else 0
        repeat = Repeat(least, part.most, label)
        item = part.item
        if isinstance(item, Batch):
            return self.batch(item, epoch, repeat)
        if isinstance(item, Validation):
            return self.validation(item, epoch)
        parts = item.parts if isinstance(item, Window) else item
        name = "step" if isinstance(item, Window) else "batches"
        return Scope(name, tuple(self.piece(one, epoch) for one in parts), repeat=repeat, method="_TrainingEpochLoop.run")

    def validation(self, item: Validation, epoch: Epoch) -> Scope:
        needs: tuple[Need, ...] = ()
        if not item.sure or self.skips:
            needs = (Need("validated", True, "only the run decides whether it validates here"),)
        return self.evaluating.inside(item.clears, DUE, needs)

    @property
    def skips(self) -> bool:
        """Whether the module may leave out the rest of an epoch."""
        return self.given.overrides("on_train_batch_start") and may_skip(self.given.model, "on_train_batch_start")

    def draw(self) -> Scope:
        nodes = self.nodes
        step = nodes.step("draw a batch", EPOCH_LOOP, "_TrainingEpochLoop.advance", "next")
        return nodes.around("train_dataloader_next", step)

    # -- one batch ---------------------------------------------------------------------------------------

    def batch(self, item: Batch, epoch: Epoch, repeat: Repeat) -> Scope:
        nodes = self.nodes
        skipped = (Need(SKIPPED, False, "on_train_batch_start gave back -1"),) if self.skips else ()
        drawn = self.given.draws_itself("train")
        body: list[Node] = [] if drawn else [self.draw(), *self.evaluating.transfer(Site(EPOCH_LOOP, "_TrainingEpochLoop.advance"))]
        body.append(nodes.event("on_train_batch_start"))
        inner = self.automatic(item) if self.given.automatic else (self.manual(),)
        catches = () if self.given.automatic else (STOPS,)
        body.append(nodes.around("run_training_batch", *inner, catches=catches, needs=skipped))
        body += self.schedulers("step", False, epoch, item)
        body += self.schedulers("epoch", False, epoch, item)
        body.append(nodes.event("on_train_batch_end", *skipped))
        body += self.schedulers("step", True, epoch, item)
        return Scope(
            "batch",
            tuple(body),
            repeat=repeat,
            last_sets=((LAST, True),),
            method="_TrainingEpochLoop.advance",
            note="" if item.steps is not False else "its gradients add up for a later optimizer step",
        )

    def automatic(self, item: Batch) -> tuple[Node, ...]:
        if item.steps is None:
            return (
                self.optimizer_step(item, (Need(STEPPING, True, "the gradients only add up in this batch"),)),
                *self.closure(item, (Need(STEPPING, False, "the optimizer steps in this batch"),)),
            )
        return (self.optimizer_step(item, ()),) if item.steps else self.closure(item, ())

    def optimizer_step(self, item: Batch, needs: tuple[Need, ...]) -> Scope:
        """Return the hook that encloses all that the optimizer's step leads to."""
        nodes = self.nodes
        free = self.given.overrides("optimizer_step")
        after: tuple[Node, ...] = (
            nodes.event("on_before_optimizer_step", *self.if_free(free)),
            nodes.around("configure_gradient_clipping", *self.clipping(), needs=self.if_free(free)),
        )
        step = nodes.step("optimizer step", PRECISION, "Precision.optimizer_step", "step", *self.if_free(free))
        inner: tuple[Node, ...] = (*self.closure(item, ()), *after)
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
        return (self.nodes.step("clip the gradients", "core.module", "LightningModule.configure_gradient_clipping", "clip_gradients"),)

    def closure(self, item: Batch, needs: tuple[Need, ...]) -> tuple[Node, ...]:
        """Return what computes the gradients of one batch."""
        nodes = self.nodes
        body: list[Node] = [self.training_step()]
        if item.clears is not False:
            clears = (Need(CLEARING, True, "only the first batch of an optimizer step zeroes them"),) if item.clears is None else ()
            zero = nodes.step("zero_grad", "core.module", "LightningModule.optimizer_zero_grad", "zero_grad")
            body.append(nodes.event("on_before_zero_grad", *clears))
            body.append(nodes.around("optimizer_zero_grad", zero, needs=clears))
        body.append(self.backward())
        if not needs:
            return tuple(body)
        return (Scope("closure", tuple(body), needs=needs, method="Closure.closure"),)

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

    def schedulers(self, interval: str, plateau: bool, epoch: Epoch, item: Batch | None = None) -> list[Node]:
        """Return the schedulers that Lightning steps at one of its four moments for that."""
        found = self.optimizers.steps(interval, plateau)
        if not self.given.automatic or found == () or (interval == "step" and item is not None and item.steps is False):
            return []
        needs: list[Need] = []
        if interval == "step" and item is not None and item.steps is None:
            needs.append(Need(STEPPING, True, "the gradients only add up in this batch"))
        if interval == "epoch" and item is not None:
            needs.append(Need(LAST, True, "only after the last batch of the epoch"))
        if found is None or any(self.uneven(one, epoch) for one in found) or self.skips or plateau:
            label = "as configure_optimizers says"
            return [Scope("schedulers", (self.schedule(),), needs=tuple(needs), repeat=Repeat(0, None, label))]
        due = [one for one in found if one.interval == "step" or (epoch.ticks + 1) % one.frequency == 0]
        return [Scope("schedulers", (self.schedule(),), needs=tuple(needs), repeat=_exactly(len(due)))] if due else []

    def uneven(self, one: object, epoch: Epoch) -> bool:
        """Return whether a scheduler steps after some batches only, counted from the epoch's first."""
        return getattr(one, "interval", "") == "step" and getattr(one, "frequency", 1) != 1

    def schedule(self) -> Scope:
        call = self.nodes.step("scheduler step", "core.module", "LightningModule.lr_scheduler_step", "step")
        return self.nodes.around("lr_scheduler_step", call)


def _exactly(count: int) -> Repeat:
    return ONCE if count == 1 else Repeat(count, count)


def _count(part: Part[Epoch]) -> int:
    """Return how many epochs a part has."""
    inner = 1 if isinstance(part.item, Epoch) else sum(_count(one) for one in part.item)
    return inner * (part.most or 0)


def _events(node: Node) -> Iterator[str]:
    if isinstance(node, Event):
        yield node.name
    elif isinstance(node, Scope):
        for child in node.nodes():
            yield from _events(child)
