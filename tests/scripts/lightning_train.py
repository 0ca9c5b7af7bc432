"""A training with Lightning as users write them: it fits, tests and predicts."""

import sys

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def loss(self, batch):
        x, y = batch
        return torch.nn.functional.mse_loss(self.linear(x), y)

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch, batch_idx):
        return self.linear(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Gradients(L.Callback):
    """Notes how large the gradients are."""

    def __init__(self):
        self.norms = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        """Look at the gradients before they are used."""
        self.norms.append(sum(p.grad.norm().item() for p in pl_module.parameters()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if outputs["loss"] > 1e6:
            trainer.should_stop = True


def main(folder):
    L.seed_everything(0, verbose=False)
    x = torch.randn(32, 4)
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Gradients(), EarlyStopping("val_loss", patience=2), ModelCheckpoint(folder, monitor="val_loss")],
    )
    net = Net()
    trainer.fit(net, data, data)
    trainer.test(net, data, verbose=False)
    print(len(trainer.predict(net, data)), "predictions")


if __name__ == "__main__":
    main(sys.argv[1])
