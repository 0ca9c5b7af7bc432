"""A callback of one's own that handles what this run never fires: validation handlers without validation data, say.

What belongs to another kind of run is no fault: an `on_test_end` beside others in a `fit`. So a handler is asked for
only where its event is one of the kind of run that is checked, or where nothing in this run calls its callback at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from loopscope.callbacks import Callback, Examined, Method, Setting
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.findings import Finding
from loopscope.views import Row

RULE = Rule(
    name="never-fires",
    severity="warning",
    frameworks=ALL,
    needs="callbacks",
    says="a handler stands at an event that this run never comes to",
    why="It is never called and nothing says so: what it was to log, save, stop or change does not happen.",
    do="Give the run what fires the event (validation data, say), or handle one that it does fire: see loopscope show.",
    fires="""
        class Watch(pl.Callback):
            def on_validation_epoch_end(self, trainer, pl_module): ...

        trainer = pl.Trainer(callbacks=[Watch()])
        trainer.fit(net, train_dataloaders=train)
        """,
    silent="""
        class Watch(pl.Callback):
            def on_validation_epoch_end(self, trainer, pl_module): ...

        trainer = pl.Trainer(callbacks=[Watch()])
        trainer.fit(net, train_dataloaders=train, val_dataloaders=valid)
        """,
    threads=("optuna/optuna-examples#49",),
)

ALWAYS_CALLED = ("set_model", "set_params", "setup", "teardown", "set_trainer", "__call__")
"""Methods with which a callback does something without any event of the loop."""

ELSEWHERE = ("on_evaluate", "on_log", "on_prediction_step", "on_predict")
"""Events of Transformers that a call of `trainer.evaluate()` or `trainer.predict()` fires on the same callbacks."""


def findings(case: Case) -> Iterator[Finding]:
    assert case.examined is not None  # RULE.needs
    own = [one for one in case.callbacks.values() if not one.shipped]
    asked = {"fastai": _fastai, "lightning": _lightning, "ignite": _ignite, "keras": _keras}.get(
        case.loop.framework, _all_or_nothing
    )
    for callback in own:
        yield from asked(case, case.examined, callback)


def _rows(case: Case) -> Mapping[tuple[str, str], list[Row]]:
    """Return the rows of each handler, by the ids of its callback and the name of its method."""
    found: dict[tuple[str, str], list[Row]] = {}
    for _, row in case.handlers():
        if row.handler is not None:
            found.setdefault((row.handler.id, row.handler.method), []).append(row)
    return found


def _reached(case: Case) -> frozenset[str]:
    """Return the events that this run fires, or may fire."""
    return frozenset(row.name for row in case.rows("event") if row.status != "never")


def _finding(callback: Callback, dead: Iterable[str], why: str, whole: bool, **more: object) -> Iterator[Finding]:
    """Yield one finding of all dead handlers, without those whose own comment says that they are meant so."""
    names = [name for name in dead if not _is_meant(callback.method(name))]
    if names:
        yield _of_handlers(callback, names, why, whole, **more)


def _is_meant(method: Method | None) -> bool:
    rules = () if method is None else (name for one in method.ignores for name in (one.rules or "").split(","))
    return any(name.strip() == RULE.name for name in rules)


def _of_handlers(callback: Callback, names: Sequence[str], why: str, whole: bool, **more: object) -> Finding:
    what = f"nothing in this run calls {callback.cls}" if whole else f"{callback.cls}.{names[0]} is never called"
    if not whole and len(names) > 1:
        what = f"{len(names)} handlers of {callback.cls} are never called"
    evidence = (f"it handles {', '.join(names)}", why)
    first = callback.method(names[0])
    place = first.place if first is not None else callback.place
    where = {"threads": (), "method": names[0] if len(names) == 1 else ""}
    return RULE.of(callback, f"{what}: {why}", "inferred", evidence=evidence, place=place, **{**where, **more})


# -- fastai ----------------------------------------------------------------------------------------------


def _fastai(case: Case, examined: Examined, callback: Callback) -> Iterator[Finding]:
    """Say which handlers the settings of a callback switch off wherever a training comes to their events."""
    if "before_train" not in _reached(case) or callback.settings.get("run") is False:
        return
    rows = {method: found for (id, method), found in _rows(case).items() if id == callback.id}
    own = {one.name for one in callback.methods if not one.shipped}
    dead = {name: found for name, found in rows.items() if name in own and _is_off(found)}
    if dead:
        whys = dict.fromkeys(row.why for found in dead.values() for row in found if _says_flag(row))
        flags = [name for name in ("run_train", "run_valid") if callback.settings.get(name) is False]
        do = f"Take {' and '.join(flags)} = False out of {callback.cls}, or handle an event that it is called at."
        yield from _finding(callback, dead, "; ".join(whys), len(dead) == len(rows), do=do)


def _is_off(rows: list[Row]) -> bool:
    """Return whether a handler is never called, wherever its event is, and run_train or run_valid are why."""
    return all(row.status == "never" for row in rows) and any(_says_flag(row) for row in rows)


def _says_flag(row: Row) -> bool:
    return "run_train" in row.why or "run_valid" in row.why


# -- Lightning -------------------------------------------------------------------------------------------


def _lightning(case: Case, examined: Examined, callback: Callback) -> Iterator[Finding]:
    """Say which validation handlers a fit without validation has; and zero_grad's, where it is not automatic."""
    if case.loop.run != "fit" or any(one.endswith("strategies.strategy.Strategy") for one in callback.classes):
        return
    reached, rows = _reached(case), _rows(case)
    own = [one.name for one in callback.methods if not one.shipped]
    if not any("train" in name for name in reached):  # nothing is trained: what a map of that has is another matter
        return
    validation = [name for name in own if _validates(name) and name in (*examined.events, "validation_step")]
    if validation and not any(map(_validates, reached)):
        why, more = _no_validation(examined.settings)
        handlers = [name for name in own if name in examined.events]
        whole = callback.origin != "model" and set(handlers) == set(validation)
        if not whole:  # it works in this run, and another call on the same module may validate
            more["severity"] = "note"
        yield from _finding(callback, validation, why, whole, **more)
    manual = examined.settings.get("automatic_optimization") is False
    if manual and "on_before_zero_grad" in own and (callback.id, "on_before_zero_grad") not in rows:
        why = "automatic_optimization is False, and then Lightning does not call on_before_zero_grad"
        do = "Do what it does where training_step calls optimizer.zero_grad()."
        yield from _finding(callback, ["on_before_zero_grad"], why, False, do=do)


