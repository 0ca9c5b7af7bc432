"""Trains in another thread, which a caught exception there would not end."""

import sys
import threading
import time

from toyloop.engine import Trainer


def train():
    if "late" in sys.argv:
        time.sleep(0.5)
    Trainer().fit(2)


thread = threading.Thread(target=train, name="trainer")
thread.start()
if "late" not in sys.argv:
    thread.join()
    print("never reached: the main thread would go on")
