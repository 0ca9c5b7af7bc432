"""The tree of rows: what runs always, conditionally or never, where exceptions land, where one’s own stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from loopscope.model import Binding, Catch, Event, Handler, Loop, Need, Node, Raise, Repeat, Scope, Step
from loopscope.views import Landing, Neighbours, Row, Status, landed, tree
from tests.loops import fit


def loop(*body: Node, at: Iterable[Handler] = (), **more: object) -> Loop:
    """A loop whose root runs `body`, with these handlers in this order."""
    found: dict[str, tuple[Handler, ...]] = {}
    for one in at:
        found[one.event] = (*found.get(one.event, ()), one)
    made = Loop("toy", "Learner", "fit", "learn.fit()", Scope("fit", body), Binding(found))
    return replace(made, **more)  # type: ignore[arg-type]


def handler(name: str, event: str, **more: object) -> Handler:
    return Handler(f"{name}#1", name, name, event, event, "order 0", **more)  # type: ignore[arg-type]


def said(made: Loop) -> list[tuple[str, Status, str]]:
    return [(row.name, row.status, row.why) for _, row in tree(made).walk()][1:]


def test_rows_stand_in_the_order_in_which_things_run() -> None:
    """Before, body, what a cancel does, exit: a scope's rows are read from top to bottom as they run."""
    assert [f"{'  ' * depth}{row.kind} {row.name}" for depth, row in tree(fit()).walk()][:24] == [
        "run fit",
        "  scope fit",
        "    event before_fit",
        "      handler TrainEval",
        "      handler Mine",
        "      handler Recorder",
        "    scope epoch",
        "      event before_epoch",
        "      scope train",
        "        event before_train",
        "          handler TrainEval",
        "        scope batch",
        "          step draw a batch",
        "          step move to device",
        "          event before_batch",
        "          step forward",
        "          event after_pred",
        "            handler Shadowed",
        "          step loss",
        "          event after_loss",
        "            handler Mine",
        "          scope step",
        "            event before_step",
        "              handler Accumulate",
    ]


def test_a_flag_that_a_handler_sets_decides_what_follows() -> None:
    """What needs a flag is never run before a handler sets it, and always after."""
    need = Need("ready", True, "only when ready")
    made = loop(
        Step("early", needs=(need,)),
        Event("before_fit"),
        Step("late", needs=(need,)),
        at=[handler("Sets", "before_fit", sets=(("ready", True),))],
        flags={"ready": False},
    )
    assert said(made) == [
        ("early", "never", "only when ready"),
        ("before_fit", "always", ""),
        ("Sets", "always", ""),
        ("late", "always", ""),
    ]


def test_a_repeated_scope_speaks_for_all_its_repetitions() -> None:
    """What holds in the first repetition only is conditional."""
    body = (Step("first only", needs=(Need("fresh", True, "only at first"),)), Event("after_batch"))
    at = [handler("Wears", "after_batch", sets=(("fresh", False),))]
    rows = said(loop(Scope("batch", body, repeat=Repeat(3, 3)), at=at, flags={"fresh": True}))
    assert rows[1] == ("first only", "conditional", "only at first")
    once = said(loop(Scope("batch", body), at=at, flags={"fresh": True}))
    assert once[1] == ("first only", "always", "")


def test_no_repetition_is_never() -> None:
    """A scope that runs no time is never entered, and nothing is shown below it."""
    made = loop(Scope("epoch", (Event("before_epoch"),), repeat=Repeat(0, 0)))
    assert said(made) == [("epoch", "never", "no repetition")]


def test_a_certain_raise_ends_the_scope_that_catches_it() -> None:
    """After a handler that certainly raises, the rest of its scope is never run, and the catch and the exit are."""
    scope = Scope(
        "epoch",
        (Event("before_epoch"), Step("train")),
        catches=(Catch(("CancelEpochException",), (Event("after_cancel_epoch"),)),),
        exit=(Event("after_epoch"),),
    )
    skips = handler("Skip", "before_epoch", raises=(Raise("CancelEpochException", certain=True),))
    why = "Skip.before_epoch raises CancelEpochException"
    assert said(loop(scope, at=[skips, handler("Late", "before_epoch")])) == [
        ("epoch", "always", ""),
        ("before_epoch", "always", ""),
        ("Skip", "always", ""),
        ("Late", "never", why),
        ("train", "never", why),
        ("CancelEpochException", "always", "Skip.before_epoch raises it"),
        ("after_cancel_epoch", "always", "Skip.before_epoch raises it"),
        ("after_epoch", "always", ""),
    ]


def test_a_swallowed_exception_ends_only_its_event() -> None:
    """Where the dispatch drops an exception, the other handlers of the event are left out and the loop goes on."""
    drops = handler("Drops", "before_fit", raises=(Raise("StopIteration", certain=True),))
    made = loop(
        Event("before_fit"), Step("train"), at=[drops, handler("Late", "before_fit")], swallowed=("StopIteration",)
    )
    assert said(made)[2:] == [("Late", "never", "Drops.before_fit raises StopIteration"), ("train", "always", "")]


def test_an_exit_that_runs_whatever_happens_is_said() -> None:
    """A scope left through a `finally` has a row for the exceptions that pass through it."""
    rows = (
        tree(loop(Scope("context", (Step("validate"),), exit=(Event("after_fit"),), always=True))).children[0].children
    )
    assert [(row.kind, row.name, row.status, row.text) for row in rows] == [
        ("step", "validate", "always", ""),
        ("cancel", "any exception", "conditional", "exit, raise"),
        ("event", "after_fit", "always", ""),
    ]


def rows_at(made: Loop, event: str) -> list[Row]:
    return [row for _, row in tree(made).walk() if row.kind == "event" and row.name == event]


@pytest.mark.parametrize(
    ("event", "scopes"),
    [
        ("before_fit", ("fit", None, None, None, None, None)),
        ("before_batch", ("fit", "epoch", "train", None, "batch", None)),
        ("before_step", ("fit", "epoch", "train", None, "batch", "step")),
        ("after_batch", ("fit", "epoch", "train", None, None, None)),
        ("after_fit", (None, None, None, None, None, None)),
    ],
)
def test_an_exception_lands_in_the_innermost_scope_that_catches_it(event: str, scopes: tuple[str | None, ...]) -> None:
    """A scope catches what is raised in its body; in its own exit it is too late for that."""
    made = fit()
    assert rows_at(made, event)[0].landings == tuple(map(Landing, made.cancels, scopes))


def test_ones_own_callback_has_neighbours_among_those_that_run() -> None:
    """A callback that is skipped is no neighbour; one's own that never runs has those that it would have."""
    own = landed(tree(fit()))
    assert [(one.path[-2:], one.row.handler and one.row.handler.event, one.row.neighbours) for one in own] == [
        (("fit",), "before_fit", Neighbours("TrainEval", "Recorder")),
        (("train", "batch"), "after_loss", Neighbours(None, None)),
        (("train", "batch"), "after_cancel_batch", Neighbours(None, None)),
        (("train", "batch"), "after_batch", Neighbours("TrainEval", "Recorder")),
        (("validate", "batch"), "after_loss", Neighbours(None, None)),
        (("validate", "batch"), "after_cancel_batch", Neighbours(None, None)),
        (("validate", "batch"), "after_batch", Neighbours(None, "Recorder")),
    ]  # fmt: skip
