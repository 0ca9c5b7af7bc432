"""What rules are told of a Transformers run: its callbacks by the ids of the loop, their settings, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import need

pytestmark = need("transformers")

from transformers.trainer import Trainer
from transformers.trainer_callback import EarlyStoppingCallback, TrainerCallback

import loopscope
from loopscope.adapters import transformers as adapter
from loopscope.adapters.transformers.examining import passed
from loopscope.callbacks import Examined
from tests.adapters.cases.transformers import Numbers, trainer


def examined(of: Trainer, run: str = "train", **arguments: Any) -> Examined:
    return adapter.examined(of, run, arguments)


class Keeps(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.kept: set[str] = set()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.kept |= set(logs)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        self.kept |= set(metrics)


class Adds(TrainerCallback):  # type: ignore[misc]
    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        metrics["eval_mine"] = 1.0


def test_the_ids_are_those_of_the_loop(tmp_path: Path) -> None:
    """The callbacks are those of the loop, the defaults included; one that stands twice says so."""
    twice = Keeps()
    of = trainer(tmp_path, twice, EarlyStoppingCallback(4), twice)
    found = examined(of)
    assert [one.id for one in found.callbacks] == [
        *("DefaultFlowCallback#1", "Keeps#2", "EarlyStoppingCallback#3", "Keeps#4", "PrinterCallback#5")
    ]
    assert [one.same_as for one in found.callbacks] == ["", "", "", "Keeps#2", ""]
    assert found.callbacks[0].shipped
    assert not found.callbacks[1].shipped
    handlers = {one.id for at in loopscope.inspect(of).loop.binding.handlers.values() for one in at}
    assert handlers == {one.id for one in found.callbacks}
    assert [one.id for one in adapter.examined(of, "train", {}, [Adds]).callbacks][-1] == "Adds#6"


def test_settings(tmp_path: Path) -> None:
    """What callbacks and args are set to is told by Transformers' own names, strategies as they are typed."""
    of = trainer(tmp_path, EarlyStoppingCallback(4), eval_strategy="epoch", gradient_accumulation_steps=2)
    found = examined(of)
    assert found.callbacks[1].settings == {"early_stopping_patience": 4, "early_stopping_threshold": 0.0}
    expected = {"eval_strategy": "epoch", "save_strategy": "no", "gradient_accumulation_steps": 2, "fp16": False}
    assert {name: found.settings[name] for name in expected} == expected
    assert (found.settings["max_grad_norm"], found.settings["compute_metrics"]) == (1.0, False)


@pytest.mark.parametrize("strategy", ["no", "epoch"])
@pytest.mark.parametrize("several", [False, True])
def test_figures_are_the_names_that_are_logged(tmp_path: Path, strategy: str, several: bool) -> None:
    """Whatever is logged was told beforehand, and an evaluation's figures are told only if there is one."""
    keeps = Keeps()
    data = {"a": Numbers(3), "b": Numbers(3)} if several else None
    of = trainer(tmp_path, keeps, evaluate=data, eval_strategy=strategy, logging_steps=1)
    found = examined(of)
    of.train()
    assert found.figures is not None
    assert keeps.kept <= set(found.figures)
    missing = set(found.figures) - keeps.kept
    assert all(name.endswith("model_preparation_time") for name in missing), missing


def test_figures_are_left_open_where_others_have_a_say(tmp_path: Path) -> None:
    """compute_metrics, a callback that writes to the metrics, an override of log: nothing is told."""
    assert examined(trainer(tmp_path, Adds(), eval_strategy="epoch")).figures is None
    of = trainer(tmp_path, eval_strategy="epoch")
    of.compute_metrics = lambda found: {"mine": 1.0}
    assert examined(of).figures is None

    class Logs(Trainer):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *args: Any) -> None:
            super().log({**logs, "mine": 1.0}, *args)

    assert examined(trainer(tmp_path, cls=Logs)).figures is None
    assert examined(trainer(tmp_path), "predict", test_dataset=Numbers(3)).figures is None
    assert "eval_loss" in (examined(trainer(tmp_path), "evaluate").figures or ())
    assert examined(trainer(tmp_path), "evaluate", metric_key_prefix="test").figures is None


def test_passed_is_what_transformers_passes(tmp_path: Path) -> None:
    """At every event that it fires, Transformers gives so many things by place and exactly these by name."""
    seen: dict[str, tuple[int, tuple[str, ...]]] = {}

    def spying(name: str) -> Any:
        def spy(self: Any, *given: Any, **named: Any) -> None:
            seen[name] = len(given), tuple(named)

        return spy

    events = [name for name in examined(trainer(tmp_path)).events if name != "on_init_end"]
    cls = type("Spy", (TrainerCallback,), {name: spying(name) for name in events})
    of = trainer(
        tmp_path, cls(), eval_strategy="epoch", save_strategy="epoch", gradient_accumulation_steps=2, logging_steps=1
    )
    of.train()
    of.predict(Numbers(3))
    assert {*events} - {*seen} == {"on_push_begin"}
    for name, (count, words) in seen.items():
        told = passed(name)
        assert told is not None
        assert (told.count, set(told.words)) == (count, set(words)), name
    assert passed("on_batch_end") is None


def test_a_trainer_that_was_never_set_up_has_no_callbacks() -> None:
    """Its map says what is wrong with it: nothing is examined, and nothing fails."""
    assert adapter.examined(Trainer.__new__(Trainer), "train", {}).callbacks == ()
