"""Calls fit in a way that the adapter of this little framework fails on."""

from toyloop.engine import Trainer

try:
    Trainer().fit(1, cbs=None)
except Exception:
    print("the script must not take loopscope's fault for its own")
