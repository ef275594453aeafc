"""Copies are found however they were encoded, sized or lit; different pictures are not taken for copies."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from models.datasets.duplicates import SIDE, Pair, find_pairs, thumbnail
from models.datasets.leaks import leaks
from models.images import load_picture
from models.manifest import Preprocessing
from tests.pictures import saved


def thumbnails(files: list[bytes]) -> NDArray[np.uint8]:
    return np.stack([thumbnail(load_picture(data, Preprocessing()).pixels) for data in files])


def half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


@pytest.fixture(scope="module")
def photographs(shared_data: Path) -> dict[str, bytes]:
    """All of cats_dogs, 400 to train on and 150 to test on."""
    with tarfile.open(shared_data / "cats_dogs.tar") as archive:
        members = sorted((member for member in archive if member.isfile()), key=lambda member: member.name)
        return {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr] # files


def test_twelve_planted_copies_are_named_and_nothing_else(photographs: dict[str, bytes]) -> None:
    splits = ["train" if "/train/" in f"/{name}" else "test" for name in photographs]
    files = list(photographs.values())
    sources = [place for place, split in enumerate(splits) if split == "train"][::33][:12]
    images = [Image.open(io.BytesIO(files[place])).convert("RGB") for place in sources]
    planted = [
        *(files[place] for place in sources[:3]),
        *(saved(image, "JPEG", quality=40) for image in images[3:5]),
        *(saved(image, "PNG") for image in images[5:7]),
        *(saved(half(image), "JPEG", quality=85) for image in images[7:10]),
        *(saved(ImageEnhance.Brightness(image).enhance(0.85), "WEBP") for image in images[10:]),
    ]
    pairs = find_pairs(thumbnails([*files, *planted]), [*files, *planted])
    found = leaks(pairs, [*splits, *["val"] * 12])
    assert [(leak.other, leak.held_out) for leak in found] == [
        (source, len(files) + number) for number, source in enumerate(sources)
    ]
    assert [leak.kind for leak in found] == ["identical"] * 3 + ["near"] * 9


def test_identical_files_are_joined_with_the_first() -> None:
    data = [saved(Image.new("L", (40, 40), grey), "PNG") for grey in (0, 200, 0, 0)]
    assert find_pairs(thumbnails(data), data) == [Pair(0, 2, 0.0, "identical"), Pair(0, 3, 0.0, "identical")]


def test_noise_is_no_copy_of_other_noise() -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (300, SIDE, SIDE, 3), dtype=np.uint8)
    assert find_pairs(pixels, [bytes([place // 256, place % 256]) for place in range(300)]) == []


def test_in_a_crowd_of_like_pictures_only_the_far_nearer_are_copies() -> None:
    """All are variants of one picture; by the distances of photographs each would be a copy of each."""
    chance = np.random.default_rng(0)
    common = chance.normal(0, 40, (1, SIDE, SIDE, 3))
    alike = 128 + common + chance.normal(0, 4, (300, SIDE, SIDE, 3))
    copy = alike[:1] + chance.normal(0, 0.3, alike[:1].shape)
    pixels = np.concatenate([alike, copy]).round().clip(0, 255).astype(np.uint8)
    pairs = find_pairs(pixels, [b"%d" % place for place in range(301)])
    assert [(pair.a, pair.b, pair.kind) for pair in pairs] == [(0, 300, "near")]


def test_black_and_white_are_different() -> None:
    pixels = np.stack([np.full((SIDE, SIDE, 3), grey, np.uint8) for grey in (0, 255, 20)])
    assert [(pair.a, pair.b) for pair in find_pairs(pixels, [b"0", b"1", b"2"])] == [(0, 2)]


def test_no_pictures_have_no_copies() -> None:
    assert find_pairs(np.empty((0, SIDE, SIDE, 3), np.uint8), []) == []
    assert find_pairs(np.zeros((1, SIDE, SIDE, 3), np.uint8), [b"0"]) == []


def test_grey_and_colour_thumbnails_of_one_picture_are_the_same() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    assert np.array_equal(thumbnail(grey), thumbnail(np.repeat(grey, 3, axis=2)))
    assert thumbnail(grey).shape == (SIDE, SIDE, 3)


def test_small_pictures_have_few_true_copies(shared_data: Path) -> None:
    """CIFAR's two pictures of one car, both in train, are the only ones of 6,000."""
    with tarfile.open(shared_data / "cifar10_subset.tar") as archive:
        names = [member.name for member in archive if member.isfile()]
        files = [archive.extractfile(name).read() for name in names]  # type: ignore[union-attr] # files
    pixels = [load_picture(data, Preprocessing(32, 32, 3, "squash")).pixels for data in files]
    pairs = find_pairs(np.stack([thumbnail(each) for each in pixels]), files)
    assert len(pairs) == 1
    assert {Path(names[place]).stem for place in (pairs[0].a, pairs[0].b)} == {"2518", "3083"}
