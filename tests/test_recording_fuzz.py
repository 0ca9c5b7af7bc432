"""Damaged files: a clear error, or a recording that says what is missing; never a traceback, a hang or much memory."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loopscope.errors import LoopscopeError
from loopscope.recording import BadRecording, Recording, read
from loopscope.recording.blocks import Source, walk
from loopscope.recording.coding import encode
from loopscope.recording.layout import (
    BLOCK_SIZE,
    COMPACTED,
    END,
    HEAD_SIZE,
    MARK,
    ROWS,
    ZMETA,
    ZROWS,
    Block,
    Head,
)
from loopscope.recording.reader import read_source

SAMPLES = {path.stem: path.read_bytes() for path in (Path(__file__).parent / "recordings").glob("*.loop")}
EXTREMES = [0, 1, 2**8 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
MOST = 200 << 20


def places(data: bytes) -> list[tuple[int, Block]]:
    """Where the headers of blocks stand."""
    head = Head.unpack(data[:HEAD_SIZE])
    assert head is not None
    return [(place.offset - BLOCK_SIZE, place.block) for place in walk(Source(io.BytesIO(data)), head).blocks]


def flip(data: bytearray, moments: random.Random) -> None:
    for _ in range(moments.choice([1, 1, 2, 8, 64])):
        data[moments.randrange(len(data))] ^= 1 << moments.randrange(8)


def cut(data: bytearray, moments: random.Random) -> None:
    del data[moments.randrange(len(data)) :]


def noise(data: bytearray, moments: random.Random) -> None:
    at, length = moments.randrange(len(data)), moments.choice([1, 8, 48, 300, 5000])
    data[at : at + length] = moments.randbytes(min(length, len(data) - at))


def zeros(data: bytearray, moments: random.Random) -> None:
    at, length = moments.randrange(len(data)), moments.choice([1, 8, 48, 300, 5000])
    data[at : at + length] = bytes(min(length, len(data) - at))


def shift(data: bytearray, moments: random.Random) -> None:
    at = moments.randrange(len(data))
    if moments.random() < 0.5:
        data[at:at] = moments.randbytes(moments.choice([1, 7, 4096]))
    else:
        del data[at : at + moments.choice([1, 7, 4096])]


def swap(data: bytearray, moments: random.Random) -> None:
    """Two blocks change places, or one comes twice."""
    (a, first), (b, second) = sorted(moments.sample(places(bytes(data)), 2), key=lambda place: place[0])
    one, other = data[a : a + first.span], data[b : b + second.span]
    if moments.random() < 0.5:
        data[b : b + second.span] = one
        data[a : a + first.span] = other
    else:
        data[b:b] = one


def extreme(data: bytearray, moments: random.Random) -> None:
    """A field of a header becomes an extreme, and the checksum fits: nothing but the reader's own care is left."""
    at, block = moments.choice(places(bytes(data)))
    name = moments.choice(["kind", "coding", "lane", "number", "span", "length", "items"])
    value = moments.choice(EXTREMES) & (2**64 - 1 if name in ("span", "length", "items") else 2**32 - 1)
    if name in ("kind", "coding"):
        value &= 2**16 - 1
    data[at : at + BLOCK_SIZE] = block._replace(**{name: value}).pack()


def resealed(data: bytearray, moments: random.Random) -> None:
    """A payload changes, and its checksum with it."""
    at, block = moments.choice(places(bytes(data)))
    payload = bytearray(data[at + BLOCK_SIZE : at + BLOCK_SIZE + block.length])
    if not payload:
        return
    if block.kind in (ZMETA, ZROWS) and moments.random() < 0.7:
        raw = bytearray(zlib.decompress(payload))
        moments.choice([flip, noise, cut])(raw, moments)
        payload = bytearray(zlib.compress(raw))
    else:
        flip(payload, moments)
    sealed = block._replace(length=len(payload), span=BLOCK_SIZE + len(payload), crc=zlib.crc32(payload))
    if block.kind in (ZMETA, ZROWS, END):
        data[at : at + block.span] = sealed.pack() + payload
    else:
        data[at + BLOCK_SIZE : at + BLOCK_SIZE + block.length] = payload


def header(data: bytearray, moments: random.Random) -> None:
    """Another state, version or first offset, and the checksum fits."""
    head = Head.unpack(data[:HEAD_SIZE])
    assert head is not None
    field = moments.choice(["state", "start", "minor"])
    value = moments.choice([0, 1, 2, 3, 31, 32, 33, 4096, 65_535] + [2**32 - 1] * (field != "minor"))
    data[:HEAD_SIZE] = head._replace(**{field: value}).pack()


