"""dropped-super: an override without super() takes away what the shipped handler does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.checks.tiny import FOUR, Tiny, each, made, tiny

RULE = "dropped-super"

Worked = Callable[[Any], bool]
Shipped = tuple[type, str, Worked]
"""A shipped callback, the event at which it works, and how one sees that it did."""


def _fastai() -> Shipped:
    from fastai.callback.tracker import EarlyStoppingCallback

    class Stops(EarlyStoppingCallback):
        def __init__(self) -> None:
            super().__init__("valid_loss", min_delta=1e9, patience=0)

    return Stops, "after_epoch", lambda one: one.wait > 0


def _lightning() -> Shipped:
    from lightning.pytorch.callbacks import EarlyStopping

    class Stops(EarlyStopping):
        def __init__(self) -> None:
            super().__init__("val_loss", min_delta=1e9, patience=0, check_on_train_epoch_end=False)

    return Stops, "on_validation_end", lambda one: one.wait_count > 0


def _transformers() -> Shipped:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback, "on_log", lambda one: True


def _keras() -> Shipped:
    from keras.callbacks import EarlyStopping

    class Stops(EarlyStopping):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("loss", min_delta=1e9, patience=0)

    return Stops, "on_epoch_end", lambda one: one.stopped_epoch > 0


SHIPPED = {"fastai": _fastai, "lightning": _lightning, "transformers": _transformers, "keras": _keras}


def overridden(framework: str, folder: Path, body: str) -> tuple[Tiny, Any, Worked, list[str]]:
    """A subclass of a shipped callback with a handler that drops its work, or is empty."""
    cls, event, worked = SHIPPED[framework]()
    ran: list[str] = []

    def drops(self: Any, *given: Any, **named: Any) -> None:
        ran.append("ran")

    def empty(self: Any, *given: Any, **named: Any) -> None: ...

    one = made(framework, {event: {"drops": drops, "empty": empty}[body]}, cls)
    return tiny(framework, folder, one), one, worked, ran


@pytest.mark.parametrize("framework", each(*((one,) for one in FOUR)))
def test_fires(framework: str, tmp_path: Path) -> None:
    """The override runs and the shipped handler does not: what the class is for does not happen."""
    run, one, worked, ran = overridden(framework, tmp_path, "drops")
    (found,) = run.findings(RULE)
    assert (found.severity, found.method, found.trust) == ("warning", SHIPPED[framework]()[1], "inferred")
    run.fit()
    assert ran
    if framework != "transformers":  # whose printing leaves no trace to look at
        assert not worked(one)


@pytest.mark.parametrize("framework", each(*((one,) for one in FOUR)))
def test_silent_on_what_is_switched_off(framework: str, tmp_path: Path) -> None:
    """An empty override says by itself that nothing is to happen."""
    assert not overridden(framework, tmp_path, "empty")[0].findings(RULE)


@pytest.mark.framework("fastai")
def test_silent_on_fastai(tmp_path: Path) -> None:
    """With super() the callback stops the run as ever."""
    from fastai.callback.tracker import EarlyStoppingCallback

    class Tells(EarlyStoppingCallback):
        def after_epoch(self) -> None:
            self.told = True
            super().after_epoch()

    one = Tells("valid_loss", min_delta=1e9, patience=0)
    run = tiny("fastai", tmp_path, one)
    assert not run.findings(RULE)
    run.fit()
    assert one.wait > 0


@pytest.mark.framework("lightning")
def test_silent_on_lightning(tmp_path: Path) -> None:
    """With super() the callback counts as ever; a module replaces Lightning's own hooks as it likes."""
    from lightning.pytorch.callbacks import EarlyStopping

    from tests.adapters.cases.lightning_models import Valid
    from tests.checks.tiny import lightning as trained

    class Tells(EarlyStopping):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            super().on_validation_end(trainer, pl_module)
            self.told = True

    class Zeroes(Valid):
        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
            optimizer.zero_grad(set_to_none=False)

    one = Tells("val_loss", min_delta=1e9, patience=0, check_on_train_epoch_end=False)
    run = trained(tmp_path, one, model=Zeroes())
    assert not run.findings(RULE)
    run.fit()
    assert one.wait_count > 0


@pytest.mark.framework("transformers")
def test_silent_on_transformers(tmp_path: Path) -> None:
    """With super() the flow of the training is decided as ever."""
    from transformers.trainer_callback import DefaultFlowCallback

    class Flow(DefaultFlowCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            return super().on_step_end(args, state, control, **kwargs)

    assert not tiny("transformers", tmp_path, Flow()).findings(RULE)


@pytest.mark.framework("keras")
def test_silent_on_keras(tmp_path: Path) -> None:
    """With super(), or with other methods of the class that it hides, the work is done."""
    from keras.callbacks import EarlyStopping, ModelCheckpoint

    class Tells(EarlyStopping):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            self.told = True

    class Saves(ModelCheckpoint):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch % 2:
                self._save_model(epoch=epoch, batch=None, logs=logs)

    one = Tells("loss", min_delta=1e9, patience=0)
    run = tiny("keras", tmp_path, one, Saves(tmp_path / "best.keras", monitor="loss"))
    assert not run.findings(RULE)
    run.fit()
    assert one.stopped_epoch > 0


@pytest.mark.framework("keras")
def test_fires_where_forwarding_stops(tmp_path: Path) -> None:
    """A callback with on_train_batch_end and on_batch_end: Keras calls the first, and only the base calls the other."""
    from keras.callbacks import Callback

    class Both(Callback):  # type: ignore[misc]
        calls: tuple[str, ...] = ()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.calls += ("train",)

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            self.calls += ("batch",)

    one = Both()
    run = tiny("keras", tmp_path, one)
    (found,) = run.findings(RULE)
    assert "Both.on_batch_end is never called" in found.message
    run.fit()
    assert set(one.calls) == {"train"}


@pytest.mark.framework("keras")
def test_silent_where_forwarding_goes_on(tmp_path: Path) -> None:
    """With super(), or with on_batch_end alone, it is called."""
    from keras.callbacks import Callback

    class Older(Callback):  # type: ignore[misc]
        calls = 0

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            self.calls += 1

    class Both(Older):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)

    both, older = Both(), Older()
    run = tiny("keras", tmp_path, both, older)
    assert not run.findings(RULE)
    run.fit()
    assert both.calls == older.calls > 0


def hooked(every: int | None) -> tuple[Any, list[Any]]:
    from fastai.callback.hook import HookCallback

    seen: list[Any] = []

    class Looks(HookCallback):
        def hook(self, module: Any, given: Any, output: Any) -> Any:
            return output

        def after_batch(self) -> None:
            seen.append(self.hooks.stored)

    return Looks(every=every), seen


@pytest.mark.framework("fastai")
def test_silent_where_the_hidden_handler_is_idle(tmp_path: Path) -> None:
    """HookCallback.after_batch returns at once without `every`: its hooks stay, and nothing is lost."""
    one, seen = hooked(None)
    run = tiny("fastai", tmp_path, one)
    assert not run.findings(RULE)
    run.fit()
    assert seen


@pytest.mark.framework("fastai")
def test_fires_where_the_hidden_handler_works(tmp_path: Path) -> None:
    """With `every` it takes the hooks away again, which the override leaves out."""
    (found,) = tiny("fastai", tmp_path, hooked(2)[0]).findings(RULE)
    assert (found.method, found.severity) == ("after_batch", "warning")
