"""A learner that dies while it is recorded leaves nothing in place behind it."""

from __future__ import annotations

import gc
import weakref

from tests.frameworks import need

pytestmark = need("fastai")

from fastai.callback.core import Callback
from fastai.learner import Learner

from loopscope.session import Session
from tests.adapters.cases.fastai import learner
from tests.adapters.cases.fastai_recorded import quiet


class OwnDispatch(Learner):
    """Calls its callbacks by a method of its own, which fastai's `Callback.__call__` is then covered for."""

    def __call__(self, event_name):
        return super().__call__(event_name)


def test_what_stood_in_for_its_dispatch_is_put_back(tmp_path):
    """Its recording ends behind it: fastai's own functions stand where they stood."""
    before = vars(Callback)["__call__"], vars(Learner)["_call_one"], vars(OwnDispatch)["__call__"]
    made = learner(n_trn=2, n_val=1)
    own = OwnDispatch(made.dls, made.model, loss_func=made.loss_func)
    session = Session(None, tmp_path / "run.loop").start()  # every learner: the recording holds none of them
    with quiet():
        own.validate()
    covered = vars(Callback)["__call__"]
    gone = weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None
    session.stop()
    assert covered is not before[0]
    assert (vars(Callback)["__call__"], vars(Learner)["_call_one"], vars(OwnDispatch)["__call__"]) == before
