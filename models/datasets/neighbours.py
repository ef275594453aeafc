"""Finds all points that lie near each other, without comparing each with each where the points are many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # [N, D]
Places = NDArray[np.int64]  # [M]: which of the points

MOST_PARTNERS = 16
_LEAF = 4096  # points that are compared each with each
_TILE = 1024, 8192  # rows and columns of one comparison: 32 MiB of answers
_AXES = 16  # that a cut may choose from; points come with their widest axes first
_LOOK = 1024  # points that a cut is chosen by
_ROUNDING = 1e-5  # of a squared distance of points of length 1 in float32


def near_pairs(points: Points, radii: NDArray[np.float32]) -> tuple[Places, Places]:
    """Places (a, b), a < b, of all points whose distance is at most both their radii.

    No pair is missed but in crowds: there, of a point's partners, the MOST_PARTNERS nearest of a tile are named. A
    point near a cut goes to both sides of it, so the work grows as N² only where radii are as wide as the points are
    spread.
    Memory: two copies of the points, and 32 MiB.
    """
    found = [_compare(points[places], radii[places], places) for places in _leaves(points, radii)]
    rows = np.concatenate([pair[0] for pair in found])
    columns = np.concatenate([pair[1] for pair in found])
    first, second = np.minimum(rows, columns), np.maximum(rows, columns)
    unique = np.unique(first * len(points) + second)
    return unique // max(1, len(points)), unique % max(1, len(points))


def _leaves(points: Points, radii: NDArray[np.float32]) -> Iterator[Places]:
    """Overlapping parts of the points; two points nearer than their radii are together in at least one of them."""
    waiting = [np.arange(len(points))]
    while waiting:
        places = waiting.pop()
        parts = _cut(points, radii, places) if len(places) > _LEAF else None
        if parts is None:
            yield places
        else:
            waiting += parts


def _cut(points: Points, radii: NDArray[np.float32], places: Places) -> list[Places] | None:
    """Two parts that overlap by the radii, cut where that costs least; None where no cut makes less work."""
    looked = places[:: max(1, len(places) // _LOOK)]
    axes, reach = points[looked, :_AXES], radii[looked, np.newaxis] / 2
    middles = np.median(axes, axis=0)
    axis = int(np.argmin((np.abs(axes - middles) <= reach).sum(axis=0)))
    values, reach = points[places, axis] - middles[axis], radii[places] / 2
    low, high = places[values <= reach], places[values >= -reach]
    if len(low) ** 2 + len(high) ** 2 > 0.9 * len(places) ** 2:
        return None
    return [low, high]


def _compare(points: Points, radii: NDArray[np.float32], places: Places) -> tuple[Places, Places]:
    """The pairs among a few points, each compared with each."""
    squares = np.einsum("nd,nd->n", points, points)
    ones = np.ones_like(squares)
    # The product of these is (radius² - distance²) / 2: what is not negative is near.
    left = np.column_stack([points, (np.square(radii) + _ROUNDING - squares) / 2, ones])
    right = np.column_stack([points, ones, -squares / 2])
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for top in range(0, len(points), _TILE[0]):
        for start in range(top, len(points), _TILE[1]):
            row, column = _near(left[top : top + _TILE[0]] @ right[start : start + _TILE[1]].T, top - start)
            rows.append(row + top)
            columns.append(column + start)
    row, column = np.concatenate(rows), np.concatenate(columns)
    mutual = np.square(points[row] - points[column]).sum(axis=1) <= np.square(radii[column]) + _ROUNDING
    return places[row[mutual]], places[column[mutual]]


def _near(nearness: NDArray[np.float32], offset: int) -> tuple[Places, Places]:
    """Rows and columns that are not negative, above the diagonal (column > row + offset), the nearest of a row."""
    width = nearness.shape[1]
    hits = np.flatnonzero(nearness >= 0)
    if len(hits) > MOST_PARTNERS * len(nearness) and width > MOST_PARTNERS:  # a crowd
        nearness[np.arange(width) <= np.arange(len(nearness))[:, np.newaxis] + offset] = -1
        columns = np.argpartition(nearness, width - MOST_PARTNERS, axis=1)[:, width - MOST_PARTNERS :]
        columns.sort(axis=1)
        row, rank = np.nonzero(np.take_along_axis(nearness, columns, axis=1) >= 0)
        return row, columns[row, rank]
    row, column = np.divmod(hits, width)
    above = column > row + offset
    return row[above], column[above]
