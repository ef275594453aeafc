"""Splits labelled items into train, val and test: the same way whenever the seed and the items are the same.

What is given stays. Where no validation (or test) part is given, one is taken from what is left for training: a like
share of every label, and groups as a whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from models.datasets.groups import join
from models.errors import InvalidRecipe
from models.recipes import SplitChoice

Split = Literal["train", "val", "test"]

_WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(slots=True)
class _Group:
    order: bytes  # where chance puts it
    labels: Counter[str]  # its items that have no place yet, by label
    places: list[int]


def understand(word: str | None) -> Split | None:
    """The split that a word means ("training", "dev", …); None for none. Raises InvalidRecipe for any other word."""
    if word is None or not word.strip():
        return None
    split = _WORDS.get(word.strip().lower())
    if split is None:
        raise InvalidRecipe(f"Expected a split (train, val or test, or one of {', '.join(_WORDS)}); got {word!r}.")
    return split


def assign(
    labels: Sequence[str],
    given: Sequence[str | None],
    groups: Sequence[Hashable | None],
    keys: Sequence[bytes],
    choice: SplitChoice,
) -> list[Split]:
    """Each item's split. Items stay together that have the same group (None is none) or key (the hash of the file).

    The answer depends on the seed and on each item's own facts, not on the order of items or on the groups' names.
    Where groups have one label each, a label's part differs from the asked share by at most half of its largest group.
    A label with three groups has one in the part that is taken first (val, then test), one with four in both, unless
    that would leave this or another label nothing in train. Items without a given split follow a mate that is given to
    val or test. Raises InvalidRecipe for a given word that is no split.
    """
    known = [understand(word) for word in given]
    splits: list[Split] = [split or "train" for split in known]
    free = []
    for group in _groups(labels, groups, keys, choice.seed):
        held = {known[place] for place in group.places} & {"val", "test"}
        if not held:
            free.append(group)
        for place in group.places if held else ():
            splits[place] = known[place] or ("test" if "test" in held else "val")
    parts: list[tuple[Split, float]] = [("val", choice.validation), ("test", choice.test)]
    shares = {part: share for part, share in parts if share > 0 and part not in known}
    for place, split in _taken(free, shares).items():
        splits[place] = split
    return splits


def _groups(labels: Sequence[str], groups: Sequence[Hashable | None], keys: Sequence[bytes], seed: int) -> list[_Group]:
    """What must stay together, in the order that chance and the seed put it."""
    first: dict[bytes, int] = {}
    joined = join(groups, ((first.setdefault(key, place), place) for place, key in enumerate(keys)))
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(joined):
        members[group].append(place)
    made = [
        _Group(_order(seed, min(keys[place] for place in places)), Counter(labels[place] for place in places), places)
        for places in members.values()
    ]
    return sorted(made, key=lambda group: group.order)


def _order(seed: int, key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16, salt=b"split", key=str(seed).encode()).digest()


def _taken(groups: list[_Group], shares: dict[Split, float]) -> dict[int, Split]:
    """What is taken from train: places with their split. Rare labels choose first, as they have the fewest groups."""
    items: Counter[str] = Counter()
    left: Counter[str] = Counter()  # groups in train
    for group in groups:
        items.update(group.labels)
        left.update(group.labels.keys())
    of_label: dict[str, list[_Group]] = {label: [] for label in sorted(items, key=lambda label: (left[label], label))}
    for group in groups:
        for label in group.labels:
            of_label[label].append(group)
    taken: dict[int, Split] = {}
    for number, (split, share) in enumerate(shares.items()):
        held: Counter[str] = Counter()
        for label, candidates in of_label.items():
            owed = len(candidates) >= 3 + number
            waiting = [group for group in candidates if group.places[0] not in taken]
            for group in _picked(waiting, label, share * items[label], owed, held, left):
                taken.update(dict.fromkeys(group.places, split))
    return taken


def _picked(
    waiting: list[_Group], label: str, wanted: float, owed: bool, held: Counter[str], left: Counter[str]
) -> Iterable[_Group]:
    """The groups that bring what is `held` of the label nearest to what is wanted; where one is owed, one at least.

    Counts what it picks in `held` (items) and `left` (groups in train).
    """
    smallest = sorted(waiting, key=lambda group: group.labels[label]) if owed else []
    for group, fallback in [*((group, False) for group in waiting), *((group, True) for group in smallest)]:
        short = wanted - held[label]
        fits = held[label] == 0 if fallback else 0 < group.labels[label] <= 2 * short
        if fits and all(left[name] > 1 for name in group.labels):
            held.update(group.labels)
            left.subtract(group.labels.keys())
            yield group
