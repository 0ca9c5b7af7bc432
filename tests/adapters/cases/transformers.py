"""The cases of Transformers for the conformance suite: small real trainers, and the call that is made on each."""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset
from transformers.trainer import Trainer
from transformers.trainer_callback import (
    DefaultFlowCallback,
    EarlyStoppingCallback,
    ExportableState,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
)
from transformers.training_args import TrainingArguments

from tests.adapters.cases.transformers_watch import HOOKS, Watch
from tests.conformance import Case

transformers.logging.set_verbosity_error()
logging.getLogger("accelerate").setLevel(logging.ERROR)

gc.freeze()  # accelerate collects garbage when a training begins: all that was imported would be looked at each time

SEED = 7
STOP = "should_training_stop"


class Numbers(Dataset):  # type: ignore[misc]
    """So many samples of two numbers, with their sum as the label."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        x = torch.tensor([float(at % 5), float(at % 3)])
        return {"x": x, "labels": x.sum(0, keepdim=True)}


class Stream(IterableDataset):  # type: ignore[misc]
    """The same samples without a length."""

    def __init__(self, count: int) -> None:
        self.numbers = Numbers(count)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return (self.numbers[at] for at in range(self.numbers.count))


class SizedStream(Stream):
    """A stream that has a length all the same."""

    def __len__(self) -> int:
        return self.numbers.count


class Net(nn.Module):
    """A linear model that computes its loss itself, as models of Transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        found = {"logits": self.linear(x)}
        return found if labels is None else {"loss": functional.mse_loss(found["logits"], labels), **found}


def trainer(
    folder: Path,
    *callbacks: Any,
    count: int = 8,
    cls: type[Trainer] = Trainer,
    train: Any = None,
    evaluate: Any = None,
    **args: Any,
) -> Trainer:
    """A trainer of 4 batches of 2 and 2 epochs, with an evaluation of 2 batches; it saves and pushes nothing."""
    torch.manual_seed(SEED)
    given = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "log_level": "error",
        "optim": "sgd",
        **args,
    }
    return cls(
        Net(),
        TrainingArguments(str(folder / "out"), **given),
        train_dataset=Numbers(count) if train is None else train,
        eval_dataset=Numbers(6) if evaluate is None else evaluate,
        callbacks=list(callbacks),
    )


# -- callbacks -------------------------------------------------------------------------------------------------


class Counts(TrainerCallback):
    """Handles every event."""

    def __init__(self) -> None:
        self.counted: dict[str, int] = {}


def counting(name: str) -> Callable[..., None]:
    def hook(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.counted[name] = self.counted.get(name, 0) + 1

    hook.__name__ = name
    return hook


for name in HOOKS:
    setattr(Counts, name, counting(name))


class Throws(TrainerCallback):
    """Raises at one event, the first time that it comes."""

    def __init__(self, at: str, exception: type[BaseException]) -> None:
        self.exception, self.raised = exception, False
        setattr(self, at, self.throw)

    def throw(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.raised:
            self.raised = True
            raise self.exception("on purpose")


class Steers(TrainerCallback):
    """Sets a flag of `control` at one event, at the nth time that it comes, and each time behind that."""

    def __init__(self, nth: int = 1) -> None:
        self.nth = nth

    def due(self) -> bool:
        self.nth -= 1
        return self.nth <= 0


def steers(at: str, flag: str, value: bool = True, nth: int = 1, bases: tuple[type, ...] = (Steers,)) -> Any:
    """`steers("on_step_end", "should_log", nth=2)`: written out, so that its source can be read."""
    namespace: dict[str, Any] = {}
    source = f"def {at}(self, args, state, control, **kwargs):\n    if self.due():\n        control.{flag} = {value}\n"
    return _written(f"{at}_{flag}_{value}", source, namespace, at, bases)(nth)


def _written(name: str, source: str, namespace: dict[str, Any], at: str, bases: tuple[type, ...]) -> Any:
    """A class whose method stands in `linecache`, where its source is found as that of any file."""
    import linecache

    file = f"/written/{name}.py"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), namespace)
    return type(name, bases, {at: namespace[at]})


