"""What users hold and call: inspect, show and the map of a loop."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loopscope
from loopscope import api
from loopscope.api import LoopMap
from loopscope.errors import BadValue, LoopscopeError, UnknownChoice, UnknownObject
from loopscope.render import FORMATS
from loopscope.render.json import load
from tests import pages
from tests.loops import fit, reworded

ROOT = Path(__file__).parent.parent

needs_fastai = pytest.mark.framework("fastai")


@pytest.fixture
def shown() -> LoopMap:
    return LoopMap(fit())


@pytest.fixture
def learn() -> Any:
    from fastai.test_utils import synth_learner

    return synth_learner()


def test_events_come_in_firing_order(shown: LoopMap) -> None:
    """`events()` are those that fire if nothing is cancelled, each as often as it stands in the loop."""
    train = "before_train before_batch after_pred after_loss before_step after_step after_batch after_train"
    validate = "before_validate before_batch after_pred after_loss after_batch after_validate"
    assert " ".join(shown.events()) == f"before_fit before_epoch {train} {validate} after_epoch after_fit"


def test_handlers_come_in_calling_order(shown: LoopMap) -> None:
    """`handlers(event)` are those of one event; an event without any gives none."""
    assert [one.callback for one in shown.handlers("after_batch")] == ["TrainEval", "Mine", "Recorder"]
    assert shown.handlers("before_epoch") == ()


def test_an_unknown_event_is_an_error(shown: LoopMap) -> None:
    """A misspelt event names the one that was probably meant."""
    with pytest.raises(UnknownChoice, match=r"^unknown event 'after_bach'\. Did you mean 'after_batch'\?"):
        shown.handlers("after_bach")


def test_mine_says_where_ones_own_land(shown: LoopMap) -> None:
    """`mine()` has one's own callback at each of its events."""
    assert [one.row.handler and one.row.handler.event for one in shown.mine()][:2] == ["before_fit", "after_loss"]


def test_str_is_plain_text_and_repr_one_line(shown: LoopMap) -> None:
    """`print(map)` shows the loop, a prompt shows what it is."""
    assert f"{shown}\n" == shown.render("text")
    assert repr(shown) == "<loop of learn.fit(2, cbs=[Mine]): Learner, 18 events, 17 handlers; print() shows it>"


def test_rich_prints_the_tree(shown: LoopMap) -> None:
    """`rich.print(map)` prints the tree."""
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=100, force_jupyter=False).print(shown)
    assert stream.getvalue().splitlines()[3].startswith("├── before_fit  TrainEval → ★ Mine → Recorder")


def test_a_notebook_gets_html_and_text(shown: LoopMap) -> None:
    """The map shows itself in a notebook: HTML without script, and text for where there is no HTML."""
    bundle = shown._repr_mimebundle_()
    assert list(bundle) == ["text/html", "text/plain"]
    assert bundle["text/plain"] == str(shown)
    page = pages.parse(bundle["text/html"])
    assert [child.tag for child in page] == ["div"]
    assert page.find(".//script") is None


@pytest.mark.parametrize("format", FORMATS)
def test_show_prints_what_render_returns(shown: LoopMap, format: str) -> None:
    """`show(format)` prints that format; the tree without colour to what is no terminal."""
    stream = io.StringIO()
    shown.show(format, file=stream)
    if format == "tree":
        assert "\x1b" not in stream.getvalue()
        assert "★ Mine" in stream.getvalue()
    else:
        assert stream.getvalue() == shown.render(format)


