"""Recording at a dispatch that loops over handlers: the framework's own functions, with stamps around their calls.

    POINTS = (Point(CallbackHandler, "call_event", event="event", call="getattr(callback, event)", handler="callback",
                    handlers="self.callbacks"),)
    dispatch = Dispatch("transformers", transformers.__version__, POINTS, naming)
    detach = dispatch.watch(trainer, trainer.callback_handler, sink(trainer))

What is put in place, at class level, is the framework's own function at its own lines, so that an exception passes
through the very frames that it has without recording. Constraint: knows no framework; nothing stays in place in a
program that records nothing.
"""

from __future__ import annotations

from loopscope.stamped.calibrating import calibrate
from loopscope.stamped.dispatch import Dispatch
from loopscope.stamped.transplant import Point
from loopscope.stamped.watching import Named, Naming, Watched

__all__ = ["Dispatch", "Named", "Naming", "Point", "Watched", "calibrate"]
