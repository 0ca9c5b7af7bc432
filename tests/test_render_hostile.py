"""What users name their callbacks and write into docstrings never turns into markup, and never breaks a format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len

from loopscope.model import Loop
from loopscope.render import FORMATS, Options, render
from loopscope.render import phrases as say
from loopscope.views import view
from tests import pages
from tests.loops import fit, reworded

ODD = st.text(st.sampled_from("_*`~|<>&[]()!#$\\\"'-+=.:/{}@^0 a\té→") | st.characters(), max_size=8)
WHOLE = ("file", "text")
"""Fields that only get something behind them: their beginning says what to do with the rest."""

MARKED = ("</style><script>alert(1)</script>", "**_~~`a`", "<!--", "[x](javascript:1)", "1. - + # >", "|", "&lt;&amp;")


def around(before: str, after: str) -> Loop:
    def change(field: str, text: str) -> str:
        if not text:
            return text
        return text + after if field in WHOLE else before + text + after

    return reworded(fit(), change)


def examples(test: Callable[..., None]) -> Callable[..., None]:
    for text in MARKED:
        test = example(before=text, after=text)(test)
    return settings(max_examples=60, deadline=None)(test)


def shown(format: str, loop: Loop, verbose: bool) -> str:
    return render(format, view(loop), Options(verbose=verbose))


def told(format: str, before: str, after: str, verbose: bool) -> tuple[str, str, Callable[[str], str]]:
    """Return the output with odd texts, the one with harmless ones, and what puts the odd into the harmless."""
    odd, end = say.plain(before), say.plain(after)
    with_odd = shown(format, around(odd, end), verbose)
    harmless = shown(format, around("Xhead", "Xtail"), verbose)
    return with_odd, harmless, lambda text: text.replace("Xhead", odd).replace("Xtail", end)


# -- Markdown --------------------------------------------------------------------------------------------------------


def tokens(markdown: str) -> Iterator[tuple[str, str]]:
    """What a Markdown reader makes of it: (kind, text); texts that stand together are one."""

    def flat(found: list[Token]) -> Iterator[tuple[str, str]]:
        for token in found:
            if token.type == "inline":
                yield from joined(token.children or [])
            else:
                yield token.type, ""

    return flat(MarkdownIt("commonmark").enable(["strikethrough", "table"]).parse(markdown))


def joined(children: list[Token]) -> Iterator[tuple[str, str]]:
    text = ""
    for token in children:
        if token.type in ("text", "text_special"):
            text += token.content
            continue
        yield "text", text
        yield token.type, token.content
        text = ""
    yield "text", text


@pytest.mark.parametrize("verbose", [False, True])
@examples
@given(before=ODD, after=ODD)
def test_markdown_shows_every_text_as_it_is(verbose: bool, before: str, after: str) -> None:
    """Read back, Markdown with odd texts has the structure of one with harmless texts, and the very texts."""
    odd, harmless, words = told("markdown", before, after, verbose)
    assert list(tokens(odd)) == [(kind, words(text)) for kind, text in tokens(harmless)]


# -- HTML -----------------------------------------------------------------------------------------------------------


def parts(element: Element) -> list[tuple[str, dict[str, str], str, str]]:
    return [(one.tag, dict(one.attrib), one.text or "", one.tail or "") for one in element.iter()]


@pytest.mark.parametrize("verbose", [False, True])
@examples
@given(before=ODD, after=ODD)
def test_html_shows_every_text_as_it_is(verbose: bool, before: str, after: str) -> None:
    """Read back, HTML with odd texts has the elements of one with harmless texts, and the very texts."""
    odd, harmless, words = told("html", before, after, verbose)
    expected = [
        (tag, {name: words(value) for name, value in attributes.items()}, words(text), words(tail))
        for tag, attributes, text, tail in parts(pages.parse(harmless))
    ]
    assert parts(pages.parse(odd)) == expected


def test_html_has_no_script_and_loads_nothing() -> None:
    """No script, no handler of a click, no address: the page is what it is."""
    page = pages.parse(shown("html", fit(), True))
    assert {element.tag for element in page.iter()}.isdisjoint({"script", "iframe", "img", "link", "a", "object"})
    names = {name for element in page.iter() for name in element.attrib}
    assert names <= {"class", "title", "open", "lang", "charset", "name", "content"}
    assert "url(" not in shown("html", fit(), True)


# -- terminal --------------------------------------------------------------------------------------------------------


@given(before=ODD, after=ODD, width=st.integers(24, 200), verbose=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_tree_keeps_to_its_width(before: str, after: str, width: int, verbose: bool) -> None:
    """At any width from 24 columns on, and whatever the names are, no line is wider than asked."""
    text = render("tree", view(around(before, after)), Options(verbose=verbose, width=width))
    assert [line for line in text.splitlines() if cell_len(line) > width] == []


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in ("json", "article")])
@given(odd=st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Co", "Cn")), max_size=6))
@settings(max_examples=30, deadline=None)
def test_nothing_reaches_a_terminal_or_a_page_that_does_not_print(format: str, odd: str) -> None:
    """Control characters, direction marks and lone surrogates are written out, never passed on."""
    text = shown(format, around(odd, odd), True)
    assert [c for c in text if c != "\n" and not c.isprintable()] == []
