"""How a loop is put into words: what several formats say about a row, and how they shorten it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from loopscope.findings import SEVERITIES, Finding
from loopscope.model import ONCE, Loop, Place, Raise
from loopscope.views import Landed, Neighbours, Row, View, unplaced

LEGEND = (("says", "the docstring"), ("does", "read from the source, which was not run"))
UNCAUGHT = ("uncaught here", "what nothing would catch if it were raised at this event")


def legend(loop: Loop) -> tuple[tuple[str, str], ...]:
    """Return what the words in front of the lines of a verbose map mean, those of them that it can have."""
    return (*LEGEND, UNCAUGHT) if loop.cancels else LEGEND


PACKAGES = ("/site-packages/", "/dist-packages/")


def plain(text: str) -> str:
    """Return `text` on one line, with what does not print (control characters, halves of surrogate pairs) escaped."""
    words = " ".join(text.split())
    return words if words.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def name(row: Row) -> str:
    """Return the name of a row; `?` for one that has none."""
    return plain(row.name) or "?"


def summary(doc: str) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return plain(doc.strip().split("\n\n")[0])


def short(place: Place, here: str = "") -> str:
    """Return a place as one would type it: `fastai/learner.py:187`, or the path from the folder `here`."""
    file = _slashed(place.file)
    folder = _slashed(here).rstrip("/") + "/" if here else ""
    for packages in PACKAGES:
        if packages in file:
            return plain(f"{file.rpartition(packages)[2]}:{place.line}")
    return plain(f"{file.removeprefix(folder)}:{place.line}")


def _slashed(path: str) -> str:
    """Return a Windows path with slashes; elsewhere a backslash may be part of a name."""
    return path if "/" in path else path.replace("\\", "/")


def versions(loop: Loop) -> str:
    """Return what was read, in words: `Learner, fastai 2.8.12`."""
    return plain(f"{loop.subject}, {loop.framework} {loop.versions.get(loop.framework, '')}")


def times(row: Row) -> str:
    """Return how often a scope runs, `""` for once."""
    return "" if row.repeat in (None, ONCE) else plain(str(row.repeat))


def reason(row: Row, above: Row) -> str:
    """Return what the row's status depends on, `""` where the row above says it already."""
    if not row.why or (row.status, row.why) == (above.status, above.why):
        return ""
    why = plain(row.why)
    if row.kind == "cancel":
        return "" if row.status == "conditional" else why
    if row.status == "conditional" and not why.startswith("only"):
        return f"maybe skipped: {why}"
    return f"never: {why}" if row.status == "never" else why


def remarks(row: Row, event: Row, loop: Loop, verbose: bool = False) -> Iterator[str]:
    """Yield what a reader must know of a handler: which loops it runs, what it may raise, what is odd about it.

    Exceptions that end a scope on purpose, or that get lost, are always said; others with `verbose`.
    """
    assert row.handler is not None
    for raise_ in row.handler.raises:
        lands = _lands(raise_, event, loop)
        if lands or verbose:
            yield _raises(raise_) + lands
    for run in row.handler.nested:
        yield f"calls {plain(run)}(), a loop of its own"
    for fact in row.handler.facts:
        if fact.kind == "note":
            yield plain(fact.text)


def _raises(raise_: Raise) -> str:
    when = f" if {plain(raise_.when)}" if raise_.when else ""
    return f"{'raises' if raise_.certain else 'may raise'} {plain(raise_.exception)}{when}"


def _lands(raise_: Raise, event: Row, loop: Loop) -> str:
    if raise_.exception in loop.swallowed:
        return ": dropped without a word, the handlers after it are left out"
    for landing in event.landings:
        if landing.exception == raise_.exception:
            return (
                f": caught by {plain(landing.scope)}" if landing.scope else ": nothing catches it there, the run ends"
            )
    return ""


def uncaught(event: Row) -> str:
    """Return which cancel exceptions leave the run if they are raised at `event`: `all but CancelFitException`."""
    out = [plain(landing.exception) for landing in event.landings if landing.scope is None]
    kept = [plain(landing.exception) for landing in event.landings if landing.scope is not None]
    if len(out) <= len(kept):
        return braced(out)
    return f"all but {braced(kept)}" if kept else "every cancel exception"


