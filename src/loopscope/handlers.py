"""What every adapter says of a handler in the same way: its place, what its author and its source say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loopscope.effects import Effects, Vocabulary, effects
from loopscope.model import Fact, Place, Raise
from loopscope.source import doc, place
from loopscope.waits import waits


@dataclass(frozen=True, slots=True)
class Said:
    """What can be read of one handler; `effects` is what its source does, whole."""

    place: Place | None
    facts: tuple[Fact, ...]
    raises: tuple[Raise, ...]
    nested: tuple[str, ...]
    effects: Effects


def said(
    target: object,
    owner: type | None,
    vocabulary: Vocabulary,
    *,
    waiting: Mapping[str, str],
    notes: Iterable[str] = (),
    passed: Sequence[str] = (),
) -> Said:
    """Return what `target`, called as a handler of a callback of class `owner`, says and does; nothing is run.

    `owner` is None for a plain function. `waiting` are the framework's functions that wait for the device -> how,
    `notes` what the adapter itself knows of the handler, `passed` what the framework gives it by place:
    `said(Mine.on_step_end, Mine, VOCABULARY, waiting={}, passed=("args", "state", "control")).facts`.
    """
    done = effects(target, owner, vocabulary, passed=passed)
    facts = tuple(_facts(target, owner or object, done, waiting, notes))
    raises = tuple(Raise(one.target, one.certain, (), one.when) for one in done.items if one.kind == "raises")
    return Said(place(target), facts, raises, done.nested(vocabulary.loops), done)


def _facts(
    target: object, owner: type, done: Effects, waiting: Mapping[str, str], notes: Iterable[str]
) -> Iterator[Fact]:
    if declared := doc(target):
        yield Fact("doc", declared, "declared")
    if done.summary:
        yield Fact("effect", done.summary, "inferred")
    if reason := waits(target, owner, waiting):
        yield Fact("wait", reason, "inferred")
    yield from (Fact("note", note, "inferred") for note in notes)
