"""Which size and colour a network gets: the pictures' own where they are small, else its own."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from models.manifest import Preprocessing
from models.recipes import make_recipe
from tests.worker.training.conftest import items_of
from worker.training.request import Request
from worker.training.sizing import choose_preprocessing


def of(request: Request, folder: Path, preset: str = "fashion_cnn", **image: object) -> Preprocessing:
    recipe = make_recipe("scratch", base=None, preset=preset, said={"image": image})
    return choose_preprocessing(replace(request, recipe=recipe), items_of(folder), None)


def test_small_pictures_of_one_size_are_taken_as_they_are(request_of_run: Request, dataset: Path) -> None:
    chosen = of(request_of_run, dataset)
    assert (chosen.width, chosen.height, chosen.channels, chosen.crop) == (16, 16, 3, "squash")


def test_grey_pictures_stay_grey(request_of_run: Request, dataset: Path) -> None:
    for file in dataset.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert of(request_of_run, dataset).channels == 1


def test_one_coloured_picture_makes_the_network_see_colours(request_of_run: Request, dataset: Path) -> None:
    files = sorted(dataset.rglob("*.png"))
    for file in files[1:]:
        Image.open(file).convert("L").save(file)
    assert of(request_of_run, dataset).channels == 3


def test_pictures_of_several_sizes_get_the_networks_own(request_of_run: Request, dataset: Path) -> None:
    Image.new("RGB", (40, 30)).save(dataset / "train" / "apple" / "wide.png")
    chosen = of(request_of_run, dataset)
    assert (chosen.width, chosen.height, chosen.crop) == (28, 28, "center")


def test_what_the_recipe_says_goes_over_what_is_found(request_of_run: Request, dataset: Path) -> None:
    chosen = of(request_of_run, dataset, width=24, channels=1)
    assert (chosen.width, chosen.height, chosen.channels) == (24, 24, 1)


def test_a_base_keeps_its_size_and_takes_plain_pixels(request_of_run: Request, dataset: Path) -> None:
    recipe = make_recipe("head", base="x@1", preset=None)
    base = Preprocessing(width=96, height=96, interpolation="bicubic", scale="-1-1")
    chosen = choose_preprocessing(replace(request_of_run, recipe=recipe), items_of(dataset), base)
    assert chosen == replace(base, scale="0-255", crop_fraction=1.0)
    kept = replace(request_of_run, recipe=recipe.model_copy(update={"keep_head": True}))
    assert choose_preprocessing(kept, items_of(dataset), base).crop_fraction == base.crop_fraction


@pytest.mark.parametrize("broken", ["empty", "text"])
def test_unreadable_samples_are_passed_over(request_of_run: Request, dataset: Path, broken: str) -> None:
    for file in (dataset / "train" / "apple").iterdir():
        file.write_bytes(b"" if broken == "empty" else b"no picture")
    assert of(request_of_run, dataset).width == 16
