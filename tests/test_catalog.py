"""The catalogue is whole, `loopscope events` shows it without any framework, and the pages made of it are not stale."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import pytest

from loopscope import api
from loopscope.catalog import FRAMEWORKS, MOMENTS, Framework, described, framework
from loopscope.errors import UnknownChoice
from loopscope.render.moments import FORMATS

ROOT = Path(__file__).resolve().parent.parent
ROOTS = ("fastai", "ignite", "keras", "lightning", "pytorch_lightning", "tensorflow", "torch", "transformers")

CALLS = ("evaluate", "fit", "predict", "run", "train")
"""Names of methods with which a sentence may begin."""

Golden = Callable[[str, str], None]

every = pytest.mark.parametrize("name", FRAMEWORKS)


def command(*arguments: str, columns: int = 80, before: str = "") -> tuple[int, str, str]:
    """What `loopscope ARGUMENTS` says in a terminal of so many columns, after the Python code `before`."""
    code = f"{before}\nimport sys\nsys.argv[1:] = {list(arguments)!r}\nfrom loopscope.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
    )
    return done.returncode, done.stdout, done.stderr


def words(text: str) -> str:
    """The text with all blanks and line ends as one blank: where it was wrapped does not matter."""
    return " ".join(text.split())


# -- the data ----------------------------------------------------------------------------------------------------------


@every
def test_every_moment_is_there_once(name: str) -> None:
    """Each moment has its events, or what to do instead, and never both; there are no other moments."""
    of = framework(name)
    assert sorted([*of.moments, *of.absent]) == sorted(MOMENTS)
    assert [moment for moment in MOMENTS if moment in of.moments] == list(of.moments)
    assert [moment for moment in MOMENTS if moment in of.absent] == list(of.absent)


@every
def test_the_events_of_a_moment_are_events(name: str) -> None:
    """A moment names events that the framework has, each once, and at least one."""
    of = framework(name)
    for moment, events in of.moments.items():
        assert isinstance(events, tuple), moment
        assert events, moment
        assert len(set(events)) == len(events), moment
        assert set(events) <= set(of.events), moment


def sentences(of: Framework) -> Iterator[tuple[str, str]]:
    """Every sentence of a framework with what it is about."""
    yield from of.events.items()
    yield from of.absent.items()


@every
def test_sentences_are_sentences(name: str) -> None:
    """Each description is one to three plain sentences on one line, which every terminal can show."""
    for about, text in sentences(framework(name)):
        assert text == words(text), about
        first = text.split()[0]
        assert first[0].isupper() or {*"_.("} & {*first} or first in CALLS, (about, text)
        assert text.endswith("."), (about, text)
        assert 12 <= len(text) <= 280, (about, text)
        assert text.isascii(), (about, text)


@every
def test_no_two_events_have_one_description(name: str) -> None:
    """What is said of one event fits no other."""
    texts = [text for _, text in sentences(framework(name))]
    assert sorted(texts) == sorted(set(texts))


@pytest.mark.parametrize("pair", list(combinations(FRAMEWORKS, 2)), ids="-".join)
def test_no_two_frameworks_have_one_text(pair: tuple[str, str]) -> None:
    """Frameworks differ, and so does what is said of them: no sentence is another one's with a name replaced."""
    first, second = (dict(sentences(framework(name))) for name in pair)
    for about, text in first.items():
        near = difflib.get_close_matches(text, second.values(), n=1, cutoff=0.95)
        assert near == [], (about, text)


def test_an_unknown_framework_is_refused() -> None:
    """The error names what was given, what is near, and all that is accepted."""
    with pytest.raises(UnknownChoice, match=r"^unknown framework 'keros'\. Did you mean 'keras'\? Accepted: fastai, "):
        framework("keros")


def test_an_event_that_is_new_says_so() -> None:
    """A newer framework's event is not left out; its name is all that is known of it."""
    assert described({"on_save": "Saved."}, ["on_save", "on_push_begin"]) == {
        "on_save": "Saved.",
        "on_push_begin": "on push begin: loopscope has no description of it yet.",
    }


# -- the command -------------------------------------------------------------------------------------------------------


