"""A method that is named like an event and is none: the framework does not call it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from loopscope import catalog
from loopscope.callbacks import Callback, Examined, Method
from loopscope.catalog.older import OLDER
from loopscope.checks.rule import Case, Rule
from loopscope.findings import Finding, Severity

RULE = Rule(
    name="unknown-event",
    severity="error",
    frameworks=("fastai", "lightning", "transformers", "keras"),
    needs="callbacks",
    says="a method is named like an event, and is none",
    why="A framework calls its events by their exact names and knows no others: it does not call a method with "
    "another name, and nothing says so.",
    do="Rename the method.",
    fires="""
        class Warm(Callback):
            def begin_fit(self): ...

        learn.add_cb(Warm())
        """,
    silent="""
        class Warm(Callback):
            def before_fit(self): ...

        learn.add_cb(Warm())
        """,
    threads=("fastbook#458", "pytorch-lightning#14834"),
)

THREADS: Mapping[str, tuple[str, ...]] = {"fastai": RULE.threads[:1], "lightning": RULE.threads[1:]}

PREFIXES = ("on_", "before_", "after_", "begin_")
"""How the names of events begin: a method that is named so is meant to be one."""

WORD = {"fastai": "fastai", "lightning": "Lightning", "transformers": "Transformers", "keras": "Keras"}


@dataclass(frozen=True, slots=True)
class _Meant:
    """What a name was meant to be: the events of this framework, why we think so, and how sure that is."""

    names: tuple[str, ...]
    fact: str
    severity: Severity = "error"
    instead: str = ""


def findings(case: Case) -> Iterator[Finding]:
    assert case.examined is not None
    framework = case.loop.framework
    known = _known(framework, case.examined)
    used: frozenset[str] | None = None
    for callback, method in case.examined.own():
        if method.name in known or not _may_be_meant(callback, method, framework, known):
            continue
        meant = _meant(method.name, framework, known)
        if meant is not None:
            used = frozenset(_used(case.examined)) if used is None else used  # to walk all sources takes a while
            if method.name not in used:
                yield _finding(callback, method, framework, meant)


def _finding(callback: Callback, method: Method, framework: str, meant: _Meant) -> Finding:
    names = " or ".join(meant.names)
    hint = f": its name there is {names}" if meant.severity == "error" else f": did you mean {names}?"
    return RULE.on(
        callback,
        method,
        f"{callback.cls}.{method.name} is no event of {WORD[framework]}, which never calls it{hint if names else ''}",
        "declared",
        severity=meant.severity,
        do=f"Rename it to {names}." if names else meant.instead,
        threads=THREADS.get(framework, ()),
        evidence=(meant.fact, f"nothing in the callbacks of this run calls {method.name}"),
    )


def _known(framework: str, examined: Examined) -> frozenset[str]:
    """Return all names that the framework calls, on whomever."""
    return frozenset(name.rpartition(".")[2] for name in (*examined.events, *catalog.framework(framework).events))


def _may_be_meant(callback: Callback, method: Method, framework: str, known: Iterable[str]) -> bool:
    """Return whether a method may be meant as an event, and does not override a shipped one."""
    if method.hides_shipped or any(one.endswith(".Strategy") for one in callback.classes):  # which has its own names
        return False
    name = method.name
    if name.startswith("_"):
        return False
    if name.startswith(PREFIXES) or name in OLDER.get(framework, {}):
        return True
    return len(name) >= SHORT and any(_is_next_to(name, one) for one in known if name != f"{one}s")


SHORT = 8
"""Below so many letters, a name that does not begin like an event may be one letter away from one by chance."""


def _used(examined: Examined) -> Iterator[str]:
    """Yield the names of all that the methods of the run's callbacks call or hand on by themselves."""
    for callback in examined.callbacks:
        for method in callback.methods:
            for node in ast.walk(method.node) if method.node is not None else ():
                if isinstance(node, ast.Attribute) and not _is_super(node.value):
                    yield node.attr


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


# -- what was meant ------------------------------------------------------------------------------------------


def _meant(name: str, framework: str, known: Iterable[str]) -> _Meant | None:
    """Return what a name was meant to be, None where it may be anything."""
    return _older(name, framework) or _foreign(name, framework) or _same(name, known) or _near(name, known)


def _older(name: str, framework: str) -> _Meant | None:
    found = OLDER.get(framework, {}).get(name)
    return None if found is None else _Meant(found.names, f"{name} was an event up to {found.until}")


def _foreign(name: str, framework: str) -> _Meant | None:
    """Return the same moment's events, if the name is, or was, one of another framework."""
    for other, theirs in _elsewhere(name):
        if other == framework:
            continue
        moment = _moment(theirs, other)
        fact = f"{name} is an event of {WORD[other]}" if theirs == name else f"{name} was an event of {WORD[other]}"
        here = catalog.framework(framework)
        names = _narrowed(name, here.moments.get(moment, ()))
        if moment and (names or moment in here.absent):
            return _Meant(
                names, f"{fact}: {moment}", "error" if _is_telling(name) else "warning", here.absent.get(moment, "")
            )
    return None


