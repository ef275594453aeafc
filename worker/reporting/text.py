"""A training and an evaluation as plain text for a terminal: the curve, the worst pairs, the table of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from worker.reporting.rows import EpochLine, best_epoch, phase_starts, shorten
from worker.reporting.textplot import Series, plot

if TYPE_CHECKING:  # it needs numpy, which a command line without a worker does not have
    from worker.measuring import Measured
    from worker.reporting.metrics import ClassMetrics, Evaluation

CLASS_COLUMNS = ("class", "images", "right", "precision", "recall", "F1")
_SIDE_BY_SIDE = 100  # columns from which loss and accuracy stand beside each other
_GAP = 3


def curve(epochs: Sequence[EpochLine], restarts: Sequence[int] = (), width: int = 80, height: int = 10) -> str:
    """Loss and accuracy over the epochs, drawn with characters, at most `width` columns wide; side by side from 100.

    The line is validation, dots are training; ★ marks the best epoch, ┊ a restart, ┃ a new phase. No colour.
    """
    if not epochs:
        return "No epoch is finished yet."
    best = best_epoch(epochs)
    marks = {epoch: "┃" for epoch, _ in phase_starts(epochs)} | dict.fromkeys(restarts, "┊")
    beside = width >= _SIDE_BY_SIDE
    panel = (width - _GAP) // 2 if beside else width
    numbers = [epoch.epoch for epoch in epochs]
    star = best.epoch if best else None
    loss = Series(numbers, [epoch.loss for epoch in epochs], [epoch.val_loss for epoch in epochs])
    accuracy = Series(numbers, [epoch.accuracy for epoch in epochs], [epoch.val_accuracy for epoch in epochs])
    left = plot("loss", loss, marks, star, (panel, height))
    right = plot("accuracy", accuracy, marks, star, (panel, height))
    if beside:
        lines = [f"{one:<{panel + _GAP}}{other}".rstrip() for one, other in zip(left, right, strict=True)]
    else:
        lines = [*left, "", *right]
    return "\n".join([*lines, "", *_legend(epochs, restarts, best, width)])


def _legend(epochs: Sequence[EpochLine], restarts: Sequence[int], best: EpochLine | None, width: int) -> list[str]:
    """What the signs mean; only those that occur, broken where the width ends."""
    parts = ["── validation  ·· training"] if any(epoch.val_loss is not None for epoch in epochs) else ["·· training"]
    if best:
        parts.append(f"★ best: epoch {best.epoch}{_values(best)}")
    for number, name in phase_starts(epochs):
        parts.append(f"┃ {shorten(name, 24)} from epoch {number}")
    if restarts:
        parts.append(f"┊ restarted at epoch {_listed(sorted(set(restarts)))}")
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]}   {part}" if lines[-1] else part
        if lines[-1] and len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return [line[:width] for line in lines]


def _listed(numbers: Sequence[int], limit: int = 8) -> str:
    shown = ", ".join(str(number) for number in numbers[:limit])
    return f"{shown}, … ({len(numbers)} times)" if len(numbers) > limit else shown


def _values(best: EpochLine) -> str:
    parts = [
        f"{name} {value:.4f}"
        for name, value in (("val. loss", best.val_loss), ("accuracy", best.val_accuracy))
        if value is not None
    ]
    return f" ({', '.join(parts)})" if parts else ""


def worst_pairs(evaluation: Evaluation | Measured, limit: int = 10, width: int = 80) -> list[str]:
    """The pairs of classes confused the most, one line each: "cat → dog   12 of 300 (4.0 %)"."""
    pairs = evaluation.worst_pairs(limit)
    if not pairs:
        return ["No image was misclassified."]
    name = max(8, (width - 28) // 2)
    names = [f"{shorten(pair.true, name)} → {shorten(pair.predicted, name)}" for pair in pairs]
    support = {row.label: row.support for row in evaluation.classes}
    column = max(map(len, names))
    digits = len(str(pairs[0].images))
    return [
        f"{text:<{column}}  {pair.images:>{digits}} of {support[pair.true]} ({pair.share * 100:.1f} %)"
        for text, pair in zip(names, pairs, strict=True)
    ]


def class_rows(evaluation: Evaluation | Measured, limit: int | None = None) -> list[tuple[str, ...]]:
    """Rows under CLASS_COLUMNS, the lowest F1 first; classes that do not occur last, "–" where nothing is defined."""
    ordered = sorted(evaluation.classes, key=lambda row: (row.f1 is None, row.f1 or 0.0, row.label))
    return [_class_row(row) for row in ordered[:limit]]


def _class_row(row: ClassMetrics) -> tuple[str, ...]:
    scores = (f"{value:.4f}" if value is not None else "–" for value in (row.precision, row.recall, row.f1))
    return shorten(row.label, 60), str(row.support), str(row.correct), *scores


def headline(evaluation: Evaluation | Measured) -> str:
    """One line: "accuracy 0.9750 (195 of 200), top-5 0.9990, macro F1 0.9749"."""
    parts = [f"accuracy {evaluation.accuracy:.4f} ({evaluation.correct:,} of {evaluation.images:,})"]
    if 1 < evaluation.k < len(evaluation.labels):
        parts.append(f"top-{evaluation.k} {evaluation.top5:.4f}")
    return ", ".join([*parts, f"macro F1 {evaluation.macro.f1:.4f}"])
