"""ignite's handlers, metrics and ready-made engines, each alone and as they are combined."""

from __future__ import annotations

import importlib
import io
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import ignite.metrics
import torch
from ignite import handlers as hs
from ignite.contrib.engines import common
from ignite.contrib.engines.tbptt import create_supervised_tbptt_trainer
from ignite.engine import Engine, Events
from ignite.engine.deterministic import DeterministicEngine
from ignite.handlers.tensorboard_logger import GradsHistHandler, OptimizerParamsHandler, WeightsScalarHandler
from ignite.metrics import Accuracy, Average, Metric, RunningAverage
from ignite.metrics.metric import RunningBatchWise
from torch.nn.functional import mse_loss

from tests.adapters.cases.ignite_engines import data, evaluator, stepped, trainer, with_validation
from tests.shipped.sweep import Use

logging.getLogger("ignite").setLevel(logging.ERROR)

NOT_BUILT: Mapping[str, str] = {
    "BaseParamScheduler": "the base of all schedulers",
    "BatchSizeScheduler": "it needs a sampler with a size of its own",
    "ClearMLLogger": "clearml is not installed",
    "CyclicalScheduler": "the base of cyclical schedulers",
    "DiskSaver": "nothing that an event calls: Checkpoint has it",
    "FastaiLRFinder": "it is attached only while it searches",
    "MLflowLogger": "mlflow is not installed",
    "NeptuneLogger": "neptune is not installed",
    "ParamScheduler": "the base of an optimizer's schedulers",
    "PolyaxonLogger": "polyaxon is not installed",
    "StateParamScheduler": "the base of a state's schedulers",
    "VisdomLogger": "visdom is not installed",
    "WandBLogger": "wandb is not installed",
    "create_lr_scheduler_with_warmup": "a function; what it makes is a ConcatScheduler",
    "global_step_from_engine": "a function for loggers",
}
"""What `ignite.handlers` exports and is not attached here, and why."""

Attach = Callable[[Engine, Path], object]


def scheduled(cls: Any, *arguments: Any, **more: Any) -> Attach:
    def attach(engine: Engine, folder: Path) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, cls(engine.optimizer, "lr", *arguments, **more))

    return attach


def of_state(cls: Any, *arguments: Any) -> Attach:
    def attach(engine: Engine, folder: Path) -> None:
        cls(*arguments, param_name="weight", create_new=True).attach(engine, Events.EPOCH_COMPLETED)

    return attach


def validated(attach: Callable[[Engine, Engine, Path], object]) -> Attach:
    """Attach something to the evaluator that a handler of the trainer runs."""

    def both(engine: Engine, folder: Path) -> None:
        with_validation(engine, data(2))
        attach(engine, engine.evaluators[0], folder)

    return both


def score(engine: Engine) -> float:
    return -float(engine.state.metrics["mse"])


def saver(folder: Path) -> hs.DiskSaver:
    return hs.DiskSaver(str(folder / "kept"), create_dir=True, require_empty=False)


def checkpoints(engine: Engine, folder: Path) -> None:
    engine.add_event_handler(Events.EPOCH_COMPLETED, hs.Checkpoint({"model": engine.model}, saver(folder), n_saved=2))


def best(engine: Engine, judge: Engine, folder: Path) -> None:
    kept = hs.Checkpoint({"model": engine.model}, saver(folder), score_function=score, score_name="mse")
    judge.add_event_handler(Events.COMPLETED, kept)


def model_checkpoint(engine: Engine, folder: Path) -> None:
    keeper = hs.ModelCheckpoint(str(folder / "models"), "a", n_saved=2, create_dir=True)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), keeper, {"model": engine.model})


def stops(engine: Engine, judge: Engine, folder: Path) -> None:
    judge.add_event_handler(Events.COMPLETED, hs.EarlyStopping(2, score, engine))


def plateau(engine: Engine, judge: Engine, folder: Path) -> None:
    found = hs.ReduceLROnPlateauScheduler(engine.optimizer, "mse", trainer=engine, patience=1)
    judge.add_event_handler(Events.COMPLETED, found)


def concatenated(engine: Engine, folder: Path) -> None:
    first = hs.LinearCyclicalScheduler(engine.optimizer, "lr", 0.1, 0.01, 6)
    second = hs.CosineAnnealingScheduler(engine.optimizer, "lr", 0.1, 0.01, 6)
    engine.add_event_handler(Events.ITERATION_STARTED, hs.ConcatScheduler([first, second], [3]))


def grouped(engine: Engine, folder: Path) -> None:
    parts = [hs.LinearCyclicalScheduler(engine.optimizer, name, 0.1, 0.01, 6) for name in ("lr", "momentum")]
    engine.add_event_handler(Events.ITERATION_STARTED, hs.ParamGroupScheduler(parts))


def stepping(engine: Engine, folder: Path) -> None:
    schedule = torch.optim.lr_scheduler.StepLR(engine.optimizer, 1)
    engine.add_event_handler(Events.EPOCH_COMPLETED, hs.LRScheduler(schedule))