def test_show_prints_to_the_screen(shown: LoopMap, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file it is the standard output as it is then, redirected or not."""
    shown.show("text")
    assert capsys.readouterr().out == shown.render("text")
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        shown.show("text", verbose=True)
        shown.show()
    assert stream.getvalue().startswith(shown.render("text", verbose=True))
    assert "├── before_fit" in stream.getvalue()


def test_show_escapes_what_the_stream_cannot_write() -> None:
    """A name that the stream's encoding lacks is escaped, never a UnicodeEncodeError."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    odd = LoopMap(reworded(fit(), lambda field, text: text.replace("Recorder", "Zähler")))
    odd.show("text", file=stream)
    assert b"before_fit: TrainEval, * Mine, Z\\xe4hler" in raw.getvalue()


@pytest.mark.parametrize(("variable", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False), (None, False)])
def test_colour_follows_the_environment(
    shown: LoopMap, variable: str | None, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR colours even a file; otherwise only a terminal gets colours."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if variable is not None:
        monkeypatch.setenv(variable, "1")
    stream = io.StringIO()
    shown.show(file=stream)
    assert ("\x1b[" in stream.getvalue()) is coloured


@pytest.mark.parametrize(
    ("name", "format"), [("a.txt", "text"), ("a.md", "markdown"), ("a.JSON", "json"), ("a.html", "html")]
)
def test_save_goes_by_the_suffix(shown: LoopMap, tmp_path: Path, name: str, format: str) -> None:
    """The suffix of the file says the format, and the file holds what `render` returns, in UTF-8."""
    shown.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == shown.render(format).encode()


def test_save_takes_a_format(shown: LoopMap, tmp_path: Path) -> None:
    """A format given by name goes before the suffix, and `verbose` is passed on."""
    shown.save(str(tmp_path / "loop.dat"), "text", verbose=True)
    assert (tmp_path / "loop.dat").read_text() == shown.render("text", verbose=True)


def test_save_overwrites_only_by_force(shown: LoopMap, tmp_path: Path) -> None:
    """A file that exists is left alone and the error says what to type; `force=True` overwrites it."""
    path = tmp_path / "loop.txt"
    path.write_text("precious")
    with pytest.raises(LoopscopeError) as raised:
        shown.save(path)
    assert str(raised.value) == f"{path} exists already. To overwrite it: save({str(path)!r}, force=True)"
    assert path.read_text() == "precious"
    shown.save(path, force=True)
    assert path.read_text() == shown.render("text")


def test_save_needs_a_suffix_that_it_knows(shown: LoopMap, tmp_path: Path) -> None:
    """Another suffix is an error that names the known ones, and nothing is written."""
    with pytest.raises(LoopscopeError, match=r"loop\.pdf does not tell the format\. Known: \.txt \(text\)"):
        shown.save(tmp_path / "loop.pdf")
    with pytest.raises(UnknownChoice):
        shown.save(tmp_path / "loop.txt", "pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_removed_folder_only_costs_short_paths(
    shown: LoopMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map is shown even where the current folder is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    os.rmdir(gone)
    assert "/home/ada/project/train.py:8" in shown.render("text", verbose=True)


def test_what_is_no_learner_is_refused() -> None:
    """An object of no known framework is an error that says what is accepted."""
    with pytest.raises(
        UnknownObject, match=r"^an object of type int is no learner, trainer, model or engine that loopscope knows\."
    ):
        loopscope.inspect(3)


def test_a_misspelt_format_is_said_before_any_work() -> None:
    """`show` checks the format first."""
    with pytest.raises(UnknownChoice, match=r"^unknown format 'treee'\. Did you mean 'tree'\?"):
        loopscope.show(3, format="treee")


def test_an_unknown_framework_has_no_events() -> None:
    """`event_docs` names the frameworks that there are."""
    with pytest.raises(UnknownChoice, match=r"^unknown framework 'fastay'\. Did you mean 'fastai'\?"):
        api.event_docs("fastay")


# -- with a real learner -----------------------------------------------------------------------------------------------


@needs_fastai
def test_inspect_shows_a_real_learner(learn: Any) -> None:
    """`inspect` gives the loop of the run that was asked for, with its epochs and the callbacks that it adds."""
    shown = loopscope.inspect(learn, "fit_one_cycle", epochs=3)
    assert "epoch x 3" in str(shown)
    assert [one.callback for one in shown.handlers("before_batch")] == ["CastToTensor", "ParamScheduler"]
    assert load(shown.render("json")) == shown.loop


@needs_fastai
def test_show_marks_ones_own(learn: Any) -> None:
    """`show(learn, cbs=...)` marks the callbacks given and names their neighbours."""
    from fastai.callback.training import GradientClip

    stream = io.StringIO()
    loopscope.show(learn, epochs=2, cbs=GradientClip, file=stream)
    assert "before_step  ★ GradientClip" in stream.getvalue()
    assert "\n  GradientClip at before_step  alone  in train > batch > step\n" in stream.getvalue()


@needs_fastai
def test_bad_numbers_are_refused(learn: Any) -> None:
    """A negative number of epochs is an error, not a map."""
    with pytest.raises(BadValue, match="epochs=-1 is negative"):
        loopscope.inspect(learn, epochs=-1)


@needs_fastai
def test_every_event_is_described() -> None:
    """`event_docs` describes each event of the installed framework."""
    assert all(api.event_docs("fastai").values())
    assert "before_fit" in api.event_docs("fastai")


# -- in a notebook -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells() -> Iterator[Any]:
    """Runs cells in a real kernel: `cells("1 + 1")` returns the outputs."""
    for name in ("nbclient", "nbformat", "ipykernel"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.v4.new_notebook()
    client = NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})

    def run(source: str) -> list[Any]:
        book.cells.append(nbformat.v4.new_code_cell(source))
        client.execute_cell(book.cells[-1], len(book.cells) - 1)
        outputs: list[Any] = book.cells[-1].outputs
        return outputs

    with client.setup_kernel():
        run(f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'src')!r}]")
        run("from loopscope.api import LoopMap; from tests.loops import fit; shown = LoopMap(fit())")
        yield run


@pytest.mark.slow
@pytest.mark.parametrize("source", ["shown", "shown.show()", "shown.show('html', verbose=True)"])
def test_a_cell_shows_the_map(cells: Any, source: str) -> None:
    """As a cell's last value and through `show`, a notebook gets HTML once, with text beside it."""
    (output,) = cells(source)
    assert set(output["data"]) == {"text/html", "text/plain"}
    assert pages.parse(output["data"]["text/html"]).find("./div[@class='loopscope']") is not None


@pytest.mark.slow
def test_a_cell_prints_other_formats(cells: Any) -> None:
    """Text goes to the cell's printed output, and a tree to a file goes there and not into the cell."""
    (output,) = cells("shown.show('text')")
    assert output["text"] == LoopMap(fit()).render("text")
    assert cells("import io; file = io.StringIO(); shown.show(file=file); text = shown.render('tree')") == []
    (output,) = cells("print(file.getvalue().startswith('learn.fit('), text.startswith('learn.fit('))")
    assert output["text"] == "True True\n"
