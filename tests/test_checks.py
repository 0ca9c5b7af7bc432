"""The rules as a whole: each is complete and documented; what is selected, ignored, misspelt; marks in a map; JSON."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import json
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

import loopscope
from loopscope import api, checks
from loopscope.callbacks import Callback, Examined, Ignore, Method
from loopscope.checks import TABLE, BadIgnore, Case
from loopscope.errors import UnknownChoice
from loopscope.examining import class_place, ignores_at
from loopscope.findings import ALL, SEVERITIES, Finding, Needs
from loopscope.model import Place
from loopscope.render import FORMATS, Options, render
from loopscope.render.findings import as_json
from loopscope.render.rules import SITES
from loopscope.views import tree, unplaced, view
from tests.loops import fit
from tests.shipped import sweep

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/check-json.md").read_text(encoding="utf-8")


# -- each rule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_a_rule_says_all_of_itself(name: str) -> None:
    """It has the name of its line and its file, known frameworks and needs, reasons, and threads that can be found."""
    rule = checks.rule(name)
    assert rule.name == name
    assert TABLE[name] == f"loopscope.checks.{name.replace('-', '_')}"
    assert rule.severity in SEVERITIES
    assert rule.needs in get_args(Needs)
    assert rule.frameworks
    assert set(rule.frameworks) <= set(ALL)
    assert [text for text in (rule.why, rule.do) if not text.strip().endswith(".")] == []
    assert not rule.says.endswith(".")
    assert "\n" not in rule.says
    assert [one for one in rule.threads if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?#\d+", one)] == []
    assert [one for one in rule.threads if "/" not in one and one.partition("#")[0] not in SITES] == []


@pytest.mark.parametrize("name", TABLE)
def test_a_rule_shows_programs(name: str) -> None:
    """The program that has the fault and the one that has not are Python, and two different ones."""
    rule = checks.rule(name)
    for program in (rule.fires, rule.silent):
        assert ast.parse(textwrap.dedent(program)).body
    assert rule.fires != rule.silent


@pytest.mark.parametrize("name", TABLE)
def test_a_rule_has_its_tests(name: str) -> None:
    """One test or more shows that it fires, and one or more that it stays silent."""
    tests = ast.parse((ROOT / f"tests/checks/test_{name.replace('-', '_')}.py").read_text(encoding="utf-8"))
    names = [one.name for one in ast.walk(tests) if isinstance(one, ast.FunctionDef)]
    assert [start for start in ("test_fires", "test_silent") if not any(one.startswith(start) for one in names)] == []


def test_every_file_is_in_the_table() -> None:
    """No rule lies there without being asked."""
    files = {path.stem for path in Path(checks.__file__).parent.glob("*.py")}
    with_rule = {one for one in files if hasattr(importlib.import_module(f"loopscope.checks.{one}"), "findings")}
    assert with_rule == {module.rpartition(".")[2] for module in TABLE.values()}


def test_the_pages_are_not_stale(tmp_path: Path) -> None:
    """docs/rules/ is what tools/rules.py writes; and its check can fail."""
    rules = tool("rules")
    assert rules.stale() == []
    (tmp_path / "no-rule.md").write_text("")
    (tmp_path / "README.md").write_text("")
    assert rules.stale(tmp_path)[-2:] == ["README.md is not what the rules say", "no-rule.md is the page of no rule"]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- what is asked ---------------------------------------------------------------------------------------------

HERE = Place("mine.py", 7)


def mine(*ignores: Ignore, on_method: tuple[Ignore, ...] = ()) -> Case:
    """A loop with a callback that has a dead run_after, and comments in its source."""
    method = Method("after_backward", "Mine", ignores=on_method)
    callback = Callback("Mine#9", "Mine", attributes=("run_after",), ignores=ignores, methods=(method,))
    loop = dataclasses.replace(fit(), framework="fastai")
    return Case(loop, tree(loop), Examined((callback,)))


def test_select_and_ignore() -> None:
    """Asked are all rules, or those selected, without those left out; an unknown name gives the choices."""
    assert checks.chosen() == tuple(TABLE)
    assert checks.chosen(["dead-order", "shared-name"], ["shared-name"]) == ("dead-order",)
    assert "dead-order" not in checks.chosen(ignore=["dead-order"])
    assert [one.rule for one in checks.check(mine(), ["dead-order"])] == ["dead-order"]
    assert checks.check(mine(), ignore=list(TABLE)) == ()
    for given in ({"select": ["dead-odrer"]}, {"ignore": ["dead-odrer"]}):
        with pytest.raises(UnknownChoice) as raised:
            checks.chosen(**given)
        assert str(raised.value).startswith(
            "unknown rule 'dead-odrer'. Did you mean 'dead-order'? Accepted: dead-order,"
        )


def test_the_worst_comes_first() -> None:
    """Errors come before warnings, warnings before notes."""
    found = checks.check(mine())
    assert [one.severity for one in found] == sorted((one.severity for one in found), key=SEVERITIES.index)


@pytest.mark.parametrize("names", ["dead-order", " shared-name , dead-order "])
def test_a_comment_on_the_class(names: str) -> None:
    """What its class ignores, alone or among others, is not found."""
    assert checks.check(mine(Ignore(names, HERE)), ["dead-order"]) == ()
    assert checks.check(mine(Ignore("shared-name", HERE)), ["dead-order"]) != ()


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (None, "names no rule"),
        ("", "names no rule"),
        ("nope", "names no rule: 'nope'"),
        ("dead-order,", "names no rule"),
    ],
)
def test_a_malformed_comment(rules: str | None, what: str) -> None:
    """A comment that names no rule says where it stands, what to type and which rules there are."""
    for case in (mine(Ignore(rules, HERE)), mine(on_method=(Ignore(rules, HERE),))):
        with pytest.raises(BadIgnore) as raised:
            checks.check(case)
        said = str(raised.value)
        assert said.startswith(f"mine.py:7: the comment {what}. Type # loopscope: ignore[RULE]")
        assert said.endswith(f"Rules: {', '.join(TABLE)}.")


@pytest.mark.framework("fastai")
def test_comments_in_real_source(tmp_path: Path) -> None:
    """On the line of the class and of the handler a comment is read from the file; elsewhere it is none."""
    from fastai.test_utils import synth_learner

    found = loopscope.check(synth_learner(cbs=written(tmp_path, CLASS)), select=["dead-order"])
    assert found.findings == ()
    rule = "unknown-event"
    learn = synth_learner(cbs=written(tmp_path, METHOD, "methods"))
    assert [one.method for one in loopscope.check(learn, select=[rule]).findings] == ["befor_epoch"]
    with pytest.raises(BadIgnore, match=r"bad\.py:4: the comment names no rule"):
        loopscope.check(synth_learner(cbs=written(tmp_path, BAD, "bad")))


def written(folder: Path, source: str, name: str = "mine") -> Any:
    """Return an instance of the class `Mine` in a module with this source."""
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module.Mine()


CLASS = """
    from fastai.callback.core import Callback

    class Mine(Callback):  # loopscope: ignore[dead-order, shared-name]
        run_after = Callback

        def after_batch(self): ...
    """

METHOD = """
    from fastai.callback.core import Callback

    class Other(Callback):
        def befor_batch(self):  # loopscope: ignore[unknown-event]
            "Misspelt on purpose."

    class Mine(Other):
        # loopscope: ignore[unknown-event]
        def befor_epoch(self):
            "Misspelt."
    """

BAD = """
    from fastai.callback.core import Callback

    class Mine(Callback):  # loopscope: ignore
        def after_batch(self): ...
    """


BARE = """
    from fastai.callback.core import Callback
    from fastai.callback.training import BnFreeze

    def other():
        class Mine(BnFreeze):
            run_before = Callback

    class Mine(BnFreeze): # {comment}
        run_after = Callback

    class Mine{more}(BnFreeze):
        run_before = Callback
    """


@pytest.mark.framework("fastai")
def test_a_class_without_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its statement is found in its module, and so is the comment there: the one that sets what it sets."""
    from fastai.test_utils import synth_learner

    def found(name: str, comment: str = "", more: str = "2") -> tuple[Finding, ...]:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(BARE.format(comment=comment, more=more)))
        mine = importlib.import_module(name).Mine()
        return loopscope.check(synth_learner(cbs=mine), select=["dead-order"]).findings

    monkeypatch.syspath_prepend(tmp_path)
    assert {one.place for one in found("bare_plain")} == {Place(str(tmp_path / "bare_plain.py"), 9)}
    assert found("bare_ignored", "loopscope: ignore[dead-order]") == ()
    assert {one.place for one in found("bare_twice", more="")} == {Place(str(tmp_path / "bare_twice.py"), 12)}
    monkeypatch.delitem(sys.modules, "bare_plain")  # a module that is gone
    assert class_place(type("Mine", (), {"__module__": "bare_plain"})) is None


