"""A handler of EXCEPTION_RAISED that raises nothing: ignite then drops every error of the run."""

from __future__ import annotations

from collections.abc import Iterator

from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding

RULE = Rule(
    name="swallowed-errors",
    severity="warning",
    frameworks=("ignite",),
    needs="loop",
    says="errors of the run are dropped, as somebody handles EXCEPTION_RAISED and does not raise again",
    why="ignite raises an error itself only where nobody handles EXCEPTION_RAISED. Otherwise run() returns as if all "
    "had been well, and a KeyboardInterrupt ends it just as quietly.",
    do="Raise the error again at the end of the handler: raise error.",
    fires="""
        @trainer.on(Events.EXCEPTION_RAISED)
        def note(engine, error):
            print("failed:", error)
        """,
    silent="""
        @trainer.on(Events.EXCEPTION_RAISED)
        def note(engine, error):
            print("failed:", error)
            raise error
        """,
    threads=("ignite#1234",),
)

PROFILER = "HandlersTimeProfiler"


def findings(case: Case) -> Iterator[Finding]:
    handlers = list(case.handlers())
    profiler = next((row.handler for event, row in handlers if (row.name, event.name) == (PROFILER, "STARTED")), None)
    rows = [row for event, row in handlers if event.name == "EXCEPTION_RAISED" and row.handler]
    handling = {row.handler.id: row.handler for row in rows if row.handler}
    if any(handler.raises or handler.place is None for handler in handling.values()):
        return
    for handler in handling.values():
        yield RULE.at(
            handler,
            f"{handler.callback} handles EXCEPTION_RAISED and raises nothing: every error of this run is dropped",
            "inferred",
            evidence=(f"{handler.callback}.{handler.method} has no raise",),
        )
    if profiler is not None and not handling:
        yield RULE.at(
            profiler,
            f"{PROFILER} gives EXCEPTION_RAISED an empty list of handlers when the run starts: every error of this run "
            f"is dropped",
            "inferred",
            do="Add a handler that raises it again: trainer.add_event_handler(Events.EXCEPTION_RAISED, reraise).",
            evidence=(f"{PROFILER} is attached", "nothing handles EXCEPTION_RAISED"),
        )
