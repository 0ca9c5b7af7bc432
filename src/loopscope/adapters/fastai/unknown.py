"""The error of a fastai that has not the shape that recording needs."""

from __future__ import annotations

import fastai

from loopscope.errors import UnknownVersion


def unknown(what: str) -> UnknownVersion:
    """Return the error that says what this fastai has not, or has in another shape."""
    return UnknownVersion(
        f"fastai {fastai.__version__} cannot be recorded: {what}. Known to work: fastai 2.8. Nothing was attached; "
        f"`loopscope show` still reads the loop."
    )