def test_two_statements_that_may_be_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two classes of one name that set the same, no place is given; in Python 3.13 a class knows its line."""
    (tmp_path / "twice.py").write_text("class Mine:\n    x = 1\n\nclass Mine:\n    x = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    place = class_place(importlib.import_module("twice").Mine)
    assert place == (Place(str(tmp_path / "twice.py"), 4) if sys.version_info >= (3, 13) else None)


HEADS = """
    import functools
    from fastai.callback.core import Callback

    class Other(
        Callback,
    ):  # loopscope: ignore[dead-order]
        run_after = Callback

        def after_batch(self): ...

        def befor_epoch(
            self,
        ): pass  # loopscope: ignore[unknown-event]

    @functools.cache  # loopscope: ignore[unknown-event]
    class Mine(Other, metaclass={":": type}[":"]):
        def befor_batch(self): ...  # noqa # loopscope: ignore[dead-order]
    """


@pytest.mark.framework("fastai")
def test_a_comment_on_any_line_of_a_head(tmp_path: Path) -> None:
    """The head of a class or of a function goes to its colon; that of a class begins with its decorators."""
    from fastai.test_utils import synth_learner

    path = tmp_path / "heads.py"
    mine = written(tmp_path, HEADS, "heads")
    rules = ["unknown-event", "dead-order"]
    for one in (mine, type(mine).__mro__[1]()):
        found = loopscope.check(synth_learner(cbs=one), select=rules).findings
        assert [each.rule for each in found] == (["dead-order"] if one is mine else [])
    at = {n: [one.rules for one in ignores_at(Place(str(path), n))] for n in (10, 12, 18)}
    assert at == {
        10: ["dead-order"],
        12: ["dead-order", "unknown-event"],
        18: ["unknown-event", "dead-order"],
    }


@pytest.mark.framework("fastai")
@pytest.mark.parametrize(
    "comment",
    [
        "loopscope: ignored[dead-order]",
        "loopscope ignore[dead-order]",
        "Loopscope: ignore[dead-order]",
        "loopscope: noqa",
        "noqa #loopscope: ignore-all",
    ],
)
def test_a_misspelt_comment(comment: str, tmp_path: Path) -> None:
    """What is meant for us and cannot be understood is an error with the right form, on a class and on a handler."""
    from fastai.test_utils import synth_learner

    on_class = CLASS.replace("loopscope: ignore[dead-order, shared-name]", comment)
    on_method = METHOD.replace("loopscope: ignore[unknown-event]", comment)
    for name, line, source in (("on_class", 4, on_class), ("on_method", 5, on_method)):
        with pytest.raises(BadIgnore) as raised:
            loopscope.check(synth_learner(cbs=written(tmp_path, source, name)))
        said = str(raised.value)
        assert f"{name}.py:{line}: the comment is none that loopscope understands: #" in said
        assert comment.rpartition("#")[2].strip() in said
        assert "Type # loopscope: ignore[RULE]" in said
        assert said.endswith(f"Rules: {', '.join(TABLE)}.")


# -- a map with findings ---------------------------------------------------------------------------------------


def findings() -> tuple[Finding, ...]:
    """One about a handler, one about a method that no event calls, and a note."""
    known = next(iter(fit().binding.at("after_batch")))
    about: Any = {"why": "", "do": ""}
    return (
        Finding("dead-order", "warning", "it is dead", trust="declared", callback=known.id, **about),
        Finding(
            "unknown-event", "error", "it is never called", trust="declared", callback=known.id, method="x", **about
        ),
        Finding("forced-sync", "note", "it waits", trust="inferred", callback=known.id, event="after_batch", **about),
    )


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in ("json", "article")])
def test_a_map_is_marked(format: str) -> None:
    """Handlers get the rule's name, below stand what has no row and how many there are; notes mark nothing."""
    text = " ".join(render(format, view(fit(), findings()), Options()).split())
    assert "warning: dead-order" in text
    assert "unknown-event: it is never called" in text
    assert "1 error, 1 warning, 1 note; loopscope check says why, and what to type instead" in text
    assert ("forced-sync" in text) == (format == "html")  # where all that is verbose unfolds


