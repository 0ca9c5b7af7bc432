"""The loop as JSON, whole and readable again: `docs/loop-json.md` names every field."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from loopscope.codec import decode, encode
from loopscope.errors import BadValue
from loopscope.findings import Finding
from loopscope.model import Loop
from loopscope.render import Options
from loopscope.views import Row, View

SCHEMA = "loopscope/loop"
VERSION = 1


def render(view: View, options: Options) -> str:
    """Return the whole loop and its tree of rows; there is nothing that `verbose` would add.

    What a check found stands behind them, where it found something.
    """
    whole = {"schema": SCHEMA, "version": VERSION, "loop": encode(view.loop), "tree": row(view.root)}
    if view.findings:
        whole["findings"] = [finding(one) for one in view.findings]
    return json.dumps(whole, indent=1) + "\n"


def finding(one: Finding) -> dict[str, Any]:
    """Return a finding with all its fields, by their names: docs/check-json.md describes them."""
    return {**dataclasses.asdict(one), "place": None if one.place is None else str(one.place)}


def load(text: str) -> Loop:
    """Return the loop that `render` wrote; raises `BadValue` for anything else."""
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise BadValue(f"this is no JSON ({error}). Give the text of a file saved as .json.") from None
    found = (whole.get("schema"), whole.get("version")) if isinstance(whole, dict) else (None, None)
    if found != (SCHEMA, VERSION):
        raise BadValue(f"expected schema {SCHEMA!r}, version {VERSION}; got {found[0]!r}, version {found[1]!r}.")
    try:
        loop = decode(whole["loop"], Loop)
    except (KeyError, TypeError, ValueError) as error:
        raise BadValue(f"the loop in this JSON is not complete ({type(error).__name__}: {error}).") from None
    assert isinstance(loop, Loop)
    return loop


def row(one: Row) -> dict[str, Any]:
    """Return a row with what is below it; a handler is named by its id in the binding."""
    neighbours = None if one.neighbours is None else encode(one.neighbours)
    return {
        "kind": one.kind,
        "name": one.name,
        "status": one.status,
        "why": one.why,
        "text": one.text,
        "place": encode(one.place),
        "repeat": encode(one.repeat),
        "handler": None if one.handler is None else one.handler.id,
        "neighbours": neighbours,
        "landings": {landing.exception: landing.scope for landing in one.landings},
        "children": [row(child) for child in one.children],
    }
