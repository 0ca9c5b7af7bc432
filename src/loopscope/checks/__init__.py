"""The rules: one file each, one line each in `TABLE`, imported when something is checked.

A rule's module has a `RULE` and `findings(case)`. It reads the neutral model and what an adapter says of the callbacks,
never a live object. Few false alarms beat many rules: a rule is added with a real case, and says nothing of what it
cannot see.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from loopscope.checks.rule import Case, Check, Measured, Rule
from loopscope.errors import LoopscopeError, UnknownChoice
from loopscope.findings import SEVERITIES, Finding

if TYPE_CHECKING:
    from loopscope.callbacks import Ignore

__all__ = ["TABLE", "BadIgnore", "Case", "Check", "Measured", "Rule", "check", "rule", "rules"]

TABLE: Mapping[str, str] = MappingProxyType(
    {
        "dead-order": "loopscope.checks.dead_order",
        "unknown-event": "loopscope.checks.unknown_event",
        "wrong-signature": "loopscope.checks.wrong_signature",
        "async-handler": "loopscope.checks.async_handler",
        "dropped-super": "loopscope.checks.dropped_super",
        "shadowed-event": "loopscope.checks.shadowed_event",
        "shadowed-attribute": "loopscope.checks.shadowed_attribute",
        "never-fires": "loopscope.checks.never_fires",
        "run-off": "loopscope.checks.run_off",
        "no-training-switch": "loopscope.checks.no_training_switch",
        "wrong-engine": "loopscope.checks.wrong_engine",
        "clip-before-unscale": "loopscope.checks.clip_before_unscale",
        "clip-without-step": "loopscope.checks.clip_without_step",
        "clip-without-effect": "loopscope.checks.clip_without_effect",
        "accumulation-below-batch": "loopscope.checks.accumulation_below_batch",
        "scheduler-under-accumulation": "loopscope.checks.scheduler_under_accumulation",
        "shared-name": "loopscope.checks.shared_name",
        "duplicate-callback": "loopscope.checks.duplicate_callback",
        "insertion-order": "loopscope.checks.insertion_order",
        "reads-before-writer": "loopscope.checks.reads_before_writer",
        "ema-after-checkpoint": "loopscope.checks.ema_after_checkpoint",
        "metric-not-logged": "loopscope.checks.metric_not_logged",
        "slow-handler": "loopscope.checks.slow_handler",
        "growing-handler": "loopscope.checks.growing_handler",
        "forced-sync": "loopscope.checks.forced_sync",
        "data-wait": "loopscope.checks.data_wait",
        "escaping-cancel": "loopscope.checks.escaping_cancel",
        "early-cancel": "loopscope.checks.early_cancel",
        "swallowed-cancel": "loopscope.checks.swallowed_cancel",
        "lost-exception": "loopscope.checks.lost_exception",
        "nested-validate": "loopscope.checks.nested_validate",
        "validate-after-early-stop": "loopscope.checks.validate_after_early_stop",
        "after-cancel-state": "loopscope.checks.after_cancel_state",
        "swallowed-errors": "loopscope.checks.swallowed_errors",
    }
)
"""Name of a rule -> its module."""


class BadIgnore(LoopscopeError, ValueError):
    """A `# loopscope: ignore[...]` that names no rule, or one that does not exist, or is misspelt."""


def rule(name: str) -> Rule:
    """Return what a rule says of itself; raises `UnknownChoice` for a name that is not in `TABLE`."""
    return _module(name).RULE


def rules() -> tuple[Rule, ...]:
    """Return all rules, in the order of the table."""
    return tuple(map(rule, TABLE))


def chosen(select: Iterable[str] = (), ignore: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of the rules that are left: those of `select` (all, if it is empty) without those of `ignore`.

    Raises `UnknownChoice` for a name that is none.
    """
    wanted, unwanted = [_known(name) for name in select], [_known(name) for name in ignore]
    return tuple(name for name in TABLE if (not wanted or name in wanted) and name not in unwanted)


def check(case: Case, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Return what the rules find in a loop, the worst first: `check(Case(loop, tree(loop)), ["dead-order"])`.

    What a comment in the source ignores is left out. Raises `UnknownChoice`, `BadIgnore`.
    """
    names = chosen(select, ignore)
    ignored = _ignored(case)
    found = [one for name in names for one in _findings(case, name) if not _is_ignored(one, ignored)]
    if case.examined is None:  # what was recorded, or saved
        from loopscope.examining import ignores_at

        found = [one for one in found if one.place is None or one.rule not in _named(ignores_at(one.place))]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: SEVERITIES.index(one.severity)))


def _module(name: str) -> Check:
    return cast(Check, importlib.import_module(TABLE[_known(name)]))


def _known(name: str) -> str:
    if name not in TABLE:
        raise UnknownChoice.of("rule", name, TABLE)
    return name


def _findings(case: Case, name: str) -> Iterator[Finding]:
    module = _module(name)
    there = {"loop": True, "callbacks": case.examined is not None, "recording": case.measured is not None}
    if case.loop.framework in module.RULE.frameworks and there[module.RULE.needs]:
        yield from module.findings(case)


Ignored = Mapping[tuple[str, str], frozenset[str]]
"""(id of a callback, name of a method, "" for all of them) -> the rules that a comment in its source ignores."""


def _ignored(case: Case) -> Ignored:
    if case.examined is None:
        return {}
    found: dict[tuple[str, str], frozenset[str]] = {}
    for callback in case.examined.callbacks:
        found[callback.id, ""] = _named(callback.ignores)
        found.update({(callback.id, method.name): _named(method.ignores) for method in callback.methods})
    return found


def _named(comments: Sequence[Ignore]) -> frozenset[str]:
    """Return the rules that comments name; raises `BadIgnore`."""
    names = []
    for comment in comments:
        listed = [name.strip() for name in (comment.rules or "").split(",")]
        unknown = [name for name in listed if name not in TABLE]
        if unknown:
            what = f"names no rule: {unknown[0]!r}" if unknown[0] else "names no rule"
            if unknown[0].startswith("#"):  # the text of a comment that is not of our form
                what = f"is none that loopscope understands: {comment.rules}"
            raise BadIgnore(
                f"{comment.place}: the comment {what}. Type # loopscope: ignore[RULE], or several with commas between "
                f"them. Rules: {', '.join(TABLE)}."
            )
        names += listed
    return frozenset(names)


def _is_ignored(finding: Finding, ignored: Ignored) -> bool:
    return any(finding.rule in ignored.get((finding.callback, name), ()) for name in ("", finding.method))
