"""The loop as HTML without script: it folds by itself, and sits in a notebook, light or dark, or in a page of its own.

Constraint: built as a tree of elements, so what is inserted is escaped by the serializer. Without its style, where a
host strips it, it still reads as nested lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from xml.etree.ElementTree import Element, SubElement, tostring

from loopscope.render import Options
from loopscope.render import phrases as say
from loopscope.render.entries import Entry, entries
from loopscope.views import View, landed

STYLE = """
.loopscope { font: 13px/1.5 system-ui, sans-serif; max-width: 72em; }
.loopscope ul, .loopscope ol, .loopscope li { list-style: none !important; }
.loopscope ul, .loopscope ol { margin: 0 0 0 .45em !important; padding: 0 0 0 1em !important; }
.loopscope ul { border-left: 1px solid rgba(128, 128, 128, .35); }
.loopscope > ul { border: 0; margin: 0 !important; padding: 0 !important; }
.loopscope li { margin: 0 !important; padding: 0; }
.loopscope li.flat { padding-left: 1em; }
.loopscope p { margin: 0 0 .3em !important; }
.loopscope summary { cursor: pointer; display: list-item; }
.loopscope .event > details > ol { margin: .1em 0 .5em .45em !important; }
.loopscope code { font: 12px/1.4 ui-monospace, monospace; background: none; color: inherit; padding: 0; }
.loopscope small, .loopscope .idle > details > summary > b { opacity: .7; font-size: 12px; font-weight: normal; }
.loopscope s { opacity: .6; }
.loopscope .scope > details > summary > b { color: #0e8a9c; }
.loopscope .step > i { color: #3a8f3a; font-style: normal; }
.loopscope .cancel > details > summary > b, .loopscope .cancel > b { color: #d1495b; font-weight: normal; }
.loopscope mark { background: rgba(240, 170, 0, .3); color: inherit; border-radius: 3px; padding: 0 .25em; }
.loopscope em { color: #b07600; font-style: normal; font-size: 12px; }
.loopscope abbr { text-decoration: underline dotted; cursor: help; }
.loopscope .about { display: block; padding-left: 1em; }
"""
"""Colours of middling brightness, for light and dark hosts alike; `!important` where notebooks style every list."""


def render(view: View, options: Options) -> str:
    """Return a whole page; with `verbose` everything is unfolded."""
    page = Element("html", lang="en")
    head = SubElement(page, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width")
    SubElement(head, "meta", name="color-scheme", content="light dark")
    SubElement(head, "title").text = say.plain(view.loop.call)
    SubElement(page, "body").append(_element(view, options))
    return f"<!DOCTYPE html>\n{_written(page)}\n"


def fragment(view: View, options: Options) -> str:
    """Return what a notebook inserts into its own page: one `div`, its style included."""
    return _written(_element(view, options)) + "\n"


def _written(element: Element) -> str:
    return tostring(element, encoding="unicode", method="html")


def _element(view: View, options: Options) -> Element:
    top = Element("div", {"class": "loopscope"})
    SubElement(top, "style").text = STYLE
    head = SubElement(top, "p")
    SubElement(head, "code").text = say.plain(view.loop.call)
    _said(head, "small", say.versions(view.loop))
    for note in view.loop.notes:
        _said(SubElement(top, "p"), "em", f"note: {say.plain(note)}")
    _list(top, "ul", entries(view, replace(options, verbose=True)), options.verbose)
    own = list(landed(view.root))
    if own:
        SubElement(SubElement(top, "p"), "mark").text = "★ yours"
        listed = SubElement(top, "ul")
        for one in own:
            SubElement(listed, "li").text = f"{say.mine_inside(one)}: {say.yours(one)}"
    for what, text in say.found(view):
        _said(SubElement(top, "p"), "em", f"{what}: {text}")
    SubElement(SubElement(top, "p"), "small").text = "; ".join(
        f"{what}: {meaning}" for what, meaning in say.legend(view.loop)
    )
    return top


def _list(parent: Element, tag: str, items: Iterable[Entry], unfolded: bool) -> None:
    listed = SubElement(parent, tag)
    listed.text = "\n"
    for item in items:
        _item(SubElement(listed, "li", {"class": _class(item)}), item, unfolded)
        listed[-1].tail = "\n"


def _class(item: Entry) -> str:
    idle = " idle" if item.kind == "event" and not item.handlers else ""
    folds = item.children or item.about or item.handlers
    return f"{item.kind}{idle}" + ("" if folds and item.kind != "handler" else " flat")


def _item(li: Element, item: Entry, unfolded: bool) -> None:
    """Fill a list item: a line, and what can be unfolded below it."""
    if item.kind == "handler":
        _handler(li, item)
    elif not (item.children or item.about or item.handlers):
        _line(li, item)
    else:
        details = SubElement(li, "details", {"open": "open"} if unfolded or item.kind == "scope" else {})
        _line(SubElement(details, "summary", {"title": "; ".join(item.aside)} if item.kind == "scope" else {}), item)
        _about(details, item)
        if item.handlers:
            _list(details, "ol", item.handlers, unfolded)
        if item.children:
            _list(details, "ul", item.children, unfolded)


def _line(parent: Element, item: Entry) -> None:
    for name in item.names:
        _name(parent, item, name)
    if item.times:
        _tail(parent, f" × {item.times}")
    if item.kind == "cancel":
        _fired(parent, item)
    _chain(parent, item)
    for text in filter(None, (item.why, *(item.remarks if item.kind != "scope" else ()))):
        _said(parent, "em", text)
    for text in item.aside if item.kind == "step" else ():
        _said(parent, "small", text)


def _name(parent: Element, item: Entry, name: str) -> None:
    signs = {"cancel": "✗ ", "step": "· "}
    tag = "s" if item.status == "never" else "i" if item.kind == "step" else "mark" if item.mine else "b"
    if item.kind == "handler" and tag == "b":
        tag = "span"
    SubElement(parent, tag).text = ("★ " if item.mine else signs.get(item.kind, "")) + name


def _chain(parent: Element, event: Entry) -> None:
    """Append the handlers of an event in calling order: `A → B`; why one is skipped unfolds with its event."""
    for at, one in enumerate(event.handlers):
        _tail(parent, " → " if at else " ")
        said = "; ".join(one.shown(verbose=False))
        _name(SubElement(parent, "abbr", title=said) if said else parent, one, one.names[0])
        _found(parent, one)


def _found(parent: Element, item: Entry) -> None:
    for text in item.found:
        _said(parent, "em", f"⚠ {text}")


def _fired(parent: Element, item: Entry) -> None:
    _tail(parent, " → ")
    for at, event in enumerate(child for child in item.children if child.kind == "event"):
        _tail(parent, f"{', ' if at else ''}{event.names[0]}")
        _chain(parent, event)
    _tail(parent, f"{', ' if item.children else ''}{item.after}")


def _handler(li: Element, item: Entry) -> None:
    _name(li, item, item.names[0])
    _found(li, item)
    if item.why:
        _said(li, "em", item.why)
    for text in item.aside:
        _said(li, "small", text)
    _about(li, item)


def _about(parent: Element, item: Entry) -> None:
    fired = [("fired at", text) for text in item.aside if item.kind == "event"]
    for what, text in (*item.about, *fired):
        line = SubElement(parent, "span", {"class": "about"})
        SubElement(line, "small").text = what
        line[-1].tail = f" {text}"


def _said(parent: Element, tag: str, text: str) -> None:
    _tail(parent, "  ")
    SubElement(parent, tag).text = text


def _tail(parent: Element, text: str) -> None:
    """Append text behind what `parent` holds already."""
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text
