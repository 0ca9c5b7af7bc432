"""What ignite calls its parts, for the reader of handlers: which arguments and attributes hold an engine."""

from __future__ import annotations

from types import MappingProxyType

from ignite.engine import Engine
from torch import nn
from torch.optim import Optimizer

from loopscope.effects import Vocabulary

STOPS = ("terminate", "terminate_epoch", "interrupt")
"""Methods with which a handler leaves the run, the epoch, or the run for a while."""

VOCABULARY = Vocabulary(
    learner=frozenset({"engine", "trainer", "evaluator"}),
    roots=MappingProxyType({"batch": "data", "dataloader": "data"}),
    loops=frozenset({"run"}),
    parameters=MappingProxyType(
        {"engine": "learner", "trainer": "learner", "batch": "data", "model": "model", "optimizer": "optimizer"}
    ),
    word="engine",
    steers=frozenset({*STOPS, "set_data", "should_terminate", "should_terminate_single_epoch", "should_interrupt"}),
    kinds=(("learner", Engine), ("model", nn.Module), ("optimizer", Optimizer)),
)
"""How a handler reaches its engine (what it is given, `self.trainer`) and what the engine's attributes are."""

WAITING = MappingProxyType(
    {
        "all_reduce": "waits for the other processes",
        "all_gather": "waits for the other processes",
        "barrier": "waits for the other processes",
    }
)
"""Functions of ignite that make the host wait -> how."""
