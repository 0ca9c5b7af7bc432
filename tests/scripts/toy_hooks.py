"""Callbacks to name on the command line."""

from toyloop.engine import Hook


class Mine(Hook):
    """One's own."""


class Needy(Hook):
    """Cannot be built without an argument."""

    def __init__(self, amount):
        self.amount = amount


mine = Needy(3)
