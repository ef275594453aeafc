"""How good a model was in a job over labelled images, measured by the database: no row of an image leaves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from store.catalog import find_model
from store.database import Database
from store.insights import job as read_job
from store.measurements import Answers, answers
from worker.scores import (
    Averages,
    CalibrationBin,
    ClassMetrics,
    ConfusedPair,
    calibration_error,
    confused_pairs,
    score_classes,
)

BINS = 10  # of the calibration, equally wide


class Figures(Protocol):
    """What two kinds of evaluation have in common: one measured here, one from rows in worker.reporting.metrics."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes: the model's in its order, then true labels that it does not know."""

    @property
    def images(self) -> int:
        """How many were classified and have a true label."""

    @property
    def correct(self) -> int:
        """How many of them were right."""

    @property
    def accuracy(self) -> float:
        """0 to 1."""

    @property
    def top5(self) -> float:
        """0 to 1."""

    @property
    def macro(self) -> Averages:
        """Over classes."""

    @property
    def weighted(self) -> Averages:
        """Over images."""

    @property
    def ece(self) -> float:
        """The calibration error."""

    @property
    def classes(self) -> tuple[ClassMetrics, ...]:
        """One for each label."""

    @property
    def cells(self) -> Mapping[tuple[int, int], int]:
        """The confusion matrix where it is not empty: (true, predicted), as positions in labels."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All figures of an evaluation that are no images. See Figures; `k` answers were looked at for `top5`."""

    labels: tuple[str, ...]
    images: int
    correct: int
    accuracy: float
    top5: float
    k: int
    macro: Averages
    weighted: Averages
    classes: tuple[ClassMetrics, ...]
    cells: Mapping[tuple[int, int], int]
    calibration: tuple[CalibrationBin, ...]
    ece: float

    def worst_pairs(self, limit: int | None = None) -> list[ConfusedPair]:
        """Pairs of classes by the number of images that were confused, the most first."""
        return confused_pairs(self.classes, self.cells, limit)


def measure(database: Database, job_id: int) -> Measured | None:
    """The metrics of a classify job over its labelled images; None where it classified none. Raises UnknownJob."""
    job = read_job(database, job_id)
    found = answers(database, job_id) if job.model_id is not None else []
    if job.model_id is None or not found:
        return None
    names = _names(found, find_model(database, job.model_id).labels)
    cells = _cells(found, names)
    images, correct = sum(cells.values()), sum(n for (true, guess), n in cells.items() if true == guess)
    scores, bins = score_classes(names, cells), _bins(found)
    return Measured(
        labels=names,
        images=images,
        correct=correct,
        accuracy=correct / images,
        top5=sum(row.top5 for row in found) / images,
        k=max(1, min(5, job.top_k, len(names))),
        macro=scores.macro,
        weighted=scores.weighted,
        classes=scores.classes,
        cells=cells,
        calibration=bins,
        ece=calibration_error(bins),
    )


def _names(found: Sequence[Answers], labels: Sequence[str]) -> tuple[str, ...]:
    unknown = {name for row in found for name in (row.true_label, row.label)} - set(labels)
    return (*labels, *sorted(unknown))


def _cells(found: Sequence[Answers], names: Sequence[str]) -> dict[tuple[int, int], int]:
    position = {name: index for index, name in enumerate(names)}
    cells: Counter[tuple[int, int]] = Counter()
    for row in found:
        cells[position[row.true_label], position[row.label]] += row.images
    return dict(cells)


def _bins(found: Sequence[Answers]) -> tuple[CalibrationBin, ...]:
    images, scores, right = [0] * BINS, [0.0] * BINS, [0] * BINS
    for row in found:
        images[row.tenth] += row.images
        scores[row.tenth] += row.scores
        right[row.tenth] += row.images if row.label == row.true_label else 0
    return tuple(
        CalibrationBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            images=count,
            mean_score=scores[index] / count if count else None,
            accuracy=right[index] / count if count else None,
        )
        for index, count in enumerate(images)
    )


def evaluation_record(measured: Figures) -> dict[str, Any]:
    """An evaluation as JSON: figures, classes, and the cells of the confusion matrix that are not empty."""
    return {
        "images": measured.images,
        "correct": measured.correct,
        "accuracy": measured.accuracy,
        "top5": measured.top5,
        "macro_f1": measured.macro.f1,
        "weighted_f1": measured.weighted.f1,
        "calibration_error": measured.ece,
        "classes": class_records(measured),
        "confusion": confusion_records(measured),
    }


def class_records(measured: Figures) -> list[dict[str, Any]]:
    """The classes as JSON, in the model's order."""
    return [
        {
            "label": row.label,
            "images": row.support,
            "predicted": row.predicted,
            "correct": row.correct,
            "precision": row.precision,
            "recall": row.recall,
            "f1": row.f1,
        }
        for row in measured.classes
    ]


def confusion_records(measured: Figures) -> list[dict[str, Any]]:
    """The confusion matrix as JSON: what is not zero, by true label and prediction in the model's order."""
    return cell_records(measured.labels, sorted(measured.cells.items()))


def cell_records(labels: Sequence[str], cells: Iterable[tuple[tuple[int, int], int]]) -> list[dict[str, Any]]:
    """Some cells of a confusion matrix as JSON."""
    return [{"true": labels[true], "predicted": labels[guess], "images": images} for (true, guess), images in cells]


def calibration_records(measured: Measured) -> list[dict[str, Any]]:
    """Ten bins of scores as JSON; null where no image is in one."""
    return [
        {
            "low": one.low,
            "high": one.high,
            "images": one.images,
            "mean_score": one.mean_score,
            "accuracy": one.accuracy,
        }
        for one in measured.calibration
    ]
