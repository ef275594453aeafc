"""Draws the curve of a training: loss, accuracy and learning rate over the epochs, with what happened between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

from worker.reporting.drawing import BLUE, GREEN, INK, LINE, MUTED, ORANGE, PAPER, style_axes, style_text
from worker.reporting.rows import EpochLine, best_epoch, phase_starts, shorten

Pick = Callable[[EpochLine], float | None]
_FEW = 24  # epochs up to which each is marked with a dot
_MANY_RESTARTS = 12  # beyond, they are thin lines without a sign


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: its title, what is drawn, and whether it is a share of one or a rate on a logarithmic axis."""

    title: str
    training: Pick
    validation: Pick | None = None
    kind: str = "loss"  # loss, share or rate


LOSS = Panel("Loss", lambda epoch: epoch.loss, lambda epoch: epoch.val_loss)
ACCURACY = Panel("Accuracy", lambda epoch: epoch.accuracy, lambda epoch: epoch.val_accuracy, "share")
RATE = Panel("Learning rate", lambda epoch: epoch.learning_rate, None, "rate")


def panels_of(epochs: Sequence[EpochLine]) -> list[Panel]:
    """Loss and accuracy; the learning rate where it changes. Raises ValueError where there is no epoch."""
    if not epochs:
        raise ValueError("Expected at least one finished epoch to draw; there is none yet.")
    rates = {epoch.learning_rate for epoch in epochs if epoch.learning_rate is not None}
    return [LOSS, ACCURACY, *([RATE] if len(rates) > 1 else [])]


def draw_curve(axes: Axes, epochs: Sequence[EpochLine], restarts: Sequence[int], panel: Panel) -> None:
    """Draw one panel: training thin, validation strong, the best epoch ringed, restarts and phases as uprights."""
    style_axes(axes, panel.title, xlabel="epoch")
    axes.grid(visible=False, axis="x")
    numbers = [epoch.epoch for epoch in epochs]
    _draw_lines(axes, numbers, epochs, panel)
    first, last = min(numbers), max(numbers)
    edge = min(0.7, (last - first) * 0.02) or 0.5
    axes.set_xlim(first - edge, last + edge)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    _scale(axes, panel)
    _draw_marks(axes, epochs, restarts, signs=panel.validation is not None)
    if panel.validation is not None:
        _draw_best(axes, epochs, panel)
        _draw_legend(axes)


def _draw_lines(axes: Axes, numbers: Sequence[int], epochs: Sequence[EpochLine], panel: Panel) -> None:
    dot: dict[str, Any] = {"marker": "o", "markersize": 3.2} if len(epochs) <= _FEW else {}
    color = MUTED if panel.validation is None else ORANGE
    drawing = "steps-post" if panel.kind == "rate" and len(epochs) > 1 else "default"
    training = [_number(panel.training(epoch)) for epoch in epochs]
    axes.plot(numbers, training, color=color, linewidth=1.4, label="training", drawstyle=drawing, **dot)
    if panel.validation is not None:
        validation = [_number(panel.validation(epoch)) for epoch in epochs]
        if any(map(math.isfinite, validation)):
            axes.plot(numbers, validation, color=BLUE, linewidth=2.2, label="validation", **dot)


def _number(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) else value


def _scale(axes: Axes, panel: Panel) -> None:
    """Where the axis begins and ends, and how its numbers read."""
    if panel.kind == "rate":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    low, high = axes.get_ylim()
    room = (high - low) * 0.06
    axes.set_ylim(max(low - room, -room), min(high + room, 1.0 + room) if panel.kind == "share" else high + room)


def _draw_marks(axes: Axes, epochs: Sequence[EpochLine], restarts: Sequence[int], signs: bool) -> None:
    """Restarts are dashed, phases solid with their name."""
    at_top = axes.get_xaxis_transform()
    places = sorted(set(restarts))
    for epoch in places:
        axes.axvline(epoch - 0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)
        if signs and len(places) <= _MANY_RESTARTS:
            sign = axes.text(epoch - 0.5, 0.97, "↻", transform=at_top, ha="center", va="center", zorder=6)
            style_text(sign, MUTED, 9, bbox={"boxstyle": "round,pad=0.1", "linewidth": 0, "facecolor": PAPER})
    for epoch, name in phase_starts(epochs):
        axes.axvline(epoch - 0.5, color=LINE, linewidth=1.6, zorder=1)
        text = axes.text(epoch - 0.5, 0.5, f" {shorten(name, 24)} →", transform=at_top, ha="left", va="center")
        style_text(text, MUTED, 8)


def _draw_best(axes: Axes, epochs: Sequence[EpochLine], panel: Panel) -> None:
    best = best_epoch(epochs)
    if best is None or panel.validation is None:
        return
    value = _number(panel.validation(best))
    if not math.isfinite(value):
        value = _number(panel.training(best))
    axes.plot([best.epoch], [value], "o", markersize=9, markerfacecolor=PAPER, markeredgecolor=GREEN, zorder=4)
    axes.plot([best.epoch], [value], "o", markersize=4.5, color=GREEN, zorder=5, markeredgewidth=0)
    left = best.epoch > sum(axes.get_xlim()) / 2
    low, high = axes.get_ylim()
    height = (value - low) / (high - low)
    above = height < 0.85 if panel.kind == "loss" else height < 0.15  # away from the line's usual way, and inside
    note = axes.annotate(
        f"epoch {best.epoch}: {value:.4f}",
        (best.epoch, value),
        xytext=(6 if not left else -6, 12 if above else -12),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom" if above else "top",
        zorder=6,
    )
    style_text(note, GREEN, 9, fontweight="bold")


def _draw_legend(axes: Axes) -> None:
    """The names of the lines, above the chart at its right, where no line can pass."""
    legend = axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.2, handlelength=1.4,
        columnspacing=1.2, reverse=True,
    )  # fmt: skip
    for text in legend.get_texts():
        style_text(text, INK, 8.5)
