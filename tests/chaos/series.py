"""Damaged pictures, any number of them, each decided by a seed and its number alone."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.chaos.mutations import ANY, SURGERY, splice, swap_header

REPOSITORY = Path(__file__).parents[2]
MOST_BYTES = 1 << 20  # of one mutant: a damaged file may repeat itself many times
STRANGE = 0.08  # part of the changes that bring in another file


class Mutant(NamedTuple):
    """One damaged file. `name` tells the number and the original; `ways` what was done to it."""

    name: str
    data: bytes
    ways: tuple[str, ...]


class Mutants:
    """All mutants of one seed, over the same originals."""

    def __init__(self, seed: int, whole: Mapping[str, bytes]) -> None:
        self.seed = seed
        self._whole = whole
        self._names = sorted(whole)

    def __getitem__(self, number: int) -> Mutant:
        """Mutant `number`, from 0 without end."""
        dice = random.Random(f"{self.seed}:{number}")
        name = dice.choice(self._names)
        data, ways = self._whole[name], []
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            if not data:
                break
            data, way = self._changed(dice, data)
            ways.append(way)
        return Mutant(f"{number:07}.{name}", data[:MOST_BYTES], tuple(ways))

    def _changed(self, dice: random.Random, data: bytes) -> tuple[bytes, str]:
        if dice.random() < STRANGE:
            way = dice.choice((splice, swap_header))
            return way(dice, data, self._whole[dice.choice(self._names)]), way.__name__
        surgery = SURGERY.get(data[:2])
        change = surgery if surgery is not None and dice.random() < 0.5 else dice.choice(ANY)
        return change(dice, data), change.__name__


def shared_folder() -> Path:
    """Where real data is, if it is there."""
    return Path(os.environ.get("PIXMILL_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