def _validates(event: str) -> bool:
    return event.startswith("on_validation_") or event == "validation_step"


def _no_validation(settings: Mapping[str, Setting]) -> tuple[str, dict[str, object]]:
    """Return why a fit does not validate, and what is to be said of it."""
    if settings.get("limit_val_batches") == 0:
        return "limit_val_batches is 0", {"severity": "note", "do": "Set limit_val_batches to more than 0."}
    if settings.get("validation_data") is False:
        do = "Pass val_dataloaders=..., or define val_dataloader."
        return "this fit has no validation data", {"do": do, "threads": RULE.threads}
    if settings.get("validation_step") is False:
        return "the module has no validation_step", {"do": "Define validation_step in the module."}
    if settings.get("validates") is False:
        return "there is no validation batch", {"do": "Pass validation data that has a batch."}
    epochs, every = settings.get("max_epochs"), settings.get("check_val_every_n_epoch")
    if isinstance(epochs, int) and isinstance(every, int) and 0 <= epochs < every:
        why = f"it would validate after {every} epochs, and there are {epochs}"
        return why, {"do": "Set check_val_every_n_epoch to at most max_epochs."}
    interval = settings.get("val_check_interval")
    return f"this fit never comes to a validation (val_check_interval={interval})", {}


# -- ignite ----------------------------------------------------------------------------------------------


def _ignite(case: Case, examined: Examined, callback: Callback) -> Iterator[Finding]:
    """Say what waits for an event that nobody fires, or for a count that the run does not reach."""
    for name in dict.fromkeys(_listed(callback.settings.get("unfired"))):
        if name != "SAVED_CHECKPOINT":
            why = f"nothing was found that fires {name}"
            do = f"Fire it: engine.fire_event({name}), in the process function or in a handler of this very engine."
            yield RULE.of(
                callback,
                f"{callback.cls} waits for {name}: {why}",
                "inferred",
                event=name,
                severity="note",
                threads=(),
                evidence=(f"{callback.cls} is attached to {name}", why),
                do=do,
            )
    if "max_epochs=" not in case.loop.call:
        return
    for event, row in case.handlers():
        if row.handler is not None and row.handler.id == callback.id and row.why.endswith("does not get there"):
            yield RULE.at(
                row.handler,
                f"{callback.cls} at {event.name} is never called: {row.why}",
                "declared",
                severity="note",
                threads=(),
                evidence=(f"the call is {case.loop.call}", row.why),
                do="Give the event a smaller count, or attach it to the engine that runs so long.",
            )


def _listed(value: Setting) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


# -- Keras, Transformers ---------------------------------------------------------------------------------


def _all_or_nothing(case: Case, examined: Examined, callback: Callback) -> Iterator[Finding]:
    """Say which callbacks nothing in a training calls; what evaluates by itself calls some of them in another run."""
    own = [one.name for one in callback.methods if not one.shipped]
    handled = [name for name in own if name in examined.events and name not in ALWAYS_CALLED]
    quiet = {id for id, _ in _rows(case)}
    reached = _reached(case)
    if case.loop.run not in ("fit", "train") or not handled or callback.id in quiet:
        return
    if (
        "on_predict" in handled
        or any(name in ALWAYS_CALLED for name in own)
        or any(name in reached for name in handled)
    ):
        return
    if all(name.startswith("on_predict_") for name in handled):  # of a run of its own alone
        return
    why = f"this {case.loop.run} fires none of what it handles"
    more: dict[str, object] = {"severity": "note"} if any(name in ELSEWHERE for name in handled) else {}
    if case.loop.framework == "keras":
        more["do"] = KERAS_DO
    elif "on_evaluate" in handled:
        more["do"] = 'Set eval_strategy="epoch", or call trainer.evaluate().'
    yield from _finding(callback, handled, why, True, **more)


KERAS_DO = "Pass validation_data=..., or give the callback to evaluate."

AROUND = ("on_train_begin", "on_train_end")
"""Events at which a callback of Keras that is about tests gets ready for them, and sums them up."""


def _keras(case: Case, examined: Examined, callback: Callback) -> Iterator[Finding]:
    """Say which callbacks nothing calls, and which ones get ready for tests that a fit without validation has not."""
    yield from _all_or_nothing(case, examined, callback)
    reached = _reached(case)
    handled = [one.name for one in callback.methods if not one.shipped and one.name in examined.events]
    tests = [name for name in handled if name.startswith("on_test_") and name not in reached]
    rest = [name for name in handled if not name.startswith(("on_test_", "on_predict_"))]
    if case.loop.run != "fit" or "on_train_begin" not in reached or not any(name in AROUND for name in rest):
        return
    if examined.settings.get("validation_data") is False and all(name in (*AROUND, *ALWAYS_CALLED) for name in rest):
        yield from _finding(callback, tests, "this fit has no validation data", False, severity="note", do=KERAS_DO)
