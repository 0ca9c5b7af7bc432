"""A rule's page, and the list of all, as Markdown: `loopscope explain` prints them, docs/rules/ holds them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from loopscope.findings import Rule

READS = {
    "loop": "the loop alone",
    "callbacks": "the loop and the source of the callbacks; nothing of it is run",
    "recording": "a recording: `loopscope check run.loop`",
}
"""What a rule needs, in words."""

SITES = {
    "fastai": "fastai/fastai",
    "fastbook": "fastai/fastbook",
    "pytorch-lightning": "Lightning-AI/pytorch-lightning",
    "ignite": "pytorch/ignite",
    "transformers": "huggingface/transformers",
    "accelerate": "huggingface/accelerate",
    "keras": "keras-team/keras",
}
"""Names of repositories, as threads are cited -> where they are on GitHub."""

MARKED = re.compile(r"(?<![`\w])\w*(?:__\w+__|[\w.]*<\w+>)")
"""Words with underscores at both ends, or with something in angle brackets: `__getitem__`, `self.learn.<name>`."""


def page(rule: Rule) -> str:
    """Return what a rule finds, why it matters, what to type, and a program with the fault and one without."""
    return "\n".join(_page(rule)) + "\n"


def index(rules: Iterable[Rule]) -> str:
    """Return the list of all rules, each with what it finds."""
    rows = [
        f"| [{one.name}]({one.name}.md) | {one.severity} | {', '.join(one.frameworks)} | {_words(one.says)} |"
        for one in rules
    ]
    head = ["| rule | severity | frameworks | what it finds |", "| --- | --- | --- | --- |"]
    return "\n".join(["# The rules of `loopscope check`", "", *head, *rows]) + "\n"


def _page(rule: Rule) -> Iterator[str]:
    yield f"# {rule.name}"
    yield ""
    yield f"{_words(_capital(rule.says))}."
    yield ""
    yield f"* Severity: {rule.severity}"
    yield f"* Frameworks: {', '.join(rule.frameworks)}"
    yield f"* Reads: {READS[rule.needs]}"
    if rule.threads:
        yield f"* Where users met it: {', '.join(map(_link, rule.threads))}"
    yield from ("", "## Why it matters", "", _words(rule.why), "", "## What to do", "", _words(rule.do))
    yield from ("", "## This has it", "", *_code(rule.fires), "", "## This has not", "", *_code(rule.silent))
    yield ""
    comment = f"`# loopscope: ignore[{rule.name}]` on the line of its `def`, or of its class"
    option = f"`loopscope check --ignore {rule.name}`"
    yield f"Where it is meant so: {option if rule.needs == 'recording' else f'{comment}; or {option}'}."


def _capital(text: str) -> str:
    """Return a sentence with a capital letter in front, unless it begins with a name of the code."""
    first = text.split(maxsplit=1)[0]
    return f"{text[0].upper()}{text[1:]}" if first.isalpha() else text


def _words(text: str) -> str:
    """Return Markdown that shows `text`: what it would read as a tag or as emphasis becomes code."""
    return MARKED.sub(r"`\g<0>`", text)


def _code(text: str) -> tuple[str, ...]:
    return ("```py", textwrap.dedent(text).strip("\n").rstrip(), "```")


def _link(thread: str) -> str:
    """Return `fastai#3048` as a link."""
    name, _, number = thread.partition("#")
    site = SITES.get(name, f"{name}/{name}" if "/" not in name else name)
    return f"[{thread}](https://github.com/{site}/issues/{number})"
