"""The catalogue of pretrained classifiers: names, sizes and preprocessing. Data only; `models.pulling` fetches them.

Names follow one law for each source, so that no two sources and no model of a user's are easily confused:
- KerasCV's classifiers keep their own names, as `ImageClassifier.from_preset` takes them:
  `efficientnetv2_b0_imagenet_classifier`.
- Keras applications are `keras_` and the class in lower case: `keras_mobilenetv2` is
  `keras.applications.MobileNetV2`. (KerasCV has backbones called `resnet50_imagenet` or `densenet121_imagenet`; a
  suffix in that manner would take their names.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from models.errors import UnknownModel
from models.manifest import Preprocessing

Source = Literal["keras_cv", "keras_application"]
Pixels = Literal["0-255", "-1-1", "imagenet", "imagenet-bgr"]

EFFICIENTNET_MARGIN = 32  # pixels around the crop in EfficientNet's own evaluation (CROP_PADDING of its reference code)


@dataclass(frozen=True, slots=True)
class Preset:
    """One pretrained classifier.

    `loads` is the name that the library's own code takes. `pixels` is what the network inside wants, before the
    layers that `models.pulling` puts in front (the registered model always takes RGB 0–255): "-1-1" is Keras's mode
    "tf", "imagenet" is 0–1 with ImageNet's mean and deviation ("torch"), "imagenet-bgr" is BGR 0–255 less ImageNet's
    mean ("caffe").
    """

    name: str
    source: Source
    loads: str
    description: str
    parameters: int
    preprocessing: Preprocessing
    pixels: Pixels = "0-255"
    classes: int = 1000

    @property
    def download_mb(self) -> int:
        """About what is fetched: four bytes for each parameter."""
        return round(self.parameters * 4 / 1e6)


def find_preset(name: str) -> Preset:
    """The preset of that name. Raises UnknownModel with near names."""
    preset = PRESETS.get(name.strip().lower())
    if preset is None:
        begun = [preset for preset in PRESETS if preset.startswith(name.lower())]
        near = [*begun[:2], *get_close_matches(name.lower(), list(PRESETS), n=3, cutoff=0.5)]
        raise UnknownModel(name, list(dict.fromkeys(near))[:3], "pixmill models presets")
    return preset


def _square(size: int) -> Preprocessing:
    """The middle 87.5 % of the short side, bilinear: the evaluation most of these networks were published with."""
    return Preprocessing(width=size, height=size)


def _efficientnet(size: int) -> Preprocessing:
    """EfficientNet's own evaluation: a margin of 32 pixels at every input size, bicubic."""
    fraction = size / (size + EFFICIENTNET_MARGIN)
    return Preprocessing(width=size, height=size, crop_fraction=fraction, interpolation="bicubic")


def _keras_cv(name: str, description: str, parameters: int, preprocessing: Preprocessing) -> Preset:
    return Preset(name, "keras_cv", name, description, parameters, preprocessing)


def _application(loads: str, family: str, parameters: int, preprocessing: Preprocessing, pixels: Pixels) -> Preset:
    description = f"{family}, trained on ImageNet (keras.applications.{loads})"
    return Preset(f"keras_{loads.lower()}", "keras_application", loads, description, parameters, preprocessing, pixels)


_KERAS_CV = (
    _keras_cv(
        "efficientnetv2_b0_imagenet_classifier",
        "EfficientNetV2 B0, top-1 77.1 %: small and good",
        7_200_312,
        _efficientnet(224),
    ),
    _keras_cv(
        "efficientnetv2_b1_imagenet_classifier", "EfficientNetV2 B1, top-1 79.1 %", 8_212_124, _efficientnet(240)
    ),
    _keras_cv(
        "efficientnetv2_b2_imagenet_classifier", "EfficientNetV2 B2, top-1 80.1 %", 10_178_374, _efficientnet(260)
    ),
    _keras_cv(
        "efficientnetv2_s_imagenet_classifier",
        "EfficientNetV2 S, top-1 83.9 %: slow and better",
        21_612_360,
        _efficientnet(384),
    ),
    _keras_cv(
        "mobilenet_v3_large_imagenet_classifier",
        "MobileNetV3 Large, top-1 69.4 %: the fastest",
        3_957_352,
        _square(224),
    ),
    _keras_cv("resnet50_v2_imagenet_classifier", "ResNet-50 v2, the classic", 25_613_800, _square(224)),
)

