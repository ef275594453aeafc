"""Scores of a classifier from the counts of its confusion matrix, in plain Python: the API has no numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Cells = Mapping[tuple[int, int], int]  # (true, predicted) → images, indices of classes


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
class Scores:
    """Per class; and on average over the classes that occur (macro) and over images (weighted), undefined being 0."""

    classes: tuple[ClassMetrics, ...]
    macro: Averages
    weighted: Averages


def score_classes(names: Sequence[str], cells: Cells) -> Scores:
    """Precision, recall and F1 as scikit-learn has them. There must be an image."""
    support, predicted, correct = [0] * len(names), [0] * len(names), [0] * len(names)
    for (true, guess), images in cells.items():
        support[true] += images
        predicted[guess] += images
        correct[true] += images if true == guess else 0
    classes = tuple(map(_class, names, support, predicted, correct))
    occurring = [one for one in classes if one.support or one.predicted]
    return Scores(classes, _average(occurring, [1] * len(occurring)), _average(classes, support))


def _class(label: str, support: int, predicted: int, correct: int) -> ClassMetrics:
    return ClassMetrics(
        label=label,
        support=support,
        predicted=predicted,
        correct=correct,
        precision=correct / predicted if predicted else None,
        recall=correct / support if support else None,
        f1=2 * correct / (support + predicted) if support or predicted else None,
    )


def _average(classes: Sequence[ClassMetrics], weights: Sequence[int]) -> Averages:
    def mean(values: Iterable[float | None]) -> float:
        weighed = (weight * (value or 0.0) for weight, value in zip(weights, values, strict=True))
        return sum(weighed) / sum(weights)

    return Averages(
        mean(one.precision for one in classes), mean(one.recall for one in classes), mean(one.f1 for one in classes)
    )


def confused_pairs(classes: Sequence[ClassMetrics], cells: Cells, limit: int | None = None) -> list[ConfusedPair]:
    """Pairs of classes by the number of images that were confused, the most first."""
    ordered = sorted((-images, cell) for cell, images in cells.items() if cell[0] != cell[1])
    return [
        ConfusedPair(classes[true].label, classes[guess].label, -images, -images / classes[true].support)
        for images, (true, guess) in ordered[:limit]
    ]


def calibration_error(bins: Iterable[CalibrationBin]) -> float:
    """How far scores are from accuracy, on average over images (Guo et al. 2017, arXiv:1706.04599, §2)."""
    gaps = [(one.images, abs((one.accuracy or 0.0) - (one.mean_score or 0.0))) for one in bins]
    return sum(images * gap for images, gap in gaps) / sum(images for images, _ in gaps)
