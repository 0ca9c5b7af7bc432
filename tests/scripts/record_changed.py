"""Tries to record a fastai whose dispatch was changed, as the first argument says, before loopscope came."""

import inspect
import linecache
import sys

import fastai.callback.core as core
import fastai.learner
from fastai.learner import Learner
from fastai.test_utils import synth_learner

CHANGES = {
    "another loop": (Learner, "_call_one", "self.cbs.sorted('order')", "sorted(self.cbs, key=lambda cb: cb.order)"),
    "more in the loop": (Learner, "_call_one", "cb(event_name)", "cb(event_name); self.last = cb"),
    "other arguments": (Learner, "_call_one", "cb(event_name)", "cb(event_name, self)"),
    "another rule": (core.Callback, "__call__", "self.run and _run", "self.run"),
    "no reset": (core.Callback, "__call__", "self.run=True", "pass"),
    "past _call_one": (Learner, "__call__", "L(event_name).map(self._call_one)", "[c(event_name) for c in self.cbs]"),
}


def change(cls, name, old, new):
    """Put a method with another source in place, as a later version of fastai would have it."""
    source = inspect.getsource(vars(cls)[name])
    assert source.count(old) == 1, source
    text = "class Changed:\n" + source.replace(old, new)
    file = f"<changed {name}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    found = {}
    exec(compile(text, file, "exec"), vars(sys.modules[cls.__module__]), found)
    setattr(cls, name, vars(found["Changed"])[name])


if __name__ == "__main__":
    import loopscope

    learn = synth_learner(n_trn=2, n_val=1)
    for what in sys.argv[1:]:
        cls, name, old, new = CHANGES[what]
        stock = vars(cls)[name]
        change(*CHANGES[what])
        before = dict(vars(Learner)), dict(vars(core.Callback))
        for module in [one for one in sys.modules if one.startswith("loopscope.adapters.fastai")]:
            del sys.modules[module]  # the adapter looks at fastai when it is imported
        try:
            with loopscope.record(learn, "changed.loop"):
                print(what, "was recorded")
        except loopscope.errors.UnknownVersion as error:
            print(f"{what}: {error}")
        print([key for one, then in zip((Learner, core.Callback), before) for key in then if vars(one)[key] is not then[key]])
        setattr(cls, name, stock)
