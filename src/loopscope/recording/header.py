"""What the header of a recording says about the process that made it, as far as Python itself knows."""

from __future__ import annotations

import os
import platform
import sys

from loopscope import __version__

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""As torchrun sets them: https://pytorch.org/docs/stable/elastic/run.html#environment-variables"""


def facts() -> dict[str, object]:
    """Return what a header says of this process: `Tape.create("run.loop", facts())`.

    `command`, a list; `host`; `cwd`; `python`; `platform`; `loopscope`; and `rank`, `local_rank`, `world_size`
    where the environment has them as numbers. Versions of frameworks are the caller's to add.
    """
    ranks = {name.lower(): int(os.environ[name]) for name in RANKS if os.environ.get(name, "").isdecimal()}
    return {
        "command": list(sys.orig_argv),
        "host": platform.node(),
        "cwd": _folder(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "loopscope": __version__,
        **ranks,
    }


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""
