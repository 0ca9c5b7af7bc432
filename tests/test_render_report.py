"""The formats of a report: whole outputs, the same figures in all of them, and nothing lost or broken on the way."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from loopscope import report as model
from loopscope.errors import BadValue, UnknownChoice
from loopscope.render import phrases
from loopscope.render.report import FORMATS, SORTS, SUFFIXES, Options, figures, render
from loopscope.render.report.json import SCHEMA, VERSION
from loopscope.render.report.screen import renderable
from loopscope.report import At, Ending, Line, Report, Spoken, Stats, Track
from tests.reports import REPORTS, branch, finished, leaf, lines, raised, reworded, stopped, track

Golden = Callable[[str, str], None]

DOCUMENT = (Path(__file__).parent.parent / "docs/report-json.md").read_text()
PARTS = [cls for cls in vars(model).values() if dataclasses.is_dataclass(cls) and isinstance(cls, type)]
SUFFIX = {format: suffix for suffix, format in SUFFIXES.items()}


def written(report: Report) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(render("json", report))["report"])


# -- the samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_the_samples_add_up(name: str) -> None:
    """In the reports that these tests use each row is the sum of what is below it, and all sum to the wall time."""
    report = REPORTS[name]()
    for line in lines(report):
        assert line.stats.total == line.own + sum(child.stats.total for child in line.children)
    for one in report.tracks:
        assert one.sum == one.root.stats.total == sum(category.total for category in one.categories)
    assert report.wall == max(one.sum for one in report.tracks)


# -- whole outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_the_whole_text(name: str, golden: Golden) -> None:
    """What a terminal of 100 columns shows of each report is exactly its golden file."""
    golden(f"report-{name}.txt", render("text", REPORTS[name]()))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_other_widths(width: int, golden: Golden) -> None:
    """So is what narrower and wider terminals show; nothing goes over their edge."""
    text = render("text", stopped("killed"), Options(width=width, top=3))
    assert max(map(cell_len, text.splitlines())) <= width
    golden(f"report-{width}-columns.txt", text)


@pytest.mark.parametrize("format", ["csv", "json", "markdown"])
@pytest.mark.parametrize("name", ["raised", "cancelled"])
def test_the_other_formats(format: str, name: str, golden: Golden) -> None:
    """Each other format gives exactly its golden file."""
    golden(f"report-{name}{SUFFIX[format]}", render(format, REPORTS[name](), Options(depth=4)))


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_only_returns_its_text(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Rendering prints nothing, gives the same twice, and its text ends with one line end and no line with a blank."""
    text = render(format, raised())
    assert text == render(format, raised())
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("format", FORMATS)
def test_a_report_of_nothing(format: str) -> None:
    """A recording in which nothing ran, and one without any thread, are reports like others."""
    nothing = Stats(0, 0, 0, 0, 0)
    empty = Report("a.loop", "closed", 0, {}, (Track("MainThread", Line("thread", "MainThread", nothing)),))
    assert "a.loop" in render(format, empty) or format == "csv"
    assert render(format, replace(empty, tracks=())).endswith("\n")


def test_a_terminal_of_ascii_gets_ascii() -> None:
    """Where the terminal has no other signs the report uses ASCII's, in the same lines."""

    class Ascii(io.StringIO):
        encoding = "ascii"

    out = Ascii()
    Console(file=out, width=100, force_jupyter=False, _environ={}).print(renderable(raised(), Options()))
    plain = [line.rstrip() for line in out.getvalue().splitlines()]
    whole = render("text", raised()).translate(str.maketrans("µ×█▌│├└…", "ux##||`~")).splitlines()
    assert plain == whole


def test_colours_are_only_there_when_asked_for() -> None:
    """`color` adds colours and changes nothing else."""
    plain, coloured = render("text", raised()), render("text", raised(), Options(color=True))
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()] == plain.splitlines()


# -- what a reader may choose ------------------------------------------------------------------------------------------


