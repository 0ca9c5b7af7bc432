"""Averaged weights that are put into the model after the checkpoint of the same event was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from loopscope.callbacks import Callback, Method
from loopscope.checks.rule import Case, Rule
from loopscope.effects import Effect
from loopscope.findings import Finding
from loopscope.model import Handler, Trust

RULE = Rule(
    name="ema-after-checkpoint",
    severity="warning",
    frameworks=("keras", "fastai"),
    needs="callbacks",
    says="the checkpoint is written before the averaged weights are put into the model",
    why="At one event the callback that comes first has the model as training left it. A checkpoint that is written "
    "there holds the raw weights, while what was meant to be saved is their moving average. Nothing fails.",
    do="Put the averaged weights into the model first: let the checkpoint come behind that callback.",
    fires="""
        checkpoint = ModelCheckpoint("model.keras")
        model.fit(x, y, callbacks=[checkpoint, SwapEMAWeights(swap_on_epoch=True)])
        """,
    silent="""
        checkpoint = ModelCheckpoint("model.keras")
        model.fit(x, y, callbacks=[SwapEMAWeights(swap_on_epoch=True), checkpoint])
        """,
)

SAVES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"keras": ("ModelCheckpoint", "on_epoch_end"), "fastai": ("SaveModelCallback", "after_epoch")}
)
"""Framework -> the callback that saves, and the event at which it does."""

PUTS = re.compile(r"model\.(?:load_state_dict|set_weights)\(")
AVERAGED = re.compile(r"ema|average|shadow|swa\b", re.IGNORECASE)


def findings(case: Case) -> Iterator[Finding]:
    cls, name = SAVES[case.loop.framework]
    for event in case.rows("event"):
        if event.name != name:
            continue
        saving: Handler | None = None
        for row in event.children:
            if row.handler is None or row.status == "never" or row.handler.id not in case.callbacks:
                continue
            callback = case.callbacks[row.handler.id]
            if callback.shipped and callback.cls == cls and _saves_here(callback):
                saving = saving or row.handler
            elif saving is not None:
                yield from _late(case, callback, row.handler, saving)
        return  # an event that stands twice in the tree has the same handlers


def _saves_here(callback: Callback) -> bool:
    """Return whether a checkpoint is written at the end of an epoch, and not every few batches."""
    return callback.settings.get("save_freq", "epoch") == "epoch"


def _late(case: Case, callback: Callback, handler: Handler, saving: Handler) -> Iterator[Finding]:
    if callback.shipped:
        if callback.cls == "SwapEMAWeights" and callback.settings.get("swap_on_epoch") is True:
            evidence = ("SwapEMAWeights.swap_on_epoch is True: it swaps in on_epoch_end, and back in on_epoch_begin",)
            yield _found(handler, saving, "declared", evidence)
        return
    method = case.method(handler)
    put = None if method is None else _put(method)
    if put is not None and AVERAGED.search(f"{put.target} {callback.cls}") and not _elsewhere(case, method):
        evidence = (f"{handler.callback}.{handler.event} calls {put.target}, whatever happens",)
        yield _found(handler, saving, "inferred", evidence)


def _put(method: Method) -> Effect | None:
    """Return what certainly puts other weights into the model."""
    return next((one for one in method.effects if one.certain and _puts(one)), None)


def _puts(effect: Effect) -> bool:
    return effect.kind == "calls" and PUTS.match(effect.target) is not None


def _elsewhere(case: Case, method: Method | None) -> bool:
    """Return whether anybody else changes the weights: they may be in the model already, and be taken out here."""
    return any(
        _puts(effect) or (effect.kind in ("calls", "writes") and effect.on == "model" and ".copy_" in effect.target)
        for callback in case.callbacks.values()
        for other in callback.methods
        if other is not method
        for effect in other.effects
    )


def _found(handler: Handler, saving: Handler, trust: Trust, evidence: tuple[str, ...]) -> Finding:
    return RULE.at(
        handler,
        f"{saving.callback} saves the model in {handler.event} before {handler.callback} puts the averaged weights in: "
        f"the checkpoint holds the raw ones",
        trust,
        evidence=(*evidence, f"{saving.id} comes before {handler.id} in {handler.event}"),
    )
