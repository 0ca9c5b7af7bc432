"""Fails two calls deep, with a cause, after it printed something."""

import atexit
import sys


def inner():
    raise KeyError("first")


def outer():
    try:
        inner()
    except KeyError as error:
        raise ValueError("second, on purpose") from error


atexit.register(print, "exit handler", file=sys.stderr)
print("begun", sys.argv[1:])
outer()
