"""A whole run of a trainer as a protocol: set-up, what the run is about, clean-up, and the way of an exception."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.hooks import LOADED
from loopscope.adapters.lightning.nodes import Nodes
from loopscope.adapters.lightning.resume import Checkpoint
from loopscope.model import Catch, Need, Node, Scope

TRAINER = "trainer.trainer"


@dataclass(frozen=True, slots=True)
class Running:
    """Builds what all runs of a trainer have in common: `Running(given, nodes, checkpoint).root(*stage)`.

    `tuned`: a callback may end the run on purpose once it has found what it looked for.
    """

    given: Given
    nodes: Nodes
    checkpoint: Checkpoint
    tuned: bool = False

    def root(self, *stage: Node) -> Scope:
        """Return the scope of the run; `stage` is what it does between set-up and clean-up."""
        nodes = self.nodes
        raised = nodes.event("on_exception")
        tuned = (Catch(("_TunerExitException",), (nodes.event("teardown"),)),) if self.tuned else ()
        return Scope(
            self.given.run,
            (*self.begins(), *stage, *self.ends()),
            catches=(*tuned, Catch(("*",), (raised,), "raise")),
            place=nodes.place("on_fit_start") if self.given.run == "fit" else nodes.place("setup"),
            method=f"Trainer.{self.given.run}",
        )

    def begins(self) -> Iterator[Node]:
        """Yield what `Trainer._run` does before its stage."""
        nodes, given = self.nodes, self.given
        yield nodes.event("configure_callbacks")
        yield nodes.step("check the settings", TRAINER, "Trainer._run", "_verify_loop_configurations")
        if self.prepares():
            yield nodes.event("prepare_data")
        yield nodes.event("setup")
        for name in ("configure_sharded_model", "configure_model"):
            if given.overrides(name):
                yield nodes.event(name)
        early = not given.trainer.strategy.restore_checkpoint_after_setup
        if early:
            yield from self.loads()
        yield nodes.step("set up the strategy", TRAINER, "Trainer._run", "setup")
        if given.run == "fit":
            yield nodes.event("configure_optimizers")
            yield nodes.event("on_fit_start")
        if not early:
            yield from self.loads()
        yield nodes.step("restore the training", TRAINER, "Trainer._run", "restore_training_state")

    def prepares(self) -> bool:
        """Return whether this process is the one that prepares the data, and there is something that does."""
        given, trainer = self.given, self.given.trainer
        wanted = []
        if given.data_overrides("prepare_data"):
            wanted.append(given.datamodule.prepare_data_per_node)
        if given.overrides("prepare_data"):
            wanted.append(given.model.prepare_data_per_node)
        return any(trainer.local_rank == 0 and (per_node or trainer.node_rank == 0) for per_node in wanted)

    def loads(self) -> Iterator[Node]:
        """Yield what a checkpoint brings about."""
        found, nodes = self.checkpoint, self.nodes
        if found.loads is False:
            return
        body: list[Node] = [
            nodes.step("load the checkpoint", TRAINER, "Trainer._run", "_restore_modules_and_callbacks"),
            nodes.event(LOADED),
        ]
        if self.given.datamodule is not None:
            why = "the checkpoint holds nothing of the data module"
            body.append(nodes.event("load_state_dict", Need("data state", True, why)))
        body.append(nodes.event("on_load_checkpoint"))
        needs = (Need("a checkpoint", True, "there is no checkpoint to load"),) if found.loads is None else ()
        yield Scope("load", tuple(body), needs=needs, method="_CheckpointConnector._restore_modules_and_callbacks")

    def ends(self) -> Iterator[Node]:
        """Yield what `Trainer._run` does after its stage."""
        nodes = self.nodes
        yield nodes.step("tear down", TRAINER, "Trainer._run", "_teardown")
        if self.given.run == "fit":
            yield nodes.event("on_fit_end")
        yield nodes.event("teardown")
        yield nodes.step("write the results", "trainer.call", "_call_teardown_hook", "describe")