def braced(names: Sequence[str]) -> str:
    """Return names as a shell would write them: `Cancel{Batch,Train}Exception`."""
    words = [re.findall("[A-Z]?[^A-Z]+|[A-Z]", name) for name in names]
    start = _alike(words)
    end = _alike([part[: start - 1 : -1] if start else part[::-1] for part in words])
    if len(names) < 2 or not start + end:
        return ", ".join(names)
    middles = ",".join("".join(part[start : len(part) - end]) for part in words)
    return f"{''.join(words[0][:start])}{{{middles}}}{''.join(words[0][len(words[0]) - end :])}"


def _alike(lists: Sequence[Sequence[str]]) -> int:
    """Return how many items the lists have in common at their start."""
    return len(list(takewhile(lambda items: len(set(items)) == 1, zip(*lists, strict=False))))


def origin(row: Row) -> str:
    """Return how a callback came into the loop, `""` where it is simply the learner's or trainer's own."""
    came = "learner" if row.handler is None else row.handler.origin
    return {**dict.fromkeys(("learner", "trainer", "model", "engine"), ""), "cbs": "from cbs="}.get(came, plain(came))


def stands(neighbours: Neighbours | None) -> str:
    """Return between which callbacks one stands: `after TrainEvalCallback, before Recorder`."""
    if neighbours is None or (neighbours.before is None and neighbours.after is None):
        return "alone"
    before = "first" if neighbours.before is None else f"after {plain(neighbours.before)}"
    after = "last" if neighbours.after is None else f"before {plain(neighbours.after)}"
    return f"{before}, {after}"


def yours(landed: Landed) -> str:
    """Return where one's own callback lands at one event: `first, before Recorder`, or `never: run is False`."""
    row = landed.row
    return f"never: {plain(row.why)}" if row.status == "never" else stands(row.neighbours)


def mine(landed: Landed) -> str:
    """Return which of one's own callbacks stands at which event: `SkipWildBatch at after_loss`."""
    event = "" if landed.row.handler is None else landed.row.handler.event
    return plain(f"{landed.row.name} at {event}")


def mine_inside(landed: Landed) -> str:
    """Return the same with the scopes around it, if there are any: `SkipWildBatch at after_loss in train > batch`."""
    where = inside(landed)
    return f"{mine(landed)} in {where}" if where else mine(landed)


def inside(landed: Landed) -> str:
    """Return the scopes around a place, without the outermost where there are many: `train > batch`."""
    return plain(" > ".join(landed.path[2:] if len(landed.path) > 3 else landed.path))


def onwards(row: Row, siblings: Sequence[Row]) -> str:
    """Return what follows once an exception has been caught: `then after_batch`; `row` is one of `siblings`."""
    at = next(i for i, other in enumerate(siblings) if other is row)
    after = [plain(other.name) for other in siblings[at + 1 :] if other.kind == "event" and "exit" in row.text]
    parts = [", ".join(after)] if after else []
    parts += ["on outwards"] if "raise" in row.text else []
    return ("then " if row.children and parts else "") + ", then ".join(parts)


def groups(rows: Sequence[Row]) -> Iterator[tuple[Row, ...]]:
    """Yield `rows` in order; steps in a row stand together, and so does what never runs for one and the same reason."""
    at = 0
    while at < len(rows):
        end = at + 1
        while end < len(rows) and _together(rows[at], rows[end]):
            end += 1
        yield tuple(rows[at:end])
        at = end


def _together(row: Row, other: Row) -> bool:
    if (row.status, row.why) != (other.status, other.why) or "cancel" in (row.kind, other.kind):
        return False
    return row.status == "never" or row.kind == other.kind == "step"


def counted(findings: Iterable[Finding]) -> str:
    """Return how many there are of each kind: `1 error, 2 notes`."""
    kinds = [one.severity for one in findings]
    counts = [(kinds.count(kind), kind) for kind in SEVERITIES]
    return ", ".join(f"{n} {kind}{'' if n == 1 else 's'}" for n, kind in counts if n) or "nothing found"


def found(view: View) -> Iterator[tuple[str, str]]:
    """Yield what a check found and no row shows, and how much it found in all, each behind what it is.

    Nothing where there is nothing above a note.
    """
    if all(one.severity == "note" for one in view.findings):
        return
    for one in unplaced(view):
        if one.severity != "note":
            yield one.severity, plain(f"{one.rule}: {one.message}")
    yield "check", f"{counted(view.findings)}; loopscope check says why, and what to type instead"
