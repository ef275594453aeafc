"""Metrics of a classifier over labelled images: accuracy, per-class scores, confusion, calibration, label suspects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.scores import (
    Averages,
    CalibrationBin,
    ClassMetrics,
    ConfusedPair,
    calibration_error,
    confused_pairs,
    score_classes,
)

__all__ = ["BINS", "ClassMetrics", "Evaluation", "Prediction", "evaluate"]

BINS = 10  # of the calibration, equally wide
_UNSURE = 6  # right answers with the lowest scores that are kept of each class
_DOUBT = 0.5  # an answer with less of a score is no reason to doubt a label


@dataclass(frozen=True, slots=True)
class Prediction:
    """One labelled image and what the model said of it. `topk` are labels, the most likely first."""

    path: str
    true: str
    predicted: str
    score: float
    topk: tuple[str, ...] = ()
    idx: int = -1  # of the item in its job

    @property
    def right(self) -> bool:
        """Whether the first answer is the true label."""
        return self.predicted == self.true


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that is known of one evaluation. Indices of `cells` are positions in `labels`: (true, predicted)."""

    labels: tuple[str, ...]
    images: int
    correct: int
    accuracy: float
    top5: float
    k: int  # answers that `top5` looked at: 5, or fewer where fewer were stored
    macro: Averages
    weighted: Averages
    classes: tuple[ClassMetrics, ...]
    cells: Mapping[tuple[int, int], int]
    calibration: tuple[CalibrationBin, ...]
    ece: float
    mistakes: tuple[Prediction, ...]  # the most confident first
    suspects: tuple[Prediction, ...]  # mistakes that may be wrong labels, the most confident first
    least_sure: tuple[Prediction, ...]  # right, but only just: a few of each class, the least sure first

    @property
    def counts(self) -> NDArray[np.int64]:
        """The confusion matrix [K, K]: rows are true classes, columns what they were taken for."""
        matrix = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for cell, images in self.cells.items():
            matrix[cell] = images
        return matrix

    @property
    def normalised(self) -> NDArray[np.float64]:
        """The confusion matrix with rows that add up to 1; rows of classes without an image are 0."""
        counts = self.counts
        shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return shares

    def worst_pairs(self, limit: int | None = None) -> list[ConfusedPair]:
        """Pairs of classes by the number of images that were confused, the most first."""
        return confused_pairs(self.classes, self.cells, limit)


def evaluate(predictions: Iterable[Prediction], labels: Sequence[str]) -> Evaluation:
    """Measure a classifier on labelled images that it classified; `labels` are the model's, in its order.

    True labels that the model does not know follow after its own, by name; they can only be mistakes. Macro averages
    are over the classes that occur as true or predicted (as scikit-learn has it), an undefined precision being 0 there.

    Raises ValueError where there is no prediction.
    """
    rows = list(predictions)
    if not rows:
        raise ValueError("Expected at least one labelled image that was classified; there is none to measure.")
    names = _names(rows, labels)
    position = {name: index for index, name in enumerate(names)}
    cells = Counter((position[row.true], position[row.predicted]) for row in rows)
    k = min(5, max(1, *(len(row.topk) for row in rows)))
    bins = _calibration(rows)
    mistakes = sorted((row for row in rows if not row.right), key=_by_confidence)
    scores = score_classes(names, cells)
    correct = len(rows) - len(mistakes)
    return Evaluation(
        labels=names,
        images=len(rows),
        correct=correct,
        accuracy=correct / len(rows),
        top5=sum(row.right or row.true in row.topk[:k] for row in rows) / len(rows),
        k=k,
        macro=scores.macro,
        weighted=scores.weighted,
        classes=scores.classes,
        cells=cells,
        calibration=bins,
        ece=calibration_error(bins),
        mistakes=tuple(mistakes),
        suspects=tuple(_suspects(rows, mistakes)),
        least_sure=tuple(_least_sure(rows)),
    )


def _by_confidence(row: Prediction) -> tuple[float, str, int]:
    return -row.score, row.path, row.idx


def _least_sure(rows: Sequence[Prediction]) -> Iterator[Prediction]:
    kept: Counter[str] = Counter()
    for row in sorted((row for row in rows if row.right), key=lambda row: (row.score, row.path, row.idx)):
        kept[row.true] += 1
        if kept[row.true] <= _UNSURE:
            yield row


def _names(rows: Sequence[Prediction], labels: Sequence[str]) -> tuple[str, ...]:
    known = set(labels)
    unknown = {name for row in rows for name in (row.true, row.predicted)} - known
    return (*labels, *sorted(unknown))


def _calibration(rows: Sequence[Prediction]) -> tuple[CalibrationBin, ...]:
    """Ten bins of equal width; a score of exactly 1 belongs to the last (Guo et al. 2017, arXiv:1706.04599, §2)."""
    scores = np.array([row.score for row in rows])
    right = np.array([row.right for row in rows])
    places = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    made = []
    for index in range(BINS):
        inside = places == index
        images = int(inside.sum())
        made.append(
            CalibrationBin(
                low=index / BINS,
                high=(index + 1) / BINS,
                images=images,
                mean_score=float(scores[inside].mean()) if images else None,
                accuracy=float(right[inside].mean()) if images else None,
            )
        )
    return tuple(made)


def _suspects(rows: Sequence[Prediction], mistakes: Sequence[Prediction]) -> Iterator[Prediction]:
    """Mistakes that look like wrong labels, the most confident first.

    The model is at least as sure of them as it is, on average, of images of that class that it gets right: the
    threshold of confident learning (Northcutt et al. 2021, arXiv:1911.00068, §3.1), taken over right answers.
    """
    sums: dict[str, list[float]] = {}
    for row in rows:
        if row.right:
            sums.setdefault(row.predicted, []).append(row.score)
    usual = {label: sum(scores) / len(scores) for label, scores in sums.items()}
    for row in mistakes:
        if row.score >= max(_DOUBT, usual.get(row.predicted, math.inf)):
            yield row
