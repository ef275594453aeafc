"""Schedules: the learning rate of every step, and lowering it where the monitored value rests. Needs no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.recipes import Monitor, OptimizerChoice, ScheduleChoice
from models.training.stopping import is_better


def learning_rate(optimizer: OptimizerChoice, schedule: ScheduleChoice, step: int, total_steps: int) -> float:
    """The rate of one step (from 0) of a phase with so many steps; of `plateau` the one that it begins with.

    warmup_hold_cosine: a line to the highest rate at the warm-up's last step, the highest rate, then half a cosine
    that would be zero one step after the last. Every step of it moves the weights.
    """
    highest = optimizer.learning_rate
    if schedule.name != "warmup_hold_cosine":
        return highest
    warm = schedule.warmup * total_steps
    held = warm + schedule.hold * total_steps
    if step + 1 < warm:
        return highest * (step + 1) / warm
    if step <= held:
        return highest
    return highest * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - held) / (total_steps - held))))


class Plateau:
    """Multiplies the rate by `factor` after `patience` epochs without progress: Keras's ReduceLROnPlateau, resumable.

    `rate` is the one to learn with now.
    """

    def __init__(self, schedule: ScheduleChoice, monitor: Monitor, rate: float) -> None:
        self._choice = schedule
        self._monitor = monitor
        self.rate = rate
        self._best: float | None = None
        self._wait = 0

    def update(self, value: float) -> float:
        """Tell an epoch's monitored value; the rate of the next epoch comes back."""
        if is_better(value, self._best, self._monitor, self._choice.min_delta):
            self._best, self._wait = value, 0
            return self.rate
        self._wait += 1
        if self._wait >= self._choice.patience and self.rate > self._choice.min_learning_rate:
            self.rate = max(self.rate * self._choice.factor, self._choice.min_learning_rate)
            self._wait = 0
        return self.rate

    def state(self) -> dict[str, Any]:
        """All that decides what it will answer, as plain JSON."""
        return {"rate": self.rate, "best": self._best, "wait": self._wait}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.rate, self._best, self._wait = float(state["rate"]), state["best"], int(state["wait"])
