"""Names that say what a thing is, in any framework: what only returns something, what leads out of the loop."""

from __future__ import annotations

from collections.abc import Iterable
from logging import Logger, LoggerAdapter
from types import BuiltinFunctionType, FunctionType, ModuleType

from loopscope.effects.data import Vocabulary
from loopscope.effects.things import NOTHING, Thing

RANK = ("model", "optimizer", "loss", "learner", "data", "outside", "callback", "")
OF_THE_LOOP = frozenset(("learner", "model", "optimizer", "loss", "data"))


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


OUTSIDE_MODULES = _set(
    """
    wandb comet_ml neptune mlflow tensorboard tensorboardX azureml clearml aim swanlab dvclive subprocess shutil
    logging warnings socket requests urllib http smtplib tempfile tqdm rich
    """
)
_OUTSIDE_NAMES = _set(
    """
    print input open exec eval SummaryWriter Experiment TemporaryDirectory NamedTemporaryFile progress_bar
    master_bar tqdm trange warn rank_zero_warn rank_zero_info rank_zero_debug rank_zero_deprecation
    """
)
OUTSIDE_CALLS = _set(
    """
    torch.save torch.load json.dump pickle.dump pickle.load np.save np.savez numpy.save numpy.savez plt.show
    plt.savefig os.remove os.unlink os.makedirs os.mkdir os.rename os.replace os.rmdir os.system os.fsync os.kill
    os._exit sys.exit os.environ.update os.environ.setdefault time.sleep
    """
)
_MESSAGES = _set("debug info warn warning warning_once info_once error exception critical")
FILE_METHODS = _set("mkdir open write_text write_bytes unlink rmdir touch rename symlink_to savefig to_csv")
CHANGING = _set(
    """
    append extend insert add update setdefault
    """
)
SHRINKING = _set(
    """
    pop popleft remove discard clear sort reverse popitem appendleft
    """
)
_PURE = _set(
    """
    abs all any argmax argmin argsort astype bool byte chunk clone contiguous copy cpu cuda detach diag dim div
    dot double eq exp expand expand_as fill flatten flip float floor gather ge gt half histc index_select int
    is_floating_point isfinite isinf isnan item itemsize le lerp log log10 log1p log2 log_softmax logsumexp long
    lt masked_fill masked_select matmul max maximum mean median min minimum mm mul ne ndimension neg nelement
    new nonzero norm numel numpy one_hot permute pow prod repeat reshape roll round select sigmoid sign size
    softmax split sqrt squeeze std stride sub sum t tanh tile to tolist topk transpose tril triu type type_as
    unbind unfold unique unsqueeze var view view_as where new_empty new_full new_ones new_tensor new_zeros count
    decode encode endswith find format index isdigit items join keys lower lstrip most_common partition replace
    get rjust rsplit rstrip splitlines startswith strip title upper values zfill difference intersection issubset
    union parameters named_parameters buffers named_buffers modules named_modules children named_children
    state_dict extra_repr absolute exists expanduser glob is_dir is_file iterdir joinpath relative_to resolve
    rglob stat with_name with_suffix samefile filter map sorted sample
    """
)
_PURE_PREFIXES = ("get_", "is_", "has_", "num_", "to_", "as_")
_MOVES_A_MODEL = _set("to cpu cuda float half double bfloat16 type")


def is_pure(name: str, on: str, vocabulary: Vocabulary) -> bool:
    """Return whether a method only returns something, by its name."""
    if name in vocabulary.loops or (on == "model" and name in _MOVES_A_MODEL):
        return False
    if name.startswith("__"):
        return name not in ("__enter__", "__exit__", "__setattr__", "__call__")
    return name in _PURE or name in vocabulary.pure or (name.startswith(_PURE_PREFIXES) and not name.endswith("_"))


def is_message(name: str) -> bool:
    """Return whether a call logs or warns, by its name: `logger.info`, `warnings.warn`, `rank_zero_warn`."""
    last = name.rpartition(".")[2]
    return last in _MESSAGES or last.startswith("rank_zero_")


def is_object(obj: object) -> bool:
    """Return whether what a name holds is an object that can be changed: no module, class, function or plain value."""
    return obj is not NOTHING and not isinstance(obj, _PLAIN) and type(obj).__name__ != "ufunc"  # np.greater


_PLAIN = (
    *(ModuleType, type, FunctionType, BuiltinFunctionType),
    *(bool, int, float, complex, str, bytes, tuple, frozenset, type(None), type(...)),
)


def is_outside(obj: object, text: str) -> bool:
    """Return whether a name leads out of the loop: by the module it comes from, or by what it is called."""
    last = text.rpartition(".")[2]
    if text in OUTSIDE_CALLS or text in _OUTSIDE_NAMES or (last in _OUTSIDE_NAMES and obj is NOTHING):
        return True
    if isinstance(obj, (Logger, LoggerAdapter)):
        return True
    module = obj.__name__ if isinstance(obj, ModuleType) else module_of(obj)
    return module.partition(".")[0] in OUTSIDE_MODULES or ".tensorboard" in module


def module_of(obj: object) -> str:
    if isinstance(obj, (type, FunctionType, BuiltinFunctionType)):
        found = type.__getattribute__(obj, "__dict__").get("__module__") if isinstance(obj, type) else obj.__module__
        return found if isinstance(found, str) else ""
    return ""


def dominant(things: Iterable[Thing]) -> str:
    """Return whose a value is that was made of several: of the loop before outside before the callback's."""
    return min((thing.on for thing in things), key=RANK.index, default="")
