"""A child with Keras in it: builds the small networks. Answers a text by check: its traceback where it failed."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from models.children import Progress, answer_with
from models.errors import InvalidRecipe
from models.recipes import RegularizationChoice
from models.training.catalogue import NETWORKS
from models.training.cutting import build_head
from models.training.networks import build_network
from tests.models.training.keras_checks import outcomes
from tests.models.training.keras_seeing import answers, pixels, refused

PLAIN = RegularizationChoice()


def small_networks_answer_with_probabilities(_request: Mapping[str, Any]) -> None:
    for name, network in NETWORKS.items():
        for shape in ((network.height, network.width, network.channels), (33, 21, 4 - network.channels)):
            model = build_network(name, shape, 7, PLAIN)
            images = pixels(shape).astype(np.uint8)
            given = answers(model, images)
            assert given.shape == (4, 7)
            np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
            assert model.inputs[0].name == "picture"
            assert model.layers[-1].name == "predictions"
        build_network(name, shape, 7, RegularizationChoice(dropout=0.4))


def small_networks_have_the_sizes_of_their_descriptions(_request: Mapping[str, Any]) -> None:
    """Counted by hand from the layers of DESIGN §6, ten classes."""
    convolutions = 3 * 3 * 32 + 32 + 3 * 3 * 32 * 64 + 64 + 3 * 3 * 64 * 128 + 128
    pairs = ((3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128))
    vgg = sum((9 * before + 1) * after for before, after in pairs) + (4 * 4 * 128 + 1) * 1024 + 1025 * 10
    expected = {
        "fashion_cnn": convolutions + (2 * 2 * 128 + 1) * 512 + 513 * 10,
        "cifar_cnn": convolutions + 3 * 3 * 2 * 32 + (3 * 3 * 128 + 1) * 1024 + 1025 * 10,
        "cifar_vgg": vgg,
        "cifar_vgg_bn": vgg + 4 * 2 * (32 + 64 + 128),
        "cnn_l2": 320 + 64 * 289 + 4 * 96 + (12 * 12 * 64 + 1) * 128 + 129 * 10,
    }
    for name, parameters in expected.items():
        network = NETWORKS[name]
        model = build_network(name, (network.height, network.width, network.channels), 10, PLAIN)
        assert model.count_params() == parameters, f"{name}: {model.count_params()} for {parameters}"


def penalties_and_dropout_are_the_recipes(_request: Mapping[str, Any]) -> None:
    plain = build_network("cnn_l2", (28, 28, 1), 5, PLAIN)
    assert plain.losses == []
    assert plain.get_layer("dropout").rate == 0.2
    strict = build_network("cnn_l2", (28, 28, 1), 5, RegularizationChoice(dropout=0.0, l1=1e-4, l2=1e-3))
    assert len(strict.losses) == 4
    kernel = keras.ops.convert_to_numpy(strict.get_layer("predictions").kernel)
    wanted = 1e-4 * np.abs(kernel).sum() + 1e-3 * np.square(kernel).sum()
    assert any(abs(float(loss) - wanted) < 1e-4 for loss in strict.losses)
    assert "dropout" not in {layer.name for layer in strict.layers}
    head = build_head(6, 3, RegularizationChoice(dropout=0.25, l2=0.1), seed=1)
    assert head.get_layer("dropout").rate == 0.25
    assert len(head.losses) == 1


def the_seed_decides_the_first_weights(_request: Mapping[str, Any]) -> None:
    heads = [build_head(6, 3, PLAIN, seed).get_weights()[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert not np.array_equal(heads[0], heads[2])
    made = []
    for _ in range(2):
        keras.utils.set_random_seed(9)
        made.append(build_network("fashion_cnn", (28, 28, 1), 10, PLAIN).get_weights()[0])
    np.testing.assert_array_equal(*made)


def pictures_that_are_too_small_are_refused(_request: Mapping[str, Any]) -> None:
    refused(lambda: build_network("fashion_cnn", (14, 14, 1), 3, PLAIN), InvalidRecipe, "at least 15×15")
    for name, network in NETWORKS.items():
        build_network(name, (network.smallest, network.smallest, 1), 3, PLAIN)


CHECKS = (
    small_networks_answer_with_probabilities,
    small_networks_have_the_sizes_of_their_descriptions,
    penalties_and_dropout_are_the_recipes,
    the_seed_decides_the_first_weights,
    pictures_that_are_too_small_are_refused,
)


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    return outcomes(CHECKS, request)


if __name__ == "__main__":
    answer_with(work)
