"""How good a model was in a job over labelled images, measured by the database: no row of an image leaves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from store.catalog import find_model
from store.database import Database
from store.evaluations import calibration, confusion, top5_share
from store.insights import job as read_job
from store.run_rows import ConfusionRow
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
    pairs = confusion(database, job_id) if job.model_id is not None else []
    if job.model_id is None or not pairs:
        return None
    names = _names(pairs, find_model(database, job.model_id).labels)
    position = {name: index for index, name in enumerate(names)}
    cells = {(position[pair.true_label], position[pair.label]): pair.images for pair in pairs}
    images, correct = sum(cells.values()), sum(n for (true, guess), n in cells.items() if true == guess)
    scores, bins = score_classes(names, cells), _bins(database, job_id)
    return Measured(
        labels=names,
        images=images,
        correct=correct,
        accuracy=correct / images,
        top5=top5_share(database, job_id),
        k=max(1, min(5, job.top_k, len(names))),
        macro=scores.macro,
        weighted=scores.weighted,
        classes=scores.classes,
        cells=cells,
        calibration=bins,
        ece=calibration_error(bins),
    )


def _names(pairs: Sequence[ConfusionRow], labels: Sequence[str]) -> tuple[str, ...]:
    unknown = {name for pair in pairs for name in (pair.true_label, pair.label)} - set(labels)
    return (*labels, *sorted(unknown))


def _bins(database: Database, job_id: int) -> tuple[CalibrationBin, ...]:
    found = {row.bin: row for row in calibration(database, job_id)}
    return tuple(
        CalibrationBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            images=found[index].images if index in found else 0,
            mean_score=found[index].mean_score if index in found else None,
            accuracy=found[index].accuracy if index in found else None,
        )
        for index in range(BINS)
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
    return [
        {"true": measured.labels[true], "predicted": measured.labels[guess], "images": images}
        for (true, guess), images in sorted(measured.cells.items())
    ]


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
