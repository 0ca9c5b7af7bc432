"""One line for a reader, out of all that a function does: the most important first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from loopscope.effects.data import LONGEST, ROOM, Effect, Vocabulary
from loopscope.effects.names import OF_THE_LOOP, is_message
from loopscope.effects.text import cut_between, cut_short
from loopscope.effects.things import Found, Path, call_name


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a summary: a verb with what it is done to, under conditions; each part full, short and bare.

    `cut` makes a condition shorter.
    """

    rank: int
    verb: str
    parts: tuple[tuple[str, str, str], ...]
    conditions: tuple[str, ...] = ()
    each: str = ""
    cut: Callable[[str, int], str] = cut_short

    def text(self, level: int) -> tuple[str, str]:
        """Return it as text, and its condition as text; the higher the level, the more is left out."""
        parts = list(dict.fromkeys(forms[min(level, 2)] for forms in self.parts))
        most, longest, longest_each = _LIMITS[level]
        if len(parts) > most:
            parts = [*parts[:most], "…"]
        when = f"if {self.cut(' and '.join(self.conditions), longest)}" if self.conditions else ""
        return f"{self.verb} {', '.join(parts)}", " ".join(filter(None, (when, cut_short(self.each, longest_each))))

    @property
    def path(self) -> tuple[tuple[str, ...], str]:
        return self.conditions, self.each


_LIMITS = ((9, 90, 90), (4, 60, 64), (3, 40, 48), (1, 24, 40), (3, 24, 30), (3, 8, 24))
"""At each level: how many parts a clause names, how long its condition may be, how long what it is repeated for."""

RAISES, STEERS, LOOPS, CHANGES, TAKES, OUTSIDE, KEEPS, MESSAGES, ERRORS, READS = range(10)
"""What a summary says first: exceptions that steer the loop, flags and calls that do, loops inside this one, what is
done to the loop, what is taken from it, what is done outside, what the callback keeps, what is logged for people,
errors and what is done about them, what is only read."""


def summary(found: Sequence[Found], reads: Sequence[str], vocabulary: Vocabulary, all_told: bool) -> str:
    """Return what a function does in one line of about `LONGEST` characters; `""` if nothing is known.

    `all_told` says that the function does nothing else.
    """
    clauses = sorted(_clauses(found, vocabulary), key=lambda clause: clause.rank)
    if not clauses and reads and all_told:
        clauses = [Clause(READS, "only reads", tuple((text, text, text) for text in dict.fromkeys(reads)))]
    if not clauses:
        return "does nothing" if all_told else ""
    start, clauses = _shared(clauses)
    lines = Lines(start, clauses[:MOST_CLAUSES], len(clauses) > MOST_CLAUSES)
    clauses = clauses[:MOST_CLAUSES]
    levels = [0] * len(clauses)
    for least, level, first in _SHORTENING:
        for at in reversed(range(len(clauses))):
            if len(lines.line(levels)) <= (ROOM if least in (STEERS, CHANGES) and level > 2 else LONGEST):
                return lines.line(lines.fuller(levels))
            if clauses[at].rank >= least and (at == 0 if first is None else at > 0 or first):
                levels[at] = max(levels[at], level)
    line = lines.line(levels)
    return line if len(line) <= 2 * LONGEST else line[: 2 * LONGEST - 1].rstrip() + "…"


_OUT, MOST_CLAUSES = 9, 24
_SHORTENING = (
    (KEEPS, 1, True),
    (KEEPS, 2, True),
    (KEEPS, _OUT, False),
    (TAKES, 1, True),
    (CHANGES, 1, True),
    (TAKES, 2, False),
    (TAKES, 3, False),
    (CHANGES, 2, False),
    (TAKES, _OUT, False),
    (CHANGES, 2, True),
    (CHANGES, 3, False),
    (CHANGES, 4, None),
    (CHANGES, _OUT, False),
    (RAISES, 1, True),
    (RAISES, 2, True),
    (STEERS, 5, True),
)
"""How a line that is too long gets shorter, one clause after the other from its end: (from which rank on, to which
level, the first clause too or, with None, alone). A loop inside this one and an exception that steers the loop are
never left out; of flags and calls that steer it at least the names are told."""


