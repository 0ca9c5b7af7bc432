"""The loop as a tree for a terminal.

Compact: each event's handlers follow it on its line, what is remarkable about one stands in a footnote. With
`verbose` each handler has rows of its own. Constraint: names get into rich as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from loopscope.render import Options
from loopscope.render import phrases as say
from loopscope.render.entries import Entry, entries
from loopscope.render.plaintext import printed
from loopscope.views import Landed, View, landed

WIDTH = 100

SCOPE = "bold cyan"
EVENT = "bold"
CANCEL = "red"
STEP = "green"
MINE = "bold magenta"
WHY = "yellow"
FOUND = {"error": "bold red"}
NEVER = "dim strike"
QUIET = "dim"


@dataclass(frozen=True, slots=True)
class Signs:
    """The signs of the tree; `ASCII` for terminals that have no others."""

    arrow: str = "→"
    times: str = "×"
    step: str = "·"
    cancel: str = "✗"
    never: str = "⊘"
    mine: str = "★"


UNICODE = Signs()
ASCII = Signs("->", "x", "-", "!", "/", "*")
MEANING = {
    "mine": "yours",
    "cancel": "ends its scope early, what stands below it still runs",
    "never": "never runs",
}


def render(view: View, options: Options) -> str:
    """Return the tree as text, with terminal colours if `options.color`."""
    return printed(renderable(view, options), options.width or WIDTH, options.color)


def renderable(view: View, options: Options) -> RenderableType:
    """Return what rich prints: the tree, the call and the notes above it, one's own callbacks and footnotes below."""
    return _Map(view, options)


@dataclass(frozen=True, slots=True)
class _Map:
    view: View
    options: Options

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _Drawing(self.view, self.options, options.ascii_only).parts()


