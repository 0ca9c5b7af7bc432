"""Arguments of an override under the names of the method that it overrides."""

from __future__ import annotations

from typing import Any

import pytest

from loopscope.passing import passed_on


class Stock:
    def fit(self, model: Any, data: Any = None, *, epochs: int = 1) -> None: ...


class All:
    def fit(self, *args: Any, **kwargs: Any) -> None: ...


class First:
    def fit(self, model: Any, *rest: Any, **kwargs: Any) -> None: ...


class Other:
    def fit(self, model: Any, loader: Any) -> None: ...


@pytest.mark.parametrize(
    ("own", "arguments", "expected"),
    [
        (Stock, {"model": 1, "epochs": 2}, {"model": 1, "epochs": 2}),
        (Stock, {"wrong": 1}, {"wrong": 1}),
        (All, {"args": (1, 2), "epochs": 3}, {"model": 1, "data": 2, "epochs": 3}),
        (All, {"data": 2, "model": 1}, {"model": 1, "data": 2}),
        (First, {"model": 1, "rest": (2,)}, {"model": 1, "data": 2}),
        (Other, {"model": 1, "loader": 2}, {"model": 1}),
    ],
)
def test_names(own: Any, arguments: dict[str, object], expected: dict[str, object]) -> None:
    """What stands in `*args` gets the name of its place; what the framework has no name for is left out."""
    found = passed_on(own.fit, Stock.fit, arguments)
    assert found == expected
    assert list(found) == list(expected)


def test_what_has_no_signature() -> None:
    """Then the arguments stay as they are."""
    assert passed_on(None, Stock.fit, {"x": 1}) == {"x": 1}