class Lines:
    """The ways to write down some clauses, each clause at a level; a text is made only once."""

    def __init__(self, start: str, clauses: Sequence[Clause], more: bool) -> None:
        self.start, self.clauses, self.more = start, clauses, more
        self.texts: dict[tuple[int, int], tuple[str, str]] = {}

    def line(self, levels: Sequence[int]) -> str:
        """Join the clauses; neighbours under the same condition say it once, and `…` comes last."""
        always: set[str] = set()
        said: list[tuple[Clause, str, str]] = []
        for at, clause in enumerate(self.clauses):
            if levels[at] == _OUT:
                continue
            text, when = self.text(at, levels[at])
            if text in always:
                continue  # under whatever condition, it happens anyway
            if not when:
                always.add(text)
            if said and when and said[-1][0].path == clause.path:
                _, before, longer = said.pop()
                text, when = f"{before} and {text}", max(when, longer, key=len)
            said.append((clause, text, when))
        texts = list(dict.fromkeys(f"{text} {when}".rstrip() for _, text, when in said))
        left_out = (self.more or _OUT in levels) and not texts[-1].endswith(", …")
        return self.start + "; ".join([*texts, "…"] if left_out else texts)

    def text(self, at: int, level: int) -> tuple[str, str]:
        if (at, level) not in self.texts:
            self.texts[at, level] = self.clauses[at].text(level)
        return self.texts[at, level]

    def fuller(self, levels: list[int]) -> list[int]:
        """Return levels with those clauses back in, at their shortest, that there is room for."""
        for at, level in enumerate(levels):
            back = [*levels[:at], 3, *levels[at + 1 :]]
            if level == _OUT and len(self.line(back)) <= LONGEST:
                levels = back
        return levels


def _shared(clauses: Sequence[Clause]) -> tuple[str, list[Clause]]:
    """Say a condition that all clauses begin with once, in front: `if learn.training: `."""
    shared = _common([clause.conditions for clause in clauses]) if len(clauses) > 1 else ()
    rest = [replace(clause, conditions=clause.conditions[len(shared) :]) for clause in clauses]
    return (f"if {clauses[0].cut(' and '.join(shared), 60)}: " if shared else ""), rest


