"""What a training tells while it runs: its epochs, where it is, how it ended, and who listens. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Ending = Literal["done", "early", "paused", "stopped"]
Wish = Literal["go", "pause", "stop"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One finished epoch. `epoch` counts from 1 through all phases; the `val_` values are None without validation.

    loss: as it is minimised: label smoothing, class weights (training only) and L1/L2 included, as Keras reports it.
    accuracy, top5: shares of images, 0-1; top5 is top-min(5, classes).
    learning_rate: of the epoch's last step.
    seconds: of training and validation, over all attempts; images_per_s: of its training part.
    patience_left: epochs without progress that are still allowed; None where nothing stops early.
    """

    epoch: int
    phase: str
    loss: float
    accuracy: float
    top5: float
    val_loss: float | None
    val_accuracy: float | None
    val_top5: float | None
    learning_rate: float
    images_per_s: float
    seconds: float
    is_best: bool
    patience_left: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Epoch:
        """What `to_json` gave."""
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is. `epoch` is the one under way, from 1; `steps` are of one epoch, `epochs` of all phases.

    loss and accuracy are the means over the epoch so far; eta_s counts to the end of the last phase's last epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_s: float
    eta_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a phase ended: "done" (all epochs), "early" (patience is out), "paused" or "stopped" (as was wanted).

    best_*: of all phases so far (None only where a run paused before its first epoch was over); epochs: of all phases.
    """

    ended: Ending
    best_epoch: int | None
    best_value: float | None
    best_phase: str | None
    epochs: int
    history: Sequence[Epoch]


class Observer(Protocol):
    """Who is told, from the thread that trains. What its methods raise ends the run and passes through."""

    def progress(self, now: Progress) -> None:
        """Where the run is: at most a few times a second."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over. After a restart the same epoch may be told once more, with the same values."""

    def checkpoint(self, path: Path, epoch: int, step: int) -> None:
        """This checkpoint is on the disk: the pointer may move there, after that `checkpoints.prune(path)`.

        `epoch` epochs are complete in it, and `step` steps of the next one.
        """

    def wanted(self) -> Wish:
        """Asked between steps, so it must be quick: "pause" (checkpoint and leave) or "stop" (end, keep the best)."""
