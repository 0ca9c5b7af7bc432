"""What a report says in sentences: the same ones in the terminal and in Markdown, plain text of one line each."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from loopscope.render.phrases import plain
from loopscope.render.report import figures as say
from loopscope.report import At, Category, Ended, Ending, Report, Spoken, Track, Unplaced, Warmup

UNEXPECTED = 20
"""How many of the unexpected are listed."""

MANY = 3
"""How many runs of one call, all finished, have a line each; more share one."""

WAITS = (
    "(waits): this handler's source makes the host wait for the device, so its time may be that of kernels which "
    "others have started"
)

ENDS = {"raised": "raised", "interrupted": "was interrupted", "killed": "was killed"}
"""Ends of a run that ask for the calls before them; a cancelled one is as it should be (lr_find ends so)."""


def summary(report: Report, track: Track) -> Iterator[tuple[Category, float | None]]:
    """Yield where the time went, the most first, with its share of the time inside of runs; last what is outside."""
    found = say.categories(track)
    for one in [one for one in found if one.name != "outside"]:
        yield one, say.share_of_category(one, report)
    yield from ((one, None) for one in found if one.name == "outside")


# -- the head ----------------------------------------------------------------------------------------------------------


def title(report: Report) -> str:
    """Return the file and what is in it: `run.loop: closed, 3.52 s, 12,345 spans in 84.2 kB`."""
    stored = f"{say.counted(report.spans, 'span')} in {say.size(report.size)}"
    to = " to the last stamp" if report.state == "killed" else ""
    return f"{plain(report.path)}: {report.state}, {say.duration(report.wall)}{to}, {stored}"


def origin(report: Report) -> str:
    """Return what was recorded, as far as the file's header says so: command, host, pid, rank, versions."""
    header = report.header
    command = header.get("command", "")
    typed = _typed(list(map(str, command))) if isinstance(command, (list, tuple)) else str(command)
    parts = [plain(typed)]
    parts += [f"{key} {plain(str(header[key]))}" for key in ("host", "pid", "rank") if header.get(key) is not None]
    versions = header.get("versions")
    if isinstance(versions, Mapping):
        parts += [plain(f"{name} {version}") for name, version in versions.items()]
    return ", ".join(filter(None, parts))


def _typed(command: list[str]) -> str:
    """Return a command line as one would type it: `loopscope run train.py`, not `/venv/bin/python /venv/bin/loops…`."""
    if not command:
        return ""
    folder, python = os.path.split(command[0])
    words = [python, *command[1:]]
    if folder and len(words) > 1 and os.path.dirname(words[1]) == folder:  # a command that pip put beside python
        words = [os.path.basename(words[1]), *words[2:]]
    return shlex.join(words)


def position(at: At) -> str:
    """Return where something was: `epoch 0, batch 17 of learn.fit(2)`; `""` where nothing is known."""
    counted = (("epoch", at.epoch), ("batch", at.batch))
    inside = ", ".join(f"{what} {say.number(value)}" for what, value in counted if value is not None)
    return " of ".join(filter(None, [inside, plain(at.run)]))


def call(spoken: Spoken) -> str:
    """Return what was called: the handler, or the event itself."""
    return plain(spoken.handler or spoken.event) or "?"


def now(report: Report) -> Iterator[str]:
    """Yield the innermost call that is open, or was when the process died, once for each that there is."""
    told = set()
    for ending in report.endings:
        if ending.how not in ("running", "killed"):
            continue
        inner = ending.open[-1] if ending.open else None
        sentence = _open_now(report, ending, inner)
        if sentence not in told:
            told.add(sentence)
            yield sentence
    if report.state == "running" and not told:
        over = max((ending.start + ending.wall for ending in report.endings), default=None)
        since = "" if over is None else f"; the last one ended {say.duration(max(report.wall - over, 0))} ago"
        yield f"running now: no recorded run is under way{since}"


def _open_now(report: Report, ending: Ending, inner: Spoken | None) -> str:
    running = ending.how == "running"
    where = position(inner.at if inner and inner.at != At() else ending.at) or plain(ending.run)
    if inner is None:
        return _between_now(report, ending, where)
    since = say.duration(say.open_for(report, inner))
    if running:
        return f"running now: {call(inner)}, open for {since} ({where})"
    least = f", for at least {since}" if say.open_for(report, inner) else ""
    return f"killed: {call(inner)} was open when the process died{least} ({where})"


