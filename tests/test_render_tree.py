"""The tree in a terminal: colours, signs, widths."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from loopscope.model import Binding, Event, Loop, Repeat, Scope, Step
from loopscope.render import Options, render
from loopscope.render.tree import renderable
from loopscope.views import view
from tests.loops import HERE, fit, reworded

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def drawn(loop: Loop, **options: object) -> str:
    return render("tree", view(loop), Options(here=HERE, **options))  # type: ignore[arg-type]


def printed(loop: Loop, encoding: str, width: int = 80) -> str:
    """What a stream of that encoding gets from rich."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=stream, width=width, force_jupyter=False, _environ={}).print(
        renderable(view(loop), Options(here=HERE))
    )
    stream.flush()
    return raw.getvalue().decode(encoding)


def small() -> Loop:
    """A loop in which nothing needs explaining."""
    scope = Scope("fit", (Step("train"), Event("after_fit")), repeat=Repeat(2, 2))
    return Loop("toy", "Learner", "fit", "learn.fit()", Scope("fit", (scope,)), Binding())


def test_colours_change_no_text() -> None:
    """In colour the same lines are printed as without."""
    coloured = drawn(fit(), width=80, color=True)
    assert coloured != drawn(fit(), width=80)
    assert ANSI.sub("", coloured) == drawn(fit(), width=80)


def test_ones_own_callback_stands_out() -> None:
    """The name of one's own callback is in bold magenta, one that never runs is struck through."""
    coloured = drawn(fit(), width=80, color=True)
    assert "\x1b[1;35m★ \x1b[0m\x1b[1;35mMine\x1b[0m" in coloured
    assert "\x1b[2;9mTrainEval\x1b[0m" in coloured


def test_a_loop_without_anything_odd_needs_no_legend() -> None:
    """Signs are explained, and footnotes made, only where there are any; a run that is one scope starts with it."""
    assert drawn(small()) == "learn.fit()  Learner, toy\nfit × 2\n├── · train\n└── after_fit\n"


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Where the encoding lacks the signs, the guides, arrows and marks are ASCII's."""
    shown = printed(fit(), "ascii")
    assert "|   |   |   `-- after_batch  / TrainEval [4] -> * Mine -> Recorder\n" in shown
    assert "! ends its scope early" in shown
    assert "batch x 10" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_name_that_the_terminal_lacks_is_escaped(encoding: str) -> None:
    """A callback with letters that the encoding lacks is printed, not an error."""
    shown = printed(reworded(fit(), lambda field, text: text.replace("Recorder", "Записыватель")), encoding, width=400)
    assert r"\u0417\u0430\u043f\u0438\u0441" in shown


def test_a_utf8_stream_gets_the_same_as_render() -> None:
    """What rich prints to a stream is what `render` returns."""
    shown = "".join(f"{line.rstrip()}\n" for line in printed(fit(), "utf-8").splitlines())
    assert shown == drawn(fit(), width=80)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_chains_break_between_handlers(width: int) -> None:
    """A chain of handlers that does not fit goes on below; no name that fits a line is cut."""
    shown = drawn(fit(), width=width)
    for name in ("TrainEval", "★ Mine", "Recorder", "Accumulate", "Tracker"):
        assert shown.count(name) == drawn(fit(), width=1000).count(name)


def test_what_follows_a_cancel_is_left_out_where_it_does_not_fit() -> None:
    """`then after_validate` stands on the line of its exception if there is room, and never on one of its own."""
    assert "✗ CancelValidateException → after_cancel_validate, then after_validate\n" in drawn(fit(), width=120)
    assert "✗ CancelValidateException → after_cancel_validate\n" in drawn(fit(), width=80)
