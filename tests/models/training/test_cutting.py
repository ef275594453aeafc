import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from models.children import Child, bare_environment

pytestmark = pytest.mark.slow

CHECKS = (
    "features_and_head_make_the_model_again",
    "convolutional_heads_wrappers_and_blocks_are_cut",
    "what_cannot_be_cut_is_refused",
    "assembled_and_cut_again_gives_the_backbone",
    "names_that_are_taken_do_not_matter",
    "scales_are_put_inside",
    "tuning_does_not_touch_the_statistics",
    "the_shared_classifier_is_cut",
)


def shared_folder() -> Path:
    """Where the real classifier is, on machines that have it."""
    return Path(os.environ.get("PIXMILL_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the child found; a traceback for each check that failed."""
    folder = tmp_path_factory.mktemp("cutting")
    shared = shared_folder() / "mobilenet_v2_imagenet.keras"
    child = Child("tests.models.training.keras_cutting", folder, bare_environment(folder), 120)
    return child.ask({"folder": str(folder), "shared": str(shared) if shared.is_file() else ""})


@pytest.mark.parametrize("check", CHECKS)
def test_models_are_cut_and_put_together(report: Mapping[str, str], check: str) -> None:
    if check == "the_shared_classifier_is_cut" and not shared_folder().is_dir():
        pytest.skip("shared data folder is absent (PIXMILL_SHARED_DATA can name it)")
    assert not report[check], report[check]


def test_no_check_is_forgotten(report: Mapping[str, str]) -> None:
    assert set(report) == set(CHECKS)