def column(out: str, head: str) -> str:
    """What stands in the second column of the table whose first one is called `head`, on one line."""
    table = re.split(rf"^{head}(?: .*)?$", out, flags=re.M)[1].split("\n\n")[0].splitlines()
    lead = min(len(line) - len(line.lstrip()) for line in table if line.startswith(" "))
    return words(" ".join(line[lead:] for line in table))


@every
def test_one_framework(name: str) -> None:
    """One framework, in 80 columns: every moment with its events or what to do instead, and every event described."""
    of = framework(name)
    status, out, err = command("events", name)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    moments, events = column(out, "moment"), column(out, "event")
    for moment, meaning in MOMENTS.items():
        called = f"{', '.join(of.moments[moment])} {meaning}" if moment in of.moments else f"nobody {meaning}"
        assert f"\n{moment} " in out
        assert words(f"{called} {of.absent.get(moment, '')}") in moments
    for event, text in of.events.items():
        assert f"\n{event} " in out
        assert text in events


def test_all_frameworks() -> None:
    """Where five columns do not fit, each moment has a paragraph with a line for each framework."""
    status, out, err = command("events")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    title, *paragraphs, last = out.split("\n\n")
    assert title == "The same moment in fastai, lightning, transformers, keras, ignite"
    assert last == "loopscope events fastai: one framework, with all its events.\n"
    expected = [
        words(" ".join([moment, meaning, *(f"{of.name} {said(of, moment)}" for of in map(framework, FRAMEWORKS))]))
        for moment, meaning in MOMENTS.items()
    ]
    assert list(map(words, paragraphs)) == expected


def said(of: Framework, moment: str) -> str:
    return ", ".join(of.moments[moment]) if moment in of.moments else f"nobody. {of.absent[moment]}"


def test_side_by_side() -> None:
    """Where the columns fit, the frameworks stand beside each other, with what to do instead below; all names whole."""
    some = [framework(name) for name in FRAMEWORKS]
    out = FORMATS["text"](some, 300)
    _, table, notes, _ = out.split("\n\n")
    assert table.splitlines()[0].split() == ["moment", *FRAMEWORKS]
    for of in some:
        for moment in of.moments.values():
            assert all(event in table for event in moment)
        for moment, text in of.absent.items():
            assert f"{of.name}, {moment}: {text}" in words(notes)
    absent = sum(len(of.absent) for of in some)
    assert [f"[{at}]" in table and f"[{at}]" in notes for at in range(1, absent + 1)] == [True] * absent
    assert table.count("nobody") == absent


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_name_is_broken(width: int) -> None:
    """Whatever the width and however many frameworks, the name of an event stays whole, and no line is too long."""
    for count in range(1, len(FRAMEWORKS) + 1):
        some = [framework(name) for name in FRAMEWORKS[:count]]
        out = FORMATS["text"](some, width)
        assert max(map(len, out.splitlines())) <= width
        assert all(event in out for of in some for events in of.moments.values() for event in events)


def test_what_it_looks_like(golden: Golden) -> None:
    """One framework alone, and two side by side, in 80 columns."""
    golden("events-one.txt", FORMATS["text"]([framework("fastai")], 80))
    golden("events-two.txt", FORMATS["text"]([framework("fastai"), framework("keras")], 80))


def test_json_is_whole() -> None:
    """JSON has everything, in the order that was asked for; a framework that is named twice is there once."""
    status, out, _ = command("events", "-f", "json", "keras", "fastai", "keras")
    whole = json.loads(out)
    assert (status, whole["schema"], whole["version"]) == (0, "loopscope/moments", 1)
    assert whole["moments"] == dict(MOMENTS)
    assert list(whole["frameworks"]) == ["keras", "fastai"]
    for name, found in whole["frameworks"].items():
        of = framework(name)
        assert found["events"] == dict(of.events)
        assert found["absent"] == dict(of.absent)
        assert {moment: tuple(events) for moment, events in found["moments"].items()} == dict(of.moments)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("kears", " Did you mean 'keras'?"),
        ("pytorch_lightning", " Did you mean 'lightning'?"),
        ("pytorch-ignite", " Did you mean 'ignite'?"),
        ("skorch", ""),
    ],
)
def test_a_misspelt_framework(given: str, hint: str) -> None:
    """The error names what was given, what was probably meant, and what is accepted; nothing is shown."""
    message = f"Error: unknown framework {given!r}.{hint} Accepted: {', '.join(FRAMEWORKS)}.\n"
    assert command("events", "fastai", given) == (2, "", message)


