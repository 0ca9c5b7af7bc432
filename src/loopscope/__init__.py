"""What a callback-driven training loop will run, and what it did run: every scope, event and handler, in true order.

>>> import loopscope
>>> loopscope.show(learn, "fit_one_cycle", epochs=3)  # doctest: +SKIP
>>> with loopscope.record(learn, "run.loop") as rec: learn.fit_one_cycle(3)  # doctest: +SKIP

Constraint: importing this costs a few milliseconds and imports neither a framework nor numpy, rich or click; the names
below are imported when they are first used (PEP 562).
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take this name for true; importing typing would cost more than this whole module
if TYPE_CHECKING:
    from loopscope.api import check, diff, inspect, load, record, show
    from loopscope.errors import LoopscopeError

__version__ = "0.1.0"
__all__ = ["LoopscopeError", "__version__", "check", "diff", "inspect", "load", "record", "show"]

_HOME = {
    "LoopscopeError": "loopscope.errors",
    "check": "loopscope.api",
    "diff": "loopscope.api",
    "inspect": "loopscope.api",
    "load": "loopscope.api",
    "record": "loopscope.api",
    "show": "loopscope.api",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


if not TYPE_CHECKING:  # to a type checker, a misspelt name stays an error

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        from loopscope import collector

        with collector.paused():
            value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
