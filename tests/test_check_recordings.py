"""`loopscope check run.loop`: whatever was recorded, and in whatever state its file is."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loopscope
from loopscope import checks
from loopscope.checked import check_recording
from loopscope.cli import main
from loopscope.errors import LoopscopeError, UnknownChoice
from tests.checks.costly import FRAMEWORKS, run
from tests.test_recording import BAD
from tests.test_recording_fuzz import MUTATIONS

HERE = Path(__file__).parent
FASTAI = {path.stem: path for path in (HERE / "fastai_recordings").glob("*.loop")}
LOOPLESS = {path.stem: path for path in (HERE / "recordings").glob("*.loop")}
COST = ["slow-handler", "growing-handler", "data-wait"]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit status of `loopscope check ...`, and what it prints; in this process, which has all imported."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["loopscope", "check", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), "".join(capsys.readouterr())

    return run


# -- files that users hold ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FASTAI)
def test_every_rule_reads_every_recording(name: str) -> None:
    """No rule raises on a recording that was closed, left by an exception or killed, wherever it was made."""
    assert not loopscope.check(FASTAI[name], select=checks.TABLE).failed


@pytest.mark.parametrize("name", LOOPLESS)
def test_a_recording_without_a_loop(name: str, typed: Callable[..., tuple[int, str]]) -> None:
    """One in which nothing was trained cannot be checked: what to do stands in the error."""
    with pytest.raises(LoopscopeError, match=r"holds no loop: .*Check the script instead: loopscope check "):
        loopscope.check(LOOPLESS[name])
    status, said = typed(str(LOOPLESS[name]))
    assert (status, "holds no loop" in said) == (2, True)


def test_how_it_ended_stands_in_the_last_line() -> None:
    """Of a program that was killed, that is said; a finding is then of what was written until then."""
    killed, closed = (str(loopscope.check(FASTAI[name], select=COST)) for name in ("killed", "closed"))
    assert killed.endswith("killed.loop (its program was killed): nothing found")
    assert closed.endswith("closed.loop: nothing found")


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_recording(tmp_path: Path, kind: str) -> None:
    """What cannot be read says so as everywhere, an empty file and one of a later version among them."""
    path = written(tmp_path, BAD[kind][0])
    with pytest.raises(LoopscopeError) as reported:
        loopscope.load(path)
    with pytest.raises(LoopscopeError) as found:
        loopscope.check(path)
    assert str(found.value) == str(reported.value)


def written(folder: Path, data: bytes | bytearray) -> Path:
    path = folder / "run.loop"
    path.write_bytes(data)
    return path


def test_a_damaged_loop(tmp_path: Path) -> None:
    """Where the line of the loop is damaged, the error says that, and not that nothing was trained."""
    data = FASTAI["killed"].read_bytes()
    with pytest.raises(LoopscopeError, match="what it says of its loop cannot be read"):
        loopscope.check(written(tmp_path, data.replace(b'{"k":"loop"', b'{"k":"loop?', 1)))


@pytest.mark.parametrize("choice", [{"select": ["slow-handlers"]}, {"ignore": ["slow-handlers"]}])
def test_an_unknown_rule(choice: dict[str, Any]) -> None:
    """It is refused with the nearest name, before the file is read."""
    with pytest.raises(UnknownChoice, match="slow-handler"):
        loopscope.check(HERE / "nowhere.loop", **choice)


def test_damage(tmp_path: Path) -> None:
    """Whatever is wrong with a file, it is checked, or an error says that it cannot be."""
    for file in FASTAI.values():
        for seed in range(40):
            data = bytearray(file.read_bytes())
            MUTATIONS[seed % len(MUTATIONS)](data, random.Random(seed))
            with contextlib.suppress(LoopscopeError):
                loopscope.check(written(tmp_path, data), select=[*COST, "forced-sync"])


# -- files that are made here ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_of_each_framework(framework: str, tmp_path: Path) -> None:
    """All rules read a run of each framework, and find nothing wrong in one that is as it should be."""
    path = run(framework, tmp_path / "run.loop", fetch=lambda: time.sleep(0.002), epochs=2, batches=20)
    assert not loopscope.check(path).failed


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fits of one learner, with a callback that sleeps longer at each batch, and another learner's."""
    from fastai.callback import progress  # noqa: F401 - gives the learner its no_bar
    from fastai.callback.core import Callback
    from fastai.test_utils import synth_learner

    class Slow(Callback):
        def before_fit(self) -> None:
            self.calls = 0

        def after_batch(self) -> None:
            self.calls += 1
            time.sleep(0.001 * self.calls)

    path = tmp_path_factory.mktemp("slow") / "run.loop"
    learn = synth_learner(n_trn=20, n_val=2, cbs=[Slow()])
    with learn.no_bar(), learn.no_logging(), loopscope.record(learn, path):
        learn.fit(1)
        learn.fit(2, 0.01)
        learn.validate()
    return path


@pytest.mark.framework("fastai")
def test_cost_is_reported_once(slow: Path) -> None:
    """Three loops of one learner are in the file; each rule speaks of a handler once, whichever loops it runs in."""
    found = Counter((one.rule, one.callback) for one in loopscope.check(slow).findings)
    assert found["slow-handler", "Slow#4"] == found["growing-handler", "Slow#4"] == 1
    assert set(found.values()) == {1}