def _between_now(report: Report, ending: Ending, where: str) -> str:
    running = ending.how == "running"
    begin = "running now: between events" if running else "killed: no event was open"
    last = next((one for one in reversed(ending.before) if not one.handler and one.duration is not None), None)
    if last is None or last.duration is None:
        return f"{begin} ({where})"
    follows = next(_following(report, ending.run, last.event), "")
    ended = f"after {plain(last.event)} of {where}"
    if running:
        since = say.duration(max(report.wall - last.start - last.duration, 0))
        return f"{begin}, {since} {ended}" + (f"; what follows there is {follows}" if follows else "")
    return f"{begin}, the last was {ended.removeprefix('after ')}" + (f"; what follows is {follows}" if follows else "")


def _following(report: Report, run: str, event: str) -> Iterator[str]:
    """Yield the step that the loop takes behind an event, where that was seen: `forward` behind `before_batch`."""
    runs = [line for track in report.tracks for _, line in track.root.walk() if line.kind == "run" and line.name == run]
    for scope in (line for one in runs for _, line in one.walk()):
        for at, child in enumerate(scope.children):
            if child.kind == "event" and child.name == event:
                behind = [one for one in scope.children[at + 1 :] if one.kind not in ("framework", "outside")]
                round_again = scope.children if scope.stats.count > 1 and not behind else ()
                step = next(iter([*behind, *round_again]), None)
                if step is not None and step.kind == "step":
                    yield plain(step.name)


# -- how it ended ------------------------------------------------------------------------------------------------------


def endings(report: Report) -> Iterator[tuple[Ended, str]]:
    """Yield how each run ended, and the sentence that says so; many that finished alike share one."""
    if not report.endings and not report.events:
        yield "detached", "no run was recorded: nothing made a fit-like call meanwhile"
    several = len({ending.learner for ending in report.endings}) > 1
    alike = Counter(_alike(ending) for ending in report.endings)
    told = set()
    for ending in report.endings:
        key = _alike(ending)
        who = f"{plain(ending.learner)}: " if several else ""
        if ending.how != "finished" or ending.cancels or alike[key] <= MANY:
            yield ending.how, f"{who}{ended(ending)}"
        elif key not in told:
            told.add(key)
            total = sum(one.wall for one in report.endings if _alike(one) == key)
            times = f"{say.number(alike[key])} times, in {say.duration(total)} together"
            yield ending.how, f"{who}{plain(ending.run)} finished {times}"


def _alike(ending: Ending) -> tuple[str, str, str, bool]:
    return ending.learner, ending.run, ending.how, bool(ending.cancels)


def ended(ending: Ending) -> str:
    """Return how one run ended: `learn.fit(2) raised ValueError in Bad.after_pred, epoch 1, after 3.10 s: no`."""
    after = say.duration(ending.wall)
    told = (ending.exception, ending.at.handler) if ending.how == "cancelled" else None
    caught = {key: count - (key == told) for key, count in ending.cancels.items()}
    cancels = "".join(
        f"; {plain(exception)} of {plain(handler)} caught {say.counted(count, 'time')}"
        for (exception, handler), count in caught.items()
        if count
    )
    message = plain(ending.message)
    return f"{plain(ending.run)} {_how(ending, after)}{f': {message}' if message else ''}{cancels}"


def _how(ending: Ending, after: str) -> str:
    exception = plain(ending.exception)
    where, inside = _where(ending.at), _inside(ending.at)
    if ending.how == "raised":
        return f"raised {exception}{f' in {where}' if where else ''}, after {after}"
    if ending.how == "interrupted":
        return f"interrupted{f' by {exception}' if exception else ''}{f' in {where}' if where else ''}, after {after}"
    if ending.how == "cancelled":
        by = plain(ending.at.handler or ending.at.event) or "an exception"
        kind = f" ({exception})" if exception else ""
        return f"cancelled by {by}{kind}{f' in {inside}' if inside else ''}, after {after}"
    return {
        "finished": f"finished in {after}",
        "killed": f"killed; its last stamp is {after} in, how much later the process died is not known",
        "running": f"running for {after}",
    }.get(ending.how, f"ran on when recording stopped, after {after}")


def _where(at: At) -> str:
    return ", ".join(filter(None, [plain(at.handler or at.event), _inside(at)]))


def _inside(at: At) -> str:
    return position(At(epoch=at.epoch, batch=at.batch))


def tells_before(ending: Ending) -> bool:
    """Return whether the calls before the end are worth showing: not where nothing went wrong."""
    return bool(ending.before) and ending.how in ENDS


def last_calls(ending: Ending) -> str:
    """Return what stands above the calls before an end: `The last 20 calls of learn.fit(2), which raised OSError`."""
    calls = "last call" if len(ending.before) == 1 else f"last {len(ending.before)} calls"
    exception = f" {plain(ending.exception)}" if ending.how == "raised" else ""
    return f"The {calls} of {plain(ending.run)}, which {ENDS[ending.how]}{exception}"


def open_calls(ending: Ending) -> str:
    """Return what stands above the calls that were never closed."""
    return f"Open in {plain(ending.run)}, outermost first"


