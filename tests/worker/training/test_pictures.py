"""Rows on the disk: complete or absent, taken in any order; and the crops whose features are kept."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import InvalidRecipe
from models.manifest import Preprocessing
from models.recipes import make_recipe
from tests.worker.training.conftest import items_of
from worker.training import survey as surveys
from worker.training.crops import WithCrops, crop, read_crops
from worker.training.pictures import Rows, new_rows
from worker.training.preparing import Prepared
from worker.training.request import Request
from worker.training.survey import Book, read_all

SMALL = Preprocessing(width=16, height=16, crop="squash")


def test_rows_are_taken_by_place_in_any_order(tmp_path: Path) -> None:
    with new_rows(tmp_path / "a.npy", 10, (2,), np.float32) as array:
        array[:] = np.arange(20).reshape(10, 2)
    rows = Rows(tmp_path / "a.npy", np.array([9, 0, 5]))
    assert len(rows) == 3
    assert rows.take(np.array([2, 0])).tolist() == [[10, 11], [18, 19]]


def test_a_file_of_rows_is_complete_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_rows(tmp_path / "a.npy", 10, (2,), np.float32):
        raise KeyboardInterrupt
    assert not (tmp_path / "a.npy").exists()


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(InvalidRecipe, match="Make room"), new_rows(tmp_path / "a.npy", 10, (2,), np.float32):
        pass
    assert not list(tmp_path.iterdir())


def test_a_crop_is_a_part_of_the_picture_in_the_networks_size() -> None:
    pixels = np.arange(40 * 40 * 3, dtype=np.uint32).reshape(40, 40, 3).astype(np.uint8)
    first = crop(pixels, SMALL, np.random.default_rng(1), flip=True)
    assert first.shape == (16, 16, 3)
    assert np.array_equal(first, crop(pixels, SMALL, np.random.default_rng(1), flip=True))
    assert not np.array_equal(first, crop(pixels, SMALL, np.random.default_rng(2), flip=True))
    assert crop(pixels[:, :, :1], SMALL, np.random.default_rng(1), flip=False).shape == (16, 16, 1)


def test_every_training_picture_gets_its_crops_the_same_in_every_attempt(
    request_of_run: Request, dataset: Path
) -> None:
    recipe = make_recipe("head", base="x@1", preset=None, said={"augmentation": {"feature_crops": 2}})
    request, items = replace(request_of_run, recipe=recipe), items_of(dataset)
    book = Book.empty(len(items))
    list(read_all(request, items, SMALL, book, lambda _: None))
    prepared = Prepared(surveys.conclude(request, items, book), SMALL, None, None)
    crops = dict(read_crops(request, items, prepared))
    count = len(prepared.survey.of("train"))
    assert sorted(crops) == list(range(2 * count))
    assert not np.array_equal(crops[0], crops[count])  # two crops of the first picture
    again = dict(read_crops(request, items, prepared))
    assert all(np.array_equal(crops[row], again[row]) for row in crops)


def test_crops_follow_the_plain_rows(tmp_path: Path) -> None:
    with new_rows(tmp_path / "plain.npy", 4, (2,), np.float32) as array:
        array[:] = [[row, row] for row in range(4)]
    with new_rows(tmp_path / "crops.npy", 4, (2,), np.float32) as array:
        array[:] = [[10 + row, 10 + row] for row in range(4)]
    both = WithCrops(Rows(tmp_path / "plain.npy", np.array([3, 1])), tmp_path / "crops.npy")
    assert len(both) == 6
    assert both.take(np.array([0, 1, 2, 5]))[:, 0].tolist() == [3, 1, 10, 13]
