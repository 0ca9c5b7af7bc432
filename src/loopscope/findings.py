"""What a check says of a loop, one `Finding` each, and what a `Rule` says of itself: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from loopscope.model import Handler, Place, Trust

if TYPE_CHECKING:
    from loopscope.callbacks import Callback, Method

Severity = Literal["error", "warning", "note"]
"""`error`: the run fails, or does not do what its author wrote; `warning`: it probably does not, or will fail under a
condition; `note`: something to know, which is often as it should be."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a loop, or may be.

    `rule` is the name of the rule, `message` what is so here, in a sentence; `why` it matters, `do` what to type
    instead. `trust` says what it rests on at its weakest: what an author declared, what was read from source without
    running it, or what was seen. `callback` is the id of the callback (`"GradientClip#3"`, `""` for the loop as a
    whole), `event` and `method` where in it. `evidence` are the facts that it follows from, each in a line.
    `threads` are where users met it: `("fastai#3048",)`.
    """

    rule: str
    severity: Severity
    message: str
    why: str
    do: str
    trust: Trust
    callback: str = ""
    event: str = ""
    method: str = ""
    place: Place | None = None
    evidence: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()


Needs = Literal["loop", "callbacks", "recording"]
"""What a rule reads: the map alone, the callbacks' own code beside it, or what a run was recorded to do."""

ALL = ("fastai", "lightning", "transformers", "keras", "ignite")
"""For a rule that holds in every framework."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule says of itself: `Rule("dead-order", "warning", ("fastai",), "callbacks", says=..., why=..., do=...)`.

    `severity` is that of its findings, unless one says otherwise. `says` is one line on what it finds, `why` says why
    that matters, `do` what to type. `threads` are where users met it. `fires` and `silent` are short programs, as one
    would write them, for its page: the first has the fault, the second has not.
    """

    name: str
    severity: Severity
    frameworks: tuple[str, ...]
    needs: Needs
    says: str
    why: str
    do: str
    fires: str
    silent: str
    threads: tuple[str, ...] = ()

    def found(self, message: str, trust: Trust, **more: Any) -> Finding:
        """Return a finding of this rule; `more` are further fields of `Finding`, in place of the rule's own."""
        own = {"severity": self.severity, "why": self.why, "do": self.do, "threads": self.threads}
        return Finding(rule=self.name, message=message, trust=trust, **{**own, **more})

    def at(self, handler: Handler, message: str, trust: Trust, **more: Any) -> Finding:
        """Return a finding of this rule about a handler, at its place."""
        return self.found(message, trust, **{**of_handler(handler), **more})

    def of(self, callback: Callback, message: str, trust: Trust, **more: Any) -> Finding:
        """Return a finding of this rule about a callback as a whole."""
        return self.found(message, trust, **{"callback": callback.id, "place": callback.place, **more})

    def on(self, callback: Callback, method: Method, message: str, trust: Trust, **more: Any) -> Finding:
        """Return a finding of this rule about a method, whether an event calls it or not."""
        where = {"callback": callback.id, "method": method.name, "place": method.place}
        return self.found(message, trust, **{**where, **more})


def of_handler(handler: Handler) -> dict[str, Any]:
    place: Place | None = handler.place
    return {"callback": handler.id, "event": handler.event, "method": handler.method, "place": place}
