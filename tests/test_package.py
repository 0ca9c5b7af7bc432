"""What `import loopscope` costs, what the package offers, and what the built wheel holds."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
import zipfile
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest

import loopscope

ROOT = Path(__file__).parent.parent
HEAVY = ("fastai", "torch", "numpy", "rich", "click", "wrapt", "typing", "dataclasses")


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light() -> None:
    """`import loopscope` imports no framework, no library that display needs, and no costly part of Python."""
    # -S -E: no site-packages, so that what other packages import at start-up (.pth files) does not count.
    source = Path(loopscope.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(source)!r}); import loopscope; print(*sorted(sys.modules))"
    modules = python("-S", "-E", "-c", code).split()
    assert "loopscope" in modules
    assert [name for name in modules if name.split(".")[0] in HEAVY] == []
    assert [name for name in modules if name.startswith("loopscope.")] == []


def test_every_public_name_is_there() -> None:
    """Each name in `__all__` can be had from the package, and `dir` lists it."""
    for name in loopscope.__all__:
        assert getattr(loopscope, name) is not None
    assert set(loopscope.__all__) <= set(dir(loopscope))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name raises what Python raises for any module."""
    with pytest.raises(AttributeError, match=r"^module 'loopscope' has no attribute 'inspekt'$"):
        loopscope.inspekt  # noqa: B018


def test_no_public_name_is_a_module() -> None:
    """`loopscope.show` can never turn into a module because something imported one of that name."""
    modules = {module.name for module in pkgutil.iter_modules(loopscope.__path__)}
    assert modules.isdisjoint(loopscope.__all__)


def test_the_version_is_the_installed_one() -> None:
    """`loopscope.__version__` is what the package's metadata says."""
    assert loopscope.__version__ == version("loopscope")


def test_dependencies_are_explained() -> None:
    """docs/dependencies.md has one line for each dependency in pyproject.toml, and none for anything else."""
    declared = {re.split(r"[^\w-]", line)[0] for line in requires("loopscope") or ()} - {"loopscope"}
    explained = set(re.findall(r"^- `([\w-]+)`", (ROOT / "docs/dependencies.md").read_text(), re.M))
    assert explained == declared


def test_the_declared_pythons_are_the_tested_ones() -> None:
    """The Pythons in the metadata are those that `make test` looks for."""
    declared = re.findall(r"^Classifier: .*:: (3\.\d+)$", str(metadata("loopscope")), re.M)
    tested = re.findall(r'"(3\.\d+)"', (ROOT / "tools/other_pythons.py").read_text())
    assert declared == tested


@pytest.mark.slow
def test_the_wheel(tmp_path: Path) -> None:
    """The built wheel holds the package, its type marker, licence and command, and nothing else; it works alone."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    assert {name.split("/")[0] for name in names} == {"loopscope", f"loopscope-{loopscope.__version__}.dist-info"}
    source = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert {name for name in names if name.startswith("loopscope/")} == source | {"loopscope/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "loopscope = loopscope.cli:main" in entry_points

    target = tmp_path / "installed"
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    code = f"import sys; sys.path.insert(0, {str(target)!r}); import loopscope; print(loopscope.__file__)"
    assert python("-S", "-c", code) == str(target / "loopscope/__init__.py")
