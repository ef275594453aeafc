"""A report for programs: report.json with all that was measured, classes.csv with a row per class."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from worker.reporting.metrics import ClassMetrics, Evaluation, Prediction
from worker.reporting.rows import EpochLine, best_epoch, clean

_LISTED = 200  # mistakes and suspects in the file; the tables have them all
_EPOCH = (
    "epoch", "phase", "loss", "accuracy", "top5", "val_loss", "val_accuracy", "val_top5", "learning_rate",
    "images_per_s", "seconds", "is_best",
)  # fmt: skip


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON; numbers that JSON does not have (a loss that is infinite) become null."""
    path.write_text(json.dumps(_plain(values), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_classes(path: Path, evaluation: Evaluation) -> None:
    """Write one row per class; an undefined score is an empty cell."""
    names = [one.name for one in fields(ClassMetrics)]
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(names)
        for row in evaluation.classes:
            rows.writerow([clean(value) if isinstance(value, str) else value for value in asdict(row).values()])


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as plain values; the confusion matrix as (true, predicted, images) of its cells that are not 0."""
    return {
        "images": evaluation.images,
        "correct": evaluation.correct,
        "accuracy": evaluation.accuracy,
        f"top{evaluation.k}": evaluation.top5,
        "macro": asdict(evaluation.macro),
        "weighted": asdict(evaluation.weighted),
        "expected_calibration_error": evaluation.ece,
        "calibration": [asdict(one) for one in evaluation.calibration],
        "classes": [asdict(one) for one in evaluation.classes],
        "confusion": [
            {"true": evaluation.labels[true], "predicted": evaluation.labels[guess], "images": images}
            for (true, guess), images in sorted(evaluation.cells.items())
        ],
        "mistakes": _predictions(evaluation.mistakes),
        "label_suspects": _predictions(evaluation.suspects),
    }


def training_record(epochs: Sequence[EpochLine], restarts: Sequence[int]) -> dict[str, Any]:
    """The curve of a training as plain values."""
    best = best_epoch(epochs)
    return {
        "epochs": [{name: getattr(epoch, name) for name in _EPOCH} for epoch in epochs],
        "best_epoch": best.epoch if best else None,
        "restarts": list(restarts),
    }


def _predictions(rows: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows[:_LISTED]]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
