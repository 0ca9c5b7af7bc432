"""Imports the framework and does nothing with it; leaves as its argument says."""

import sys

import toyloop.engine  # noqa: F401

print("prepared")
if sys.argv[1:]:
    sys.exit(eval(sys.argv[1]))