def paths(report: Report, **options: Any) -> list[str]:
    return [row["path"] for row in csv.DictReader(io.StringIO(render("csv", report, Options(**options))))]


def test_depth_folds_what_is_below() -> None:
    """With a depth no row below it is shown, all others are, and the fold says how many rows it holds."""
    every = paths(finished())
    for depth in range(9):
        assert paths(finished(), depth=depth) == [path for path in every if path.count("/") + bool(path) <= depth]
    shown = render("text", finished(), Options(depth=0))
    assert f"MainThread … {len(every) - 1} rows " in shown


@pytest.mark.parametrize("sort", SORTS)
def test_sort_orders_what_stands_side_by_side(sort: Any) -> None:
    """Whatever the order, the same rows stand below the same one, the greatest first."""
    made = render("csv", finished(), Options(sort=sort))
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(made))}
    assert sorted(rows) == sorted(paths(finished()))
    if sort == "tree":
        return
    below: dict[str, list[float]] = {}
    for path, row in list(rows.items())[1:]:
        below.setdefault(path.rpartition("/")[0], []).append(float(row[sort if sort == "count" else f"{sort}_ns"]))
    assert all(values == sorted(values, reverse=True) for values in below.values())


def test_top_bounds_the_slowest() -> None:
    """`top` is how many of the slowest handlers are listed, none with 0."""
    tables = [render("markdown", finished(), Options(top=top)).count(" fastai/learner.py:") for top in (0, 1, 4)]
    assert tables == [0, 1, 4]
    assert "Slowest" not in render("text", finished(), Options(top=0))


def test_the_slowest_show_their_own_time_where_it_differs() -> None:
    """A handler that runs a loop of its own has two times in the list: with that loop and without."""
    inner = branch("run", "learn.validate()", 1, leaf("step", "forward", 1, 40_000_000))
    outer = Line("handler", "Look.after_fit", replace(inner.stats, total=41_500_001), 1_500_000, children=(inner,))
    text = render("text", replace(finished(), slowest=(outer,)))
    assert re.search(r"count +total +own +share +mean +max\nLook.after_fit +1 +41.5 ms +1.50 ms +1.8 %", text)
    assert " own " not in render("text", finished())
    assert "| handler | count | total | own | share |" in render("markdown", replace(finished(), slowest=(outer,)))


def test_places_are_short() -> None:
    """A place in an installed package begins with the package, any other is as it was recorded."""
    found = [
        ("/env/lib/site-packages/fastai/learner.py:571", "fastai/learner.py:571"),
        ("/me/train.py:7", None),
        ("x", None),
    ]
    for place, short in found:
        slow = replace(leaf("handler", "Log.after_fit", 1, 7), place=place)
        assert f" ns  {short or place}\n" in render("text", replace(finished(), slowest=(slow,)))


def test_many_runs_that_finished_share_a_line() -> None:
    """Up to three runs of one call have a line each; more have one together, the others still their own."""
    validate = replace(RUN, run="learn.validate()", wall=2_000_000)
    broken = replace(validate, how="raised", exception="ValueError")
    text = render("text", replace(finished(), endings=(RUN, *[validate] * 40, broken))).splitlines()
    assert text[2:5] == [
        "learn.fit(2) finished in 3.52 s",
        "learn.validate() finished 40 times, in 80.0 ms together",
        "learn.validate() raised ValueError, after 2.00 ms",
    ]


