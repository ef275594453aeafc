"""The census of a data set, and what forbids a training."""

import json

import pytest

from models.datasets.census import Census, Spread, take_census
from models.datasets.counting import count, problems
from models.datasets.duplicates import Pair
from models.errors import InvalidRecipe
from models.recipes import Recipe, SplitChoice

RECIPE = Recipe(preset="fashion_cnn")


def census() -> Census:
    pairs = [Pair(0, 1, 0.0, "identical"), Pair(0, 12, 0.1, "near"), Pair(2, 3, 0.05, "near")]
    labels = ["cat"] * 12 + ["dog"] * 3
    splits = ["train"] * 12 + ["val", "train", "train"]
    return take_census(
        labels, splits, [(10 + place, 20) for place in range(15)], ["truncated", "empty", "empty"], pairs
    )


def test_everything_is_counted() -> None:
    assert census() == Census(
        images=15,
        counts={"cat": {"train": 12}, "dog": {"train": 2, "val": 1}},
        unreadable={"empty": 2, "truncated": 1},
        imbalance=6.0,
        width=Spread(10, 17, 24),
        height=Spread(20, 20, 20),
        identical=1,
        near=2,
        conflicts=1,
        leaks=1,
        small={"dog": 2},
    )


def test_a_census_survives_json() -> None:
    assert Census.from_json(json.loads(json.dumps(census().to_json()))) == census()


def test_a_census_of_nothing_is_told() -> None:
    empty = take_census([], [], [], ["corrupt"], [])
    assert (empty.images, empty.width, empty.imbalance) == (0, None, 0.0)
    assert Census.from_json(json.loads(json.dumps(empty.to_json()))) == empty


def test_many_pictures_of_two_classes_are_no_problem() -> None:
    assert problems(count(["cat", "dog"] * 20, ["train"] * 40), RECIPE) == []


@pytest.mark.parametrize(("labels", "told"), [([], "found none"), (["cat"] * 20, "found only 'cat'")])
def test_fewer_than_two_classes_are_refused(labels: list[str], told: str) -> None:
    with pytest.raises(InvalidRecipe, match=told):
        problems(count(labels, ["train"] * len(labels)), RECIPE)


def test_a_class_with_one_training_picture_is_refused_by_name() -> None:
    with pytest.raises(InvalidRecipe, match=r"at least 2 .* 'dog' \(1\)"):
        problems(count(["cat", "cat", "dog", "dog"], ["train", "train", "train", "val"]), RECIPE)


def test_a_class_that_is_only_validated_on_is_refused_by_name() -> None:
    with pytest.raises(InvalidRecipe, match=r"'dog' \(0\)"):
        problems({"cat": {"train": 5}, "cow": {"train": 5}, "dog": {"val": 5}}, RECIPE)


def test_a_small_class_is_warned_of_by_name() -> None:
    assert problems({"cat": {"train": 50}, "dog": {"train": 3}}, RECIPE) == [
        "Fewer than 10 training pictures are in 'dog' (3): expect little of them."
    ]


def test_no_validation_at_all_is_warned_of() -> None:
    recipe = Recipe(preset="fashion_cnn", split=SplitChoice(validation=0))
    counts = {"cat": {"train": 50}, "dog": {"train": 50}}
    assert ["no validation pictures" in warning for warning in problems(counts, recipe)] == [True]
    assert problems({**counts, "dog": {"train": 50, "val": 1}}, recipe) == []


def test_labels_that_the_base_does_not_know_are_named_with_near_ones() -> None:
    counts = {"cat": {"train": 50}, "dogs": {"train": 50}}
    with pytest.raises(InvalidRecipe, match=r"'dogs'.*Did you mean dog"):
        problems(counts, RECIPE, base_labels=["cat", "dog"])
    assert problems(counts, RECIPE, base_labels=["cat", "dogs", "cow"]) == []


def test_of_many_names_the_first_are_told() -> None:
    counts = {f"class {number:02d}": {"train": 1} for number in range(30)}
    with pytest.raises(InvalidRecipe, match="'class 09' \\(1\\) and 20 more"):
        problems(counts, RECIPE)
