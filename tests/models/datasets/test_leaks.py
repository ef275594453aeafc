"""Leaks between splits, and copies under two labels."""

from models.datasets.duplicates import Pair
from models.datasets.leaks import Leak, conflicts, leaks


def same(a: int, b: int) -> Pair:
    return Pair(a, b, 0.0, "identical")


def near(a: int, b: int, distance: float = 0.1) -> Pair:
    return Pair(a, b, distance, "near")


def test_a_copy_of_a_training_picture_in_validation_is_a_leak() -> None:
    assert leaks([near(0, 1)], ["val", "train"]) == [Leak(0, 1, 0.1, "near")]


def test_a_copy_of_a_validation_picture_in_test_is_a_leak() -> None:
    assert leaks([same(0, 1)], ["val", "test"]) == [Leak(1, 0, 0.0, "identical")]


def test_copies_in_one_split_are_no_leak() -> None:
    assert leaks([same(0, 1), near(2, 3)], ["train", "train", "val", "val"]) == []


def test_each_held_out_picture_is_told_once_with_its_nearest_copy() -> None:
    found = leaks([near(0, 3, 0.2), near(1, 3, 0.1), same(2, 3)], ["train", "train", "train", "val"])
    assert found == [Leak(3, 2, 0.0, "identical")]


def test_identical_files_of_one_split_do_not_hide_those_of_another() -> None:
    # `find_pairs` joins each with the first only: 1 and 2 are not paired, nor is 2 with 3.
    splits = ["val", "val", "train", "test"]
    assert leaks([same(0, 1), same(0, 2), near(0, 3)], splits) == [
        Leak(0, 2, 0.0, "identical"),
        Leak(1, 2, 0.0, "identical"),
        Leak(3, 2, 0.1, "near"),
    ]


def test_copies_under_two_labels_are_a_conflict() -> None:
    assert conflicts([same(0, 1), near(2, 3)], ["cat", "dog", "cat", "cat"]) == [same(0, 1)]


def test_a_conflict_behind_the_first_of_identical_files_is_seen() -> None:
    found = conflicts([same(0, 1), same(0, 2), near(0, 3)], ["cat", "cat", "dog", "dog"])
    assert found == [same(0, 2), near(0, 3)]
