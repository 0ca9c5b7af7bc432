"""Two fastai callbacks under one name: the learner keeps the later one there, and the earlier one cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.callbacks import Callback
from loopscope.checks.duplicate_callback import twins
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="shared-name",
    severity="note",
    frameworks=("fastai",),
    needs="callbacks",
    says="two callbacks share the name under which the learner keeps them",
    why="Both run, but learn.NAME is the one that was added last; and as soon as either of them is removed, by hand or "
    "at the end of the fit that was given it, the learner has nothing of that name any more.",
    do="Give one of them a name of its own: name = 'other' in its class; or make one Callback of two functions.",
    fires="""
        learn.add_cb(Callback(after_epoch=report))
        learn.add_cb(Callback(after_fit=ring))
        learn.remove_cb(learn.callback)  # removes the second, and there is no learn.callback any more
        """,
    silent="""
        learn.add_cb(Callback(after_epoch=report, after_fit=ring))
        """,
)


def findings(case: Case) -> Iterator[Finding]:
    """Yield a finding for each callback whose name a later one takes."""
    kept: dict[str, Callback] = {}
    for callback in case.callbacks.values():
        earlier = kept.get(callback.name) if callback.name else None
        if earlier is not None and (_leaves(earlier, callback) or not twins(case.loop.framework, earlier, callback)):
            yield _found(case, earlier, callback)
        kept[callback.name] = callback


def _found(case: Case, earlier: Callback, later: Callback) -> Finding:
    name = f"learn.{later.name}"
    leaves = _leaves(earlier, later)
    readers = _readers(case, name, earlier, later)
    gone = f"{name} is {later.id} during this run, and gone behind it" if leaves else f"{name} is {later.id}"
    return RULE.of(
        later,
        f"{earlier.id} and {later.id} are both named {later.name!r}: {gone}",
        "declared",
        severity="warning" if readers and (leaves or earlier.cls != later.cls) else "note",
        evidence=(
            f"both are kept as {name}, in the order in which they are added",
            *(f"{one} reads {name}" for one in readers),
        ),
    )


def _leaves(earlier: Callback, later: Callback) -> bool:
    """Return whether the later one is there for this run alone, and the earlier one stays."""
    return earlier.origin == "learner" != later.origin


def _readers(case: Case, name: str, *but: Callback) -> list[str]:
    """Return the callbacks that reach for a name of the learner."""
    return [
        callback.id
        for callback in case.callbacks.values()
        if callback not in but
        and any(
            effect.on == "learner" and (effect.target == name or effect.target.startswith(f"{name}."))
            for method in callback.methods
            for effect in method.effects
        )
    ]
