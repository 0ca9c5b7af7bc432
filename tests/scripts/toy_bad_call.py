"""Calls fit with an argument that it does not take."""

from toyloop.engine import Trainer

Trainer().fit(1, epoch=2)
