"""Leaves with what its argument evaluates to."""

import sys

print("leaving")
sys.exit(eval(sys.argv[1]))
