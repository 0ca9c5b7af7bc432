"""The command line on an unchanged ignite script: shown before it runs, and recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks import need
from tests.test_cli import SCRIPTS, command, show

pytestmark = need("ignite")

TRAIN = "ignite_train.py"
TRAINED = "really trained"


@pytest.mark.parametrize(
    ("call", "head", "said"),
    [
        (
            "train",
            "engine.run(data, max_epochs=3)",
            ["epoch x 3", "batch x 4", "log (only every 3 iterations)", "validate"],
        ),
        ("evaluate", "engine.run(data)", ["MeanSquaredError", "batch x 4", "move to device, forward"]),
        ("predict", "engine.run(data)", ["batch x 4", "- forward"]),
    ],
)
def test_what_comes_first_is_shown_and_does_not_run(call: str, head: str, said: list[str]) -> None:
    """The first `Engine.run` of the script, whichever engine it is of."""
    status, out, err = show(TRAIN, call)
    assert out.startswith(head)
    assert [text for text in said if text not in out] == []
    assert TRAINED not in out
    assert err.endswith(": stopped here, before run ran.\n")
    assert status == 0


def test_where_would_mine_land() -> None:
    """`--cbs` takes a pair of an event and a function by its name in the script."""
    status, out, _ = show("--cbs", "__main__:MINE", TRAIN, "train")
    assert "EPOCH_COMPLETED: validate" in out
    assert "* lambda" in out
    assert (status, TRAINED in out) == (0, False)


def test_a_script_is_recorded(tmp_path: Path) -> None:
    """It trains as without loopscope; the report has the trainer, and its evaluator inside a handler of it."""
    file = tmp_path / "run.loop"
    status, out, err = command("run", "-o", str(file), str(SCRIPTS / TRAIN), "train")
    assert (status, TRAINED in out) == (0, True), err
    status, out, err = command("report", str(file))
    assert status == 0, err
    assert "engine.run(data, max_epochs=3) finished" in out
    assert "94 events and 19 handler calls placed, 0 unexpected" in out
    assert "exactly equal" in out


def test_an_error_still_raises(tmp_path: Path) -> None:
    """The script ends with its own traceback, the line says where, and the report has the call that raised."""
    file = tmp_path / "run.loop"
    status, out, err = command("run", "-o", str(file), str(SCRIPTS / TRAIN), "fail")
    assert (status, TRAINED in out) == (1, False)
    assert "ValueError: on purpose" in err
    where = "at Failing.__call__ (event ITERATION_COMPLETED, epoch 0, batch 1)"
    assert f"loopscope: ValueError left engine.run(data, max_epochs=3) {where}" in err
    assert "Failing.__call__ (raised ValueError)" in command("report", str(file))[1]
