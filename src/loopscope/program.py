"""Run a program as python would run it: `python SCRIPT.py ARGS`, or `python -m MODULE ARGS`.

Constraints: the program sees the `__main__`, `sys.argv` and `sys.path` that plain python gives it, and what it raises
looks as if python had run it. Known differences: loopscope's frames are below it on the stack, and what loopscope
imported (click, rich, wrapt) is imported already.
"""

from __future__ import annotations

import builtins
import functools
import importlib.util
import io
import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import SourceFileLoader

from loopscope.errors import LoopscopeError

OURS = frozenset({"loopscope.program", "loopscope.fitcalls", "loopscope.script", "loopscope.running"})
"""The modules whose frames stand between python and the program, or between the program and its framework."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: `Program("train.py", ("--lr", "3"))`, or `Program("package.train", module=True)` for `-m`."""

    target: str
    arguments: tuple[str, ...] = ()
    module: bool = False

    def __str__(self) -> str:
        return f"-m {self.target}" if self.module else self.target


def execute(program: Program) -> None:
    """Run `program` as `python TARGET ARGS` or `python -m TARGET ARGS` would; what it raises comes out of here.

    `__main__`, `sys.argv` and `sys.path[0]` become the program's and stay so: its threads and exit handlers go on after
    its last line. Should the exception end this process, python prints it without loopscope's frames.
    Raises `LoopscopeError` if there is no such program.
    """
    start = functools.partial(_run_module, program) if program.module else _start_of_file(program)
    sys.argv = [program.target, *program.arguments]
    sys.orig_argv = [sys.executable, *(["-m"] if program.module else []), *sys.argv]
    sys.modules["__main__"] = types.ModuleType("__main__")
    vars(sys.modules["__main__"]).update(__builtins__=builtins, __annotations__={})
    try:
        start()
    except BaseException as error:
        if raised_by_program(error):
            _show_as_python(error)
        raise


def raised_by_program(error: BaseException) -> bool:
    """Return whether the program itself raised `error`, which may well use loopscope, and not what runs it here."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return not isinstance(error, LoopscopeError) or (trace is not None and not _is_ours(trace))


def _start_of_file(program: Program) -> Callable[[], None]:
    path = _absolute(program.target)
    if not os.path.exists(path):
        raise LoopscopeError(_no_script(program.target))
    if pkgutil.get_importer(path) is not None:  # a folder or a zip file with a __main__.py
        return functools.partial(_run_folder, program, path)
    try:
        with io.open_code(path) as file:
            content = file.read()
    except OSError as error:
        raise LoopscopeError(f"{program.target} cannot be read ({error.strerror}). Give a Python script.") from None
    return functools.partial(_run_file, path, content)


def _no_script(target: str) -> str:
    folder, name = os.path.split(target)
    with suppress(OSError):
        files = [one for one in os.listdir(folder or ".") if one.endswith(".py")]
        if near := get_close_matches(name, files, n=1):
            return f"there is no script {target}. Did you mean {os.path.join(folder, near[0])}?"
    hint = ""
    with suppress(ImportError, ValueError, AttributeError):
        if target.isidentifier() and importlib.util.find_spec(target) is not None:
            hint = f" There is a module {target}: type -m {target}."
    return f"there is no script {target} (looked for {_absolute(target)}).{hint}"


def _run_file(path: str, content: bytes) -> None:
    _put_on_path(os.path.dirname(os.path.realpath(path)))
    main = vars(sys.modules["__main__"])
    main.update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    code = pkgutil.read_code(io.BytesIO(content)) or compile(content, path, "exec", dont_inherit=True)
    exec(code, main)


def _run_folder(program: Program, path: str) -> None:
    _put_on_path(path, even_if_safe=True)
    _run_as_main("__main__", program, alter_argv=False)


def _run_module(program: Program) -> None:
    _put_on_path(os.getcwd())
    sys.argv[0] = "-m"  # what python shows while the packages above the module are imported
    _run_as_main(program.target, program, alter_argv=True)


def _run_as_main(module: str, program: Program, alter_argv: bool) -> None:
    """Run what `python -m` itself runs: only it keeps `__main__`, `__spec__` and the traceback as they are there."""
    run: Callable[[str, bool], object] = runpy._run_module_as_main  # type: ignore[attr-defined]
    try:
        run(module, alter_argv)
    except SystemExit as end:
        trace = end.__traceback__ and end.__traceback__.tb_next
        if trace is None or trace.tb_next is not None:
            raise
        why = str(end.code).removeprefix(f"{sys.executable}: ")  # runpy's own: it found nothing to run
        raise LoopscopeError(f"{program} cannot be run: {why}. Give a script, or -m and a module.") from None


def _put_on_path(entry: str, even_if_safe: bool = False) -> None:
    """Replace the entry that python made for the `loopscope` command by the one that it makes for the program."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = entry
    elif even_if_safe:
        sys.path.insert(0, entry)


def _absolute(path: str) -> str:
    """Return the path as python makes `__file__` of it: the folder in front, nothing normalised."""
    bare = path == "." and sys.version_info >= (3, 11)  # 3.10 keeps the dot
    return os.getcwd() if bare else os.path.join(os.getcwd(), path)


def _show_as_python(error: BaseException) -> None:
    """Arm `sys.excepthook` so that `error`, should it end the process, is shown without loopscope's frames."""
    shown: list[tuple[BaseException, types.TracebackType | None]] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and all(one is not other for other, _ in shown):
            shown.append((one, _without_ours(one.__traceback__)))
            pending += [one.__cause__, one.__context__]
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], value: BaseException, trace: types.TracebackType | None) -> None:
        sys.excepthook = hook
        if value is error:
            for one, its_trace in shown:
                one.__traceback__ = its_trace
            trace = sys.last_traceback = error.__traceback__
        hook(kind, value, trace)

    sys.excepthook = excepthook


def _without_ours(trace: types.TracebackType | None) -> types.TracebackType | None:
    if trace is None:
        return None
    rest = _without_ours(trace.tb_next)
    if _is_ours(trace):
        return rest
    return types.TracebackType(rest, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)


def _is_ours(trace: types.TracebackType) -> bool:
    return trace.tb_frame.f_globals.get("__name__") in OURS
