"""`pytestmark = need("fastai")` at the head of a test file (`from tests.frameworks import need`): skipped without it.

`LOOPSCOPE_REQUIRE=fastai` says that the framework must be there: without it, no test runs at all (conftest.py).
`pytest -m "not framework"` leaves such files out.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")  # the one that is installed here, asked for before keras is imported


def need(name: str) -> pytest.MarkDecorator:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
    return pytest.mark.framework(name)


def need_torch() -> None:
    """Skip a test file of several frameworks where none of them can be there: called before it imports torch."""
    if find_spec("torch") is None:
        pytest.skip("torch is not installed", allow_module_level=True)
