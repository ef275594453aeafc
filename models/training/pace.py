"""Pace: how long an epoch has taken, through restarts, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Clock = Callable[[], float]


class Pace:
    """How fast an epoch goes. Seconds count through restarts; the steps per second only what this process has seen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.validation_s = 0.0  # of the last validation
        self.begin()

    def begin(self, state: Mapping[str, Any] | None = None) -> None:
        """An epoch begins, or goes on from what `state` gave."""
        self._base: float = state["seconds"] if state else 0.0
        self.train_s: float | None = state["train_s"] if state else None
        self._start = self._clock()
        self._mark: tuple[float, int] | None = None
        self._per_step = 0.0

    def tick(self, step: int) -> None:
        """A step is over. The first one compiles, so it is no measure for the others."""
        now = self._clock()
        if self._mark is None:
            self._mark, self._per_step = (now, step), now - self._start
        else:
            self._per_step = (now - self._mark[0]) / (step - self._mark[1])

    @property
    def seconds(self) -> float:
        """Of the epoch so far."""
        return self._base + self._clock() - self._start

    def trained(self) -> None:
        """The training part is over."""
        if self.train_s is None:
            self.train_s = self.seconds

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"seconds": self.seconds, "train_s": self.train_s}

    def images_per_s(self, batch_size: int) -> float:
        """Of the steps so far."""
        return batch_size / self._per_step if self._per_step > 0 else 0.0

    def eta_s(self, steps_left: int, steps: int, epochs_after: int) -> float:
        """To the end of `epochs_after` epochs after the one that has `steps_left`."""
        return (
            steps_left * self._per_step
            + self.validation_s
            + epochs_after * (steps * self._per_step + self.validation_s)
        )
