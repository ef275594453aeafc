"""Epochs and predictions that reports are made of, the same on each machine."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from worker.reporting.metrics import Prediction


@dataclass(frozen=True, slots=True)
class Line:
    """An epoch as the store's rows and the trainer's epochs are."""

    epoch: int
    phase: str
    loss: float | None
    accuracy: float | None
    top5: float | None
    val_loss: float | None
    val_accuracy: float | None
    val_top5: float | None
    learning_rate: float | None
    images_per_s: float | None
    seconds: float | None
    is_best: bool


def _line(epoch: int, phase: str, part: float, measured: bool, is_best: bool) -> Line:
    loss = 1.9 * math.exp(-3 * part) + 0.1
    val_loss, val_accuracy = 1.8 * math.exp(-3 * part) + 0.2 + 0.3 * part**2, 0.9 - 0.5 * math.exp(-3 * part)
    return Line(
        epoch, phase, loss, 1 - loss / 2.1, 0.99, val_loss if measured else None, val_accuracy if measured else None,
        0.98 if measured else None, 1e-3, 812.0, 2.5, is_best,
    )  # fmt: skip


MakeEpochs = Callable[..., list[Line]]
MakePredictions = Callable[[Sequence[str], int], list[Prediction]]


@pytest.fixture
def make_epochs() -> MakeEpochs:
    """`make_epochs(30, second=20, best=25, measured=True)`: a training whose second phase begins with epoch 20."""

    def make(count: int, second: int | None = None, best: int | None = None, measured: bool = True) -> list[Line]:
        return [
            _line(
                epoch,
                "head" if second is None or epoch < second else "all layers",
                (epoch - 1) / max(1, count - 1),
                measured,
                epoch <= best if best is not None else True,
            )
            for epoch in range(1, count + 1)
        ]

    return make


@pytest.fixture
def make_predictions() -> MakePredictions:
    """`make_predictions(labels, count)`: nine in ten are right, of the others most go to the next class."""

    def make(labels: Sequence[str], count: int) -> list[Prediction]:
        chance = random.Random(7)
        made = []
        for index in range(count):
            true = index % len(labels)
            right = chance.random() < 0.9
            guess = true if right else (true + (1 if chance.random() < 0.7 else 2)) % len(labels)
            score = chance.uniform(0.6, 1.0) if right else chance.uniform(0.3, 0.95)
            topk = (labels[guess], *([labels[true]] if guess != true else []))
            path = f"test/{index:05}.jpg"
            made.append(Prediction(path, labels[true], labels[guess], score, topk, index))
        return made

    return make
