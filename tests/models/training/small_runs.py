"""A small training in two phases that has everything a checkpoint must keep, and an observer that can kill it.

For processes with TensorFlow in them. Pictures are 8×8 pixels of noise in the colour of their class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.recipes import Recipe, check_recipe, merge
from models.training import checkpoints
from models.training.batches import Batches
from models.training.history import Epoch, Outcome, Progress, Wish
from models.training.loop import CheckpointPlace, Phase, Trainer
from models.training.steps import set_seed
from tests.models.training.array_pictures import ArrayPictures

CLASSES = 6
TRAIN, VAL = 50, 20
TIMES = ("seconds", "images_per_s")


class Killed(Exception):
    """What stands for kill -9: nothing but the checkpoints outlives it."""


@dataclass
class Recorder:
    """Writes everything down. After `alive` questions for its wish it kills; at question `wish_at` it wishes."""

    alive: int = 10**9
    wish: Wish = "go"
    wish_at: int = 0
    kill_at_ends: bool = False  # of phases: after their last checkpoint
    asked: int = 0
    pointer: Path | None = None
    told: list[Progress] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    saved: list[tuple[int, int]] = field(default_factory=list)

    def progress(self, now: Progress) -> None:
        self.told.append(now)

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def checkpoint(self, path: Path, epoch: int, step: int) -> None:
        self.pointer = path
        self.saved.append((epoch, step))
        checkpoints.prune(path)
        if self.kill_at_ends and "head" in checkpoints.load(path).state["ended"]:
            raise Killed

    def wanted(self) -> Wish:
        self.asked += 1
        if self.asked > self.alive:
            raise Killed
        return self.wish if self.asked >= self.wish_at else "go"


class Ticks:
    """A clock that goes on by one second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def recipe(**said: Any) -> Recipe:
    """Two phases: plateau and patience in the first, a warm-up in the second by default.

    The seed is one whose rate is lowered after the second epoch and whose best epoch is the fifth of seven, so that a
    checkpoint that forgot either would show.
    """
    values: Mapping[str, Any] = {
        "mode": "two_phase", "preset": "fashion_cnn", "epochs": 4, "batch_size": 8, "seed": 8,
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "schedule": {"name": "plateau", "patience": 1, "min_delta": 0.3, "factor": 0.5},
        "loss": {"label_smoothing": 0.1}, "second_phase": {"epochs": 3, "learning_rate": 0.03},
        "stopping": {"patience": 3},
    }  # fmt: skip
    return check_recipe(merge(values, said))


def pictures(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = random.integers(CLASSES, size=count)
    noise = random.integers(0, 160, (count, 8, 8, 3))
    return (noise + 15 * labels[:, None, None, None]).astype(np.uint8), labels


def batches(count: int, size: int, seed: int, shuffle: bool = True) -> Batches:
    images, labels = pictures(count, seed)
    return Batches(ArrayPictures(images), labels, size, seed=seed, shuffle=shuffle)


def flip(images: Any, labels: Any, epoch: int, step: int) -> tuple[Any, Any]:
    """Some pictures, and their labels a little mixed: a pure function of epoch and step, as the real one is."""
    chosen = np.random.default_rng([epoch, step]).random(len(images)) < 0.5
    images = np.where(chosen[:, None, None, None], images[:, :, ::-1], images)
    return images, (0.9 * labels + 0.1 * labels[::-1]).astype(np.float32)


def network(dropout: float = 0.4, penalty: float = 1e-3, hidden: int = 8) -> Any:
    """A convolution, batch normalisation, dropout, and a penalty on the last layer's kernel."""
    picture = keras.Input((8, 8, 3), name="picture")
    x = keras.layers.Rescaling(1 / 255)(picture)
    x = keras.layers.Conv2D(hidden, 3, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Flatten()(keras.layers.Activation("relu")(x))
    x = keras.layers.Dropout(dropout)(x) if dropout else x
    regularizer = keras.regularizers.L2(penalty) if penalty else None
    return keras.Model(picture, keras.layers.Dense(CLASSES, "softmax", kernel_regularizer=regularizer)(x))


def phases(chosen: Recipe) -> list[Phase]:
    """Both phases with newly built networks; the first is called "head"."""
    train, val = batches(TRAIN, chosen.batch_size, chosen.seed), batches(VAL, 16, 99, shuffle=False)
    second = chosen.second_phase
    sgd = chosen.optimizer.model_copy(update={"name": "sgd", "learning_rate": second.learning_rate})
    warm = chosen.schedule.model_copy(update={"name": "warmup_hold_cosine"})
    weights = np.linspace(0.5, 1.5, CLASSES, dtype=np.float32)
    return [
        Phase("head", network(), train, val, chosen.epochs, chosen.optimizer, chosen.schedule, None, weights),
        Phase("full", network(0.2), train, val, second.epochs, sgd, warm, flip),
    ]


@dataclass
class Result:
    """What came of a run: its outcome, every array and the history of its last checkpoint, and who listened."""

    outcome: Outcome
    arrays: Mapping[str, NDArray[Any]]
    history: list[dict[str, Any]]
    recorder: Recorder
    parts: list[Phase]
    trainer: Trainer


def train(folder: Path, recorder: Recorder, chosen: Recipe | None = None) -> Result:
    """A process's whole work: from the checkpoint that the recorder points to, or from nothing, to the end."""
    chosen = chosen or recipe()
    set_seed(chosen.seed)
    parts = phases(chosen)
    resume = checkpoints.load(recorder.pointer) if recorder.pointer else None
    # Checkpoints are some steps apart, so that a kill loses steps, which must be made again in the same way.
    trainer = Trainer(chosen, CheckpointPlace(folder, 0, 13), recorder, resume, Ticks())
    outcome = trainer.run(parts[0])
    if outcome.ended not in {"paused", "stopped"}:
        outcome = trainer.run(parts[1])
    assert recorder.pointer is not None
    last = checkpoints.load(recorder.pointer)
    history = [without_times(epoch.to_json()) for epoch in outcome.history]
    return Result(outcome, last.arrays, history, recorder, parts, trainer)


def without_times(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in TIMES}


def assert_same(one: Result, other: Result) -> None:
    """To the last bit."""
    assert one.history == other.history, (one.history, other.history)
    ends = [(r.outcome.ended, r.outcome.best_epoch, r.outcome.best_value, r.outcome.best_phase) for r in (one, other)]
    assert ends[0] == ends[1], ends
    assert one.arrays.keys() == other.arrays.keys()
    differ = [name for name in one.arrays if one.arrays[name].tobytes() != other.arrays[name].tobytes()]
    assert not differ, f"{len(differ)} of {len(one.arrays)} arrays differ: {differ}"


@contextmanager
def refusal(kind: type[Exception], words: str) -> Iterator[None]:
    """The block must raise that, with these words in it (this process has no pytest)."""
    told = None
    try:
        yield
    except kind as error:
        told = str(error)
    assert told is not None, f"expected {kind.__name__}"
    assert words in told, told
