"""What every test shares: golden files, and what happens when a framework is not installed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from difflib import unified_diff
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GOLDEN = Path(__file__).parent / "golden"
REQUIRED = frozenset(filter(None, os.environ.get("LOOPSCOPE_REQUIRE", "").replace(" ", "").split(",")))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write what the tests produce to tests/golden/")


def pytest_sessionstart() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; processes would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if missing := sorted(name for name in REQUIRED if find_spec(name) is None):
        raise pytest.UsageError(
            f"LOOPSCOPE_REQUIRE names {', '.join(missing)}, which is not installed here: install it, or leave it out."
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in frameworks_of(item):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    required = REQUIRED & frameworks_of(item)
    if report.skipped and required and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"LOOPSCOPE_REQUIRE={','.join(sorted(required))} allows no skip: {report.longrepr}"
    return report


def frameworks_of(item: pytest.Item) -> frozenset[str]:
    """`@pytest.mark.framework("fastai")` -> {"fastai"}."""
    return frozenset(name for mark in item.iter_markers("framework") for name in mark.args)


def difference(path: Path, expected: str, actual: str) -> str:
    """The unified diff from `expected` to `actual`; empty only if both are the same, line ends included."""
    before, after = (text.splitlines(keepends=True) for text in (expected, actual))
    lines = unified_diff(before, after, f"{path.name} (golden)", f"{path.name} (this run)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ no newline at the end\n" for line in lines)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("fit.txt", text)` fails unless `tests/golden/fit.txt` is `text`, whole.

    `pytest --update-goldens` writes the file instead; review the change like code.
    """

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-goldens"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        elif not path.exists():
            pytest.fail(f"there is no {path}: write it with pytest --update-goldens, then read it", pytrace=False)
        elif (expected := path.read_bytes().decode()) != text:
            pytest.fail(f"{path}: not what this run gave\n{difference(path, expected, text)}", pytrace=False)

    return compare
