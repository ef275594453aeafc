"""Metrics of a classifier over labelled images: accuracy, per-class scores, confusion, calibration, label suspects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
class ClassMetrics:
    """How one class went. None: not defined (never predicted; no image of it)."""

    label: str
    support: int  # images of it
    predicted: int  # images taken for it
    correct: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Averages:
    """Precision, recall and F1 over classes."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Images whose score lies in [low, high): were they right as often as the scores say?"""

    low: float
    high: float
    images: int
    mean_score: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Images of `true` taken for `predicted`. `share` is of all images of `true`."""

    true: str
    predicted: str
    images: int
    share: float


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
        ordered = sorted((-images, cell) for cell, images in self.cells.items() if cell[0] != cell[1])
        return [
            ConfusedPair(self.labels[true], self.labels[guess], -images, -images / self.classes[true].support)
            for images, (true, guess) in ordered[:limit]
        ]


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
    true = np.array([position[row.true] for row in rows])
    predicted = np.array([position[row.predicted] for row in rows])
    k = min(5, max(1, *(len(row.topk) for row in rows)))
    bins = _calibration(rows)
    mistakes = sorted((row for row in rows if not row.right), key=_by_confidence)
    classes, macro, weighted = _scores(names, true, predicted)
    correct = int((true == predicted).sum())
    return Evaluation(
        labels=names,
        images=len(rows),
        correct=correct,
        accuracy=correct / len(rows),
        top5=sum(row.right or row.true in row.topk[:k] for row in rows) / len(rows),
        k=k,
        macro=macro,
        weighted=weighted,
        classes=classes,
        cells=Counter(zip(true.tolist(), predicted.tolist(), strict=True)),
        calibration=bins,
        ece=sum(one.images * abs((one.accuracy or 0.0) - (one.mean_score or 0.0)) for one in bins) / len(rows),
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


def _scores(
    names: Sequence[str], true: NDArray[np.int64], predicted: NDArray[np.int64]
) -> tuple[tuple[ClassMetrics, ...], Averages, Averages]:
    """Per class, macro and weighted."""
    from sklearn.metrics import precision_recall_fscore_support  # a second to import: only where it is needed

    size = len(names)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=np.arange(size), zero_division=0.0
    )
    guesses, hits = np.bincount(predicted, minlength=size), np.bincount(true[true == predicted], minlength=size)
    classes = tuple(
        ClassMetrics(
            label=names[index],
            support=int(support[index]),
            predicted=int(guesses[index]),
            correct=int(hits[index]),
            precision=float(precision[index]) if guesses[index] else None,
            recall=float(recall[index]) if support[index] else None,
            f1=float(f1[index]) if support[index] or guesses[index] else None,
        )
        for index in range(size)
    )
    occurs = (support > 0) | (guesses > 0)
    table = np.stack([precision, recall, f1])
    return classes, Averages(*table[:, occurs].mean(axis=1).tolist()), Averages(*(table @ support / len(true)).tolist())


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
