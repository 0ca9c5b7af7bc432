"""How figures are written, and those that follow from a report's own: the one place for both, for every format."""

from __future__ import annotations

from collections.abc import Sequence

from loopscope.report import Category, Line, Report, Spoken, Stats, Track

UNITS = (("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))
"""Units of time with their nanoseconds."""

PARTS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
"""Parts of a long time with their seconds."""

SIZES = (("B", 1), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000))

COLUMNS = ("count", "total", "share", "mean", "p50", "p99", "max")
"""The heads of what `of_row` returns."""

NOTHING = 0.0005
"""A share below this is written as 0.0 %."""


# -- how they are written ----------------------------------------------------------------------------------------------


def duration(ns: float | None) -> str:
    """Return a time in three digits, at most seven characters: `812 ns`, `4.21 µs`, `3.52 s`, `1m40s`; None: `open`."""
    if ns is None:
        return "open"
    if ns < 0:
        return f"-{duration(-ns)}"
    value = _rounded(ns)
    if value < 100 * UNITS[-1][1]:
        return _scaled(value, UNITS)
    seconds = round(ns / UNITS[-1][1])
    at = next(at for at, (_, size) in enumerate(PARTS) if seconds >= size)
    (great, size), (small, part) = PARTS[at : at + 2]
    return f"{seconds // size}{great}{seconds % size // part:02}{small}"


def exact(ns: int) -> str:
    """Return a time to the nanosecond: `3,520,114,872 ns`."""
    return f"{ns:,} ns"


def offset(ns: int) -> str:
    """Return a moment as the time since the start, to the microsecond: `+3.512345 s`."""
    seconds, rest = divmod(ns, UNITS[-1][1])
    return f"+{seconds}.{rest // 1_000:06} s"


def percent(share: float) -> str:
    """Return a share of 1 in percent: `30.2 %`."""
    return f"{100 * share:.1f} %"


def number(count: int) -> str:
    """Return a count with its thousands told apart: `1,204`."""
    return f"{count:,}"


def counted(count: int, what: str) -> str:
    """Return how many there are, in words: `1 event`, `1,204 events`."""
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def factor(ratio: float) -> str:
    """Return how many times as much: `19.5`, `1.04`."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.1f}"


def size(count: int) -> str:
    """Return a number of bytes in three digits: `84.2 kB`."""
    return _scaled(_rounded(count), SIZES)


def _rounded(value: float) -> int:
    """Return `value` rounded to a whole number of at most three digits and zeros, halves up."""
    whole = int(value + 0.5)
    step: int = 10 ** max(len(str(whole)) - 3, 0)
    return (whole + step // 2) // step * step


def _scaled(value: int, units: Sequence[tuple[str, int]]) -> str:
    name, unit = next((one for one in reversed(units) if value >= one[1]), units[0])
    digits = 0 if unit == 1 else max(3 - len(str(value // unit)), 0)
    return f"{value / unit:.{digits}f} {name}"


def of_row(line: Line, share: float | None) -> tuple[str, ...]:
    """Return the figures of a row as they are written, one for each of `COLUMNS`; no share where that is None."""
    stats = line.stats
    times = (mean(stats), stats.p50, stats.p99, stats.max)
    written = "" if share is None else percent(share)
    return (number(stats.count), duration(stats.total), written, *map(duration, times))


# -- what follows from the report's own --------------------------------------------------------------------------------


def share(part: float, whole: float) -> float:
    """Return which share `part` is of `whole`, to six places; 0.0 of nothing."""
    return round(part / whole, 6) if whole else 0.0


def inside(report: Report) -> int:
    """Return the time inside of runs, of which the shares are: a program's imports and set-up do not count."""
    lines = [line for track in report.tracks for line in (track.root, *track.root.children)]
    total = sum(line.stats.total for line in lines if line.kind == "thread")
    return total - sum(line.stats.total for line in lines if line.kind == "outside") or total


def share_of(line: Line, report: Report) -> float | None:
    """Return a row's share of the time inside of runs; None for what is not inside of one."""
    return None if line.kind in ("thread", "outside") else share(line.stats.total, inside(report))


def share_of_category(category: Category, report: Report) -> float | None:
    """Return which share of the time inside of runs a line of the summary has; None for what is outside."""
    return None if category.name == "outside" else share(category.total, inside(report))


def mean(stats: Stats) -> int:
    """Return the mean to the nanosecond."""
    return round(stats.mean)


def wall(report: Report, track: Track) -> int:
    """Return what the rows of a track must sum to: the wall time, or that of its thread where there are several."""
    return report.wall if len(report.tracks) == 1 else track.root.stats.total


def categories(track: Track) -> list[Category]:
    """Return where the time of a thread went, the most first."""
    return sorted(track.categories, key=lambda one: -one.total)


def waiting(report: Report) -> float:
    """Return which share waiting for data has of waiting and computing together."""
    return share(report.data, report.data + report.compute)


def open_for(report: Report, call: Spoken) -> int:
    """Return for how long a call has been open, at the moment at which the report was made or the process ended."""
    return max(report.wall - call.start, 0)


def ratio(one: float, other: float) -> float | None:
    """Return how many times `other` goes into `one`, None where it is nothing."""
    return one / other if other else None


def worth(line: Line, key: str) -> float:
    """Return what a row is sorted by: `worth(line, "mean")`."""
    return float(line.own if key == "own" else getattr(line.stats, key))
