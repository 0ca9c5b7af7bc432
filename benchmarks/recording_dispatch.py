"""What one event's dispatch costs, recorded and as fastai does it, and what a recorded handler call adds to a bare one.

Both in the middle of a fit of a real learner, and on the function that recording really installs. The two sides take
turns, a few dozen events each, and the least of many turns counts: whatever else the machine does only adds.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import part
from fastai.callback.core import Callback
from fastai.learner import Learner
from learners import idle, quiet, synthetic
from measure import Figure

import loopscope
from loopscope.adapters.fastai import hot

EVENT = "after_pred"
"""None of fastai's callbacks used here has a handler for it; it is an event of each batch."""

STOCK = vars(Learner)["_call_one"]
"""fastai's dispatch, fetched before anything is recorded."""

HANDLED = "after_step"
"""The same for the measurement of handler calls."""

FEW, MANY = 4, 44
Turns = dict[str, Callable[[], None]]


def least(turns: Turns, rounds: int, events: int) -> dict[str, float]:
    """Return the least time (ns) that one call of each took, all in turn, each `events` times in a row."""
    found = dict.fromkeys(turns, float("inf"))
    for _ in range(rounds):
        for name, call in turns.items():
            start = time.perf_counter_ns()
            for _ in range(events):
                call()
            found[name] = min(found[name], (time.perf_counter_ns() - start) / events)
    return found


def inside(learn: Any, file: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return what `measure` does before the first batch of a recorded fit: what a dispatch costs depends on the run."""
    found: list[dict[str, float]] = []
    learn.dls.train.first = lambda: found.append(measure())
    with loopscope.record(learn, file, force=True):
        learn.fit(1)
    return found[0]


def dispatches(learn: Any, file: Path, rounds: int) -> dict[str, float]:
    """Return the ns of one event of a learner that is recorded, as recording does it and as fastai does."""

    def measure() -> dict[str, float]:
        theirs, ours = MethodType(STOCK, learn), learn._call_one
        assert ours.__func__ is not STOCK
        turns: Turns = {"nothing": lambda: None, "fastai": lambda: theirs(EVENT), "recorded": lambda: ours(EVENT)}
        return least(turns, rounds, 30)

    found = inside(learn, file, measure)
    return {name: found[name] - found["nothing"] for name in ("fastai", "recorded")}


def one_handler(count: int) -> Any:
    """Return a learner with `count` callbacks, one of which handles the event and does nothing there."""
    learn = synthetic(count, 1)
    learn.remove_cb(learn.progress)
    learn.add_cb(idle(1)())
    assert len(learn.cbs) == count
    return learn


# -- one handler call ------------------------------------------------------------------------------------------


def with_handlers(count: int) -> Any:
    """Return a learner with fastai's defaults and `count` more callbacks, each a class with an empty handler."""
    learn = synthetic(4, 1)
    learn.add_cbs([idle(number)() for number in range(count)])
    return learn


def calls(folder: Path, rounds: int) -> dict[str, float]:
    """Return, in ns: a recorded handler call, a bare `cb(event)`, fastai's own turn, and two reads of the clock.

    Each is the difference between many callbacks and few, so that what an event costs by itself is left out. Of the
    function that recording installs there is a second form, the same statements without a handler's stamps.
    """
    few, many = with_handlers(FEW), with_handlers(MANY)

    def measure() -> dict[str, float]:
        turns: Turns = {"clocks": two_reads, "nothing": lambda: None}
        for count, learn in ((FEW, few), (MANY, many)):
            turns[f"recorded {count}"] = bound(learn._call_one)
            turns[f"unstamped {count}"] = bound(MethodType(without_stamps(), learn))
            turns[f"fastai {count}"] = bound(MethodType(STOCK, learn))
            turns[f"bare {count}"] = bare([cb for cb in learn.cbs if hasattr(type(cb), HANDLED)])
        return least(turns, rounds, 20)

    found = inside(few, folder / "few.loop", lambda: inside(many, folder / "many.loop", measure))
    each = {kind: (found[f"{kind} {MANY}"] - found[f"{kind} {FEW}"]) / (MANY - FEW) for kind in KINDS}
    return {**each, "clocks": found["clocks"] - found["nothing"]}


KINDS = ("recorded", "unstamped", "fastai", "bare")


class _Unstamped(ast.NodeTransformer):
    """Leaves out the statements that write a handler's stamps, and where they would be written."""

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Try) and ast.unparse(node.body[0]).startswith("its_rows["):
            return None
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "lane.at" and "its_at" in ast.unparse(node):
            return None
        return self.generic_visit(node)


@functools.cache
def without_stamps() -> Any:
    """Return the recorded dispatch as it would be if handlers got no stamps; events keep theirs."""
    tree = ast.parse(inspect.getsource(hot.one))
    stamps = ast.unparse(tree).count("clock()")
    tree = ast.fix_missing_locations(_Unstamped().visit(tree))
    assert stamps - ast.unparse(tree).count("clock()") == 2, "hot.one has another shape"
    names = dict(vars(hot))
    exec(compile(tree, "without stamps", "exec"), names)
    return names["one"]


def bound(dispatch: Callable[[str], None]) -> Callable[[], None]:
    return lambda: dispatch(HANDLED)


def bare(cbs: list[Callback]) -> Callable[[], None]:
    """Return a loop that calls every callback as fastai does, and does nothing else."""

    def call() -> None:
        for cb in cbs:
            cb(HANDLED)

    return call


def two_reads(clock: Callable[[], int] = time.perf_counter_ns) -> None:
    clock()
    clock()


# -- the table -------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace) -> part.Measured:
    rounds = 5 if given.quick else 1500
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        events = {
            f"{count} callbacks, {what}": dispatches(learn, folder / "event.loop", rounds)
            for count in (4, 12)
            for what, learn in (
                ("no handler", synthetic(count, 1)),
                ("one empty handler", one_handler(count)),
            )
        }
        per_call = calls(folder, rounds)
    return [*of_events(events), *of_calls(per_call)], {"events_ns": events, "calls_ns": per_call, "rounds": rounds}


def of_events(events: dict[str, dict[str, float]]) -> Iterator[Figure]:
    for what, took in events.items():
        yield Figure(f"one event, {what}: fastai's own", took["fastai"] / 1e3, "µs")
        target = took["fastai"] / 1e3 if what.startswith("4") else None
        yield Figure(f"one event, {what}: recorded", took["recorded"] / 1e3, "µs", target)


def of_calls(took: dict[str, float]) -> Iterator[Figure]:
    beyond = {kind: (took[kind] - took["bare"]) / 1e3 for kind in KINDS}
    yield Figure("one handler: bare `cb(event)`, empty handler", took["bare"] / 1e3, "µs")
    yield Figure("   beyond it, in fastai's own dispatch", beyond["fastai"], "µs")
    yield Figure("   beyond it, recorded: all in", beyond["recorded"], "µs", 0.35)
    yield Figure("      of which the stamps", beyond["recorded"] - beyond["unstamped"], "µs")
    yield Figure("      of which two reads of the clock, the floor", took["clocks"] / 1e3, "µs")


if __name__ == "__main__":
    part.run("recording-dispatch", __doc__, measure)
