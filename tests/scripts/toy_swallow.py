"""Catches whatever ends it, and goes on: to a second call unless its argument says otherwise."""

import sys

from toyloop.engine import Trainer

try:
    Trainer().fit(1)
except BaseException as error:
    print("caught", type(error).__name__, error.code)
if "once" not in sys.argv:
    print("and on", end="")
    Trainer().fit_twice(2)
print("the end")