def test_wrong_choices_name_the_right_ones() -> None:
    """A misspelt order, a negative depth and an unknown format are errors that say what is accepted."""
    with pytest.raises(UnknownChoice) as unknown:
        Options(sort=cast("Any", "totl"))
    expected = "unknown order 'totl'. Did you mean 'total'? Accepted: tree, total, own, mean, max, count."
    assert str(unknown.value) == expected
    with pytest.raises(BadValue, match=r"^depth -1 is less than 0\. Give a number from 0, or leave it out\.$"):
        Options(depth=-1)
    with pytest.raises(UnknownChoice, match=r"unknown format 'jsn'\. Did you mean 'json'"):
        render("jsn", finished())


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"), (812, "812 ns"), (999, "999 ns"), (999.6, "1.00 µs"), (1_000, "1.00 µs"), (4_214, "4.21 µs"),
        (9_995, "10.0 µs"), (42_150, "42.2 µs"), (421_499, "421 µs"), (999_499, "999 µs"), (999_500, "1.00 ms"),
        (1_204_000, "1.20 ms"), (820_000_000, "820 ms"), (3_520_114_872, "3.52 s"), (99_949_999_999, "99.9 s"),
        (99_950_000_000, "1m40s"), (119_600_000_000, "2m00s"), (3_599_600_000_000, "1h00m"),
        (7_500_000_000_000, "2h05m"), (273_600_000_000_000, "3d04h"), (-1_500, "-1.50 µs"), (None, "open"),
    ],
)  # fmt: skip
def test_durations_have_three_digits(ns: float | None, text: str) -> None:
    """A time is written in three digits and the unit that suits it, rounded once."""
    assert figures.duration(ns) == text


@given(st.integers(0, 10**16))
def test_a_duration_is_never_far_off(ns: int) -> None:
    """Below a hundred seconds what is written is within half of its last digit; and it fits into seven characters."""
    text = figures.duration(ns)
    assert len(text) <= 7
    if ns < 99_950_000_000:
        value, unit = text.split()
        back = float(value) * dict(figures.UNITS)[unit]
        assert abs(back - ns) <= max(ns, 100) * 0.0050001


def test_moments_and_sizes() -> None:
    """Moments have microseconds, sizes three digits."""
    assert [figures.offset(ns) for ns in (0, 999, 3_512_345_678)] == ["+0.000000 s", "+0.000000 s", "+3.512345 s"]
    assert [figures.size(size) for size in (0, 812, 48_213, 4_200_000)] == ["0 B", "812 B", "48.2 kB", "4.20 MB"]


# -- every format says the same ----------------------------------------------------------------------------------------


Row = tuple[int, str, tuple[str, ...]]


def of_json(report: Report) -> Iterator[Row]:
    def below(line: dict[str, Any], depth: int) -> Iterator[Row]:
        yield depth, line["name"], as_written(line["stats"], line["share"])
        for child in line["children"]:
            yield from below(child, depth + 1)

    for one in written(report)["tracks"]:
        yield from below(one["root"], 0)


def of_csv(report: Report) -> Iterator[Row]:
    for row in csv.DictReader(io.StringIO(render("csv", report))):
        stats = {key: int(row[f"{key}_ns"]) for key in ("total", "mean", "p50", "p99", "max")}
        found = as_written({"count": int(row["count"]), **stats}, float(row["share"]) if row["share"] else None)
        yield row["path"].count("/") + bool(row["path"]), row["name"], found


def as_written(stats: dict[str, int], share: float | None) -> tuple[str, ...]:
    """The cells that are not empty: a thread, and what is outside of every run, have no share."""
    times = [figures.duration(stats[key]) for key in ("mean", "p50", "p99", "max")]
    shares = [] if share is None else [f"{100 * share:.1f} %"]
    return (f"{stats['count']:,}", figures.duration(stats["total"]), *shares, *times)


def of_text(report: Report) -> Iterator[Row]:
    text = render("text", report, Options(width=200)).splitlines()
    for at in (at for at, line in enumerate(text) if line.startswith("The loop")):
        for line in text[at + 2 :]:
            found = re.match(r"([│├└ ]*)(.+?)((?: \([^)]*\))*)  +(\d[\d,]*)  +(.*)$", line)
            if found is None or line.startswith("("):
                break
            yield len(found[1]) // 2, found[2], (found[4], *re.split("  +", found[5]))


