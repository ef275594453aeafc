"""What a labelled set of pictures holds, told before a training begins, and what forbids the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from statistics import median_low
from typing import Any

from models.datasets.duplicates import Pair
from models.datasets.leaks import conflicts, leaks
from models.errors import InvalidRecipe
from models.recipes import Recipe

FEW = 10  # a class with fewer training pictures is named in a warning
LEAST = 2  # a class with fewer is refused

Counts = Mapping[str, Mapping[str, int]]  # pictures per label, per split

_MOST_NAMED = 10  # names in one sentence


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


def count(labels: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Pictures per label and split, labels sorted."""
    counts: dict[str, dict[str, int]] = {label: {} for label in sorted(set(labels))}
    for (label, split), pictures in sorted(Counter(zip(labels, splits, strict=True)).items()):
        counts[label][split] = pictures
    return counts


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


def problems(counts: Counts, recipe: Recipe, base_labels: Sequence[str] | None = None) -> list[str]:
    """What is to be warned of, in sentences. Raises InvalidRecipe for what forbids a training.

    `counts` are pictures per label and split; what has no split yet counts as "train". `base_labels` are given only
    where the base's own last layer goes on learning: then every label must be among them.
    """
    trained = {label: of_label.get("train", 0) for label, of_label in counts.items()}
    if len(trained) < 2:
        found = f"only {next(iter(trained))!r}" if trained else "none"
        raise InvalidRecipe(f"A training needs at least two classes, each a folder of pictures; found {found}.")
    scarce = [f"{label!r} ({pictures})" for label, pictures in trained.items() if pictures < LEAST]
    if scarce:
        raise InvalidRecipe(
            f"Each class needs at least {LEAST} readable training pictures; too few are in {_some(scarce)}. "
            "Add pictures, or leave the class out."
        )
    if base_labels is not None:
        _check_labels(trained, base_labels)
    return [*_warn_of_small(trained), *_warn_of_validation(counts, recipe)]


def _warn_of_small(trained: Mapping[str, int]) -> list[str]:
    small = [f"{label!r} ({pictures})" for label, pictures in trained.items() if pictures < FEW]
    return [f"Fewer than {FEW} training pictures are in {_some(small)}: expect little of them."] if small else []


def _warn_of_validation(counts: Counts, recipe: Recipe) -> list[str]:
    given = any(of_label.get("val") for of_label in counts.values())
    if given or recipe.split.validation > 0:
        return []
    return [f"There are no validation pictures, so {recipe.stopping.monitor} cannot tell which epoch is the best."]


def _check_labels(labels: Collection[str], base_labels: Sequence[str]) -> None:
    """Raises InvalidRecipe where a label is none of the base's."""
    known = set(base_labels)
    strange = [label for label in labels if label not in known]
    if not strange:
        return
    near = get_close_matches(strange[0], base_labels, n=2, cutoff=0.8)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise InvalidRecipe(
        f"Expected classes among the {len(known)} that the base knows; got {_some([repr(each) for each in strange])}. "
        f"Rename their folders, or give the base a new head.{hint}"
    )


def _some(names: Sequence[str]) -> str:
    """The first of many names, and how many are not told."""
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _spread(pixels: Sequence[int]) -> Spread | None:
    return Spread(min(pixels), median_low(pixels), max(pixels)) if pixels else None
