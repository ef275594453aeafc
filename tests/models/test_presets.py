import subprocess
import sys

import pytest

from models.errors import UnknownModel
from models.presets import PRESETS, find_preset
from models.references import check_name


def test_the_catalogue_is_read_without_any_framework() -> None:
    code = "import sys, models.presets; print(sorted({'keras','keras_cv','tensorflow','numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"


def test_every_preset_can_name_a_model_and_makes_sense() -> None:
    assert len(PRESETS) > 40
    for name, preset in PRESETS.items():
        assert check_name(name) == name == preset.name
        assert preset.preprocessing.width == preset.preprocessing.height >= 224
        assert 0.8 < preset.preprocessing.crop_fraction <= 1
        assert preset.description
        assert preset.download_mb == round(preset.parameters * 4 / 1e6) > 5


def test_no_source_takes_a_name_in_the_manner_of_another() -> None:
    for preset in PRESETS.values():
        assert preset.name.startswith("keras_") == (preset.source == "keras_application")
        assert preset.name.endswith("_imagenet_classifier") == (preset.source == "keras_cv")


def test_a_preset_is_found_by_name_and_a_misspelt_one_brings_near_names() -> None:
    assert find_preset(" Keras_MobileNetV2 ").loads == "MobileNetV2"
    with pytest.raises(UnknownModel, match="keras_mobilenetv2"):
        find_preset("mobilenetv2")
    with pytest.raises(UnknownModel, match="efficientnetv2_b0_imagenet_classifier"):
        find_preset("efficientnetv2_b0_imagenet")
