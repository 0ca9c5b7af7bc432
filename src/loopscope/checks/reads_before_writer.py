"""A handler that reads what another one writes after it, at the same event: it finds an older value, or nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loopscope.callbacks import Callback, Method
from loopscope.checks.rule import ALL, Case, Rule
from loopscope.findings import Finding
from loopscope.model import Handler

RULE = Rule(
    name="reads-before-writer",
    severity="warning",
    frameworks=ALL,
    needs="callbacks",
    says="a handler reads what another one writes after it, at the same event",
    why="The first time there is nothing to read, which mostly is an error or an early stopping that never stops; from "
    "then on it is the figure of the batch or epoch before.",
    do="Let the reader come after the writer.",
    fires="""
        class Worst(Callback):
            def after_epoch(self): print(max(self.recorder.values[-1]))

        learn.add_cb(Worst())  # its order is 0, Recorder's is 50
        """,
    silent="""
        class Worst(Callback):
            order = Recorder.order + 1

            def after_epoch(self): print(max(self.recorder.values[-1]))

        learn.add_cb(Worst())
        """,
    threads=("pytorch-lightning#17131",),
)


@dataclass(frozen=True, slots=True)
class Use:
    """What a handler does with what others use too, by name: `learn.recorder.values`, `'val_f1'`."""

    handler: Handler
    reads: frozenset[str]
    writes: frozenset[str]


def findings(case: Case) -> Iterator[Finding]:
    words = WORDS[case.loop.framework]
    known = words.known(case)
    events = {row.name: row for row in case.rows("event")}
    for event in events.values():
        handlers = [row.handler for row in event.children if row.handler is not None and row.status != "never"]
        if len(handlers) > 1:
            uses = [words.use(case, one) for one in handlers]
            yield from _late(case, uses, known(event.name), words.do)


def _late(case: Case, uses: list[Use], known: frozenset[str], do: str) -> Iterator[Finding]:
    """Yield a finding for each thing that is first written behind its reader."""
    written: set[str] = set(known)
    for at, use in enumerate(uses):
        for name in sorted(use.reads - use.writes - written):
            writer = next((one for one in uses[at + 1 :] if name in one.writes), None)
            if writer is not None and writer.handler.id != use.handler.id:
                yield from _found(case, use.handler, writer.handler, name, do)
        written |= use.writes


def _found(case: Case, reader: Handler, writer: Handler, name: str, do: str) -> Iterator[Finding]:
    if case.shipped(reader) and case.shipped(writer):
        return
    yield RULE.at(
        reader,
        f"{reader.callback} reads {name} in {reader.event}, where {writer.callback} writes it after it",
        "inferred",
        do=do.format(reader=reader, writer=writer),
        evidence=(
            f"{reader.id}.{reader.method}: {reader.reason}",
            f"{writer.id}.{writer.method}: {writer.reason}",
            f"nobody writes {name} before",
        ),
    )


# -- fastai: attributes of the learner and of other callbacks --------------------------------------------------


def _fastai(case: Case, handler: Handler) -> Use:
    callback, method = case.callbacks.get(handler.id), case.method(handler)
    if callback is None or method is None:
        return Use(handler, frozenset(), frozenset())
    reads = frozenset() if method.shipped else frozenset(_read_of_learner(method))
    return Use(handler, reads, frozenset(_written_of_learner(callback, method)))


def _read_of_learner(method: Method) -> Iterator[str]:
    """Yield what a handler reads of the learner, but for what it asks for: `hasattr(self, "smooth_loss")`."""
    asked = _constants(method)
    for effect in method.effects:
        if effect.kind == "reads" and effect.on == "learner" and _name(effect.target).rpartition(".")[2] not in asked:
            yield _name(effect.target)


def _name(target: str) -> str:
    """Return what a target is a part of: `learn.recorder.values[-1][1]` -> `learn.recorder.values`."""
    return target.partition("[")[0]


def _written_of_learner(callback: Callback, method: Method) -> Iterator[str]:
    """Yield what a handler writes, by the name under which others read it: `learn.recorder.values`."""
    for effect in method.effects:
        if effect.kind != "writes" or not (effect.certain or method.shipped):
            continue
        if effect.on == "learner":
            yield _name(effect.target)
        elif effect.on == "callback" and callback.name:
            yield f"learn.{callback.name}.{_name(effect.target).removeprefix('self.')}"


def _constants(method: Method) -> frozenset[str]:
    nodes = () if method.node is None else ast.walk(method.node)
    return frozenset(one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str))


FITTED = ("before_fit", "after_create")
"""Events at which a callback sets up what it writes later."""


def _known_to_fastai(case: Case) -> Callable[[str], frozenset[str]]:
    """Return what is there before an event: what the learner itself writes, and handlers at other events.

    What somebody has put on the learner before the run, and a callback of his own goes on writing, is there too.
    """
    own = {f"learn.{name}" for row in case.rows("step") for name in _assigned(row.text)} | LEARNER
    set_up = case.examined.settings.get("attributes") if case.examined is not None else ()
    there = {f"learn.{name}" for name in (set_up if isinstance(set_up, tuple) else ())}
    at: dict[str, set[str]] = {}
    for event, row in case.handlers():
        if row.handler is not None and row.status != "never":
            writes = _fastai(case, row.handler).writes
            at.setdefault(event.name, set()).update(writes)
            own |= set() if case.shipped(row.handler) else writes & there

    def known(event: str) -> frozenset[str]:
        return frozenset(own.union(*(names for name, names in at.items() if name not in (event, *FITTED))))

    return known


LEARNER = {
    f"learn.{name}"
    for name in (
        *("pred", "loss", "loss_grad", "xb", "yb", "x", "y", "iter", "epoch", "n_epoch", "n_iter", "dl", "dls"),
        *("training", "model", "opt", "opt_func", "loss_func", "lr", "cbs", "metrics", "logger", "path", "model_dir"),
    )
}
"""What fastai's learner writes by itself."""


