from collections.abc import Mapping
from pathlib import Path

import pytest

from models.children import Child, bare_environment

pytestmark = pytest.mark.slow

CHECKS = (
    "nothing_chosen_returns_the_input_itself",
    "seed_epoch_and_step_each_change_what_is_drawn",
    "every_switch_changes_pictures_within_their_range",
    "a_flip_is_a_flip_of_about_half",
    "a_shift_moves_no_further_than_asked",
    "cutmix_labels_say_how_many_pixels_are_whose",
    "mixup_labels_are_mixed_as_the_pixels_are",
    "both_chooses_one_of_them_for_each_batch",
    "equalization_is_that_of_pillow",
    "the_last_smaller_batch_works_and_one_picture_too",
)


def ask(folder: Path, request: Mapping[str, object]) -> dict[str, str]:
    return Child("tests.models.training.keras_augmentation", folder, bare_environment(folder), 180).ask(request)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return ask(tmp_path_factory.mktemp("augmentation"), {})


@pytest.mark.parametrize("check", CHECKS)
def test_the_augmenter_keeps_its_word(report: Mapping[str, str], check: str) -> None:
    assert not report[check], report[check]


def test_a_fresh_process_draws_the_same_whatever_it_drew_before(tmp_path: Path, report: Mapping[str, str]) -> None:
    """The first process made and used a dozen other augmenters before; the second has another global seed."""
    fresh = ask(tmp_path, {"digests": True, "global_seed": 12345})
    assert fresh == {name: report[name] for name in fresh}
    assert len(set(fresh.values())) == len(fresh) == 3


def test_no_check_is_forgotten(report: Mapping[str, str]) -> None:
    assert {name for name in report if "/" not in name} == set(CHECKS)
