"""Near points: none is missed where the points are cut into parts, and crowds do not fill the memory."""

import numpy as np
import pytest

from models.datasets import neighbours
from models.datasets.neighbours import near_pairs


@pytest.mark.parametrize("seed", range(4))
def test_cut_points_give_the_pairs_that_all_comparisons_give(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_LEAF", 50)
    monkeypatch.setattr(neighbours, "_TILE", (64, 128))
    chance = np.random.default_rng(seed)
    points = (chance.normal(size=(1500, 4)) * [4, 2, 1, 1]).astype(np.float32)
    radii = chance.uniform(0.2, 0.9, 1500).astype(np.float32)
    apart = np.linalg.norm(points[:, np.newaxis] - points[np.newaxis], axis=2)
    a, b = np.nonzero(np.triu(apart <= np.minimum(radii[:, np.newaxis], radii[np.newaxis]), 1))
    found = near_pairs(points, radii)
    assert len(a) > 100
    assert sorted(zip(*found, strict=True)) == sorted(zip(a, b, strict=True))


def test_points_are_cut_where_they_are_spread() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    leaves = list(neighbours._leaves(points, np.full(20_000, 0.01, np.float32)))
    assert max(map(len, leaves)) <= 4096
    assert sum(map(len, leaves)) < 22_000


def test_a_crowd_of_equal_points_names_few_partners_each_and_joins_them_all() -> None:
    count = 5000
    a, _ = near_pairs(np.zeros((count, 4), np.float32), np.full(count, 0.1, np.float32))
    assert len(a) <= 2 * neighbours.MOST_PARTNERS * count
    assert set(a.tolist()) == set(range(count - 1)), "each but the last is joined with a later one"


def test_no_point_has_no_pairs() -> None:
    for count in (0, 1):
        a, b = near_pairs(np.zeros((count, 4), np.float32), np.zeros(count, np.float32))
        assert len(a) == len(b) == 0