class StopsAtSubstep(TrainerCallback):
    """Ends the training between two batches of an optimizer step."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            control.should_training_stop = True


class StopsEpochs(TrainerCallback):
    """Ends each epoch behind its second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_epoch_stop = state.epoch % 1 == 0.5


class LogsSometimes(TrainerCallback):
    """Asks for a log behind the first epoch, and not behind the second."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control.should_log = state.epoch < 1.5
        return control


class Forbids(TrainerCallback):
    """Takes back what the settings ask for."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            control.should_evaluate = False
            control.should_save = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.epoch > 1:
            control.should_log = False


class AsksTwice(TrainerCallback):
    """Asks again for what was just done: it is done behind the epoch."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = state.global_step == 2

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_evaluate = True
        control.should_log = True


class Replaces(TrainerCallback):
    """Returns a `control` of its own."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> TrainerControl:
        return TrainerControl(should_log=state.global_step == 3, should_training_stop=state.global_step >= 5)


class Extends(TrainerCallback):
    """Lengthens the training while it runs."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            state.max_steps = 6
            state.logging_steps = 1


class Remembers(TrainerCallback, ExportableState):
    """Has a state that goes into each checkpoint."""

    def __init__(self, seen: int = 0) -> None:
        self.seen = seen

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen += 1

    def state(self) -> dict[str, Any]:
        return {"args": {"seen": self.seen}, "attributes": {}}


class Logs(TrainerCallback):
    """Logs a figure of its own, which fires on_log inside of its handler, and takes back that a log is due."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.log({"begun": 1.0})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % 2:
            self.trainer.log({"mine": 1.0})


class Leaves(TrainerCallback):
    """Takes itself out of the list that is just gone through: the one behind it is passed over."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            self.trainer.remove_callback(self)


class Inside(TrainerCallback):
    """Runs another loop of its trainer inside a handler."""

    def __init__(self, run: str = "evaluate", **arguments: Any) -> None:
        self.trainer: Any = None
        self.run, self.arguments = run, arguments

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.run == "evaluate":
            self.trainer.evaluate(**self.arguments)
        else:
            self.trainer.predict(Numbers(4))


class Flow(DefaultFlowCallback):
    """Decides by itself behind an epoch, and leaves the rest as it is."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        return super().on_epoch_end(args, state, control, **kwargs)


class OwnFlow(DefaultFlowCallback):
    """Decides by itself behind a step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step == 3:
            control.should_evaluate = True
        return super().on_step_end(args, state, control, **kwargs)


def knowing(made: Trainer) -> Trainer:
    """Gives the trainer to those of its callbacks that want it."""
    for one in made.callback_handler.callbacks:
        if hasattr(one, "trainer"):
            one.trainer = made
    return made


# -- trainers --------------------------------------------------------------------------------------------------


class OwnLoss(Trainer):
    """Overrides what works on a batch."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(**inputs)
        return (outputs["loss"] * 2, outputs) if return_outputs else outputs["loss"] * 2


class LogsInside(Trainer):
    """Logs from within the training step."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        if self.state.global_step % 2:
            self.log({"inside": 1.0})
        return loss


class Twice(Trainer):
    """Evaluates as Transformers does, and logs one thing more."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        self.log({"more": 1.0})
        return metrics


class Picky(Trainer):
    """Logs only at times."""

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" not in logs or self.state.global_step == 2:
            super().log(logs, *args, **kwargs)


