"""What a function says: its docstring, its place and its syntax tree, read from source and never by running it.

Whatever object it is given, nothing here raises; what cannot be read gives None. A source file that has changed since
the function was made gives None too, rather than a function that only stands where this one stood.
"""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import linecache
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType
from typing import Any

from loopscope.model import Place

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True, slots=True)
class Syntax:
    """A function's syntax tree with its file; line numbers in `node` are those of the file."""

    function: FunctionType
    node: FunctionNode
    file: str


def doc(function: object) -> str | None:
    """Return what the function's author wrote about it: `doc(cb.before_fit)` -> `"Set the counters to 0"`.

    Read when asked, since a docstring may be attached outside the body. A partial's own is functools' text, so that of
    the function under it counts; a method without a docstring has none, whatever the method says that it overrides.
    """
    for inner in _layers(function):
        if isinstance(getattr(inner, "__func__", inner), (functools.partial, functools.partialmethod)):
            continue
        text = _attribute(inner, "__doc__")
        if isinstance(inner, type) or callable(inner) or isinstance(inner, (staticmethod, classmethod)):
            return _stripped(text) if _is_own_doc(inner, text) else None
    return None


def place(function: object) -> Place | None:
    """Return the line of the `def`: `place(cb.before_fit)` -> `Place("/site-packages/fastai/callback/core.py", 88)`.

    Also where the file cannot be read; None for what has no file: built-in, or typed at a prompt.
    """
    plain = unwrap(function)
    if plain is None:
        plain = unwrap(_attribute(type(function), "__call__")) if not isinstance(function, type) else None
    if plain is None or not _is_file(plain.__code__.co_filename):
        return None
    found = syntax(plain)
    return Place(plain.__code__.co_filename, plain.__code__.co_firstlineno if found is None else found.node.lineno)


def unwrap(function: object, through_wraps: bool = True) -> FunctionType | None:
    """Return the Python function under bound methods, partials and `functools.wraps`, or None if there is none.

    Without `through_wraps` it is the wrapper that a decorator made, which is what really runs.
    """
    for inner in _layers(function):
        if isinstance(inner, FunctionType) and not _is_passed_over(inner, through_wraps):
            return inner
    return None


def is_lasting(function: object) -> bool:
    """Return whether one may keep `function` in a cache: it holds no object of a program's, as a bound method does."""
    if not isinstance(function, FunctionType):
        return False
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            return False
    return all(isinstance(one, (type, str, int, float, type(None))) for one in held)


STANDS_IN = "__loopscope_stands_in__"
"""Set on a function of loopscope's that stands in for the one it wraps, to its own code: others copy attributes."""


def _is_passed_over(function: FunctionType, through_wraps: bool) -> bool:
    own = function.__dict__
    return own.get("__wrapped__") is not None and (through_wraps or own.get(STANDS_IN) is function.__code__)


def syntax(function: object, through_wraps: bool = True) -> Syntax | None:
    """Return the syntax tree of `function`, or None where its source cannot be read (typed at a prompt, C)."""
    plain = unwrap(function, through_wraps)
    if plain is None:
        return None
    code = plain.__code__
    file = _file(code.co_filename)
    if code not in file.nodes:  # equal code at the same line of one file is the same function
        file.nodes[code] = file.find(code)
    node = file.nodes[code]
    return None if node is None else Syntax(plain, node, code.co_filename)


def _layers(function: object) -> Iterator[object]:
    """Yield `function` and, one by one, what it wraps."""
    for _ in range(100):  # a wrapper that names itself must not hang us
        yield function
        if isinstance(function, (MethodType, staticmethod, classmethod)):
            function = function.__func__
        elif isinstance(function, (functools.partial, functools.partialmethod)):
            function = function.func
        elif isinstance(function, FunctionType) and function.__dict__.get("__wrapped__") is not None:
            function = function.__dict__["__wrapped__"]
        else:
            return