@pytest.mark.framework("fastai")
@pytest.mark.parametrize("rule", COST)
def test_one_can_choose(slow: Path, rule: str) -> None:
    """`select` and `ignore` do with a recording what they do with a learner; the path may be a string."""
    (every,) = [check_recording(str(slow), ((), ()))]
    assert check_recording(slow, ([rule], ())).findings == tuple(one for one in every.findings if one.rule == rule)
    assert check_recording(slow, ((), [rule])).findings == tuple(one for one in every.findings if one.rule != rule)


CALLBACK = """
import time
from fastai.callback.core import Callback

class Slow(Callback):
    def after_batch(self):
        time.sleep(0.01)
"""


@pytest.mark.framework("fastai")
def test_comments_are_read_where_the_source_is(tmp_path: Path) -> None:
    """A comment ignores what was recorded, in its method or its class, while the file is there as it was."""
    from fastai.callback import progress  # noqa: F401 - gives the learner its no_bar
    from fastai.test_utils import synth_learner

    source, path = tmp_path / "mine.py", tmp_path / "run.loop"
    source.write_text(CALLBACK)
    names: dict[str, Any] = {}
    exec(compile(CALLBACK, str(source), "exec"), names)
    learn = synth_learner(n_trn=24, n_val=2, cbs=[names["Slow"]()])
    with learn.no_bar(), learn.no_logging(), loopscope.record(learn, path):
        learn.fit(1)

    def checked(before: str, after: str) -> bool:
        source.write_text(CALLBACK.replace(before, after))
        return loopscope.check(path, select=["slow-handler"]).failed

    assert checked("", "")
    assert not checked("after_batch(self):", "after_batch(self):  # loopscope: ignore[slow-handler]")
    assert not checked("Slow(Callback):", "Slow(Callback):  # loopscope: ignore[forced-sync, slow-handler]")
    assert checked("Slow(Callback):", "Slow(Callback):  # loopscope: ignore[forced-sync]")
    assert checked("import time", "import time  # loopscope: ignore[slow-handler]")
    assert checked("import time", "\n\nimport time")
    assert checked("import time", "import time(")
    with pytest.raises(checks.BadIgnore, match=r"names no rule: 'slow'"):
        checked("after_batch(self):", "after_batch(self):  # loopscope: ignore[slow]")
    source.unlink()
    assert loopscope.check(path, select=["slow-handler"]).failed


@pytest.mark.framework("fastai")
def test_on_the_command_line(slow: Path, typed: Callable[..., tuple[int, str]]) -> None:
    """The exit status is 1 where there is something above a note, else 0; the worst comes first."""
    status, said = typed(str(slow))
    assert (status, said.count("slow-handler  Slow#4.after_batch")) == (1, 1)
    assert said.splitlines()[-2].endswith(": 2 warnings")
    assert typed("--ignore", "slow-handler,growing-handler", str(slow))[0] == 0
    assert '"rule": "slow-handler"' in typed("--format", "json", str(slow))[1]


@pytest.mark.framework("fastai")
def test_while_it_is_written(tmp_path: Path) -> None:
    """A run can be checked while it is on: the last line says that it is not all."""
    from fastai.callback import progress  # noqa: F401 - gives the learner its no_bar
    from fastai.callback.core import Callback
    from fastai.test_utils import synth_learner

    path, found = tmp_path / "run.loop", []

    class Looks(Callback):
        def after_train(self) -> None:
            found.append(loopscope.check(path))

    learn = synth_learner(n_trn=30, cbs=[Looks()])
    with learn.no_bar(), learn.no_logging(), loopscope.record(learn, path):
        learn.fit(1)
    assert found[0].of == f"{path} (still being written)"
    assert loopscope.check(path).of == str(path)


# -- what a recording cannot be asked ----------------------------------------------------------------------------------


def test_rules_that_a_recording_cannot_answer(typed: Callable[..., tuple[int, str]]) -> None:
    """Where only such are selected that is an error, which names them and says what to type."""
    path = str(FASTAI["closed"])
    with pytest.raises(
        LoopscopeError, match=r"unknown-event reads the source of the callbacks, which .* does not hold"
    ):
        loopscope.check(path, select="unknown-event")
    status, said = typed("--select", "unknown-event,dead-order", path)
    assert status == 2
    assert "unknown-event read the source of the callbacks" in said
    assert "Check the script: loopscope check train.py" in said


def test_rules_that_are_left_out_are_counted() -> None:
    """The last line says how many rules the script could answer beside those that were asked; JSON says no more."""
    checked = loopscope.check(FASTAI["closed"])
    assert str(checked).splitlines()[-1] == (
        f"({len(checked.unasked)} rules read the callbacks' source: loopscope check train.py asks them, too)"
    )
    assert {checks.rule(name).needs for name in checked.unasked} == {"callbacks"}
    one = loopscope.check(FASTAI["closed"], select="slow-handler, unknown-event")
    assert str(one).endswith("(1 rule reads the callbacks' source: loopscope check train.py asks it, too)")
    assert set(json.loads(checked.render("json"))) == {"checked", "findings"}


def test_names_of_rules_in_one_text() -> None:
    """A text is one name, or several with commas between them, as on the command line."""
    path = FASTAI["closed"]
    assert loopscope.check(path, select="slow-handler,data-wait") == loopscope.check(
        path, select=["slow-handler", "data-wait"]
    )
    with pytest.raises(UnknownChoice, match="unknown rule 'dead'"):
        loopscope.check(path, ignore="dead")
