"""A child with KerasCV in it: builds backbones without and with weights, cuts and freezes them.

request: `folder` (to write in). Answers a text by check: the traceback where it failed, nothing where it passed.
Weights come from caches that it fills itself; every way out of this host is closed.
"""

import functools
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_cv
import numpy as np
from keras import layers
from keras_cv.src.utils.preset_utils import save_to_preset

from models.children import Progress, answer_with
from models.errors import HubUnreachable, InvalidRecipe
from models.recipes import RegularizationChoice
from models.training.backbones import build_backbone
from models.training.catalogue import BACKBONES
from models.training.cutting import assemble, build_head, cut, freeze
from tests.models import hub_cache
from tests.models.training.keras_checks import outcomes
from tests.models.training.keras_seeing import answers, flat, head_again, pixels, refused

PLAIN = RegularizationChoice()
PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


@functools.cache
def random_b0() -> Any:
    """Built once: it takes seconds."""
    return build_backbone("efficientnetv2_b0", (64, 64, 3), pretrained=False)


def pictures_that_are_too_small_are_refused(_request: Mapping[str, Any]) -> None:
    for preset, shape, words in (
        ("efficientnetv2_b0", (28, 28, 1), "at least 32×32"),
        ("keras_xception", (40, 40, 3), "40×40"),
    ):
        refused(functools.partial(build_backbone, preset, shape, pretrained=False), InvalidRecipe, words)


def weights_that_do_not_exist_are_refused(_request: Mapping[str, Any]) -> None:
    refused(lambda: build_backbone("resnet18", (64, 64, 3), pretrained=True), InvalidRecipe, "No pretrained weights")


def backbones_from_configurations_are_the_published_networks(_request: Mapping[str, Any]) -> None:
    """KerasCV tells the parameters of its own; its numbers for MobileNetV3 are wrong, Keras's are not."""
    for name in ("efficientnetv2_b0", "resnet18", "resnet18_v2"):
        made = getattr(keras_cv.models, BACKBONES[name].loads)
        published = made.presets[name]["metadata"]["params"]
        model = random_b0() if name == "efficientnetv2_b0" else build_backbone(name, (64, 64, 3), pretrained=False)
        assert model.count_params() == published, name
    for ours, theirs in (("mobilenet_v3_small", "MobileNetV3Small"), ("mobilenet_v3_large", "MobileNetV3Large")):
        model = getattr(keras.applications, theirs)(include_top=False, weights=None, input_shape=(64, 64, 3))
        assert build_backbone(ours, (64, 64, 3), pretrained=False).count_params() == model.count_params(), ours


def backbones_take_pixels_and_pool_them(request: Mapping[str, Any]) -> None:
    images = pixels((48, 64, 1))
    average = build_backbone("mobilenet_v3_small", (48, 64, 1), pretrained=False)
    largest = build_backbone("mobilenet_v3_small", (48, 64, 1), pretrained=False, pooling="max")
    largest.set_weights(average.get_weights())
    assert average.inputs[0].name == "picture"
    assert answers(average, images).shape == (4, 576)
    assert np.all(answers(largest, images) >= answers(average, images))
    assert np.any(answers(average, images) != answers(average, images[::-1]))
    file = Path(request["folder"]) / "backbone.keras"
    model = assemble(average, build_head(576, 3, PLAIN, 1))
    model.save(file)
    again = keras.models.load_model(file, compile=False)
    np.testing.assert_array_equal(answers(again, images), answers(model, images))
    np.testing.assert_array_equal(answers(cut(again), images), answers(average, images))


def grey_is_given_three_times(_request: Mapping[str, Any]) -> None:
    grey = build_backbone("resnet18", (48, 48, 1), pretrained=False)
    colour = build_backbone("resnet18", (48, 48, 3), pretrained=False)
    colour.set_weights(grey.get_weights())
    images = pixels((48, 48, 1))
    np.testing.assert_allclose(answers(grey, images), answers(colour, np.repeat(images, 3, axis=3)), rtol=1e-4)


def a_keras_cv_classifier_is_cut_in_its_wrapper_too(_request: Mapping[str, Any]) -> None:
    backbone = keras_cv.models.MobileNetV3Backbone(
        **BACKBONES["mobilenet_v3_small"].configuration, include_rescaling=True, input_shape=(None, None, 3)
    )
    classifier = keras_cv.models.ImageClassifier(backbone=backbone, num_classes=6)
    picture = keras.Input((48, 48, 3), name="picture")
    fixed = keras.Model(picture, classifier(picture))
    images = pixels((48, 48, 3))
    for model in (classifier, fixed):
        features = answers(cut(model), images)
        np.testing.assert_allclose(head_again(classifier, features), answers(classifier, images), atol=1e-5)