def of_markdown(report: Report) -> Iterator[Row]:
    for line in render("markdown", report).splitlines():
        cells = line.replace("\\", "").strip("| ").split(" | ")
        if len(cells) == 8 and cells[1][0].isdigit():
            depth, name = cells[0].count("&emsp;"), cells[0].replace("&emsp;", "").replace("*", "")
            yield depth, re.match(r".+?(?=( \([^)]*\))*$)", name)[0], tuple(filter(None, cells[1:]))  # type: ignore[index]


def short(rows: Iterator[Row]) -> list[Row]:
    """The names as they stand in a tree: a handler's callback alone."""
    return [(depth, re.sub(r"^([A-Z]\w+)\.\w+$", r"\1", name), found) for depth, name, found in rows]


def told(rows: list[Row]) -> list[Row]:
    """Without the dispatch of events that have no handler: their own row says the same."""
    below = [*(depth for depth, _, _ in rows[1:]), 0]
    return [
        row
        for before, row, after in zip([rows[0], *rows], rows, below, strict=False)
        if row[1] != "dispatch" or before[0] == row[0] or after >= row[0]
    ]


@pytest.mark.parametrize("name", REPORTS)
def test_every_format_has_the_same_rows_and_figures(name: str) -> None:
    """Text, Markdown, CSV and JSON agree on each row of the tree: its depth, name and all of its seven figures."""
    report = REPORTS[name]()
    expected = list(of_json(report))
    assert len(expected) == len(list(lines(report)))
    assert list(of_csv(report)) == expected
    assert list(of_text(report)) == told(short(iter(expected)))
    assert list(of_markdown(report)) == told(short(iter(expected)))


def test_the_comparison_can_fail() -> None:
    """One nanosecond more in one row is seen in the formats that have nanoseconds, one percent in all."""
    found = finished()
    last = found.tracks[-1]
    longer = replace(last.root, stats=replace(last.root.stats, total=last.root.stats.total * 101 // 100))
    other = replace(found, tracks=(*found.tracks[:-1], replace(last, root=longer)))
    for rows in (of_json, of_csv, of_text, of_markdown):
        assert list(rows(finished())) != list(rows(other))


@pytest.mark.parametrize("name", REPORTS)
def test_text_and_markdown_have_the_same_sentences(name: str) -> None:
    """What the terminal says in words, Markdown says in the same ones."""
    text = " ".join(render("text", REPORTS[name](), Options(width=1000)).split())
    for line in render("markdown", REPORTS[name]()).replace("\\", "").splitlines():
        if line and not line.startswith("|"):
            assert re.sub(r"^(#+|-|>) |\*\*", "", line).replace("lacks ", "") in text


# -- what it says ------------------------------------------------------------------------------------------------------


def said(ending: Ending, **report: Any) -> list[str]:
    return render("text", replace(finished(), endings=(ending,), **report), Options(width=200)).splitlines()[:4]


RUN = Ending("learn.fit(2)", "Learner#1", "finished", 0, 3_520_114_872)
BAD = At("learn.fit(2)", 1, 5, "after_pred", "Bad.after_pred")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "learn.fit(2) finished in 3.52 s"),
        ({"cancels": {("CancelBatchException", "Skip.after_loss"): 1}},
         "learn.fit(2) finished in 3.52 s; CancelBatchException of Skip.after_loss caught 1 time"),
        ({"how": "cancelled", "exception": "CancelFitException", "at": replace(BAD, batch=None)},
         "learn.fit(2) cancelled by Bad.after_pred (CancelFitException) in epoch 1, after 3.52 s"),
        ({"how": "cancelled"}, "learn.fit(2) cancelled by an exception, after 3.52 s"),
        ({"how": "interrupted", "exception": "KeyboardInterrupt", "at": BAD},
         "learn.fit(2) interrupted by KeyboardInterrupt in Bad.after_pred, epoch 1, batch 5, after 3.52 s"),
        ({"how": "interrupted"}, "learn.fit(2) interrupted, after 3.52 s"),
        ({"how": "raised", "exception": "ValueError", "message": "no\nway", "at": BAD},
         "learn.fit(2) raised ValueError in Bad.after_pred, epoch 1, batch 5, after 3.52 s: no way"),
        ({"how": "raised", "exception": "ValueError"}, "learn.fit(2) raised ValueError, after 3.52 s"),
        ({"how": "detached"}, "learn.fit(2) ran on when recording stopped, after 3.52 s"),
    ],
)  # fmt: skip
def test_how_a_run_ended(changes: dict[str, Any], sentence: str) -> None:
    """One line says how a run ended, who did it and where, as far as that is known."""
    assert said(replace(RUN, **changes))[2] == sentence