class Steps(Trainer):
    """Stops from within the trainer itself."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        self.control.should_training_stop = self.state.global_step == 4
        return super().training_step(*args, **kwargs)


class Own(Trainer):
    """Has a loop of its own."""

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> None:
        self.state.max_steps = 2
        self.callback_handler.on_train_begin(self.args, self.state, self.control)
        for _ in range(2):
            self.callback_handler.on_step_end(self.args, self.state, self.control)
        self.callback_handler.on_epoch_begin(self.args, self.state, self.control)


class OwnLoader(Trainer):
    """Has its own data loader: nobody knows its length before it is made."""

    def get_train_dataloader(self) -> Any:
        return self._get_dataloader(Numbers(6), "Training", 2)


# -- cases -----------------------------------------------------------------------------------------------------


def case(
    name: str,
    *callbacks: Callable[[], Any],
    kind: str = "",
    run: str = "train",
    call: Callable[[Any], object] | None = None,
    inspect: Any = None,
    raises: str | None = None,
    **args: Any,
) -> Case:
    def make(folder: Path) -> Trainer:
        return knowing(trainer(folder, *(one() for one in callbacks), **args))

    return Case(name, kind, make, call or (lambda made: getattr(made, run)()), run, inspect or {}, raises)


def kind_of(kind: str, *callbacks: Callable[[], Any], **more: Any) -> Case:
    return case(kind, *callbacks, kind=kind, **more)


def resumed(
    name: str, *callbacks: Callable[[], Any], kind: str = "", before: Mapping[str, Any] | None = None, **args: Any
) -> Case:
    """A training that is taken up from a checkpoint, which another trainer left behind after `before`."""

    def make(folder: Path) -> Trainer:
        first = trainer(folder, *(one() for one in callbacks), **{**args, "save_strategy": "steps", **(before or {})})
        first.train()
        return trainer(folder, *(one() for one in callbacks), **args)

    return Case(
        name,
        kind,
        make,
        lambda made: made.train(resume_from_checkpoint=True),
        "train",
        {"resume_from_checkpoint": True},
    )


def removed(cls: type) -> Callable[[Path], Trainer]:
    def make(folder: Path) -> Trainer:
        made = trainer(folder, Counts(), eval_strategy="epoch", max_steps=3)
        made.remove_callback(cls)
        return made

    return make


def trained(made: Any, **arguments: Any) -> object:
    return made.train(**arguments)


def by_steps(**each: float) -> dict[str, Any]:
    """`by_steps(evaluate=2, save=4)`: the settings with which it evaluates and saves every so many steps."""
    names = {"evaluate": "eval", "save": "save"}
    pairs = [(names[kind], steps) for kind, steps in each.items()]
    return {**{f"{name}_strategy": "steps" for name, _ in pairs}, **{f"{name}_steps": steps for name, steps in pairs}}


EVALUATES = {"eval_strategy": "epoch"}
SAVES = {"save_strategy": "epoch", "eval_strategy": "epoch"}
TWO = {"first": Numbers(3), "second": Numbers(7)}

CASES = (
    kind_of("normal", Counts, logging_strategy="no", **SAVES),
    kind_of(
        "early stop",
        lambda: EarlyStoppingCallback(1, 1e9),
        num_train_epochs=5,
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        **SAVES,
    ),
    kind_of("exception in a callback", lambda: Throws("on_optimizer_step", ValueError), raises="ValueError"),
    kind_of("KeyboardInterrupt", lambda: Throws("on_step_end", KeyboardInterrupt), raises="KeyboardInterrupt"),
    kind_of("accumulation", Counts, count=10, gradient_accumulation_steps=2, logging_steps=1),
    kind_of("validation in the middle of an epoch", Counts, eval_strategy="steps", eval_steps=3, logging_steps=3),
    kind_of("no validation", Counts),
    case("a callback that logs", Counts, Logs, logging_steps=1, eval_strategy="epoch"),
    case("a callback that logs, and nobody else does", Logs, logging_strategy="no"),
    kind_of("two validation loaders", Counts, evaluate=TWO, eval_strategy="epoch"),
    kind_of("validation alone", Counts, run="evaluate"),
    kind_of(
        "prediction alone",
        Counts,
        run="predict",
        call=lambda made: made.predict(Numbers(5)),
        inspect={"test_dataset": Numbers(5)},
    ),
    resumed("resumed from a checkpoint", Counts, kind="resumed from a checkpoint", before={"max_steps": 5}),
    kind_of("nested run", Inside, Counts),
    # -- how long it is
    case("fractional epochs", Counts, num_train_epochs=1.5, eval_strategy="epoch"),
    case("max_steps within an epoch", Counts, max_steps=3, eval_strategy="epoch", save_strategy="epoch"),
    case("max_steps over several epochs", Counts, max_steps=10, count=6, logging_steps=4),
    case("no steps at all", Counts, max_steps=0, num_train_epochs=1),
    case("a single batch", Counts, count=1, num_train_epochs=3, logging_strategy="epoch"),
    case("the last batch is dropped", Counts, count=9, dataloader_drop_last=True),
    case("no batch at all", Counts, count=1, dataloader_drop_last=True, max_steps=3, eval_strategy="epoch"),
    case(
        "an evaluation without a batch", Counts, evaluate=Numbers(2), dataloader_drop_last=True, eval_strategy="epoch"
    ),
    case("a stream", Counts, train=Stream(10), max_steps=3, logging_steps=2),
    case("a stream that runs dry", Counts, train=Stream(5), max_steps=7, eval_strategy="steps", eval_steps=2),
    case(
        "a stream that runs dry within a step",
        Counts,
        train=Stream(7),
        max_steps=4,
        gradient_accumulation_steps=3,
        logging_steps=1,
    ),
    case("a stream with a length", Counts, train=SizedStream(7), logging_steps=3),
    case("its own data loader", Counts, cls=OwnLoader, logging_strategy="epoch"),
    case("data of unknown length to evaluate", Counts, evaluate=Stream(5), eval_strategy="epoch"),
    # -- when it logs, evaluates and saves
    case(
        "every step", Counts, logging_steps=1, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1
    ),
    case("nothing is logged", Counts, logging_strategy="no"),
    case("logs each epoch, and the first step", Counts, logging_strategy="epoch", logging_first_step=True),
    case("logs the only step, and the epoch", Counts, count=2, logging_strategy="epoch", logging_first_step=True),
    case("logs the first step", Counts, logging_first_step=True),
    case(
        "ratios",
        Counts,
        logging_steps=0.3,
        eval_strategy="steps",
        eval_steps=0.5,
        save_strategy="steps",
        save_steps=0.5,
    ),
    case("evaluates first", Counts, eval_on_start=True, evaluate=TWO),
    case("evaluates late", Counts, num_train_epochs=3, eval_strategy="epoch", eval_delay=2),
    case("evaluates late by steps", Counts, eval_strategy="steps", eval_steps=2, eval_delay=5),
    case("evaluates at the last step", Counts, eval_strategy="steps", eval_steps=3),
    case("saves the best", Counts, eval_strategy="epoch", save_strategy="best", metric_for_best_model="loss"),
    case(
        "saves the best by steps",
        Counts,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="best",
        metric_for_best_model="loss",
        greater_is_better=True,
    ),
    case("irregular", Counts, count=10, num_train_epochs=4, logging_steps=3, save_strategy="steps", save_steps=7),
    case("regular", Counts, count=12, logging_steps=2, eval_strategy="steps", eval_steps=6),
    case("steps of accumulated batches", Counts, count=14, gradient_accumulation_steps=3, **SAVES),
    case("more to accumulate than there is", Counts, count=4, gradient_accumulation_steps=5),
    case("nothing to evaluate", Counts, evaluate={}, eval_strategy="epoch"),
    # -- who is called
    case("two of a kind", Counts, Counts, PrinterCallback),
    Case("no default flow", "", removed(DefaultFlowCallback), trained, "train"),
    Case("no printer", "", removed(PrinterCallback), trained, "train"),
    case("a flow of its own behind epochs", Flow, **SAVES),
    case("a flow of its own behind steps", OwnFlow, eval_strategy="steps", eval_steps=4, logging_steps=2),
    case("leaves", Leaves, Counts),
    case("nested prediction", lambda: Inside("predict"), Counts),
    case("nested evaluation of several", Inside, Counts, evaluate=TWO),
    # -- what handlers do to control
    case("stops at a step", lambda: steers("on_step_end", STOP, nth=3), Counts, logging_steps=2),
    case("stops at the first step", lambda: steers("on_train_begin", STOP), Counts, **SAVES),
    case("stops within a step", StopsAtSubstep, Counts, gradient_accumulation_steps=2, logging_strategy="epoch"),
    case(
        "stops at an evaluation",
        lambda: steers("on_evaluate", STOP),
        Counts,
        eval_strategy="steps",
        eval_steps=3,
    ),
    case(
        "stops at the evaluation before all",
        lambda: steers("on_evaluate", STOP),
        Counts,
        eval_on_start=True,
    ),
    case("ends epochs", StopsEpochs, Counts, num_train_epochs=3, **SAVES),
    case("asks for logs", lambda: steers("on_step_begin", "should_log", nth=2), Counts, logging_strategy="no"),
    case("asks for evaluations", lambda: steers("on_step_end", "should_evaluate", nth=4), Counts, logging_steps=2),
    case("asks for checkpoints", lambda: steers("on_log", "should_save", nth=2), Counts, logging_steps=3),
    case("asks behind the epoch", lambda: steers("on_epoch_end", "should_evaluate"), Counts),
    case("logs behind some epochs", LogsSometimes, Counts),
    case("logs behind some epochs, and evaluates", LogsSometimes, Counts, **SAVES),
    case("forbids", Forbids, Counts, **by_steps(evaluate=2, save=2)),
    case("forbids logs", Forbids, Counts, logging_strategy="epoch"),
    case("asks twice", AsksTwice, Counts, eval_strategy="steps", eval_steps=2),
    case("goes on behind the end", lambda: steers("on_step_end", STOP, False), Counts, max_steps=2),
    case("replaces control", Replaces, Counts, num_train_epochs=3),
    case("changes the numbers", Extends, Counts, max_steps=3),
    # -- resumed
    resumed("resumed at the end of an epoch", Counts, before={"max_steps": 4}),
    resumed("resumed behind the end", Counts, before={"max_steps": 8}),
    resumed("resumed behind a fraction", Counts, num_train_epochs=1.5, before={"max_steps": 6}),
    resumed("resumed without skipping", Counts, ignore_data_skip=True, before={"max_steps": 3}),
    resumed("resumed within accumulation", Counts, count=10, gradient_accumulation_steps=2, before={"max_steps": 2}),
    resumed("resumed with other intervals", Counts, logging_steps=2, before={"max_steps": 3, "logging_steps": 3}),
    resumed(
        "resumed with the state of callbacks",
        Remembers,
        Counts,
        Remembers,
        restore_callback_states_from_checkpoint=True,
        before={"max_steps": 3},
    ),
    # -- trainers that do it differently
    case("a loss of its own", Counts, cls=OwnLoss, eval_strategy="epoch"),
    case("logs inside a step", Counts, cls=LogsInside),
    case("logs more behind an evaluation", Counts, cls=Twice, eval_strategy="epoch"),
    case("logs more behind several", Counts, cls=Twice, evaluate=TWO, eval_strategy="epoch"),
    case("logs at times", Counts, cls=Picky, logging_steps=1),
    case("stops by itself", Counts, cls=Steps, num_train_epochs=3),
    case("a loop of its own", Counts, cls=Own),
)

IMPOSSIBLE: Mapping[str, str] = {}

EQUIVALENT: frozenset[tuple[str, str]] = frozenset()

EVENTS_THAT_RAISE = tuple(name for name in HOOKS if name not in ("on_init_end", "on_push_begin"))


def watch(obj: Any) -> Watch:
    return Watch(obj)


def thrower(
    event: str, exception: type[BaseException]
) -> tuple[Callable[[Path], Any], Callable[[Any], object], str, Mapping[str, Any]]:
    def make(folder: Path) -> Trainer:
        return trainer(
            folder, Throws(event, exception), Counts(), count=5, gradient_accumulation_steps=2, logging_steps=1, **SAVES
        )

    if event == "on_predict":
        return make, lambda made: made.predict(Numbers(4)), "predict", {"test_dataset": Numbers(4)}
    return make, lambda made: made.train(), "train", {}


def state(obj: Trainer) -> Mapping[str, Any]:
    """All that training leaves behind: weights, optimizer, what was logged (times apart), and the random states."""
    clocks = ("runtime", "per_second", "preparation_time")
    history = [
        {name: value for name, value in line.items() if not name.endswith(clocks)} for line in obj.state.log_history
    ]
    return {
        **{f"model.{name}": value for name, value in obj.model.state_dict().items()},
        "optimizer": str(obj.optimizer and obj.optimizer.state_dict()),
        "history": str(history),
        "step": obj.state.global_step,
        "counted": [one.counted for one in obj.callback_handler.callbacks if isinstance(one, Counts)],
        "torch": torch.get_rng_state(),
        "numpy": str(np.random.get_state()),
        "random": random.getstate(),
    }
