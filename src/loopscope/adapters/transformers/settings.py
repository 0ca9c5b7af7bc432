"""The numbers of a run, read from a trainer and its `TrainingArguments` as Transformers itself will read them.

Constraint: the trainer is looked at, never touched: no data loader is made, since making one registers it with
accelerate. What Transformers would fail on is told as a `problem`, in words that say what to type.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch.utils.data import IterableDataset
from transformers.trainer_utils import get_last_checkpoint
from transformers.training_args import TrainingArguments

from loopscope.adapters.transformers.schedule import NEVER, Every, Plan
from loopscope.errors import BadValue

STATE = "trainer_state.json"
"""What a checkpoint says of the training that it is of."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One evaluation of one dataset: `name` is its key in a dict of them, `batches` None where it has no length."""

    name: str
    batches: int | None


@dataclass(frozen=True, slots=True)
class Passes:
    """The evaluations that one call of `evaluate` consists of: `split` says that it calls itself for each of a dict."""

    all: tuple[Pass, ...] = ()
    split: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """The checkpoint that a run begins from: its folder, its steps, and the callbacks whose state it holds."""

    folder: str
    step: int
    intervals: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flow:
    """Which of the two decisions of `DefaultFlowCallback` are made by its own code: at the step, and at the epoch."""

    step: bool = True
    epoch: bool = True


NO_PLAN = Plan(None, None, None, 1, -1)
"""What is known of a run that trains nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training will do: its plan, the evaluations that each evaluation consists of, the checkpoint before it."""

    plan: Plan
    passes: Passes
    starts_with_evaluation: bool = False
    saves_best: bool = False
    loads_best: bool = False
    metric: str | None = None
    clips: bool = True
    pushes: bool = False
    always_pushes: bool = False
    resumed: Resumed | None = None
    problems: tuple[str, ...] = ()

    def may_lack_metric(self, computed: bool) -> bool:
        """Return whether an evaluation may lack the metric that the best model is chosen by, which is an error."""
        plain = self.metric in ("loss", "eval_loss") and not self.passes.split
        return self.metric is not None and (computed or not plain)


