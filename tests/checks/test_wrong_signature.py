"""wrong-signature: the framework's first call of the handler is a TypeError, and the finding says it beforehand."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import pytest

from tests.checks.tiny import FOUR, each, made, tiny

RULE = "wrong-signature"


def nothing(self: Any) -> None: ...


def one(self: Any, given: Any) -> None: ...


def two(self: Any, trainer: Any, module: Any) -> None: ...


def three(self: Any, args: Any, state: Any, control: Any) -> None: ...


def older(self: Any, args: Any, state: Any, control: Any, tokenizer: Any, **kwargs: Any) -> None: ...


def anything(self: Any, *given: Any, **named: Any) -> None: ...


WRONG = each(
    ("fastai", "after_batch", one, "def after_batch(self)"),
    ("lightning", "on_train_batch_end", two, "def on_train_batch_end(self, ...)"),
    ("lightning", "on_fit_start", nothing, "def on_fit_start(self, ...)"),
    ("transformers", "on_step_end", three, "def on_step_end(self, args, state, control, **kwargs)"),
    ("transformers", "on_train_begin", older, "def on_train_begin(self, args, state, control, **kwargs)"),
    ("keras", "on_epoch_end", one, "def on_epoch_end(self, epoch, logs=None)"),
    ("keras", "on_train_batch_end", two, "def on_train_batch_end(self, batch, logs=None)"),
    ("keras", "on_batch_end", one, "def on_batch_end(self, batch, logs=None)"),
    ("keras", "on_train_begin", nothing, "def on_train_begin(self, logs=None)"),
)


@pytest.mark.parametrize(("framework", "event", "handler", "head"), WRONG)
def test_fires(framework: str, event: str, handler: Any, head: str, tmp_path: Path) -> None:
    """The finding says why it does not fit and what to type; the real framework raises a TypeError there."""
    run = tiny(framework, tmp_path, made(framework, {event: handler}))
    (found,) = run.findings(RULE)
    assert (found.severity, found.method, found.trust) == ("error", event, "declared")
    assert head in found.do
    with pytest.raises(TypeError):
        run.fit()


RIGHT = {
    "fastai": ("after_batch", nothing),
    "lightning": ("on_fit_start", two),
    "transformers": ("on_step_end", anything),
    "keras": ("on_epoch_end", lambda self, epoch, logs: None),
}


@pytest.mark.parametrize("framework", each(*((one,) for one in FOUR)))
def test_silent(framework: str, tmp_path: Path) -> None:
    """What can take what is passed runs; so does a handler that takes nothing, where nothing calls it."""
    event, handler = RIGHT[framework]
    unheard = {"fastai": "after_cancel_fit", "keras": "on_predict_end", "lightning": "on_test_start"}
    run = tiny(framework, tmp_path, made(framework, {event: handler, unheard.get(framework, "helper"): anything}))
    assert not run.findings(RULE)
    run.fit()


@pytest.mark.framework("keras")
def test_silent_where_nothing_calls_it(tmp_path: Path) -> None:
    """A fit calls no on_predict_end, so that its signature does no harm there."""
    run = tiny("keras", tmp_path, made("keras", {"on_predict_end": two}))
    assert not run.findings(RULE)
    run.fit()


@pytest.mark.framework("lightning")
def test_on_a_module(tmp_path: Path) -> None:
    """A module's on_train_epoch_end no longer gets the outputs: the finding says so, and the fit fails there."""
    from tests.adapters.cases.lightning_models import Valid
    from tests.checks.tiny import lightning

    class Older(Valid):
        def on_train_epoch_end(self, outputs: Any) -> None: ...  # type: ignore[override]

    class Newer(Valid):
        def on_train_epoch_end(self) -> None: ...

    run = lightning(tmp_path, model=Older())
    (found,) = run.findings(RULE)
    assert (found.method, found.severity) == ("on_train_epoch_end", "error")
    with pytest.raises(TypeError, match="outputs"):
        run.fit()
    assert not lightning(tmp_path, model=Newer()).findings(RULE)


def stamped(function: Any) -> Any:
    """Give a handler the time as its first argument."""

    @functools.wraps(function)
    def run(self: Any, *given: Any, **named: Any) -> Any:
        return function(self, time.time(), *given, **named)

    return run


def told(function: Any) -> Any:
    """Call a handler with what the decorator itself takes, and no more."""

    @functools.wraps(function)
    def run(self: Any, what: Any) -> Any:
        return function(self)

    return run


class Decorated:
    @stamped
    def takes_more(self: Any, now: float, *given: Any, **named: Any) -> None: ...

    @told
    def takes_less(self: Any) -> None: ...


@pytest.mark.parametrize("framework", each(*((one,) for one in FOUR)))
def test_silent_on_what_a_decorator_supplies(framework: str, tmp_path: Path) -> None:
    """The framework calls the wrapper, which can take all: what the function under it takes is the wrapper's affair."""
    run = tiny(framework, tmp_path, made(framework, {RIGHT[framework][0]: Decorated.takes_more}))
    assert not run.findings(RULE)
    run.fit()


@pytest.mark.framework("fastai")
def test_fires_on_a_wrapper(tmp_path: Path) -> None:
    """A wrapper that cannot take what is passed fails, even where the function under it could."""
    run = tiny("fastai", tmp_path, made("fastai", {"after_batch": Decorated.takes_less}))
    (found,) = run.findings(RULE)
    assert "missing a required argument: 'what'" in found.message
    with pytest.raises(TypeError):
        run.fit()
