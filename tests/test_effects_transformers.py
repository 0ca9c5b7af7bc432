"""What is said of handlers of Transformers: callbacks as its users write them, and those that it ships."""

from __future__ import annotations

import inspect
from typing import Any

from tests.frameworks import need

pytestmark = need("transformers")

import pytest
import transformers
from transformers import TrainerCallback

from loopscope.adapters.transformers.vocabulary import VOCABULARY
from loopscope.effects import Effects, effects

# mypy: ignore-errors


def read(cls: type, hook: str) -> Effects:
    return effects(inspect.getattr_static(cls, hook), cls, VOCABULARY, passed=("args", "state", "control"))


class Mine(TrainerCallback):
    """What people do in callbacks."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        model = kwargs["model"]
        model.eval()
        if state.global_step > 10:
            control.should_training_stop = True
        return control

    def on_evaluate(self, args, state, control, metrics=None, model=None, **kwargs):
        if metrics is not None and metrics["eval_loss"] < 1:
            control.should_save = True
            model.save_pretrained(args.output_dir)

    def on_epoch_end(self, args, state, control, **kwargs):
        self._trainer.evaluate(metric_key_prefix="train")

    def on_log(self, args, state, control, logs=None, **kwargs):
        logs["perplexity"] = 2 ** logs["loss"]

    def on_train_begin(self, a, s, c, model, **kwargs):
        c.should_evaluate = True
        for parameter in model.base_model.parameters():
            parameter.requires_grad = False


def test_callbacks_as_people_write_them() -> None:
    """Flags of the control first; the rest of the arguments, given by name or in `kwargs`, is known, too."""
    assert read(Mine, "on_step_end").summary == (
        "sets control.should_training_stop = True if state.global_step > 10; calls model.eval()"
    )
    assert read(Mine, "on_evaluate").summary == (
        "if metrics is not None and metrics['eval_loss'] < 1: sets control.should_save = True; "
        "calls model.save_pretrained(…)"
    )
    assert read(Mine, "on_log").summary == "sets logs['perplexity'] = 2 ** logs['loss']"
    assert read(Mine, "on_train_begin").summary == (
        "sets c.should_evaluate = True; sets parameter.requires_grad for parameter in model.base_model.parameters()"
    )
    ended = read(Mine, "on_epoch_end")
    assert ended.summary == "runs trainer.evaluate(metric_key_prefix='train')"
    assert ended.nested(VOCABULARY.loops) == ("evaluate",)


@pytest.mark.parametrize(
    ("name", "hook", "targets"),
    [
        ("EarlyStoppingCallback", "on_evaluate", {"control.should_training_stop"}),
        ("DefaultFlowCallback", "on_step_end", {f"control.should_{what}" for what in ("log", "evaluate", "save")}),
        ("DefaultFlowCallback", "on_epoch_end", {f"control.should_{what}" for what in ("log", "evaluate", "save")}),
        ("PrinterCallback", "on_log", {"logs.pop('total_flos', None)", "print"}),
    ],
)
def test_what_shipped_callbacks_are_for_is_found(name: str, hook: str, targets: set[str]) -> None:
    """Each flag that they set, and that PrinterCallback takes something out of what is logged."""
    items = read(getattr(transformers.trainer_callback, name), hook).items
    assert targets <= {item.target for item in items if item.kind in ("writes", "calls")}