def _is_telling(name: str) -> bool:
    """Return whether a name can hardly be meant otherwise: `on_epoch_end`, not `on_save`."""
    return name.count("_") > 1 or not name.startswith("on_")


def _elsewhere(name: str) -> Iterator[tuple[str, str]]:
    """Yield each framework that has, or had, an event of a name, with what it is called there today."""
    yield from ((other, name) for other in WORD if name in catalog.framework(other).events)
    for other, names in OLDER.items():
        if name in names:
            yield other, names[name].names[0]


def _moment(event: str, framework: str) -> str:
    """Return the moment of an event: the last one in a training, else the last one there is."""
    found = [moment for moment, names in catalog.framework(framework).moments.items() if event in names]
    training = [one for one in found if not one.startswith(("validation", "prediction", "accumulated"))]
    return (training or found or [""])[-1]


def _narrowed(name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of several events that are named alike, all of them if none is."""
    return tuple(one for one in names if _spelt(one) == _spelt(name)) or names


def _same(name: str, known: Iterable[str]) -> _Meant | None:
    """Return the event that says the same in other words: `on_epoch_start` -> `on_epoch_begin`, `before_epoch`."""
    spelt = _spelt(name)
    names = tuple(sorted(one for one in known if one.startswith(PREFIXES) and _spelt(one) == spelt))
    if not spelt or not names:
        return None
    severity: Severity = "error" if name.startswith("on_") else "note"  # after_init may well be one's own
    return _Meant(names, f"{name} says in other words what {' and '.join(names)} says", severity)


ENDS: Mapping[str, str] = {
    **dict.fromkeys(("begin", "begins", "start", "starts", "before"), "begin"),
    **dict.fromkeys(("end", "ends", "finish", "finishes", "finished", "after", "done"), "end"),
}
PARTS: Mapping[str, str] = dict.fromkeys(("val", "valid", "validate", "validation", "eval"), "validation")


@functools.lru_cache(maxsize=1024)
def _spelt(name: str) -> tuple[str, ...]:
    """Return what a name says, and whether at its begin or its end: `("begin", "epoch")`; `()` if it says neither."""
    words = name.split("_")
    words = words[1:] if words[0] == "on" else words
    ends = [at for at in (0, len(words) - 1) if words and words[at] in ENDS]
    if not ends or len(words) < 2:
        return ()
    at = ends[-1]
    return (ENDS[words[at]], *(PARTS.get(word, word) for n, word in enumerate(words) if n != at))


LONG = 12
"""From so many letters on, two slips of the finger are told as surely as one, if they are in two words."""


def _near(name: str, known: Iterable[str]) -> _Meant | None:
    """Return the event that a name misspells; none where one of its words is a word that an event does not have."""
    if not WORDS.isdisjoint(name.split("_")):
        return None
    near = min(known, key=lambda one: (distance(name, one), one), default="")
    away = distance(name, near)
    if name.replace("_", "") == near.replace("_", ""):
        return _Meant((near,), f"{name} is {near} but for an underscore", "warning")
    if away <= (2 if len(name) >= LONG else 1) and _are_slips(name, near):
        return _Meant((near,), f"{name} differs from {near} in {away} letter{'s' * (away > 1)}")
    alike = get_close_matches(name, sorted(known), 1, 0.82)
    return _Meant(tuple(alike), f"{name} is spelt much like {alike[0]}", "note") if alike else None


def _are_slips(name: str, meant: str) -> bool:
    """Return whether each word of a name is one letter away from that of an event; a long one may be two."""
    words, others = name.split("_"), meant.split("_")
    if len(words) != len(others):
        return distance(name, meant) == 1
    return all(distance(a, b) <= (2 if len(b) >= SHORT else 1) for a, b in zip(words, others, strict=True))


WORDS = frozenset(
    (
        *("match", "patch", "catch", "watch", "latch", "branch"),  # batch
        *("trial", "trail", "trait", "brain", "drain"),  # train
        *("task", "text", "best", "rest", "list", "last", "cost", "post"),  # test
        *("fix", "hit", "bit", "set", "kit", "lot", "unit", "exit"),  # fit, log, init
        *("stop", "lost", "less", "class", "safe", "wave", "saved"),  # step, loss, save
        *("send", "restart", "stat", "stats", "status", "stage"),  # end, start, state
        *("reload", "upload", "unload", "grid", "pull", "mode", "node"),  # load, grad, push, model
    )
)
"""Words that are a letter or two away from one of an event: who types them means them."""


def _is_next_to(a: str, b: str) -> bool:
    """Return whether two names are one letter away from each other, or two that are swapped."""
    if a[:3] != b[:3] and a[-3:] != b[-3:]:  # most are not, which is told fast
        return False
    return distance(a, b) == 1


def distance(a: str, b: str) -> int:
    """Return how many letters were left out, added, changed or swapped between two names."""
    if abs(len(a) - len(b)) > 2:
        return 3
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            least = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return rows[-1][-1]
