"""Small real ignite runs: the first argument says which call comes first."""

import sys

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import MeanSquaredError
from torch import nn

torch.manual_seed(0)
batches = [(torch.randn(2, 2), torch.randn(2, 1)) for _ in range(4)]
model = nn.Linear(2, 1)
trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
evaluator = create_supervised_evaluator(model, metrics={"mse": MeanSquaredError()})


@trainer.on(Events.ITERATION_COMPLETED(every=3))
def log(engine):
    "Say what the loss is"
    print("loss", engine.state.iteration)


@trainer.on(Events.EPOCH_COMPLETED)
def validate(engine):
    evaluator.run(batches[:2])


class Failing:
    def __call__(self, engine):
        raise ValueError("on purpose")


MINE = (Events.EPOCH_COMPLETED, lambda engine: None)

if __name__ == "__main__":
    if sys.argv[1] == "evaluate":
        evaluator.run(batches)
    elif sys.argv[1] == "predict":
        Engine(lambda engine, batch: model(batch[0])).run(batches)
    else:
        if sys.argv[1] == "fail":
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), Failing())
        trainer.run(batches, max_epochs=3)
    print("really trained")
