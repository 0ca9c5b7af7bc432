"""The neutral model of a training loop: plain frozen data that no framework and no display knows about.

A `Loop` is a protocol (scopes, events and steps, as a tree) plus a binding (which handlers stand at each
event, in calling order). What can only be decided while training is kept as named *flags*: a guard or a
handler lists the flags that it needs, a handler lists the flags that it sets. `views.py` resolves them for
people to read, `parse.py` follows them along a real run. Constraint: standard library only, no behaviour
beyond small look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

Trust = Literal["declared", "inferred", "observed"]
"""Where a fact comes from: said by its author, read from source without running it, or seen in a run."""

Evidence = Literal["exact", "merged", "inferred"]
"""How a recorded call is known: as it was made; together with others that have the same name; put together from what
was seen around it."""

Flags: TypeAlias = Mapping[str, bool | None]
"""What is known of each flag: True, False, or None when only the run decides. A missing name means None."""


@dataclass(frozen=True, slots=True)
class Need:
    """One condition: `Need("training", True, "run_valid is False")`.

    `flag` must have `value`; `text` says in the framework's own terms why the thing is skipped otherwise.
    """

    flag: str
    value: bool = True
    text: str = ""

    def met(self, flags: Flags) -> bool | None:
        """Return whether it holds under `flags`: True, False, or None when only the run decides."""
        known = flags.get(self.flag)
        return None if known is None else known is self.value


@dataclass(frozen=True, slots=True)
class Place:
    """A line of source: `Place("/site-packages/fastai/learner.py", 187)`. Lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something said about a handler or an event, with how far it can be trusted.

    `kind` is `"doc"` (what its author wrote), `"effect"` (one line on what its source reads, writes, raises
    and calls), `"wait"` (why its source makes the host wait for the device) or `"note"` (anything else that a reader
    must know, such as a shadowing attribute).
    """

    kind: Literal["doc", "effect", "wait", "note"]
    text: str
    trust: Trust
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Raise:
    """An exception that a handler may raise, by class name, and when.

    `needs` are the flags under which it certainly does; `certain` is False where the source shows the raise
    behind a condition that no flag names, `when` then is that condition as written.
    """

    exception: str
    certain: bool = False
    needs: tuple[Need, ...] = ()
    when: str = ""


@dataclass(frozen=True, slots=True)
class Handler:
    """One callback's method at one event, at its place in the calling order.

    `id` is unique within a loop for one callback object (`"GradientClip#3"`), the same at all its events.
    `callback` is the class name, `label` how the object shows itself, `method` what is called.
    `origin` says how the callback came into the loop: `"learner"`, `"cbs"`, or `"added by lr_find"`.
    `reason` says in words why it stands where it stands. `needs` are the flags without which the framework
    skips it, `sets` the flags that change once it has run (None: to a value that only the run knows).
    `nested` names the fit-like calls that its source makes: loops inside this one. `evidence` says how a recording
    knows its calls. `inside` is what a call of it may fire by itself: events inside an event (a checkpoint that is
    saved asks everybody for their state).
    """

    id: str
    callback: str
    label: str
    event: str
    method: str
    reason: str
    origin: str = "learner"
    mine: bool = False
    place: Place | None = None
    facts: tuple[Fact, ...] = ()
    needs: tuple[Need, ...] = ()
    sets: tuple[tuple[str, bool | None], ...] = ()
    raises: tuple[Raise, ...] = ()
    nested: tuple[str, ...] = ()
    evidence: Evidence = "exact"
    inside: tuple[Node, ...] = ()

    def doc(self) -> str | None:
        """Return what the author declared, or None."""
        return next((f.text for f in self.facts if f.kind == "doc"), None)

    def effect(self) -> str | None:
        """Return what the source shows, as one line, or None."""
        return next((f.text for f in self.facts if f.kind == "effect"), None)


@dataclass(frozen=True, slots=True)
class Event:
    """A named point at which the framework calls its callbacks; `place` is the line that fires it.

    `how` says what a recording sees of it: `"calls"`, the calls and when each began and ended; `"edge"`, only a moment,
    the begin or the end of a call that encloses other events (`enclosing`); `"unseen"`, nothing where it has no
    handlers, so that it may be missing; `"apart"`, its calls are made by another thread, whenever that comes to it.
    """

    name: str
    place: Place | None = None
    needs: tuple[Need, ...] = ()
    how: Literal["calls", "edge", "unseen", "apart"] = "calls"


@dataclass(frozen=True, slots=True)
class Step:
    """What the framework itself does between two events, with the line where it does it.

    `name` is one of the loop's own words (`"forward"`, `"loss"`, `"backward"`, ...) or, for a statement that
    carries no such word, the source itself; `text` is the source line.
    """

    name: str
    text: str = ""
    place: Place | None = None
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Catch:
    """What a scope does with an exception raised in its body: fire `body`, then go on to its exit.

    `exceptions` are class names; `"*"` is any exception. With `then="raise"` the exception goes on outwards.
    """

    exceptions: tuple[str, ...]
    body: tuple[Node, ...] = ()
    then: Literal["exit", "raise"] = "exit"


@dataclass(frozen=True, slots=True)
class Repeat:
    """How often a scope runs: `Repeat(10, 10)`, or `Repeat(0, None, "n_epoch")` when only a name is known."""

    least: int
    most: int | None
    label: str = ""

    def __str__(self) -> str:
        if self.most is None:
            return self.label or "n"
        return str(self.most) if self.least == self.most else f"{self.least}–{self.most}"


ONCE = Repeat(1, 1)


@dataclass(frozen=True, slots=True)
class Turns:
    """A flag that follows from how often a scope was entered: `Turns("every=3", ((3, None, 3),))`.

    At each entry it becomes whether the number of that entry, counted from 1 over the whole run, is in one of `spans`:
    first, last (None: without end), step.
    """

    flag: str
    spans: tuple[tuple[int, int | None, int], ...]

    def at(self, entry: int) -> bool:
        """Return the flag's value from this entry on, up to the next one."""
        return any(
            first <= entry and (last is None or entry <= last) and (entry - first) % step == 0
            for first, last, step in self.spans
        )

    def steady(self, entry: int) -> int:
        """Return for how many entries from this one on the value is sure to be that of this one."""
        return min((_changes(span, entry) for span in self.spans), default=FAR) - entry