def tensorboard(engine: Engine, folder: Path) -> None:
    with_validation(engine, data(2))
    logger = hs.TensorboardLogger(log_dir=str(folder / "tb"))
    logger.attach_output_handler(
        engine, Events.ITERATION_COMPLETED(every=2), "training", output_transform=lambda loss: {"loss": loss}
    )
    logger.attach_output_handler(
        engine.evaluators[0],
        Events.EPOCH_COMPLETED,
        "validation",
        metric_names="all",
        global_step_transform=hs.global_step_from_engine(engine),
    )
    logger.attach(engine, OptimizerParamsHandler(engine.optimizer), Events.ITERATION_STARTED)
    logger.attach(engine, WeightsScalarHandler(engine.model), Events.EPOCH_COMPLETED)
    logger.attach(engine, GradsHistHandler(engine.model), Events.EPOCH_COMPLETED)
    engine.tensorboard = logger


def timer(engine: Engine, folder: Path) -> None:
    hs.Timer(average=True).attach(
        engine,
        start=Events.EPOCH_STARTED,
        resume=Events.ITERATION_STARTED,
        pause=Events.ITERATION_COMPLETED,
        step=Events.ITERATION_COMPLETED,
    )


def bar(engine: Engine, folder: Path) -> None:
    RunningAverage(output_transform=lambda loss: loss).attach(engine, "loss")
    hs.ProgressBar(file=io.StringIO()).attach(engine, ["loss"])


def common_handlers(engine: Engine, folder: Path) -> None:
    common.setup_common_training_handlers(
        engine,
        to_save={"model": engine.model, "optimizer": engine.optimizer, "trainer": engine},
        output_path=str(folder),
        lr_scheduler=torch.optim.lr_scheduler.StepLR(engine.optimizer, 1),
        output_names=["loss"],
        clear_cuda_cache=False,
    )


ALONE: Mapping[str, Attach] = {
    "BasicTimeProfiler": lambda engine, folder: hs.BasicTimeProfiler().attach(engine),
    "Checkpoint": checkpoints,
    "ConcatScheduler": concatenated,
    "CosineAnnealingScheduler": scheduled(hs.CosineAnnealingScheduler, 0.1, 0.01, 6),
    "EMAHandler": lambda engine, folder: hs.EMAHandler(engine.model).attach(engine, event=Events.ITERATION_COMPLETED),
    "EarlyStopping": validated(stops),
    "EpochOutputStore": lambda engine, folder: hs.EpochOutputStore().attach(engine, "output"),
    "ExpStateScheduler": of_state(hs.ExpStateScheduler, 1.0, 0.9),
    "FBResearchLogger": lambda engine, folder: hs.FBResearchLogger(logging.getLogger("fb")).attach(
        engine, "train", every=2, optimizer=engine.optimizer
    ),
    "HandlersTimeProfiler": lambda engine, folder: hs.HandlersTimeProfiler().attach(engine),
    "LRScheduler": stepping,
    "LambdaStateScheduler": of_state(hs.LambdaStateScheduler, lambda event: 1.0 / (event + 1)),
    "LinearCyclicalScheduler": scheduled(hs.LinearCyclicalScheduler, 0.1, 0.01, 6),
    "ModelCheckpoint": model_checkpoint,
    "MultiStepStateScheduler": of_state(hs.MultiStepStateScheduler, 1.0, 0.9, [1, 3]),
    "ParamGroupScheduler": grouped,
    "PiecewiseLinear": scheduled(hs.PiecewiseLinear, milestones_values=[(0, 0.1), (3, 0.01)]),
    "PiecewiseLinearStateScheduler": of_state(hs.PiecewiseLinearStateScheduler, [(0, 1.0), (3, 0.1)]),
    "ProgressBar": bar,
    "ReduceLROnPlateauScheduler": validated(plateau),
    "StepStateScheduler": of_state(hs.StepStateScheduler, 1.0, 0.9, 2),
    "TensorboardLogger": tensorboard,
    "TerminateOnNan": lambda engine, folder: engine.add_event_handler(Events.ITERATION_COMPLETED, hs.TerminateOnNan()),
    "TimeLimit": lambda engine, folder: engine.add_event_handler(Events.ITERATION_COMPLETED, hs.TimeLimit(3600)),
    "Timer": timer,
}


def in_order(*names: str) -> Attach:
    def attach(engine: Engine, folder: Path) -> None:
        for name in names:
            ALONE[name](engine, folder)

    return attach


def evaluated(engine: Engine, folder: Path) -> None:
    """Attach all that looks at an evaluator."""
    with_validation(engine, data(2))
    judge = engine.evaluators[0]
    stops(engine, judge, folder)
    best(engine, judge, folder)
    plateau(engine, judge, folder)
    common.add_early_stopping_by_val_score(2, judge, engine, "mse", score_sign=-1.0)
    common.save_best_model_by_val_score(str(folder), judge, engine.model, "mse", trainer=engine, score_sign=-1.0)


