"""Keras: the map and the recording are proved by the conformance suite, on real training runs."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("keras")
FRAMEWORK = "keras"

from tests.suite import *
