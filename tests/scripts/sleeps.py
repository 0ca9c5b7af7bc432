"""Waits to be interrupted."""

import time

print("asleep", flush=True)
time.sleep(60)
