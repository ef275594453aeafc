"""What a labelled set of pictures holds, told before a training begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median_low
from typing import Any

from models.datasets.counting import FEW, Counts, count
from models.datasets.duplicates import Pair
from models.datasets.leaks import conflicts, leaks


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median and largest, in pixels."""

    smallest: int
    median: int
    largest: int


@dataclass(frozen=True, slots=True)
class Census:
    """What was found. Of leaks and conflicts it has the numbers; `models.datasets.leaks` lists them.

    imbalance: pictures of the largest class / of the smallest, among those that are trained on. identical: pictures
    with the same bytes as an earlier one; near: further ones with a near-identical earlier one. small: the training
    pictures of classes that have fewer than FEW. unreadable: pictures by the code of their ImageError.
    """

    images: int
    counts: Counts
    unreadable: Mapping[str, int]
    imbalance: float
    width: Spread | None
    height: Spread | None
    identical: int
    near: int
    conflicts: int
    leaks: int
    small: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` makes the same census of them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Census:
        """The census that `to_json` told."""
        spreads = {name: Spread(**values[name]) if values[name] else None for name in ("width", "height")}
        return cls(**{**values, **spreads})


def take_census(
    labels: Sequence[str],
    splits: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    unreadable: Iterable[str],
    pairs: Sequence[Pair],
) -> Census:
    """The census of readable items (label, split, (width, height)), the codes of unreadable ones, and `find_pairs`."""
    counts = count(labels, splits)
    trained = {label: of_label.get("train", 0) for label, of_label in counts.items()}
    identical = {pair.b for pair in pairs if pair.kind == "identical"}
    return Census(
        images=len(labels),
        counts=counts,
        unreadable=dict(sorted(Counter(unreadable).items())),
        imbalance=round(max(trained.values(), default=0) / max(1, min(trained.values(), default=0)), 2),
        width=_spread([width for width, _ in sizes]),
        height=_spread([height for _, height in sizes]),
        identical=len(identical),
        near=len({pair.b for pair in pairs if pair.kind == "near"} - identical),
        conflicts=len(conflicts(pairs, labels)),
        leaks=len(leaks(pairs, splits)),
        small={label: pictures for label, pictures in trained.items() if pictures < FEW},
    )


def _spread(pixels: Sequence[int]) -> Spread | None:
    return Spread(min(pixels), median_low(pixels), max(pixels)) if pixels else None
