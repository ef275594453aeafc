"""What a training can begin with besides a model: the catalogue of backbones and small networks, data without Keras.

Names: KerasCV's own for its architectures without weights, `efficientnetv2_b0` (what its hub calls
`efficientnetv2_b0_imagenet` is the same with `pretrained`); Keras applications as in `models.presets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from models.errors import UnknownModel
from models.manifest import Preprocessing
from models.presets import PRESETS


@dataclass(frozen=True, slots=True)
class Backbone:
    """One architecture that can be a recipe's preset.

    `loads` is the class in the library, `configuration` what KerasCV's class is given. `classifier` is the preset of
    `models.presets` that its pretrained weights come from, `hub` KerasCV's own name where only a backbone is published;
    neither where no weights are.
    """

    name: str
    description: str
    preprocessing: Preprocessing
    source: Literal["keras_cv", "keras_application"]
    loads: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    classifier: str | None = None
    hub: str | None = None

    @property
    def has_weights(self) -> bool:
        """Whether pretrained weights are published for it."""
        return self.classifier is not None or self.hub is not None


def find_backbone(name: str) -> Backbone:
    """The backbone of that name; `EfficientNetV2B0` and `efficientnetv2_b0_imagenet` are understood too.

    Raises UnknownModel with near names.
    """
    asked = name.strip().lower().removesuffix("_classifier").removesuffix("_imagenet")
    if asked in BACKBONES:
        return BACKBONES[asked]
    squeezed = {known.replace("_", ""): known for known in BACKBONES}
    if asked.replace("_", "") in squeezed:
        return BACKBONES[squeezed[asked.replace("_", "")]]
    raise UnknownModel(name, get_close_matches(asked, list(BACKBONES), n=3, cutoff=0.5), "pixmill models presets")


@dataclass(frozen=True, slots=True)
class Network:
    """One small network. Width, height and channels are taken where the data has no small size of its own.

    `smallest` is the least side, in pixels, that its convolutions leave something of.
    """

    name: str
    description: str
    width: int
    height: int
    channels: int
    smallest: int
    dropout: float


def _keras_cv(
    name: str, loads: str, description: str, size: int, configuration: Mapping[str, Any], published: str = ""
) -> Backbone:
    """`published`: "classifier", "backbone" or nothing."""
    classifier = f"{name}_imagenet_classifier" if published == "classifier" else None
    return Backbone(
        name,
        description,
        PRESETS[classifier].preprocessing if classifier else Preprocessing(width=size, height=size),
        "keras_cv",
        loads,
        configuration,
        classifier=classifier,
        hub=f"{name}_imagenet" if published == "backbone" else None,
    )


def _v2_small(width: float, depth: float) -> Mapping[str, Any]:
    """EfficientNetV2's B family: one network, scaled."""
    return {
        "width_coefficient": width,
        "depth_coefficient": depth,
        "stackwise_kernel_sizes": [3] * 6,
        "stackwise_num_repeats": [1, 2, 2, 3, 5, 8],
        "stackwise_input_filters": [32, 16, 32, 48, 96, 112],
        "stackwise_output_filters": [16, 32, 48, 96, 112, 192],
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
        "stackwise_squeeze_and_excite_ratios": [0.0] * 3 + [0.25] * 3,
        "stackwise_strides": [1, 2, 2, 2, 1, 2],
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * 3,
    }


def _v2(repeats: list[int], filters: list[int]) -> Mapping[str, Any]:
    """EfficientNetV2's S, M and L, after tables 4 and 8 of its paper; `filters` begins with the stem's."""
    stages = len(repeats)
    return {
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "stackwise_kernel_sizes": [3] * stages,
        "stackwise_num_repeats": repeats,
        "stackwise_input_filters": filters[:-1],
        "stackwise_output_filters": filters[1:],
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6, 6][:stages],
        "stackwise_squeeze_and_excite_ratios": [0.0] * 3 + [0.25] * (stages - 3),
        "stackwise_strides": [1, 2, 2, 2, 1, 2, 1][:stages],
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * (stages - 3),
    }


def _mobile_v3(rows: list[tuple[float, int, int, int, float | None, str]]) -> Mapping[str, Any]:
    """MobileNetV3, a row a block: expansion, filters, kernel, stride, squeeze-and-excite, activation."""
    names = ("expansion", "filters", "kernel_size", "stride", "se_ratio", "activation")
    columns = zip(*rows, strict=True)
    return {f"stackwise_{name}": list(column) for name, column in zip(names, columns, strict=True)}


def _residual(blocks: list[int], block_type: str) -> Mapping[str, Any]:
    return {
        "stackwise_filters": [64, 128, 256, 512],
        "stackwise_blocks": blocks,
        "stackwise_strides": [1, 2, 2, 2],
        "block_type": block_type,
    }


