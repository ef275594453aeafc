"""A child with Keras in it: cuts models apart, puts them together, freezes layers.

request: `folder` (to write in), `shared` (a real classifier, or nothing). Answers a text by check: the traceback where
it failed, nothing where it passed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from models.children import Progress, answer_with
from models.errors import InvalidModel
from models.recipes import RegularizationChoice
from models.training.cutting import assemble, build_head, cut, freeze, with_scale
from models.training.networks import build_network
from tests.models import keras_zoo
from tests.models.training.keras_checks import outcomes
from tests.models.training.keras_seeing import answers, flat, head_again, pixels, refused

PLAIN = RegularizationChoice()


def features_and_head_make_the_model_again(_request: Mapping[str, Any]) -> None:
    """For models of many kinds: what the cut gives, put through the old last layer, is the old answer."""
    for kind in (
        "softmax",
        "softmax layer",
        "nested",
        "ends in a model",
        "flip and offset",
        "sequential",
        "lists of one",
    ):
        built = keras_zoo.KINDS[kind]()
        backbone, model = cut(built), keras.Model(built.inputs[0], built.outputs[0])
        images = pixels(model.inputs[0].shape[1:])
        features = answers(backbone, images)
        assert features.ndim == 2
        # Weights by chance make large logits, of which float32 keeps five digits.
        np.testing.assert_allclose(head_again(model, features), answers(model, images), atol=1e-3, err_msg=kind)
    assert cut(keras_zoo.KINDS["normalised by hand"]()).outputs[0].shape[1] == 8


def convolutional_heads_wrappers_and_blocks_are_cut(_request: Mapping[str, Any]) -> None:
    picture = keras.Input((16, 16, 3))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(8, 3)(picture)))
    x = layers.Softmax()(layers.Reshape((5,))(layers.Conv2D(5, 1)(x)))
    mobilenet_v1 = keras.Model(picture, x)
    squeezed = keras.Model(
        picture, layers.Softmax()(layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1)(layers.Conv2D(8, 3)(picture))))
    )
    wrapper_input = keras.Input((16, 16, 3), name="picture")
    wrapped = keras.Model(wrapper_input, mobilenet_v1(layers.Rescaling(1 / 255)(wrapper_input)))
    twice_input = keras.Input((16, 16, 3))
    twice = keras.Model(twice_input, wrapped(twice_input))
    for model in (mobilenet_v1, squeezed, wrapped, twice):
        images = pixels((16, 16, 3))
        features = answers(cut(model), images)
        assert features.shape == (4, 8)
        np.testing.assert_allclose(head_again(model, features), answers(model, images), atol=1e-4)
        assert not any(isinstance(layer, layers.Dropout) for layer in flat(cut(model)))


def what_cannot_be_cut_is_refused(_request: Mapping[str, Any]) -> None:
    picture = keras.Input((8, 8, 3))
    bare = keras.Model(picture, layers.Softmax()(layers.Flatten()(picture)))
    refused(lambda: cut(bare), InvalidModel, "no last layer with a kernel")
    vector = layers.Flatten()(picture)
    twins = keras.Model(picture, layers.concatenate([layers.Dense(2)(vector), layers.Dense(3)(vector)]))
    refused(lambda: cut(twins), InvalidModel, "2 layers with kernels")


def assembled_and_cut_again_gives_the_backbone(_request: Mapping[str, Any]) -> None:
    images = pixels((32, 32, 3))
    for name in ("cifar_cnn", "cifar_vgg_bn"):
        backbone = cut(build_network(name, (32, 32, 3), 10, PLAIN))
        assert backbone.outputs[0].shape[1] == 1024
        head = build_head(1024, 4, RegularizationChoice(dropout=0.5), 1)
        model = assemble(backbone, head)
        np.testing.assert_array_equal(answers(model, images), answers(head, answers(backbone, images)))
        assert model.layers[-1] is head.get_layer("predictions")
        assert {id(weight) for weight in cut(model).weights} == {id(weight) for weight in backbone.weights}
        np.testing.assert_array_equal(answers(cut(model), images), answers(backbone, images))
        second = assemble(cut(model), build_head(1024, 3, PLAIN, 1))
        assert answers(second, images).shape == (4, 3)


def names_that_are_taken_do_not_matter(request: Mapping[str, Any]) -> None:
    picture = keras.Input((8, 8, 3))
    x = layers.Dense(6, name="predictions")(layers.Dropout(0.1, name="dropout")(layers.Flatten()(picture)))
    backbone = keras.Model(picture, layers.ReLU()(x))
    model = assemble(backbone, build_head(6, 4, RegularizationChoice(dropout=0.5), 1))
    images = pixels((8, 8, 3))
    np.testing.assert_allclose(answers(cut(model), images), answers(backbone, images), atol=1e-6)
    file = Path(request["folder"]) / "names.keras"
    model.save(file)
    np.testing.assert_allclose(
        answers(keras.models.load_model(file, compile=False), images), answers(model, images), atol=1e-6
    )


def scales_are_put_inside(_request: Mapping[str, Any]) -> None:
    backbone = cut(keras_zoo.KINDS["no rescaling"]())
    images = pixels((32, 32, 3))
    assert with_scale(backbone, "0-255") is backbone
    for scale, wanted in (("0-1", images / 255), ("-1-1", images / 127.5 - 1)):
        inside = with_scale(backbone, scale)  # type: ignore[arg-type]  # the loop's words are a Scale's
        np.testing.assert_allclose(answers(inside, images), answers(backbone, wanted), atol=1e-5)
        again = cut(assemble(inside, build_head(8, 3, PLAIN, 1)))
        np.testing.assert_allclose(answers(again, images), answers(inside, images), atol=1e-6)


def tuning_does_not_touch_the_statistics(_request: Mapping[str, Any]) -> None:
    backbone = cut(build_network("cifar_vgg_bn", (32, 32, 3), 10, PLAIN))
    model = assemble(backbone, build_head(1024, 3, PLAIN, 1))
    freeze(model, backbone, 0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = [np.copy(weight) for weight in backbone.get_weights()]
    model.train_on_batch(pixels((32, 32, 3), 8), np.arange(8) % 3)
    moved = [
        weight.path
        for weight, old in zip(backbone.weights, before, strict=True)
        if not np.array_equal(keras.ops.convert_to_numpy(weight), old)
    ]
    assert not any("moving" in path or "gamma" in path for path in moved), moved
    assert any("conv2d" in path for path in moved)


def the_shared_classifier_is_cut(request: Mapping[str, Any]) -> None:
    if not request["shared"]:
        return
    model = keras.models.load_model(request["shared"], compile=False)
    backbone = cut(model)
    assert backbone.outputs[0].shape[1] == 1280
    images = pixels(model.inputs[0].shape[1:], 2)
    np.testing.assert_allclose(head_again(model, answers(backbone, images)), answers(model, images), atol=1e-4)


CHECKS = (
    features_and_head_make_the_model_again,
    convolutional_heads_wrappers_and_blocks_are_cut,
    what_cannot_be_cut_is_refused,
    assembled_and_cut_again_gives_the_backbone,
    names_that_are_taken_do_not_matter,
    scales_are_put_inside,
    tuning_does_not_touch_the_statistics,
    the_shared_classifier_is_cut,
)


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    return outcomes(CHECKS, request)


if __name__ == "__main__":
    answer_with(work)
