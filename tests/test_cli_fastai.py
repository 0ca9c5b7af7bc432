"""The command line on real fastai scripts: the loop of the call that comes first, whichever it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.frameworks import need
from tests.test_cli import SCRIPTS, command, show

pytestmark = need("fastai")

TRAIN = "fastai_train.py"
TRAINED = "really trained"


@pytest.mark.parametrize(
    ("call", "head", "said"),
    [
        ("fit", "learn.fit(3, cbs=[EarlyStoppingCallback])", ["epoch x 3", "EarlyStoppingCallback"]),
        ("fit_one_cycle", "learn.fit_one_cycle(4, lr_max=0.1)", ["epoch x 4", "ParamScheduler"]),
        ("fine_tune", "learn.fine_tune(2, freeze_epochs=3, cbs=[Early", ["- freeze", "epoch x 3", "epoch x 2"]),
        ("lr_find", "learn.lr_find(num_it=30)", ["LRFinder", "after 30 batches"]),
        ("validate", "learn.validate(cbs=[EarlyStoppingCallback])", ["validate", "batch x 2", "EarlyStoppingCallback"]),
        ("get_preds", "learn.get_preds(ds_idx=0)", ["GatherPredsCallback", "batch x 10"]),
    ],
)
def test_each_call_that_may_come_first(call: str, head: str, said: list[str]) -> None:
    """What is shown is that very call: its epochs, its one-off callbacks and those that it adds; it does not run."""
    status, out, err = show(TRAIN, call)
    assert out.startswith(head)
    assert [text for text in said if text not in out] == []
    assert TRAINED not in out
    assert err.startswith(f"{SCRIPTS / TRAIN}:")
    assert err.endswith(f": stopped here, before {call} ran.\n")
    assert status == 0


def test_a_learner_with_a_fit_of_its_own() -> None:
    """An override of fit is shown as called, read from the override, of which nothing has run."""
    status, out, _ = show(TRAIN, "own")
    assert out.startswith("learn.fit(cbs=[Mine])")
    assert "epoch x 6" in out
    assert "Own has its own fit (fastai_train.py:" in out
    assert "an own fit begins" not in out
    assert (status, TRAINED in out) == (0, False)


def test_where_would_mine_land() -> None:
    """`--cbs` takes a class of the script itself and one of fastai's, and shows where both land."""
    names = "__main__:Mine", "fastai.callback.training:ShortEpochCallback"
    status, out, _ = show("--cbs", names[0], TRAIN, "fit", "--cbs", names[1])
    assert out.startswith("learn.fit(3, cbs=[EarlyStoppingCallback, Mine, ShortEpochCallback])")
    assert "* Mine" in out
    assert "* ShortEpochCallback" in out
    assert (status, TRAINED in out) == (0, False)


def test_what_is_no_callback() -> None:
    """A class that is no callback is refused by fastai's own rule, and the call does not run either."""
    status, out, err = show(TRAIN, "validate", "--cbs", "fastai.learner:Learner")
    assert (status, out) == (2, "")
    assert "Error: the class Learner is no fastai callback. Accepted: " in err


def test_the_demo(golden: Callable[[str, str], None]) -> None:
    """The demo shows the loop of a real learner, with a callback of one's own marked, and says what to type next."""
    status, out, err = command("demo")
    golden("cli-demo.txt", out + err)
    assert status == 0


def test_the_demo_of_another_run() -> None:
    """The demo takes another run, another format, and more detail."""
    status, out, err = command("demo", "--run", "fine_tune", "--format", "text", "--verbose")
    assert out.startswith("learn.fine_tune(4, cbs=[SkipWildBatch])")
    assert "says: Leave out" not in out
    assert "raises CancelBatchException" in out
    assert "loopscope show train.py" in err
    assert status == 0
