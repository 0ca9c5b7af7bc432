"""JSON: whole, readable again, documented."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopscope import model, views
from loopscope.codec import NAMES
from loopscope.errors import BadValue
from loopscope.model import Loop
from loopscope.render import Options, render
from loopscope.render.json import SCHEMA, VERSION, load, row
from loopscope.views import view
from tests.loops import fit, reworded

DOCUMENT = (Path(__file__).parent.parent / "docs/loop-json.md").read_text()

PARTS = [
    *(cls for cls in vars(model).values() if dataclasses.is_dataclass(cls) and isinstance(cls, type)),
    views.Neighbours,
]


def written(loop: Loop) -> str:
    return render("json", view(loop), Options())


@pytest.mark.parametrize("epochs", [0, 2, None])
def test_what_was_written_is_read_again(epochs: int | None) -> None:
    """`load` gives the very loop that was written, and writing it again gives the same text."""
    text = written(fit(epochs))
    assert load(text) == fit(epochs)
    assert written(load(text)) == text


@given(odd=st.text(st.characters()))
@settings(max_examples=50, deadline=None)
def test_odd_texts_are_read_again(odd: str) -> None:
    """Whatever characters stand in a loop, lone surrogates included, its JSON is ASCII and gives them back."""
    loop = reworded(fit(), lambda field, text: odd + text)
    assert written(loop).isascii()
    assert load(written(loop)) == loop


def fields_of(section: str) -> list[str]:
    part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    return [] if part is None else re.findall(r"^\| `(\w+)` \|", part[1], re.M)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_the_document_names_every_field_of_the_model(part: type) -> None:
    """Each part of the model has a section with exactly its fields, in their order."""
    expected = [*(["kind"] if part in NAMES else []), *(field.name for field in dataclasses.fields(part))]
    assert fields_of(part.__name__) == expected


def test_the_document_names_every_other_field() -> None:
    """So have the file and its rows; and no section describes what does not exist."""
    assert fields_of("The file") == list(json.loads(written(fit())))
    assert fields_of("Row") == list(row(view(fit()).root))
    sections = re.findall(r"^## (.+)$", DOCUMENT, re.M)
    assert sorted(sections) == sorted(["The file", "Row", *(part.__name__ for part in PARTS)])


def test_the_document_names_the_version() -> None:
    """The schema and the version in the document are those that are written."""
    assert f'"schema": "{SCHEMA}", "version": {VERSION}' in DOCUMENT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is no JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)). "
              "Give the text of a file saved as .json."),
        ("[]", "expected schema 'loopscope/loop', version 1; got None, version None."),
        ('{"schema": "loopscope/loop", "version": 2}',
         "expected schema 'loopscope/loop', version 1; got 'loopscope/loop', version 2."),
        ('{"schema": "loopscope/loop", "version": 1}', "the loop in this JSON is not complete (KeyError: 'loop')."),
    ],
)  # fmt: skip
def test_what_is_no_loop_is_refused(text: str, message: str) -> None:
    """Text that is no JSON, no loop, of another version or not complete is an error that says so."""
    with pytest.raises(BadValue) as raised:
        load(text)
    assert str(raised.value) == message


def test_a_value_of_the_wrong_type_is_refused() -> None:
    """A number where a name belongs, or an unknown kind of node, is an error and not a broken loop."""
    whole = json.loads(written(fit()))
    for wrong in ({"framework": 7}, {"cancels": "all"}, {"root": {"kind": "phase"}}):
        with pytest.raises(BadValue, match="is not complete"):
            load(json.dumps({**whole, "loop": {**whole["loop"], **wrong}}))