def test_what_hangs_stands_first() -> None:
    """The first line of a running recording names the innermost call, since when it is open, and where."""
    at, wall = At("learn.fit(2)", 0, 17), 10_000_000_000
    opened = (Spoken("after_batch", "", 1, None, at=at), Spoken("after_batch", "Slow.after_batch", 6_800_000_000, None))
    running = replace(RUN, how="running", at=at, open=opened)
    first = said(running, wall=wall, state="running")[0]
    assert first == "running now: Slow.after_batch, open for 3.20 s (epoch 0, batch 17 of learn.fit(2))"
    first = said(replace(running, open=opened[:1]), wall=wall, state="running")[0]
    assert first == "running now: after_batch, open for 10.0 s (epoch 0, batch 17 of learn.fit(2))"
    first = said(replace(running, open=()), wall=wall, state="running")[0]
    assert first == ("running now: between events (epoch 0, batch 17 of learn.fit(2))")
    first = said(replace(running, how="killed", at=At(), open=()), state="killed")[0]
    assert first == "killed: no event was open (learn.fit(2))"


def test_rows_that_do_not_add_up_are_not_hidden() -> None:
    """If the sum were not the wall time, the report would say so."""
    text = render("text", replace(finished(), wall=finished().wall + 3))
    assert "2,277,735,165 ns in rows, 2,277,735,168 ns on the wall: they differ by 3 ns" in text


def test_two_callbacks_of_one_class_are_told_apart() -> None:
    """Where two handlers at one event would have the same name, they go by their callbacks' ids."""
    twins = [leaf("handler", "Log.after_fit", 1, 5_000, callback=f"Log#{i}") for i in (1, 2)]
    whole = track(branch("event", "after_fit", 1, *twins, leaf("dispatch", "dispatch", 1, 900)))
    text = render("text", replace(finished(), wall=whole.sum, tracks=(whole,), slowest=()))
    assert re.findall(r"[├└] (\S+)", text) == ["outside", "after_fit", "Log#1", "Log#2", "dispatch"]


def test_a_slash_in_a_name_does_not_split_its_path() -> None:
    r"""In a path a slash that is part of a name is `\/`, so a path splits into as many names as there are levels."""
    whole = track(branch("scope", "a/b", 1, leaf("step", "c\\d", 1, 7)))
    assert paths(replace(finished(), tracks=(whole,)))[-1] == "a\\/b/c\\\\d"


# -- JSON --------------------------------------------------------------------------------------------------------------


def fields_of(section: str) -> list[str]:
    part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    return [] if part is None else re.findall(r"^\| `(\w+)` \|", part[1], re.M)


def parts_of(value: Any, name: str = "Report") -> Iterator[tuple[str, list[str]]]:
    """(class, its keys) of all that the JSON holds, by the classes of the report."""
    yield name, list(value)
    below = {"stats": "Stats", "at": "At", "cost": "Cost", "root": "Line", "children": "Line", "slowest": "Line"}
    below |= {"tracks": "Track", "categories": "Category", "endings": "Ending", "before": "Spoken"}
    below |= {"unexpected": "Unplaced", "warmups": "Warmup", "cancels": "Caught"}
    below |= {"open": "Spoken"} if name == "Ending" else {}
    for key in value:
        for one in (value[key] if isinstance(value[key], list) else [value[key]]) if key in below else []:
            yield from parts_of(one, below[key])


