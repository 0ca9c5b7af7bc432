"""A recording's spans as a Chrome trace, which Perfetto, chrome://tracing and Speedscope open: written in pieces.

Constraint: arrays in, bytes out, at most `ROWS` spans as Python objects at a time. The format is the "JSON Object
Format" of the Trace Event Format: times in µs, here with three decimals and made of whole numbers, so none is rounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from loopscope.render.phrases import plain

ROWS = 50_000
"""Spans that are worked on at a time: about 25 MB of Python objects; more does not make it faster."""

PROCESS = "loopscope"


@dataclass(frozen=True, slots=True)
class TraceTrack:
    """The spans of one thread or learner, in the order in which they began, each inside the one around it.

    `name` holds indices into `names` (int32), `start` and `end` ns (int64), `epoch` and `batch` numbers or -1 (int32).
    `category` and `args` stand beside `names`: what a viewer filters by, and members of a JSON object or `""`
    (`'"place": "fastai/learner.py:187"'`). Spans that begin together stand with the outer one first. A span that ends
    after the one around it is cut there: two tools never draw an overlap alike.
    """

    pid: int
    tid: int
    label: str
    names: Sequence[str]
    name: Any
    start: Any
    end: Any
    epoch: Any
    batch: Any
    category: Sequence[str]
    args: Sequence[str]


def write(out: BinaryIO, tracks: Sequence[TraceTrack], *, begin: int) -> int:
    """Write the trace and return how many spans are in it; `begin` is the ns at which the time of the trace is 0."""
    out.write(b'{"traceEvents": [\n')
    out.write(",\n".join(_metadata(tracks)).encode())
    for track in tracks:
        for piece in _pieces(track, begin):
            out.write(piece.encode())
    out.write(b'\n], "displayTimeUnit": "ns"}\n')
    return sum(len(track.start) for track in tracks)


def _metadata(tracks: Sequence[TraceTrack]) -> Iterator[str]:
    for pid in dict.fromkeys(track.pid for track in tracks):
        yield _meta("process_name", pid, 0, {"name": PROCESS})
    for at, track in enumerate(tracks):
        yield _meta("thread_name", track.pid, track.tid, {"name": plain(track.label)})
        yield _meta("thread_sort_index", track.pid, track.tid, {"sort_index": at})


def _meta(name: str, pid: int, tid: int, args: dict[str, object]) -> str:
    return json.dumps({"ph": "M", "name": name, "pid": pid, "tid": tid, "args": args})


def _pieces(track: TraceTrack, begin: int) -> Iterator[str]:
    """Yield the events of a track as text, each with the comma before it."""
    heads, more = _heads(track), np.array([bool(args) for args in track.args], dtype=np.int64)
    around: list[int] = []
    latest = 0
    for low in range(0, len(track.start), ROWS):
        part = slice(low, low + ROWS)
        start = np.maximum.accumulate(np.maximum(_whole(track.start[part]) - begin, latest))
        latest = int(start[-1])
        end = np.maximum(_whole(track.end[part]) - begin, start)
        length = np.array(inside(start.tolist(), end.tolist(), around), dtype=np.int64) - start
        name = _whole(track.name[part])
        figures = (one.tolist() for one in (*np.divmod(start, 1_000), *np.divmod(length, 1_000)))
        args = _positions(_whole(track.epoch[part]), _whole(track.batch[part]), more[name])
        cells = zip([heads[at] for at in name.tolist()], args, *figures, strict=True)
        yield "".join([f'{head}{at}{ts}.{t:03},"dur":{dur}.{d:03}}}' for head, at, ts, t, dur, d in cells])


def _whole(numbers: Any) -> Any:
    return np.asarray(numbers, dtype=np.int64)


def _heads(track: TraceTrack) -> list[str]:
    """Return for each name how its events begin, up to its own arguments."""
    same = f'"ph":"X","pid":{track.pid},"tid":{track.tid},"args":{{'
    return [
        f',\n{{"name":{json.dumps(plain(name))},"cat":{json.dumps(plain(category))},{same}{args}'
        for name, category, args in zip(track.names, track.category, track.args, strict=True)
    ]


def _positions(epoch: Any, batch: Any, more: Any) -> list[str]:
    """Return for each span the arguments that say where it was, up to its start; `more` is 1 where others precede.

    A batch has dozens of spans, so that each text is made once for all that share it.
    """
    new: Any = np.ones(len(epoch), dtype=bool)
    new[1:] = (epoch[1:] != epoch[:-1]) | (batch[1:] != batch[:-1])
    firsts = np.flatnonzero(new)
    texts = [
        text
        for one, other in zip(epoch[firsts].tolist(), batch[firsts].tolist(), strict=True)
        for text in _position(one, other)
    ]
    return [texts[at] for at in (2 * (np.cumsum(new) - 1) + more).tolist()]


def _position(epoch: int, batch: int) -> tuple[str, str]:
    known = [f'"{what}":{value}' for what, value in (("epoch", epoch), ("batch", batch)) if value >= 0]
    text = ",".join(known) + '},"ts":'
    return text, f",{text}" if known else text


def inside(starts: Sequence[int], ends: Sequence[int], around: list[int]) -> list[int]:
    """Return `ends`, none of them after the end of the span around it; `around` holds those from one call to the next.

    >>> inside([0, 2, 10], [10, 12, 11], [])
    [10, 10, 11]
    """
    cut = []
    for start, end in zip(starts, ends, strict=True):
        while around and around[-1] <= start:
            around.pop()
        last = around[-1] if around and end > around[-1] else end
        around.append(last)
        cut.append(last)
    return cut
