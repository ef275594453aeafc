"""How many pictures each class has, and what of that forbids a training or is to be warned of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from models.errors import InvalidRecipe
from models.recipes import Recipe

FEW = 10  # a class with fewer training pictures is named in a warning
LEAST = 2  # a class with fewer is refused

Counts = Mapping[str, Mapping[str, int]]  # pictures per label, per split

_MOST_NAMED = 10  # names in one sentence


def count(labels: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Pictures per label and split, labels sorted."""
    counts: dict[str, dict[str, int]] = {label: {} for label in sorted(set(labels))}
    for (label, split), pictures in sorted(Counter(zip(labels, splits, strict=True)).items()):
        counts[label][split] = pictures
    return counts


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