def _attribute(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # a user's __getattr__ or __doc__ may do anything
        return None


def _stripped(text: object) -> str | None:
    return (inspect.cleandoc(text).strip() or None) if isinstance(text, str) else None


def _is_own_doc(inner: object, text: object) -> bool:
    """Return whether a docstring is this object's: an instance shows that of its class, a class that of its base."""
    if isinstance(inner, (FunctionType, MethodType, type(len), staticmethod, classmethod)):
        return True
    if isinstance(inner, type):
        return inner.__dict__.get("__doc__") is text
    return not (isinstance(text, str) and text == _attribute(type(inner), "__doc__"))


def _is_file(name: str) -> bool:
    return not (name.startswith("<") and name.endswith(">"))


@dataclass(slots=True)
class _File:
    """One file's text, and the functions of it that were asked for."""

    name: str
    lines: list[str]
    nodes: dict[CodeType, FunctionNode | None] = field(default_factory=dict)
    whole: dict[tuple[int, str], list[FunctionNode]] | None = None

    def find(self, code: CodeType) -> FunctionNode | None:
        """Return the node that `code` was compiled from, or None if there is none or more than one may be it."""
        if not self.lines:
            return None
        key = code.co_firstlineno, code.co_name
        if code.co_name != "<lambda>":
            node = self.block(code)
            if node is not None and (_first(node), node.name) == key and _made_from(code, node):
                return node
        if self.whole is None:
            self.whole = _functions(_parsed("".join(self.lines)))
        return _only([node for node in self.whole.get(key, ()) if _made_from(code, node)], code)

    def block(self, code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """Parse only the lines of one function, a small part of its file: ten times faster than all of it.

        The code's last line may lie inside a statement that ends later, hence the attempts with more lines.
        """
        first, last = code.co_firstlineno, _last_line(code)
        if not 0 < first <= len(self.lines):
            return None
        indented = self.lines[first - 1][:1].isspace() and first > 1
        start = "\n" * (first - 2) + "if 1:\n" if indented else "\n" * (first - 1)
        for end in range(last, min(last + 8, len(self.lines)) + 1):
            tree = _parsed(start + "".join(self.lines[first - 1 : end]))
            if tree is not None and tree.body:
                node = tree.body[0].body[0] if indented and isinstance(tree.body[0], ast.If) else tree.body[0]
                return node if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else None
        return None


def _last_line(code: CodeType) -> int:
    own = max((line for *_, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    return max([own, *(_last_line(part) for part in code.co_consts if isinstance(part, CodeType))])


_FILES: dict[str, _File] = {}


def _file(name: str) -> _File:
    """Return what is known of a file; anew when `linecache` holds another text of it."""
    lines = linecache.getlines(name)
    known = _FILES.get(name)
    if known is None or (known.lines is not lines and known.lines != lines):
        known = _FILES[name] = _File(name, lines)
    return known


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():  # of what a user's source holds: that is not ours to say again
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _functions(tree: ast.Module | None) -> dict[tuple[int, str], list[FunctionNode]]:
    """Map (first line, name) to the functions and lambdas that start there, decorators included."""
    found: dict[tuple[int, str], list[FunctionNode]] = defaultdict(list)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Lambda):
            found[node.lineno, "<lambda>"].append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[_first(node), node.name].append(node)
    return found


def _first(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the line that a function's code gives as its first: that of its first decorator."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _only(found: list[FunctionNode], code: CodeType) -> FunctionNode | None:
    """Return the one lambda that `code` is; several on one line are told apart by column, from Python 3.11 on."""
    if len(found) > 1 and sys.version_info >= (3, 11):
        spans = {position[:1] + position[2:] for position in code.co_positions()}
        found = [node for node in found if _span(node.body) in spans]
    return found[0] if len(found) == 1 else None


def _span(node: Any) -> tuple[int, int, int]:
    return node.lineno, node.col_offset, node.end_col_offset


def _made_from(code: CodeType, node: FunctionNode) -> bool:
    """Return whether `code` can be compiled from `node`: same arguments, and every name and constant of the source.

    The code may have more than the source shows: pytest rewrites assertions.
    """
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    if [_plain(name) for name in code.co_varnames[:count]] != [_plain(name) for name in arguments]:
        return False
    compiled = _compiled(node, code.co_flags & __future__.annotations.compiler_flag)
    if compiled is None:
        return True
    names, constants = _names(compiled), _constants(compiled)
    return names <= _names(code) and constants <= _constants(code)


def _compiled(node: FunctionNode, flags: int) -> CodeType | None:
    """Return the code of `node` by itself, or None where that cannot be had (it has a `nonlocal`)."""
    if isinstance(node, ast.Lambda):
        module = ast.Module([ast.copy_location(ast.Expr(node), node)], [])
    else:
        plain = type(node)(**{**vars(node), "decorator_list": []})
        module = ast.Module([plain], [])
    try:
        outer = compile(module, "<check>", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
    return next((part for part in outer.co_consts if isinstance(part, CodeType) and part.co_name == name), None)


def _names(code: CodeType) -> set[str]:
    return {_plain(name) for name in (*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars)}


def _constants(code: CodeType) -> set[str]:
    """Return a function's literals; without those in which Python 3.10 keeps the qualified names of inner functions."""
    texts = (_text(part) for part in code.co_consts if not isinstance(part, CodeType))
    return {text for text in texts if ".<locals>." not in text}


def _text(constant: object) -> str:
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


def _plain(name: str) -> str:
    """Return a name as written: `__x` for the `_Class__x` that a class body makes of it."""
    return re.sub(r"^_[^_]\w*?(__\w+)$", r"\1", name) if name.startswith("_") and not name.endswith("__") else name