_APPLICATIONS = (
    _application("ConvNeXtTiny", "ConvNeXt", 28_589_128, _square(224), "0-255"),
    _application("ConvNeXtSmall", "ConvNeXt", 50_223_688, _square(224), "0-255"),
    _application("ConvNeXtBase", "ConvNeXt", 88_591_464, _square(224), "0-255"),
    _application("ConvNeXtLarge", "ConvNeXt", 197_767_336, _square(224), "0-255"),
    _application("ConvNeXtXLarge", "ConvNeXt", 350_196_968, _square(224), "0-255"),
    _application("DenseNet121", "DenseNet", 8_062_504, _square(224), "imagenet"),
    _application("DenseNet169", "DenseNet", 14_307_880, _square(224), "imagenet"),
    _application("DenseNet201", "DenseNet", 20_242_984, _square(224), "imagenet"),
    _application("EfficientNetB0", "EfficientNet", 5_330_571, _efficientnet(224), "0-255"),
    _application("EfficientNetB1", "EfficientNet", 7_856_239, _efficientnet(240), "0-255"),
    _application("EfficientNetB2", "EfficientNet", 9_177_569, _efficientnet(260), "0-255"),
    _application("EfficientNetB3", "EfficientNet", 12_320_535, _efficientnet(300), "0-255"),
    _application("EfficientNetB4", "EfficientNet", 19_466_823, _efficientnet(380), "0-255"),
    _application("EfficientNetB5", "EfficientNet", 30_562_527, _efficientnet(456), "0-255"),
    _application("EfficientNetB6", "EfficientNet", 43_265_143, _efficientnet(528), "0-255"),
    _application("EfficientNetB7", "EfficientNet", 66_658_687, _efficientnet(600), "0-255"),
    _application("EfficientNetV2B0", "EfficientNetV2", 7_200_312, _efficientnet(224), "0-255"),
    _application("EfficientNetV2B1", "EfficientNetV2", 8_212_124, _efficientnet(240), "0-255"),
    _application("EfficientNetV2B2", "EfficientNetV2", 10_178_374, _efficientnet(260), "0-255"),
    _application("EfficientNetV2B3", "EfficientNetV2", 14_467_622, _efficientnet(300), "0-255"),
    _application("EfficientNetV2S", "EfficientNetV2", 21_612_360, _efficientnet(384), "0-255"),
    _application("EfficientNetV2M", "EfficientNetV2", 54_431_388, _efficientnet(480), "0-255"),
    _application("EfficientNetV2L", "EfficientNetV2", 119_027_848, _efficientnet(480), "0-255"),
    _application("InceptionResNetV2", "Inception-ResNet", 55_873_736, _square(299), "-1-1"),
    _application("InceptionV3", "Inception", 23_851_784, _square(299), "-1-1"),
    _application("MobileNet", "MobileNet", 4_253_864, _square(224), "-1-1"),
    _application("MobileNetV2", "MobileNetV2", 3_538_984, _square(224), "-1-1"),
    _application("MobileNetV3Small", "MobileNetV3", 2_554_968, _square(224), "0-255"),
    _application("MobileNetV3Large", "MobileNetV3", 5_507_432, _square(224), "0-255"),
    _application("NASNetMobile", "NASNet", 5_326_716, _square(224), "-1-1"),
    _application("NASNetLarge", "NASNet", 88_949_818, _square(331), "-1-1"),
    _application("ResNet50", "ResNet", 25_636_712, _square(224), "imagenet-bgr"),
    _application("ResNet101", "ResNet", 44_707_176, _square(224), "imagenet-bgr"),
    _application("ResNet152", "ResNet", 60_419_944, _square(224), "imagenet-bgr"),
    _application("ResNet50V2", "ResNet v2", 25_613_800, _square(224), "-1-1"),
    _application("ResNet101V2", "ResNet v2", 44_675_560, _square(224), "-1-1"),
    _application("ResNet152V2", "ResNet v2", 60_380_648, _square(224), "-1-1"),
    _application("VGG16", "VGG", 138_357_544, _square(224), "imagenet-bgr"),
    _application("VGG19", "VGG", 143_667_240, _square(224), "imagenet-bgr"),
    _application("Xception", "Xception", 22_910_480, _square(299), "-1-1"),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (*_KERAS_CV, *_APPLICATIONS)}