_RELU, _HARD = "relu", "hard_swish"
_MOBILE_SMALL = _mobile_v3(
    [
        (1, 16, 3, 2, 0.25, _RELU),
        (72 / 16, 24, 3, 2, None, _RELU),
        (88 / 24, 24, 3, 1, None, _RELU),
        (4, 40, 5, 2, 0.25, _HARD),
        *[(6.0, 40, 5, 1, 0.25, _HARD)] * 2,
        *[(3.0, 48, 5, 1, 0.25, _HARD)] * 2,
        (6, 96, 5, 2, 0.25, _HARD),
        *[(6.0, 96, 5, 1, 0.25, _HARD)] * 2,
    ]
)
_MOBILE_LARGE = _mobile_v3(
    [
        (1, 16, 3, 1, None, _RELU),
        (4, 24, 3, 2, None, _RELU),
        (3, 24, 3, 1, None, _RELU),
        (3, 40, 5, 2, 0.25, _RELU),
        *[(3.0, 40, 5, 1, 0.25, _RELU)] * 2,
        (6, 80, 3, 2, None, _HARD),
        (2.5, 80, 3, 1, None, _HARD),
        *[(2.3, 80, 3, 1, None, _HARD)] * 2,
        *[(6.0, 112, 3, 1, 0.25, _HARD)] * 2,
        (6, 160, 5, 2, 0.25, _HARD),
        *[(6.0, 160, 5, 1, 0.25, _HARD)] * 2,
    ]
)
_V2, _V3, _R1, _R2 = "EfficientNetV2Backbone", "MobileNetV3Backbone", "ResNetBackbone", "ResNetV2Backbone"
_RESIDUAL = {
    18: ([2, 2, 2, 2], "basic_block"),
    34: ([3, 4, 6, 3], "basic_block"),
    50: ([3, 4, 6, 3], "block"),
    101: ([3, 4, 23, 3], "block"),
    152: ([3, 8, 36, 3], "block"),
}
_DENSE = {121: [6, 12, 24, 16], 169: [6, 12, 32, 32], 201: [6, 12, 48, 32]}

_KERAS_CV = [
    _keras_cv("efficientnetv2_b0", _V2, "EfficientNetV2 B0: small and good", 224, _v2_small(1.0, 1.0), "classifier"),
    _keras_cv("efficientnetv2_b1", _V2, "EfficientNetV2 B1", 240, _v2_small(1.0, 1.1), "classifier"),
    _keras_cv("efficientnetv2_b2", _V2, "EfficientNetV2 B2", 260, _v2_small(1.1, 1.2), "classifier"),
    _keras_cv("efficientnetv2_b3", _V2, "EfficientNetV2 B3", 300, _v2_small(1.2, 1.4)),
    _keras_cv(
        "efficientnetv2_s", _V2, "EfficientNetV2 S: slow and better", 300,
        _v2([2, 4, 4, 6, 9, 15], [24, 24, 48, 64, 128, 160, 256]), "classifier",
    ),
    _keras_cv(
        "efficientnetv2_m", _V2, "EfficientNetV2 M: for a GPU", 384,
        _v2([3, 5, 5, 7, 14, 18, 5], [24, 24, 48, 80, 160, 176, 304, 512]),
    ),
    _keras_cv(
        "efficientnetv2_l", _V2, "EfficientNetV2 L: for a large GPU", 384,
        _v2([4, 7, 7, 10, 19, 25, 7], [32, 32, 64, 96, 192, 224, 384, 640]),
    ),
    _keras_cv("mobilenet_v3_small", _V3, "MobileNetV3 Small: the fastest", 224, _MOBILE_SMALL, "backbone"),
    _keras_cv("mobilenet_v3_large", _V3, "MobileNetV3 Large: fast", 224, _MOBILE_LARGE, "classifier"),
    *[
        _keras_cv(
            f"resnet{depth}", _R1, f"ResNet-{depth}", 224, _residual(*blocks), "backbone" if depth == 50 else "",
        )
        for depth, blocks in _RESIDUAL.items()
    ],
    *[
        _keras_cv(
            f"resnet{depth}_v2", _R2, f"ResNet-{depth} v2", 224, _residual(*blocks),
            "classifier" if depth == 50 else "",
        )
        for depth, blocks in _RESIDUAL.items()
    ],
    *[
        _keras_cv(
            f"densenet{depth}", "DenseNetBackbone", f"DenseNet-{depth}", 224, {"stackwise_num_repeats": repeats},
            "backbone",
        )
        for depth, repeats in _DENSE.items()
    ],
]  # fmt: skip

_APPLICATIONS = [
    Backbone(
        preset.name,
        f"keras.applications.{preset.loads}",
        preset.preprocessing,
        "keras_application",
        preset.loads,
        classifier=preset.name,
    )
    for preset in PRESETS.values()
    if preset.source == "keras_application"
]

BACKBONES: Mapping[str, Backbone] = {backbone.name: backbone for backbone in (*_KERAS_CV, *_APPLICATIONS)}

_SMALL = (
    Network(
        "fashion_cnn", "Three strided convolutions and a dense layer of 512: small grey pictures, seconds per epoch",
        28, 28, 1, smallest=15, dropout=0.0,
    ),
    Network(
        "cifar_cnn", "Three strided convolutions, dropout and a dense layer of 1024: small colour pictures",
        32, 32, 3, smallest=15, dropout=0.2,
    ),
    Network(
        "cifar_vgg", "Three blocks of two convolutions and a pooling, dropout and a dense layer of 1024",
        32, 32, 3, smallest=8, dropout=0.2,
    ),
    Network(
        "cifar_vgg_bn", "As cifar_vgg, with batch normalisation after each convolution",
        32, 32, 3, smallest=8, dropout=0.2,
    ),
    Network(
        "cnn_l2", "Two convolutions with batch normalisation and a dense layer of 128, for L1 and L2 penalties",
        28, 28, 1, smallest=8, dropout=0.2,
    ),
)  # fmt: skip

NETWORKS: Mapping[str, Network] = {network.name: network for network in _SMALL}
