"""What loopscope says when it cannot do what was asked; each error carries the exit status of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LoopscopeError(Exception):
    """A question that cannot be answered: names what was given, what is accepted and what to type next."""

    exit_code = 2


class UnknownObject(LoopscopeError, TypeError):
    """The object is no learner or trainer of a framework that loopscope knows."""


class UnknownChoice(LoopscopeError, ValueError):
    """A name (of a run, a format, ...) that is not among the accepted ones."""

    @classmethod
    def of(cls, what: str, given: object, accepted: Iterable[str]) -> UnknownChoice:
        """Build the error: `UnknownChoice.of("run", "fitt", ["fit", "validate"])` suggests `fit`."""
        choices = list(accepted)
        near = difflib.get_close_matches(str(given), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"unknown {what} {given!r}.{hint} Accepted: {', '.join(choices)}.")


class BadCallback(LoopscopeError, TypeError):
    """Something passed as a callback that is none, or a class that cannot be built without arguments."""


class BadValue(LoopscopeError, ValueError):
    """A value outside what is accepted, such as a negative number of epochs."""


class UnknownVersion(LoopscopeError):
    """A framework that lacks what loopscope needs of it, or has it in another shape; nothing was changed of it."""
