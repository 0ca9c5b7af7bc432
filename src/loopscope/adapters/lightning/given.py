"""What a run is given: the model, the data module, the loaders and the checkpoint, by Lightning's own rules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loopscope.adapters.lightning.packages import Package
from loopscope.errors import BadValue, UnknownChoice
from loopscope.passing import passed_on
from loopscope.source import unwrap

RUNS = ("fit", "validate", "test", "predict")

Kind = Literal["train", "val", "test", "predict"]

KINDS: Mapping[str, Kind] = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}
"""Run -> the kind of data that it is about."""

STEPS: Mapping[Kind, str] = {
    "train": "training_step",
    "val": "validation_step",
    "test": "test_step",
    "predict": "predict_step",
}


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where the loaders of one kind come from: `value` are the loaders themselves, else `owner` is asked for them."""

    kind: Kind
    hook: str
    owner: Any = None
    value: Any = None
    defined: bool = True

    @property
    def asks(self) -> bool:
        return self.owner is not None and self.defined

    @property
    def there(self) -> bool:
        """Whether there is data of this kind."""
        return self.defined and (self.owner is not None or self.value is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """One call of a trainer, its arguments resolved; `datamodule` is the one whose hooks are called.

    `batch_hooks` is the data module that was passed to this very call: only that one may change batches. `counted`
    keeps what `loaders.batches` has found.
    """

    package: Package
    trainer: Any
    run: str
    model: Any
    datamodule: Any
    batch_hooks: Any
    sources: Mapping[Kind, Source]
    ckpt_path: Any
    arguments: Mapping[str, object]
    epochs: int | None = None
    start_epoch: int = 0
    counted: dict[tuple[Kind, bool], object] = field(default_factory=dict)

    def overrides(self, name: str) -> bool:
        """Return whether the model has its own `name`."""
        return self.package.is_overridden(name, self.model, self.package.part().LightningModule)

    def data_overrides(self, name: str, datamodule: Any = None) -> bool:
        """Return whether the data module has its own `name`."""
        asked = datamodule if datamodule is not None else self.datamodule
        return asked is not None and self.package.is_overridden(name, asked, self.package.part().LightningDataModule)

    def batch_owner(self, hook: str) -> Any:
        """Return who is asked to change or move a batch: the data module if it has the hook, else the model."""
        if self.batch_hooks is not None and self.data_overrides(hook, self.batch_hooks):
            return self.batch_hooks
        return self.model

    @property
    def automatic(self) -> bool:
        return bool(self.model.automatic_optimization)

    def draws_itself(self, kind: Kind) -> bool:
        """Return whether a step takes the loader's iterator and draws its batches itself."""
        function: Any = getattr(self.model, STEPS[kind], None)
        function = getattr(function, "__wrapped__", function)
        try:
            return "dataloader_iter" in inspect.getfullargspec(function).args[1:]
        except TypeError:
            return False


def given(
    package: Package,
    trainer: Any,
    run: str,
    arguments: Mapping[str, object],
    *,
    epochs: int | None = None,
    start_epoch: int = 0,
) -> Given:
    """Return what `trainer.<run>(**arguments)` is given.

    Raises `UnknownChoice` for another run, `BadValue` where the model or the data is missing or of another package.
    """
    if run not in RUNS:
        raise UnknownChoice.of("run", run, RUNS)
    arguments = _known(package, trainer, run, arguments)
    model = _model(package, trainer, run, arguments.get("model"))
    module = package.part().LightningDataModule
    loaders = arguments.get("train_dataloaders" if run == "fit" else "dataloaders")
    passed: Any = arguments.get("datamodule")
    if isinstance(loaders, module):
        passed, loaders = loaders, None
    if passed is not None and not isinstance(passed, module):
        what = f"{type(passed).__name__} ({type(passed).__module__})"
        raise BadValue(f"datamodule={what} is no LightningDataModule of {package.root}, and the Trainer is one of it.")
    if passed is not None and (loaders is not None or arguments.get("val_dataloaders") is not None):
        raise BadValue(f"Trainer.{run} takes either loaders or a datamodule, and was given both. Leave one out.")
    values: dict[Kind, Any] = {KINDS[run]: loaders}
    if run == "fit":
        values["val"] = arguments.get("val_dataloaders")
    sources = {kind: _source(package, kind, value, passed, model) for kind, value in values.items()}
    found = Given(
        package=package,
        trainer=trainer,
        run=run,
        model=model,
        datamodule=passed if passed is not None else trainer.datamodule,
        batch_hooks=passed,
        sources=sources,
        ckpt_path=arguments.get("ckpt_path"),
        arguments=arguments,
        epochs=epochs,
        start_epoch=start_epoch,
    )
    _check(found)
    return found


def _known(package: Package, trainer: Any, run: str, arguments: Mapping[str, object]) -> Mapping[str, object]:
    """Return the arguments by Lightning's names, whatever a Trainer of one's own calls them."""
    own, stock = unwrap(getattr(type(trainer), run)), unwrap(getattr(package.part().Trainer, run))
    if own is not stock:
        return passed_on(own, stock, arguments)
    accepted = list(inspect.signature(getattr(type(trainer), run)).parameters)[1:]
    for name in arguments:
        if name not in accepted:
            raise UnknownChoice.of(f"argument of Trainer.{run}", name, accepted)
    return arguments


def _model(package: Package, trainer: Any, run: str, model: Any) -> Any:
    module = package.part().LightningModule
    model = getattr(model, "_orig_mod", model)  # what torch.compile returns
    if model is None:
        model = trainer.lightning_module
    if model is None:
        data = "train_dataloaders=loader" if run == "fit" else "dataloaders=loader"
        raise BadValue(
            f"this Trainer has no model yet, and what Trainer.{run} runs depends on it. "
            f'Type loopscope.inspect(trainer, "{run}", model=net, {data}), with what you pass to trainer.{run}.'
        )
    if not isinstance(model, module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"an object of type {type(model).__name__}"
        hint = " Pass an instance, not the class." if isinstance(model, type) else ""
        raise BadValue(f"model={what} is no LightningModule of {package.root}.{hint}")
    return model


def _source(package: Package, kind: Kind, value: Any, datamodule: Any, model: Any) -> Source:
    hook = f"{kind}_dataloader"
    if datamodule is not None:
        defined = package.is_overridden(hook, datamodule, package.part().LightningDataModule)
        return Source(kind, hook, datamodule, None, defined)
    if value is not None:
        return Source(kind, hook, None, value)
    return Source(kind, hook, model, None, package.is_overridden(hook, model, package.part().LightningModule))


def _check(given: Given) -> None:
    """Raise `BadValue` where Lightning itself would refuse to begin."""
    kind = KINDS[given.run]
    name = type(given.model).__name__
    if kind != "predict" and not given.overrides(STEPS[kind]):
        raise BadValue(f"{name} has no {STEPS[kind]}, and Trainer.{given.run} refuses to run without it. Define it.")
    if given.run == "fit" and not given.overrides("configure_optimizers"):
        raise BadValue(f"{name} has no configure_optimizers, and Trainer.fit refuses to run without it. Define it.")
    source = given.sources[kind]
    if not source.defined:
        argument = "train_dataloaders" if given.run == "fit" else "dataloaders"
        raise BadValue(
            f"there is no data to {given.run} with: {type(source.owner).__name__} has no {source.hook}. "
            f"Pass {argument}=loader, or define {source.hook}."
        )
