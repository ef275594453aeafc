"""A child that fills hub caches with weights of its own making, and says what the installed libraries know.

request: `kaggle` and `keras`, the folders of the two caches; `images`, an .npy file of uint8 pictures 224×224.
Answers `expected` (for each preset made, an .npy file of the probabilities its network gives for the pictures),
`keras_cv` (names, parameters and handles of KerasCV's own presets), `applications` (names), `parameters` (of a few
applications), and `differences` (for each application, the largest between our pixel layers and its own
`preprocess_input`).
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_cv
import numpy as np
from keras_cv.src.utils.preset_utils import save_to_preset

from models.children import Progress, answer_with
from models.fetching import wanted_pixels
from models.presets import PRESETS

KERAS_CV_PRESET = "efficientnetv2_b0_imagenet_classifier"
APPLICATION_WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
COUNTED = ("MobileNetV2", "MobileNetV3Small")
SEED = 11

# EfficientNetV2's B0, as its paper has it and as the published preset's config.json says it to KerasCV.
B0: Mapping[str, Any] = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "stackwise_kernel_sizes": [3, 3, 3, 3, 3, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 5, 8],
    "stackwise_input_filters": [32, 16, 32, 48, 96, 112],
    "stackwise_output_filters": [16, 32, 48, 96, 112, 192],
    "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
    "stackwise_squeeze_and_excite_ratios": [0.0, 0.0, 0.0, 0.25, 0.25, 0.25],
    "stackwise_strides": [1, 2, 2, 2, 1, 2],
    "stackwise_conv_types": ["fused", "fused", "fused", "unfused", "unfused", "unfused"],
    "skip_connection_dropout": 0.2,
    "include_rescaling": True,
}


def spread(model: Any, pictures: Any) -> Any:
    """Make the random head's answers differ from picture to picture: a fresh network says about the same to each."""
    features = keras.ops.convert_to_numpy(keras.Model(model.input, model.layers[-1].input)(pictures, training=False))
    kernel = np.random.default_rng(SEED).normal(size=model.layers[-1].kernel.shape)
    logits = features @ kernel
    strength = 4 / np.std(logits - logits.mean(axis=0))
    model.layers[-1].set_weights([kernel * strength, -logits.mean(axis=0) * strength])
    return model


def cached_keras_cv_preset(cache: Path, pictures: Any) -> Any:
    """EfficientNetV2B0 as KerasCV publishes it: files and completion marks where kagglehub looks for them."""
    backbone = keras_cv.models.EfficientNetV2Backbone(**B0)
    model = spread(keras_cv.models.ImageClassifier(backbone=backbone, num_classes=1000), pictures)
    handle = keras_cv.models.ImageClassifier.presets[KERAS_CV_PRESET]["kaggle_handle"]
    *parts, version = handle.removeprefix("kaggle://").split("/")
    variation = cache.joinpath("models", *parts)
    save_to_preset(model, str(variation / version))
    marks = variation / ".complete" / version
    marks.mkdir(parents=True)
    for file in (variation / version).iterdir():
        (marks / f"{file.name}.complete").touch()
    return model


def cached_application(cache: Path, pictures: Any) -> Any:
    """MobileNetV2's weights under the name that Keras gives them; Keras knows no hash of this file."""
    model = spread(keras.applications.MobileNetV2(weights=None), pictures)
    (cache / "models").mkdir(parents=True)
    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    h5py = importlib.import_module("h5py")
    with h5py.File(cache / "models" / APPLICATION_WEIGHTS, "w") as file:
        legacy.save_weights_to_hdf5_group(file, model)
    return model


def cached_class_names(cache: Path) -> None:
    index = {str(number): [f"n{number:08}", f"thing_{number}"] for number in range(1000)}
    index["134"][1] = index["517"][1] = "crane"
    (cache / "models" / "imagenet_class_index.json").write_text(json.dumps(index))


def family(loads: str) -> Any:
    """The module of a Keras application, which has its `preprocess_input`."""
    return sys.modules[getattr(keras.applications, loads).__module__]


def differences() -> dict[str, float]:
    pixels = np.random.default_rng(SEED).integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    found = {}
    for preset in PRESETS.values():
        if preset.source == "keras_application":
            ours = keras.ops.convert_to_numpy(wanted_pixels(keras.ops.convert_to_tensor(pixels), preset.pixels))
            theirs = family(preset.loads).preprocess_input(pixels.copy())
            found[preset.name] = float(np.abs(ours - theirs).max())
    return found


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    keras.utils.set_random_seed(SEED)
    images = np.load(request["images"]).astype(np.float32)
    classifier = cached_keras_cv_preset(Path(request["kaggle"]), images)
    prepared = keras.applications.mobilenet_v2.preprocess_input(images.copy())
    application = cached_application(Path(request["keras"]), prepared)
    cached_class_names(Path(request["keras"]))
    expected = {
        KERAS_CV_PRESET: classifier(images, training=False),
        "keras_mobilenetv2": application(prepared, training=False),
    }
    for name, answers in expected.items():
        np.save(Path(request["images"]).with_name(f"{name}.npy"), keras.ops.convert_to_numpy(answers))
    published = {
        name: [facts["metadata"]["params"], facts["kaggle_handle"]]
        for name, facts in keras_cv.models.ImageClassifier.presets.items()
        if name.endswith("_classifier")
    }
    applications = [name for name in dir(keras.applications) if name[0].isupper()]
    counted = {name: getattr(keras.applications, name)(weights=None).count_params() for name in COUNTED}
    return {"keras_cv": published, "applications": applications, "parameters": counted, "differences": differences()}


if __name__ == "__main__":
    answer_with(work)