def stamp(data: bytearray, moments: random.Random) -> None:
    """A field of a row becomes an extreme."""
    rows = [(at, block) for at, block in places(bytes(data)) if block.kind == ROWS]
    if rows:
        at, block = moments.choice(rows)
        place = at + BLOCK_SIZE + 8 * moments.randrange(min(block.length // 8, 300))
        data[place : place + 8] = struct.pack("<Q", moments.choice(EXTREMES))


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flip,
    cut,
    noise,
    zeros,
    shift,
    swap,
    extreme,
    resealed,
    header,
    stamp,
]


def mutated(number: int) -> bytes:
    """The file of that number, always the same."""
    moments = random.Random(number)
    data = bytearray(SAMPLES[moments.choice(sorted(SAMPLES))])
    moments.choice(MUTATIONS)(data, moments)
    if moments.random() < 0.2:
        flip(data, moments) if data else None
    return bytes(data)


def outcome(reading: Callable[[], Recording]) -> str:
    """Read, and check what comes back."""
    try:
        recording = reading()
    except LoopscopeError:
        return "error"
    for lane in recording.lanes:
        count = len(lane.code)
        assert len(lane.start) == len(lane.end) == count
        if count:
            assert (lane.start[1:] >= lane.start[:-1]).all()
            assert ((lane.end == 0) | (lane.end >= lane.start)).all()
            assert set(lane.name().tolist()) <= set(recording.names)
            assert set(lane.outcome().tolist()) <= {0, *recording.names}
    assert recording.spans == sum(len(lane.code) for lane in recording.lanes)
    return "losses" if recording.losses else "whole"


def test_ten_thousand_mutated_files() -> None:
    """Each gives an error or a recording whose rows make sense, in little memory and little time."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for number in range(10_000):
        data = mutated(number)
        before = time.perf_counter()
        outcomes[outcome(lambda data=data: read_source(Source(io.BytesIO(data)), "x.loop"))] += 1  # type: ignore[misc]
        slowest = max(slowest, time.perf_counter() - before)
    assert sum(outcomes.values()) == 10_000
    assert min(outcomes["error"], outcomes["losses"], outcomes["whole"]) > 500
    assert slowest < 5  # a hang, not a slow machine


def test_memory_is_bounded() -> None:
    """No mutated file makes the reader take more than a small multiple of its size."""
    tracemalloc.start()
    try:
        for number in range(0, 10_000, 20):
            outcome(lambda number=number: read_source(Source(io.BytesIO(mutated(number))), "x.loop"))  # type: ignore[misc]
        assert tracemalloc.get_traced_memory()[1] < MOST / 4
    finally:
        tracemalloc.stop()


def test_some_of_them_on_the_disk(tmp_path: Path) -> None:
    """Real files give what the same bytes in memory give."""
    path = tmp_path / "x.loop"
    for number in range(300):
        data = mutated(number)
        path.write_bytes(data)
        assert outcome(lambda: read(path)) == outcome(lambda data=data: read_source(Source(io.BytesIO(data)), "x.loop"))  # type: ignore[misc]


def build(blocks: list[tuple[Block, bytes]]) -> Source:
    """A compacted file of these blocks, numbered and sealed."""
    data = Head(1, 0, COMPACTED, HEAD_SIZE).pack()
    for number, (block, payload) in enumerate(blocks):
        sealed = block._replace(
            number=number, span=BLOCK_SIZE + len(payload), length=len(payload), crc=zlib.crc32(payload)
        )
        data += sealed.pack() + payload
    return Source(io.BytesIO(data))


def block(kind: int, items: int, coding: int = 0) -> Block:
    return Block(kind, coding, kind == ZROWS, 0, 0, 0, items, 0)


HEADER = zlib.compress(b'{"k":"header","clock_ns":1}\n{"k":"event","id":1}\n')


@pytest.mark.parametrize("items", [1, 65_536, 65_537, 2**64 - 1])
def test_bombs(items: int) -> None:
    """A block that would inflate to a gigabyte is left out, whatever it says of itself."""
    bomb = zlib.compress(bytes(1 << 30), 1)
    meta = zlib.compress(b'{"k":"event","doc":"' + b"x" * (20 << 20) + b'"}\n', 1)
    source = build(
        [
            (block(ZMETA, 100), HEADER),
            (block(ZMETA, items), meta),
            (block(ZROWS, items, 1), bomb),
            (block(END, 0), b""),
        ]
    )
    tracemalloc.start()
    recording = read_source(source, "x.loop")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST / 2
    assert recording.losses == (
        "block 1 fails its checksum: names and facts are missing",
        f"block 2 fails its checksum: {items:,} rows of thread thread 1 are missing",
    )


def compacted(damage: Callable[[bytearray, list[tuple[int, Block]]], None]) -> Recording:
    data = bytearray(SAMPLES["v1-closed"])
    damage(data, places(bytes(data)))
    return read_source(Source(io.BytesIO(data)), "x.loop")


def live(damage: Callable[[bytearray, list[tuple[int, Block]]], None]) -> Recording:
    data = bytearray(SAMPLES["v1-live"])
    damage(data, places(bytes(data)))
    return read_source(Source(io.BytesIO(data)), "x.loop")


def _at(data: bytearray, place: int, value: int) -> None:
    data[place] ^= value


COMPACTED_LOSSES = {
    "nothing": (lambda data, at: None, (), 122),
    "a bit of the rows": (
        lambda data, at: _at(data, at[1][0] + BLOCK_SIZE + 9, 1),
        ("block 1 fails its checksum: 121 rows of thread MainThread are missing", "121 of 122 rows are missing in all"),
        1,
    ),
    "a header": (
        lambda data, at: _at(data, at[1][0] + 9, 1),
        ("block 1 has a damaged header: SPAN bytes are lost", "121 of 122 rows are missing in all"),
        1,
    ),
    "the end mark": (
        lambda data, at: data.__delitem__(slice(at[-1][0], None)),
        ("the file ends before its end mark: what came after block 2 is lost",),
        122,
    ),
    "in the middle": (
        lambda data, at: data.__delitem__(slice(at[2][0] + BLOCK_SIZE + 4, None)),
        (
            "the file ends in the middle of block 2: what came after is lost",
            "block 2 fails its checksum: 1 rows of thread validation are missing",
        ),
        121,
    ),
    "in a header": (
        lambda data, at: data.__delitem__(slice(at[2][0] + 20, None)),
        ("block 2 is damaged or cut off: it and what came after are lost",),
        121,
    ),
    "a block": (
        lambda data, at: data.__delitem__(slice(at[1][0], at[2][0])),
        ("1 blocks before block 2 are missing", "121 of 122 rows are missing in all"),
        1,
    ),
}


@pytest.mark.parametrize("case", COMPACTED_LOSSES)
def test_what_a_compacted_file_says_it_lacks(case: str) -> None:
    """One sentence for each thing that is missing, and the rest of the rows."""
    damage, losses, spans = COMPACTED_LOSSES[case]
    recording = compacted(damage)
    span = str(places(SAMPLES["v1-closed"])[1][1].span)
    assert recording.losses == tuple(loss.replace("SPAN", span) for loss in losses)
    assert recording.spans == spans


def row(data: bytearray, at: list[tuple[int, Block]], number: int, column: int, value: int) -> None:
    """Change one field of a row in the first block of rows."""
    start = next(offset for offset, block in at if block.kind == ROWS)
    struct.pack_into("<q", data, start + BLOCK_SIZE + 24 * number + 8 * column, value)


DAMAGED = "1 rows of thread MainThread are damaged (an unknown name, or a time that cannot be) and were left out"
LIVE_LOSSES: dict[str, tuple[Callable[[bytearray, list[tuple[int, Block]]], None], tuple[str, ...], int]] = {
    "nothing": (lambda data, at: None, (), 122),
    "a name": (lambda data, at: row(data, at, 3, 0, 99), (DAMAGED,), 121),
    "an outcome": (lambda data, at: row(data, at, 3, 0, 1 | 99 << 32), (DAMAGED,), 121),
    "a code": (lambda data, at: row(data, at, 3, 0, 0), (DAMAGED,), 121),
    "a negative code": (lambda data, at: row(data, at, 3, 0, -1), (DAMAGED,), 121),
    "a start before the beginning": (lambda data, at: row(data, at, 3, 1, 5), (DAMAGED,), 121),
    "a start in the far future": (lambda data, at: row(data, at, 3, 1, 2**62), (DAMAGED,), 121),
    "an end before the start": (lambda data, at: row(data, at, 3, 2, 5), (DAMAGED,), 121),
    "an end in the far future": (lambda data, at: row(data, at, 3, 2, 2**62), (DAMAGED,), 121),
    "in the middle": (
        lambda data, at: data.__delitem__(slice(at[-1][0] + BLOCK_SIZE + 100, None)),
        (f"the file ends in the middle of block {len(places(SAMPLES['v1-live'])) - 1}: what came after is lost",),
        122,
    ),
}


@pytest.mark.parametrize("case", LIVE_LOSSES)
def test_what_a_live_file_says_it_lacks(case: str) -> None:
    """Rows that cannot be are left out and counted, each alone."""
    damage, losses, spans = LIVE_LOSSES[case]
    recording = live(damage)
    assert (recording.losses, recording.spans) == (losses, spans)


def test_rows_out_of_order() -> None:
    """Of rows that are out of order the fewer go: one that is too late, not the hundred behind it; or one too early."""
    whole = live(lambda data, at: None).lanes[0].start
    late = live(lambda data, at: row(data, at, 10, 1, int(whole[90])) or row(data, at, 10, 2, 0))  # type: ignore[func-returns-value]
    early = live(lambda data, at: row(data, at, 90, 1, int(whole[10])) or row(data, at, 90, 2, 0))  # type: ignore[func-returns-value]
    assert np.array_equal(late.lanes[0].start, np.delete(whole, 10))
    assert np.array_equal(early.lanes[0].start, np.delete(whole, 90))
    assert late.losses == early.losses == (DAMAGED,)


def test_a_lost_header_line() -> None:
    """Without its first line a recording still has its rows, and says that nothing is known of the process."""
    recording = live(lambda data, at: data.__setitem__(slice(at[0][0] + 48, at[0][0] + 50), b"x\n"))
    assert recording.header == {}
    assert recording.losses == (
        "2 lines of names or facts cannot be read",
        "the header is missing: nothing is known of the process",
    )
    assert (recording.spans, recording.begin) == (122, int(recording.lanes[0].start[0]))


def test_a_torn_last_line_is_dropped() -> None:
    """A line whose end was not written when the process was killed is no loss: nothing refers to it yet."""

    def tear(data: bytearray, at: list[tuple[int, Block]]) -> None:
        metas = [offset for offset, block in at if block.kind == 1]
        end = data.index(b"\0", metas[-1] + BLOCK_SIZE)
        data[end : end + 20] = b'{"k":"event","id":7,'

    assert live(tear).losses == ()


def test_hostile_lines() -> None:
    """Lines that are no JSON, too deep, of another type, or have numbers that cannot be: counted, and nothing else."""
    lines = [
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"k":1}',
        b'"k"',
        b"\xff\xfe",
        b'{"k":"event","id":true}',
        b'{"k":"event","id":-1}',
        b'{"k":"event","id":1e3}',
        b'{"k":"event","id":4294967296}',
        b'{"k":"lane","lane":[1],"thread":{}}',
        b'{"k":"event","id":2147483647}',
    ]
    text = zlib.compress(b'{"k":"header","clock_ns":-5,"wall_ns":"x"}\n' + b"\n".join(lines) + b"\n")
    code = np.array([2**31 - 1, 5], np.int64)
    coding, raw = encode(code, code + 1, code + 2)
    recording = read_source(
        build([(block(ZMETA, 1), text), (block(ZROWS, 2, coding), zlib.compress(raw)), (block(END, 2), b"")]), "x.loop"
    )
    assert recording.losses[0] == "9 lines of names or facts cannot be read"
    assert recording.losses[1].startswith("1 rows of thread thread 1 are damaged")
    assert recording.names == {2**31 - 1: {"k": "event", "id": 2**31 - 1}}


def test_marks_in_a_payload_mislead_nobody() -> None:
    """Looking for the next block after damage, bytes like a header's inside a payload are passed over."""
    rows = encode(*(np.ones(1, np.int64) for _ in range(3)))[1]
    source = build(
        [
            (block(ZMETA, 1), zlib.compress(b'{"k":"header","clock_ns":1,"doc":"' + MARK[:3] + b'"}\n', 0)),
            (block(ZMETA, 1), MARK * 50),
            (block(ZMETA, 1), HEADER),
            (block(ZROWS, 1, 1), zlib.compress(rows)),
            (block(END, 1), b""),
        ]
    )
    data = bytearray(source.read(0, source.size))
    data[data.index(MARK * 3) - 4] ^= 1
    recording = read_source(Source(io.BytesIO(data)), "x.loop")
    assert recording.losses == (f"block 1 has a damaged header: {BLOCK_SIZE + 200} bytes are lost",)
    assert recording.spans == 1


def test_a_directory_and_a_stream_are_no_sources() -> None:
    """What cannot be read as a file is an error of the reader's kind."""
    with pytest.raises(BadRecording):
        read("/proc/self/mem")