def freezing_leaves_the_head_and_the_asked_layers(_request: Mapping[str, Any]) -> None:
    backbone = build_backbone("keras_mobilenetv2", (64, 64, 3), pretrained=False)
    head = build_head(1280, 3, PLAIN, 1)
    model = assemble(backbone, head)
    assert freeze(model, backbone, None) == head.count_params()
    assert {id(weight) for weight in model.trainable_variables} == {id(weight) for weight in head.weights}
    assert freeze(model, backbone, 1) == head.count_params() + 320 * 1280  # Conv_1
    everything = freeze(model, backbone, 0)
    normal = [layer for layer in flat(model) if isinstance(layer, layers.BatchNormalization)]
    assert len(normal) == 52
    assert everything == model.count_params() - sum(layer.count_params() for layer in normal)
    assert freeze(model, backbone, 10_000) == everything
    assert freeze(model, backbone, None) == head.count_params()


def blocks_of_keras_cv_are_frozen_to_their_last_layer(_request: Mapping[str, Any]) -> None:
    """Its blocks are layers made of layers."""
    backbone = random_b0()
    model = assemble(backbone, build_head(1280, 3, PLAIN, 1))
    assert freeze(model, backbone, 1) == 1280 * 192 + 1281 * 3  # top_conv and the head
    assert freeze(model, backbone, 2) == 1280 * 192 + 1281 * 3 + last_projection(backbone)
    freeze(model, backbone, 0)
    assert not any("gamma" in weight.path or "beta" in weight.path for weight in model.trainable_variables)


def last_projection(backbone: Any) -> int:
    """The numbers in the last convolution before top_conv."""
    return sum(int(np.prod(weight.shape)) for weight in backbone.weights if "block6h_project_conv" in weight.path)


def an_application_takes_its_weights_from_the_cache(_request: Mapping[str, Any]) -> None:
    """For grey pictures: the features are those of the classifier that has a head, given the same picture in RGB."""
    images = pixels((224, 224, 1), 2)
    prepared = keras.applications.mobilenet_v2.preprocess_input(np.repeat(images, 3, axis=3))
    cache = Path(os.environ["KERAS_HOME"])
    trained = hub_cache.cached_application(cache, prepared)
    hub_cache.cached_class_names(cache)  # for the other presets' checks too
    backbone = build_backbone("keras_mobilenetv2", (224, 224, 1), pretrained=True)
    np.testing.assert_allclose(head_again(trained, answers(backbone, images)), answers(trained, prepared), atol=1e-4)


def a_keras_cv_backbone_takes_its_classifiers_weights_from_the_cache(request: Mapping[str, Any]) -> None:
    images = pixels((64, 64, 3), 2)
    network = keras_cv.models.MobileNetV3Backbone(
        **BACKBONES["mobilenet_v3_large"].configuration, include_rescaling=True
    )
    trained = keras_cv.models.ImageClassifier(backbone=network, num_classes=1000)
    publish(hub_cache.spread(trained, images), "mobilenet_v3_large_imagenet_classifier", Path(request["folder"]))
    backbone = build_backbone("MobileNetV3Large", (64, 64, 3), pretrained=True)
    np.testing.assert_allclose(head_again(trained, answers(backbone, images)), answers(trained, images), atol=1e-4)
    fresh = build_backbone("mobilenet_v3_large", (64, 64, 3), pretrained=False)
    assert not np.allclose(head_again(trained, answers(fresh, images)), answers(trained, images), atol=1e-2)


def publish(model: Any, preset: str, folder: Path) -> None:
    """Put the model where kagglehub looks for that preset of KerasCV, with its marks of completion."""
    handle = keras_cv.models.ImageClassifier.presets[preset]["kaggle_handle"]
    *parts, version = handle.removeprefix("kaggle://").split("/")
    variation = folder.joinpath("kaggle", "models", *parts)
    save_to_preset(model, str(variation / version))
    marks = variation / ".complete" / version
    marks.mkdir(parents=True)
    for file in (variation / version).iterdir():
        (marks / f"{file.name}.complete").touch()


def a_hub_out_of_reach_comes_with_advice(_request: Mapping[str, Any]) -> None:
    for preset, advice in (("keras_mobilenet", "--base keras_mobilenet"), ("resnet50", "pretrained=false")):
        refused(functools.partial(build_backbone, preset, (224, 224, 3), pretrained=True), HubUnreachable, advice)


def close_the_network() -> None:
    """Every way out leads to a closed port of this host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    os.environ.update(dict.fromkeys(PROXIES, f"http://127.0.0.1:{closed}"), no_proxy="", NO_PROXY="")


CHECKS = (
    pictures_that_are_too_small_are_refused,
    weights_that_do_not_exist_are_refused,
    backbones_from_configurations_are_the_published_networks,
    backbones_take_pixels_and_pool_them,
    grey_is_given_three_times,
    a_keras_cv_classifier_is_cut_in_its_wrapper_too,
    freezing_leaves_the_head_and_the_asked_layers,
    blocks_of_keras_cv_are_frozen_to_their_last_layer,
    an_application_takes_its_weights_from_the_cache,
    a_keras_cv_backbone_takes_its_classifiers_weights_from_the_cache,
    a_hub_out_of_reach_comes_with_advice,
)


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    close_the_network()
    os.environ["KAGGLEHUB_CACHE"] = str(Path(request["folder"]) / "kaggle")
    return outcomes(CHECKS, request)


if __name__ == "__main__":
    answer_with(work)
