import subprocess
import sys
from collections.abc import Mapping

import pytest

from models.children import Child, bare_environment
from models.errors import UnknownModel
from models.presets import PRESETS
from models.training.catalogue import BACKBONES, find_backbone

pytestmark = pytest.mark.slow

CHECKS = (
    "pictures_that_are_too_small_are_refused",
    "weights_that_do_not_exist_are_refused",
    "backbones_from_configurations_are_the_published_networks",
    "backbones_take_pixels_and_pool_them",
    "grey_is_given_three_times",
    "a_keras_cv_classifier_is_cut_in_its_wrapper_too",
    "freezing_leaves_the_head_and_the_asked_layers",
    "blocks_of_keras_cv_are_frozen_to_their_last_layer",
    "an_application_takes_its_weights_from_the_cache",
    "a_keras_cv_backbone_takes_its_classifiers_weights_from_the_cache",
    "a_hub_out_of_reach_comes_with_advice",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the child found; a traceback for each check that failed."""
    folder = tmp_path_factory.mktemp("backbones")
    return Child("tests.models.training.keras_backbones", folder, bare_environment(folder), 200).ask(
        {"folder": str(folder)}
    )


@pytest.mark.parametrize("check", CHECKS)
def test_backbones_are_built(report: Mapping[str, str], check: str) -> None:
    assert not report[check], report[check]


def test_no_check_is_forgotten(report: Mapping[str, str]) -> None:
    assert set(report) == set(CHECKS)


def test_the_catalogue_is_read_without_any_framework() -> None:
    code = "import sys, models.training.backbones; print(sorted({'keras','keras_cv','tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"


def test_a_backbone_is_found_by_the_names_it_goes_by() -> None:
    for name in ("efficientnetv2_b0", "EfficientNetV2B0", "efficientnetv2_b0_imagenet", " efficientnetv2_b0 "):
        assert find_backbone(name).name == "efficientnetv2_b0"
    for preset in PRESETS:
        assert find_backbone(preset).classifier == preset
    assert find_backbone("ResNet50V2").name == "resnet50_v2"
    with pytest.raises(UnknownModel, match="Did you mean efficientnetv2_b"):
        find_backbone("efficientnetv2_b9")


def test_every_backbone_makes_sense() -> None:
    assert len(BACKBONES) > 50
    for name, backbone in BACKBONES.items():
        assert name == backbone.name == find_backbone(name).name
        assert backbone.description
        assert backbone.preprocessing.width >= 224
        assert backbone.classifier is None or backbone.classifier in PRESETS
        assert backbone.has_weights == bool(backbone.classifier or backbone.hub)
