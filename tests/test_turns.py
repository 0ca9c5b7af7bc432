"""Flags that follow from how often a scope was entered: exact on both ways of following a run."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from loopscope.model import Binding, Event, Handler, Loop, Need, Repeat, Scope, Turns
from loopscope.parse import Placing, follow
from loopscope.places import Places
from loopscope.seen import Call, Fired

SPANS = st.lists(
    st.tuples(st.integers(1, 12), st.none() | st.integers(1, 30), st.integers(1, 5)).map(tuple), max_size=3
)


@given(SPANS, st.integers(1, 40))
def test_steady_is_never_too_long(spans, entry):
    """Up to the entry that `steady` says, the value is what it is now."""
    turns = Turns("it", tuple(spans))
    until = min(entry + turns.steady(entry), 100)
    assert until > entry
    assert {turns.at(n) for n in range(entry, until)} == {turns.at(entry)}
    numbers = (n for first, last, step in spans for n in range(first, (last or 100) + 1, step))
    assert turns.at(entry) is (entry in numbers)


class ListTrace(list):
    """Events as a trace in which equal stretches can be found."""

    def window(self, at, length):
        return repr(self[at : at + length + 1]).encode()

    def repeats(self, at, length, most):
        times = 1
        while times < most and self[at + times * length : at + (times + 1) * length] == self[at : at + length]:
            times += 1
        return times


class Sink:
    def __init__(self):
        self.nodes, self.puts = [], 0

    def put(self, at, nodes, gaps, times):
        assert at == len(self.nodes)
        self.nodes += list(nodes) * times
        self.puts += 1

    def entered(self, scope, begin, end, every, times):
        pass


def loop(every, epochs, batches):
    turn = Turns("every", ((every, None, every),))
    need = (Need("every", True, f"only every {every} batches"),)
    batch = Scope("batch", (Event("drawn"), Event("done")), repeat=Repeat(batches, batches), turns=(turn,))
    epoch = Scope("epoch", (Event("begin"), batch, Event("end")), repeat=Repeat(epochs, epochs))
    log = Handler("log#1", "log", "log", "done", "log", "", needs=need)
    return Loop("toy", "Toy", "fit", "toy.fit()", Scope("fit", (epoch,)), Binding({"done": (log,)}))


def fired(every, epochs, batches):
    run = []
    for epoch in range(epochs):
        run.append(Fired("begin"))
        for n in range(epoch * batches + 1, (epoch + 1) * batches + 1):
            run += [Fired("drawn"), Fired("done", (Call("log#1"),) if n % every == 0 else ())]
        run.append(Fired("end"))
    return run


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 25))
def test_a_true_run_is_placed_and_a_changed_one_refused(every, epochs, batches):
    """A handler at every n-th batch is followed exactly, event by event as well as by recognised stretches."""
    true = fired(every, epochs, batches)
    changed = [
        [*true[:at], replace(one, calls=() if one.calls else (Call("log#1"),)), *true[at + 1 :]]
        for at, one in enumerate(true)
        if one.event == "done"
    ]
    for run, good in [(true, True), *((one, False) for one in changed)]:
        assert (follow(loop(every, epochs, batches), run).unexpected is None) is good
        placing = Placing(ListTrace(run), sink := Sink(), Places(), lambda *_: 0)
        placing.place(loop(every, epochs, batches), None)
        assert (placing.unexpected == []) is good
        assert len(sink.nodes) == len(run)


def test_long_stretches_are_skipped_over():
    """The batches between two turns are placed at once."""
    run = ListTrace(fired(100, 3, 1000))
    placing = Placing(run, sink := Sink(), Places(), lambda *_: 0)
    placing.place(loop(100, 3, 1000), None)
    assert placing.unexpected == []
    assert sink.puts < 200
