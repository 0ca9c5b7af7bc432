"""The parts of a run that only look: the check before training, validations inside it, and validate, test, predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loopscope.adapters.lightning.given import KINDS, STEPS, Given, Kind
from loopscope.adapters.lightning.hooks import EVALUATION_LOOP, PREDICTION_LOOP
from loopscope.adapters.lightning.loaders import Batches, batches
from loopscope.adapters.lightning.nodes import Nodes
from loopscope.adapters.lightning.sites import Site
from loopscope.model import Catch, Need, Node, Repeat, Scope

NAMES = {"val": "validation", "test": "test", "predict": "predict"}
"""Kind of data -> how its hooks are called: `on_validation_start`."""

PASSES = {"val": "validate", "test": "test", "predict": "predict"}
"""Kind of data -> the name of the scope of one pass over it."""

STOPS = Catch(("StopIteration",))
"""The loop is left when something in it raises StopIteration."""


@dataclass(frozen=True, slots=True)
class Evaluating:
    """Builds passes over data without training: `Evaluating(given, nodes).alone()`."""

    given: Given
    nodes: Nodes

    def alone(self) -> tuple[Node, ...]:
        """Return what `validate`, `test` or `predict` does once it is set up."""
        kind = KINDS[self.given.run]
        asked = self.asked(kind)
        return (*asked, *self.passing(kind, batches(self.given, kind)))

    def sanity(self) -> Scope:
        """Return the check that a fit begins with: a few validation batches."""
        nodes, found = self.nodes, batches(self.given, "val", sanity=True)
        body: tuple[Node, ...] = (
            nodes.event("on_sanity_check_start"),
            *self.asked("val"),
            *self.passing("val", found),
            nodes.event("on_sanity_check_end"),
        )
        return Scope("sanity check", body, method="Trainer._run_sanity_check")

    def inside(self, clears: bool | None, due: str, needs: tuple[Need, ...]) -> tuple[Node, ...]:
        """Return a validation in the middle of a fit; `due` is the flag that says whether its loaders are asked for."""
        nodes, body = self.nodes, list[Node]()
        if clears is not False:
            why = "the gradients add up over this validation"
            zeroed = (Need("zeroed before", True, why),) if clears is None else ()
            body.append(nodes.event("on_validation_model_zero_grad", *zeroed))
        if self.given.sources["val"].asks:
            body.append(nodes.event("val_dataloader", Need(due, True, "its loaders are there already")))
        body += self.passing("val", batches(self.given, "val"))
        if not needs:
            return tuple(body)
        return (Scope("maybe", tuple(body), needs=needs, method="_TrainingEpochLoop.on_advance_end"),)

    def asked(self, kind: Kind) -> tuple[Node, ...]:
        source = self.given.sources[kind]
        limit = getattr(self.given.trainer, f"limit_{kind}_batches")
        return (self.nodes.event(source.hook),) if source.asks and limit != 0 else ()

    def passing(self, kind: Kind, found: Batches) -> tuple[Node, ...]:
        """Return one pass: its hooks, and its batches, loader after loader."""
        nodes, name = self.nodes, NAMES[kind]
        loop = "_PredictionLoop" if kind == "predict" else "_EvaluationLoop"
        module = PREDICTION_LOOP if kind == "predict" else EVALUATION_LOOP
        setup = nodes.step("set up the data", module, f"{loop}.run", "setup_data")
        if found.none:
            return (setup,)
        several = tuple(
            Scope(
                "batch",
                (*self.batch(kind),),
                repeat=Repeat(0 if found.upto or count is None else count, count, found.why),
                method=f"{loop}.run",
                note=f"dataloader_idx {index}" if len(found.of) > 1 else "",
            )
            for index, count in enumerate(found.of)
            if count != 0
        )
        ends = [nodes.event(f"on_{name}_epoch_end"), nodes.event(f"on_{name}_end")]
        if kind != "predict" and self.given.overrides(f"on_{name}_model_train"):
            ends.append(nodes.event(f"on_{name}_model_train"))
        begins = (f"on_{name}_model_eval", f"on_{name}_start", f"on_{name}_epoch_start")
        whole = Scope(
            PASSES[kind],
            several,
            before=tuple(map(nodes.event, begins)),
            catches=(STOPS,),
            exit=tuple(ends),
            needs=(Need("some data", True, "there is no batch"),) if found.total is None else (),
            method=f"{loop}.run",
        )
        return setup, whole

    def draw(self, kind: Kind) -> Scope:
        nodes, name = self.nodes, f"{kind}_next"
        loop = "_PredictionLoop.run" if kind == "predict" else "_EvaluationLoop.run"
        module = PREDICTION_LOOP if kind == "predict" else EVALUATION_LOOP
        return nodes.around(name, nodes.step("draw a batch", module, loop, "next"))

    def batch(self, kind: Kind) -> Iterator[Node]:
        """Yield what happens to one batch."""
        nodes, name = self.nodes, NAMES[kind]
        drawn = self.given.draws_itself(kind)
        if not drawn:
            yield self.draw(kind)
            function = "_PredictionLoop._predict_step" if kind == "predict" else "_EvaluationLoop._evaluation_step"
            module = PREDICTION_LOOP if kind == "predict" else EVALUATION_LOOP
            yield from self.transfer(Site(module, function))
        yield nodes.event(f"on_{name}_batch_start")
        step = STEPS[kind]
        inner: list[Node] = [nodes.step("forward", "strategies.strategy", f"Strategy.{step}", step)]
        if drawn:
            inner.insert(0, Scope("draw", (self.draw(kind),), repeat=Repeat(0, None, f"{step} decides")))
        yield nodes.around(step, *inner)
        yield nodes.event(f"on_{name}_batch_end")

    def transfer(self, site: Site) -> tuple[Node, ...]:
        """Return how a batch is changed and moved; `site` is the function that has it moved."""
        nodes = self.nodes
        move = nodes.step("move to device", "core.hooks", "DataHooks.transfer_batch_to_device", "move_data_to_device")
        return (
            nodes.event("on_before_batch_transfer"),
            nodes.around(
                "batch_to_device",
                nodes.around("transfer_batch_to_device", move),
                nodes.event("on_after_batch_transfer"),
                site=site,
            ),
        )
