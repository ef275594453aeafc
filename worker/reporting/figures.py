"""Figures of a training and an evaluation, as SVG that follows light and dark, and as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from worker.reporting.calibration import draw_confidence, draw_reliability
from worker.reporting.curves import draw_curve, panels_of
from worker.reporting.drawing import INK, new_figure, save, style_text
from worker.reporting.matrix import draw_matrix, matrix_size
from worker.reporting.metrics import Evaluation
from worker.reporting.rows import EpochLine


def curve(epochs: Sequence[EpochLine], restarts: Sequence[int], path: Path, title: str = "") -> Path:
    """Draw loss and accuracy over the epochs; `restarts` are the epochs that a resumed attempt began with.

    The format follows the name: .svg or .png. Returns `path`.
    Raises ValueError for another ending, or where there is no epoch.
    """
    return save(curve_figure(epochs, restarts, title), path)


def confusion(evaluation: Evaluation, path: Path, normalised: bool = True) -> Path:
    """Draw the confusion matrix, as shares of each true class or as counts.

    Beyond 40 classes, those that are confused the most, and one row and column for all others.
    """
    return save(confusion_figure(evaluation, normalised), path)


def calibration(evaluation: Evaluation, path: Path) -> Path:
    """Draw how often answers of a score are right, and how many images have such scores."""
    return save(calibration_figure(evaluation), path)


def curve_figure(epochs: Sequence[EpochLine], restarts: Sequence[int], title: str = "") -> Figure:
    """The figure of `curve`, to be saved in several formats."""
    panels = panels_of(epochs)
    figure = new_figure(4.6 * len(panels), 3.4 + (0.3 if title else 0))
    if title:
        style_text(figure.suptitle(title, x=0.01, ha="left"), INK, 12, fontweight="bold")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw_curve(axes, epochs, restarts, panel)
    return figure


def confusion_figure(evaluation: Evaluation, normalised: bool = True) -> Figure:
    """The figure of `confusion`."""
    figure = new_figure(*matrix_size(evaluation))
    draw_matrix(figure.subplots(), evaluation, normalised)
    return figure


def calibration_figure(evaluation: Evaluation) -> Figure:
    """The figure of `calibration`."""
    figure = new_figure(8.6, 3.8)
    left, right = figure.subplots(1, 2)
    draw_reliability(left, evaluation)
    draw_confidence(right, evaluation)
    return figure
