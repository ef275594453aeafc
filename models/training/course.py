"""A course: one phase under way, with its network, optimizer and clock, where it is, and its part of a checkpoint."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidRecipe
from models.recipes import OptimizerChoice, Recipe, ScheduleChoice
from models.training import variables
from models.training.batches import Augment, Batch, Batches
from models.training.checkpoints import Checkpoint
from models.training.pace import Clock, Pace
from models.training.schedules import Plateau, learning_rate
from models.training.steps import Steps, Sums, make_optimizer

Pair = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a run: a network, its data, and how it learns.

    model: keras.Model from `train.pictures` to probabilities [N, K]; its `trainable` flags are set, it needs no
    compile(). val: None where nothing is held back; then the training's own values are monitored.
    augment: of training batches, called in the reading thread. class_weights: [K].
    later_epochs: planned by the phases to come; for the ETA alone.
    """

    name: str
    model: Any
    train: Batches
    val: Batches | None
    epochs: int
    optimizer: OptimizerChoice
    schedule: ScheduleChoice
    augment: Augment | None = None
    class_weights: NDArray[np.float32] | None = None
    later_epochs: int = 0


class Course:
    """`before`: epochs of earlier phases; `epoch`: complete ones of all phases; `step`: of the next, done so far."""

    def __init__(self, phase: Phase, recipe: Recipe, before: int, clock: Clock) -> None:
        self.phase = phase
        self.before = self.epoch = before
        self.step = 0
        self.rate = phase.optimizer.learning_rate
        self._optimizer = make_optimizer(phase.optimizer)
        self.steps = Steps(phase.model, self._optimizer, recipe.loss.label_smoothing, phase.class_weights)
        plateau = Plateau(phase.schedule, recipe.stopping.monitor, self.rate)
        self.plateau = plateau if phase.schedule.name == "plateau" else None
        self.pace = Pace(clock)

    @property
    def epochs_left(self) -> int:
        """Of this phase, the one under way included."""
        return max(0, self.before + self.phase.epochs - self.epoch)

    def train(self) -> Generator[None, None, None]:
        """The rest of the epoch's training, step by step."""
        stream = self.phase.train.stream(self.epoch + 1, self._prepare, start=self.step)
        with closing(stream):
            for x, y in stream:
                self.rate = self._next_rate()
                self.steps.train(x, y, self.rate)
                self.step += 1
                self.pace.tick(self.step)
                yield

    def validate(self) -> Generator[None, None, None]:
        """All of the validation, batch by batch."""
        if self.phase.val is None:
            return
        begun = self.pace.seconds
        self.steps.reset(self.steps.validated)
        stream = self.phase.val.stream(self.epoch + 1, self._one_hot)
        with closing(stream):
            for x, y in stream:
                self.steps.validate(x, y)
                yield
        self.pace.validation_s = self.pace.seconds - begun

    def close_epoch(self, value: float) -> None:
        """The epoch is over with this monitored value, the next one begins."""
        self.epoch, self.step = self.epoch + 1, 0
        if self.plateau:
            self.plateau.update(value)
        self.steps.reset(self.steps.trained)
        self.pace.begin()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its part of a checkpoint's arrays."""
        model = variables.read(variables.all_of(self.phase.model), "model")
        optimizer = variables.read(self._optimizer.variables, "optimizer")
        return {**model, **optimizer, "trained": self.steps.trained.numpy()}

    def state(self) -> dict[str, Any]:
        """Its part of a checkpoint's state."""
        return {
            "phase": self.phase.name, "before": self.before, "epoch": self.epoch, "step": self.step,
            "steps": self.phase.train.steps, "rate": self.rate, "pace": self.pace.state(),
            "plateau": self.plateau.state() if self.plateau else None,
        }  # fmt: skip

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from there. Raises InvalidModel for another network's checkpoint, InvalidRecipe for other data."""
        state: Mapping[str, Any] = checkpoint.state["course"]
        if state["step"] and state["steps"] != self.phase.train.steps:
            raise InvalidRecipe(
                f"The checkpoint is in the middle of an epoch of {state['steps']} steps, but now an epoch has "
                f"{self.phase.train.steps}: the data or batch_size have changed. Start the training anew."
            )
        variables.write(variables.all_of(self.phase.model), checkpoint.arrays, "model")
        variables.write(self._optimizer.variables, checkpoint.arrays, "optimizer")
        self.steps.trained.assign(checkpoint.arrays["trained"])
        self.before, self.epoch, self.step, self.rate = (state[key] for key in ("before", "epoch", "step", "rate"))
        self.pace.begin(state["pace"])
        if self.plateau and state["plateau"]:
            self.plateau.restore(state["plateau"])

    def check(self, sums: Sums) -> None:
        """Raises InvalidRecipe where the loss is no longer a number."""
        if not np.isfinite(sums.loss):
            raise InvalidRecipe(
                f"The loss is no longer a finite number in epoch {self.epoch + 1}, step {self.step} of "
                f"{self.phase.train.steps} (phase {self.phase.name}, learning rate {self.rate:g}). Lower "
                f"optimizer.learning_rate, to {self.phase.optimizer.learning_rate / 10:g} perhaps"
                f"{' (second_phase.learning_rate in a second phase)' if self.before else ''}, and look at the "
                f"pictures' scale if that does not help."
            )

    def _next_rate(self) -> float:
        if self.plateau:
            return self.plateau.rate
        steps = self.phase.train.steps
        done = (self.epoch - self.before) * steps + self.step
        return learning_rate(self.phase.optimizer, self.phase.schedule, done, self.phase.epochs * steps)

    def _one_hot(self, batch: Batch) -> Pair:
        y = np.zeros((len(batch.y), self.steps.classes), np.float32)
        y[np.arange(len(batch.y)), batch.y] = 1
        return batch.x, y

    def _prepare(self, batch: Batch) -> Pair:
        x, y = self._one_hot(batch)
        if self.phase.augment is None:
            return x, y
        return self.phase.augment(x.astype(np.float32, copy=False), y, self.epoch + 1, batch.step)
