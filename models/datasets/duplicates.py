"""Finds pictures that are copies of each other: the same bytes, or the same picture encoded, sized or lit anew.

Pictures are compared by small thumbnails without their brightness and contrast. How near two of them must be to count
as copies depends on what is around them: shirts on black ground are all alike, photographs are not. So a copy is what
is several times nearer than the pictures that lie around it, and never farther than a fixed bound.
`bench/duplicates.py` measures what that finds and what it takes for a copy by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.neighbours import MOST_PARTNERS, Places, Points, near_pairs

SIDE = 12  # of a thumbnail, in pixels

_FARTHEST = 0.2  # of copies, in units of their contrast
_SURE = 0.02  # copies, however alike the pictures around them are
_RATIO = 0.25  # of the squared distance to the pictures around: what is nearer is a copy
_SAMPLE = 1024  # pictures that stand for all that are around one
_AROUND = 10  # the so many nearest of the sample; fewer than that may themselves be copies
_FLAT = 6.0  # grey levels of contrast; below, a thumbnail is mostly noise
_DARKER = 64.0  # grey levels of mean brightness by which copies may differ
_AXES = 64  # that candidates are looked for in
_CHUNK = 8192  # thumbnails that are held as numbers at once, with their distances to the sample: 60 MiB

_Found = tuple[Places, Places, NDArray[np.float32]]  # places a and b of pairs, and their distances


@dataclass(frozen=True, slots=True)
class Pair:
    """Two copies, by their places in the list that was looked through; a < b.

    `distance`: root mean square difference of the thumbnails, both brought to mean 0 and contrast 1; 0 for identical
    bytes.
    """

    a: int
    b: int
    distance: float
    kind: Literal["identical", "near"]


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is kept of a picture, uint8 [H, W, 1 or 3], to find its copies by: uint8 [SIDE, SIDE, 3]."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX).convert("RGB"))


def find_pairs(thumbnails: NDArray[np.uint8], digests: Sequence[bytes]) -> list[Pair]:
    """All pairs of copies among pictures, given their thumbnails, uint8 [N, SIDE, SIDE, 3], and hashes of their files.

    Of k files with the same bytes each later one is paired with the first, and only the first with its near copies.
    The pairs come sorted by (a, b). Of a picture with more near copies than MOST_PARTNERS, the nearest are named.
    """
    first: dict[bytes, int] = {}
    firsts = [first.setdefault(digest, place) for place, digest in enumerate(digests)]
    identical = [Pair(a, b, 0.0, "identical") for b, a in enumerate(firsts) if a != b]
    places = np.array(sorted(first.values()), dtype=np.int64)
    low, high, distances = _near_copies(thumbnails[places].reshape(len(places), SIDE * SIDE * 3))
    found = zip(places[low].tolist(), places[high].tolist(), distances.tolist(), strict=True)
    near = [Pair(a, b, round(distance, 4), "near") for a, b, distance in found]
    return sorted([*identical, *near], key=lambda pair: (pair.a, pair.b))


def _near_copies(flat: NDArray[np.uint8]) -> _Found:
    """The near copies among different pictures, given their thumbnails [N, numbers]."""
    if not len(flat):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    sample = _unit(flat[_spread(len(flat))])
    _, axes = np.linalg.eigh(sample.T @ sample)
    widest = np.ascontiguousarray(axes[:, ::-1][:, :_AXES])
    points, radii = np.empty((len(flat), widest.shape[1]), np.float32), np.empty(len(flat), np.float32)
    for start in range(0, len(flat), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        units = _unit(flat[chunk])
        # In fewer dimensions nothing is farther: no copy is missed among the candidates.
        points[chunk] = units @ widest
        radii[chunk] = _radii(units, sample)
    low, high = near_pairs(points, radii)
    distances = _distances(flat, low, high)
    means = flat.mean(axis=1, dtype=np.float32)
    copies = (distances <= np.minimum(radii[low], radii[high])) & (np.abs(means[low] - means[high]) <= _DARKER)
    return _nearest(low[copies], high[copies], distances[copies])


def _nearest(low: Places, high: Places, distances: NDArray[np.float32]) -> _Found:
    """Without the pairs that are farther than MOST_PARTNERS others of the same picture."""
    order = np.lexsort((high, distances, low))
    low, high, distances = low[order], high[order], distances[order]
    kept = np.arange(len(low)) - np.searchsorted(low, low) < MOST_PARTNERS
    return low[kept], high[kept], distances[kept]


def _spread(count: int) -> Places:
    """Places of the sample, at random, and the same for the same number of pictures."""
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(count).choice(count, _SAMPLE, replace=False))


def _unit(flat: NDArray[np.uint8]) -> Points:
    """Thumbnails as points: mean 0, and length 1 but for those with hardly any contrast."""
    numbers: Points = flat.astype(np.float32)
    numbers -= numbers.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    numbers /= np.maximum(lengths, _FLAT * flat.shape[1] ** 0.5)
    return numbers


def _radii(units: Points, sample: Points) -> NDArray[np.float32]:
    """How far from each picture its copies may be: a part of the way to the pictures around it."""
    place = max(0, len(sample) - 1 - _AROUND)
    nearness = units @ sample.T - np.square(sample).sum(axis=1) / 2
    squares = np.square(units).sum(axis=1) - 2 * np.partition(nearness, place, axis=1)[:, place]
    apart = np.sqrt(np.maximum(0, squares))
    radii: NDArray[np.float32] = np.clip(_RATIO * np.square(apart), _SURE, _FARTHEST)
    return radii


def _distances(flat: NDArray[np.uint8], low: Places, high: Places) -> NDArray[np.float32]:
    distances = np.empty(len(low), np.float32)
    for start in range(0, len(low), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        distances[chunk] = np.linalg.norm(_unit(flat[low[chunk]]) - _unit(flat[high[chunk]]), axis=1)
    return distances
