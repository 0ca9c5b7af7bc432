"""A training with Transformers as users write them: it trains, evaluates and predicts."""

import sys

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def forward(self, x, labels=None):
        logits = self.linear(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.mse_loss(logits, labels), "logits": logits}


class Gradients(TrainerCallback):
    """Notes how large the gradients are."""

    def __init__(self):
        self.norms = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Look at the gradients before they are used."""
        self.norms.append(sum(p.grad.norm().item() for p in model.parameters()))

    def on_step_end(self, args, state, control, **kwargs):
        if self.norms[-1] > 1e6:
            control.should_training_stop = True


def main(folder):
    torch.manual_seed(0)
    x = torch.randn(32, 4)
    data = [{"x": one, "labels": one.sum(0, keepdim=True)} for one in x]
    args = TrainingArguments(
        folder,
        num_train_epochs=3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    callbacks = [Gradients(), EarlyStoppingCallback(2)]
    trainer = Trainer(Net(), args, train_dataset=data[:24], eval_dataset=data[24:], callbacks=callbacks)
    trainer.train()
    trainer.evaluate()
    print(len(trainer.predict(data[:6]).predictions), "predictions")


if __name__ == "__main__":
    main(sys.argv[1])
