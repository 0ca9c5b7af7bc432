"""The formats: whole outputs as golden files, and that all of them say the same of the same loop."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element

import pytest

from loopscope.errors import UnknownChoice
from loopscope.model import Catch, Event, Place, Raise, Repeat, Scope
from loopscope.render import FORMATS, SUFFIXES, Options, render
from loopscope.render import phrases as say
from loopscope.views import Landing, Row, view
from tests import pages
from tests.loops import HERE, fit

Golden = Callable[[str, str], None]

WIDE = 1000
SUFFIX = {format: suffix for suffix, format in SUFFIXES.items()}


def rendered(format: str, verbose: bool = False, width: int = 80) -> str:
    return render(format, view(fit()), Options(verbose=verbose, width=width, here=HERE))


@pytest.mark.parametrize("verbose", [False, True], ids=["compact", "verbose"])
@pytest.mark.parametrize("format", ["tree", "text", "article", "markdown", "html"])
def test_the_whole_output(format: str, verbose: bool, golden: Golden) -> None:
    """Each format gives exactly its golden file, compact and verbose."""
    name = f"render-{format}{'-verbose' if verbose else ''}{SUFFIX.get(format, '.txt')}"
    golden(name, rendered(format, verbose))


def test_the_whole_json(golden: Golden) -> None:
    """The JSON of a loop is exactly its golden file, and the same with `verbose`."""
    golden("render-json.json", rendered("json"))
    assert rendered("json", verbose=True) == rendered("json")


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_only_returns_its_text(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Rendering prints nothing, gives the same twice, and its text ends with one line end."""
    first = rendered(format)
    assert first == rendered(format)
    assert first.endswith("\n")
    assert not first.endswith("\n\n")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("format", FORMATS)
def test_no_line_ends_in_a_blank(format: str) -> None:
    """No format leaves blanks at the end of a line, except the article's, whose layout has them."""
    assert format == "article" or [line for line in rendered(format, True).splitlines() if line != line.rstrip()] == []


def test_an_unknown_format_names_the_known_ones() -> None:
    """A misspelt format is an error that says what is accepted and what was probably meant."""
    expected = (
        "unknown format 'markdwon'. Did you mean 'markdown'? Accepted: tree, text, article, markdown, json, html."
    )
    with pytest.raises(UnknownChoice) as raised:
        render("markdwon", view(fit()))
    assert str(raised.value) == expected


def test_text_is_ascii() -> None:
    """Plain text needs no other signs than ASCII's, so it can be kept and compared anywhere."""
    assert rendered("text").isascii()
    assert rendered("text", verbose=True).isascii()


def test_only_the_tree_needs_rich() -> None:
    """Every other format, and the api itself, work without rich ever being imported."""
    code = (
        "import sys\n"
        "from loopscope.api import LoopMap\n"
        "from tests.loops import fit\n"
        f"for name in {[name for name in FORMATS if name != 'tree']!r}: LoopMap(fit()).render(name)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('rich', 'numpy', 'IPython')])"
    )
    root = Path(__file__).parent.parent
    path = {"PYTHONPATH": f"{root}:{root / 'src'}"}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# -- every format says the same ------------------------------------------------------------------------------------
#
# From each verbose output a list of facts is taken: the names in the order in which they stand, behind each how often
# it runs, and `never` or `maybe` where its line says so. What a line has from the one above, no format repeats.

ABOUT = re.compile(r"[ │├└─*-]*(when|uncaught here|says|does|note|stands)(:|:\*|  )")
MARKUP = re.compile(r"^[ │├└─]*|\\(?=\W)|\*\*|~~|(?<=· )\*|(?<=\w)\*(?= )|[★⊘✗·] |^\s*- ")


def of_rows(row: dict[str, Any], above: dict[str, Any] | None = None) -> Iterator[str]:
    if above is not None:
        yield row["name"]
        if row["status"] != "never" and row["repeat"] not in (None, {"least": 1, "most": 1, "label": ""}):
            yield f"x {Repeat(**row['repeat'])}"
        if row["kind"] != "cancel" and row["status"] != "always" and row["why"] != above["why"]:
            yield {"never": "never", "conditional": "maybe"}[row["status"]]
    for child in row["children"]:
        yield from of_rows(child, row)