class Arguments:
    """The `TrainingArguments` of a trainer; one that is not there, or half built, is named in an error."""

    def __init__(self, trainer: Any) -> None:
        self.owner = type(trainer).__name__
        self.args = vars(trainer).get("args")
        if self.args is None:
            raise BadValue(
                f"this {self.owner} has no args (TrainingArguments), so that nothing is known of its loop. Was its "
                f"__init__ run? Type {self.owner}(model, TrainingArguments(output_dir), ...)."
            )
        if isinstance(self.args, TrainingArguments) and "distributed_state" not in vars(self.args):
            name = type(self.args).__name__
            raise BadValue(
                f"trainer.args is a {name} that was never set up: it has no distributed_state, which its __init__ "
                f"makes, and what it seems to say is only the defaults of its class. Was {name}(...) run? "
                f"Type {name}(output_dir, ...)."
            )

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.args, name)
        except AttributeError:
            raise BadValue(
                f"trainer.args is a {type(self.args).__name__} without {name}: it is half built, or none. "
                f"Type TrainingArguments({name}=...)."
            ) from None

    def number(self, name: str, least: float, hint: str) -> Any:
        """Return a number that is at least `least`; raises `BadValue`, which ends with `hint`."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
            raise BadValue(f"trainer.args.{name} is {value!r}, with which no loop can run. {hint}")
        return value


def training(
    trainer: Any, arguments: Mapping[str, object], flow: Flow, epochs: int | None, own_data: Callable[[str], bool]
) -> Settings:
    """Return what `trainer.train(**arguments)` will do; `epochs` stands for the number of epochs of its args.

    `own_data(method)` says whether a method that makes a data loader is the user's own: its length is then not known.
    Raises `BadValue` for args that no loop can run with.
    """
    args = Arguments(trainer)
    problems: list[str] = []
    resumed = _resumed(args, arguments.get("resume_from_checkpoint"), problems)
    number = None if own_data("get_train_dataloader") else _train_batches(trainer, args, problems)
    searching = arguments.get("trial") is not None and vars(trainer).get("hp_search_backend") is not None
    plan = _plan(args, None if searching else number, epochs, problems)
    plan = _with_intervals(plan, args, flow, resumed)
    if resumed is not None:
        plan = replace(plan, done=resumed.step, skips=not args.ignore_data_skip)
    evaluates = plan.evaluate != NEVER or args.eval_on_start
    return Settings(
        plan,
        _passes(trainer, args, vars(trainer).get("eval_dataset"), own_data, problems if evaluates else []),
        bool(args.eval_on_start),
        args.save_strategy == "best",
        bool(args.load_best_model_at_end),
        args.metric_for_best_model,
        args.max_grad_norm > 0,
        bool(args.push_to_hub) and args.hub_strategy != "end" and args.process_index == 0,
        bool(args.hub_always_push),
        resumed,
        tuple(problems),
    )


def evaluation(trainer: Any, eval_dataset: object, own_data: Callable[[str], bool], problems: list[str]) -> Passes:
    """Return the evaluations that `trainer.evaluate(eval_dataset)` consists of."""
    given = eval_dataset if eval_dataset is not None else vars(trainer).get("eval_dataset")
    return _passes(trainer, Arguments(trainer), given, own_data, problems)


def prediction(trainer: Any, test_dataset: object, own_data: Callable[[str], bool]) -> Passes:
    """Return the pass over `test_dataset` that `trainer.predict` makes."""
    args = Arguments(trainer)
    unknown = own_data("get_test_dataloader")
    return Passes((Pass("", None if unknown else _batches(trainer, args, test_dataset, args.eval_batch_size)),))


def without_model(trainer: Any, run: str) -> tuple[str, ...]:
    """Return the problem of a trainer that has no model when `run` begins; `train` makes one with `model_init`."""
    makes = run == "train" and vars(trainer).get("model_init") is not None
    if makes or inspect.getattr_static(trainer, "model", None) is not None:
        return ()
    owner = type(trainer).__name__
    hint = f"Type {owner}(model=..., args=...), or {owner}(model_init=..., args=...)"
    if vars(trainer).get("model_init") is not None:
        hint = "Its model_init is called by train only: train first, or set trainer.model"
    return (f"this is a {owner} without a model, and {owner}.{run} fails on that. {hint}.",)


def resumption(trainer: Any, arguments: Mapping[str, object]) -> Resumed | None:
    """Return the checkpoint that `trainer.train(**arguments)` begins from, None where there is none."""
    return _resumed(Arguments(trainer), arguments.get("resume_from_checkpoint"), [])


# -- the length of data --------------------------------------------------------------------------------------


def _train_batches(trainer: Any, args: Arguments, problems: list[str]) -> int | None:
    data = vars(trainer).get("train_dataset")
    if data is None:
        problems.append(
            f"this {args.owner} has no train_dataset, and Trainer.train fails on that. "
            f"Type {args.owner}(model, args, train_dataset=...)."
        )
        return None
    if _length(data) is None and not args.max_steps > 0:
        problems.append(
            "the training data has no length, and Trainer.train fails on that unless args.max_steps is set. "
            "Type TrainingArguments(max_steps=1000), say."
        )
    if args.train_sampling_strategy == "batch_rebalance":
        return None  # its batches depend on the lengths of all samples
    return _batches(trainer, args, data, vars(trainer).get("_train_batch_size", args.train_batch_size))


def _passes(
    trainer: Any, args: Arguments, given: object, own_data: Callable[[str], bool], problems: list[str]
) -> Passes:
    if given is None:
        problems.append(
            f"this {args.owner} has no eval_dataset, and an evaluation fails on that. "
            f"Type {args.owner}(..., eval_dataset=...), or evaluate(eval_dataset=...)."
        )
    unknown = own_data("get_eval_dataloader")
    found = tuple(
        Pass(name, None if unknown else _batches(trainer, args, data, args.eval_batch_size))
        for name, data in _named(trainer, given)
    )
    return Passes(found, isinstance(given, dict))


def _named(trainer: Any, given: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield each dataset of an evaluation with its key: a dict is evaluated entry by entry."""
    if isinstance(given, dict):
        for key, data in given.items():
            yield from _named(trainer, data, f"{name}_{key}" if name else str(key))
    elif isinstance(given, str):
        known = vars(trainer).get("eval_dataset")
        yield name or given, known.get(given) if isinstance(known, dict) else None
    elif given is not None:
        yield name, given


def _batches(trainer: Any, args: Arguments, data: object, size: Any) -> int | None:
    """Return the length of the data loader that Transformers will make, None where `data` has none."""
    number = _length(data)
    accelerator = vars(trainer).get("accelerator")
    if number is None or not isinstance(size, int) or size < 1 or accelerator is None:
        return None
    streamed = isinstance(data, IterableDataset)
    drops = bool(args.dataloader_drop_last) and not streamed
    whole = number // size if drops else math.ceil(number / size)
    if args.world_size == 1:
        return whole
    if streamed or getattr(accelerator, "parallelism_config", None) is not None:
        return None
    return _share(whole, args, accelerator, drops)