@pytest.mark.parametrize("format", ["tree", "text", "markdown"])
def test_a_verbose_map_says_what_is_wrong(format: str) -> None:
    """With `verbose` a handler's findings stand below it, notes included."""
    text = render(format, view(fit(), findings()), Options(verbose=True))
    assert "dead-order: it is dead" in text
    assert "forced-sync: it waits" in text


@pytest.mark.parametrize("format", FORMATS)
def test_a_map_without_findings_is_as_ever(format: str) -> None:
    """Where nothing was found nothing is added, and the article never changes."""
    plain = render(format, view(fit()), Options())
    assert render(format, view(fit(), ()), Options()) == plain
    assert (render(format, view(fit(), findings()), Options()) == plain) == (format == "article")


def test_notes_alone_mark_nothing() -> None:
    """A map with nothing above a note is the map without."""
    notes = tuple(one for one in findings() if one.severity == "note")
    assert render("text", view(fit(), notes), Options()) == render("text", view(fit()), Options())


def test_what_has_no_row() -> None:
    """A finding about a method that no event calls has no row."""
    assert [one.rule for one in unplaced(view(fit(), findings()))] == ["unknown-event"]


def test_json_of_a_map() -> None:
    """Its findings stand behind the loop, as in the JSON of a check, and the loop can be read again."""
    from loopscope.render.json import load

    text = render("json", view(fit(), findings()), Options())
    assert json.loads(text)["findings"] == json.loads(as_json(findings(), ""))["findings"]
    assert load(text) == fit()
    assert "findings" not in json.loads(render("json", view(fit()), Options()))