TOGETHER: Mapping[str, Attach] = {
    "the best model": validated(best),
    "all that looks at an evaluator": evaluated,
    "the usual handlers": common_handlers,
    "profilers and a bar": in_order("BasicTimeProfiler", "HandlersTimeProfiler", "ProgressBar", "Timer"),
    "averages, checkpoints, limits": in_order("EMAHandler", "Checkpoint", "TerminateOnNan", "TimeLimit"),
    "schedule, checkpoints, bar": in_order("CosineAnnealingScheduler", "Checkpoint", "ProgressBar"),
    "output and loggers": in_order("EpochOutputStore", "FBResearchLogger", "TensorboardLogger"),
    "averages by batches": lambda engine, folder: Average(output_transform=float).attach(
        engine, "loss", usage=RunningBatchWise()
    ),
}

METRICS: Mapping[str, Callable[[], Metric]] = {
    "ConfusionMatrix": lambda: ignite.metrics.ConfusionMatrix(3),
    "EpochMetric": lambda: ignite.metrics.EpochMetric(mse_loss),
    "Loss": lambda: ignite.metrics.Loss(mse_loss),
    "MetricGroup": lambda: ignite.metrics.MetricGroup({"accuracy": Accuracy()}),
    "MetricsLambda": lambda: ignite.metrics.MetricsLambda(lambda one: one * 2, Accuracy()),
    "MultiLabelConfusionMatrix": lambda: ignite.metrics.MultiLabelConfusionMatrix(3),
    "NDCG": lambda: ignite.metrics.NDCG([1]),
    "PSNR": lambda: ignite.metrics.PSNR(1.0),
    "RunningAverage": lambda: RunningAverage(Accuracy()),
    "SSIM": lambda: ignite.metrics.SSIM(1.0),
    "VariableAccumulation": lambda: ignite.metrics.VariableAccumulation(lambda a, x: a + x),
}
"""Metrics that have no default arguments."""


@cache
def metrics() -> tuple[type, ...]:
    """Return every public metric of ignite, sorted by name."""
    for module in pkgutil.walk_packages(ignite.metrics.__path__, "ignite.metrics."):
        importlib.import_module(module.name)
    found = {cls for cls in _subclasses(Metric) if cls.__module__.startswith("ignite.")}
    return tuple(sorted((cls for cls in found if cls.__name__[0] != "_"), key=lambda cls: cls.__name__))


def _subclasses(cls: type) -> set[type]:
    direct = set(cls.__subclasses__())
    return direct.union(*map(_subclasses, direct))


def built(cls: type) -> Metric | None:
    """Return a metric; None where a package is missing or it takes more than defaults."""
    try:
        return METRICS.get(cls.__name__, cls)()
    except (ImportError, TypeError):
        return None


METRICS_NOT_BUILT: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("AveragePrecision", "CalinskiHarabaszScore", "DaviesBouldinScore", "MatthewsCorrCoef"),
            *("PrecisionRecallCurve", "ROC_AUC", "RocCurve", "SilhouetteScore"),
        ),
        "scikit-learn is not installed",
    ),
    **dict.fromkeys(("FID", "KendallRankCorrelation", "SpearmanRankCorrelation"), "scipy is not installed"),
    **dict.fromkeys(
        ("CommonObjectDetectionMetrics", "InceptionScore", "ObjectDetectionAvgPrecisionRecall"),
        "torchvision is not installed",
    ),
    **dict.fromkeys(
        ("DemographicParityDifference", "SubgroupAccuracyDifference", "SubgroupDifference", "SubgroupMetric"),
        "it needs groups of the data",
    ),
    "GpuInfo": "pynvml is not installed",
}
"""Metrics that are not attached here, and why."""


def uses() -> Iterator[Use]:
    for name, attach in {**ALONE, **TOGETHER}.items():
        yield Use(name, partial(_attached, attach), "run", given)
    for cls in metrics():
        yield Use(cls.__name__, partial(_measured, cls), "run", given)
    for name, make in ENGINES.items():
        yield Use(name, make, "run", given)


def _attached(attach: Attach, folder: Path) -> Engine:
    engine = trainer()
    attach(engine, folder)
    return engine


def _measured(cls: type, folder: Path) -> Engine:
    engine, metric = evaluator(), built(cls)
    if metric is not None:
        metric.attach(engine, "figure")
    return engine


def tbptt(folder: Path) -> Engine:
    model = torch.nn.RNN(2, 2, batch_first=True)
    return create_supervised_tbptt_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), mse_loss, 2, dim=1)


ENGINES: Mapping[str, Callable[[Path], Engine]] = {
    "a trainer": lambda folder: trainer(),
    "an evaluator": lambda folder: evaluator(),
    "accumulation": lambda folder: trainer(gradient_accumulation_steps=2),
    "a process function": lambda folder: stepped(),
    "a deterministic engine": lambda folder: stepped(kind=DeterministicEngine),
    "truncated backpropagation": tbptt,
    "validation": lambda folder: with_validation(trainer(), data(2)),
}


def given(made: Engine) -> Mapping[str, Any]:
    return {"data": data(3), "max_epochs": 2}
