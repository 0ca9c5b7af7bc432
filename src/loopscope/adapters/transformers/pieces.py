"""The pieces of which a trainer's loops are made: evaluations, logs, checkpoints, and what overrides make of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from loopscope.adapters.transformers.lines import line
from loopscope.adapters.transformers.opening import BEFORE, EVALUATION, STEP, TAIL
from loopscope.adapters.transformers.overrides import Fires, Override, Overrides
from loopscope.adapters.transformers.settings import Pass, Settings
from loopscope.model import ONCE, Event, Need, Node, Repeat, Scope, Step

TRAINING = (*BEFORE, *STEP, "on_epoch_end", *TAIL, "on_train_end")

UNLOGGED = "a step since the last log"
"""The flag without which Transformers logs nothing."""

FIRED_BY = {
    "log": ("on_log",),
    "evaluate": EVALUATION,
    "_evaluate": EVALUATION,
    "evaluation_loop": ("on_prediction_step",),
    "predict": ("on_prediction_step", "on_predict"),
    "_push_from_checkpoint": ("on_push_begin",),
    "_save_checkpoint": ("on_push_begin",),
    "_maybe_log_save_evaluate": TAIL,
    "_finalize_training": ("on_log", "on_train_end"),
    "_run_epoch": (*STEP, "on_epoch_end", *TAIL),
    "_inner_training_loop": TRAINING,
    "train": TRAINING,
}
"""Method -> the events that it fires: all that is known of one that is overridden, or that an override calls."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Makes the pieces for a trainer of class `owner`.

    `has_metrics`: it computes metrics of its own; `has_loss`: a loss function of its own; `generates`: it answers with
    generated text.
    """

    owner: str
    overrides: Overrides
    settings: Settings
    has_metrics: bool = False
    has_loss: bool = False
    generates: bool = False

    def backward(self) -> Iterator[Node]:
        """Yield what `Trainer.training_step` does: forward, loss and backward in one."""
        if found := self.overrides.get("training_step"):
            yield self.instead(found)
            yield from self.besides("training_step")
            return
        if found := self.overrides.get("compute_loss"):
            yield self.instead(found)
            yield from self.besides("compute_loss")
        else:
            yield self.step("forward", "compute_loss", "model")
            if self.has_loss:
                yield self.step("loss", "compute_loss", "self.compute_loss_func")
        yield self.step("backward", "training_step", "self.accelerator.backward")

    def log(self) -> tuple[Node, ...]:
        """Return what `Trainer.log` does."""
        return self.own("log", (self.event("on_log", "log"),))

    def save(self) -> tuple[Node, ...]:
        """Return how a checkpoint is saved, and pushed to the Hub where that was asked for."""
        pushed: tuple[Node, ...] = ()
        if self.settings.pushes:
            idle = Need("the last upload is over", True, "only if the last upload is over (hub_always_push=False)")
            needs = () if self.settings.always_pushes else (idle,)
            pushed = self.own("_push_from_checkpoint", (self.event("on_push_begin", "_push_from_checkpoint", needs),))
        saved = self.step("save a checkpoint", "_maybe_log_save_evaluate", "self._save_checkpoint")
        inside = self.own("_save_checkpoint", (saved, *pushed))
        return (*inside, self.event("on_save", "_maybe_log_save_evaluate"))

    # -- an evaluation -------------------------------------------------------------------------------------------

    def evaluation(self) -> tuple[Node, ...]:
        """Return the evaluations that `Trainer.evaluate` consists of, one for each dataset."""
        passes = self.settings.passes
        nodes = tuple(self.validate(over) for over in passes.all)
        return self.own("evaluate", nodes) if passes.split else nodes

    def validate(self, over: Pass) -> Scope:
        metrics = (self.step("metrics", "evaluation_loop", "self.compute_metrics"),) if self.has_metrics else ()
        body = (*self.batches(over), *metrics, *self.log(), self.event("on_evaluate", "evaluate"))
        place = line("evaluate", "self.evaluation_loop").place
        return Scope("validate", self.own("evaluate", body), note=over.name, place=place, method="Trainer.evaluate")

    def batches(self, over: Pass) -> tuple[Node, ...]:
        """Return the batches of an evaluation, or of predict."""
        number = over.batches
        repeat = Repeat(0, None, "batches") if number is None else Repeat(number, number)
        body = (
            self.step("draw a batch", "evaluation_loop", "enumerate"),
            *self.answer(),
            self.event("on_prediction_step", "evaluation_loop"),
        )
        batch = Scope("batch", body, repeat=repeat, place=line("evaluation_loop", "enumerate").place)
        return self.own("evaluation_loop", () if number == 0 else (batch,))

    def answer(self) -> Iterator[Node]:
        if found := self.overrides.get("prediction_step"):
            yield self.instead(found)
            yield from self.besides("prediction_step")
            return
        yield self.step("generate" if self.generates else "forward", "evaluation_loop", "self.prediction_step")
        yield from self.besides("compute_loss")

    # -- overrides -----------------------------------------------------------------------------------------------

    def own(self, method: str, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        """Return what a method does: `nodes`, with what an override fires besides; anything where it is not known."""
        found = self.overrides.get(method)
        if found is None:
            return nodes
        if not found.known:
            names = dict.fromkeys((*fired(*nodes), *FIRED_BY.get(method, ())))
            return (self.anything(method, names, f"as {found.owner}.{method} does"),)
        before = [node for one in found.fires if not one.after for node in self.extra(found, one)]
        after = [node for one in found.fires if one.after for node in self.extra(found, one)]
        return (*before, *nodes, *after)

    def besides(self, method: str) -> Iterator[Node]:
        """Yield what the override of a method that fires nothing by itself fires."""
        if found := self.overrides.get(method):
            yield from (node for one in found.fires for node in self.extra(found, one))

    def extra(self, override: Override, fires: Fires) -> tuple[Node, ...]:
        names = FIRED_BY.get(fires.method, (fires.method,))
        if fires.always and (fires.method == "log" or fires.method.startswith("on_")):
            return tuple(Event(name, override.place) for name in names)
        return (self.anything(fires.method, names, f"as {override.owner}.{override.method} does"),)

    def anything(self, name: str, events: Iterable[str], label: str) -> Scope:
        """Return a scope in which these events may fire in any order, and as often as they like."""
        body = tuple(Event(one, needs=(Need(f"{one} in {name}", True, f"only {label}"),)) for one in events)
        return Scope(name.strip("_"), body, repeat=Repeat(0, None, label), note="not Transformers' own")

    def instead(self, override: Override) -> Step:
        return Step(override.method, override.text, override.place)

    # -- lines ---------------------------------------------------------------------------------------------------

    def event(self, name: str, method: str, needs: tuple[Need, ...] = ()) -> Event:
        return Event(name, line(method, f"self.callback_handler.{name}").place, needs)

    def step(self, name: str, method: str, source: str) -> Step:
        found = line(method, source)
        return Step(name, found.text, found.place)


def guarded(
    name: str, nodes: tuple[Node, ...], needs: tuple[Need, ...], sets: tuple[tuple[str, bool | None], ...]
) -> tuple[Node, ...]:
    """Return `nodes` under conditions: by themselves where a single one can carry them, else in a scope."""
    if (not needs and not sets) or not nodes:
        return nodes
    only = nodes[0] if len(nodes) == 1 else None
    if isinstance(only, Scope) and only.repeat == ONCE and not only.sets:
        return (replace(only, needs=(*needs, *only.needs), sets=sets),)
    if isinstance(only, Event) and not sets:
        return (replace(only, needs=(*needs, *only.needs)),)
    return (Scope(name, nodes, needs=needs, sets=sets),)


def fired(*nodes: Node) -> Iterator[str]:
    """Yield the name of every event in parts of the protocol, in the order in which they stand."""
    for node in nodes:
        if isinstance(node, Event):
            yield node.name
        elif isinstance(node, Scope):
            yield from fired(*node.nodes())


def may_end_with(event: str, nodes: Iterable[Node]) -> bool:
    """Return whether `nodes` may end with an event that need not fire there: what follows may be taken for it."""
    for node in reversed(tuple(nodes)):
        open_ = [need for need in node.needs if need.flag != UNLOGGED]  # which is always known
        certain = not open_ and (not isinstance(node, Scope) or node.repeat.least > 0)
        if isinstance(node, Event) and (certain or node.name == event):
            return not certain
        if isinstance(node, Scope):
            if may_end_with(event, node.body) or (not certain and tuple(fired(node)) == (event,)):
                return True
            if certain and any(fired(node)):
                return False
    return False