def of_lines(text: str) -> Iterator[str]:
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if re.match(r"(- \*\*)?fit", line))
    for line in lines[first : lines.index("", first)]:
        if not ABOUT.match(line):
            yield from of_line(re.sub(r"^(on|-|\*) ", "", MARKUP.sub("", MARKUP.sub("", line))))


def of_line(line: str) -> Iterator[str]:
    found = re.match(r"(.+?)(?: [×x] (\d+))?(?=  | \(|: | → |$)(.*)", line)
    assert found is not None
    yield found[1]
    if found[2]:
        yield f"x {found[2]}"
    yield from of_words(found[3])
    yield from re.findall(r"(?:→|:) (after_cancel_\w+)", found[3])


def of_words(said: str) -> Iterator[str]:
    if "never: " in said:
        yield "never"
    elif "only if" in said or "maybe skipped: " in said:
        yield "maybe"


def of_page(page: Element) -> Iterator[str]:
    lists = page.find(".//div[@class='loopscope']/ul")
    assert lists is not None
    for item in lists.iter("li"):
        line = item.find("./details/summary")
        line = item if line is None else line
        yield re.sub("^[★✗·] ", "", pages.text(line[0]))
        if times := re.match(r" × (\d+)", line[0].tail or ""):
            yield f"x {times[1]}"
        yield from of_words(" ".join(pages.text(one) for one in line.findall("em")))


EXPECTED = list(of_rows(json.loads(rendered("json"))["tree"]))


def test_the_facts_are_those_of_the_loop() -> None:
    """The comparison below has something to compare: names, numbers, and each status, in the order of the loop."""
    assert EXPECTED[:8] == ["fit", "before_fit", "TrainEval", "Mine", "Recorder", "epoch", "x 2", "before_epoch"]
    assert {"x 2", "x 10", "never", "maybe", "draw a batch", "CancelStepException", "after_cancel_step"} < {*EXPECTED}
    assert EXPECTED.count("never") == 4
    assert EXPECTED.count("maybe") == 5


@pytest.mark.parametrize("format", ["tree", "text", "markdown"])
def test_every_format_says_the_same(format: str) -> None:
    """Names, order, numbers and statuses are the same in the tree, the text and the Markdown as in the JSON."""
    assert list(of_lines(rendered(format, verbose=True, width=WIDE))) == EXPECTED


def test_html_says_the_same() -> None:
    """Names, order, numbers and statuses are the same in the HTML as in the JSON."""
    assert list(of_page(pages.parse(rendered("html")))) == EXPECTED