# -- whether it all fits -----------------------------------------------------------------------------------------------


def placed(report: Report) -> str:
    """Return how much was placed: `1,204 events and 3,377 handler calls placed, 0 unexpected`."""
    what = f"{say.counted(report.events, 'event')} and {say.counted(report.calls, 'handler call')}"
    return f"{what} placed, {say.number(report.unexpected_count)} unexpected"


def unexpected(report: Report) -> Iterator[str]:
    """Yield the first of what the loop does not allow there, and how many more there are."""
    shown = report.unexpected[:UNEXPECTED]
    yield from map(_unplaced, shown)
    if (more := report.unexpected_count - len(shown)) > 0:
        yield f"and {say.number(more)} more"


def _unplaced(one: Unplaced) -> str:
    where = position(one.at)
    return f"event {say.number(one.position)}{f' ({where})' if where else ''}: {plain(one.message)}"


def adds_up(report: Report, track: Track) -> str:
    """Return the proof that no time is lost: both numbers, and that they are the same."""
    rows, wall = track.sum, say.wall(report, track)
    if rows == wall:
        to = " (to the last stamp)" if report.state == "killed" else ""
        return f"{say.exact(rows)} in rows = {say.exact(wall)} on the wall{to}, exactly equal"
    return f"{say.exact(rows)} in rows, {say.exact(wall)} on the wall: they differ by {say.exact(abs(rows - wall))}"


# -- what it cost ------------------------------------------------------------------------------------------------------


_UNKNOWN = {
    "closed": ", recording stopped before it was calibrated",
    "running": " yet, it is calibrated when recording ends",
    "killed": ", the process ended before it was calibrated",
}


def cost(report: Report) -> Iterator[str]:
    """Yield what recording cost, of the time above, and what it is made of."""
    cost = report.cost
    if cost.stamps is None:
        yield f"of which recording: not known{_UNKNOWN.get(report.state, '')}"
    else:
        part = say.percent(say.share(cost.stamps, say.inside(report)))
        made = f"{say.counted(cost.events, 'event')} × {say.duration(cost.per_event)}"
        made += f" + {say.counted(cost.calls, 'call')} × {say.duration(cost.per_call)}"
        yield f"of which recording: {say.duration(cost.stamps)}, {part} ({made})"
    if cost.reading:
        yield f"of which reading the loops of its runs: {say.duration(cost.reading)}"


def calibrated(report: Report) -> Iterator[str]:
    """Yield what recording's own cost is made of, and what the framework's dispatch costs without it."""
    cost = report.cost
    if cost.clock is not None:
        yield f"one read of the clock: {say.duration(cost.clock)}; a span needs two, less is not possible"
    if cost.dispatch is not None and cost.framework_dispatch is not None:
        ratio = say.ratio(cost.dispatch, cost.framework_dispatch)
        times = "" if ratio is None else f", {say.factor(ratio)} times as much"
        own = f"{say.duration(cost.framework_dispatch)} by the framework's own, unrecorded"
        among = f"one event's dispatch among {say.counted(cost.callbacks, 'callback')}"
        yield f"{among}: {own}; {say.duration(cost.dispatch)} recorded{times}"


# -- what it means -----------------------------------------------------------------------------------------------------


def warmup(one: Warmup) -> str:
    """Return the first batches beside the rest: `learn.fit(2): first batch 80.1 ms, ...`."""
    text = f"{plain(one.run)}: first batch {say.duration(one.first)}, first {say.number(one.early_count)} (median) "
    text += f"{say.duration(one.early)}, the other {say.number(one.rest_count)} (median) {say.duration(one.rest)}"
    ratios = [say.ratio(one.first, one.rest), say.ratio(one.early, one.rest)] if one.rest_count else []
    if len(found := [say.factor(ratio) for ratio in ratios if ratio is not None]) < 2:
        return text
    return f"{text}: {found[0]} and {found[1]} times the rest"


def data(report: Report) -> str:
    """Return how waiting for data compares with computing, handlers left out, and with all of the runs."""
    both = (
        f"waiting for data {say.duration(report.data)}, compute {say.duration(report.compute)} (handlers not counted)"
    )
    part = say.percent(say.share(report.data, say.inside(report)))
    return f"{both}: data is {say.percent(say.waiting(report))} of the two, {part} of the runs"


def table_of(spoken: Sequence[Spoken]) -> list[tuple[str, str, str, str]]:
    """Return calls as cells: when, for how long, what, and where or what it raised."""
    return [(say.offset(one.start), say.duration(one.duration), call(one), _beside(one)) for one in spoken]


def _beside(spoken: Spoken) -> str:
    raised = f"raised {plain(spoken.raised)}" if spoken.raised else ""
    return ", ".join(filter(None, [_inside(spoken.at), raised]))
