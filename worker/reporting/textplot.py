"""One chart drawn with characters: a line for validation, dots for training, marks for what happened between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Values = Sequence[float | None]
_AXIS = 9  # columns that the axis and its numbers take


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn: at each epoch's number the training value and the validation value, None where not measured."""

    epochs: Sequence[int]
    training: Values
    validation: Values


def plot(title: str, series: Series, marks: Mapping[int, str], star: int | None, size: tuple[int, int]) -> list[str]:
    """Lines of text, each at most size[0] columns; size[1] rows of chart between a title and the axis.

    `marks` are columns of one character at an epoch; `star` is the epoch that gets a ★ on its curve.
    """
    columns, rows = max(8, size[0] - _AXIS), max(3, size[1])
    low, high = _range([*series.training, *series.validation])
    grid = [[" "] * columns for _ in range(rows)]
    place = _Placer(min(series.epochs), max(series.epochs), columns)
    for epoch, mark in marks.items():
        for line in grid:
            line[place(epoch)] = mark

    drawn = _Canvas(grid, low, high)
    drawn.dots(_levels(series.epochs, series.training, columns))
    drawn.line(_levels(series.epochs, series.validation, columns))
    known = dict(zip(series.epochs, zip(series.validation, series.training, strict=True), strict=True))
    if star in known and star is not None:
        value = known[star][0] if known[star][0] is not None else known[star][1]
        drawn.put(place(star), value, "★")

    labels = {0: high, rows - 1: low, (rows - 1) // 2: high - (high - low) * ((rows - 1) // 2) / (rows - 1)}
    lines = [f"{_number(labels[index]) if index in labels else '':>{_AXIS - 2}} ┤" for index in range(rows)]
    body = [label + "".join(line).rstrip() for label, line in zip(lines, grid, strict=True)]
    return [f"{'':{_AXIS}}{title}", *body, f"{'':{_AXIS - 1}}└{'─' * columns}", _below(series.epochs, columns)]


def _range(values: Values) -> tuple[float, float]:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class _Placer:
    """Where an epoch stands: the first at the left edge, the last at the right; a single one in the middle."""

    first: int
    last: int
    columns: int

    def __call__(self, epoch: int) -> int:
        if self.first == self.last:
            return self.columns // 2
        inside = min(max(epoch, self.first), self.last)
        return round((inside - self.first) / (self.last - self.first) * (self.columns - 1))


def _levels(epochs: Sequence[int], values: Values, columns: int) -> list[float]:
    """The value at each column, straight lines between epochs; NaN outside of what was measured."""
    known = [
        (epoch, value)
        for epoch, value in zip(epochs, values, strict=True)
        if value is not None and math.isfinite(value)
    ]
    place = _Placer(min(epochs), max(epochs), columns)
    levels = [math.nan] * columns
    for epoch, value in known:
        levels[place(epoch)] = value
    for (epoch, value), (other, after) in pairwise(known):
        left, right = place(epoch), place(other)
        for column in range(left + 1, right):
            levels[column] = value + (after - value) * (column - left) / (right - left)
    return levels


class _Canvas:
    """Characters by column and value."""

    def __init__(self, grid: list[list[str]], low: float, high: float) -> None:
        self._grid = grid
        self._low = low
        self._high = high

    def put(self, column: int, value: float | None, char: str) -> None:
        if value is not None and math.isfinite(value):
            self._grid[self._row(value)][column] = char

    def dots(self, levels: list[float]) -> None:
        for column, value in enumerate(levels):
            self.put(column, value, "·")

    def line(self, levels: list[float]) -> None:
        """A line of box characters: corners where it changes the row, verticals between."""
        before: int | None = None
        for column, value in enumerate(levels):
            if math.isnan(value):
                before = None
                continue
            row = self._row(value)
            if before is None or before == row:
                self._grid[row][column] = "─"
            else:
                self._step(column, before, row)
            before = row

    def _step(self, column: int, before: int, row: int) -> None:
        falls = row > before
        self._grid[before][column] = "╮" if falls else "╯"
        self._grid[row][column] = "╰" if falls else "╭"
        for between in range(min(before, row) + 1, max(before, row)):
            self._grid[between][column] = "│"

    def _row(self, value: float) -> int:
        share = (value - self._low) / (self._high - self._low)
        return round((1 - share) * (len(self._grid) - 1))


def _below(epochs: Sequence[int], columns: int) -> str:
    """The first and the last epoch's number under the axis."""
    first, last = str(min(epochs)), str(max(epochs))
    pad = " " * _AXIS
    if first == last:
        return f"{pad}{'':{max(0, columns // 2 - 6)}}epoch {first}"
    return f"{pad}{first}{'epoch':^{columns - len(first) - len(last)}}{last}"
