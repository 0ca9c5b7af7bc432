"""Write the sample recordings that every later version must be able to read: `sample_recordings.py [FOLDER]`.

For each of them `NAME.loop` and `NAME.json`, what it holds. The files of a version are made once, when its format is
settled, and never again: a later writer makes `v2-...`. Blocks are small here, so that a live file is small too.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
import threading
from pathlib import Path

from loopscope.recording import Recording, Tape, read, writer
from loopscope.recording.layout import MAJOR, PAGE

RECORDINGS = Path(__file__).resolve().parent.parent / "tests" / "recordings"
BATCHES = 60


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDINGS
    writer.FIRST_ROWS = writer.META_SIZE = PAGE
    writer.SPARED = 512
    tape = Tape.create(folder / f"v{MAJOR}-closed.loop", {"command": ["train.py", "--note", "größer"], "rank": 0})
    # Clock readings that look like a loop's, and are the same each time.
    gaps = itertools.cycle([900, 12_400, 700, 3_350, 65_700, 1_010])
    tape.clock = itertools.accumulate(gaps, initial=read(tape.path).begin + 1000).__next__
    fill(tape)
    live = folder / f"v{MAJOR}-live.loop"
    shutil.copyfile(tape.path, live)  # as if the process had been killed here
    tape.close(how="finished")
    for path in (live, tape.path):
        path.with_suffix(".json").write_text(dump(read(path)))
        print(path, path.stat().st_size, "bytes")


def fill(tape: Tape) -> None:
    """Two threads, calls in calls, an exception, a line longer than a block, and at the end two open calls."""
    fit, event = tape.name("call", name="fit"), tape.name("event", name="after_batch")
    handler = tape.name("handler", name="Recorder.after_batch", doc="Counts,\nand keeps the loss. " * 200)
    cancel = tape.name("exception", name="CancelBatchException")
    tape.line("binding", learner=1, events={"after_batch": [handler]})
    opened = begin(tape, fit)
    for batch in range(BATCHES):
        rows, at = begin(tape, event)
        inner, place = begin(tape, handler)
        if batch == 7:
            inner[place] = handler | cancel << 32
        inner[place + 2] = tape.clock()
        if batch == 7:
            rows[at] = event | cancel << 32
        if batch < BATCHES - 1:
            rows[at + 2] = tape.clock()
    other = threading.Thread(target=end, args=(tape, event), name="validation")
    other.start()
    other.join()
    del opened


def begin(tape: Tape, code: int) -> tuple[memoryview, int]:
    """Start a row, as the recorder does; return where its end goes."""
    lane = tape.lane()
    if lane.at == len(lane.rows):
        lane.more()
    rows, at = lane.rows, lane.at
    rows[at + 1] = tape.clock()
    rows[at] = code
    lane.at = at + 3
    return rows, at


def end(tape: Tape, code: int) -> None:
    """One whole row."""
    rows, at = begin(tape, code)
    rows[at + 2] = tape.clock()


def dump(recording: Recording) -> str:
    """Return all that a recording holds, as JSON, one row a line."""
    lanes = [
        {
            "number": lane.number,
            "thread": lane.thread,
            "rows": [list(row) for row in zip(*(c.tolist() for c in (lane.code, lane.start, lane.end)), strict=True)],
        }
        for lane in recording.lanes
    ]
    content = {
        "version": recording.version,
        "state": recording.state,
        "header": recording.header,
        "names": list(recording.names.values()),
        "lines": recording.lines,
        "losses": recording.losses,
        "begin": recording.begin,
        "end": recording.end,
        "lanes": lanes,
    }
    return re.sub(r"\[[-\d,\s]+\]", lambda row: " ".join(row[0].split()), json.dumps(content, indent=1)) + "\n"


if __name__ == "__main__":
    main()