def _share(whole: int, args: Arguments, accelerator: Any, drops: bool) -> int:
    """Return how many of all batches this process gets from accelerate's `BatchSamplerShard`."""
    if accelerator.split_batches:
        return whole
    each, left = divmod(whole, int(args.world_size))
    if not left or drops:
        return each
    return each + 1 if accelerator.even_batches or args.process_index < left else each


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except Exception:  # it has none, or one that cannot be asked for yet
        return None


# -- the numbers of the run ----------------------------------------------------------------------------------


def _plan(args: Arguments, number: int | None, epochs: int | None, problems: list[str]) -> Plan:
    """Return the epochs and steps of a run of `number` batches per epoch: `Trainer.set_initial_training_values`."""
    each = args.number("gradient_accumulation_steps", 1, "Accepted: 1 or more.")
    asked = args.max_steps if epochs is None else -1
    wanted = args.num_train_epochs if epochs is None else epochs
    if not isinstance(asked, int) or not isinstance(wanted, (int, float)):
        raise BadValue(
            f"trainer.args.max_steps={asked!r} and num_train_epochs={wanted!r} are no numbers of steps and epochs."
        )
    if number:
        steps = math.ceil(number / each)
        most = math.ceil(wanted * steps) if asked < 0 else asked
        return Plan(math.ceil(most / steps) if asked > 0 else math.ceil(wanted), steps, number, each, most)
    if asked > 0:
        return Plan(sys.maxsize if number == 0 else None, asked, number, each, asked)
    if number == 0:
        problems.append(
            "the training data is empty, and Trainer.train fails on that unless args.max_steps is set. "
            "Is the batch larger than the data, with dataloader_drop_last=True?"
        )
    return Plan(None, None, number, each, asked)


def _with_intervals(plan: Plan, args: Arguments, flow: Flow, resumed: Resumed | None) -> Plan:
    """Return `plan` with what is logged, evaluated and saved when: as `DefaultFlowCallback` will decide."""
    saved = {} if resumed is None else resumed.intervals

    def every(kind: str, strategy: str, **more: Any) -> Every:
        chosen = getattr(args, f"{strategy}_strategy")
        if chosen == "steps" and flow.step:
            return Every(True, _interval(args, f"{kind}_steps", plan, saved), **more)
        epoch = {"epoch": chosen == "epoch" and flow.epoch}
        return Every(**epoch, **{name: value for name, value in more.items() if name != "last"})

    return replace(
        plan,
        log=every("logging", "logging", first=bool(args.logging_first_step) and flow.step),
        evaluate=every("eval", "eval", last=True, delay=args.eval_delay or 0),
        save=every("save", "save", last=True),
        stops=flow.step,
    )


def _interval(args: Arguments, name: str, plan: Plan, saved: Mapping[str, Any]) -> Any:
    """Return a number of steps; a ratio is one of all steps, and a checkpoint brings along its own numbers."""
    if name in saved:
        return saved[name]
    value = getattr(args, name)
    if value is None:
        return 500  # the default of TrainerState
    least = 0 if name == "save_steps" else 1e-12
    args.number(name, least, f"Type TrainingArguments({name}=10), say.")
    return math.ceil(max(plan.max_steps, 0) * value) if value < 1 else value


def _resumed(args: Arguments, given: object, problems: list[str]) -> Resumed | None:
    if given is None or given is False:
        return None
    folder = os.fspath(given) if isinstance(given, (str, os.PathLike)) else _last(args.output_dir)
    if not isinstance(folder, str):
        problems.append(
            f"there is no checkpoint in {args.output_dir}, and Trainer.train(resume_from_checkpoint=True) fails on "
            f"that. Give the folder of one: resume_from_checkpoint='.../checkpoint-500'."
        )
        return None
    try:
        with open(os.path.join(folder, STATE), encoding="utf-8") as file:
            state = json.load(file)
        intervals = {name: state[name] for name in ("logging_steps", "eval_steps", "save_steps") if name in state}
        return Resumed(folder, int(state["global_step"]), intervals, state.get("stateful_callbacks") or {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(
            f"{folder} is no checkpoint that a training can be resumed from ({type(error).__name__}: {error}). "
            f"It has to hold a {STATE}."
        )
        return None


def _last(folder: str) -> str | None:
    try:
        found: str | None = get_last_checkpoint(folder)
    except OSError:
        return None
    return found