def _assigned(text: str) -> Iterator[str]:
    """Yield the attributes of `self` that a line of source assigns: `self.xb,self.yb = b[:i],b[i:]`."""
    left, equals, _ = text.partition(" = ")
    if equals:
        yield from (part.strip().removeprefix("self.") for part in left.split(",") if part.strip().startswith("self."))


# -- Keras and Transformers: a dictionary that is handed from one to the next ----------------------------------


def _logs(case: Case, handler: Handler) -> Use:
    callback, method = case.callbacks.get(handler.id), case.method(handler)
    store = None if method is None else _store(case.loop.framework, method)
    if callback is None or method is None or method.node is None or store is None:
        return Use(handler, frozenset(), frozenset())
    names = _watched(case, callback) if method.shipped else _read(method.node, store)
    return Use(handler, frozenset(map(repr, names)), frozenset(map(repr, _written(method.node, store))))


def _store(framework: str, method: Method) -> str | None:
    """Return the name that a handler has for the dictionary; in Keras it is the last that is passed by place."""
    if method.node is None:
        return None
    given = method.node.args
    names = [one.arg for one in (*given.posonlyargs, *given.args)]
    if framework == "keras":
        return names[-1] if method.name.startswith("on_") and len(names) > 1 else None
    return {"on_evaluate": "metrics", "on_log": "logs"}.get(method.name)


def _watched(case: Case, callback: Callback) -> Iterable[str]:
    """Yield the name that a shipped callback looks up."""
    assert case.examined is not None
    if callback.cls in ("EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint"):
        monitor = callback.settings.get("monitor")
        if isinstance(monitor, str) and callback.settings.get("save_best_only") is not False:
            yield monitor
    best = case.examined.settings.get("metric_for_best_model")
    if callback.cls == "EarlyStoppingCallback" and isinstance(best, str):
        yield best if best.startswith("eval_") else f"eval_{best}"


def _read(node: ast.AST, store: str) -> Iterator[str]:
    """Yield the constant keys that are read: `logs["val_f1"]`, `logs.get("val_f1")`."""
    for one in ast.walk(node):
        if isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Load) and _ends(one.value, store):
            yield from _constant(one.slice)
        elif isinstance(one, ast.Call) and _is_method(one.func, "get", store):
            yield from _constant(*one.args[:1])


def _is_method(node: ast.expr, name: str, store: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name and _ends(node.value, store)


def _ends(node: ast.expr, store: str) -> bool:
    """Return whether an expression is the dictionary: `logs`, `(logs or {})`, `trainer.callback_metrics`."""
    if isinstance(node, ast.BoolOp):
        return _ends(node.values[0], store)
    return (isinstance(node, ast.Name) and node.id == store) or (isinstance(node, ast.Attribute) and node.attr == store)


def _written(node: ast.AST, store: str) -> Iterator[str]:
    """Yield the constant keys that are written: `logs["val_f1"] = ...`, `logs.update(val_f1=...)`."""
    for one in ast.walk(node):
        if isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Store) and _ends(one.value, store):
            yield from _constant(one.slice)
        elif isinstance(one, ast.Call) and _is_method(one.func, "update", store):
            yield from (word.arg for word in one.keywords if word.arg)
            for given in one.args:
                yield from _constant(*(given.keys if isinstance(given, ast.Dict) else ()))


