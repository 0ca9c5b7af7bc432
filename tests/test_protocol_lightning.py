"""Lightning's protocol under many settings: what fires is what the map says, in runs that the suite has no room for."""

from __future__ import annotations

import pytest

from tests.frameworks import need

pytestmark = need("lightning")

import lightning.pytorch as pl

from loopscope.adapters import lightning as adapter
from loopscope.adapters.lightning.folding import Part, folded, joined, spans, times
from loopscope.model import Event, Scope
from loopscope.parse import follow
from tests.adapters.cases import lightning as cases
from tests.adapters.cases.lightning_models import Data, Hooked, Valid, loader, trainer_in
from tests.suite import described, made, witnessed


@pytest.mark.parametrize("case", cases.MORE, ids=lambda case: case.name)
def test_what_fires_is_what_the_tree_says(case, tmp_path):
    """Every event and call of a real run has its place, and every handler's place is that of the code that ran."""
    watch, loop = witnessed(cases, case, tmp_path)
    followed = follow(loop, watch.fired, watch.outcome, nested=watch.nested)
    assert followed.unexpected is None, followed
    assert followed.events == len(watch.fired) > 1
    places = {(one.event, one.id): str(one.place) for found in loop.binding.handlers.values() for one in found}
    ran = {(event, id_): where for event, id_, where in watch.places if (event, id_) in places}
    assert {key: places[key] for key in ran} == ran


@pytest.mark.parametrize("event", cases.EVENTS_THAT_RAISE)
def test_stop_iteration_at_every_event(event, tmp_path):
    """StopIteration ends the loop that it is raised in, and the run goes on behind it: the map knows which that is."""
    make, call, run, inspect = cases.thrower(event, StopIteration)
    case = cases.Case(event, "", make, call, run, inspect)
    obj = made(case, tmp_path)
    loop = described(case, obj)
    watch = cases.watch(obj)
    with watch():
        call(obj)
    assert follow(loop, watch.fired, watch.outcome, nested=watch.nested).unexpected is None
    assert watch.outcome in (None, "StopIteration")


def test_every_event_of_the_map_is_fired_by_a_line_of_lightning(tmp_path):
    """Each place is a line of the installed package that names the event, or calls what fires it."""
    trainer = trainer_in(tmp_path, max_epochs=1)
    maps = [
        adapter.describe(trainer, run, arguments={"model": Hooked(), **more})
        for run, more in (("fit", {}), ("validate", {}), ("test", {}), ("predict", {}), ("fit", {"datamodule": Data()}))
    ]
    events = {event.name: event.place for loop in maps for event in _events(loop.root)}
    missing = [name for name, place in events.items() if place is None]
    assert missing == []
    assert {place.file.startswith(loop.home) for place in events.values() for loop in maps} == {True}


def test_the_two_packages_are_described_alike(tmp_path):
    """`pytorch_lightning` has its own copy of every class; its maps differ only in the folder."""
    import pytorch_lightning

    models = [make(package) for package in (pl, pytorch_lightning)]
    loops = [
        adapter.describe(
            package.Trainer(
                max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
            ),
            "fit",
            arguments={"model": model, "train_dataloaders": loader(3), "val_dataloaders": loader(1)},
        )
        for package, model in zip((pl, pytorch_lightning), models, strict=True)
    ]
    names = [[event.name for event in _events(loop.root)] for loop in loops]
    assert names[0] == names[1]
    assert loops[0].home.endswith("lightning/pytorch")
    assert loops[1].home.endswith("pytorch_lightning")
    lines = [[event.place.line for event in _events(loop.root) if event.place] for loop in loops]
    assert lines[0] == lines[1]


def make(package):
    class Small(package.LightningModule):
        training_step = Valid.training_step
        validation_step = Valid.validation_step
        configure_optimizers = Valid.configure_optimizers

    return Small()


def test_a_long_training_is_read_at_once(tmp_path):
    """A million batches, accumulated and validated in between, are a handful of scopes."""

    class Long:
        def __iter__(self):
            return iter(())

        def __len__(self):
            return 1_000_003

    trainer = trainer_in(tmp_path, max_epochs=1000, accumulate_grad_batches=8, val_check_interval=1000)
    given = {"model": Valid(), "train_dataloaders": Long(), "val_dataloaders": loader(1)}
    loop = adapter.describe(trainer, "fit", arguments=given)
    assert len(list(_events(loop.root))) < 400
    epoch = next(scope for scope in _scopes(loop.root) if scope.name == "epoch")
    assert str(epoch.repeat) == "1000"
    assert 1000 in [scope.repeat.most for scope in _scopes(epoch)]


# -- folding -----------------------------------------------------------------------------------------------


def test_a_series_is_folded():
    """Neighbours and groups that come again are put together; unfolded, it is the series again."""
    assert folded("aab") == (Part("a", 2), Part("b", 1))
    assert folded("aabaabaab") == (Part((Part("a", 2), Part("b", 1)), 3),)
    for text in ("", "a", "abababc", "aabaabaaa", "abcabcabcab"):
        assert "".join(_unfolded(folded(text))) == text


def test_parts_are_repeated_and_joined():
    """`times` repeats, `joined` adds to the last group what it is made of."""
    two = folded("ab")
    assert "".join(_unfolded(times(two, 3))) == "ababab"
    assert times(folded("a"), 4) == (Part("a", 4),)
    assert times(two, 0) == ()
    assert joined(times(two, 3), two) == times(two, 4)
    assert "".join(_unfolded(joined(folded("aa"), folded("ab")))) == "aaab"


@pytest.mark.parametrize(
    ("series", "endless", "expected"),
    [
        ("0101", False, ((2, 4, 2),)),
        ("010101", True, ((2, None, 2),)),
        ("1000", True, ((1, 1, 1),)),
        ("111", True, ((1, None, 1),)),
        ("0000", False, ()),
        ("1101", False, ((1, 2, 1), (4, 4, 1))),
    ],
)
def test_what_is_so_in_some_of_a_series(series, endless, expected):
    """Where something is so is said by first, last and step."""
    assert spans([one == "1" for one in series], endless) == expected


def _unfolded(parts):
    for part in parts:
        for _ in range(part.most):
            yield from _unfolded(part.item) if isinstance(part.item, tuple) else part.item


def _scopes(scope):
    yield scope
    for node in scope.nodes():
        if isinstance(node, Scope):
            yield from _scopes(node)


def _events(scope):
    for one in _scopes(scope):
        yield from (node for node in one.nodes() if isinstance(node, Event))
