"""`from loopscope.fastai import *`: the article's method as a drop-in, event2doc and the header of versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks import need

pytestmark = need("fastai")

import fastai.callback.all as cb
import torch
from fastai.callback.core import Callback, _events
from fastai.test_utils import synth_learner

import loopscope
from loopscope import fastai as surface
from loopscope.errors import BadCallback, UnknownChoice

GOLDEN = Path(__file__).parent / "golden"


def printed(capsys, learn, **kwargs) -> str:
    capsys.readouterr()
    learn.show_training_loop(**kwargs)
    return capsys.readouterr().out


def test_the_plain_listing_is_the_articles(capsys):
    """Without arguments the listing is byte for byte what the article's method prints on today's fastai."""
    assert printed(capsys, synth_learner()) == (GOLDEN / "article-plain.txt").read_text()


def test_the_verbose_listing_is_the_articles(capsys):
    """`verbose=True` adds the docstrings, byte for byte as the article's method does."""
    assert printed(capsys, synth_learner(), verbose=True) == (GOLDEN / "article-verbose.txt").read_text()


@pytest.mark.parametrize(
    "cbs",
    [
        lambda: [cb.GradientClip(), cb.MixedPrecision()],
        lambda: [cb.GradientClip, cb.MixedPrecision],
        lambda: (cb.GradientClip, cb.MixedPrecision()),
    ],
    ids=["instances", "classes", "mixed"],
)
def test_the_listing_with_further_callbacks_is_the_articles(capsys, cbs):
    """`cbs` takes instances, classes, or both, and lists them where fastai would call them."""
    expected = (GOLDEN / "article-cbs.txt").read_text()
    assert printed(capsys, synth_learner(), verbose=True, cbs=cbs()) == expected


def test_one_callback_or_one_class_needs_no_list(capsys):
    """A single callback and a single class are accepted as they are."""
    one = printed(capsys, synth_learner(), cbs=cb.GradientClip())
    assert one == printed(capsys, synth_learner(), cbs=cb.GradientClip)
    assert one == printed(capsys, synth_learner(), cbs=[cb.GradientClip])
    assert "- before_step: [GradientClip]" in one


def test_listing_never_touches_the_learner(capsys):
    """The learner's own callback of the same name and class stays where it is, also after an error in between."""
    own = cb.GradientClip()
    learn = synth_learner(cbs=own)
    before = (dict(vars(learn)), list(learn.cbs))
    for cbs in (cb.GradientClip(), cb.GradientClip):
        assert "- before_step: [GradientClip, GradientClip]" in printed(capsys, learn, cbs=cbs)
    with pytest.raises(BadCallback):
        learn.show_training_loop(cbs=[cb.GradientClip(), "no callback"])
    assert (dict(vars(learn)), list(learn.cbs)) == before
    assert learn.gradient_clip is own
    assert own.learn is learn


def test_a_callback_with_its_own_repr_is_listed_by_it(capsys):
    """The article prints callbacks by their repr, and so does the drop-in."""

    class Named(Callback):
        def __repr__(self):
            return "<me>"

        def after_fit(self):
            "Say goodbye"

    assert " - after_fit: [<me>, ProgressCallback]" in printed(capsys, synth_learner(), cbs=Named())
    assert "     - <me>: \n         - Say goodbye\n" in printed(capsys, synth_learner(), cbs=Named(), verbose=True)


def test_training_loop_is_inspect():
    """`learn.training_loop(...)` gives the same map as `loopscope.inspect(learn, ...)`."""
    learn = synth_learner()
    ours = learn.training_loop("fit_one_cycle", epochs=2, start_epoch=1, cbs=cb.GradientClip)
    theirs = loopscope.inspect(learn, "fit_one_cycle", epochs=2, start_epoch=1, cbs=cb.GradientClip)
    assert ours.render("json") == theirs.render("json")


def test_event2doc_describes_every_event_by_attribute():
    """Every event that the installed fastai knows has a description, by attribute and in fastai's order."""
    assert list(surface.event2doc) == list(_events)
    assert all(getattr(surface.event2doc, name) for name in _events)
    assert "gradients" in surface.event2doc.before_step


def test_state_versions_is_a_markdown_header():
    """The header names each library with its version, and a notebook renders it."""
    import fastai

    header = surface.state_versions("fastai", torch, ["fastcore"])
    assert f"* `fastai`: {fastai.__version__}\n* `torch`: {torch.__version__}\n* `fastcore`: " in header
    assert header._repr_markdown_() == str(header)
    assert "`loopscope`" in surface.state_versions()


def test_an_unknown_library_is_refused():
    """A name that pip does not know gets an error, not a header with a hole."""
    with pytest.raises(UnknownChoice, match="no installed package is called 'fastay'"):
        surface.state_versions("fastay")


def test_the_star_import_brings_what_it_says():
    """`from loopscope.fastai import *` brings the documented names and nothing else."""
    space: dict[str, object] = {}
    exec("from loopscope.fastai import *", space)
    assert sorted(name for name in space if not name.startswith("__")) == sorted(surface.__all__)
