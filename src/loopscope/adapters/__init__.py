"""The frameworks: one file and one line in `TABLE` each, imported only when the user's program imported the framework.

Constraint: what must be known before a framework is imported (which calls train) is plain data here.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import entry_points
from types import CodeType, MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

from loopscope import collector
from loopscope.errors import UnknownObject
from loopscope.model import Loop

if TYPE_CHECKING:
    from loopscope.callbacks import Examined

TABLE: Mapping[str, str] = MappingProxyType(
    {
        "fastai": "loopscope.adapters.fastai",
        "lightning": "loopscope.adapters.lightning",
        "pytorch_lightning": "loopscope.adapters.lightning",
        "transformers": "loopscope.adapters.transformers",
        "keras": "loopscope.adapters.keras",
        "ignite": "loopscope.adapters.ignite",
    }
)
"""Root module of a framework -> the module of its adapter."""

_TRAINER = ("Trainer.fit", "Trainer.validate", "Trainer.test", "Trainer.predict")

FIT_LIKE: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fastai": {
            "fastai.learner": (
                "Learner.fit",
                "Learner.validate",
                "Learner.get_preds",
                "Learner.predict",
                "Learner.show_results",
                "Learner.tta",
            ),
            "fastai.callback.schedule": (
                "Learner.fit_one_cycle",
                "Learner.fine_tune",
                "Learner.lr_find",
                "Learner.fit_flat_cos",
                "Learner.fit_sgdr",
            ),
        },
        "lightning": {"lightning.pytorch.trainer.trainer": _TRAINER},
        "pytorch_lightning": {"pytorch_lightning.trainer.trainer": _TRAINER},
        "transformers": {"transformers.trainer": ("Trainer.train", "Trainer.evaluate", "Trainer.predict")},
        "keras": {
            f"keras.src.backend.{backend}.trainer": (f"{cls}.fit", f"{cls}.evaluate", f"{cls}.predict")
            for backend, cls in (("torch", "TorchTrainer"), ("tensorflow", "TensorFlowTrainer"), ("jax", "JAXTrainer"))
        },
        "ignite": {"ignite.engine.engine": ("Engine.run",)},
    }
)
"""Root module -> module that defines or attaches the calls -> the calls that run a loop, as `Class.method`."""

NESTED: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"fastai": {"fastai.learner": ("Learner._do_epoch_train", "Learner._do_epoch_validate")}}
)
"""As `FIT_LIKE`: parts of a loop that a handler may call by itself; a recording places such a call as a run inside."""

GROUP = "loopscope.adapters"
"""The entry-point group for adapters of third parties: name = root module of the framework, value = module."""


NOTHING: Mapping[str, object] = MappingProxyType({})


class Adapter(Protocol):
    """What the module of a framework offers."""

    RUNS: Sequence[str]
    """The runs that `describe` is asked for by name, the most usual one first."""

    def event_docs(self) -> Mapping[str, str]:
        """Return every event of the installed framework with a description."""

    def accepts(self, obj: object) -> bool:
        """Return whether `obj` is this framework's learner or trainer."""

    def describe(
        self,
        obj: Any,
        run: str,
        *,
        epochs: int | None = None,
        start_epoch: int = 0,
        cbs: object = None,
        arguments: Mapping[str, object] = NOTHING,
    ) -> Loop:
        """Return the loop that `run` would run on `obj`; `cbs` are one's own callbacks, `arguments` the run's."""

    def describe_call(self, obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Loop:
        """Return the loop of one real call, its arguments by parameter name; `cbs` are added and marked."""

    def examined(self, obj: Any, method: str, arguments: Mapping[str, object], cbs: object = None) -> Examined:
        """Return what rules read of the callbacks of the same call; an adapter may lack it."""

    __name__: str
    DISPATCHING: Collection[CodeType]
    """The code of the functions that call handlers while something is recorded; their first argument is what is
    recorded, or `dispatched` says so."""

    def verify(self) -> None:
        """Raise `UnknownVersion` if the framework's dispatch has not the shape that `attach` expects."""

    def attach(self, obj: Any, sink: Callable[[Any], Any]) -> Callable[[], None]:
        """Record every event and handler call of `obj` (None: of every object); return what detaches it.

        `sink(obj)` gives the `recorder.Subject` of an object: the codes and lanes to write to.
        """

    def adopt(self, obj: Any) -> object:
        """Have an object recorded that is met for the first time, while every object is."""

    def facts(self, obj: Any) -> Mapping[str, object]:
        """Return what a recording says of an object: its class, its device."""

    def versions(self) -> Mapping[str, str]:
        """Return package -> version, of the framework and what it stands on."""

    def calibrate(self) -> Mapping[str, object]:
        """Return what recording costs in this process, in ns: `per_event`, `per_call`, `clock`, `dispatch`, ..."""


def find(obj: object) -> Adapter:
    """Return the adapter that knows `obj`; only frameworks that are already imported are asked.

    Raises `UnknownObject` when there is none.
    """
    for known in (TABLE, third_parties()):
        for root in known:
            if root in sys.modules:
                with collector.paused():
                    adapter = cast(Adapter, importlib.import_module(known[root]))
                if adapter.accepts(obj):
                    return adapter
    raise UnknownObject(_unknown(obj, list({**TABLE, **third_parties()})))


@functools.cache
def third_parties() -> Mapping[str, str]:
    """Return root module -> adapter module, as installed packages register them; asked for only when `TABLE` fails."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def _unknown(obj: object, known: Sequence[str]) -> str:
    what = f"the class {obj.__name__}" if isinstance(obj, type) else f"an object of type {type(obj).__qualname__}"
    imported = ", ".join(root for root in known if root in sys.modules) or "none of them"
    hint = " Pass an instance, not the class." if isinstance(obj, type) else ""
    return (
        f"{what} is no learner, trainer, model or engine that loopscope knows.{hint} "
        f"Known frameworks: {', '.join(known)} (imported here: {imported}). Type loopscope.inspect(learn), say."
    )
