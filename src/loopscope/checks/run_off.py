"""`run = False` on a fastai callback: it lasts one fit, because fastai sets it to True after each."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.callbacks import Callback
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="run-off",
    severity="warning",
    frameworks=("fastai",),
    needs="callbacks",
    says="run is False, which lasts for one fit only",
    why="fastai sets run to True on every callback when a fit is over: one that was switched off sits out one "
    "run and takes part in the next one, without a word.",
    do="Take the callback out: learn.remove_cb(cb). Out of one run: with learn.removed_cbs(cb): learn.fit(1).",
    fires="""
        class Watch(Callback):
            run = False

            def after_epoch(self): ...

        learn.add_cb(Watch())
        learn.fit(1)
        learn.fit(1)  # now it runs
        """,
    silent="""
        class Watch(Callback):
            def after_epoch(self): ...

        with learn.removed_cbs(learn.watch):
            learn.fit(1)
        learn.fit(1)
        """,
)


def findings(case: Case) -> Iterator[Finding]:
    called = {row.handler.id for _, row in case.handlers() if row.handler is not None and row.status != "never"}
    for callback in case.callbacks.values():
        if callback.settings.get("run") is False:
            meant = _is_switched_off(callback)
            out = "the first fit of this call" if callback.id in called else "this run"
            yield RULE.of(
                callback,
                f"{callback.cls} has run = False: it sits out {out}, and from the next one on it runs",
                "declared",
                severity="warning" if meant else "note",
                evidence=(
                    f"{callback.cls}.run is False" + (", as its class makes it" if meant else ", on the instance"),
                    "fastai sets run to True after every fit",
                ),
            )


def _is_switched_off(callback: Callback) -> bool:
    """Return whether its class says so, which speaks for every run and not for one."""
    return callback.settings.get("class_run") is False or _sets_it(callback)


def _sets_it(callback: Callback) -> bool:
    made = callback.method("__init__")
    return made is not None and any(one.kind == "writes" and one.target == "self.run" for one in made.effects)
