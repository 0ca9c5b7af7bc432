"""What saving a checkpoint fires: inside of a handler that saves one, as often as it likes."""

from __future__ import annotations

from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.nodes import Nodes
from loopscope.model import Need, Node, Scope

STATE = Need("the callbacks' state is saved", True, "only the weights are saved")
"""The condition on which the callbacks are asked."""

EVENTS = ("save_checkpoint", "state_dict", "on_save_checkpoint")


def saving(given: Given, nodes: Nodes, *, weights_only: bool | None) -> Scope:
    """Return what `Trainer.save_checkpoint` does; `weights_only` leaves out the callbacks, None: only the run knows."""
    body: list[Node] = []
    if given.datamodule is not None:
        body.append(nodes.event("state_dict"))
    body.append(nodes.event("on_save_checkpoint"))
    body.append(nodes.step("write the file", "trainer.trainer", "Trainer.save_checkpoint", "save_checkpoint"))
    state = None if weights_only is None else not weights_only
    return nodes.around("save_checkpoint", *body, sets=((STATE.flag, state),))
