"""Reports made by hand: small, and such that every row is the sum of what is below it, as those of real recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from loopscope.report import (
    At,
    Category,
    Cost,
    Ending,
    Line,
    LineKind,
    Report,
    Spoken,
    Stats,
    Track,
    Unplaced,
    Warmup,
)

MS = 1_000_000
SYNC = "calls .item() on a loss"
CATEGORY = {"handler": "handlers", "outside": "outside", "dispatch": "dispatch", "framework": "framework"}


def branch(kind: LineKind, name: str, count: int, *children: Line, **more: Any) -> Line:
    """A row that is the sum of those below it."""
    total = sum(child.stats.total for child in children)
    return Line(kind, name, stats(count, total), children=children, **more)


def leaf(kind: LineKind, name: str, count: int, each: int, **more: Any) -> Line:
    """A row that is all its own: `count` times `each` nanoseconds, and one more over all."""
    total = count * each + 1
    return Line(kind, name, stats(count, total), own=total, category=CATEGORY.get(kind, name), **more)


def stats(count: int, total: int) -> Stats:
    mean = total // max(count, 1)
    if count == 1:
        return Stats(1, total, total, total, total)
    return Stats(count, total, p50=mean * 97 // 100, p99=mean * 3 // 2, max=mean * 2)


def event(name: str, count: int, **took: int) -> Line:
    """An event with one handler for each of `took`: callback -> nanoseconds per call."""
    handlers = [handler(callback, name, count, each) for callback, each in took.items()]
    return branch("event", name, count, *handlers, leaf("dispatch", "dispatch", count, 1_804))


def handler(callback: str, event: str, count: int, each: int) -> Line:
    return leaf(
        *("handler", f"{callback}.{event}", count, each),
        callback=f"{callback}#1",
        place=f"fastai/learner.py:{500 + len(event)}",
        doc=f"What {callback} does there",
        raised={"ValueError": 1} if callback == "Bad" else {},
        waits=SYNC if (callback, event) == ("Recorder", "after_batch") else "",
    )


def batches(count: int, **after_pred: int) -> Line:
    return branch(
        "scope",
        "batch",
        count,
        event("before_batch", count, MixUp=211_000),
        leaf("step", "forward", count, 5_120_000),
        event("after_pred", count, **after_pred),
        leaf("step", "loss", count, 322_000),
        event("after_loss", count, GradientClip=3_400),
        leaf("step", "backward", count, 7_300_000),
        event("before_step", count, GradientClip=88_000),
        leaf("step", "step", count, 912_000),
        leaf("step", "zero_grad", count, 64_000),
        event("after_batch", count, TrainEvalCallback=1_900, Recorder=812_000, ProgressCallback=43_210),
        leaf("framework", "framework", count, 9_100),
    )


def fit(**after_pred: int) -> Line:
    train = branch(
        "scope",
        "train",
        2,
        event("before_train", 2, TrainEvalCallback=94_000, Recorder=12_000),
        leaf("step", "data", 100, 6_800_000),
        batches(100, **after_pred),
        event("after_train", 2, Recorder=4_100),
        leaf("framework", "framework", 2, 20_000),
    )
    validate = branch("scope", "validate", 2, leaf("step", "data", 20, 900_000), leaf("step", "forward", 20, 2_000_000))
    epoch = branch("scope", "epoch", 2, train, validate, event("after_epoch", 2, Recorder=1_204_000, Save=14_500_000))
    before = event("before_fit", 1, TrainEvalCallback=31_000, Recorder=8_400, ProgressCallback=902)
    scope = branch("scope", "fit", 1, before, epoch, leaf("framework", "framework", 1, 51_000))
    return branch("run", "learn.fit(2)", 1, scope)


def track(*runs: Line, thread: str = "MainThread") -> Track:
    root = branch("thread", thread, 1, leaf("outside", "outside", 1, 18_400_000), *runs)
    totals: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for _, line in root.walk():
        if line.category:
            totals[line.category] += line.own
            counts[line.category] += line.stats.count
    return Track(thread, root, tuple(Category(name, counts[name], total) for name, total in totals.items()))


def calls(until: int, *ends: int | None) -> tuple[Spoken, ...]:
    """Twenty calls before `until`, and one more for each of `ends`, which is how long it took or None."""
    at = At("learn.fit(2)", 1, 5)
    names = ["TrainEvalCallback", "Recorder", "ProgressCallback"]
    events = ["before_batch", "after_pred", "after_loss", "before_step", "after_batch"]
    before = [
        Spoken(event, f"{name}.{event}" if name else "", until - (20 - i) * MS, 41_000 + i, at=at)
        for i, (event, name) in enumerate((event, name) for event in events for name in ("", *names))
    ]
    return (*before[: 20 - len(ends)], *(Spoken("after_pred", "Bad.after_pred", until, end, at=at) for end in ends))


def finished(**after_pred: int) -> Report:
    """A run of two epochs that finished, in one thread; `after_pred` are more handlers there."""
    whole = track(fit(**after_pred))
    wall = whole.root.stats.total
    slow = sorted((line for _, line in whole.root.walk() if line.kind == "handler"), key=lambda line: -line.stats.total)
    steps = ("forward", "loss", "backward", "step", "zero_grad")
    run = whole.root.children[1]
    return Report(
        path="run.loop",
        state="closed",
        wall=wall,
        header={
            "command": ["python", "train.py", "--epochs", "2"],
            "host": "node7",
            "pid": 4711,
            "rank": 0,
            "versions": {"fastai": "2.8.12", "torch": "2.9.1"},
        },
        tracks=(whole,),
        endings=(Ending("learn.fit(2)", "Learner#1", "finished", 18_400_001, run.stats.total, at=At("learn.fit(2)")),),
        events=1_204,
        calls=3_377,
        slowest=tuple(slow),
        warmups=(Warmup("learn.fit(2)", 80_100_000, 14_900_000, 5, 14_210_000, 95),),
        data=sum(one.total for one in whole.categories if one.name == "data"),
        compute=sum(one.total for one in whole.categories if one.name in steps),
        cost=Cost(1_204, 3_377, 412.4, 351.6, 45.2, 812_000, 3_120.0, 2_790.0, 4),
        spans=9_162,
        size=48_213,
    )


def raised() -> Report:
    """The same, ended by a callback's exception, on CUDA, with something unexpected and something lost."""
    report = finished(Bad=90_999)
    until = report.wall - 4 * MS
    before = (*calls(until), Spoken("after_pred", "Bad.after_pred", until, 91_000, "ValueError", At("", 1, 5)))[1:]
    at = At("learn.fit(2)", 1, 5, "after_pred", "Bad.after_pred")
    ending = replace(
        report.endings[0],
        how="raised",
        exception="ValueError",
        message="shapes [3]\nand [4]",
        at=at,
        before=before,
        cancels={("CancelBatchException", "SkipWildBatch.after_loss"): 3},
    )
    found = [Unplaced(214 + i, "expected after_loss, but after_pred was fired", At("", 1, i)) for i in range(22)]
    return replace(
        report,
        endings=(ending,),
        unexpected=tuple(found),
        unexpected_count=31,
        cost=Cost(1_204, 3_377),
        heads=("CUDA: kernels run later than they are called, so their time is billed to whoever waits for them.",),
        losses=("the last 12 stamps: the size limit of 1 MB was reached",),
    )