FAR = 1 << 62
"""More entries than any run has."""


def _changes(span: tuple[int, int | None, int], entry: int) -> int:
    """Return the first entry behind `entry` at which another may be in the span, or out of it."""
    first, last, step = span
    if entry < first:
        return first
    if last is not None and entry > last:
        return FAR
    if step == 1:
        return FAR if last is None else last + 1
    into = (entry - first) % step
    return entry + step - into if into else entry + 1


@dataclass(frozen=True, slots=True)
class Scope:
    """A stretch of the loop that can be entered, left and unwound.

    Each of its repetitions runs `before`, then `body`; an exception in `body` (only there) is looked up in
    `catches`; then comes `exit`, which with `always` also runs when an exception passes through (a `finally`).
    `sets` are flags that hold from its entry on, `last_sets` from the entry of its last repetition; `turns` are those
    that change with the number of its entries. `method` is the framework's method that it was read from.
    """

    name: str
    body: tuple[Node, ...]
    before: tuple[Node, ...] = ()
    catches: tuple[Catch, ...] = ()
    exit: tuple[Node, ...] = ()
    always: bool = False
    repeat: Repeat = ONCE
    needs: tuple[Need, ...] = ()
    sets: tuple[tuple[str, bool | None], ...] = ()
    last_sets: tuple[tuple[str, bool | None], ...] = ()
    turns: tuple[Turns, ...] = ()
    place: Place | None = None
    method: str = ""
    note: str = ""

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes of one repetition, in the order in which they stand: before, body, catches, exit."""
        yield from self.before
        yield from self.body
        for catch in self.catches:
            yield from catch.body
        yield from self.exit


Node: TypeAlias = Event | Step | Scope


OVER = " is over"


def over(event: str) -> str:
    """Return what the end of an enclosing call is called: `over("optimizer_step")`."""
    return f"{event}{OVER}"


def is_over(event: Event) -> bool:
    """Return whether an edge is the end of its call."""
    return event.name.endswith(OVER)


def enclosing(name: str, *body: Node, event: str = "", **more: Any) -> Scope:
    """Return the scope of a call that other events happen inside of: `enclosing("optimizer_step", Step("forward"))`.

    It begins with the event `event` (`name`, if that is not given), whose handler is the one that is called, and ends
    with `over(event)`, however it is left. `more` are further fields of `Scope`.
    """
    begins = event or name
    place = more.get("place")
    edges = Event(begins, place, how="edge"), Event(over(begins), place, how="edge")
    return Scope(name, body, before=edges[:1], exit=edges[1:], always=True, **more)


@dataclass(frozen=True, slots=True)
class Binding:
    """Which handlers stand at each event, in calling order; `resets` are flags that an event sets when it is over."""

    handlers: Mapping[str, tuple[Handler, ...]] = field(default_factory=lambda: MappingProxyType({}))
    resets: Mapping[str, tuple[tuple[str, bool | None], ...]] = field(default_factory=lambda: MappingProxyType({}))

    def at(self, event: str) -> tuple[Handler, ...]:
        """Return the handlers of `event`, in calling order; an event without any gives `()`."""
        return self.handlers.get(event, ())


@dataclass(frozen=True, slots=True)
class Loop:
    """Everything that one fit-like call will run.

    `framework` and `versions` say what was read; `subject` is the class of the learner or trainer, `call` how
    the run would be typed. `docs` describes each event in a sentence; `cancels` are the exceptions with which
    a handler can leave a scope on purpose; `swallowed` are exceptions that the framework's dispatch drops
    without a word (the remaining handlers of that event do not run). `outline` is the framework's own printed
    list of its loop, if it has one. `notes` are things that a reader of the map must know. `home` is the folder of the
    framework's own code: what stands elsewhere is an override. A run inside a handler of another run shares the flags
    of that one, unless it has `own_flags`.
    """

    framework: str
    subject: str
    run: str
    call: str
    root: Scope
    binding: Binding
    flags: Flags = field(default_factory=lambda: MappingProxyType({}))
    docs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cancels: tuple[str, ...] = ()
    swallowed: tuple[str, ...] = ()
    outline: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    home: str = ""
    own_flags: bool = False
