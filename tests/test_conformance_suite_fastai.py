"""fastai passes the conformance suite that all frameworks share; its own proofs are in test_conformance_fastai.py."""

from __future__ import annotations

from tests.frameworks import need

pytestmark = need("fastai")
FRAMEWORK = "fastai_suite"

from tests.suite import *
