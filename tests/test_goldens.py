"""The golden comparison, run by a pytest inside this one."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py").read_text()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner pytest loads no plugin that happens to be installed: twenty times as fast, and the same everywhere."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("LOOPSCOPE_REQUIRE", raising=False)


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with this conftest and one test that gives `loop.txt` the text in `actual.txt`."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_it(golden):
            golden("loop.txt", Path("actual.txt").read_bytes().decode())
        """
    )
    return pytester


def give(inner: pytest.Pytester, expected: str, actual: str) -> pytest.RunResult:
    (inner.path / "golden").mkdir(exist_ok=True)
    (inner.path / "golden/loop.txt").write_bytes(expected.encode())
    (inner.path / "actual.txt").write_bytes(actual.encode())
    return inner.runpytest_inprocess()


def test_the_same_text_passes(inner: pytest.Pytester) -> None:
    """A golden file that is what the test gave passes."""
    give(inner, "fit\n  epoch\n", "fit\n  epoch\n").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("expected", "actual", "shown"),
    [
        ("fit\n  epoch\n", "fit\n  batch\n", ["*-  epoch*", "*+  batch*"]),
        ("fit\n  epoch\n", "fit\n", ["*-  epoch*"]),
        ("fit\n", "fit\n  epoch\n", ["*+  epoch*"]),
        ("fit\n", "fit", ["*no newline at the end*"]),
        ("fit\n", "fit\r\n", ["*loop.txt*"]),
        ("fit\n", "fit \n", ["*loop.txt*"]),
        ("fit\n", "", ["*-fit*"]),
    ],
)
def test_any_difference_fails(inner: pytest.Pytester, expected: str, actual: str, shown: list[str]) -> None:
    """A changed, missing or added line, line end or space fails, and the diff is shown."""
    result = give(inner, expected, actual)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(shown)


def test_a_missing_golden_fails(inner: pytest.Pytester) -> None:
    """A test whose golden file does not exist fails and says how to write it."""
    (inner.path / "actual.txt").write_text("fit\n")
    result = inner.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*--update-goldens*"])


def test_update_writes_the_text(inner: pytest.Pytester) -> None:
    """`--update-goldens` writes what the test gave, byte for byte, and the next plain run passes."""
    (inner.path / "actual.txt").write_bytes("é fit\r\n".encode())
    inner.runpytest_inprocess("--update-goldens").assert_outcomes(passed=1)
    assert (inner.path / "golden/loop.txt").read_bytes() == "é fit\r\n".encode()
    inner.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_required_framework_may_not_be_skipped(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skip in a test of a framework that LOOPSCOPE_REQUIRE names is a failure; elsewhere it stays a skip."""
    monkeypatch.setenv("LOOPSCOPE_REQUIRE", "json")
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nmarkers = framework")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.framework("json")
        def test_required():
            pytest.skip("on a whim")

        @pytest.mark.framework("no_such_framework")
        def test_optional():
            raise AssertionError("must not run")
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*no_such_framework is not installed*"])


def test_a_required_framework_must_be_installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """LOOPSCOPE_REQUIRE with a framework that is not installed ends the run before any test."""
    monkeypatch.setenv("LOOPSCOPE_REQUIRE", "json,no_such_framework")
    pytester.makeconftest(CONFTEST)
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no_such_framework, which is not installed" in str(result.stdout) + str(result.stderr)