def stopped(how: Any) -> Report:
    """The same, still running or killed, inside a handler."""
    report = finished()
    start = report.wall - 3_204 * MS // 10
    at = At("learn.fit(2)", 0, 17)
    event, handler = "after_batch", "Recorder.after_batch"
    opened = (Spoken(event, "", start - 4_000, None, at=at), Spoken(event, handler, start, None, at=at))
    ending = replace(report.endings[0], how=how, before=calls(start), open=opened, at=at)
    root = marked(report.tracks[0].root, handler)
    return replace(report, state=how, endings=(ending,), tracks=(replace(report.tracks[0], root=root),))


def marked(line: Line, name: str) -> Line:
    """The same rows, the one called `name` and all above it open."""
    children = tuple(marked(child, name) for child in line.children)
    return replace(line, children=children, open=int(line.name == name or any(child.open for child in children)))


def cancelled() -> Report:
    """Two learners in two threads: one cancelled, one interrupted, both with runs inside."""
    report = finished()
    valid = branch("run", "learn.validate()", 4, leaf("step", "data", 20, 900_000), event("after_validate", 4, Log=800))
    second = track(fit(), valid, thread="trainer-2")
    first, run = report.tracks[0], report.endings[0]
    at = At("learn.fit(2)", 1, None, "after_epoch", "EarlyStoppingCallback.after_epoch")
    stop = replace(run, how="cancelled", exception="CancelFitException", at=at, before=calls(report.wall)[-3:])
    where = At("learn.fit(2)", 1, 49, "after_batch", "Recorder.after_batch")
    other = replace(run, learner="Learner#2", how="interrupted", exception="KeyboardInterrupt", at=where)
    inner = replace(run, run="learn.validate()", learner="Learner#2", wall=4_600_000, start=run.wall)
    wall = max(first.root.stats.total, second.root.stats.total)
    return replace(report, wall=wall, tracks=(first, second), endings=(stop, other, *[inner] * 4))


REPORTS: dict[str, Callable[[], Report]] = {
    "finished": finished,
    "raised": raised,
    "running": lambda: stopped("running"),
    "killed": lambda: stopped("killed"),
    "cancelled": cancelled,
}
"""Name -> what makes that report."""


def lines(report: Report) -> Iterator[Line]:
    """Every row of every thread."""
    for one in report.tracks:
        for _, line in one.root.walk():
            yield line


def reworded(value: Any, change: Callable[[str], str], fixed: tuple[str, ...] = ("kind", "state", "how")) -> Any:
    """The same report with every text in it changed, but for those that are words of loopscope itself."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(reworded(one, change) for one in value)
    if isinstance(value, dict):
        return {reworded(key, change): reworded(one, change) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.name not in (*fixed, "header")]
        return replace(value, **{name: reworded(getattr(value, name), change) for name in names})
    return value