def _common(many: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shared = many[0]
    for texts in many:
        while texts[: len(shared)] != shared:
            shared = shared[:-1]
    return shared


def _clauses(found: Sequence[Found], vocabulary: Vocabulary) -> Iterator[Clause]:
    """Put together what has the same verb and condition, and what is done under one condition or another."""
    ranked = [(_rank(part, vocabulary), part) for part in found]
    values = [(part.value, rank) for rank, part in ranked if part.effect.kind == "writes"]
    calls = {call_name(part.effect.target) for _, part in ranked if part.effect.kind == "calls"}
    paths: dict[str, set[Path]] = {}
    for _, part in ranked:
        paths.setdefault(_chosen(part.effect), set()).add(part.path)
    grouped: dict[tuple[int, str, object], list[Found]] = {}
    for rank, part in ranked:
        item = part.effect
        if item.kind == "calls" and any(item.target in value and rank >= above for value, above in values):
            continue  # it is seen in what is assigned
        if rank == KEEPS and item.kind == "writes" and part.value.endswith(")") and call_name(part.value) in calls:
            grouped.setdefault((rank, "sets", (part.path.texts(), part.path.each)), []).append(replace(part, value=""))
            continue  # its value is seen in what is called
        reached = paths[_chosen(item)]
        once = item.kind == "calls" and not any(path.each for path in reached)
        choice = item.kind == "raises" or part.steers or once
        several = choice and item.how != "assert" and len(reached) > 1
        key = _chosen(item) if several else (part.path.texts(), part.path.each)
        grouped.setdefault((rank, _verb(part, vocabulary), key), []).append(part)
    cut = cut_short if vocabulary.owners else cut_between
    for (rank, verb, _), parts in grouped.items():
        yield Clause(rank, verb, tuple(dict.fromkeys(map(_part, parts))), _either_of(parts), _each_of(parts), cut)


def _chosen(item: Effect) -> str:
    return call_name(item.target) if item.kind == "calls" else f"{item.kind} {item.target}"


def _either_of(parts: Sequence[Found]) -> tuple[str, ...]:
    """Return the conditions under which one of several happens: what they share, then one `or` the other."""
    many = list(dict.fromkeys(part.path.texts() for part in parts))
    if parts[0].effect.how == "assert":
        return many[0][:-1]
    if len(many) == 1:
        return many[0]
    shared = _common(many)
    rest = [" and ".join(texts[len(shared) :]) for texts in many]
    either = " or ".join(dict.fromkeys(rest))
    return shared if "" in rest else (*shared, f"({either})" if shared else either)


def _each_of(parts: Sequence[Found]) -> str:
    found = {part.path.each for part in parts}
    return " ".join(found.pop()) if len(found) == 1 else ""


def _rank(found: Found, vocabulary: Vocabulary) -> int:
    item = found.effect
    if item.kind == "raises":
        return ERRORS if item.on == "callback" else RAISES
    if found.steers:
        return STEERS
    if any(each.startswith("on ") for each in found.path.each):
        return ERRORS
    if found.method in vocabulary.loops:
        return LOOPS
    held = item.kind == "calls" and item.on in OF_THE_LOOP and item.target.startswith("self.") and not found.framework
    if found.taken or held:
        return TAKES
    if item.kind == "returns":
        return CHANGES if found.value.lstrip("-").isalnum() else KEEPS
    if item.on == "outside":
        return MESSAGES if item.kind == "calls" and is_message(call_name(item.target)) else OUTSIDE
    return CHANGES if item.on in OF_THE_LOOP else KEEPS


_VERBS = {"=": "sets", "append": "appends", "add": "adds", "extend": "extends", "update": "updates"}


def _verb(found: Found, vocabulary: Vocabulary) -> str:
    item = found.effect
    if item.how == "assert":
        return "asserts"
    if item.kind == "raises":
        return "always raises" if found.path.certain else "raises"
    if item.kind == "calls":
        named = {"__enter__": "enters", "__exit__": "leaves"}.get(item.how)
        loop = found.method in vocabulary.loops
        return named or ("runs" if loop else "prints" if item.target == "print" else "calls")
    if item.kind == "returns":
        return "returns"
    return "deletes" if item.kind == "deletes" else _VERBS.get(item.how, "changes")


def _part(found: Found) -> tuple[str, str, str]:
    """Return what follows the verb: in full, short and bare."""
    item, value = found.effect, found.value
    if item.how == "assert":
        return value, cut_short(value, 40), cut_short(value, 40)
    if item.target == "print":
        return "a message", "a message", "a message"
    if item.kind == "returns":
        forms = [_kept(value, longest) or item.target for longest in (60, 28, 0)]
        return forms[0], forms[1], forms[2]
    if item.how in ("__enter__", "__exit__"):
        return (call_name(item.target).rpartition(".")[0],) * 3
    if item.how in ("append", "add"):
        forms = [f"{_kept(value, longest) or 'a value'} to {item.target}" for longest in (80, 40, 24)]
        return forms[0], forms[1], forms[2]
    if item.kind == "calls":
        name = call_name(item.target)
        first = re.match(r"\('[^']{1,16}', ", item.target[len(name) :])
        short = f"{name}{first.group()}…)" if first else f"{name}(…)"
        bare = item.target if len(item.target) - len(name) <= 12 else f"{name}(…)"
        return item.target, bare if bare == item.target else short, bare
    if item.kind == "writes" and item.how == "=":
        return _assignment(item, _kept(value, 60)), _assignment(item, _kept(value, 28)), item.target
    if item.kind == "writes" and item.how.endswith("="):
        forms = [f"{item.target} {item.how} {_kept(value, longest) or '…'}" for longest in (60, 28, 0)]
        return forms[0], forms[1], forms[2]
    return item.target, item.target, item.target


def _assignment(item: Effect, value: str) -> str:
    return f"{item.target} {item.how} {value}" if value else item.target


def _kept(value: str, longest: int) -> str:
    """Return a value if it is short, a call without its arguments if those make it long, or nothing."""
    if len(value) <= longest:
        return value
    name = call_name(value)
    is_call = value.endswith(")") and name.replace(".", "").isidentifier()
    return f"{name}(…)" if is_call and len(name) + 3 <= longest else ""
