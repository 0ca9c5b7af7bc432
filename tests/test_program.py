"""A program that loopscope runs cannot tell it from one that python runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import loopscope
from loopscope.errors import LoopscopeError
from loopscope.program import Program, execute

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
SOURCE = Path(loopscope.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
RUN = """\
import sys
from loopscope.program import Program, execute
module = sys.argv[1] == "-m"
execute(Program(sys.argv[1 + module], tuple(sys.argv[2 + module:]), module))
"""

Ending = tuple[int, str, str]


def run(*arguments: str, cwd: Path = SCRIPTS) -> Ending:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=ENVIRONMENT, input="in"
    )
    return done.returncode, done.stdout, done.stderr


def as_python(*arguments: str, cwd: Path = SCRIPTS) -> Ending:
    """Assert that python and loopscope end alike, in status, stdout and stderr, and return how."""
    expected = run(*arguments, cwd=cwd)
    assert run("-c", RUN, *arguments, cwd=cwd) == expected
    return expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("tells.py", "--lr", "3", "children"),
        ("./tells.py",),
        ("../scripts/tells.py", "-m", "--", "x"),
        (str(SCRIPTS / "tells.py"),),
        ("-m", "tells", "children"),
    ],
    ids=" ".join,
)
def test_it_starts_as_under_python(arguments: tuple[str, ...]) -> None:
    """`__main__`, `sys.argv`, `sys.path`, stdin, pickling and child processes are those of plain python."""
    assert as_python(*arguments)[0] == 0


def test_folders_zips_and_links(tmp_path: Path) -> None:
    """A folder or zip with a `__main__.py`, a package given to -m, a compiled file and a link run as in python."""
    code = (SCRIPTS / "tells.py").read_text()
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "part.py"):
        (package / name).write_text("" if name == "__init__.py" else code)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("__main__.py", code)
    (tmp_path / "link.py").symlink_to(SCRIPTS / "tells.py")
    run("-c", f"import py_compile; py_compile.compile({str(SCRIPTS / 'leaves.py')!r}, 'compiled.pyc')", cwd=tmp_path)
    for arguments in "package", "./package/", "packed.zip", "-m package", "-m package.part", "link.py":
        assert as_python(*arguments.split(), cwd=tmp_path)[0] == 0
    assert as_python("compiled.pyc", "3", cwd=tmp_path)[:2] == (3, "leaving\n")
    assert as_python(".", cwd=package)[0] == 0


def test_the_scripts_encoding(tmp_path: Path) -> None:
    """A script in an encoding of its own is read as its first lines say (PEP 263)."""
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n")
    assert as_python("latin.py", cwd=tmp_path) == (0, "'\\xe9'\n", "")


@pytest.mark.parametrize("name", ["raises", "own_hook", "broken"])
def test_an_uncaught_exception_is_shown_as_python_shows_it(name: str, tmp_path: Path) -> None:
    """The traceback has no frame of loopscope, also with causes, an own excepthook, a syntax error; the status is 1."""
    (tmp_path / "broken.py").write_text("x = (1,\ny = 2\n")
    here = tmp_path if name == "broken" else SCRIPTS
    for arguments in [f"{name}.py", "a"], ["-m", name, "a"]:
        status, _, stderr = as_python(*arguments, cwd=here)
        assert status == 1
        assert stderr


@pytest.mark.parametrize(("code", "status"), [("0", 0), ("None", 0), ("3", 3), ("'text'", 1), ("True", 1), ("259", 3)])
def test_it_leaves_with_its_own_status(code: str, status: int) -> None:
    """Whatever is passed to `sys.exit` becomes the status, and the text on stderr, that python makes of it."""
    assert as_python("leaves.py", code)[0] == status


@pytest.mark.skipif(os.name != "posix", reason="signals as exit status are POSIX")
@pytest.mark.parametrize("command", [["sleeps.py"], ["-c", RUN, "sleeps.py"]], ids=["python", "loopscope"])
def test_ctrl_c(command: list[str]) -> None:
    """Ctrl-C shows python's traceback, which begins in the script, and the process dies of SIGINT as under python."""
    command = [sys.executable, *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=SCRIPTS, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asleep\n"
        time.sleep(0.5)  # it has said so, and may not sleep yet
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert stderr.splitlines()[:2] == [
        "Traceback (most recent call last):",
        f'  File "{SCRIPTS / "sleeps.py"}", line 6, in <module>',
    ]
    assert stderr.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (Program("tell.py"), "there is no script tell.py. Did you mean tells.py?"),
        (Program("scripts"), "there is no script scripts (looked for {here}/scripts)."),
        (Program("json"), "there is no script json (looked for {here}/json). There is a module json: type -m json."),
        (Program("folder"), "folder cannot be run: can't find '__main__' module in '{here}/folder'."),
        (Program("no_such", module=True), "-m no_such cannot be run: No module named no_such."),
        (Program("json", module=True), "-m json cannot be run: No module named json.__main__; 'json' is a package and"),
    ],
    ids=str,
)
def test_what_cannot_be_run(program: Program, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not there is an error that names it, and what is there instead."""
    monkeypatch.chdir(SCRIPTS)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "orig_argv", sys.orig_argv)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    with pytest.raises(LoopscopeError) as caught:
        execute(program)
    assert str(caught.value).startswith(message.format(here=SCRIPTS))
    assert caught.value.exit_code == 2


def test_an_unreadable_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is an error that says so."""
    script = tmp_path / "secret.py"
    script.write_text("")

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open_code", refuse)
    with pytest.raises(LoopscopeError, match=r"secret\.py cannot be read \(Permission denied\)\. Give a "):
        execute(Program(str(script)))
