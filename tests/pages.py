"""Reads HTML with the standard library's parser, as far as tests need it: elements, attributes, text."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder

VOID = ("meta", "link", "br", "img", "input")


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tree = TreeBuilder()
        self.tree.start("page", {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self.tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tree.end(tag)

    def handle_data(self, data: str) -> None:
        self.tree.data(data)


def parse(html: str) -> Element:
    """Return the page as an element tree; an element that is closed in the wrong place is an AssertionError."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    builder.tree.end("page")
    return builder.tree.close()


def text(element: Element) -> str:
    """Return all text in an element, blanks in a row as one."""
    return " ".join("".join(element.itertext()).split())