def test_the_document_names_every_field() -> None:
    """Each part of the JSON has a section with exactly its fields, in their order; and no section is about nothing."""
    found = dict(parts_of(written(raised())))
    assert found == {name: fields_of(name) for name in found}
    assert sorted(found) == sorted([*(part.__name__ for part in PARTS), "Caught"])
    assert sorted(re.findall(r"^## (.+)$", DOCUMENT, re.M)) == sorted(["The file", *found])
    assert fields_of("The file") == list(json.loads(render("json", finished())))
    assert f'"schema": "{SCHEMA}", "version": {VERSION}' in DOCUMENT


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_no_field_of_a_report_is_left_out(part: type) -> None:
    """The document's section of each class begins with all of its fields."""
    names = [field.name for field in dataclasses.fields(part)]
    assert fields_of(part.__name__)[: len(names)] == names


# -- hostile names -----------------------------------------------------------------------------------------------------


ODD = st.text(st.sampled_from("_*`~|<>&[]()!#$\\\"'-+=.:/,;{}@^0 a\té→\n\x1b\x00\ud800") | st.characters(), max_size=8)


@given(odd=ODD)
@settings(max_examples=25, deadline=None)
def test_hostile_names_break_nothing(odd: str) -> None:
    """Whatever stands in names and messages: no escape sequence, no markup, no further line, nothing changed."""
    report = reworded(raised(), lambda text: f"x{odd}{text}" if text else text)
    harmless = reworded(raised(), lambda text: f"xQ{text}" if text else text)
    shown = phrases.plain(f"x{odd}.").removesuffix(".")[1:]
    for format, options in (("text", Options(width=4000)), ("csv", Options())):
        made, expected = render(format, report, options), render(format, harmless, options)
        assert not [c for c in made if not c.isprintable() and c != "\n"]
        assert made.count("\n") == expected.count("\n")
        assert made.encode()
    assert f"x{shown}" in render("text", report, Options(width=4000)) or not shown.strip()
    rows = list(csv.reader(io.StringIO(render("csv", report))))
    assert {len(row) for row in rows} == {15}
    assert written(report)["tracks"][0]["root"]["name"] == f"x{odd}MainThread"


@pytest.mark.parametrize("odd", ["[bold]x[/bold]", "[/]", "<b>&amp;</b>", "a|b", "**x**", "`x`", "[x](javascript:1)"])
def test_markup_in_names_stays_text(odd: str) -> None:
    """Markup of rich, of Markdown and of HTML is shown as it was written."""
    report = reworded(raised(), lambda text: odd + text if text else text)
    assert odd in render("text", report, Options(width=4000))
    page = MarkdownIt("gfm-like", {"linkify": False}).parse(render("markdown", report))
    kinds = {child.type for token in page for child in token.children or ()}
    assert kinds <= {"text", "strong_open", "strong_close", "softbreak", "text_special"}
    cells = [t for t in page if t.type in ("tr_open", "td_open", "th_open")]
    clean = MarkdownIt("gfm-like", {"linkify": False}).parse(render("markdown", raised()))
    assert len(cells) == len([t for t in clean if t.type in ("tr_open", "td_open", "th_open")])


@pytest.mark.parametrize("width", [10, 30, 79])
def test_a_narrow_terminal_loses_nothing(width: int) -> None:
    """However narrow the terminal: each sign of the names and figures that a wide one shows is there."""

    def signs(width: int) -> list[str]:
        text = render("text", raised(), Options(width=width))
        return sorted(re.sub(r"[\s│├└]", "", text))

    assert signs(width) == signs(1000)
