"""`configure_callbacks` has to be called to know what it gives: nothing of what it does stays behind."""

from __future__ import annotations

import pytest

from tests.frameworks import need

pytestmark = need("lightning")

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import loopscope


class Busy(lightning.LightningModule):
    """Its hook changes whatever it can reach, and then raises if `fails`."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.save_hyperparameters({"b": 1})
        self.linear = torch.nn.Linear(2, 1, bias=False)
        self.fails = fails

    def configure_callbacks(self):
        with torch.no_grad():
            self.linear.weight.mul_(2)
        self.linear.more = 3
        self.hparams.b = 2
        self.freeze()
        self.trainer.fit_loop.epoch_loop.min_steps = 77
        torch.rand(3)
        if self.fails:
            raise ValueError("on purpose")
        return []

    def training_step(self, batch, batch_idx):
        return self.linear(batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_hook_does_is_undone(fails):
    """Weights, what is frozen, submodules, hyperparameters, loops and random numbers are as they were."""
    net, data = Busy(fails), DataLoader(TensorDataset(torch.ones(4, 2)), 2)
    weights, random = net.linear.weight.clone(), torch.get_rng_state()
    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    loop = loopscope.inspect(trainer, "fit", model=net, train_dataloaders=data).loop
    assert torch.equal(weights, net.linear.weight)
    assert torch.equal(random, torch.get_rng_state())
    assert (hasattr(net.linear, "more"), net.hparams.b, net.linear.weight.requires_grad) == (False, 1, True)
    assert (net.training, net.linear.training, net._trainer) == (True, True, None)
    assert trainer.fit_loop.epoch_loop.min_steps is None
    assert any("configure_callbacks" in note for note in loop.notes)
