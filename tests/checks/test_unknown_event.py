"""unknown-event: the framework never calls what is only named like an event; the finding knows the right name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopscope import catalog
from loopscope.catalog.older import OLDER
from loopscope.checks.unknown_event import WORD, WORDS, distance
from tests.checks.tiny import FOUR, Tiny, each, made, tiny

RULE = "unknown-event"

WRONG = each(
    ("fastai", "begin_fit", "before_fit"),
    ("fastai", "befor_batch", "before_batch"),
    ("fastai", "on_train_batch_end", "after_batch"),
    ("fastai", "on_epoch_end", "after_epoch"),
    ("fastai", "on_fit_start", "before_fit"),
    ("fastai", "after_epochs", "after_epoch"),
    ("lightning", "on_batch_end", "on_train_batch_end"),
    ("lightning", "on_pretrain_routine_start", "on_fit_start"),
    ("lightning", "on_train_bacth_end", "on_train_batch_end"),
    ("lightning", "before_fit", "on_fit_start"),
    ("lightning", "on_train_begin", "on_train_start"),
    ("lightning", "on_val_epoch_end", "on_validation_epoch_end"),
    ("transformers", "on_train_batch_end", "on_step_end"),
    ("transformers", "on_epoch_start", "on_epoch_begin"),
    ("transformers", "on_evaluates", "on_evaluate"),
    ("transformers", "after_step", "on_optimizer_step"),
    ("keras", "on_epoch_ends", "on_epoch_end"),
    ("keras", "on_epoch_start", "on_epoch_begin"),
    ("keras", "on_step_end", "on_train_batch_end"),
    ("keras", "after_epoch", "on_epoch_end"),
    ("keras", "on_train_start", "on_train_begin"),
)


def counting(calls: list[str], name: str) -> Callable[..., None]:
    def counted(self: Any, *given: Any, **named: Any) -> None:
        calls.append(name)

    return counted


@pytest.mark.parametrize(("framework", "wrong", "right"), WRONG)
def test_fires(framework: str, wrong: str, right: str, tmp_path: Path) -> None:
    """Each is found with the right name; the framework calls the method of that name, and never the other."""
    calls: list[str] = []
    mine = made(framework, {name: counting(calls, name) for name in (wrong, right)})
    run = tiny(framework, tmp_path, mine)
    (found,) = run.findings(RULE)
    assert (found.severity, found.method, found.trust) == ("error", wrong, "declared")
    assert found.do == f"Rename it to {right}."
    run.fit()
    assert set(calls) == {right}


@pytest.mark.framework("lightning")
def test_fires_on_a_module(tmp_path: Path) -> None:
    """A module's training_epoch_end went with Lightning 2, which refuses to fit it."""
    from tests.adapters.cases.lightning_models import Valid
    from tests.checks.tiny import lightning

    class Older(Valid):
        def training_epoch_end(self, outputs: Any) -> None: ...

    run: Tiny = lightning(tmp_path, model=Older())
    (found,) = run.findings(RULE)
    assert (found.method, found.do) == ("training_epoch_end", "Rename it to on_train_epoch_end.")
    with pytest.raises(NotImplementedError, match="has been removed"):
        run.fit()


@pytest.mark.framework("keras")
def test_says_what_to_do_where_there_is_no_such_event(tmp_path: Path) -> None:
    """Keras has nothing behind the forward pass: the finding says where that is done."""
    (found,) = tiny("keras", tmp_path, made("keras", {"on_after_backward": lambda self: None})).findings(RULE)
    assert "train_step" in found.do


@pytest.mark.parametrize("framework", each(*((one,) for one in FOUR)))
def test_silent(framework: str, tmp_path: Path) -> None:
    """Right names, names of one's own, private ones, and what another method calls: nothing is said."""
    right = {"fastai": "after_epoch", "lightning": "on_train_epoch_end"}.get(framework, "on_epoch_end")

    def ends(self: Any, *given: Any, **named: Any) -> None:
        self.on_epochs_end()
        self.before_fits()

    def nothing(self: Any) -> None: ...

    own = ("on_plateau", "before_all", "_on_epoch_ends", "after_load", "on_epochs_end", "before_fits", "begin", "fit")
    run = tiny(framework, tmp_path, made(framework, {right: ends, **dict.fromkeys(own, nothing)}))
    assert not run.findings(RULE)
    run.fit()


@pytest.mark.framework("keras")
def test_silent_on_what_keras_still_calls(tmp_path: Path) -> None:
    """on_batch_end is an older name that Keras goes on calling."""
    calls: list[str] = []
    run = tiny("keras", tmp_path, made("keras", {"on_batch_end": counting(calls, "on_batch_end")}))
    assert not run.findings(RULE)
    run.fit()
    assert calls


def test_the_names_that_took_over_are_events() -> None:
    """No older name is an event today, and every new one is."""
    for framework, names in OLDER.items():
        events = catalog.framework(framework).events
        for old, now in names.items():
            assert old not in events
            assert set(now.names) <= set(events), old


@pytest.mark.parametrize(
    ("a", "b", "expected"), [("fit", "fit", 0), ("befor", "before", 1), ("bacth", "batch", 1), ("on_a", "on_bcd", 3)]
)
def test_distance(a: str, b: str, expected: int) -> None:
    """A letter left out, added, changed, or swapped with the next one counts once."""
    assert distance(a, b) == distance(b, a) == expected


OTHERS = each(
    ("fastai", "after_patch"),
    ("lightning", "on_trial_end"),
    ("lightning", "on_task_start"),
    ("transformers", "on_trial_end"),
    ("transformers", "on_saved"),
    ("keras", "on_trial_end"),
)


@pytest.mark.parametrize(("framework", "name"), OTHERS)
def test_silent_on_other_words(framework: str, name: str, tmp_path: Path) -> None:
    """A name with another word, though it is a letter or two away from an event's, is that of something else."""
    assert not tiny(framework, tmp_path, made(framework, {name: lambda self: None})).findings(RULE)


GUESSES = each(
    ("fastai", "after_training", "note"),
    ("lightning", "on_training_end", "note"),
    ("lightning", "train_data_loader", "warning"),
    ("transformers", "after_init", "note"),
)


@pytest.mark.parametrize(("framework", "name", "severity"), GUESSES)
def test_guesses_are_no_errors(framework: str, name: str, severity: str, tmp_path: Path) -> None:
    """What may well be a method of one's own is asked for, and nothing is said of who else may call it."""
    (found,) = tiny(framework, tmp_path, made(framework, {name: lambda self: None})).findings(RULE)
    assert found.severity == severity
    assert f"{name} is no event of {WORD[framework]}, which never calls it: did you mean" in found.message
    assert f"nothing in the callbacks of this run calls {name}" in found.evidence


def test_other_words_are_none_of_an_event() -> None:
    """No word that is taken for something else is one of an event, today's or an older one's."""
    names = [name.rpartition(".")[2] for framework in FOUR for name in catalog.framework(framework).events]
    names += [name for older in OLDER.values() for name in older]
    assert WORDS.isdisjoint(word for name in names for word in name.split("_"))
