"""Sets its own excepthook, which shows where the traceback begins."""

import sys
import traceback


def hook(kind, value, trace):
    print("own hook:", kind.__name__, [frame.name for frame in traceback.extract_tb(trace)], file=sys.stderr)


sys.excepthook = hook
raise RuntimeError("for the hook")
