"""The smallest parts of a protocol: an event where Lightning calls a hook, a call that encloses others, a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopscope.adapters.lightning.given import Given
from loopscope.adapters.lightning.hooks import HOOKS, QUIET
from loopscope.adapters.lightning.sites import Site, text
from loopscope.model import Event, Need, Node, Place, Scope, Step, enclosing

AGAIN = Need("the loaders are not there yet", True, "a tuner has asked for them already")
"""The condition on which loaders are asked for where a tuner may have asked for them."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Makes the nodes of one run: `Nodes(given).event("on_fit_start")`.

    `handled` are the events at which somebody does something: such an event is seen by a recording in any case.
    `tuned` says that a tuner trains inside of a handler, which may have asked for loaders already.
    """

    given: Given
    handled: frozenset[str] = frozenset()
    tuned: bool = False

    def place(self, name: str, site: Site | None = None) -> Place | None:
        """Return the line that fires an event; `site` is a function that fires it instead of the usual one."""
        hook = HOOKS[name]
        where = site or hook.site
        package = self.given.package
        return where.calls(package, hook.by) if hook.by else where.fires(package, hook.method or name)

    def event(self, name: str, *needs: Need, site: Site | None = None) -> Event:
        if self.tuned and name.endswith("_dataloader"):
            needs = (*needs, AGAIN)
        seen = name not in QUIET or (name in self.handled and name != "on_load_checkpoint")
        seen = seen or (name == "on_exception" and self.given.datamodule is not None)
        return Event(name, self.place(name, site), needs, "calls" if seen else "unseen")

    def around(self, name: str, *body: Node, site: Site | None = None, **more: Any) -> Scope:
        """Return the scope of a call that encloses `body`; `more` are further fields of `Scope`."""
        where = site or HOOKS[name].site
        return enclosing(name, *body, place=self.place(name, site), method=where.function, **more)

    def step(self, name: str, module: str, function: str, call: str, *needs: Need) -> Step:
        """Return what the framework does itself in a line that calls `call`."""
        place = Site(module, function).calls(self.given.package, call)
        return Step(name, text(place) or call, place, needs)
