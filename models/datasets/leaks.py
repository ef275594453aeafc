"""What copies spoil: pictures that are trained on and held out as well, and copies under two labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from models.datasets.duplicates import Pair
from models.datasets.groups import join

_USES = ("train", "val", "test")  # what was in one of them must not come again in a later one
_Sides = dict[str, list[int]]  # places by split or label


@dataclass(frozen=True, slots=True)
class Leak:
    """A held-out picture and its nearest copy among those that are used before: train, or val for a test picture."""

    held_out: int
    other: int
    distance: float
    kind: Literal["identical", "near"]


def leaks(pairs: Iterable[Pair], splits: Sequence[str]) -> list[Leak]:
    """One leak for each picture of val or test that has a copy in train, or, of test, in val. Sorted by place."""
    nearest: dict[int, Leak] = {}
    for pair, ours, theirs in _between(pairs, splits):
        for split, places in ours.items():
            earlier = [theirs[use][0] for use in _USES[: _USES.index(split)] if use in theirs]
            for place in places if earlier else ():
                leak = Leak(place, earlier[0], pair.distance, pair.kind)
                nearest[place] = min(nearest.get(place, leak), leak, key=lambda each: (each.kind, each.distance))
    return [nearest[place] for place in sorted(nearest)]


def conflicts(pairs: Iterable[Pair], labels: Sequence[str]) -> list[Pair]:
    """Pairs of copies with different labels: of identical files, or of near ones, one for each two labels. Sorted."""
    found: dict[tuple[int, int], Pair] = {}
    for pair, ours, theirs in _between(pairs, labels):
        for label, places in ours.items():
            for other, others in theirs.items():
                a, b = sorted((places[0], others[0]))
                if label != other:
                    found[a, b] = Pair(a, b, pair.distance, pair.kind)
    return [found[key] for key in sorted(found)]


def _between(pairs: Iterable[Pair], sides: Sequence[str]) -> Iterator[tuple[Pair, _Sides, _Sides]]:
    """Each pair in both directions, with all files that are identical to its first and to its second, by their sides.

    `find_pairs` says only of the first of identical files what is near to it; it holds for the others as well.
    """
    pairs = list(pairs)
    first = join([None] * len(sides), ((pair.a, pair.b) for pair in pairs if pair.kind == "identical"))
    same: defaultdict[int, _Sides] = defaultdict(dict)
    for place in sorted({place for pair in pairs for place in (pair.a, pair.b)}):
        same[first[place]].setdefault(sides[place], []).append(place)
    told: set[int] = set()
    for pair in pairs:
        ours, theirs = same[first[pair.a]], same[first[pair.b]]
        if pair.kind == "near":
            yield pair, ours, theirs
            yield pair, theirs, ours
        elif first[pair.a] not in told:  # one pair stands for all of them
            told.add(first[pair.a])
            yield pair, ours, ours