def _constant(*nodes: ast.expr | None) -> Iterator[str]:
    yield from (one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _known_to_logs(case: Case) -> Callable[[str], frozenset[str]]:
    """Return the figures that the framework itself hands over, where they are known."""
    assert case.examined is not None
    metrics = case.examined.settings.get("metrics")
    names = ["loss", *(metrics if isinstance(metrics, tuple) else ()), "eval_loss", "epoch"]
    own = frozenset(map(repr, (*names, *(f"val_{name}" for name in names))))
    return lambda event: own


# -- Lightning: figures that are logged ------------------------------------------------------------------------


def _lightning(case: Case, handler: Handler) -> Use:
    method = case.method(handler)
    if method is None or method.node is None or method.shipped:
        return Use(handler, frozenset(), frozenset())
    reads = {name for store in ("callback_metrics", "logged_metrics") for name in _read(method.node, store)}
    return Use(handler, frozenset(map(repr, reads)), frozenset(map(repr, _logged(method))))


def _logged(method: Method) -> Iterator[str]:
    """Yield the constant names under which a method logs: `self.log("val_acc", ...)`."""
    for one in ast.walk(method.node) if method.node is not None else ():
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.args:
            if one.func.attr == "log":
                yield from _constant(one.args[0])
            elif one.func.attr == "log_dict" and isinstance(one.args[0], ast.Dict):
                yield from _constant(*one.args[0].keys)


def _known_to_lightning(case: Case) -> Callable[[str], frozenset[str]]:
    """Return what is logged anywhere else, by whatever method."""
    logged = [
        (method.name, repr(name))
        for callback in case.callbacks.values()
        for method in callback.methods
        if not method.shipped
        for name in _logged(method)
    ]
    return lambda event: frozenset(name for where, name in logged if where != event)


# -- ignite: the metrics of another engine, which a handler runs -----------------------------------------------


def _ignite(case: Case, handler: Handler) -> Use:
    method = case.method(handler)
    if method is None or method.node is None or method.shipped:
        return Use(handler, frozenset(), frozenset())
    given = {one.arg for one in method.node.args.args}
    return Use(
        handler,
        frozenset(f"{name}.state.metrics" for name in _evaluators(method.node) if name not in given),
        frozenset(f"{name}.state.metrics" for name in _runs(method.node)),
    )


def _evaluators(node: ast.AST) -> Iterator[str]:
    """Yield the engines whose metrics are read: `evaluator.state.metrics` -> `"evaluator"`."""
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and ast.unparse(one).endswith(".state.metrics"):
            yield ast.unparse(one).removesuffix(".state.metrics")


def _runs(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "run":
            yield ast.unparse(one.func.value)


def _known_to_ignite(case: Case) -> Callable[[str], frozenset[str]]:
    """Return the engines that handlers of other events run."""
    runs = [
        (event.name, name)
        for event, row in case.handlers()
        if row.handler is not None and row.status != "never"
        for name in _ignite(case, row.handler).writes
    ]
    return lambda event: frozenset(name for where, name in runs if where != event)


@dataclass(frozen=True, slots=True)
class Words:
    """How one framework's handlers hand something on: what a handler uses, what is there before, and what to do."""

    use: Callable[[Case, Handler], Use]
    known: Callable[[Case], Callable[[str], frozenset[str]]]
    do: str


LISTED = "Put {reader.callback} behind {writer.callback} in the list of callbacks."

WORDS: Mapping[str, Words] = MappingProxyType(
    {
        "fastai": Words(
            _fastai, _known_to_fastai, "Set order = {writer.callback}.order + 1 in {reader.callback}, or more."
        ),
        "keras": Words(_logs, _known_to_logs, LISTED),
        "transformers": Words(_logs, _known_to_logs, LISTED),
        "lightning": Words(
            _lightning,
            _known_to_lightning,
            "Read it in a later hook, or log it in an earlier one: a module's hook comes after those of callbacks.",
        ),
        "ignite": Words(
            _ignite, _known_to_ignite, "Attach {reader.callback} after {writer.callback}, or to the other engine."
        ),
    }
)
