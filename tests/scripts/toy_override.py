"""Has a trainer of its own, one that never calls the framework's, and a patched one."""

import sys

from toyloop.engine import Trainer


class Own(Trainer):
    def fit(self, rounds=7, *, lr=0.1, cbs=()):
        print("really training in its own way")


def fit(self, epochs, **options):
    print("preparing")
    return original(self, epochs + 1, **options)


if "patched" in sys.argv:
    original = Trainer.fit
    Trainer.fit = fit
    Trainer().fit(5)
Own().fit(rounds=2)