def test_a_misspelt_format() -> None:
    """The formats are named."""
    status, out, err = command("events", "-f", "xml")
    assert (status, out) == (2, "")
    assert "'xml' is not one of 'text', 'markdown', 'json'" in err
    with pytest.raises(UnknownChoice, match=r"^unknown format 'jsn'\. Did you mean 'json'\?"):
        api.moments("fastai").render("jsn")
    assert tuple(FORMATS) == api.MOMENT_FORMATS


def test_no_framework_is_imported() -> None:
    """It works where none is installed, in every format: nothing of them is looked for."""
    nothing = f"import sys\nsys.modules.update(dict.fromkeys({ROOTS!r}))"
    for format in api.MOMENT_FORMATS:
        assert command("events", "-f", format, before=nothing)[0] == 0


def test_a_terminal_that_knows_ascii_only() -> None:
    """All of it is ASCII."""
    assert all(api.moments(*names).render().isascii() for names in [(), *((name,) for name in FRAMEWORKS)])


def test_colour_only_on_a_terminal() -> None:
    """What goes into a pipe has neither escape sequences nor blanks at the end of its lines."""
    out = command("events", "fastai")[1]
    assert "\x1b" not in out
    assert out == api.moments("fastai").render(width=80)


def test_in_a_notebook() -> None:
    """The moments show themselves as Markdown; `str` and `repr` are what they are elsewhere."""
    moments = api.moments("fastai", "keras")
    assert moments._repr_mimebundle_() == {"text/markdown": moments.render("markdown"), "text/plain": str(moments)}
    assert str(moments) + "\n" == moments.render("text")
    assert repr(moments) == "<the moments of fastai, keras; print() shows them>"


# -- pages that are made of it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["moments", "versions"])
def test_the_pages_are_not_stale(tool: str) -> None:
    """docs/moments.md and the README's table of versions are what the tools make of the data."""
    command = [sys.executable, ROOT / "tools" / f"{tool}.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    """One word changed in the page, or one figure in the table, and `--check` fails, says what, and how to mend it."""
    for name in ("src", "tools", "docs/moments.md", "README.md", "pyproject.toml", "constraints.txt"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(ROOT / name) if name == "src" else copy(ROOT / name, place)
    for tool, page, held, now in (
        ("moments", "docs/moments.md", "before_fit", "before_fitting"),
        ("versions", "README.md", "torch 2.", "torch 1."),
    ):
        text = (tmp_path / page).read_text(encoding="utf-8")
        command = [sys.executable, tmp_path / "tools" / f"{tool}.py"]
        (tmp_path / page).write_text(text.replace(held, now, 1), encoding="utf-8")
        done = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert now in done.stderr
        assert f"python tools/{tool}.py" in done.stderr
        subprocess.run(command, check=True, capture_output=True)
        written = (tmp_path / page).read_text(encoding="utf-8")
        python = "| {}.{} |".format(*sys.version_info)  # that of who writes it stands in the table
        assert re.sub(r"\| 3\.\d+ \|$", python, text, flags=re.M) == written


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def test_the_page_is_what_the_command_prints() -> None:
    """docs/moments.md has every framework's events, and is what `loopscope events -f markdown` gives."""
    assert command("events", "-f", "markdown") == (0, (ROOT / "docs/moments.md").read_text(encoding="utf-8"), "")


def test_what_ran_is_what_the_readme_says() -> None:
    """Where CI requires a framework, what is installed of it is what the README says that the tests ran with."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in filter(None, os.environ.get("LOOPSCOPE_REQUIRE", "").split(",")):
        row = re.search(rf"^\| {name} \|.*$", readme, re.M)
        assert row is not None, name
        tested = [one.split() for one in row[0].split(" | ")[3].split(", ")]
        assert tested == [[package, version(package).partition("+")[0]] for package, _ in tested]