@dataclass(slots=True)
class _Drawing:
    """One drawing: collects footnotes, and the signs that need explaining, as it goes."""

    view: View
    options: Options
    ascii_only: bool
    footnotes: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @property
    def signs(self) -> Signs:
        return ASCII if self.ascii_only else UNICODE

    # -- the whole -----------------------------------------------------------------------------------------

    def parts(self) -> Iterator[RenderableType]:
        loop = self.view.loop
        yield self.text(say.plain(loop.call), "bold") + self.text(f"  {say.versions(loop)}", QUIET)
        for note in loop.notes:
            yield _Hanging(self.text("note  ", WHY), self.text(say.plain(note)))
        yield self.tree()
        own = list(landed(self.view.root))
        yield from [Text(), *self.own(own)] if own else []
        legend = [*self.legend(), *self.found()]
        yield from [Text(), *legend] if legend else []

    def tree(self) -> Tree:
        """Return the tree; a run that is nothing but one scope starts with that scope."""
        top = entries(self.view, self.options)
        if len(top) == 1 and top[0].kind == "scope":
            tree = Tree(self.line(top[0]), guide_style=QUIET)
            self.grow(tree, top[0].children)
        else:
            tree = Tree(self.text(say.plain(self.view.root.name), SCOPE), guide_style=QUIET)
            self.grow(tree, top)
        return tree

    def grow(self, tree: Tree, items: Sequence[Entry]) -> None:
        """Add `items` below `tree`; the chains of sibling events start in one column."""
        column = max((len(item.names[0]) for item in items if item.handlers), default=0)
        for item in items:
            if item.kind == "cancel" and item.brief and not (self.options.verbose and _handled(item)):
                tree.add(self.cancel(item))
                continue
            branch = tree.add(self.described(item, self.line(item, column)))
            self.grow(branch, item.children)
            for one in item.handlers if self.options.verbose else ():
                branch.add(self.described(one, self.line(one)))

    def own(self, own: Sequence[Landed]) -> Iterator[RenderableType]:
        yield self.sign("mine", MINE) + self.text("yours", MINE)
        self.used.discard("mine")
        column = max(len(say.mine(one)) for one in own)
        for one in own:
            head = self.text(f"  {say.mine(one)}".ljust(column + 2))
            where = say.inside(one)
            yield _Line([head, self.text(f"  {say.yours(one)}"), self.text(f"  in {where}" if where else "", QUIET)])

    def legend(self) -> Iterator[RenderableType]:
        for remark, number in self.footnotes.items():
            yield _Hanging(self.text(f"[{number}] ", WHY), self.text(remark))
        for what, meaning in say.legend(self.view.loop) if self.options.verbose else ():
            yield _Hanging(self.text(f"{what}  ", QUIET), self.text(meaning, QUIET))
        said = [self.sign(sign) + self.text(MEANING[sign], QUIET) for sign in MEANING if sign in self.used]
        if said:
            yield _Line([Text("   ") + one if at else one for at, one in enumerate(said)])

    def found(self) -> Iterator[RenderableType]:
        for what, text in say.found(self.view):
            yield _Hanging(self.text(f"{what}  ", FOUND.get(what, WHY)), self.text(text))

    # -- lines ---------------------------------------------------------------------------------------------

    def line(self, item: Entry, column: int = 0) -> RenderableType:
        """Return the line of an entry: names, how often, and either asides or footnotes and handlers."""
        name = self.names(item)
        if item.after:  # a cancel whose events have rows of their own
            return _Line([*name, self.text(f"  this, {item.after}", QUIET)])
        if item.times:
            name[-1] = name[-1] + self.text(f" {self.signs.times} {item.times}", "cyan")
        if self.options.verbose:
            why = [self.text(f"  {item.why}", WHY)] if item.why else []
            return _Line([*name, *why, *(self.text(f"  {one}", QUIET) for one in item.aside)])
        marks = self.marks(item)
        if item.handlers and not marks:
            name[-1].pad_right(column - name[-1].cell_len)
        return _Line([*name, marks, *self.chain(item)])

    def cancel(self, item: Entry) -> RenderableType:
        pieces = [*self.names(item), self.marks(item)]
        lead = f" {self.signs.arrow} "
        for event in item.children:
            pieces += [self.text(lead + event.names[0], EVENT if event.handlers else QUIET), *self.chain(event)]
            lead = ", "
        return _Line(pieces, self.text(lead + item.after, QUIET) if item.after else None)

    def chain(self, event: Entry) -> list[Text]:
        """Return the handlers of an event as pieces of its line: `  A → B [1] → ★ Mine`."""
        lead = Text("  ")
        pieces = []
        for one in event.handlers:
            pieces.append(lead + self.names(one)[0] + self.marks(one))
            lead = self.text(f" {self.signs.arrow} ", QUIET)
        return pieces

    def described(self, item: Entry, first: RenderableType) -> RenderableType:
        if not self.options.verbose or not item.about:
            return first
        styles = {"says": "italic", "does": "", "note": WHY, "warning": WHY, "stands": MINE, **FOUND}
        lines = [(self.text(f"{what}  ", QUIET), self.text(text, styles.get(what, QUIET))) for what, text in item.about]
        return Group(first, *(Padding(_Hanging(*line), (0, 0, 0, 2), expand=False) for line in lines))

    # -- words ---------------------------------------------------------------------------------------------

    def names(self, item: Entry) -> list[Text]:
        """Return the names of an entry, styled by what it is, behind its sign."""
        if item.status == "never":
            names = [self.text(name, NEVER) for name in item.names]
            names = [name + self.text(", ", QUIET) for name in names[:-1]] + names[-1:]
            names[0] = self.sign("never") + names[0]
        elif item.kind == "step":
            names = [self.text(f"{self.signs.step} {name}", STEP) for name in item.names]
            names = [Text("  ") + name if at else name for at, name in enumerate(names)]
        elif item.kind == "cancel":
            names = [self.sign("cancel", CANCEL) + self.text(item.names[0], CANCEL if _handled(item) else QUIET)]
        else:
            style = {"scope": SCOPE, "event": EVENT if item.handlers else QUIET}.get(item.kind, "")
            names = [self.text(item.names[0], MINE if item.mine else style)]
        return [self.sign("mine", MINE) + names[0]] if item.mine else names

    def marks(self, item: Entry) -> Text:
        """Return the numbers of the footnotes that say what is remarkable about an entry."""
        shown = [] if self.options.verbose else item.shown(verbose=False)
        numbers = [str(self.footnotes.setdefault(remark, len(self.footnotes) + 1)) for remark in shown]
        return self.text(f" [{','.join(numbers)}]", WHY) if numbers else Text()

    def sign(self, name: str, style: str = QUIET) -> Text:
        self.used.add(name)
        return self.text(f"{getattr(self.signs, name)} ", style)

    def text(self, text: str, style: str = "") -> Text:
        safe = text.encode("ascii", "backslashreplace").decode() if self.ascii_only else text
        return Text.assemble((safe, style))  # not Text(safe, style): what is joined to it would inherit the style


def _handled(item: Entry) -> bool:
    return any(child.handlers for child in item.children)


@dataclass(slots=True)
class _Line:
    """Pieces that share a line as long as they fit; the rest goes on below, a little further in.

    `optional` stays whole: on the last line, or on one of its own.
    """

    pieces: Sequence[Text]
    optional: Text | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [Text()]
        for piece in self.pieces:
            if lines[-1] and lines[-1].cell_len + piece.cell_len > options.max_width:
                lines.append(Text("    ") + piece[len(piece) - len(piece.plain.lstrip()) :])
            else:
                lines[-1].append_text(piece)
        if self.optional and lines[-1].cell_len + self.optional.cell_len > options.max_width:
            lines.append(Text("    ") + self.optional[len(self.optional) - len(self.optional.plain.lstrip(", ")) :])
        elif self.optional:
            lines[-1].append_text(self.optional)
        yield from lines


@dataclass(slots=True)
class _Hanging:
    """A text behind a short lead; its further lines start where it starts."""

    lead: Text
    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = self.lead.cell_len
        for at, line in enumerate(self.text.wrap(console, max(options.max_width - indent, 1))):
            yield (Text(" " * indent) if at else self.lead) + line