@pytest.mark.parametrize("format", ["tree", "text", "markdown", "html"])
def test_every_format_says_where_ones_own_callbacks_land(format: str) -> None:
    """The list of one's own callbacks stands in each format, in the same words and order."""
    text = rendered(format, width=WIDE)
    lines = [pages.text(item) for item in pages.parse(text).iter("li")] if format == "html" else text.splitlines()
    found = re.findall(r"^\W*Mine at (\w+) .*?((?:after|first|alone|never).*?)(?=  in|$)", "\n".join(lines), re.M)
    assert [f"{event}: {where}" for event, where in found] == [
        "before_fit: after TrainEval, before Recorder",
        "after_loss: alone",
        "after_cancel_batch: alone",
        "after_batch: after TrainEval, before Recorder",
        "after_loss: never: run_valid is False: skipped while validating",
        "after_cancel_batch: alone",
        "after_batch: first, before Recorder",
    ]


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "here", "expected"),
    [
        ("/venv/lib/python3.11/site-packages/fastai/learner.py", "/home/ada", "fastai/learner.py:7"),
        ("/home/ada/.venv/lib/python3.11/site-packages/fastai/learner.py", "/home/ada", "fastai/learner.py:7"),
        ("/usr/lib/python3/dist-packages/torch/nn.py", "", "torch/nn.py:7"),
        (r"C:\Python\Lib\site-packages\fastai\learner.py", "", "fastai/learner.py:7"),
        (r"C:\work\train.py", r"C:\work", "train.py:7"),
        ("/home/ada/train.py", "/home/ada", "train.py:7"),
        ("/home/ada2/train.py", "/home/ada", "/home/ada2/train.py:7"),
        ("/home/ada/train.py", "", "/home/ada/train.py:7"),
        ("<stdin>", "/home/ada", "<stdin>:7"),
    ],
)
def test_a_place_is_as_short_as_one_would_type_it(file: str, here: str, expected: str) -> None:
    """A file of a package is named from the package on, one below the current folder from there on."""
    assert say.short(Place(file, 7), here) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["CancelBatchException", "CancelTrainException"], "Cancel{Batch,Train}Exception"),
        (["CancelBatchException", "CancelBackwardException"], "Cancel{Batch,Backward}Exception"),
        (["CancelFitException"], "CancelFitException"),
        (["StopTraining", "SkipBatch"], "StopTraining, SkipBatch"),
        (["CancelException", "CancelFitException"], "Cancel{,Fit}Exception"),
        ([], ""),
    ],
)
def test_names_share_what_they_have_in_common(names: list[str], expected: str) -> None:
    """Exceptions are listed with braces, as a shell would expand them, and whole words stay whole."""
    assert say.braced(names) == expected


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (("fit", None, None), "all but CancelFitException"),
        (("fit", "train", None), "CancelBatchException"),
        (("fit", "train", "batch"), ""),
        ((None, None, None), "every cancel exception"),
    ],
)
def test_what_is_uncaught_is_said_the_shorter_way(scopes: tuple[str | None, ...], expected: str) -> None:
    """Where most cancel exceptions are uncaught, those that are caught are named."""
    names = ("CancelFitException", "CancelTrainException", "CancelBatchException")
    row = Row("event", "after_batch", landings=tuple(map(Landing, names, scopes)))
    assert say.uncaught(row) == expected


def test_what_does_not_print_is_escaped() -> None:
    """Line ends become blanks; control characters, direction marks and lone surrogates are written out."""
    assert say.plain(" a\n\tb\x1b[31m\u202ec\ud800 é ") == r"a b\x1b[31m\u202ec\ud800 é"


def test_a_raise_says_whether_when_and_where_it_lands() -> None:
    """A cancel says which scope catches it, an exception that is dropped says so, others are kept for verbose."""
    loop = fit()
    event = next(row for _, row in view(loop).root.walk() if row.name == "after_batch")
    raises = (
        Raise("CancelTrainException", certain=True),
        Raise("CancelBatchException", when="self.bad"),
        Raise("StopIteration"),
        Raise("ValueError"),
    )
    one = event.children[0]
    assert one.handler is not None
    row = replace(one, handler=replace(one.handler, raises=raises))
    said = [
        "raises CancelTrainException: caught by train",
        "may raise CancelBatchException if self.bad: nothing catches it there, the run ends",
        "may raise StopIteration: dropped without a word, the handlers after it are left out",
    ]
    assert list(say.remarks(row, event, loop)) == said
    assert list(say.remarks(row, event, loop, verbose=True)) == [*said, "may raise ValueError"]


@pytest.mark.parametrize(
    ("then", "always", "expected"),
    [
        ("exit", False, "then after_fit"),
        ("exit", True, "then after_fit"),
        ("raise", False, "then on outwards"),
        ("raise", True, "then after_fit, then on outwards"),
    ],
)
def test_what_follows_an_exception(then: Literal["exit", "raise"], always: bool, expected: str) -> None:
    """After a catch comes the scope's exit; one that raises again skips it, unless it runs whatever happens."""
    catch = Catch(("CancelFitException",), (Event("after_cancel_fit"),), then)
    scope = Scope("fit", (Event("before_fit"),), catches=(catch,), exit=(Event("after_fit"),), always=always)
    rows = view(replace(fit(), root=Scope("fit", (scope,)))).root.children[0].children
    assert say.onwards(rows[1], rows) == expected


def test_an_exit_that_runs_whatever_happens_is_shown() -> None:
    """A `finally` that catches nothing is shown as what it fires before the exception goes on."""
    scope = Scope("context", (Event("before_fit"),), exit=(Event("after_epoch"), Event("after_fit")), always=True)
    shown = render("text", view(replace(fit(), root=Scope("validate", (scope,)))))
    assert "\n  on any exception: after_epoch, after_fit, then on outwards\n" in shown