@pytest.mark.framework("fastai")
def test_show_marks_and_inspect_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` checks, `inspect` does not; a comment that names no rule is a warning beside the map."""
    from fastai.test_utils import synth_learner

    learn = synth_learner(cbs=written(tmp_path, CLASS.replace("dead-order, ", "")))
    loopscope.show(learn, format="text")
    assert "Mine (warning: dead-order)" in capsys.readouterr().out
    assert loopscope.inspect(learn).findings == ()
    with pytest.warns(UserWarning, match=r"not shown: .*bad\.py:4: the comment names no rule"):
        loopscope.show(synth_learner(cbs=written(tmp_path, BAD, "bad")), format="text")
    assert "after_batch" in capsys.readouterr().out


# -- JSON ------------------------------------------------------------------------------------------------------


def fields_of(section: str) -> list[str]:
    part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    return [] if part is None else re.findall(r"^\| `(\w+)` \|", part[1], re.M)


def test_the_document_names_every_field() -> None:
    """docs/check-json.md has exactly the fields that are written, in their order."""
    written_ = json.loads(as_json(findings(), "learn.fit(2)"))
    assert fields_of("The file") == list(written_)
    assert fields_of("Finding") == list(written_["findings"][0])
    assert fields_of("Finding") == [one.name for one in dataclasses.fields(Finding)]


# -- true findings ---------------------------------------------------------------------------------------------


def test_the_document_of_true_findings() -> None:
    """Each line of its table is read, names a framework and a rule that there are, once, and says why it is true."""
    found = list(sweep.rows())
    text = sweep.DOCUMENT.read_text(encoding="utf-8")
    assert len(found) == len(re.findall(r"^\| ", text, re.M)) - 2  # the table's own head
    assert {framework for framework, *_ in found} <= set(ALL)
    assert {rule for *_, rule, _ in found} <= set(TABLE)
    assert len({one[:3] for one in found}) == len(found)
    assert all(why.strip() for *_, why in found)


def test_a_sweep_can_fail() -> None:
    """What is not in the table is seen by the sweep, with where it was found; a note is none of it."""
    seen = sweep.above_note([("a use", one) for one in findings()])
    assert {rule for _, rule in seen} == {"dead-order", "unknown-event"}
    assert seen.keys() - sweep.listed("fastai") == seen.keys()
    assert all(text.startswith("a use: ") for text in seen.values())
    assert {rule for _, rule in sweep.notes([("a use", one) for one in findings()])} == {"forced-sync"}


# -- explain ---------------------------------------------------------------------------------------------------


def test_explain() -> None:
    """A rule's page, the list of all, or an error with the choices."""
    assert api.explain("dead-order").startswith("# dead-order\n")
    assert [name for name in TABLE if f"[{name}]({name}.md)" not in api.explain()] == []
    with pytest.raises(UnknownChoice, match="unknown rule 'dead'"):
        api.explain("dead")
