"""A callback named on the command line is found, or the error says what there is instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from loopscope.errors import LoopscopeError
from loopscope.named import Spec

CODE = "class Mine:\n    class Inner: pass\n\nmine = Mine()\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module in it, as the program's own folder would be on the path."""
    (tmp_path / "my_hooks.py").write_text(CODE)
    (tmp_path / "fails.py").write_text("import not_installed_here\n")
    (tmp_path / "explodes.py").write_text("raise RuntimeError\n")
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other_hooks.py").write_text(CODE)
    (tmp_path / "elsewhere" / "my_hooks.py").write_text("class Other: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def error_of(text: str) -> str:
    with pytest.raises(LoopscopeError) as caught:
        Spec.parse(text).load()
    return str(caught.value)


def test_a_name_in_a_module() -> None:
    """`module:Name` is that object, whether class, instance or nested; the module is imported once."""
    import my_hooks

    assert Spec.parse("my_hooks:Mine").load() is my_hooks.Mine
    assert Spec.parse("my_hooks:mine").load() is my_hooks.mine
    assert Spec.parse("my_hooks:Mine.Inner").load() is my_hooks.Mine.Inner


def test_a_name_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`path/to/file.py:Name` is that object, wherever the program went; a file is run only once."""
    specs = [Spec.parse(f"{name}:Mine") for name in ("elsewhere/other_hooks.py", "./my_hooks.py", "my_hooks.py")]
    monkeypatch.chdir("/")
    first, second, third = [spec.load() for spec in specs]
    assert first is sys.modules["other_hooks"].Mine
    assert second is third is sys.modules["my_hooks"].Mine


def test_two_files_of_one_name() -> None:
    """A file whose name is taken by another module is loaded beside it."""
    assert Spec.parse("my_hooks.py:Mine").load() is sys.modules["my_hooks"].Mine
    assert Spec.parse("elsewhere/my_hooks.py:Other").load().__name__ == "Other"
    assert Spec.parse("elsewhere/my_hooks.py:Other").load() is Spec.parse("elsewhere/my_hooks.py:Other").load()


def test_the_program_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own class is found in what runs, by `__main__`, by its module's name and by its file."""
    main = ModuleType("__main__")
    main.__file__ = str(folder / "my_hooks.py")
    main.Mine = object()
    monkeypatch.setitem(sys.modules, "__main__", main)
    for source in "__main__", "my_hooks", "my_hooks.py":
        assert Spec.parse(f"{source}:Mine").load() is main.Mine
    assert "my_hooks" not in sys.modules


@pytest.mark.parametrize("text", ["Mine", "my_hooks", "my_hooks:", ":Mine", "my hooks:Mine", "my_hooks:Mi ne", "", ":"])
def test_what_names_nothing(text: str) -> None:
    """What has not the form of a name is refused before anything is imported."""
    with pytest.raises(LoopscopeError, match=r"names no callback\. Accepted: module:Name or path/to/file\.py:Name"):
        Spec.parse(text)


def test_a_missing_file() -> None:
    """A file that is not there is refused before anything is imported."""
    with pytest.raises(LoopscopeError, match=r"^there is no file nope\.py \(from --cbs nope\.py:Mine\)\.$"):
        Spec.parse("nope.py:Mine")


def test_a_missing_name(folder: Path) -> None:
    """A name that the module lacks brings up those that are like it."""
    (folder / "my_hooks.py").write_text("class Other: pass\nmine = Other()\n")
    assert error_of("my_hooks:Nine") == "--cbs my_hooks:Nine: my_hooks has no 'Nine'. Did you mean my_hooks:mine?"
    assert error_of("my_hooks:Qqqqqq") == "--cbs my_hooks:Qqqqqq: my_hooks has no 'Qqqqqq'."
    assert error_of("elsewhere/other_hooks.py:Mine.Iner") == (
        "--cbs elsewhere/other_hooks.py:Mine.Iner: elsewhere/other_hooks.py has no 'Iner'. "
        "Did you mean elsewhere/other_hooks.py:Mine.Inner?"
    )


def test_a_missing_module(folder: Path) -> None:
    """A module that is not there brings up where it was looked for, and the file that would be meant."""
    (folder / "elsewhere" / "__init__.py").unlink(missing_ok=True)
    sys.path.insert(0, "/nowhere")
    sys.path.remove(str(folder))
    assert error_of("my_hooks:Mine") == (
        "--cbs my_hooks:Mine: there is no module 'my_hooks' where the script imports from (first /nowhere). "
        "There is a file: type --cbs my_hooks.py:Mine. For a class of the script itself type --cbs __main__:Mine."
    )
    assert "There is a file" not in error_of("no_hooks.at_all:Mine")


def test_a_module_that_fails() -> None:
    """What goes wrong inside the module is named as such, and not as a missing module."""
    assert error_of("fails:Mine") == (
        "--cbs fails:Mine: importing fails raised ModuleNotFoundError: No module named 'not_installed_here'."
    )
    assert error_of("explodes:Mine") == "--cbs explodes:Mine: importing explodes raised RuntimeError."
    assert error_of("leaves:Mine") == "--cbs leaves:Mine: importing leaves raised SystemExit: 3."
    assert error_of("explodes.py:Mine").endswith("explodes.py raised RuntimeError.")
