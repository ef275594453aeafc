"""Stopping: which epoch is the best, and whether there is patience left for the next one. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.recipes import Monitor, StoppingChoice


@dataclass(frozen=True, slots=True)
class Best:
    """The best epoch so far: its number, the phase that it was in, and its monitored value."""

    epoch: int
    phase: str
    value: float


def is_better(value: float, best: float | None, monitor: Monitor, min_delta: float) -> bool:
    """Whether the value is more than `min_delta` better than the best; a loss is better when it is lower."""
    if best is None:
        return True
    return value + min_delta < best if monitor == "val_loss" else value - min_delta > best


class Patience:
    """Keras's EarlyStopping, resumable, and through several phases of one run.

    The best stays the best when a phase begins (Keras forgets it there, so that a worse epoch could win); only the
    patience is new. A patience of 0 never stops.
    """

    def __init__(self, choice: StoppingChoice) -> None:
        self._choice = choice
        self._wait = 0
        self.best: Best | None = None

    @property
    def left(self) -> int | None:
        """Epochs without progress that are still allowed; None where nothing stops early."""
        return max(0, self._choice.patience - self._wait) if self._choice.patience else None

    @property
    def is_out(self) -> bool:
        """Whether it is time to stop."""
        return self.left == 0

    def update(self, value: float, epoch: int, phase: str) -> bool:
        """Tell an epoch's monitored value; whether it is the best so far comes back."""
        before = self.best.value if self.best else None
        if is_better(value, before, self._choice.monitor, self._choice.min_delta):
            self.best, self._wait = Best(epoch, phase, value), 0
            return True
        self._wait += 1
        return False

    def renew(self) -> None:
        """A phase begins, or a finished one goes on: patience is full again."""
        self._wait = 0

    def state(self) -> dict[str, Any]:
        """All that decides what it will answer, as plain JSON."""
        return {"wait": self._wait, "best": asdict(self.best) if self.best else None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._wait = int(state["wait"])
        self.best = Best(**state["best"]) if state["best"] else None
