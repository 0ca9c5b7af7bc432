"""Run the tests that need no framework against the built wheel, under every other supported Python that is installed.

Each gets an environment of its own in `.venvs/3.X` with the wheel's own dependencies, pytest and hypothesis, kept until
pyproject.toml changes. Fails if a test fails; a Python that is not installed is named, not an error.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")


def main() -> int:
    here = "{}.{}".format(*sys.version_info)
    found = {version: python for version in SUPPORTED if version != here and (python := find(version))}
    missing = [version for version in SUPPORTED if version != here and version not in found]
    print(
        f"This is Python {here}. Also found: {', '.join(found) or 'none'}. Not found: {', '.join(missing) or 'none'}."
    )
    if not found:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        failed = [version for version, python in found.items() if not passes(version, python, wheel)]
    print(f"Failed under Python {', '.join(failed)}." if failed else f"Passed under Python {', '.join(found)}.")
    return bool(failed)


def find(version: str) -> str | None:
    """The path of an interpreter of that version; a name on PATH that does not start (a pyenv shim) does not count."""
    return next((python for python in candidates(version) if reports(python) == version), None)


def candidates(version: str) -> Iterator[str]:
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    yield from map(str, sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"), reverse=True))


def reports(python: str) -> str:
    code = "import sys, venv, ensurepip; print('{}.{}'.format(*sys.version_info))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def build(folder: Path) -> Path:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), quiet=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def passes(version: str, python: str, wheel: Path) -> bool:
    print(f"\n== Python {version} ({python})", flush=True)
    venv = environment(version, python, wheel)
    test = [str(venv), "-m", "pytest", "-m", "not framework", "-p", "no:cacheprovider", "-q", "-r", "fE"]
    return subprocess.run(test, cwd=ROOT, check=False).returncode == 0


def environment(version: str, python: str, wheel: Path) -> Path:
    """The interpreter of `.venvs/<version>`, with this wheel in it; what the wheel needs is installed only once."""
    folder = ROOT / ".venvs" / version
    inside = folder / "bin" / "python"
    pip = [str(inside), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    project = (ROOT / "pyproject.toml").read_text()
    stamp = folder / "pyproject.toml"
    if not stamp.exists() or stamp.read_text() != project:
        run(python, "-m", "venv", "--clear", str(folder))
        run(*pip, f"{wheel}[test]")
        stamp.write_text(project)
    run(*pip, "--force-reinstall", "--no-deps", str(wheel))
    return inside


def run(*command: str, quiet: bool = False) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


if __name__ == "__main__":
    sys.exit(main())
