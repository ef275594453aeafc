"""The confusion matrix as it is shown: chosen classes, and its drawing for a file."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from worker.reporting.drawing import BLUE, INK, LINE, MUTED, ONFILL, ORANGE, style_axes, style_text
from worker.reporting.metrics import Evaluation
from worker.reporting.rows import shorten

ALL_SHOWN = 40  # classes up to which all are shown
MOST_SHOWN = 30  # of more classes, as many of the most confused
OTHERS = "all others"
_NUMBERED = 24  # classes up to which cells have numbers


@dataclass(frozen=True, slots=True)
class Shown:
    """The part of a confusion matrix that is shown. `names` end in OTHERS where not all classes are there."""

    names: tuple[str, ...]
    indices: tuple[int | None, ...]  # positions in the evaluation's labels; None for all others
    cells: Mapping[tuple[int, int], int]  # (row, column) of what is shown -> images
    totals: tuple[int, ...]  # images of each row
    of: int  # classes there are

    @property
    def whole(self) -> bool:
        """Whether every class is there."""
        return len(self.names) == self.of

    def share(self, cell: tuple[int, int]) -> float:
        """The part of its true class."""
        return self.cells[cell] / self.totals[cell[0]]


def choose_shown(evaluation: Evaluation) -> Shown:
    """All classes, or of more than 40 those with the most mistakes, kin beside kin, and one row for all others."""
    labels = evaluation.labels
    if len(labels) <= ALL_SHOWN:
        places = tuple(range(len(labels)))
        supports = tuple(row.support for row in evaluation.classes)
        return Shown(labels, places, dict(evaluation.cells), supports, len(labels))
    chosen = _in_kinship(evaluation, _most_confused(evaluation))
    row_of: defaultdict[int, int] = defaultdict(lambda: len(chosen), {index: row for row, index in enumerate(chosen)})
    cells: Counter[tuple[int, int]] = Counter()
    for (true, guess), images in evaluation.cells.items():
        cells[row_of[true], row_of[guess]] += images
    totals = [0] * (len(chosen) + 1)
    for (row, _), images in cells.items():
        totals[row] += images
    names = (*(labels[index] for index in chosen), f"{len(labels) - len(chosen)} {OTHERS}")
    return Shown(names, (*chosen, None), cells, tuple(totals), len(labels))


def _most_confused(evaluation: Evaluation) -> list[int]:
    """The classes of the worst pairs, pair after pair, so that those are seen as cells and not among all others."""
    pairs = sorted((-images, cell) for cell, images in evaluation.cells.items() if cell[0] != cell[1])
    rest = ((0, (index, index)) for index in range(len(evaluation.labels)))
    chosen: dict[int, None] = {}
    for _, cell in (*pairs, *rest):
        if len(chosen) + len({*cell} - chosen.keys()) <= MOST_SHOWN:
            chosen.update(dict.fromkeys(cell))
    return list(chosen)


def _in_kinship(evaluation: Evaluation, chosen: list[int]) -> list[int]:
    """The same classes, each followed by the one left that it is confused with the most: mistakes gather in blocks."""
    left = list(chosen)
    ordered = [left.pop(0)]
    while left:
        last = ordered[-1]
        kin = [evaluation.cells.get((last, one), 0) + evaluation.cells.get((one, last), 0) for one in left]
        ordered.append(left.pop(kin.index(max(kin))))
    return ordered


def matrix_size(evaluation: Evaluation) -> tuple[float, float]:
    """Inches of the drawing."""
    shown = choose_shown(evaluation)
    cell = 0.42 if len(shown.names) <= _NUMBERED else 0.26
    side = max(2.2, cell * len(shown.names))
    names = min(26, max(map(len, shown.names))) * 0.075
    return side + names + 0.9, side + names * 0.75 + 1.2


def draw_matrix(axes: Axes, evaluation: Evaluation, normalised: bool) -> None:
    """Right answers blue, mistakes orange, the stronger the greater their part of the true class."""
    shown = choose_shown(evaluation)
    style_axes(axes, _title(shown, normalised), "predicted", "true")
    axes.grid(visible=False)
    size = len(shown.names)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    places = [place - 0.5 for place in range(size + 1)]
    axes.hlines(places, -0.5, size - 0.5, color=LINE, linewidth=0.6, zorder=0)
    axes.vlines(places, -0.5, size - 0.5, color=LINE, linewidth=0.6, zorder=0)
    for cell in sorted(shown.cells):
        _draw_cell(axes, shown, cell, normalised)
    names = [shorten(name, 26) for name in shown.names]
    upright = size <= 3 and max(map(len, names)) <= 10
    axes.set_xticks(range(size), names, rotation=0 if upright else 45, ha="center" if upright else "right")
    axes.set_yticks(range(size), names)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        style_text(text, MUTED, 8.5, rotation_mode="anchor")


def _title(shown: Shown, normalised: bool) -> str:
    what = "Confusion, part of each true class" if normalised else "Confusion, images"
    return what if shown.whole else f"{what}: the {len(shown.names) - 1} most confused of {shown.of} classes"


def strength(share: float) -> float:
    """How strong a cell is filled: rare mistakes stay visible."""
    return 0.10 + 0.90 * math.pow(share, 0.6)


def _draw_cell(axes: Axes, shown: Shown, cell: tuple[int, int], normalised: bool) -> None:
    row, column = cell
    share = shown.share(cell)
    fill = BLUE if row == column and shown.indices[row] is not None else ORANGE
    if shown.indices[row] is None and row == column:
        fill = MUTED  # right and wrong of all others together
    axes.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=fill, alpha=strength(share), linewidth=0, zorder=1)
    )
    if len(shown.names) <= _NUMBERED:
        text = f"{share:.2f}" if normalised else f"{shown.cells[cell]:,}"
        color = ONFILL if strength(share) > 0.55 else INK
        style_text(axes.text(column, row, text, ha="center", va="center", zorder=2), color, _fitting(text))


def _fitting(text: str) -> float:
    return 8.5 if len(text) <= 4 else 7.0 if len(text) <= 5 else 6.0
