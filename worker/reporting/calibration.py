"""Draws the calibration of a classifier: are answers of a score right as often as the score says?"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from worker.reporting.drawing import BLUE, MUTED, ORANGE, style_axes, style_text
from worker.reporting.metrics import BINS, Evaluation

_WIDTH = 1 / BINS


def draw_reliability(axes: Axes, evaluation: Evaluation) -> None:
    """Accuracy per bin of scores, the gap to the mean score shown; the diagonal is a model that knows itself."""
    style_axes(axes, "Right, by score", "score", "part that is right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)), zorder=3)
    for one in evaluation.calibration:
        if one.accuracy is None or one.mean_score is None:
            continue
        middle = (one.low + one.high) / 2
        axes.bar(middle, one.accuracy, _WIDTH * 0.86, color=BLUE, alpha=0.85, linewidth=0, zorder=2)
        low, high = sorted((one.accuracy, one.mean_score))
        color = ORANGE if one.mean_score > one.accuracy else MUTED
        axes.bar(middle, high - low, _WIDTH * 0.86, bottom=low, color=color, alpha=0.28, linewidth=0, zorder=2)
    note = axes.text(1, 1.03, f"calibration error {evaluation.ece:.4f}", ha="right", transform=axes.transAxes)
    style_text(note, MUTED, 8.5)


def draw_confidence(axes: Axes, evaluation: Evaluation) -> None:
    """How many images have which score, right ones under wrong ones."""
    style_axes(axes, "Images, by score", "score", "images")
    axes.grid(visible=False, axis="x")
    axes.set(xlim=(0, 1))
    middles = [(one.low + one.high) / 2 for one in evaluation.calibration]
    right = [round(one.images * (one.accuracy or 0.0)) for one in evaluation.calibration]
    wrong = [one.images - hits for one, hits in zip(evaluation.calibration, right, strict=True)]
    axes.bar(middles, right, _WIDTH * 0.86, color=BLUE, alpha=0.85, linewidth=0, label="right")
    axes.bar(middles, wrong, _WIDTH * 0.86, bottom=right, color=ORANGE, linewidth=0, label="wrong")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    legend = axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.2, handlelength=1.0
    )
    for text in legend.get_texts():
        style_text(text, size=8.5)
