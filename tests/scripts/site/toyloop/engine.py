"""`Trainer(callbacks).fit(epochs)` calls each callback at `before_fit`, `before_epoch` and `after_fit`."""

from __future__ import annotations

from collections.abc import Iterable


class Hook:
    """A callback: its methods are named like the events."""

    def before_epoch(self) -> None:
        """Say that an epoch begins."""


class Trainer:
    """Runs its callbacks and prints what it really does, which is what `loopscope show` must prevent."""

    def __init__(self, callbacks: Iterable[Hook] = ()) -> None:
        self.callbacks = list(callbacks)

    def fit(self, epochs: int, *, lr: float = 0.1, cbs: Iterable[Hook] = ()) -> str:
        """Train for `epochs`."""
        print(f"really training {epochs} epochs")
        for _ in range(epochs):
            for callback in [*self.callbacks, *cbs]:
                callback.before_epoch()
        return "trained"

    def fit_twice(self, epochs: int, **kwargs: object) -> None:
        """Train in two stages."""
        self.fit(1, **kwargs)
        self.fit(epochs, **kwargs)
