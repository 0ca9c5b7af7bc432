"""What loopscope says of every handler that fastai ships: one line each, kept in golden/fastai-handlers.txt."""

from __future__ import annotations

from collections.abc import Callable

from tests.frameworks import need

pytestmark = need("fastai")

import fastai

from loopscope.adapters.fastai.vocabulary import VOCABULARY
from loopscope.effects import LONGEST, ROOM, Effects, effects
from tests.fastai_all import callbacks, handlers

READ = "2.8.12"
"""The fastai version that the golden was read against, line by line."""

TAKES = ("append", "extend", "add", "update", "+=")


def everything() -> list[tuple[str, Effects]]:
    """`[("GradientClip.before_step", Effects(...)), ...]`, sorted by module, class and event."""
    return [
        (f"{cls.__name__}.{event}", effects(function, cls, VOCABULARY))
        for cls in callbacks()
        for event, function in handlers(cls)
    ]


def says_something_of_the_loop(done: Effects) -> bool:
    """Whether it does something to the loop or outside, steers it, or takes from it what it keeps."""
    for item in done.items:
        if item.kind != "reads" and (item.on != "callback" or item.kind == "raises"):
            return True
        if item.how in TAKES and any(other.kind == "reads" for other in done.items):
            return True
    return False


def test_every_shipped_handler_is_described(golden: Callable[[str, str], None]) -> None:
    """Each of the 138 handlers of fastai's 47 callback classes has its line, and the lines are those that were read."""
    found = everything()
    if fastai.__version__ == READ:
        assert (len(callbacks()), len(found)) == (47, 138)
        golden("fastai-handlers.txt", "".join(f"{name} | {done.summary}\n" for name, done in found))
    assert [name for name, done in found if not done.summary] == []


def test_nine_of_ten_handlers_say_something_of_the_loop() -> None:
    """At least 90 % of the lines are about learner, model, optimizer, loss, data, an exception or the outside."""
    found = everything()
    said = [name for name, done in found if says_something_of_the_loop(done)]
    assert len(said) >= 0.9 * len(found), sorted({name for name, _ in found} - set(said))


def test_lines_are_short() -> None:
    """A line is longer than `ROOM` only where it names several exceptions or loops, which are never left out."""
    found = everything()
    if fastai.__version__ == READ:
        assert [name for name, done in found if len(done.summary) > ROOM] == ["ShortEpochCallback.after_batch"]
    assert sum(len(done.summary) > LONGEST for _, done in found) < 0.1 * len(found)


def test_reading_twice_gives_the_same() -> None:
    """A handler that has been read before is not read again: the very same object comes back."""
    assert all(one is other for (_, one), (_, other) in zip(everything(), everything(), strict=True))
