"""A training script as people write them, with something to do at its end."""

import atexit
import sys

from toyloop.engine import Hook, Trainer


class Mine(Hook):
    """A callback of the script itself."""


atexit.register(print, "exit handler")
trainer = Trainer([Hook()])
print("before", sys.argv[1:])
try:
    trainer.fit(3, lr=0.2, cbs=[Mine()])
finally:
    print("finally")
print("never reached")
